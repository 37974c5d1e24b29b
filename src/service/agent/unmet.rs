//! What is stored and cannot be honoured by nodes yet: it is told where the node shows its errors, naming the member.
//!
//! See the decision "Accepted is never ignored". Each rule here goes once nodes can do what it names.

use crate::domain::cluster::ClusterSpec;
use crate::domain::resource::EntityError;

/// The code of a node's error.
const NODE: &str = "NodeSettingsNotSupported";

/// What of a cluster's nodes cannot be done here.
pub(super) fn of_cluster(spec: &ClusterSpec) -> Option<EntityError> {
    let image = spec.image.image_id.as_ref().map(|_| "virtualMachineConfiguration.imageReference.virtualMachineImageId");
    let counters = spec.node_setup.as_ref().and_then(|setup| setup.performance_counters.as_ref());
    let counters = counters.map(|_| "nodeSetup.performanceCountersSettings");
    let members: Vec<&str> = image.into_iter().chain(counters).collect();
    if members.is_empty() {
        return None;
    }
    let list = members.join(", ");
    let message =
        format!("The node needs what this server's nodes cannot do yet: {list}. Leave it out, or run where it is offered.");
    Some(members.into_iter().fold(EntityError::new(NODE, message), |error, member| error.with_detail("property", member)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::v2018_05_01::samples;

    #[test]
    fn every_member_that_nodes_cannot_honour_is_named_and_no_other() {
        let mut cluster = samples::cluster().spec;
        let details = of_cluster(&cluster).expect("there are some").details;
        let members: Vec<_> = details.into_iter().map(|detail| detail.value).collect();
        let wanted =
            ["virtualMachineConfiguration.imageReference.virtualMachineImageId", "nodeSetup.performanceCountersSettings"];
        assert_eq!(members, wanted);
        cluster.image.image_id = None;
        cluster.node_setup = None;
        assert_eq!(of_cluster(&cluster), None);
    }
}
