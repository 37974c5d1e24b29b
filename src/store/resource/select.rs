//! Queries for whole rows of resources: what is read of one is written once. In: where the rows `r` come from, which of them, in which order,
//! and the arguments of that. Out: a checked query.

/// Rows of resources that are no clusters.
macro_rules! select_resources {
    ($from:tt $(+ $more:tt)* $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            ResourceRow,
            r#"
            select r.uid, r.subscription_id, r.key, r.path, r.name, r.location, r.tags as "tags: Document", r.spec as "spec: Document",
                r.status as "status: Document", r.provisioning, r.provisioned_at, r.created_at, r.updated_at, r.generation, r.revision,
                r.phase, null::bigint as idle, null::bigint as running, null::bigint as preparing, null::bigint as unusable,
                null::bigint as leaving
            "# + $from $(+ $more)*
            $(, $argument)*
        )
    };
}

/// Rows of clusters, with the counts of their nodes.
macro_rules! select_clusters {
    ($from:tt, $then:tt $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            ResourceRow,
            r#"
            select r.uid, r.subscription_id, r.key, r.path, r.name, r.location, r.tags as "tags: Document", r.spec as "spec: Document",
                r.status as "status: Document", r.provisioning, r.provisioned_at, r.created_at, r.updated_at, r.generation, r.revision,
                r.phase, n.idle, n.running, n.preparing, n.unusable, n.leaving
            "# + $from + r#"
            cross join lateral (
                select count(*) filter (where state = 'ready' and attempt_uid is null) as idle,
                    count(*) filter (where state = 'ready' and attempt_uid is not null) as running,
                    count(*) filter (where state = 'preparing') as preparing,
                    count(*) filter (where state = 'unusable') as unusable,
                    count(*) filter (where state = 'leaving') as leaving
                from machine
                where cluster_uid = r.uid and state <> 'gone'
            ) n
            "# + $then
            $(, $argument)*
        )
    };
}

pub(super) use {select_clusters, select_resources};
