//! `why`: what a job, a cluster or a node waits for. In our own version alone.

use std::collections::BTreeSet;

use axum::http::StatusCode;

use crate::domain::why::{self, Held};
use crate::http::call::{Answer, Call};
use crate::http::respond::json;
use crate::id::ResourceId;
use crate::wire::v2026_11_01_preview::why::WhyBody;

/// Why a job does not run.
pub(crate) async fn job(call: Call) -> Answer {
    let answer = call.parts.service.why_job(call.id()?).await?;
    tell(&call, answer).await
}

/// Why a cluster does not have the nodes that it is to have.
pub(crate) async fn cluster(call: Call) -> Answer {
    let answer = call.parts.service.why_cluster(call.id()?).await?;
    tell(&call, answer).await
}

/// Why a node takes no job.
pub(crate) async fn node(call: Call) -> Answer {
    let answer = call.parts.service.why_node(call.id()?, call.last_argument()).await?;
    tell(&call, answer).await
}

/// Names of those that hold something only the resources that the caller may read.
async fn tell(call: &Call, answer: why::Answer) -> Answer {
    let mut seen = BTreeSet::new();
    for holder in answer.why.iter().flat_map(|why| &why.held_by) {
        if let Held::Resource(path) = &holder.what
            && let Ok(id) = ResourceId::parse(path)
            && call.parts.auth.authorize(call.caller()?, id.kind().read_action(), &id.key()).await.is_ok()
        {
            seen.insert(path.clone());
        }
    }
    json(StatusCode::OK, &WhyBody::of(answer, |path| seen.contains(path)))
}
