//! Links to output files: signed, scoped to one file of one attempt, and expiring. No token is needed to follow one.
//!
//! A link's path is where the file is in the documented layout, so that people recognise it. The proof covers everything that
//! decides what is read: the job's identity, the attempt, the directory, the path and the expiry.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use time::format_description::well_known::Rfc3339;

use crate::clock::Timestamp;
use crate::domain::job::{Job, JobSpec, STDOUTERR};
use crate::domain::output::OutputPlace;
use crate::domain::resource::Envelope;
use crate::error::{Error, ErrorCode};
use crate::http::query::Query;
use crate::id::{AttemptUid, ResourceId, ResourceUid};
use crate::sign::{Purpose, Signer};
use crate::wire::times::whole;

/// The version of links; part of the proof.
const VERSION: &str = "1";

/// In place of an attempt where the file is on a share.
const SHARE: &str = "share";

/// What stands in a path as it is.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What a link leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Linked {
    /// The job, in the one life that the link was made in.
    pub(crate) job: ResourceUid,
    /// The attempt that wrote the file; `None` where it is on a share.
    pub(crate) attempt: Option<AttemptUid>,
    /// The directory's id.
    pub(crate) directory: String,
    /// The path in the layout, as the link shows it.
    shown: String,
    /// The path below the directory, where the link cannot show it.
    actual: Option<String>,
}

impl Linked {
    /// The path of the file below its directory.
    pub(crate) fn path(&self, spec: &JobSpec) -> Option<String> {
        match &self.actual {
            Some(path) => Some(path.clone()),
            None => {
                let folder = folder_of(spec, &self.directory)?;
                self.shown.strip_prefix(&folder)?.strip_prefix('/').map(str::to_owned)
            }
        }
    }
}

/// Where a directory is in the layout below the job's own folder; `None` where the job has no such directory.
///
/// Source: recorded paths of links.
fn folder_of(spec: &JobSpec, directory: &str) -> Option<String> {
    if directory == STDOUTERR {
        return Some(STDOUTERR.to_owned());
    }
    let output = spec.output_directories.iter().flatten().find(|output| output.id == directory)?;
    Some(match &output.path_suffix {
        Some(suffix) => format!("outputs/{suffix}"),
        None => "outputs".to_owned(),
    })
}

/// The maker of the links of one directory.
pub(crate) struct Maker<'a> {
    signer: &'a Signer,
    base: &'a str,
    job: ResourceUid,
    segment: String,
    attempt: Option<AttemptUid>,
    directory: &'a str,
    folder: String,
    expires: String,
}

impl<'a> Maker<'a> {
    /// For files of `directory` of a stored job, kept at `place`.
    ///
    /// # Errors
    /// `InternalServerError` where the stored job's path is none, or it has no such directory.
    pub(crate) fn new(
        signer: &'a Signer,
        base: &'a str,
        stored: &Envelope<Job>,
        directory: &'a str,
        place: &OutputPlace,
        expires: Timestamp,
    ) -> Result<Maker<'a>, Error> {
        let id = ResourceId::parse(&stored.path).map_err(Error::internal)?;
        let folder = folder_of(&stored.spec, directory);
        Ok(Maker {
            signer,
            base,
            job: stored.uid,
            // The route of links has all names, also those that an older version left out.
            segment: format!("{}/{}", id.whole_segment(), stored.uid),
            attempt: match place {
                OutputPlace::Share { .. } | OutputPlace::Storage(_) => None,
                OutputPlace::Archive { attempt, .. } => Some(*attempt),
            },
            directory,
            folder: folder.ok_or_else(|| Error::internal(format!("the job has no output directory {directory}")))?,
            expires: whole(expires),
        })
    }

    /// The link to the file at `path` below the directory.
    pub(crate) fn link(&self, path: &str) -> String {
        let full = format!("{}/{path}", self.folder);
        let shown = full.split('/').map(shown_segment).collect::<Vec<_>>().join("/");
        let linked = Linked {
            job: self.job,
            attempt: self.attempt,
            directory: self.directory.to_owned(),
            actual: (shown != full).then(|| path.to_owned()),
            shown,
        };
        let proof = sign(self.signer, &linked, &self.expires);
        let encode = |text: &str| utf8_percent_encode(text, UNRESERVED).to_string();
        let encoded: Vec<String> = format!("{}/{}", self.segment, linked.shown).split('/').map(encode).collect();
        let mut url = format!(
            "{}/files/{}?sv={VERSION}&sr=f&a={}&d={}",
            self.base,
            encoded.join("/"),
            attempt_text(linked.attempt),
            encode(&linked.directory)
        );
        if let Some(actual) = &linked.actual {
            url.push_str(&format!("&n={}", encode(actual)));
        }
        url.push_str(&format!("&se={}&sp=r&sig={proof}", encode(&self.expires)));
        url
    }
}

/// A segment as a path may show it: one that the canonicaliser would refuse is made harmless, and told apart in the query.
fn shown_segment(segment: &str) -> String {
    match segment {
        "" | "." | ".." => "_".to_owned(),
        _ => segment.chars().map(|c| if matches!(c, '\\' | '%') || c.is_control() { '_' } else { c }).collect(),
    }
}

/// Reads a link: the job's identity and the layout path as its path shows them, and its query.
///
/// # Errors
/// `InvalidLink` where anything was altered, is missing or has expired.
pub(crate) fn check(signer: &Signer, job: &str, shown: String, query: &Query, now: Timestamp) -> Result<Linked, Error> {
    let refused =
        || Error::new(ErrorCode::InvalidLink, "The link is altered or has expired. List the files again for a new one.");
    let get = |name: &str| query.get(name).ok_or_else(refused);
    let expires = get("se")?;
    let linked = Linked {
        job: uuid::Uuid::try_parse(job).map(ResourceUid).map_err(|_| refused())?,
        attempt: match get("a")? {
            SHARE => None,
            text => Some(uuid::Uuid::try_parse(text).map(AttemptUid).map_err(|_| refused())?),
        },
        directory: get("d")?.to_owned(),
        shown,
        actual: query.get("n").map(str::to_owned),
    };
    let genuine = get("sv")? == VERSION && signer.verify(Purpose::Link, &fields(&linked, expires).each(), get("sig")?);
    let until = Timestamp::parse(expires, &Rfc3339).map_err(|_| refused())?;
    if !genuine || now >= until {
        return Err(refused());
    }
    Ok(linked)
}

fn sign(signer: &Signer, linked: &Linked, expires: &str) -> String {
    signer.sign(Purpose::Link, &fields(linked, expires).each())
}

struct Fields<'a> {
    linked: &'a Linked,
    attempt: String,
    expires: &'a str,
}

impl Fields<'_> {
    fn each(&self) -> [&[u8]; 8] {
        let actual = self.linked.actual.as_deref();
        [
            VERSION.as_bytes(),
            self.linked.job.0.as_bytes(),
            self.attempt.as_bytes(),
            self.linked.directory.as_bytes(),
            self.linked.shown.as_bytes(),
            if actual.is_some() { b"n" } else { b"" },
            actual.unwrap_or_default().as_bytes(),
            self.expires.as_bytes(),
        ]
    }
}

fn fields<'a>(linked: &'a Linked, expires: &'a str) -> Fields<'a> {
    Fields { linked, attempt: attempt_text(linked.attempt), expires }
}

fn attempt_text(attempt: Option<AttemptUid>) -> String {
    attempt.map_or_else(|| SHARE.to_owned(), |attempt| attempt.to_string())
}

#[cfg(test)]
mod tests {
    use axum::http::Uri;
    use time::macros::datetime;
    use uuid::Uuid;

    use super::*;
    use crate::domain::job::{Framework, JobStatus, OutputDirectory, Priority};
    use crate::domain::resource::Provisioning;
    use crate::http::path::segments;
    use crate::id::SubscriptionId;

    const NOW: Timestamp = datetime!(2026-01-01 12:00 UTC);

    fn job() -> Envelope<Job> {
        let subscription = SubscriptionId(Uuid::from_u128(1));
        Envelope {
            uid: ResourceUid(Uuid::from_u128(2)),
            subscription,
            path: format!(
                "/subscriptions/{subscription}/resourceGroups/rg/providers/Microsoft.BatchAI/workspaces/w/experiments/e/jobs/j"
            ),
            name: "j".into(),
            location: "eastus".into(),
            tags: None,
            spec: JobSpec {
                priority: Priority::Normal,
                cluster: String::new(),
                node_count: 1,
                mount_volumes: None,
                container: None,
                framework: Framework::Custom { command_line: None },
                preparation: None,
                std_out_err_path_prefix: "$AZ_BATCHAI_MOUNT_ROOT/x".into(),
                input_directories: None,
                output_directories: Some(vec![OutputDirectory {
                    id: "OUT".into(),
                    path_prefix: "$AZ_BATCHAI_MOUNT_ROOT/x".into(),
                    path_suffix: Some("files".into()),
                }]),
                environment: None,
                secrets: None,
                max_wall_clock_s: 1,
                retries: vec![],
                older: None,
            },
            status: JobStatus::queued(NOW),
            provisioning: Provisioning::Succeeded,
            provisioned_at: NOW,
            created_at: NOW,
            updated_at: NOW,
            generation: 1,
            revision: 1,
        }
    }

    fn place() -> OutputPlace {
        OutputPlace::Archive { attempt: AttemptUid(Uuid::from_u128(3)), directory: "OUT".into() }
    }

    fn follow(signer: &Signer, url: &str, now: Timestamp) -> Result<Linked, Error> {
        let uri: Uri = url.parse().expect("a URL");
        let segments = segments(uri.path()).expect("a canonical path");
        let (_, rest) = segments.split_at(10);
        let query = Query::parse(uri.query().unwrap_or_default()).expect("a query");
        check(signer, &segments[9], rest.join("/"), &query, now)
    }

    #[test]
    fn a_link_leads_to_its_file_until_it_expires() {
        let (signer, job) = (Signer::new(&[1; 32]), job());
        let expires = NOW + std::time::Duration::from_secs(300);
        let maker = Maker::new(&signer, "http://localhost:1", &job, "OUT", &place(), expires).expect("a maker");
        for path in ["hi.txt", "a/b c/ä.txt", "50%.png", "back\\slash", "line\nbreak", "a%2Fb", "x+y&z=#?.txt"] {
            let url = maker.link(path);
            assert!(url.starts_with("http://localhost:1/files/00000000-0000-0000-0000-000000000001/rg/workspaces/w/"), "{url}");
            assert!(url.contains(&format!("/jobs/j/{}/outputs/files/", job.uid)), "{url}");
            let linked = follow(&signer, &url, NOW).expect("a good link");
            assert_eq!(linked.path(&job.spec).as_deref(), Some(path));
            assert_eq!(follow(&signer, &url, expires).expect_err("expired").code, ErrorCode::InvalidLink);
            assert!(follow(&Signer::new(&[2; 32]), &url, NOW).is_err());
        }
    }

    #[test]
    fn a_job_that_an_older_version_made_has_links_that_lead_somewhere() {
        let (signer, mut job) = (Signer::new(&[1; 32]), job());
        job.path = job.path.replace("workspaces/w/experiments/e", "workspaces/migrated-eastus/experiments/migrated");
        let expires = NOW + std::time::Duration::from_secs(300);
        let url = Maker::new(&signer, "http://h", &job, "OUT", &place(), expires).expect("a maker").link("a/b");
        let linked = follow(&signer, &url, NOW).expect("a good link");
        assert_eq!(linked.path(&job.spec).as_deref(), Some("a/b"));
    }

    #[test]
    fn each_part_tampered_is_refused() {
        let (signer, job) = (Signer::new(&[1; 32]), job());
        let expires = NOW + std::time::Duration::from_secs(300);
        let maker = Maker::new(&signer, "http://localhost", &job, "OUT", &place(), expires).expect("a maker");
        let url = maker.link("50%.txt");
        let changes = [
            ("sv=1", "sv=2"),
            ("a=00000000-0000-0000-0000-000000000003", "a=00000000-0000-0000-0000-000000000004"),
            ("a=00000000-0000-0000-0000-000000000003", "a=share"),
            ("d=OUT", "d=stdouterr"),
            ("n=50%25.txt", "n=51%25.txt"),
            ("&n=50%25.txt", ""),
            ("2026-01-01T12%3A05", "2026-01-01T13%3A05"),
            ("outputs/files/50_.txt", "outputs/files/51_.txt"),
            ("jobs/j/00000000-0000-0000-0000-000000000002", "jobs/j/00000000-0000-0000-0000-000000000005"),
            ("sig=", "sig=A"),
        ];
        for (from, to) in changes {
            assert!(url.contains(from), "{from} in {url}");
            let altered = url.replacen(from, to, 1);
            assert_eq!(follow(&signer, &altered, NOW).expect_err("altered").code, ErrorCode::InvalidLink, "{altered}");
        }
    }
}
