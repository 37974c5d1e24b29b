//! `usages`: what is used of what may be used in a region.

use std::collections::BTreeMap;

use axum::http::StatusCode;

use crate::domain::cluster::{Cluster, VmPriority};
use crate::http::call::{Answer, Call};
use crate::http::respond::json;
use crate::http::verbs;
use crate::service::{ListScope, PageRequest};
use crate::wire::platform::canonical_location;
use crate::wire::shapes::ListPage;
use crate::wire::v2018_03_01;
use crate::wire::v2018_05_01::usages::{Used, rows};

/// The rows of a region, in their recorded order.
pub(crate) async fn list(call: Call) -> Answer {
    let location = canonical_location(call.last_argument());
    let service = &call.parts.service;
    let scope = ListScope::Subscription(call.subscription()?);
    let cores: BTreeMap<&str, u32> = service.sizes().iter().map(|size| (size.name.as_str(), size.cores)).collect();
    let mut used = Used::default();
    let mut page = PageRequest { limit: verbs::MAX_RESULTS, after: None };
    loop {
        let found = service.list::<Cluster>(&scope, &page).await?;
        for cluster in found.items.iter().filter(|cluster| cluster.location == location) {
            let vm_size = cluster.spec.vm_size.as_str();
            let cores = cluster.status.nodes.current() * cores.get(vm_size).copied().unwrap_or_default();
            used.clusters += 1;
            let of_priority = match cluster.spec.vm_priority {
                VmPriority::Dedicated => &mut used.dedicated,
                VmPriority::LowPriority => &mut used.low_priority,
            };
            of_priority.add(vm_size, cores);
        }
        match found.next {
            Some(next) => page.after = Some(next),
            None => break,
        }
    }
    let limits = service.limits();
    if call.contract.is_flat() {
        let active = service.active_jobs(call.subscription()?, &location).await?;
        let value = v2018_03_01::usages(rows(&used, i64::from(limits.clusters), &limits.cores), active)?;
        return json(StatusCode::OK, &ListPage { value, next_link: None });
    }
    json(StatusCode::OK, &ListPage { value: rows(&used, i64::from(limits.clusters), &limits.cores), next_link: None })
}
