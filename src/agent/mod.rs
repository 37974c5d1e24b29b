//! The agent: what runs on every node.
//!
//! In: the desired state that the server sends. Out: what it sees of the node and of the processes, and what they write. It pulls;
//! nothing connects to it. Refuses to know the database and the API.

pub mod protocol;
