//! `[storage]`: where the storage is that nodes mount.

use std::time::Duration;

use super::Storage;
use super::read::Section;
use super::value::Span;
use crate::domain::storage::{Endpoint, HostPort, PUBLIC_SUFFIX, StorageAccount, Storages};

/// How long mounting may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// The port of SMB.
const SMB: u16 = 445;

/// Reads the section.
pub(super) fn read(mut section: Section<'_>) -> Storage {
    let suffixes =
        section.take("suffixes", vec![PUBLIC_SUFFIX.to_owned()], "a list of names such as [\"core.windows.net\"]", |value| {
            let suffix = |value: &toml::Value| value.as_str().filter(|text| is_suffix(text)).map(str::to_ascii_lowercase);
            value.as_array()?.iter().map(suffix).collect()
        });
    let deadline = section.span("deadline", Span(DEADLINE));
    let accounts = section.each("account", account);
    section.end();
    Storage { known: Storages { suffixes, accounts }, deadline }
}

/// Whether this may be the end of host names.
fn is_suffix(text: &str) -> bool {
    let label = |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    text.split('.').all(label)
}

fn account(mut section: Section<'_>) -> StorageAccount {
    let url = |value: toml::Value| Endpoint::parse(value.as_str()?).map(Some);
    const URL: &str = "a URL of http or https without a query";
    let account = StorageAccount {
        name: section.needed("name", "the account's name"),
        blob: section.take("blob", None, URL, url),
        smb: section.take("smb", None, "a host and port such as \"10.0.0.5:445\"", |value| {
            HostPort::parse(value.as_str()?, SMB).map(Some)
        }),
        file: section.take("file", None, URL, url),
    };
    if account.blob.is_none() && account.smb.is_none() {
        section.problem("blob", "and smb are both missing: the account would be nowhere");
    }
    section.end();
    account
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Environment};

    #[test]
    fn storage_is_read_and_what_is_wrong_is_told() {
        let text = r#"
            [storage]
            suffixes = ["core.windows.net", "Local.AzureStack"]
            deadline = "5s"
            [[storage.account]]
            name = "team"
            blob = "http://127.0.0.1:10000/team/"
            smb = "10.0.0.5"
        "#;
        let config = Config::parse(text, &Environment::default()).expect("right");
        assert_eq!(config.storage.known.suffixes, ["core.windows.net", "local.azurestack"]);
        let account = &config.storage.known.accounts[0];
        assert_eq!(account.blob.as_ref().map(ToString::to_string).as_deref(), Some("http://127.0.0.1:10000/team"));
        assert_eq!(account.smb.as_ref().map(ToString::to_string).as_deref(), Some("10.0.0.5:445"));
        let printed = config.to_toml();
        assert_eq!(Config::parse(&printed, &Environment::default()).expect("right").to_toml(), printed);
        let wrong = "[storage]\nsuffixes = [\"a/b\"]\n[[storage.account]]\nname = \"x\"\n[[storage.account]]\nblob = \"ftp://x\"";
        let error = Config::parse(wrong, &Environment::default()).expect_err("much is wrong").to_string();
        for part in ["storage.suffixes", "storage.account[0].blob and smb are both missing", "storage.account[1].name is missing"]
        {
            assert!(error.contains(part), "{part} in {error}");
        }
    }
}
