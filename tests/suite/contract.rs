//! Our OpenAPI documents against the published contracts, operation by operation and field by field.
//!
//! `tests/contract/{version}.json` says what each published contract holds, in the short form of [`outline`]. Where the published files
//! themselves are at hand (`BATCHYARD_PUBLISHED` names their folder), the short form is made from them again and must be the same. Every
//! difference between ours and theirs is in `openapi/differences.json` with its reason, and nothing is there that is no difference.

mod difference;
mod outline;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use batchyard::wire::ApiVersion;
use serde_json::Value;

use outline::Outline;

/// Versions that were published by others.
fn published() -> impl Iterator<Item = ApiVersion> {
    ApiVersion::ALL.into_iter().filter(|version| version.is_frozen())
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn committed(version: ApiVersion) -> Value {
    read(&root().join(format!("tests/contract/{}.json", version.as_str())))
}

#[test]
fn the_short_forms_say_what_was_published() {
    let Some(folder) = std::env::var_os("BATCHYARD_PUBLISHED").map(PathBuf::from) else {
        println!("the published files are not at hand: BATCHYARD_PUBLISHED names no folder");
        return;
    };
    for version in published() {
        let outline = Outline::of_published(&read(&folder.join(version.as_str()).join("BatchAI.json")));
        let ours = serde_json::to_value(&outline).expect("writes");
        if ours != committed(version) {
            let kept = root().join(format!("target/contract-{}.json", version.as_str()));
            std::fs::write(&kept, serde_json::to_string_pretty(&ours).expect("writes") + "\n").expect("writes");
            panic!("tests/contract/{}.json is another; what it should be is in {}", version.as_str(), kept.display());
        }
    }
}

#[test]
fn every_difference_from_the_published_contract_has_its_reason() {
    let list = read(&root().join("openapi/differences.json"));
    let mut problems = Vec::new();
    for version in published() {
        let published: Outline = serde_json::from_value(committed(version)).expect("a short form");
        let ours = Outline::of_ours(&batchyard::http::openapi(version));
        let found: BTreeSet<String> = difference::between(&published, &ours).into_iter().collect();
        let justified = justified(&list, version);
        for new in found.difference(&justified) {
            problems.push(format!("{}: not in the list: {new}", version.as_str()));
        }
        for old in justified.difference(&found) {
            problems.push(format!("{}: no difference any more: {old}", version.as_str()));
        }
    }
    assert!(problems.is_empty(), "openapi/differences.json:\n{}", problems.join("\n"));
}

/// The differences that the list gives a reason for, at a version.
fn justified(list: &Value, version: ApiVersion) -> BTreeSet<String> {
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut all = BTreeSet::new();
    for entry in list.as_array().expect("a list") {
        assert!(entry["why"].as_str().is_some_and(|why| why.len() > 20), "a reason: {entry}");
        if texts(&entry["versions"]).iter().any(|known| known == version.as_str()) {
            all.extend(texts(&entry["differences"]));
        }
    }
    all
}
