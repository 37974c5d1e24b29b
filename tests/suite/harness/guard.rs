//! A folder for one installation, and a shell beside it that leaves nothing of it behind.
//!
//! The shell waits for the end of a pipe that the kernel closes with this process, however that ends. Then it kills what was started
//! from the folder (by id, each found by the folder's name in its arguments), and removes its mounts, control groups and files.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const GUARD: &str = r#"
trap '' INT TERM HUP
dir=$(mktemp -d /tmp/byt.XXXXXX) || exit 1
chmod 711 "$dir"
cd /
echo "$dir"
cat >/dev/null
ours() {
    for entry in /proc/[0-9]*; do
        pid=${entry#/proc/}
        [ "$pid" != $$ ] || continue
        if tr '\0' '\n' 2>/dev/null <"$entry/cmdline" | grep -qF "$dir/" || [[ $(readlink "$entry/cwd" 2>/dev/null) == "$dir"* ]]; then
            echo "$pid"
        fi
    done
}
for round in $(seq 100); do
    pids=$(ours)
    [ -n "$pids" ] || break
    kill -KILL $pids 2>/dev/null
    sleep 0.05
done
for mount in $(awk -v d="$dir/" 'index($5, d) == 1 { print $5 }' /proc/self/mountinfo | sort -r); do umount -l "$mount"; done
for tenant in $(sed -n "s/^BATCHYARD_TENANT='\{0,1\}\([0-9a-f]\{8\}\).*/\1/p" "$dir"/env* 2>/dev/null | sort -u); do
    for round in $(seq 100); do
        groups=$(find /sys/fs/cgroup -depth -type d -path "*/batchyard-by$tenant*" 2>/dev/null)
        [ -n "$groups" ] || break
        rmdir $groups 2>/dev/null
        sleep 0.05
    done
done
rm -rf --one-file-system "$dir"
"#;

/// A folder that is surely removed, with all that runs from it.
pub struct Guard {
    shell: Child,
    dir: PathBuf,
}

impl Guard {
    /// A new folder below `/tmp`: its path is short, as paths of sockets must be.
    pub fn new() -> Guard {
        let mut shell = Command::new("bash")
            .args(["-c", GUARD])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("bash runs");
        let mut line = String::new();
        BufReader::new(shell.stdout.take().expect("piped")).read_line(&mut line).expect("reads");
        let dir = PathBuf::from(line.trim_end());
        assert!(dir.is_dir(), "the guard made a folder");
        assert_eq!(std::fs::metadata(&dir).expect("is there").permissions().mode() & 0o777, 0o711);
        Guard { shell, dir }
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}
