//! What a person sees: on a pseudo-terminal, read back as a screen.

use std::io::Read;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::Shell;

/// A program on a terminal.
struct Screen {
    child: Child,
    rows: u16,
    columns: u16,
    bytes: std::sync::mpsc::Receiver<Vec<u8>>,
    seen: Vec<u8>,
}

impl Screen {
    fn of(shell: &Shell, rows: u16, columns: u16, words: &str) -> Screen {
        let line = format!("stty rows {rows} cols {columns}; exec {} {words}", env!("CARGO_BIN_EXE_batchyard"));
        let mut child = shell
            .command("script")
            .args(["-qfec", &line, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("script, of Debian's essential packages, runs");
        let mut out = child.stdout.take().expect("piped");
        let (sender, bytes) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count) = out.read(&mut buffer) {
                if count == 0 || sender.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Screen { child, rows, columns, bytes, seen: Vec::new() }
    }

    fn text(&self) -> String {
        let size = |count| std::num::NonZero::new(count).expect("a window has a size");
        let mut parser = vt100::Parser::new(size(self.rows), size(self.columns), 0);
        parser.process(&self.seen);
        parser.screen().contents()
    }

    /// Waits until the screen shows what is wanted.
    #[track_caller]
    fn until(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let began = Instant::now();
        loop {
            let text = self.text();
            if wanted(&text) {
                return text;
            }
            let left = Duration::from_secs(60).saturating_sub(began.elapsed());
            match self.bytes.recv_timeout(left) {
                Ok(bytes) => self.seen.extend(bytes),
                Err(_) => panic!("{what} is not shown; the screen:\n{text}"),
            }
        }
    }

    /// Waits for the end and answers the exit code.
    fn end(mut self) -> (i32, String) {
        while let Ok(bytes) = self.bytes.recv_timeout(Duration::from_secs(60)) {
            self.seen.extend(bytes);
        }
        let status = self.child.wait().expect("ends");
        (status.code().unwrap_or(-1), self.text())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn tables_fit_the_window_and_names_are_never_cut() {
    let shell = Shell::at_work();
    shell.run("cluster create -n a-cluster-with-a-long-name -s STANDARD_D1 -t 0").expect(0);
    for columns in [60, 100, 200] {
        let (code, text) = Screen::of(&shell, 24, columns, "cluster list").end();
        assert_eq!(code, 0);
        assert!(text.contains("a-cluster-with-a-long-name"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= usize::from(columns)), "{text}");
        assert_eq!(text.contains("columns hidden"), columns < 200, "{text}");
        assert_eq!(text.contains("Target"), columns == 200, "{text}");
    }
    let (_, text) = Screen::of(&shell, 24, 100, "cluster show -n a-cluster-with-a-long-name").end();
    assert!(text.contains("VM Size") && text.contains("STANDARD_D1"), "a sheet: {text}");
}

#[test]
fn colours_are_only_on_a_terminal_and_only_where_they_are_wanted() {
    let mut shell = Shell::at_work();
    shell.run("cluster create -s STANDARD_D1 -t 0").expect(0);
    let coloured = |shell: &Shell, words: &str| {
        let mut screen = Screen::of(shell, 24, 100, words);
        screen.until("its end", |text| text.contains("queue: empty"));
        screen.seen.contains(&0x1b)
    };
    assert!(coloured(&shell, "cluster watch --once"));
    assert!(!coloured(&shell, "cluster watch --once --color never"));
    shell.set("NO_COLOR", "1");
    assert!(!coloured(&shell, "cluster watch --once"));
    assert!(!shell.run("cluster watch --once").expect(0).out.contains('\u{1b}'));
}

#[test]
fn a_cluster_is_watched_while_it_fills_and_works() {
    let shell = Shell::at_work();
    shell.run("cluster create -s STANDARD_D1 -t 1").expect(0);
    let mut screen = Screen::of(&shell, 24, 100, "cluster watch --interval 1");
    screen.until("a node", |text| text.contains("1 of 1 nodes: 1 idle") && text.contains("n1") && text.contains("queue: empty"));
    shell.run("job create -n w1 --command 'while true; do true; done'").expect(0);
    shell.run("job create -n w2 --command true").expect(0);
    let text = screen.until("a job on the node", |text| text.contains("e/w1") && text.contains("1 job needs 1 node"));
    assert_eq!(text.matches("STANDARD_D1").count(), 1, "drawn in place: {text}");
    let mut top = Screen::of(&shell, 24, 100, "job top -n w1 --interval 1");
    let text = top.until("the node of the job", |text| text.contains("Rank") && text.contains("running"));
    assert!(text.contains("attempt 1"), "{text}");
    // "running", a share of a core, and bytes.
    let uses = |line: &str| line.contains("running") && line.contains(" % ") && line.contains("iB");
    top.until("what it uses", |text| text.lines().any(uses));
    shell.run("job terminate -n w1 -y").expect(0);
    let (code, _) = top.end();
    assert_eq!(code, 0, "it ends with the job");
    screen.until("an empty queue", |text| text.contains("queue: empty") && text.contains("1 idle"));
    shell.run("cluster delete -y").expect(0);
    assert_eq!(screen.end().0, 0, "it ends with the cluster");
}

#[test]
fn what_a_job_writes_does_not_drive_the_terminal() {
    let shell = Shell::at_work();
    shell.run("cluster create -s STANDARD_D1 -t 1").expect(0);
    let (code, text) = Screen::of(&shell, 24, 100, r#"job create -n esc --command 'printf "a\033[2Jb\n"' --follow"#).end();
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("a\\x1b[2Jb"), "{text}");
    assert!(text.contains("esc succeeded exit 0"), "{text}");
}

#[test]
fn what_cannot_be_undone_is_asked() {
    use std::io::Write;
    let shell = Shell::at_work();
    let mut screen = Screen::of(&shell, 24, 100, "experiment delete");
    screen.until("the question", |text| text.contains("Delete the experiment e") && text.contains("[y/N]"));
    screen.child.stdin.as_mut().expect("piped").write_all(b"n\n").expect("answers");
    assert_eq!(screen.end().0, 2);
    shell.run("experiment show").expect(0);
    let mut screen = Screen::of(&shell, 24, 100, "experiment delete");
    screen.until("the question", |text| text.contains("[y/N]"));
    screen.child.stdin.as_mut().expect("piped").write_all(b"y\n").expect("answers");
    assert_eq!(screen.end().0, 0);
    shell.run("experiment show").expect(3);
}
