//! Addresses of resources: names become a path, and a whole id names them all.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Failure, Result};

/// What stays as it is in a segment of a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'(').remove(b')');

/// What kind of thing an address leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A resource group.
    Group,
    /// A workspace.
    Workspace,
    /// A cluster.
    Cluster,
    /// A file server.
    FileServer,
    /// An experiment.
    Experiment,
    /// A job.
    Job,
}

impl Kind {
    /// As sentences name it.
    pub fn noun(self) -> &'static str {
        match self {
            Kind::Group => "group",
            Kind::Workspace => "workspace",
            Kind::Cluster => "cluster",
            Kind::FileServer => "file-server",
            Kind::Experiment => "experiment",
            Kind::Job => "job",
        }
    }

    /// Its segment in a path below what holds it.
    fn segment(self) -> &'static str {
        match self {
            Kind::Group => "resourceGroups",
            Kind::Workspace => "workspaces",
            Kind::Cluster => "clusters",
            Kind::FileServer => "fileServers",
            Kind::Experiment => "experiments",
            Kind::Job => "jobs",
        }
    }

    /// The kinds on the way to it, itself the last.
    fn way(self) -> &'static [Kind] {
        match self {
            Kind::Group => &[Kind::Group],
            Kind::Workspace => &[Kind::Group, Kind::Workspace],
            Kind::Cluster => &[Kind::Group, Kind::Workspace, Kind::Cluster],
            Kind::FileServer => &[Kind::Group, Kind::Workspace, Kind::FileServer],
            Kind::Experiment => &[Kind::Group, Kind::Workspace, Kind::Experiment],
            Kind::Job => &[Kind::Group, Kind::Workspace, Kind::Experiment, Kind::Job],
        }
    }
}

/// The address of one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What it is.
    pub kind: Kind,
    /// The subscription.
    pub subscription: String,
    /// The names on the way, its own the last.
    pub names: Vec<String>,
}

impl Place {
    /// The resource of these names.
    ///
    /// # Errors
    /// A name is empty or holds what no name may.
    pub fn new(subscription: &str, kind: Kind, names: Vec<String>) -> Result<Place> {
        for (kind, name) in kind.way().iter().zip(&names) {
            let fits = |c: char| c.is_alphanumeric() || "-_.()".contains(c);
            if name.is_empty() || !name.chars().all(fits) {
                let shown: String = name.chars().take(80).collect();
                return Err(Failure::usage(format!(
                    "'{}' is no name of a {}: letters, digits, '-' and '_'",
                    shown.escape_debug(),
                    kind.noun()
                )));
            }
        }
        Ok(Place { kind, subscription: subscription.to_owned(), names })
    }

    /// Reads a whole id, in any case; `None` where it is none of this kind.
    pub fn parse(id: &str, kind: Kind) -> Option<Place> {
        let mut segments = id.trim_end_matches('/').strip_prefix('/')?.split('/');
        segments.next().filter(|word| word.eq_ignore_ascii_case("subscriptions"))?;
        let subscription = segments.next()?.to_owned();
        let mut names = Vec::new();
        for step in kind.way() {
            if *step == Kind::Workspace {
                segments.next().filter(|word| word.eq_ignore_ascii_case("providers"))?;
                segments.next().filter(|word| word.eq_ignore_ascii_case("Microsoft.BatchAI"))?;
            }
            segments.next().filter(|word| word.eq_ignore_ascii_case(step.segment()))?;
            names.push(segments.next().filter(|name| !name.is_empty())?.to_owned());
        }
        segments.next().is_none().then_some(Place { kind, subscription, names })
    }

    /// Its own name.
    pub fn name(&self) -> &str {
        self.names.last().map_or("", String::as_str)
    }

    /// Its path, which is its id.
    pub fn path(&self) -> String {
        let mut path = format!("/subscriptions/{}", encode(&self.subscription));
        for (kind, name) in self.kind.way().iter().zip(&self.names) {
            if *kind == Kind::Workspace {
                path.push_str("/providers/Microsoft.BatchAI");
            }
            path.push('/');
            path.push_str(kind.segment());
            path.push('/');
            path.push_str(&encode(name));
        }
        path
    }

    /// What holds it: another kind on its way.
    pub fn above(&self, kind: Kind) -> Place {
        let depth = kind.way().len();
        Place { kind, subscription: self.subscription.clone(), names: self.names.iter().take(depth).cloned().collect() }
    }

    /// Something in it.
    pub fn below(&self, kind: Kind, name: &str) -> Place {
        let mut names = self.names.clone();
        names.push(name.to_owned());
        Place { kind, subscription: self.subscription.clone(), names }
    }

    /// The path of the list of what is in it.
    pub fn list(&self, kind: Kind) -> String {
        let provider = if kind == Kind::Workspace { "/providers/Microsoft.BatchAI" } else { "" };
        format!("{}{provider}/{}", self.path(), kind.segment())
    }
}

/// A segment of a path.
pub fn encode(segment: &str) -> String {
    utf8_percent_encode(segment, SEGMENT).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_lead_to_the_same() {
        let names = ["g", "w", "e", "j"].map(str::to_owned).to_vec();
        let job = Place::new("s", Kind::Job, names).expect("a place");
        assert_eq!(job.path(), "/subscriptions/s/resourceGroups/g/providers/Microsoft.BatchAI/workspaces/w/experiments/e/jobs/j");
        assert_eq!(Place::parse(&job.path(), Kind::Job), Some(job.clone()));
        assert_eq!(Place::parse(&job.path().to_uppercase(), Kind::Job).map(|place| place.names.len()), Some(4));
        assert_eq!(Place::parse(&job.path(), Kind::Cluster), None);
        assert_eq!(Place::parse("j", Kind::Job), None);
        assert_eq!(job.above(Kind::Workspace).list(Kind::Cluster), format!("{}/clusters", job.above(Kind::Workspace).path()));
    }

    #[test]
    fn names_never_leave_their_segment() {
        for name in ["", "a/b", "a?b", "a#b", "a b", "a\nb", "%2f"] {
            assert!(Place::new("s", Kind::Group, vec![name.to_owned()]).is_err(), "{name:?}");
        }
    }
}
