//! Where a job's directories are kept: on a share or a storage account that the server reads by itself, or in the archive.

use super::Service;
use super::agent::Level;
use crate::agent::protocol::Source;
use crate::domain::cluster::Cluster;
use crate::domain::job::{Job, JobSpec, STDOUTERR};
use crate::domain::mount::MountVolumes;
use crate::domain::output::{OutputPlace, StoragePlace};
use crate::domain::resource::{Envelope, NameValue};
use crate::domain::sas::StorageService;
use crate::domain::secret::SecretText;
use crate::domain::vault;
use crate::error::{Error, ErrorCode};
use crate::id::ResourceId;
use crate::store::resource;

/// What a path on a mounted storage begins with.
const ROOTS: [(Root, &str); 2] = [(Root::Cluster, "AZ_BATCHAI_MOUNT_ROOT"), (Root::Job, "AZ_BATCHAI_JOB_MOUNT_ROOT")];

impl Service {
    /// Where a job's directory is kept; `None` while the job has no attempt yet.
    ///
    /// # Errors
    /// `InvalidQueryParameterValue` where the job has no such directory; `JobNotFound` and its parents' codes; `ServiceUnavailable`.
    pub async fn output_place(&self, id: &ResourceId, directory: &str) -> Result<Option<OutputPlace>, Error> {
        let job = self.get::<Job>(id).await?;
        let Some(found) = find_directory(&job.spec, directory) else {
            return Err(Error::new(
                ErrorCode::InvalidQueryParameterValue,
                format!("The specified outputDirectoryId {directory} is not present on a mount root"),
            )
            .with_target("outputdirectoryid"));
        };
        let Some(attempt) = resource::last_attempt(self.pool(), job.uid).await? else { return Ok(None) };
        let variables = job.spec.environment.as_deref().unwrap_or_default();
        let archive = || OutputPlace::Archive { attempt, directory: found.id.to_owned() };
        let Some((root, path)) = below_mounts(found.prefix, variables) else { return Ok(Some(archive())) };
        let segment = format!("{}/{}", id_as_made(&job.path, id).output_segment(), job.uid);
        let folder = match found.suffix {
            None => STDOUTERR.to_owned(),
            Some(suffix) => join(["outputs", suffix]).unwrap_or_else(|| "outputs".to_owned()),
        };
        let within =
            |rest: &str| join([rest, &segment, &folder]).ok_or_else(|| Error::internal("an output path leaves its storage"));
        // What is mounted hides the share that is there without it.
        if let Some((mount, rest)) = self.mount_at(&job, root, &path).await? {
            return Ok(Some(match mount {
                Some(place) => OutputPlace::Storage(StoragePlace {
                    path: join([place.path.as_str(), &within(&rest)?]).unwrap_or_default(),
                    ..place
                }),
                None => archive(),
            }));
        }
        match self.inner.shares.iter().filter(|_| root == Root::Cluster).find_map(|share| below(&path, share)) {
            Some(rest) => Ok(Some(OutputPlace::Share { path: within(rest)? })),
            None => Ok(Some(archive())),
        }
    }

    /// The mount that `path` below a root is on, and the rest of the path; no place where the server keeps what is on it.
    async fn mount_at(
        &self,
        job: &Envelope<Job>,
        root: Root,
        path: &str,
    ) -> Result<Option<(Option<StoragePlace>, String)>, Error> {
        let found = |mounts: Option<&MountVolumes>| {
            let places = mounts.into_iter().flat_map(MountVolumes::relative_paths);
            places.into_iter().find_map(|place| Some((place.to_owned(), below(path, place)?.to_owned())))
        };
        let (level, owner, owner_path, mounts) = match root {
            Root::Job => (Level::Job, job.uid, job.path.clone(), job.spec.mount_volumes.clone()),
            Root::Cluster => {
                let id = ResourceId::parse(&job.spec.cluster).map_err(Error::internal)?;
                let cluster = resource::find::<Cluster>(self.pool(), &id.key()).await?;
                // Another of that name mounts something else.
                let cluster = cluster.filter(|cluster| cluster.created_at <= job.created_at);
                match cluster {
                    Some(cluster) => {
                        let mounts = cluster.spec.node_setup.and_then(|setup| setup.mount_volumes);
                        (Level::Cluster, cluster.uid, cluster.path, mounts)
                    }
                    // Its keys are gone with it: only what the server itself has of the output is there.
                    None => return Ok(None),
                }
            }
        };
        let Some((place, rest)) = found(mounts.as_ref()) else { return Ok(None) };
        let mut secrets = crate::store::secrets(self.pool(), owner).await?;
        let members = vault::of_mounts("mountVolumes", mounts.as_ref());
        if let Err(error) = self.fetch_vaulted((owner, &owner_path), members, &mut secrets).await? {
            return Err(Error::unavailable(std::io::Error::other(error.message)));
        }
        let planned = self.mounts(level, owner, owner, mounts.as_ref(), &secrets).await?.unwrap_or_default();
        let source = planned.into_iter().find(|mount| mount.place == place).map(|mount| mount.source);
        let key = match (mounts.as_ref().and_then(|mounts| mounts.key_field(&place)), &source) {
            (Some(field), Some(_)) => self.open_secret(owner, &field, &secrets)?,
            _ => return Ok(Some((None, rest))),
        };
        Ok(Some((source.and_then(|source| storage_of(source, SecretText(key))), rest)))
    }
}

/// Where the server lists what is on a mount; `None` where it does not.
fn storage_of(source: Source, key: SecretText) -> Option<StoragePlace> {
    match source {
        Source::Share { at, account, .. } => Some(StoragePlace {
            service: StorageService::File,
            base: at.rest?,
            account,
            key,
            container: at.share,
            path: at.directory,
        }),
        Source::Container { at, account, container, .. } => {
            Some(StoragePlace { service: StorageService::Blob, base: at, account, key, container, path: String::new() })
        }
        Source::Server { .. } | Source::Command { .. } => None,
    }
}

/// Whose mounts a path is below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Root {
    Cluster,
    Job,
}

/// A directory of a job. `suffix` is `None` for the standard one.
struct Directory<'a> {
    id: &'a str,
    prefix: &'a str,
    suffix: Option<&'a str>,
}

fn find_directory<'a>(spec: &'a JobSpec, id: &str) -> Option<Directory<'a>> {
    // Old notebooks write the standard one in other cases.
    if id.eq_ignore_ascii_case(STDOUTERR) {
        return Some(Directory { id: STDOUTERR, prefix: &spec.std_out_err_path_prefix, suffix: None });
    }
    let found = spec.output_directories.as_ref()?.iter().find(|directory| directory.id == id)?;
    let suffix = Some(found.path_suffix.as_deref().unwrap_or_default());
    Some(Directory { id: &found.id, prefix: &found.path_prefix, suffix })
}

/// The id with the names' case of creation, as the node's paths have it.
fn id_as_made(path: &str, asked: &ResourceId) -> ResourceId {
    ResourceId::parse(path).unwrap_or_else(|_| asked.clone())
}

/// The root of mounts that `prefix` is below, and the path there; `None` where it is elsewhere. Variables of the user are replaced as
/// the node replaces them.
fn below_mounts(prefix: &str, variables: &[NameValue]) -> Option<(Root, String)> {
    let rest = prefix.strip_prefix('$')?;
    let (root, rest) = ROOTS.iter().find_map(|(root, name)| {
        let rest = rest.strip_prefix(name).or_else(|| rest.strip_prefix(&format!("{{{name}}}")))?;
        (rest.is_empty() || rest.starts_with('/')).then_some((*root, rest))
    })?;
    let mut rest = rest.to_owned();
    for variable in variables {
        rest = rest.replace(&format!("${{{}}}", variable.name), &variable.value);
    }
    Some((root, join([rest.as_str()])?))
}

/// What is left of `path` below `place`, if it is there.
fn below<'p>(path: &'p str, place: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(place)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

/// The parts as one path without `.` and empty segments; `None` where one is `..`.
fn join<const N: usize>(parts: [&str; N]) -> Option<String> {
    let mut segments = Vec::new();
    for segment in parts.iter().flat_map(|part| part.split('/')) {
        match segment {
            "" | "." => {}
            ".." => return None,
            segment => segments.push(segment),
        }
    }
    Some(segments.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_share(prefix: &str) -> Option<String> {
        let variables = [NameValue { name: "RUN".into(), value: "seven".into() }];
        let (root, path) = below_mounts(prefix, &variables)?;
        (root == Root::Cluster).then(|| below(&path, "shared").map(str::to_owned))?
    }

    #[test]
    fn a_prefix_is_on_a_share_or_not() {
        assert_eq!(on_share("$AZ_BATCHAI_MOUNT_ROOT/shared").as_deref(), Some(""));
        assert_eq!(on_share("${AZ_BATCHAI_MOUNT_ROOT}/shared/a//b/").as_deref(), Some("a/b"));
        assert_eq!(on_share("$AZ_BATCHAI_MOUNT_ROOT/shared/${RUN}").as_deref(), Some("seven"));
        for other in [
            "$AZ_BATCHAI_MOUNT_ROOT",
            "$AZ_BATCHAI_MOUNT_ROOT/sharedx",
            "$AZ_BATCHAI_MOUNT_ROOTX/shared",
            "$AZ_BATCHAI_MOUNT_ROOT/afs",
            "$AZ_BATCHAI_MOUNT_ROOT/shared/../afs",
            "$AZ_BATCHAI_JOB_TEMP",
            "/shared",
            "shared",
        ] {
            assert_eq!(on_share(other), None, "{other}");
        }
    }
}
