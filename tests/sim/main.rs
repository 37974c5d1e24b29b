//! The deterministic simulation: real reconcilers over a model of the store and a fake cloud.
