//! Every setting, parsed and checked once.
