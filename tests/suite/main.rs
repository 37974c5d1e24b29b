//! Tests of the whole: layering, HTTP cases, store, real processes.
