//! What clients see: shapes, names and defaults of the published contract, and nothing else.
//!
//! In: JSON documents of requests. Out: domain types, or every violation with its wire path; and the other way, documents of
//! answers from what was stored. Refuses to know HTTP, the store and machines.

pub mod activity;
pub mod authorization;
pub mod duration;
pub mod fields;
pub mod filter;
pub mod platform;
pub mod shapes;
pub mod times;
pub mod v2017_09_01_preview;
pub mod v2018_03_01;
pub mod v2018_05_01;
pub mod v2026_11_01_preview;

use std::collections::BTreeMap;

use crate::domain::secret::SecretText;

/// A version of the provider's contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiVersion {
    /// Our own: what the retired service never had, with the conventions of today.
    V2026_11_01Preview,
    /// The frozen contract of the retired service.
    V2018_05_01,
    /// The one before it, without workspaces.
    V2018_03_01,
    /// The first one, a preview.
    V2017_09_01Preview,
}

impl ApiVersion {
    /// All versions that are served, newest first.
    pub const ALL: [ApiVersion; 4] =
        [ApiVersion::V2026_11_01Preview, ApiVersion::V2018_05_01, ApiVersion::V2018_03_01, ApiVersion::V2017_09_01Preview];

    /// The version as clients write it.
    pub fn as_str(self) -> &'static str {
        match self {
            ApiVersion::V2026_11_01Preview => "2026-11-01-preview",
            ApiVersion::V2018_05_01 => "2018-05-01",
            ApiVersion::V2018_03_01 => "2018-03-01",
            ApiVersion::V2017_09_01Preview => "2017-09-01-preview",
        }
    }

    /// Whether others published it: it never changes, and shows nothing that they did not.
    pub fn is_frozen(self) -> bool {
        match self {
            ApiVersion::V2026_11_01Preview => false,
            ApiVersion::V2018_05_01 | ApiVersion::V2018_03_01 | ApiVersion::V2017_09_01Preview => true,
        }
    }

    /// Whether it knows no workspaces: what it has lies right below its group.
    pub fn is_flat(self) -> bool {
        matches!(self, ApiVersion::V2018_03_01 | ApiVersion::V2017_09_01Preview)
    }

    /// The version that a client named, if it is served.
    pub fn find(text: &str) -> Option<ApiVersion> {
        Self::ALL.into_iter().find(|version| version.as_str().eq_ignore_ascii_case(text))
    }

    /// All served versions, newest first, as messages list them.
    pub fn list(separator: &str) -> String {
        Self::ALL.map(ApiVersion::as_str).join(separator)
    }
}

/// Values of a request to seal, by the field's name.
pub type Secrets = BTreeMap<String, SecretText>;

/// A decoded request body: what is asked for and, apart from it, what must be sealed.
#[derive(Clone, Debug)]
pub struct Decoded<S> {
    /// What is asked for, defaults filled in.
    pub spec: S,
    /// Values to seal, by field name.
    pub secrets: Secrets,
}
