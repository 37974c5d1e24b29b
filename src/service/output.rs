//! Where a job's directories are kept: on a share that the server reads by itself, or in the archive.

use super::Service;
use crate::domain::job::{Job, JobSpec, STDOUTERR};
use crate::domain::output::OutputPlace;
use crate::domain::resource::NameValue;
use crate::error::{Error, ErrorCode};
use crate::id::ResourceId;
use crate::store::resource;

/// What a path on a mounted storage begins with.
const MOUNT_ROOT: &str = "AZ_BATCHAI_MOUNT_ROOT";

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
        if let Some(on_share) = share_path(found.prefix, &self.inner.shares, variables) {
            let segment = format!("{}/{}", id_as_made(&job.path, id).output_segment(), job.uid);
            let below = match found.suffix {
                None => STDOUTERR.to_owned(),
                Some(suffix) => join(["outputs", suffix]).unwrap_or_else(|| "outputs".to_owned()),
            };
            let path =
                join([on_share.as_str(), &segment, &below]).ok_or_else(|| Error::internal("an output path leaves its share"))?;
            return Ok(Some(OutputPlace::Share { path }));
        }
        Ok(Some(OutputPlace::Archive { attempt, directory: found.id.to_owned() }))
    }
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

/// The path below the root of a share that `prefix` means; `None` where it is on no share. Variables of the user are replaced as the
/// node replaces them.
fn share_path(prefix: &str, shares: &[String], variables: &[NameValue]) -> Option<String> {
    let rest = prefix.strip_prefix('$')?;
    let rest = rest.strip_prefix(MOUNT_ROOT).or_else(|| rest.strip_prefix(&format!("{{{MOUNT_ROOT}}}")))?;
    if !rest.is_empty() && !rest.starts_with('/') {
        return None;
    }
    let mut rest = rest.to_owned();
    for variable in variables {
        rest = rest.replace(&format!("${{{}}}", variable.name), &variable.value);
    }
    let path = join([rest.as_str()])?;
    shares.iter().find_map(|share| {
        let below = path.strip_prefix(share.as_str())?;
        if below.is_empty() { Some(String::new()) } else { below.strip_prefix('/').map(str::to_owned) }
    })
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
        share_path(prefix, &["shared".into()], &variables)
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
