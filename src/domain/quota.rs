//! How many cores the clusters of a subscription may have in a region, in all and of each family of VM sizes.

use std::collections::BTreeMap;

use crate::domain::cluster::VmPriority;

/// Families of VM sizes, in the order of the recorded list.
pub const FAMILIES: [&str; 7] =
    ["Standard D", "Standard Dv2", "Standard NC", "Standard NCv2", "Standard NCv3", "Standard ND", "Standard NV"];

/// The family that a VM size is counted in; sizes outside of them count in the total alone.
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
    FAMILIES.into_iter().find(|known| *known == family)
}

/// Most cores, of machines of one priority. What has no entry has no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CoreQuota {
    /// In all.
    pub total: Option<u32>,
    /// Of each family.
    pub families: BTreeMap<&'static str, u32>,
}

impl CoreQuota {
    /// Most cores of a family.
    pub fn of_family(&self, family: &str) -> Option<u32> {
        self.families.get(family).copied()
    }

    /// Most machines of a size that there can ever be, however few others there are; `None` where there is no limit.
    pub fn machines(&self, vm_size: &str, cores: u32) -> Option<u32> {
        let family = family_of(vm_size).and_then(|family| self.of_family(family));
        let most = self.total.into_iter().chain(family).min()?;
        Some(most / cores.max(1))
    }
}

/// Most cores of a subscription's clusters in a region.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CoreQuotas {
    /// Of machines that stay.
    pub dedicated: CoreQuota,
    /// Of machines that may be taken away.
    pub low_priority: CoreQuota,
}

impl CoreQuotas {
    /// Those of a priority.
    pub fn of(&self, priority: VmPriority) -> &CoreQuota {
        match priority {
            VmPriority::Dedicated => &self.dedicated,
            VmPriority::LowPriority => &self.low_priority,
        }
    }
}

/// Cores in use, of machines of one priority.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CoresUsed {
    /// In all.
    pub total: u32,
    /// Of each family.
    pub families: BTreeMap<&'static str, u32>,
}

impl CoresUsed {
    /// Counts cores of machines of a size.
    pub fn add(&mut self, vm_size: &str, cores: u32) {
        self.total = self.total.saturating_add(cores);
        if let Some(family) = family_of(vm_size) {
            let used = self.families.entry(family).or_default();
            *used = used.saturating_add(cores);
        }
    }

    /// Cores that machines of a size may still have, and the name and size of the limit; `None` where there is none.
    pub fn left(&self, quota: &CoreQuota, vm_size: &str) -> Option<(u32, &'static str, u32)> {
        let total = quota.total.map(|most| (most.saturating_sub(self.total), "all VM sizes together", most));
        let family = family_of(vm_size).and_then(|family| {
            let most = quota.of_family(family)?;
            let used = self.families.get(family).copied().unwrap_or(0);
            Some((most.saturating_sub(used), family, most))
        });
        total.into_iter().chain(family).min_by_key(|(left, ..)| *left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_counted_in_their_family() {
        assert_eq!(family_of("STANDARD_D1"), Some("Standard D"));
        assert_eq!(family_of("STANDARD_D2_V2"), Some("Standard Dv2"));
        assert_eq!(family_of("STANDARD_NC6"), Some("Standard NC"));
        assert_eq!(family_of("STANDARD_NC6S_V3"), Some("Standard NCv3"));
        assert_eq!(family_of("LOCAL"), None);
    }

    #[test]
    fn the_tightest_limit_counts() {
        let quota = CoreQuota { total: Some(10), families: [("Standard NC", 6)].into() };
        let mut used = CoresUsed::default();
        used.add("STANDARD_D1", 1);
        assert_eq!(used.left(&quota, "STANDARD_NC6"), Some((6, "Standard NC", 6)));
        assert_eq!(used.left(&quota, "LOCAL"), Some((9, "all VM sizes together", 10)));
        used.add("STANDARD_NC6", 6);
        assert_eq!(used.left(&quota, "STANDARD_NC12").map(|(left, ..)| left), Some(0));
        used.add("STANDARD_D1", 7);
        assert_eq!(used.left(&quota, "STANDARD_D1"), Some((0, "all VM sizes together", 10)), "never below none");
        assert_eq!(used.left(&CoreQuota::default(), "STANDARD_D1"), None);
        assert_eq!(quota.machines("STANDARD_NC6", 6), Some(1));
        assert_eq!(quota.machines("STANDARD_D2", 2), Some(5));
        assert_eq!(CoreQuota::default().machines("STANDARD_D1", 1), None);
    }
}
