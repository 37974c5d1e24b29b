//! The tables of attacks are true: what they name is there.

use std::collections::BTreeSet;
use std::path::Path;

/// Names of functions and modules in a folder of sources.
fn names(folder: &Path, into: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder of sources").flatten() {
        let path = entry.path();
        if path.is_dir() {
            into.extend(entry.file_name().into_string());
            names(&path, into);
        } else if let Some(module) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".rs")) {
            into.insert(module.to_owned());
            let text = std::fs::read_to_string(&path).expect("readable");
            let functions = text.lines().filter_map(|line| line.trim_start().trim_start_matches("async ").strip_prefix("fn "));
            into.extend(functions.filter_map(|rest| rest.split(['(', '<']).next()).map(str::to_owned));
        }
    }
}

#[test]
fn every_row_is_played_by_what_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut known = BTreeSet::new();
    names(&root.join("tests/suite"), &mut known);
    names(&root.join("src"), &mut known);
    for file in ["tests/suite/trust.rs", "tests/suite/attacks.rs"] {
        let text = std::fs::read_to_string(root.join(file)).expect("readable");
        let rows: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("//! | ")?.strip_suffix(" |")).skip(1).collect();
        assert!(rows.len() > 20, "{file}");
        for row in rows {
            let cells: Vec<&str> = row.split(" | ").collect();
            let [_, _, played] = cells.as_slice() else { panic!("{file}: {row}") };
            // Each second piece is between backticks.
            let mut named: Vec<&str> = played.split('`').skip(1).step_by(2).collect();
            named.retain(|name| !name.starts_with("cases: "));
            assert!(!named.is_empty() || played.contains("`cases: "), "{file}: {row}");
            for name in named {
                let last = name.split("::").filter(|piece| !piece.is_empty()).last().unwrap_or_default();
                assert!(known.contains(last), "{file} names '{name}', which is not there");
            }
        }
    }
}
