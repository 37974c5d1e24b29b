//! `[[principal]]` and `[[issuer]]`: who may sign in beside those that are made by command.

use std::path::PathBuf;

use super::environment::Environment;
use super::read::Section;
use crate::domain::principal::Role;
use crate::secret::SecretText;

/// `[[principal]]`: a principal that every start makes so, and that goes with its table.
#[derive(Clone, Debug)]
pub struct Principal {
    /// The name that it signs in with.
    pub client_id: String,
    /// What lists show. Default: the client id.
    pub display_name: String,
    /// Where its secret is.
    pub secret: PrincipalSecret,
    /// What it may do. Default: nothing.
    pub roles: Vec<HeldRole>,
}

/// Where the secret of a principal is.
#[derive(Clone, Debug)]
pub enum PrincipalSecret {
    /// In the environment, as `BATCHYARD_SECRET_…` with the client id in upper case and `_` for all but letters and digits.
    Environment(SecretText),
    /// In a file, less the line's end.
    File(PathBuf),
    /// Nowhere: it signs in through an issuer elsewhere.
    Absent,
}

/// A role that a principal holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldRole {
    /// Which.
    pub role: Role,
    /// Where: a path that begins with `/subscriptions/`, or one below the installation's first subscription. Default: that subscription.
    pub scope: String,
}

/// `[[issuer]]`: an OpenID Connect issuer whose tokens are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// Its `iss`, exactly: `https`, or `http` on loopback.
    pub issuer: String,
    /// Of which a token must be for one, exactly.
    pub audience: Vec<String>,
    /// Where its keys are. Default: where its configuration document says.
    pub keys: Option<String>,
    /// A PEM file of the authorities that its certificate may be of. Default: those of the host.
    pub authority: Option<PathBuf>,
    /// Who its tokens are; the first that fits.
    pub principal: Vec<IssuerPrincipal>,
}

/// `[[issuer.principal]]`: who the tokens with some claims are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerPrincipal {
    /// All of these a token must have. A name that begins with `/` is a JSON pointer; a list fits where it holds the value.
    pub claims: Vec<(String, String)>,
    /// The client id of a principal.
    pub principal: String,
}

pub(super) fn principals(root: &mut Section<'_>, environment: &Environment) -> Vec<Principal> {
    let found = root.each("principal", |mut section| {
        let client_id = section.needed("client_id", "the name that it signs in with");
        if client_id.len() > 128 || !client_id.bytes().all(|b| b.is_ascii_graphic()) {
            section.problem("client_id", "has more than 128 characters, or others than visible ASCII ones");
        }
        let variable = variable(&client_id);
        let of_environment = environment.principals.iter().find(|(name, _)| *name == variable).map(|(_, secret)| secret.clone());
        let secret = match (section.path("secret_file"), of_environment) {
            (Some(_), Some(_)) => {
                section.problem("secret_file", &format!("is set, and so is {variable} in the environment: keep one of them"));
                PrincipalSecret::Absent
            }
            (Some(file), None) => PrincipalSecret::File(file),
            (None, Some(secret)) => PrincipalSecret::Environment(secret),
            (None, None) => PrincipalSecret::Absent,
        };
        let display_name = section.take("display_name", client_id.clone(), "a text", |value| Some(value.as_str()?.to_owned()));
        let roles = section.each("roles", |mut section| {
            let wanted = "\"owner\", \"contributor\" or \"reader\"";
            let role = section.take("role", None, wanted, |value| Role::find(value.as_str()?).map(Some));
            if role.is_none() {
                section.problem("role", &format!("is missing: give {wanted}"));
            }
            let wanted = "a path such as \"/subscriptions/…/resourceGroups/vision\" or \"resourceGroups/vision\"";
            let scope = section.take("scope", String::new(), wanted, |value| {
                let scope = value.as_str()?.trim_end_matches('/');
                let whole = !scope.starts_with('/') || scope.starts_with("/subscriptions/");
                (whole && !scope.contains("//")).then(|| scope.to_owned())
            });
            section.end();
            role.map(|role| HeldRole { role, scope })
        });
        section.end();
        Principal { client_id, display_name, secret, roles: roles.into_iter().flatten().collect() }
    });
    for (index, principal) in found.iter().enumerate() {
        if found.iter().take(index).any(|other| other.client_id == principal.client_id) {
            root.problem("principal", &format!("has '{}' twice", principal.client_id));
        }
    }
    for (name, _) in &environment.principals {
        if !found.iter().any(|principal| variable(&principal.client_id) == *name) {
            root.problem("principal", &format!("has none whose secret would be {name}, which the environment has"));
        }
    }
    found
}

pub(super) fn issuers(root: &mut Section<'_>) -> Vec<Issuer> {
    let found = root.each("issuer", |mut section| {
        let issuer = section.needed("issuer", "the address that its tokens name as iss");
        if !issuer.is_empty() && !is_private(&issuer) {
            section.problem("issuer", "is not an https address (http is taken on loopback alone)");
        }
        let audience = section.texts("audience", Vec::new());
        if audience.is_empty() {
            section.problem("audience", "is missing: without it a token for any other service would be taken");
        }
        let keys = section.take("keys", None, "an https address", |value| {
            let keys = value.as_str()?;
            is_private(keys).then(|| Some(keys.to_owned()))
        });
        let authority = section.path("authority");
        let principal = section.each("principal", |mut section| {
            let claims = section.options("claims");
            if claims.is_empty() {
                section.problem("claims", "is missing: without it everyone whom the issuer knows would be this principal");
            }
            let principal = section.needed("principal", "the client id of a principal");
            section.end();
            IssuerPrincipal { claims, principal }
        });
        if principal.is_empty() {
            section.problem("principal", "is missing: nobody could sign in through this issuer");
        }
        section.end();
        Issuer { issuer, audience, keys, authority, principal }
    });
    for (index, issuer) in found.iter().enumerate() {
        if found.iter().take(index).any(|other| other.issuer == issuer.issuer) {
            root.problem("issuer", &format!("has '{}' twice", issuer.issuer));
        }
    }
    found
}

/// Whether what is fetched from an address cannot be changed on the way: https, or a host that is this one.
pub(super) fn is_private(address: &str) -> bool {
    let Some(rest) = address.strip_prefix("http://") else {
        return address.strip_prefix("https://").is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'));
    };
    let authority = rest.split('/').next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

/// The variable that holds the secret of a client id.
pub(super) fn variable(client_id: &str) -> String {
    let letters = client_id.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    super::environment::PRINCIPAL.chars().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn environment(secrets: &[&str]) -> Environment {
        let principals = secrets.iter().map(|name| ((*name).to_owned(), SecretText("canary".into()))).collect();
        Environment { root: true, principals, ..Environment::default() }
    }

    const WHOLE: &str = r#"
        [[principal]]
        client_id = "ci-train"
        roles = [{ role = "contributor", scope = "resourceGroups/vision" }, { role = "reader" }]
        [[principal]]
        client_id = "ops"
        display_name = "Operators"
        secret_file = "/run/secrets/ops"
        [[issuer]]
        issuer = "https://token.actions.githubusercontent.com"
        audience = ["batchyard"]
        [[issuer.principal]]
        claims = { repository = "me/train", ref = "refs/heads/main" }
        principal = "ci-train"
    "#;

    #[test]
    fn principals_and_issuers_are_read_and_printed() {
        let config = Config::parse(WHOLE, &environment(&["BATCHYARD_SECRET_CI_TRAIN"])).expect("right");
        let [ci, ops] = config.principals.as_slice() else { panic!("two") };
        assert!(matches!(ci.secret, PrincipalSecret::Environment(_)));
        assert_eq!(ci.roles[0], HeldRole { role: Role::Contributor, scope: "resourceGroups/vision".into() });
        assert_eq!(ci.roles[1].scope, "");
        assert!(matches!(&ops.secret, PrincipalSecret::File(file) if file.ends_with("ops")));
        assert_eq!(config.issuers[0].principal[0].claims.len(), 2);
        let printed = config.to_toml();
        assert!(!printed.contains("canary") && printed.contains("BATCHYARD_SECRET_CI_TRAIN"), "{printed}");
        let again = Config::parse(&printed, &environment(&["BATCHYARD_SECRET_CI_TRAIN"])).expect("what is printed is right");
        assert_eq!(again.to_toml(), printed);
    }

    #[test]
    fn the_example_shows_settings_that_are_right() {
        let example = include_str!("../../examples/batchyard.toml");
        let (_, access) = example.split_once("# [[principal]]").expect("is shown");
        let lines =
            access.lines().filter_map(|line| line.strip_prefix("# ")).filter(|line| line.contains('=') || line.starts_with('['));
        let text = format!("[[principal]]\n{}", lines.collect::<Vec<_>>().join("\n"));
        let config = Config::parse(&text, &environment(&[])).expect("right");
        assert_eq!((config.principals.len(), config.issuers.len()), (1, 1));
    }

    #[test]
    fn what_would_let_everyone_in_is_refused() {
        let text = r#"
            [[principal]]
            client_id = "a b"
            roles = [{ role = "god", scope = "/x" }]
            unknown = 1
            [[principal]]
            [[principal]]
            client_id = "c"
            secret_file = "/c"
            [[principal]]
            client_id = "c"
            [[issuer]]
            issuer = "http://login.example.org"
            keys = "http://10.0.0.1/keys"
            [[issuer]]
            issuer = "https://i"
            audience = ["a"]
            [[issuer.principal]]
            principal = "c"
        "#;
        let secrets = environment(&["BATCHYARD_SECRET_C", "BATCHYARD_SECRET_NOBODY"]);
        let error = Config::parse(text, &secrets).expect_err("much is wrong").to_string();
        for part in [
            "principal[0].client_id has more than 128 characters",
            "principal[0].roles[0].role = \"god\" is not",
            "principal[0].roles[0].scope = \"/x\" is not",
            "principal[0].unknown is not a setting",
            "principal[1].client_id is missing",
            "principal[2].secret_file is set, and so is BATCHYARD_SECRET_C",
            "principal has 'c' twice",
            "BATCHYARD_SECRET_NOBODY, which the environment has",
            "issuer[0].issuer is not an https address",
            "issuer[0].audience is missing",
            "issuer[0].keys = \"http://10.0.0.1/keys\" is not",
            "issuer[0].principal is missing",
            "issuer[1].principal[0].claims is missing",
        ] {
            assert!(error.contains(part), "{part} is missing in:\n{error}");
        }
    }

    #[test]
    fn plain_http_is_of_this_host_alone() {
        for private in ["https://a", "http://127.0.0.1:9/x", "http://localhost", "http://[::1]:80/x"] {
            assert!(is_private(private), "{private}");
        }
        for public in
            ["http://a", "http://localhost.evil.org", "http://127.0.0.1.evil.org", "ftp://localhost", "a", "https://", ""]
        {
            assert!(!is_private(public), "{public}");
        }
    }
}
