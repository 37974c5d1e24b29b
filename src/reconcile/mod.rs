//! Reconcilers: rows in, decisions as data, one commit, then the driver.
