//! The container that a job runs in.

use serde::Serialize;

use crate::domain::container::{ContainerSettings, REGISTRY_PASSWORD, RegistryCredentials};
use crate::error::Violations;
use crate::wire::Secrets;
use crate::wire::fields::{Fields, LONG_TEXT, SHORT_TEXT};
use crate::wire::v2018_05_01::secrets::{SecretMembers, VaultReferenceBody, decode_secret};

/// Reads `containerSettings`; `None` where the member is absent.
pub fn decode_container(parent: &Fields<'_>, secrets: &mut Secrets, found: &mut Violations) -> Option<ContainerSettings> {
    let fields = parent.object("containerSettings", found)?;
    let shm_size = decode_shm_size(&fields, found);
    let registry = fields.required_object("imageSourceRegistry", found)?;
    let image = decode_plain(&registry, "image", true, found);
    let server = decode_plain(&registry, "serverUrl", false, found);
    let credentials = registry.object("credentials", found).and_then(|credentials| {
        let username = credentials.required_text("username", SHORT_TEXT, found);
        let members = SecretMembers {
            value: "password",
            reference: "passwordSecretReference",
            // A registry's password may be a whole token.
            limit: LONG_TEXT,
            field: REGISTRY_PASSWORD,
        };
        let password = decode_secret(&credentials, &members, secrets, found);
        Some(RegistryCredentials { username: username?.to_owned(), password: password? })
    });
    Some(ContainerSettings { image: image?, registry: server, credentials, shm_size })
}

/// A name or address: without blanks, and never taken for an option of a command.
fn decode_plain(fields: &Fields<'_>, name: &str, is_required: bool, found: &mut Violations) -> Option<String> {
    let text = match is_required {
        true => fields.required_text(name, SHORT_TEXT, found)?,
        false => fields.text(name, SHORT_TEXT, found).filter(|text| !text.is_empty())?,
    };
    if text.starts_with('-') || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        let path = fields.path_of(name);
        found.invalid(&path, format!("The property '{path}' may not begin with '-' or hold blanks."));
        return None;
    }
    Some(text.to_owned())
}

/// Source: Docker's notation of sizes: a number and a unit of bytes.
fn decode_shm_size(fields: &Fields<'_>, found: &mut Violations) -> Option<String> {
    let text = fields.text("shmSize", 32, found).filter(|text| !text.is_empty())?;
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text.get(digits.len()..).unwrap_or_default().to_ascii_lowercase();
    let is_number = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit()) && digits.chars().any(|c| c != '0');
    if !is_number || !["", "b", "k", "kb", "m", "mb", "g", "gb"].contains(&unit.as_str()) {
        let path = fields.path_of("shmSize");
        found.invalid(&path, format!("The property '{path}' must be a number and a unit, such as '512m' or '16gb'."));
        return None;
    }
    Some(text.to_owned())
}

/// `containerSettings` as answers show it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerSettingsBody<'a> {
    image_source_registry: ImageSourceRegistry<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shm_size: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ImageSourceRegistry<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    server_url: Option<&'a str>,
    image: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    credentials: Option<RegistryCredentialsBody<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RegistryCredentialsBody<'a> {
    username: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    password_secret_reference: Option<VaultReferenceBody<'a>>,
}

impl<'a> ContainerSettingsBody<'a> {
    /// As the wire writes them.
    pub fn of(settings: &'a ContainerSettings) -> ContainerSettingsBody<'a> {
        ContainerSettingsBody {
            image_source_registry: ImageSourceRegistry {
                server_url: settings.registry.as_deref(),
                image: &settings.image,
                credentials: settings.credentials.as_ref().map(|credentials| RegistryCredentialsBody {
                    username: &credentials.username,
                    password_secret_reference: VaultReferenceBody::of(&credentials.password),
                }),
            },
            shm_size: settings.shm_size.as_deref(),
        }
    }
}
