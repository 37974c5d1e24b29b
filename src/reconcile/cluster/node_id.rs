//! The wire's node ids, which are the nodes' host names too.

use crate::clock::Timestamp;
use crate::domain::cluster::VmPriority;
use crate::id::ResourceUid;

/// The id of a cluster's machine: `tvm-{number}_{ordinal}-{yyyyMMdd}t{HHmmss}z`, with `-p` on low-priority ones. Unique within
/// its cluster, as ordinals are used once.
///
/// Source: recorded 2018-05-01 answers and file names.
pub(in crate::reconcile) fn node_id(cluster: ResourceUid, ordinal: i32, at: Timestamp, priority: VmPriority) -> String {
    let number = 100_000_000 + cluster.0.as_u128() % 900_000_000;
    let suffix = match priority {
        VmPriority::Dedicated => "",
        VmPriority::LowPriority => "-p",
    };
    let (date, time) = (at.date(), at.time());
    format!(
        "tvm-{number}_{ordinal}-{:04}{:02}{:02}t{:02}{:02}{:02}z{suffix}",
        date.year(),
        u8::from(date.month()),
        date.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_as_recorded() {
        let cluster = ResourceUid(uuid::Uuid::from_u128(713_932_285 + 100_000_000));
        let at = time::macros::datetime!(2018-06-14 03:34:32 UTC);
        assert_eq!(node_id(cluster, 1, at, VmPriority::Dedicated), "tvm-913932285_1-20180614t033432z");
        assert_eq!(node_id(cluster, 12, at, VmPriority::LowPriority), "tvm-913932285_12-20180614t033432z-p");
    }
}
