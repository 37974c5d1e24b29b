//! `[[vault]]`: key vaults that jobs and clusters may name secrets of.

use super::access::is_private;
use super::read::Section;
use crate::vault::{Login, Source, Vault};

/// Of what tokens are asked for.
///
/// Source: the resource of Azure Key Vault in the public cloud.
const SCOPE: &str = "https://vault.azure.net/.default";

pub(super) fn read(root: &mut Section<'_>) -> Vec<Vault> {
    let found = root.each("vault", |mut section| {
        let id = section.needed("id", "the resource id by which requests name it");
        let subscription = subscription_of(&id);
        if !id.is_empty() && subscription.is_none() {
            section.problem("id", "is no resource id, which begins with /subscriptions/");
        }
        let url = section.needed("url", "what the URLs of its secrets begin with").trim_end_matches('/').to_owned();
        if !url.is_empty() && !is_base(&url) {
            section.problem("url", "is not such as \"https://team.vault.azure.net\"");
        }
        let used_by = section.texts("used_by", subscription.into_iter().collect());
        if let Some(odd) = used_by.iter().find(|scope| !scope.starts_with("/subscriptions/")) {
            section.problem("used_by", &format!("has '{odd}', which is no path that begins with /subscriptions/"));
        }
        let folder = section.path("folder");
        let wanted = "an https address (http is taken on loopback alone)";
        let mut address = |key, default: Option<String>| {
            section.take(key, default, wanted, |value| {
                let text = value.as_str()?.trim_end_matches('/');
                is_private(text).then(|| Some(text.to_owned()))
            })
        };
        let (endpoint, token_url) = (address("endpoint", None), address("token_url", None));
        let scope = section.take("scope", SCOPE.to_owned(), "a text", |value| Some(value.as_str()?.to_owned()));
        let client_id = section.take("client_id", None, "a text", |value| Some(Some(value.as_str()?.to_owned())));
        let client_secret_file = section.path("client_secret_file");
        let authority = section.path("authority");
        let source = match (folder, token_url, client_id, client_secret_file) {
            (Some(folder), None, None, None) => Some(Source::Folder(folder)),
            (None, Some(token_url), Some(client_id), Some(client_secret_file)) => {
                let endpoint = endpoint.unwrap_or_else(|| url.clone());
                Some(Source::Rest(Login { endpoint, token_url, scope, client_id, client_secret_file, authority }))
            }
            _ => {
                section.problem("folder", "is needed, or token_url, client_id and client_secret_file, and not both");
                None
            }
        };
        section.end();
        source.map(|source| Vault { id: id.trim_end_matches('/').to_owned(), url, used_by, source })
    });
    let found: Vec<Vault> = found.into_iter().flatten().collect();
    for (index, vault) in found.iter().enumerate() {
        if found.iter().take(index).any(|other| other.id.eq_ignore_ascii_case(&vault.id)) {
            root.problem("vault", &format!("has '{}' twice", vault.id));
        }
    }
    found
}

/// The subscription of a resource id, as a path.
fn subscription_of(id: &str) -> Option<String> {
    let name = id.strip_prefix("/subscriptions/")?.split('/').next()?;
    (!name.is_empty()).then(|| format!("/subscriptions/{name}"))
}

/// Whether a text is an https address without a path.
fn is_base(url: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':');
    url.strip_prefix("https://").is_some_and(|host| !host.is_empty() && host.bytes().all(plain))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use crate::config::{Config, Environment};
    use crate::vault::Source;

    fn parse(text: &str) -> Result<Config, String> {
        let environment = Environment { root: true, ..Environment::default() };
        Config::parse(text, &environment).map_err(|error| error.to_string())
    }

    const WHOLE: &str = r#"
        [[vault]]
        id = "/subscriptions/a/resourceGroups/g/providers/Microsoft.KeyVault/vaults/files"
        url = "https://files.vault.azure.net/"
        folder = "/etc/batchyard/vault"
        [[vault]]
        id = "/subscriptions/a/resourceGroups/g/providers/Microsoft.KeyVault/vaults/team"
        url = "https://team.vault.azure.net"
        used_by = ["/subscriptions/a/resourceGroups/vision"]
        token_url = "https://login.microsoftonline.com/t/oauth2/v2.0/token"
        client_id = "batchyard"
        client_secret_file = "/run/secrets/vault"
    "#;

    #[test]
    fn vaults_are_read_and_printed() {
        let config = parse(WHOLE).expect("right");
        let [files, team] = config.vaults.as_slice() else { panic!("{:?}", config.vaults) };
        assert_eq!(files.source, Source::Folder(PathBuf::from("/etc/batchyard/vault")));
        assert_eq!(
            (files.url.as_str(), files.used_by.as_slice()),
            ("https://files.vault.azure.net", ["/subscriptions/a".to_owned()].as_slice())
        );
        let Source::Rest(login) = &team.source else { panic!("{team:?}") };
        assert_eq!((login.endpoint.as_str(), login.scope.as_str()), ("https://team.vault.azure.net", super::SCOPE));
        let again = parse(&config.to_toml()).expect("what is printed is right");
        assert_eq!(again.vaults, config.vaults);
    }

    #[test]
    fn a_vault_is_somewhere_and_for_someone() {
        let error = parse("[[vault]]\nid = \"team\"\nurl = \"http://x/y\"\nendpoint = \"http://10.0.0.1\"\nused_by = [\"all\"]")
            .expect_err("wrong");
        for part in [
            "id is no resource id",
            "url is not such as",
            "endpoint = \"http://10.0.0.1\" is not an https",
            "used_by has 'all'",
            "folder is needed",
        ] {
            assert!(error.contains(part), "{part} is missing in:\n{error}");
        }
    }
}
