//! Outputs on a share and in the archive: what is kept is read back, and nothing outside is ever reached.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use batchyard::auth::{Installation, Keys};
use batchyard::clock::{SystemClock, Timestamp};
use batchyard::domain::output::{OutputEntry, OutputPiece, OutputPlace, PieceContent};
use batchyard::error::{Error, ErrorCode};
use batchyard::files::{Files, archive};
use batchyard::id::AttemptUid;
use batchyard::service::OutputStore;
use batchyard::store::{Settings, Store, StoreError};
use bytes::Bytes;
use futures_util::TryStreamExt;
use rustix::fs::{FileType, Mode, RenameFlags};
use uuid::Uuid;

use crate::postgres::empty_database;

/// A folder that is gone afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        let path = std::env::temp_dir().join(format!("batchyard-files-{}", Uuid::new_v4()));
        fs::create_dir(&path).expect("makes");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct World {
    url: String,
    store: Store,
    files: Files,
    folder: Folder,
}

async fn world() -> World {
    let folder = Folder::new();
    let url = empty_database().await;
    let settings = Settings { url: url.clone(), connections: 8, wait: Duration::from_secs(10) };
    let store = Store::connect(&settings).await.expect("connects");
    store.migrate().await.expect("migrates");
    let keys = Keys::load_or_create(folder.0.join("keys")).expect("makes keys");
    Installation::ensure(&store, &keys, &folder.0, &SystemClock).await.expect("installs");
    fs::create_dir(folder.0.join("share")).expect("makes");
    let objects = archive(folder.0.join("archive").to_str().expect("text"), &[]).expect("opens");
    let files = Files::new(store.clone(), Some(folder.0.join("share")), objects);
    World { url, store, files, folder }
}

impl World {
    fn share(&self) -> PathBuf {
        self.folder.0.join("share")
    }

    /// An attempt of a job, so that outputs may refer to it.
    async fn attempt(&self) -> AttemptUid {
        let pool = sqlx::PgPool::connect(&self.url).await.expect("connects");
        let (group, job, attempt) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
        let insert =
            "insert into batchyard.resource (uid, subscription_id, kind, parent_uid, key, path, name, location, spec, status,
            provisioning, provisioned_at, created_at, updated_at, phase, rank, node_count)
            values ($1, $1, $2, $3, $4, '', '', '', '{}', '{}', 'succeeded', now(), now(), now(), $5, $6, $7)";
        for (uid, kind, parent, phase, number) in
            [(group, "group", None, None, None), (job, "job", Some(group), Some("running"), Some(1))]
        {
            sqlx::query(insert)
                .bind(uid)
                .bind(kind)
                .bind(parent)
                .bind(uid.to_string())
                .bind(phase)
                .bind(number.map(|n: i32| i16::try_from(n).expect("small")))
                .bind(number)
                .execute(&pool)
                .await
                .expect("inserts");
        }
        sqlx::query(
            "insert into batchyard.attempt (uid, job_uid, number, state, created_at) values ($1, $2, 1, 'released', now())",
        )
        .bind(attempt)
        .bind(job)
        .execute(&pool)
        .await
        .expect("inserts");
        AttemptUid(attempt)
    }

    async fn text(&self, place: &OutputPlace, path: &str) -> Result<String, Error> {
        let size = self.files.stat(place, path).await?.size;
        self.range(place, path, 0, size).await
    }

    async fn range(&self, place: &OutputPlace, path: &str, start: u64, end: u64) -> Result<String, Error> {
        let stream = self.files.read(place, path, start..end).await?;
        let pieces: Vec<Bytes> = stream.try_collect().await?;
        assert!(pieces.iter().all(|piece| !piece.is_empty() && piece.len() <= 1024 * 1024), "bounded pieces");
        Ok(String::from_utf8(pieces.concat()).expect("text"))
    }
}

fn place() -> OutputPlace {
    OutputPlace::Share { path: "job/outputs".into() }
}

fn names(entries: &[OutputEntry]) -> Vec<(&str, bool)> {
    entries.iter().map(|entry| (entry.name.as_str(), entry.file.is_some())).collect()
}

fn piece(attempt: AttemptUid, path: &str, generation: u32, start: u64, text: &str) -> OutputPiece {
    OutputPiece {
        attempt,
        directory: "stdouterr".into(),
        path: path.into(),
        generation,
        start,
        modified_at: Timestamp::from_unix_timestamp(1_700_000_000 + i64::try_from(start).expect("small")).expect("is a time"),
        content: PieceContent::Inline(Bytes::copy_from_slice(text.as_bytes())),
    }
}

#[tokio::test]
async fn what_a_job_wrote_on_the_share_is_listed_and_read() {
    let world = world().await;
    let root = world.share().join("job/outputs");
    fs::create_dir_all(root.join("checkpoints/b")).expect("makes");
    fs::write(root.join("b.txt"), "hello").expect("writes");
    fs::write(root.join("a.txt"), "").expect("writes");
    fs::write(root.join("Z"), "z").expect("writes");
    fs::write(root.join("checkpoints/model"), "m".repeat(700_000)).expect("writes");

    let listed = world.files.list(&place(), "").await.expect("lists");
    assert_eq!(names(&listed), [("Z", true), ("a.txt", true), ("b.txt", true), ("checkpoints", false)]);
    assert_eq!(listed[2].file.as_ref().expect("a file").size, 5);
    assert_eq!(names(&world.files.list(&place(), "checkpoints").await.expect("lists")), [("b", false), ("model", true)]);
    assert_eq!(world.files.list(&place(), "absent").await.expect("is empty"), []);
    assert_eq!(world.files.list(&place(), "b.txt").await.expect("is no directory"), []);

    assert_eq!(world.text(&place(), "b.txt").await.expect("reads"), "hello");
    assert_eq!(world.text(&place(), "a.txt").await.expect("reads"), "");
    assert_eq!(world.range(&place(), "b.txt", 1, 3).await.expect("reads"), "el");
    assert_eq!(world.text(&place(), "checkpoints/model").await.expect("reads").len(), 700_000);
    // A file that shrinks under its reader ends the stream with an error, not with fewer bytes than were told.
    assert!(world.range(&place(), "b.txt", 0, 6).await.is_err());
}

#[tokio::test]
async fn files_never_leave() {
    let world = world().await;
    let root = world.share().join("job/outputs");
    let outside = world.folder.0.join("outside");
    fs::create_dir_all(root.join("d")).expect("makes");
    fs::create_dir_all(outside.join("in")).expect("makes");
    fs::write(outside.join("secret"), "canary").expect("writes");
    fs::write(outside.join("in/secret"), "canary").expect("writes");
    fs::write(world.share().join("neighbour"), "canary").expect("writes");
    fs::write(root.join("fine"), "fine").expect("writes");

    symlink(outside.join("secret"), root.join("link")).expect("links");
    symlink("../../../outside/secret", root.join("relative")).expect("links");
    symlink(&outside, root.join("d/folder")).expect("links");
    symlink("fine", root.join("inner")).expect("links");
    symlink("loop", root.join("loop")).expect("links");
    symlink("/proc/self/root", root.join("proc")).expect("links");
    symlink("/proc/self/fd/0", root.join("magic")).expect("links");
    fs::hard_link(outside.join("secret"), root.join("hard")).expect("links");
    let node = |name: &str, kind, mode| {
        let path = root.join(name);
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, Mode::from_raw_mode(0o666), mode).is_ok()
    };
    assert!(node("fifo", FileType::Fifo, 0));
    let devices = node("zero", FileType::CharacterDevice, rustix::fs::makedev(1, 5));
    if !devices {
        eprintln!("devices are not tried: making one needs privilege");
    }
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).expect("binds");
    fs::write(root.join(std::ffi::OsStr::from_bytes(b"not-utf8-\xff")), "x").expect("writes");
    fs::write(root.join("line\nbreak"), "odd but fine").expect("writes");

    let long = "a".repeat(300);
    let shapes = [
        "link",
        "relative",
        "d/folder",
        "d/folder/secret",
        "d/folder/in/secret",
        "inner",
        "loop",
        "loop/x",
        "proc",
        "proc/etc/passwd",
        "magic",
        "hard",
        "fifo",
        "zero",
        "socket",
        "d",
        "",
        ".",
        "..",
        "../neighbour",
        "../../neighbour",
        "d/../../neighbour",
        "d/./../fine",
        "/etc/passwd",
        "//etc/passwd",
        "d//folder",
        "fine/",
        "fine/x",
        "fi\0ne",
        &long,
        "d/../fine",
        "%2e%2e/neighbour",
    ];
    let started = Instant::now();
    for shape in shapes {
        let error = world.text(&place(), shape).await.expect_err(shape);
        assert_eq!(error.code, ErrorCode::NotFound, "{shape:?}: {error:?}");
        assert!(world.files.read(&place(), shape, 0..1).await.is_err(), "{shape:?}");
    }
    for directory in ["d/folder", "proc", "..", "../..", "d/..", "/", "link", "fifo", ".", "d/folder/in"] {
        assert_eq!(world.files.list(&place(), directory).await.expect(directory), [], "{directory:?}");
    }
    assert!(started.elapsed() < Duration::from_secs(5), "nothing hangs");
    let listed = world.files.list(&place(), "").await.expect("lists");
    assert_eq!(names(&listed), [("d", false), ("fine", true), ("line\nbreak", true)]);
    assert_eq!(names(&world.files.list(&place(), "d").await.expect("lists")), []);
    assert_eq!(world.text(&place(), "line\nbreak").await.expect("reads"), "odd but fine");

    // A place that is itself behind a link.
    symlink(&outside, world.share().join("escape")).expect("links");
    let behind = OutputPlace::Share { path: "escape/in".into() };
    assert_eq!(world.text(&behind, "secret").await.expect_err("refuses").code, ErrorCode::NotFound);
    assert_eq!(world.files.list(&behind, "").await.expect("is empty"), []);
}

#[tokio::test]
async fn a_mount_on_the_share_is_not_crossed() {
    let world = world().await;
    let root = world.share().join("job/outputs");
    fs::create_dir_all(root.join("mounted")).expect("makes");
    let flags = rustix::mount::MountFlags::empty();
    if rustix::mount::mount("tmpfs", root.join("mounted"), "tmpfs", flags, None).is_err() {
        eprintln!("skipped: mounting needs privilege");
        return;
    }
    fs::write(root.join("mounted/file"), "canary").expect("writes");
    let read = world.text(&place(), "mounted/file").await;
    let listed = world.files.list(&place(), "mounted").await;
    let above = world.files.list(&place(), "").await;
    rustix::mount::unmount(root.join("mounted"), rustix::mount::UnmountFlags::DETACH).expect("unmounts");
    assert_eq!(read.expect_err("refuses").code, ErrorCode::NotFound);
    assert_eq!(listed.expect("is empty"), []);
    assert_eq!(above.expect("lists"), []);
}

#[tokio::test]
async fn names_that_are_swapped_while_they_are_read_stay_inside() {
    let world = world().await;
    let root = world.share().join("job/outputs");
    let outside = world.folder.0.join("outside");
    fs::create_dir_all(root.join("d")).expect("makes");
    fs::create_dir_all(&outside).expect("makes");
    fs::write(root.join("d/file"), "inside").expect("writes");
    fs::write(root.join("file"), "inside").expect("writes");
    fs::write(outside.join("file"), "canary").expect("writes");
    symlink(&outside, root.join("d2")).expect("links");
    symlink(outside.join("file"), root.join("file2")).expect("links");

    let end = Arc::new(AtomicBool::new(false));
    let swapper = {
        let (end, root) = (Arc::clone(&end), root.clone());
        std::thread::spawn(move || {
            let cwd = rustix::fs::CWD;
            let swap = |a: &Path, b: &Path| rustix::fs::renameat_with(cwd, a, cwd, b, RenameFlags::EXCHANGE).expect("swaps");
            while !end.load(Ordering::Relaxed) {
                swap(&root.join("d"), &root.join("d2"));
                swap(&root.join("file"), &root.join("file2"));
            }
        })
    };
    let (mut read, mut refused) = (0, 0);
    let deadline = Instant::now() + Duration::from_secs(3);
    while Instant::now() < deadline {
        for path in ["d/file", "file", "d2/file", "file2"] {
            match world.text(&place(), path).await {
                Ok(text) => {
                    assert_eq!(text, "inside");
                    read += 1;
                }
                Err(error) => {
                    assert_eq!(error.code, ErrorCode::NotFound, "{error:?}");
                    refused += 1;
                }
            }
        }
    }
    end.store(true, Ordering::Relaxed);
    swapper.join().expect("ends");
    assert!(read > 0 && refused > 0, "both were seen: {read} {refused}");
}

#[tokio::test]
async fn kept_output_grows_and_is_read_across_pieces() {
    let world = world().await;
    let attempt = world.attempt().await;
    let place = OutputPlace::Archive { attempt, directory: "stdouterr".into() };
    let append = async |pieces: &[OutputPiece]| world.store.append_output(pieces).await.expect("appends");

    append(&[piece(attempt, "stdout.txt", 1, 0, "hello "), piece(attempt, "stderr.txt", 1, 0, "")]).await;
    append(&[piece(attempt, "stdout.txt", 1, 6, "world"), piece(attempt, "stdout.txt", 1, 11, "!\n")]).await;
    append(&[piece(attempt, "stdout.txt", 1, 0, "hello "), piece(attempt, "stdout.txt", 1, 6, "world")]).await;
    append(&[piece(attempt, "stdout.txt", 1, 9, "ld!\nmore"), piece(attempt, "stdout.txt", 1, 100, "hole")]).await;
    assert_eq!(world.text(&place, "stdout.txt").await.expect("reads"), "hello world!\nmore");
    assert_eq!(world.text(&place, "stderr.txt").await.expect("reads"), "");
    assert_eq!(world.range(&place, "stdout.txt", 4, 8).await.expect("reads"), "o wo");
    assert_eq!(world.range(&place, "stdout.txt", 16, 17).await.expect("reads"), "e");
    assert_eq!(world.range(&place, "stdout.txt", 3, 3).await.expect("reads"), "");
    let stat = world.files.stat(&place, "stdout.txt").await.expect("is there");
    assert_eq!((stat.size, stat.modified_at.unix_timestamp()), (17, 1_700_000_011));

    // Truncated and written anew.
    append(&[piece(attempt, "stdout.txt", 2, 0, "anew")]).await;
    append(&[piece(attempt, "stdout.txt", 1, 17, "late")]).await;
    assert_eq!(world.text(&place, "stdout.txt").await.expect("reads"), "anew");
    let rows: Vec<i32> = sqlx::query_scalar("select generation from batchyard.output_chunk")
        .fetch_all(&sqlx::PgPool::connect(&world.url).await.expect("connects"))
        .await
        .expect("reads");
    assert_eq!(rows, [2], "what was replaced is not kept");

    // Nothing is kept for an attempt that does not exist.
    let stranger = piece(AttemptUid(Uuid::new_v4()), "x", 1, 0, "x");
    let error = world.store.append_output(&[stranger]).await.expect_err("refuses");
    assert!(matches!(&error, StoreError::Constraint(name, _) if name == "output_file_attempt_fkey"), "{error:?}");

    for absent in ["stdout", "stdout.txt/x", "../stdout.txt", "", "x\0"] {
        assert_eq!(world.text(&place, absent).await.expect_err(absent).code, ErrorCode::NotFound, "{absent:?}");
    }
}

#[tokio::test]
async fn kept_output_is_listed_a_directory_at_a_time() {
    let world = world().await;
    let attempt = world.attempt().await;
    let place = OutputPlace::Archive { attempt, directory: "stdouterr".into() };
    let paths = ["b", "b/c", "b/d/e", "a", "B", "ab", "a%b/x", "a_b", "ä/x", "b0"];
    let pieces: Vec<OutputPiece> = paths.iter().map(|path| piece(attempt, path, 1, 0, path)).collect();
    world.store.append_output(&pieces).await.expect("appends");
    let listed = world.files.list(&place, "").await.expect("lists");
    let expected =
        [("B", true), ("a", true), ("a%b", false), ("a_b", true), ("ab", true), ("b", true), ("b", false), ("b0", true)];
    assert_eq!(names(&listed[..8]), expected);
    assert_eq!(names(&listed[8..]), [("ä", false)]);
    assert_eq!(names(&world.files.list(&place, "b").await.expect("lists")), [("c", true), ("d", false)]);
    assert_eq!(names(&world.files.list(&place, "b/d").await.expect("lists")), [("e", true)]);
    assert_eq!(names(&world.files.list(&place, "a_b").await.expect("lists")), []);
    assert_eq!(names(&world.files.list(&place, "ä").await.expect("lists")), [("x", true)]);
    for none in ["c", "a%", "..", "b/..", "/", "b/", "x\0"] {
        assert_eq!(world.files.list(&place, none).await.expect(none), [], "{none:?}");
    }
    let elsewhere = OutputPlace::Archive { attempt, directory: "MODEL".into() };
    assert_eq!(world.files.list(&elsewhere, "").await.expect("is empty"), []);
}

#[tokio::test]
async fn many_pieces_are_added_at_once_and_in_any_company() {
    let world = world().await;
    let attempts = [world.attempt().await, world.attempt().await];
    let mut pieces = Vec::new();
    for attempt in attempts {
        for file in 0..50 {
            for part in 0..10 {
                pieces.push(piece(attempt, &format!("f{file}"), 1, part * 4, "abc\n"));
            }
        }
    }
    // Several agents and repeated posts at once: nothing doubles, nothing is lost.
    let posts = (0..4).map(|_| world.store.append_output(&pieces));
    for result in futures_util::future::join_all(posts).await {
        result.expect("appends");
    }
    for attempt in attempts {
        let place = OutputPlace::Archive { attempt, directory: "stdouterr".into() };
        assert_eq!(world.files.list(&place, "").await.expect("lists").len(), 50);
        assert_eq!(world.text(&place, "f7").await.expect("reads"), "abc\n".repeat(10));
        assert_eq!(world.range(&place, "f49", 38, 40).await.expect("reads"), "c\n");
    }
}

#[tokio::test]
async fn large_pieces_are_objects_and_go_with_their_attempt() {
    let world = world().await;
    let attempt = world.attempt().await;
    let place = OutputPlace::Archive { attempt, directory: "stdouterr".into() };
    let text: String = (0..300_000).map(|n| format!("{n}\n")).collect();
    let keep = async |generation: u32, range: std::ops::Range<usize>| {
        let content = PieceContent::Object { length: range.len() as u64 };
        let piece = OutputPiece { content, ..piece(attempt, "log", generation, range.start as u64, "") };
        world.files.keep(&piece.object_name(), Bytes::copy_from_slice(&text.as_bytes()[range])).await.expect("keeps");
        world.store.append_output(&[piece]).await.expect("appends")
    };
    assert!(keep(1, 0..1_500_000).await.is_empty());
    // Sent again in other portions after a lost answer: the known part is left out, and shorter portions cut nothing.
    assert!(keep(1, 0..1_000_000).await.is_empty());
    assert!(keep(1, 1_000_000..1_600_000).await.is_empty());
    let tail = &text[1_600_000..1_600_100];
    world.store.append_output(&[piece(attempt, "log", 1, 1_600_000, tail)]).await.expect("appends");
    assert_eq!(world.text(&place, "log").await.expect("reads"), &text[..1_600_100]);
    assert_eq!(world.range(&place, "log", 1_499_990, 1_600_050).await.expect("reads"), &text[1_499_990..1_600_050]);

    let objects = || {
        fn count(folder: &Path) -> usize {
            let Ok(entries) = fs::read_dir(folder) else { return 0 };
            let entries = entries.map(|entry| entry.expect("reads").path());
            entries.map(|path| if path.is_dir() { count(&path) } else { 1 }).sum()
        }
        count(&world.folder.0.join("archive"))
    };
    assert_eq!(objects(), 3);
    let unused = keep(2, 0..200_000).await;
    assert_eq!(unused.len(), 2, "{unused:?}");
    world.files.discard(unused).await;
    assert_eq!(objects(), 2, "one that nothing ever referred to stays until its attempt goes");
    assert_eq!(world.text(&place, "log").await.expect("reads"), &text[..200_000]);

    let living = world.attempt().await;
    let content = PieceContent::Object { length: 3 };
    let other = OutputPiece { content, ..piece(living, "log", 1, 0, "") };
    world.files.keep(&other.object_name(), Bytes::from_static(b"abc")).await.expect("keeps");
    // Of what is old, what nothing refers to goes too.
    let age = |path: &Path| {
        let hours_ago = std::time::SystemTime::now() - Duration::from_secs(2 * 3600);
        fs::File::options().write(true).open(path).expect("opens").set_modified(hours_ago).expect("ages");
    };
    fn each(folder: &Path, action: &dyn Fn(&Path)) {
        for entry in fs::read_dir(folder).expect("lists") {
            let path = entry.expect("reads").path();
            if path.is_dir() { each(&path, action) } else { action(&path) }
        }
    }
    assert_eq!(world.files.sweep().await.expect("sweeps"), 0, "all are young");
    world.store.append_output(&[other]).await.expect("appends");
    each(&world.folder.0.join("archive"), &age);
    assert_eq!(world.files.sweep().await.expect("sweeps"), 1);
    assert_eq!(world.text(&place, "log").await.expect("reads"), &text[..200_000]);
    let young = OutputPiece { content: PieceContent::Object { length: 4 }, ..piece(living, "next", 1, 0, "") };
    world.files.keep(&young.object_name(), Bytes::from_static(b"abcd")).await.expect("keeps");

    let pool = sqlx::PgPool::connect(&world.url).await.expect("connects");
    sqlx::query("delete from batchyard.attempt where uid = $1").bind(attempt.0).execute(&pool).await.expect("deletes");
    assert_eq!(world.files.sweep().await.expect("sweeps"), 1);
    assert_eq!(objects(), 2, "a living attempt's objects stay, also before their rows are there");
    assert_eq!(world.text(&place, "log").await.expect_err("is gone").code, ErrorCode::NotFound);
}

#[tokio::test]
async fn a_full_archive_is_worth_another_try_later() {
    let mut world = world().await;
    let small = world.folder.0.join("small");
    fs::create_dir(&small).expect("makes");
    let options = std::ffi::CString::new("size=256k").expect("has no zero byte");
    let flags = rustix::mount::MountFlags::empty();
    if rustix::mount::mount("tmpfs", &small, "tmpfs", flags, options.as_c_str()).is_err() {
        eprintln!("skipped: mounting needs privilege");
        return;
    }
    world.files = Files::new(world.store.clone(), None, archive(small.to_str().expect("text"), &[]).expect("opens"));
    let full = world.files.keep("a/b/1-0-1000000", Bytes::from(vec![0; 1_000_000])).await;
    let fits = world.files.keep("a/b/1-0-1000", Bytes::from(vec![0; 1000])).await;
    rustix::mount::unmount(&small, rustix::mount::UnmountFlags::DETACH).expect("unmounts");
    let error = full.expect_err("does not fit");
    assert_eq!(error.code, ErrorCode::ServiceUnavailable);
    assert!(error.retry_after.is_some());
    fits.expect("what fits is kept: a failed one leaves nothing behind");
}

#[tokio::test]
async fn archives_are_named_by_folder_or_url() {
    let folder = Folder::new();
    let path = folder.0.join("x/y");
    archive(path.to_str().expect("text"), &[]).expect("opens");
    assert!(path.is_dir());
    archive(&format!("file://{}", path.display()), &[]).expect("opens");
    let options = [("aws_access_key_id".to_owned(), "id".to_owned()), ("aws_secret_access_key".to_owned(), "key".to_owned())];
    for url in ["s3://bucket/prefix", "gs://bucket", "az://container/prefix"] {
        let options: &[(String, String)] = if url.starts_with("s3") { &options } else { &[] };
        let account = [("azure_storage_account_name".to_owned(), "account".to_owned())];
        let options = if url.starts_with("az") { &account } else { options };
        match archive(url, options) {
            Ok(_) => {}
            // Without an account of a machine in that cloud it cannot be opened; the scheme is known.
            Err(error) => assert!(!format!("{:?}", error).contains("neither"), "{error:?}"),
        }
    }
    for wrong in ["", "relative/folder", "file://relative", "http://example.org/x", "memory:///", "ftp://x/y"] {
        assert!(archive(wrong, &[]).is_err(), "{wrong}");
    }
}
