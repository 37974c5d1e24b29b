//! What clusters and jobs mount.

use serde_json::json;

use super::{Named, many, object, or, secret, text, to};

pub(super) fn schemas() -> Named {
    let mode = || or(text(), json!("0777"));
    vec![
        (
            "MountVolumes",
            object([
                ("azureFileShares", many(to("AzureFileShareReference"))),
                ("azureBlobFileSystems", many(to("AzureBlobFileSystemReference"))),
                ("fileServers", many(to("FileServerReference"))),
                ("unmanagedFileSystems", many(to("UnmanagedFileSystemReference"))),
            ]),
        ),
        (
            "AzureFileShareReference",
            object([
                ("accountName!", text()),
                ("azureFileUrl!", text()),
                ("credentials!", to("AzureStorageCredentialsInfo")),
                ("relativeMountPath!", text()),
                ("fileMode", mode()),
                ("directoryMode", mode()),
            ]),
        ),
        (
            "AzureBlobFileSystemReference",
            object([
                ("accountName!", text()),
                ("containerName!", text()),
                ("credentials!", to("AzureStorageCredentialsInfo")),
                ("relativeMountPath!", text()),
                ("mountOptions", text()),
            ]),
        ),
        (
            "AzureStorageCredentialsInfo",
            object([("accountKey", secret()), ("accountKeySecretReference", to("KeyVaultSecretReference"))]),
        ),
        (
            "FileServerReference",
            object([
                ("fileServer!", to("ResourceId")),
                ("sourceDirectory", text()),
                ("relativeMountPath!", text()),
                ("mountOptions", text()),
            ]),
        ),
        ("UnmanagedFileSystemReference", object([("mountCommand!", text()), ("relativeMountPath!", text())])),
    ]
}
