//! The VM sizes that users know, and what each gives.
//!
//! In: what a host has. Out: every size, cut to that. Refuses to know which driver asks.

use crate::domain::machine::Size;

/// The whole host.
pub const LOCAL: &str = "LOCAL";

/// Name, cores, memory in mebibytes, GPUs.
///
/// Source: the published tables of Azure's general purpose, compute, memory, high performance and GPU sizes of 2017 to 2019,
/// which are those that Batch AI took.
#[rustfmt::skip]
const TABLE: &[(&str, u32, u64, u32)] = &[
    ("STANDARD_A1", 1, 1_792, 0), ("STANDARD_A2", 2, 3_584, 0), ("STANDARD_A3", 4, 7_168, 0), ("STANDARD_A4", 8, 14_336, 0),
    ("STANDARD_A5", 2, 14_336, 0), ("STANDARD_A6", 4, 28_672, 0), ("STANDARD_A7", 8, 57_344, 0),
    ("STANDARD_A1_V2", 1, 2_048, 0), ("STANDARD_A2_V2", 2, 4_096, 0), ("STANDARD_A4_V2", 4, 8_192, 0),
    ("STANDARD_A8_V2", 8, 16_384, 0), ("STANDARD_A2M_V2", 2, 16_384, 0), ("STANDARD_A4M_V2", 4, 32_768, 0),
    ("STANDARD_A8M_V2", 8, 65_536, 0),
    ("STANDARD_D1", 1, 3_584, 0), ("STANDARD_D2", 2, 7_168, 0), ("STANDARD_D3", 4, 14_336, 0), ("STANDARD_D4", 8, 28_672, 0),
    ("STANDARD_D11", 2, 14_336, 0), ("STANDARD_D12", 4, 28_672, 0), ("STANDARD_D13", 8, 57_344, 0),
    ("STANDARD_D14", 16, 114_688, 0),
    ("STANDARD_D1_V2", 1, 3_584, 0), ("STANDARD_D2_V2", 2, 7_168, 0), ("STANDARD_D3_V2", 4, 14_336, 0),
    ("STANDARD_D4_V2", 8, 28_672, 0), ("STANDARD_D5_V2", 16, 57_344, 0), ("STANDARD_D11_V2", 2, 14_336, 0),
    ("STANDARD_D12_V2", 4, 28_672, 0), ("STANDARD_D13_V2", 8, 57_344, 0), ("STANDARD_D14_V2", 16, 114_688, 0),
    ("STANDARD_D15_V2", 20, 143_360, 0),
    ("STANDARD_DS1", 1, 3_584, 0), ("STANDARD_DS2", 2, 7_168, 0), ("STANDARD_DS3", 4, 14_336, 0),
    ("STANDARD_DS4", 8, 28_672, 0), ("STANDARD_DS11", 2, 14_336, 0), ("STANDARD_DS12", 4, 28_672, 0),
    ("STANDARD_DS13", 8, 57_344, 0), ("STANDARD_DS14", 16, 114_688, 0),
    ("STANDARD_DS1_V2", 1, 3_584, 0), ("STANDARD_DS2_V2", 2, 7_168, 0), ("STANDARD_DS3_V2", 4, 14_336, 0),
    ("STANDARD_DS4_V2", 8, 28_672, 0), ("STANDARD_DS5_V2", 16, 57_344, 0), ("STANDARD_DS11_V2", 2, 14_336, 0),
    ("STANDARD_DS12_V2", 4, 28_672, 0), ("STANDARD_DS13_V2", 8, 57_344, 0), ("STANDARD_DS14_V2", 16, 114_688, 0),
    ("STANDARD_DS15_V2", 20, 143_360, 0),
    ("STANDARD_D2_V3", 2, 8_192, 0), ("STANDARD_D4_V3", 4, 16_384, 0), ("STANDARD_D8_V3", 8, 32_768, 0),
    ("STANDARD_D16_V3", 16, 65_536, 0), ("STANDARD_D32_V3", 32, 131_072, 0), ("STANDARD_D64_V3", 64, 262_144, 0),
    ("STANDARD_D2S_V3", 2, 8_192, 0), ("STANDARD_D4S_V3", 4, 16_384, 0), ("STANDARD_D8S_V3", 8, 32_768, 0),
    ("STANDARD_D16S_V3", 16, 65_536, 0), ("STANDARD_D32S_V3", 32, 131_072, 0), ("STANDARD_D64S_V3", 64, 262_144, 0),
    ("STANDARD_E2_V3", 2, 16_384, 0), ("STANDARD_E4_V3", 4, 32_768, 0), ("STANDARD_E8_V3", 8, 65_536, 0),
    ("STANDARD_E16_V3", 16, 131_072, 0), ("STANDARD_E32_V3", 32, 262_144, 0), ("STANDARD_E64_V3", 64, 442_368, 0),
    ("STANDARD_E2S_V3", 2, 16_384, 0), ("STANDARD_E4S_V3", 4, 32_768, 0), ("STANDARD_E8S_V3", 8, 65_536, 0),
    ("STANDARD_E16S_V3", 16, 131_072, 0), ("STANDARD_E32S_V3", 32, 262_144, 0), ("STANDARD_E64S_V3", 64, 442_368, 0),
    ("STANDARD_F1", 1, 2_048, 0), ("STANDARD_F2", 2, 4_096, 0), ("STANDARD_F4", 4, 8_192, 0), ("STANDARD_F8", 8, 16_384, 0),
    ("STANDARD_F16", 16, 32_768, 0), ("STANDARD_F1S", 1, 2_048, 0), ("STANDARD_F2S", 2, 4_096, 0),
    ("STANDARD_F4S", 4, 8_192, 0), ("STANDARD_F8S", 8, 16_384, 0), ("STANDARD_F16S", 16, 32_768, 0),
    ("STANDARD_F2S_V2", 2, 4_096, 0), ("STANDARD_F4S_V2", 4, 8_192, 0), ("STANDARD_F8S_V2", 8, 16_384, 0),
    ("STANDARD_F16S_V2", 16, 32_768, 0), ("STANDARD_F32S_V2", 32, 65_536, 0), ("STANDARD_F64S_V2", 64, 131_072, 0),
    ("STANDARD_F72S_V2", 72, 147_456, 0),
    ("STANDARD_G1", 2, 28_672, 0), ("STANDARD_G2", 4, 57_344, 0), ("STANDARD_G3", 8, 114_688, 0),
    ("STANDARD_G4", 16, 229_376, 0), ("STANDARD_G5", 32, 458_752, 0),
    ("STANDARD_H8", 8, 57_344, 0), ("STANDARD_H8M", 8, 114_688, 0), ("STANDARD_H16", 16, 114_688, 0),
    ("STANDARD_H16M", 16, 229_376, 0), ("STANDARD_H16R", 16, 114_688, 0), ("STANDARD_H16MR", 16, 229_376, 0),
    ("STANDARD_NC6", 6, 57_344, 1), ("STANDARD_NC12", 12, 114_688, 2), ("STANDARD_NC24", 24, 229_376, 4),
    ("STANDARD_NC24R", 24, 229_376, 4),
    ("STANDARD_NC6S_V2", 6, 114_688, 1), ("STANDARD_NC12S_V2", 12, 229_376, 2), ("STANDARD_NC24S_V2", 24, 458_752, 4),
    ("STANDARD_NC24RS_V2", 24, 458_752, 4),
    ("STANDARD_NC6S_V3", 6, 114_688, 1), ("STANDARD_NC12S_V3", 12, 229_376, 2), ("STANDARD_NC24S_V3", 24, 458_752, 4),
    ("STANDARD_NC24RS_V3", 24, 458_752, 4),
    ("STANDARD_ND6S", 6, 114_688, 1), ("STANDARD_ND12S", 12, 229_376, 2), ("STANDARD_ND24S", 24, 458_752, 4),
    ("STANDARD_ND24RS", 24, 458_752, 4),
    ("STANDARD_NV6", 6, 57_344, 1), ("STANDARD_NV12", 12, 114_688, 2), ("STANDARD_NV24", 24, 229_376, 4),
];

/// Every size, cut to what a host has: a size larger than the host is the host, so that no name that users know is refused.
/// `LOCAL` comes first.
pub fn for_host(cores: u32, memory_mib: u64, gpus: u32) -> Vec<Size> {
    let whole = Size { name: LOCAL.to_owned(), cores, memory_mib, gpus };
    let known = TABLE.iter().map(|&(name, c, m, g)| Size {
        name: name.to_owned(),
        cores: c.min(cores),
        memory_mib: m.min(memory_mib),
        gpus: g.min(gpus),
    });
    std::iter::once(whole).chain(known).collect()
}

/// Whether users know a size by that name.
pub fn is_known(name: &str) -> bool {
    std::iter::once(LOCAL).chain(TABLE.iter().map(|row| row.0)).any(|known| known.eq_ignore_ascii_case(name))
}

/// Those sizes that have all the GPUs that their names promise.
pub fn without_missing_gpus(sizes: Vec<Size>) -> Vec<Size> {
    let promised = |name: &str| TABLE.iter().find(|row| row.0 == name).map_or(0, |row| row.3);
    sizes.into_iter().filter(|size| size.gpus >= promised(&size.name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_whose_gpus_are_not_there_may_be_left_out() {
        let names = |gpus| {
            let sizes = without_missing_gpus(for_host(4, 16_384, gpus));
            sizes.into_iter().map(|size| size.name).collect::<Vec<_>>()
        };
        let has = |gpus, name: &str| names(gpus).iter().any(|known| known == name);
        assert!(has(0, LOCAL) && has(0, "STANDARD_D2_V3") && !has(0, "STANDARD_NC6"));
        assert!(has(2, "STANDARD_NC6") && has(2, "STANDARD_NC12") && !has(2, "STANDARD_NC24"));
    }

    #[test]
    fn a_size_is_never_more_than_the_host() {
        let sizes = for_host(4, 16_384, 0);
        assert_eq!(sizes[0], Size { name: "LOCAL".into(), cores: 4, memory_mib: 16_384, gpus: 0 });
        assert!(sizes.iter().all(|s| (1..=4).contains(&s.cores) && s.memory_mib <= 16_384 && s.gpus == 0));
        let d2 = sizes.iter().find(|s| s.name == "STANDARD_D2_V3").expect("known");
        assert_eq!((d2.cores, d2.memory_mib), (2, 8_192));
    }

    #[test]
    fn names_are_upper_case_and_appear_once() {
        let sizes = for_host(128, 1 << 20, 8);
        let mut names: Vec<_> = sizes.iter().map(|s| s.name.as_str()).collect();
        assert!(names.iter().all(|n| n.to_ascii_uppercase() == *n));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), sizes.len());
    }
}
