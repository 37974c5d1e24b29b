//! What is different between a published contract and ours.
//!
//! Two things are not: of the answers that were published, a server may always give the same ones; and of what is in answers alone, it may
//! promise more than was promised.

use std::collections::{BTreeMap, BTreeSet};

use super::outline::{Operation, Outline};

/// All differences, one sentence each.
pub(super) fn between(published: &Outline, ours: &Outline) -> Vec<String> {
    let mut found = Vec::new();
    pairs("operation", &published.operations, &ours.operations, &mut found, |name, theirs, mine, found| {
        compare_operations(name, theirs, mine, found);
    });
    pairs("parameter", &published.parameters, &ours.parameters, &mut found, |name, theirs, mine, found| {
        told("parameter", name, theirs, mine, found);
    });
    let sent = sent(ours);
    pairs("schema", &published.schemas, &ours.schemas, &mut found, |schema, theirs, mine, found| {
        let only_answered = !sent.contains(schema);
        pairs(&format!("schema {schema}, field"), theirs, mine, found, |field, theirs, mine, found| {
            let promised = if only_answered { mine.trim_end_matches(", required") } else { mine };
            if theirs != promised && theirs != mine {
                told(&format!("schema {schema}, field"), field, theirs, mine, found);
            }
        });
    });
    found
}

fn compare_operations(name: &str, theirs: &Operation, mine: &Operation, found: &mut Vec<String>) {
    if theirs.address != mine.address {
        told("address of", name, &theirs.address, &mine.address, found);
    }
    for parameter in theirs.parameters.symmetric_difference(&mine.parameters) {
        let which = if theirs.parameters.contains(parameter) { "missing" } else { "not published" };
        found.push(format!("operation {name}, parameter {parameter}: {which}"));
    }
    if theirs.body != mine.body {
        let show = |body: &Option<String>| body.clone().unwrap_or_else(|| "none".to_owned());
        told("body of", name, &show(&theirs.body), &show(&mine.body), found);
    }
    for (status, schema) in &mine.answers {
        match theirs.answers.get(status) {
            None => found.push(format!("operation {name}, answer {status}: not published")),
            Some(published) if published != schema => {
                found.push(format!("operation {name}, answer {status}: published {published:?}, ours {schema:?}"));
            }
            Some(_) => {}
        }
    }
}

fn told(what: &str, name: &str, theirs: &str, mine: &str, found: &mut Vec<String>) {
    if theirs != mine {
        found.push(format!("{what} {name}: published '{theirs}', ours '{mine}'"));
    }
}

/// Tells what only one side has, and compares what both have.
fn pairs<T>(
    what: &str,
    theirs: &BTreeMap<String, T>,
    mine: &BTreeMap<String, T>,
    found: &mut Vec<String>,
    mut compare: impl FnMut(&str, &T, &T, &mut Vec<String>),
) {
    for (name, published) in theirs {
        match mine.get(name) {
            Some(ours) => compare(name, published, ours, found),
            None => found.push(format!("{what} {name}: missing")),
        }
    }
    for name in mine.keys().filter(|name| !theirs.contains_key(*name)) {
        found.push(format!("{what} {name}: not published"));
    }
}

/// Schemas that requests lead to.
fn sent(outline: &Outline) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut next: Vec<String> = outline.operations.values().filter_map(|operation| operation.body.clone()).collect();
    while let Some(name) = next.pop() {
        let name = name.trim_start_matches("list of ").split(',').next().unwrap_or_default().to_owned();
        if let Some(fields) = outline.schemas.get(&name)
            && found.insert(name)
        {
            next.extend(fields.values().cloned());
        }
    }
    found
}
