//! What is used of what may be used, as 2018-05-01 lists it.

use std::collections::BTreeMap;

use serde::Serialize;

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

/// Families of VM sizes, in the order of the recorded list.
const FAMILIES: [&str; 7] =
    ["Standard D", "Standard Dv2", "Standard NC", "Standard NCv2", "Standard NCv3", "Standard ND", "Standard NV"];

/// The VM family that a size is counted in.
///
/// Source: the published size names: the letters say the family, the suffix the generation.
pub fn family_of(vm_size: &str) -> Option<&'static str> {
    let name = vm_size.strip_prefix("STANDARD_")?;
    let generation = |suffix: &str| name.ends_with(suffix);
    let letters: String = name.chars().take_while(char::is_ascii_alphabetic).collect();
    let family = match letters.as_str() {
        "D" | "DS" if generation("_V2") => "Standard Dv2",
        "D" | "DS" => "Standard D",
        "NC" if generation("_V2") => "Standard NCv2",
        "NC" if generation("_V3") => "Standard NCv3",
        "NC" => "Standard NC",
        "ND" => "Standard ND",
        "NV" => "Standard NV",
        _ => return None,
    };
    FAMILIES.into_iter().find(|f| *f == family)
}

/// What is in use.
#[derive(Clone, Debug, Default)]
pub struct Used {
    /// Clusters.
    pub clusters: u32,
    dedicated: Cores,
    low_priority: Cores,
}

#[derive(Clone, Debug, Default)]
struct Cores {
    total: u32,
    by_family: BTreeMap<&'static str, u32>,
}

impl Used {
    /// Counts cores of allocated nodes; sizes outside of the listed families count in the total alone.
    pub fn add(&mut self, is_low_priority: bool, family: Option<&'static str>, cores: u32) {
        let used = if is_low_priority { &mut self.low_priority } else { &mut self.dedicated };
        used.total += cores;
        if let Some(family) = family {
            *used.by_family.entry(family).or_default() += cores;
        }
    }
}

/// What the rows of cores show as their limit: this server sets no quota on cores.
const NO_LIMIT: i64 = i32::MAX as i64;

/// The 17 rows in their recorded order.
pub fn rows(used: &Used, cluster_limit: i64) -> Vec<UsageBody> {
    let row = |value: String, localized_value: String, current_value: u32, limit: i64| UsageBody {
        unit: "Count",
        current_value,
        limit,
        name: UsageName { value, localized_value },
    };
    let mut rows = vec![row("Clusters".into(), "Clusters".into(), used.clusters, cluster_limit)];
    for (cores, value, localized) in
        [(&used.dedicated, "Dedicated", "Dedicated"), (&used.low_priority, "LowPriority", "Low Priority")]
    {
        let total = |word: &str| format!("Total Cluster {word} Regional vCPUs");
        rows.push(row(total(value), total(localized), cores.total, NO_LIMIT));
        for family in FAMILIES {
            let name = |word: &str| format!("{family} Family Cluster {word} vCPUs");
            let current = cores.by_family.get(family).copied().unwrap_or_default();
            rows.push(row(name(value), name(localized), current, NO_LIMIT));
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_are_the_recorded_ones() {
        let rows = rows(&Used::default(), 20);
        let names: Vec<&str> = rows.iter().map(|r| r.name.value.as_str()).collect();
        assert_eq!(names.len(), 17);
        assert_eq!(names[3], "Standard Dv2 Family Cluster Dedicated vCPUs");
        assert_eq!(names[9], "Total Cluster LowPriority Regional vCPUs");
        assert_eq!(rows[16].name.localized_value, "Standard NV Family Cluster Low Priority vCPUs");
    }

    #[test]
    fn sizes_are_counted_in_their_family() {
        assert_eq!(family_of("STANDARD_D1"), Some("Standard D"));
        assert_eq!(family_of("STANDARD_D2_V2"), Some("Standard Dv2"));
        assert_eq!(family_of("STANDARD_NC6"), Some("Standard NC"));
        assert_eq!(family_of("STANDARD_NC6S_V3"), Some("Standard NCv3"));
        assert_eq!(family_of("LOCAL"), None);
    }
}
