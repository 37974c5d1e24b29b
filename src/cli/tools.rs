//! The rest: any request, usage, changes as they happen, completions and pages of the manual.

use std::io::Read;
use std::path::PathBuf;

use clap::{Args, Command};
use clap_complete::Shell;
use reqwest::Method;
use serde_json::Value;

use super::output::{Answer, print};
use super::session::Session;
use super::views;
use crate::client::{BATCH_AI, Exit, Failure, OWN, Result};

/// Any request, signed in.
#[derive(Args, Clone, Debug)]
pub struct Rest {
    /// The method.
    #[arg(short, long, default_value = "get", value_name = "METHOD")]
    method: String,
    /// The path with its query, or the whole address. `{subscription}` stands for the subscription in use.
    #[arg(short, long, alias = "uri", value_name = "PATH")]
    url: String,
    /// The body: JSON, or @FILE. @- is standard input.
    #[arg(short, long, value_name = "JSON")]
    body: Option<String>,
    /// Headers, each NAME=VALUE.
    #[arg(long, num_args = 1.., value_name = "NAME=VALUE")]
    headers: Vec<String>,
}

/// A region.
#[derive(Args, Clone, Debug, Default)]
pub struct Region {
    /// The region; the server's only one where it is left out.
    #[arg(short, long)]
    location: Option<String>,
}

/// For which shell.
#[derive(Args, Clone, Debug)]
pub struct Completion {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Where pages of the manual go.
#[derive(Args, Clone, Debug)]
pub struct Man {
    /// A folder that gets one page for each command; without it, the page of the program is printed.
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// `rest`.
///
/// # Errors
/// As of the client.
pub(super) async fn rest(session: &Session, rest: &Rest) -> Result<Answer> {
    let method =
        Method::from_bytes(rest.method.to_ascii_uppercase().as_bytes()).map_err(|_| Failure::usage("--method is none"))?;
    let url = rest.url.replace("{subscription}", &session.subscription);
    let endpoint = &session.client.profile().endpoint;
    let path = url.strip_prefix(endpoint.as_str()).unwrap_or(&url);
    if !path.starts_with('/') {
        return Err(Failure::usage(format!("--url {url} is not an address of {endpoint}: the token goes nowhere else")));
    }
    let body = match rest.body.as_deref().map(|body| (body.strip_prefix('@'), body)) {
        None => None,
        Some((Some("-"), _)) => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map_err(|error| Failure::local("standard input cannot be read", error))?;
            Some(text)
        }
        Some((Some(file), _)) => {
            Some(std::fs::read_to_string(file).map_err(|error| Failure::local(&format!("cannot read {file}"), error))?)
        }
        Some((None, body)) => Some(body.to_owned()),
    };
    let mut headers = Vec::new();
    for pair in &rest.headers {
        headers.push(pair.split_once('=').ok_or_else(|| Failure::usage(format!("--headers {pair}: NAME=VALUE")))?);
    }
    let body = body.map(|text| ("application/json", text.into_bytes()));
    let reply = session.client.deliver(method, path, body, &headers).await?;
    Ok(if reply.body.is_null() { Answer::Nothing } else { Answer::One(reply.body, &views::PLAIN) })
}

/// `list-usages`.
///
/// # Errors
/// As of the client.
pub(super) async fn usages(session: &Session, region: &Region) -> Result<Answer> {
    let location = match &region.location {
        Some(location) => location.clone(),
        None => session.location().await?,
    };
    let path = format!(
        "/subscriptions/{}/providers/Microsoft.BatchAI/locations/{}/usages",
        session.subscription,
        crate::client::encode(&location)
    );
    Ok(Answer::Many(session.client.list(&path, BATCH_AI).await?, &views::USAGE))
}

/// `provider register`.
///
/// # Errors
/// As of the client.
pub(super) async fn register(session: &Session) -> Result<Answer> {
    session.register().await?;
    Ok(Answer::Nothing)
}

/// `completion`.
///
/// # Errors
/// The reader went away.
pub(super) fn completion(completion: &Completion, mut program: Command) -> Result<Answer> {
    let mut text = Vec::new();
    clap_complete::generate(completion.shell, &mut program, "batchyard", &mut text);
    print(&String::from_utf8_lossy(&text))?;
    Ok(Answer::Nothing)
}

/// `man`.
///
/// # Errors
/// The folder cannot be written; the reader went away.
pub(super) fn man(man: &Man, program: Command) -> Result<Answer> {
    let cannot = |error: std::io::Error| Failure::local("the pages cannot be written", error);
    match &man.folder {
        Some(folder) => {
            std::fs::create_dir_all(folder).map_err(cannot)?;
            clap_mangen::generate_to(program, folder).map_err(cannot)?;
        }
        None => {
            let mut text = Vec::new();
            clap_mangen::Man::new(program).render(&mut text).map_err(cannot)?;
            print(&String::from_utf8_lossy(&text))?;
        }
    }
    Ok(Answer::Nothing)
}

/// Changes of a scope as they happen, a line each, until the server or the reader ends.
///
/// # Errors
/// The scope does not exist; as of the client.
pub(super) async fn events(session: &Session, scope: &str) -> Result<Answer> {
    let mut last: Option<String> = None;
    loop {
        let mut stream = session.client.stream(&format!("{scope}/events"), OWN, last.as_deref()).await?;
        let mut rest = String::new();
        while let Ok(Some(bytes)) = stream.chunk().await {
            rest.push_str(&String::from_utf8_lossy(&bytes));
            while let Some((event, after)) = rest.split_once("\n\n") {
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
                last = field("id").map(str::to_owned).or(last);
                if let Some(document) = field("data").and_then(|data| serde_json::from_str::<Value>(data).ok()) {
                    session.output.line(&document, &views::EVENT)?;
                }
                rest = after.to_owned();
            }
        }
        // The server ended the stream, or it broke: what came meanwhile is told by the next one.
        if last.is_none() {
            return Err(Failure::new(Exit::Away, "StreamBroken", "the stream of changes ended before it began"));
        }
    }
}
