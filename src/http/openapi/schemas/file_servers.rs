//! File servers.

use serde_json::json;

use super::{Named, int, many, object, or, page, resource, text, time, to, word};

pub(super) fn schemas() -> Named {
    vec![
        (
            "FileServerBaseProperties",
            object([
                ("vmSize!", text()),
                ("sshConfiguration!", to("SshConfiguration")),
                ("dataDisks!", to("DataDisks")),
                ("subnet", to("ResourceId")),
            ]),
        ),
        (
            "FileServerProperties",
            object([
                ("provisioningState!", word(&["creating", "updating", "deleting", "succeeded", "failed"])),
                ("creationTime!", time()),
                ("provisioningStateTransitionTime!", time()),
                ("vmSize!", text()),
                ("sshConfiguration!", to("SshConfiguration")),
                ("dataDisks!", to("DataDisks")),
                ("subnet", to("ResourceId")),
                ("mountSettings", to("MountSettings")),
            ]),
        ),
        ("FileServerCreateParameters", object([("properties!", to("FileServerBaseProperties"))])),
        ("FileServer", resource("FileServerProperties")),
        ("FileServerListResult", page("FileServer")),
        ("SshConfiguration", object([("publicIPsToAllow", many(text())), ("userAccountSettings!", to("UserAccountSettings"))])),
        (
            "DataDisks",
            object([
                ("diskSizeInGB!", int()),
                ("cachingType", or(word(&["none", "readonly", "readwrite"]), json!("none"))),
                ("diskCount!", int()),
                ("storageAccountType!", word(&["Standard_LRS", "Premium_LRS"])),
            ]),
        ),
        ("MountSettings", object([("mountPoint", text()), ("fileServerPublicIP", text()), ("fileServerInternalIP", text())])),
    ]
}
