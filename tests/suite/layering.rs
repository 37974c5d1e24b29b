//! Who may import whom.
//!
//! In: the source files. Out: a failure for each edge that is not in the table. Test modules are left out: a test may use what it
//! likes. The table is the wall that separate crates would be; a new edge is a decision, and is made here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A module of `src/`, the modules of this crate that it may use beside itself, and crates that only others may use.
///
/// `agent::protocol` is a module of its own: it is what both sides of the agent's conversation share.
const TABLE: &[(&str, &[&str], &[&str])] = &[
    // The ground that everything stands on.
    ("error", &[], &["axum", "sqlx"]),
    ("id", &["error"], &["axum", "sqlx"]),
    ("clock", &[], &["axum", "sqlx"]),
    ("task", &[], &["axum", "sqlx"]),
    ("wake", &[], &["axum", "sqlx"]),
    ("sign", &[], &["axum", "sqlx"]),
    ("secret", &["domain", "error", "id"], &["axum", "sqlx"]),
    // What things are and may become: no input, no output, no clock of its own.
    ("domain", &["clock", "error", "id"], &["axum", "hyper", "nix", "reqwest", "rustix", "sqlx", "tokio"]),
    ("agent::protocol", &["clock", "domain", "error", "id"], &["axum", "hyper", "nix", "sqlx", "tokio"]),
    ("launch", &["domain"], &["axum", "hyper", "nix", "reqwest", "rustix", "sqlx", "tokio"]),
    // A request's walk, from the front door to the rows.
    ("wire", &["clock", "domain", "error", "id", "service"], &["axum", "sqlx", "tokio"]),
    (
        "http",
        &["agent::protocol", "auth", "clock", "domain", "error", "id", "service", "sign", "task", "telemetry", "trace", "wire"],
        &["nix", "reqwest", "rustix", "sqlx"],
    ),
    (
        "service",
        &["agent::protocol", "auth", "clock", "domain", "error", "id", "launch", "secret", "sign", "store", "task", "wake"],
        &["axum", "hyper", "nix", "reqwest"],
    ),
    ("store", &["clock", "domain", "error", "id", "secret", "task", "wake"], &["axum", "hyper", "reqwest"]),
    ("auth", &["clock", "domain", "error", "id", "secret", "sign", "store", "task", "wake"], &["axum", "hyper", "sqlx"]),
    ("files", &["clock", "domain", "error", "id", "service", "sign", "store", "task"], &["axum", "hyper", "sqlx"]),
    ("vault", &["domain", "service"], &["axum", "hyper", "nix", "rustix", "sqlx"]),
    // What happens later, without the client.
    (
        "reconcile",
        &["clock", "domain", "driver", "error", "id", "store", "task", "telemetry", "wake"],
        &["axum", "hyper", "nix", "reqwest", "rustix", "sqlx"],
    ),
    (
        "driver",
        &[
            "clock",
            "descriptors",
            "domain",
            "error",
            "fence",
            "gpu",
            "id",
            "own_file",
            "server_sockets",
            "splice",
            "task",
            "telemetry",
        ],
        &["axum", "reqwest", "sqlx"],
    ),
    (
        "agent",
        &[
            "agent::protocol",
            "clock",
            "descriptors",
            "domain",
            "error",
            "fence",
            "gpu",
            "id",
            "own_file",
            "server_sockets",
            "splice",
            "task",
        ],
        &["axum", "sqlx"],
    ),
    ("telemetry", &["clock", "domain"], &["axum", "hyper", "nix", "rustix", "sqlx"]),
    ("trace", &["clock", "domain", "id"], &["axum", "nix", "rustix", "sqlx"]),
    ("gpu", &["domain"], &["axum", "hyper", "nix", "reqwest", "rustix", "sqlx", "tokio"]),
    // The client: one among others, that knows of the server what its API tells.
    ("client", &["clock"], &["axum", "hyper", "nix", "sqlx"]),
    ("cli", &["client", "clock"], &["axum", "hyper", "nix", "sqlx"]),
    // The edge of the process, where the parts are put together. `app` may use everything.
    ("descriptors", &[], &["axum", "hyper", "sqlx", "tokio"]),
    ("fence", &[], &["axum", "hyper", "sqlx", "tokio"]),
    ("own_file", &[], &["axum", "hyper", "sqlx", "tokio"]),
    ("server_sockets", &[], &["axum", "hyper", "sqlx", "tokio"]),
    ("splice", &[], &["axum", "hyper", "sqlx", "tokio"]),
    ("passage", &["task"], &["axum", "hyper", "sqlx"]),
    ("tls", &["clock", "error", "task"], &["axum", "sqlx"]),
    ("edge", &["clock", "error", "http", "task", "tls"], &["sqlx"]),
    (
        "config",
        &["domain", "driver", "edge", "error", "files", "id", "passage", "secret", "store", "tls", "trace", "vault"],
        &["axum", "sqlx"],
    ),
];

/// Modules without a wall: they put the others together.
const FREE: &[&str] = &["app", "lib", "main"];

/// Use of one name at one place.
#[derive(Debug, PartialEq, Eq)]
struct Edge {
    file: PathBuf,
    line: usize,
    from: String,
    to: String,
}

fn source_files(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            source_files(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

/// The module of the table that a file (relative to `src/`) belongs to.
fn module_of(file: &Path) -> String {
    if file == Path::new("agent/protocol.rs") {
        return "agent::protocol".into();
    }
    let first = file.components().next().expect("not empty").as_os_str().to_str().expect("UTF-8");
    first.strip_suffix(".rs").unwrap_or(first).to_owned()
}

/// The source without comments, string contents and its module of tests, line by line.
fn code(source: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut source = source.lines().peekable();
    while let Some(line) = source.next() {
        // By convention a file's tests are its last item.
        let tests = |next: &&str| next.starts_with("mod ") && next.contains('{');
        if line.starts_with("#[cfg(test)]") && source.peek().is_some_and(tests) {
            break;
        }
        let mut kept = String::new();
        let mut quoted = false;
        let mut chars = line.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '\\' if quoted => {
                    chars.next();
                }
                '"' => quoted = !quoted,
                '/' if !quoted && chars.peek() == Some(&'/') => break,
                c if !quoted => kept.push(c),
                _ => {}
            }
        }
        lines.push(kept);
    }
    lines
}

/// The names that follow `crate::` in a line, with those of a group `crate::{a, b::c}`.
fn crate_names(line: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in line.match_indices("crate::") {
        let rest = &line[at + "crate::".len()..];
        let group = rest.strip_prefix('{').map(|g| g.split('}').next().unwrap_or(g).split(',').collect::<Vec<_>>());
        for path in group.unwrap_or_else(|| vec![rest]) {
            let path: String = path.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_' || *c == ':').collect();
            let mut segments = path.split("::");
            match (segments.next(), segments.next()) {
                (Some("agent"), Some("protocol")) => names.push("agent::protocol".into()),
                (Some(first), _) if !first.is_empty() => names.push(first.to_owned()),
                _ => {}
            }
        }
    }
    names
}

/// Whether a line names a crate: `use sqlx`, `sqlx::query`.
fn names_crate(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = &line[at + name.len()..];
        let free = !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '-');
        free && (after.starts_with("::") || (line.trim_start().starts_with("use ") && after.starts_with(';')))
    })
}

fn forbidden(file: &Path, source: &str) -> Vec<Edge> {
    let from = module_of(file);
    if FREE.contains(&from.as_str()) {
        return Vec::new();
    }
    let edge = |line, to: String| Edge { file: file.to_owned(), line, from: from.clone(), to };
    let Some((_, may_use, never)) = TABLE.iter().find(|(module, ..)| *module == from) else {
        return vec![edge(1, "(the module itself is not in the table)".into())];
    };
    let mut edges = Vec::new();
    for (index, line) in code(source).iter().enumerate() {
        for to in crate_names(line) {
            if to != from && !may_use.contains(&to.as_str()) {
                edges.push(edge(index + 1, to));
            }
        }
        for name in never.iter().filter(|name| names_crate(line, name)) {
            edges.push(edge(index + 1, format!("the crate {name}")));
        }
    }
    edges
}

#[test]
fn modules_use_only_what_the_table_allows() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    source_files(&src, &mut files);
    assert!(files.len() > 20, "the sources were found");
    let edges: Vec<Edge> = files
        .iter()
        .flat_map(|path| {
            let source = std::fs::read_to_string(path).expect("a readable file");
            forbidden(path.strip_prefix(&src).expect("below src"), &source)
        })
        .collect();
    let told: BTreeSet<String> =
        edges.iter().map(|e| format!("src/{}:{}: {} may not use {}", e.file.display(), e.line, e.from, e.to)).collect();
    assert!(told.is_empty(), "edges that the table does not have:\n{}", told.into_iter().collect::<Vec<_>>().join("\n"));
}

#[test]
fn the_table_has_no_circle_between_the_walls_of_a_request() {
    let may = |from: &str, to: &str| TABLE.iter().any(|(m, uses, _)| *m == from && uses.contains(&to));
    for (front, back) in [("http", "service"), ("service", "store"), ("store", "domain"), ("reconcile", "driver")] {
        assert!(may(front, back), "{front} calls {back}");
        assert!(!may(back, front), "a request does not turn back from {back} to {front}");
    }
}

#[test]
fn a_forbidden_edge_is_found() {
    let found = |file: &str, source: &str| -> Vec<String> {
        forbidden(Path::new(file), source).into_iter().map(|e| format!("{}:{}", e.line, e.to)).collect()
    };
    assert_eq!(found("domain/job.rs", "use crate::id::Kind;\nuse crate::store::Store;\n"), ["2:store"]);
    assert_eq!(found("wire/mod.rs", "use crate::{domain::job::Job, driver};\n"), ["1:driver"]);
    assert_eq!(found("service/job.rs", "fn f() { crate::driver::build() }\n"), ["1:driver"]);
    assert_eq!(found("agent/run.rs", "use crate::agent::protocol::Sync;\n// crate::store\n"), Vec::<String>::new());
    assert_eq!(found("http/verbs.rs", "use sqlx::query;\nlet text = \"sqlx::query\";\n"), ["1:the crate sqlx"]);
    assert_eq!(found("strange.rs", ""), ["1:(the module itself is not in the table)"]);
    assert_eq!(found("domain/job.rs", "#[cfg(test)]\nmod tests { use crate::store::Store; }\n"), Vec::<String>::new());
}
