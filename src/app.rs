//! Builds the server from its settings.
