//! What a started server says: one page for people, one file for scripts.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::server::Server;
use crate::auth::TokenRequest;

/// How a started server is reached.
#[derive(Debug)]
pub(super) struct Endpoints {
    /// Plain http, as a URL.
    pub(super) http: Option<String>,
    /// https, as a URL.
    pub(super) https: Option<String>,
}

/// The page: endpoints, ids, how to get a token, and lines to copy.
pub(super) fn page(server: &Server, endpoints: &Endpoints, share: Option<&Path>, env_file: Option<&Path>) -> String {
    let mut page = String::new();
    let installation = &server.installation;
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(page, "  {name:<14} {value}");
    };
    for endpoint in [&endpoints.http, &endpoints.https].into_iter().flatten() {
        line("endpoint", endpoint);
    }
    // Browsers on this machine trust plain http on loopback, and not yet the server's own authority.
    if let Some(endpoint) = endpoints.http.as_ref().or(endpoints.https.as_ref()) {
        line("web page", &format_args!("{endpoint}/ui/"));
    }
    if let Some(authority) = &server.authority {
        line("CA file", &authority.display());
    }
    line("subscription", &installation.subscription);
    line("tenant", &installation.tenant);
    line("client id", &installation.client_id);
    line("client secret", &format_args!("in {}", installation.file.display()));
    if let Some(share) = share {
        line("share", &format_args!("{} is $AZ_BATCHAI_MOUNT_ROOT/shared on every node", share.display()));
    }
    if let Some(isolation) = &server.isolation {
        line("nodes", &format_args!("on this host, separated by {isolation}"));
    }
    if let Some(file) = env_file {
        line("for scripts", &format_args!(". {}", quote(&file.to_string_lossy())));
    }
    let mut text = format!("batchyard {} is ready.\n\n{page}", env!("CARGO_PKG_VERSION"));
    let Some(endpoint) = endpoints.https.as_ref().or(endpoints.http.as_ref()) else { return text };
    let (tenant, client, subscription) = (installation.tenant, &installation.client_id, installation.subscription);
    let trust = server.authority.as_ref().filter(|_| endpoints.https.is_some());
    let (curl_trust, az_trust) = match trust {
        Some(file) => {
            let file = quote(&file.to_string_lossy());
            (format!(" --cacert {file}"), format!("export REQUESTS_CA_BUNDLE={file} AZURE_CORE_INSTANCE_DISCOVERY=false\n"))
        }
        None => (String::new(), "export AZURE_CORE_INSTANCE_DISCOVERY=false\n".to_owned()),
    };
    if let Some(file) = env_file {
        let _ =
            write!(text, "\nThis program as a client:\n\n    batchyard login --env-file {}\n", quote(&file.to_string_lossy()));
    }
    let owner = quote(&installation.file.to_string_lossy());
    let _ = write!(
        text,
        r#"
A token, then a request (curl):

    SECRET=$(sed -n 's/.*"clientSecret": *"\([^"]*\)".*/\1/p' {owner})
    TOKEN=$(curl -sS{curl_trust} {endpoint}/{tenant}/oauth2/v2.0/token -d grant_type=client_credentials \
        -d client_id={client} -d client_secret="$SECRET" -d scope={endpoint}/.default |
        sed -n 's/.*"access_token": *"\([^"]*\)".*/\1/p')
    curl -sS{curl_trust} -H "Authorization: Bearer $TOKEN" \
        "{endpoint}/subscriptions/{subscription}/resourceGroups?api-version=2019-10-01"
"#
    );
    if endpoints.https.is_some() {
        let _ = write!(
            text,
            r#"
The Azure CLI:

    {az_trust}    az cloud register -n batchyard --endpoint-resource-manager {endpoint}
    az cloud set -n batchyard
    az login --service-principal -u {client} -p "$SECRET" --tenant {tenant}
    az batchai workspace list
"#
        );
    }
    text
}

/// Writes the file for scripts: shell assignments, mode 0600, whole or not at all.
pub(super) async fn write_env_file(path: &Path, server: &Server, endpoints: &Endpoints) -> Result<()> {
    let installation = &server.installation;
    let mut values: Vec<(&str, String)> = vec![
        ("BATCHYARD_ENDPOINT", endpoints.http.clone().or_else(|| endpoints.https.clone()).unwrap_or_default()),
        ("BATCHYARD_TLS_ENDPOINT", endpoints.https.clone().unwrap_or_default()),
        ("BATCHYARD_CA", server.authority.as_ref().map(|file| file.display().to_string()).unwrap_or_default()),
        ("BATCHYARD_SUBSCRIPTION", installation.subscription.to_string()),
        ("BATCHYARD_TENANT", installation.tenant.to_string()),
        ("BATCHYARD_CLIENT_ID", installation.client_id.clone()),
    ];
    let secret = installation.client_secret.as_ref();
    let secret = secret.with_context(|| format!("{} is missing, and with it the owner's secret", installation.file.display()))?;
    values.push(("BATCHYARD_CLIENT_SECRET", secret.0.clone()));
    values.push(("BATCHYARD_TOKEN", token(server, &secret.0).await?));
    let mut text = String::new();
    for (name, value) in &values {
        let _ = writeln!(text, "{name}={}", quote(value));
    }
    let making = making(path);
    let written = || -> std::io::Result<()> {
        match fs::remove_file(&making) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&making)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&making, path)
    };
    written().with_context(|| format!("cannot write the file {}", path.display()))
}

/// A token of the first owner, as a client would get it.
async fn token(server: &Server, secret: &str) -> Result<String> {
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", server.installation.client_id.as_str()),
        ("client_secret", secret),
        ("scope", "https://management.azure.com/.default"),
    ];
    let request = TokenRequest {
        tenant: server.installation.tenant.to_string(),
        form: form.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect::<BTreeMap<_, _>>(),
        peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    let answer = server.auth.token(request).await.map_err(|refused| anyhow::anyhow!("{}", refused.description));
    let answer = answer.context("the owner cannot sign in")?;
    answer.get("access_token").and_then(|token| token.as_str()).map(str::to_owned).context("the issuer gave no token")
}

/// A name beside `path`, so that the last step is a rename.
fn making(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    path.with_file_name(name)
}

/// A word that a shell reads as it is.
fn quote(value: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:@%+,".contains(&b);
    if !value.is_empty() && value.bytes().all(plain) { value.to_owned() } else { format!("'{}'", value.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shells_read_values_as_they_are() {
        assert_eq!(quote("https://localhost:1"), "https://localhost:1");
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("it's $HOME"), r"'it'\''s $HOME'");
        assert_eq!(quote(""), "''");
    }
}
