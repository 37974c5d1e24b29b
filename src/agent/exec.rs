//! Starts command lines: the one place where a shell is asked to.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::agent::layout::Variables;
use crate::domain::bootstrap::JobUser;

/// Shells that run command lines; the first that is there.
///
/// Source: recorded jobs use `bash` syntax.
pub(super) const SHELLS: [&str; 2] = ["/bin/bash", "/bin/sh"];

/// Starts `line` in a shell. Of two variables of a name the later counts. Its process group is its own; its input is empty. Answers its number.
///
/// # Errors
/// It cannot be started: no shell, no folder, no memory.
pub(super) fn start_shell(
    line: &str,
    directory: &Path,
    environment: [&Variables; 2],
    user: Option<&JobUser>,
    output: (File, File),
) -> io::Result<i32> {
    let shell = SHELLS.into_iter().find(|shell| Path::new(shell).exists()).unwrap_or("/bin/sh");
    let mut command = Command::new(shell);
    command
        .arg("-c")
        .arg(line)
        .current_dir(directory)
        .env_clear()
        .envs(environment.into_iter().flat_map(Variables::iter))
        .stdin(Stdio::null())
        .stdout(output.0)
        .stderr(output.1)
        .process_group(0);
    if let Some(user) = user {
        // The standard library clears the supplementary groups with it.
        command.uid(user.uid).gid(user.gid);
    }
    let child = command.spawn()?;
    // Reaped by number, with all others: the handle is of no use.
    i32::try_from(child.id()).map_err(io::Error::other)
}
