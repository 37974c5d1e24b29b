//! `nodes`: the nodes of a cluster, what they have and what is wrong with them. In our own version alone.

use axum::http::StatusCode;

use crate::http::call::{Answer, Call};
use crate::http::respond::json;
use crate::wire::shapes::ListPage;
use crate::wire::v2026_11_01_preview::nodes::NodeBody;

/// The nodes of a cluster, on one page.
pub(crate) async fn list(call: Call) -> Answer {
    let nodes = call.parts.service.nodes(call.id()?).await?;
    json(StatusCode::OK, &ListPage { value: nodes.iter().map(NodeBody::of).collect(), next_link: None })
}
