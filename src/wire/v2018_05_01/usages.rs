//! What is used of what may be used, as 2018-05-01 lists it.

use serde::Serialize;

use crate::domain::quota::{CoreQuotas, CoresUsed, FAMILIES};

/// One row of the usages list.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageBody {
    unit: &'static str,
    current_value: u32,
    limit: i64,
    name: UsageName,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct UsageName {
    value: String,
    localized_value: String,
}

/// What is in use.
#[derive(Clone, Debug, Default)]
pub struct Used {
    /// Clusters.
    pub clusters: u32,
    /// Cores of machines that stay.
    pub dedicated: CoresUsed,
    /// Cores of machines that may be taken away.
    pub low_priority: CoresUsed,
}

/// What rows of cores show as their limit where there is none.
const NO_LIMIT: i64 = i32::MAX as i64;

/// The 17 rows in their recorded order.
pub fn rows(used: &Used, cluster_limit: i64, quotas: &CoreQuotas) -> Vec<UsageBody> {
    let row = |value: String, localized_value: String, current_value: u32, limit: i64| UsageBody {
        unit: "Count",
        current_value,
        limit,
        name: UsageName { value, localized_value },
    };
    let mut rows = vec![row("Clusters".into(), "Clusters".into(), used.clusters, cluster_limit)];
    let limit = |quota: Option<u32>| quota.map_or(NO_LIMIT, i64::from);
    for (cores, quota, value, localized) in [
        (&used.dedicated, &quotas.dedicated, "Dedicated", "Dedicated"),
        (&used.low_priority, &quotas.low_priority, "LowPriority", "Low Priority"),
    ] {
        let total = |word: &str| format!("Total Cluster {word} Regional vCPUs");
        rows.push(row(total(value), total(localized), cores.total, limit(quota.total)));
        for family in FAMILIES {
            let name = |word: &str| format!("{family} Family Cluster {word} vCPUs");
            let current = cores.families.get(family).copied().unwrap_or_default();
            rows.push(row(name(value), name(localized), current, limit(quota.of_family(family))));
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_are_the_recorded_ones() {
        let rows = rows(&Used::default(), 20, &CoreQuotas::default());
        let names: Vec<&str> = rows.iter().map(|r| r.name.value.as_str()).collect();
        assert_eq!(names.len(), 17);
        assert_eq!(names[3], "Standard Dv2 Family Cluster Dedicated vCPUs");
        assert_eq!(names[9], "Total Cluster LowPriority Regional vCPUs");
        assert_eq!(rows[16].name.localized_value, "Standard NV Family Cluster Low Priority vCPUs");
    }
}
