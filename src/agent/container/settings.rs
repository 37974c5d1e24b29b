//! A container as the engine's API describes it. Pure.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, DeviceRequest, HostConfig, Mount, MountBindOptions, MountBindOptionsPropagationEnum, MountType,
};

use crate::agent::container::{Access, Bind, Container};
use crate::agent::gang::CONTAINER_KEYS;

/// What the first process of a container does: nothing, but to reap what is left behind. It needs no more than a shell of the image.
const IDLE: &str = "while :; do sleep 3600 & wait; done";

/// Whom commands run as: root, as the agent is where it has a node to itself; elsewhere the agent's own account, which has to be able to
/// remove what they leave.
///
/// Source: published recipes install packages in containers without `sudo`.
pub(super) fn user() -> String {
    format!("{}:{}", rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

/// Ends sooner than anything else of the node when memory runs out. Range: -1000 to 1000.
const OOM_SCORE: i64 = 500;

/// The label of every container of ours: the node that it is on.
pub(super) const LABEL: &str = "batchyard.node";

/// What the engine is asked to make. Rights are those that it gives by default: nothing is added. Variables and commands are not here.
pub(super) fn body(container: &Container) -> ContainerCreateBody {
    let words = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect());
    ContainerCreateBody {
        image: Some(container.image.clone()),
        entrypoint: words(&["/bin/sh", "-c", IDLE]),
        cmd: Some(Vec::new()),
        user: Some(user()),
        working_dir: Some("/".to_owned()),
        labels: Some(HashMap::from([(LABEL.to_owned(), container.node_id.clone())])),
        // The node's own engine leaves the network alone: its runtime keeps containers in the node's.
        network_disabled: container.own_engine.then_some(true),
        host_config: Some(HostConfig {
            network_mode: (!container.own_engine).then(|| "host".to_owned()),
            uts_mode: Some("host".to_owned()),
            shm_size: container.shm_size.and_then(|bytes| i64::try_from(bytes).ok()),
            memory: container.memory.and_then(|bytes| i64::try_from(bytes).ok()),
            memory_swap: container.memory.and_then(|bytes| i64::try_from(bytes).ok()),
            oom_score_adj: Some(OOM_SCORE),
            mounts: Some(container.binds.iter().map(|bind| mount(bind, container.own_engine)).collect()),
            tmpfs: (!container.keys.is_empty())
                .then(|| HashMap::from([(CONTAINER_KEYS.to_owned(), "mode=0700,size=1m".to_owned())])),
            device_requests: (!container.gpus.is_empty()).then(|| {
                vec![DeviceRequest {
                    device_ids: Some(container.gpus.clone()),
                    capabilities: Some(vec![vec!["gpu".to_owned()]]),
                    ..DeviceRequest::default()
                }]
            }),
            privileged: Some(false),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

fn mount(bind: &Bind, own_engine: bool) -> Mount {
    let follows = own_engine && bind.access == Access::Follow;
    Mount {
        typ: Some(MountType::BIND),
        source: Some(bind.source.to_string_lossy().into_owned()),
        target: Some(bind.target.to_string_lossy().into_owned()),
        read_only: Some(bind.access == Access::Read),
        bind_options: follows.then(|| MountBindOptions {
            propagation: Some(MountBindOptionsPropagationEnum::RSLAVE),
            ..MountBindOptions::default()
        }),
        ..Mount::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::container::Name;
    use crate::domain::container::PullLimits;

    fn container() -> Container {
        Container {
            name: Name { socket: "/s".into(), name: "n".into() },
            own_engine: true,
            node_id: "tvm-1".into(),
            image: "a:1".into(),
            login: None,
            limits: PullLimits::default(),
            shm_size: Some(64),
            memory: None,
            binds: vec![
                Bind { source: "/mnt/a".into(), target: "/mnt/a".into(), access: Access::Follow },
                Bind { source: "/etc/hosts".into(), target: "/etc/hosts".into(), access: Access::Read },
            ],
            keys: vec![],
            gpus: vec![],
        }
    }

    #[test]
    fn nothing_is_added_to_what_engines_give_by_default() {
        let made = body(&container());
        assert_eq!((made.env, made.volumes, made.user), (None, None, Some(user())));
        let host = made.host_config.expect("there");
        assert_eq!((host.cap_add, host.security_opt, host.devices, host.pid_mode, host.ipc_mode), (None, None, None, None, None));
        assert_eq!((host.privileged, host.binds, host.device_requests), (Some(false), None, None));
        let mounts: Vec<_> = host.mounts.expect("there").into_iter().map(|m| (m.source, m.target, m.read_only)).collect();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(mounts, [(text("/mnt/a"), text("/mnt/a"), Some(false)), (text("/etc/hosts"), text("/etc/hosts"), Some(true))]);
    }

    #[test]
    fn another_engine_is_asked_for_the_hosts_network_and_for_gpus() {
        let made = body(&Container { own_engine: false, gpus: vec!["GPU-1".into()], ..container() });
        let host = made.host_config.expect("there");
        assert_eq!((made.network_disabled, host.network_mode.as_deref()), (None, Some("host")));
        let requests = host.device_requests.expect("there");
        let [request] = requests.as_slice() else { panic!("{requests:?}") };
        assert_eq!(request.device_ids.as_deref(), Some(["GPU-1".to_owned()].as_slice()));
        assert_eq!((request.count, request.capabilities.as_deref()), (None, Some([vec!["gpu".to_owned()]].as_slice())));
    }
}
