//! Plays the HTTP cases of `tests/cases` against the real router over a real Postgres, reconcilers and a fake cloud beside it.
//!
//! A folder is one story with a database of its own; its files are its steps, in the order of their names. What a step may hold is
//! told in `tests/cases/README.md`. A new case needs no Rust.

mod matching;
pub(crate) mod world;

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt;
use serde_json::Value;

use matching::{Variables, fill, mismatches};
use world::World;

/// How long a step with `until` may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Time between two tries of a step with `until`: there is no event that a client could wait for.
const PAUSE: Duration = Duration::from_millis(25);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_cases_hold() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let folders = entries(&root).into_iter().filter(|path| path.is_dir());
    let only = std::env::var("BATCHYARD_CASES").unwrap_or_default();
    let chosen: Vec<PathBuf> = folders.filter(|path| name(path).contains(&only)).collect();
    assert!(!chosen.is_empty(), "no case of that name");
    let outcomes: Vec<(String, Result<usize, String>)> = futures_util::stream::iter(chosen)
        .map(|folder| async move { (name(&folder), play(&folder).await) })
        .buffer_unordered(4)
        .collect()
        .await;
    let failed: Vec<String> = outcomes
        .iter()
        .filter_map(|(folder, outcome)| outcome.as_ref().err().map(|problem| format!("{folder}: {problem}")))
        .collect();
    assert!(failed.is_empty(), "{} of {} cases failed\n\n{}", failed.len(), outcomes.len(), failed.join("\n\n"));
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Plays one folder; answers how many steps it has.
async fn play(folder: &Path) -> Result<usize, String> {
    let world = World::new().await;
    let mut variables = world.variables();
    let steps: Vec<PathBuf> = entries(folder).into_iter().filter(|path| path.extension().is_some_and(|e| e == "json")).collect();
    for file in &steps {
        let text = std::fs::read_to_string(file).expect("a file");
        let step: Value = serde_json::from_str(&text).map_err(|problem| format!("{}: {problem}", name(file)))?;
        play_step(&world, &step, &mut variables).await.map_err(|problem| format!("{}: {problem}", name(file)))?;
    }
    world.stop().await;
    Ok(steps.len())
}

async fn play_step(world: &World, step: &Value, variables: &mut Variables) -> Result<(), String> {
    for member in step.as_object().expect("a step is an object").keys() {
        assert!(
            ["about", "request", "expect", "save", "until", "sql", "advance_s"].contains(&member.as_str()),
            "unknown: {member}"
        );
    }
    if let Some(seconds) = step["advance_s"].as_u64() {
        world.advance(Duration::from_secs(seconds));
    }
    if let Some(sql) = step["sql"].as_str() {
        world.run(&fill(&Value::from(sql), variables)?).await;
    }
    if step["request"].is_null() {
        return Ok(());
    }
    let request = fill(&step["request"], variables)?;
    let expect = fill(&step["expect"], variables)?;
    let give_up = tokio::time::Instant::now() + PATIENCE;
    loop {
        let answer = world.send(&request).await;
        let differences = mismatches(&expect, &answer);
        if differences.is_empty() {
            return save(&step["save"], &answer, variables);
        }
        if !step["until"].as_bool().unwrap_or_default() || tokio::time::Instant::now() >= give_up {
            let shown = serde_json::to_string_pretty(&answer.shown()).expect("writes");
            return Err(format!("{}\nthe answer: {shown}", differences.join("\n")));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// `{"name": "header location"}` or `{"name": "/properties/x"}`, a pointer into the body.
fn save(wanted: &Value, answer: &world::Answer, variables: &mut Variables) -> Result<(), String> {
    for (variable, source) in wanted.as_object().into_iter().flatten() {
        let source = source.as_str().expect("a source");
        let value = match source.strip_prefix("header ") {
            Some(header) => answer.headers.get(header).and_then(|values| values.first()).cloned(),
            None => answer.json().and_then(|body| body.pointer(source).and_then(Value::as_str).map(str::to_owned)),
        };
        variables.insert(variable.clone(), value.ok_or_else(|| format!("nothing at '{source}' to save"))?);
    }
    Ok(())
}
