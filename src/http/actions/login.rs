//! `listRemoteLoginInformation`: how to reach nodes by ssh.

use axum::http::StatusCode;

use crate::http::call::{Answer, Call};
use crate::http::respond::json;
use crate::service::RemoteLogin;
use crate::wire::shapes::ListPage;
use crate::wire::v2018_05_01::login::RemoteLoginInformation;

/// All nodes of a cluster.
pub(crate) async fn of_cluster(call: Call) -> Answer {
    list(call.parts.service.cluster_logins(call.id()?).await?)
}

/// The nodes of a job that still exist.
pub(crate) async fn of_job(call: Call) -> Answer {
    list(call.parts.service.job_logins(call.id()?).await?)
}

/// One page: a cluster has at most a hundred nodes.
fn list(logins: Vec<RemoteLogin>) -> Answer {
    let entry =
        |login: RemoteLogin| RemoteLoginInformation { node_id: login.node_id, ip_address: login.address, port: login.port };
    json(StatusCode::OK, &ListPage { value: logins.into_iter().map(entry).collect(), next_link: None })
}
