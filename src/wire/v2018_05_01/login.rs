//! How to reach a node, as 2018-05-01 writes it.

use serde::Serialize;

/// One entry of a remote-login list.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RemoteLoginInformation {
    /// The node.
    pub node_id: String,
    /// Its address.
    pub ip_address: String,
    /// Its port; a plain integer, as recorded.
    pub port: u16,
}
