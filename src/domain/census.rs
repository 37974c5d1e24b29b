//! How much there is of what, at one moment: what an operator watches.

/// Counts over everything that one installation holds, whoever owns it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Census {
    /// Jobs that have not ended, by state.
    pub jobs: Vec<(&'static str, i64)>,
    /// Machines that are not gone, by state.
    pub nodes: Vec<(&'static str, i64)>,
    /// Long-running operations that have not ended.
    pub operations: i64,
    /// Age of the oldest of them; 0 where there is none. Unit: seconds.
    pub oldest_operation_s: f64,
    /// Connections of the server that counted to its database.
    pub connections: Connections,
}

/// Connections to a database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// Those in use.
    pub used: u32,
    /// Those that wait for use.
    pub idle: u32,
    /// Most that there may be.
    pub limit: u32,
}
