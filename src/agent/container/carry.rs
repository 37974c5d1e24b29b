//! Carrying out an order: the one place that speaks to an engine.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::query_parameters::{CreateContainerOptions, ListContainersOptions, RemoveContainerOptions, StartContainerOptions};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::agent::container::pull::{NotPulled, pull};
use crate::agent::container::{Container, Failed, Input, NO_IMAGE, NOT_STARTED, Name, Order, settings};
use crate::agent::gang::CONTAINER_KEYS;
use crate::agent::layout::Variables;
use crate::clock::{Clock, SystemClock};
use crate::domain::resource::EntityError;

/// Longest time until an engine begins to answer. A pull may take longer in all.
const ANSWER: u64 = 120;

/// Longest time until an engine that is only just starting answers at all.
const STARTING: Duration = Duration::from_secs(60);

/// Time between two looks at something of which the engine tells nobody that it has changed.
const AGAIN: Duration = Duration::from_millis(50);

/// Longest time from the end of a command's output to the news of its end.
const ENDING: Duration = Duration::from_secs(30);

/// Longest time until a container is gone.
const REMOVAL: Duration = Duration::from_secs(60);

/// A command line in a container: by the same shells as on a node, whichever the image has. The line is an argument, never a part of the
/// script.
const SHELL: &str = r#"if [ -x /bin/bash ]; then exec /bin/bash -c "$0"; else exec /bin/sh -c "$0"; fi"#;

/// Signals all but the first process and the one that runs this.
const TERMINATE: &str = "kill -TERM -1";

/// Exit code where an order could not be carried out; why is in the order's memory.
const FAILED: u8 = 125;

/// Carries out the order in the memory that this process was given as the descriptor `number`. Answers the exit code.
///
/// # Errors
/// There is no order.
pub fn carry(number: &str) -> io::Result<u8> {
    let number: u32 = number.parse().map_err(io::Error::other)?;
    let mut memory = File::options().read(true).write(true).open(format!("/proc/self/fd/{number}"))?;
    let mut text = String::new();
    memory.read_to_string(&mut text)?;
    // It holds secrets, and takes the answer.
    rustix::fs::ftruncate(&memory, 0)?;
    let order: Order = serde_json::from_str(&text)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        match order {
            Order::Raise(container) => raise(&container).await.map(|()| 0),
            Order::Run { name, line, environment, directory, input } => {
                let done = run(&name, &line, &environment, &directory.to_string_lossy(), input).await;
                done.map_err(|e| Failed::Engine(words(&e)))
            }
            Order::Terminate(name) => terminate(&name).await.map(|()| 0).map_err(|e| Failed::Engine(words(&e))),
            Order::Remove(name) => remove(&name).await.map(|()| 0).map_err(|e| Failed::Engine(words(&e))),
        }
    });
    // What waits for input is not waited for.
    runtime.shutdown_background();
    match done {
        Ok(code) => Ok(code),
        Err(failed) => {
            rustix::io::pwrite(&memory, &serde_json::to_vec(&failed)?, 0)?;
            Ok(FAILED)
        }
    }
}

/// What the engine said, without what the library says around it.
fn words(error: &Error) -> String {
    match error {
        Error::DockerResponseServerError { message, .. } => message.trim().to_owned(),
        Error::DockerStreamError { error } => error.trim().to_owned(),
        other => {
            let causes = std::iter::successors(Some(other as &dyn std::error::Error), |error| error.source());
            let mut texts: Vec<String> = causes.map(ToString::to_string).collect();
            texts.dedup();
            texts.join(": ")
        }
    }
}

async fn connect(name: &Name) -> Result<Docker, Error> {
    Docker::connect_with_unix(&name.socket.to_string_lossy(), ANSWER, API_DEFAULT_VERSION)?.negotiate_version().await
}

/// Connects to an engine that may only just be starting.
async fn await_engine(name: &Name) -> Result<Docker, Error> {
    let deadline = Instant::now() + STARTING;
    loop {
        match connect(name).await {
            Ok(engine) => return Ok(engine),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

/// Says what is done, in the form of the job's log, which standard error is.
pub(super) fn say(text: &str) {
    let now = SystemClock.now().format(&time::format_description::well_known::Rfc3339).unwrap_or_default();
    // What cannot be logged does not keep a job from running.
    let _ = io::stderr().write_all(format!("{now} {text}\n").as_bytes());
}

async fn raise(container: &Container) -> Result<(), Failed> {
    let not_started = |error: &Error| Failed::Error(failure(container, NOT_STARTED.0, NOT_STARTED.1, &words(error)));
    let engine = await_engine(&container.name).await.map_err(|error| {
        let answer = format!("the node's container engine does not answer: {}", words(&error));
        Failed::Error(failure(container, NOT_STARTED.0, NOT_STARTED.1, &answer))
    })?;
    say(&format!("pulling the image {}", container.image));
    let began = Instant::now();
    let digest = pull(&engine, container).await.map_err(|why| {
        let doing = format!("The image '{}' could not be pulled", container.image);
        Failed::Error(match why {
            NotPulled::Answer(error) => failure(container, NO_IMAGE, &doing, &words(&error)),
            NotPulled::TooMuch(why) => {
                about_image(container, EntityError::new(NO_IMAGE, format!("{doing}: {why}"))).with_detail("limit", why)
            }
        })
    })?;
    let digest = digest.map(|digest| format!(": {digest}")).unwrap_or_default();
    say(&format!("the image is there after {:.1} s{digest}", began.elapsed().as_secs_f64()));
    remove_others(&engine, container).await.map_err(|error| not_started(&error))?;
    let name = CreateContainerOptions { name: Some(container.name.name.clone()), ..CreateContainerOptions::default() };
    engine.create_container(Some(name), settings::body(container)).await.map_err(|error| not_started(&error))?;
    let started = engine.start_container(&container.name.name, None::<StartContainerOptions>).await;
    started.map_err(|error| not_started(&error))?;
    if !container.keys.is_empty() {
        put_keys(&engine, container).await.map_err(|error| not_started(&error))?;
    }
    say("the container runs");
    Ok(())
}

/// Writes the files that let the container reach the job's other nodes, by its own shell.
async fn put_keys(engine: &Docker, container: &Container) -> Result<(), Error> {
    let command = CreateExecOptions {
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(vec!["/bin/sh".to_owned(), "-s".to_owned()]),
        user: Some(settings::user()),
        working_dir: Some(CONTAINER_KEYS.to_owned()),
        ..CreateExecOptions::default()
    };
    let command = engine.create_exec(&container.name.name, command).await?.id;
    // Names and contents are ours.
    let write = |(name, content): &(String, String)| format!("cat >{name} <<'END'\n{}\nEND\n", content.trim_end());
    let script = format!("umask 077\n{}exit 0\n", container.keys.iter().map(write).collect::<String>());
    if let StartExecResults::Attached { mut output, mut input } = engine.start_exec(&command, None).await? {
        input.write_all(script.as_bytes()).await?;
        input.shutdown().await?;
        while let Some(piece) = output.next().await {
            piece?;
        }
    }
    match await_end(engine, &command).await? {
        0 => Ok(()),
        code => Err(io::Error::other(format!("its keys cannot be written: exit code {code}")).into()),
    }
}

/// Removes what is left of jobs that had the node before: it has one at a time, so that nothing else of ours belongs here.
async fn remove_others(engine: &Docker, container: &Container) -> Result<(), Error> {
    let ours = format!("{}={}", settings::LABEL, container.node_id);
    let filters = Some(HashMap::from([("label".to_owned(), vec![ours])]));
    let options = ListContainersOptions { all: true, filters, ..ListContainersOptions::default() };
    for other in engine.list_containers(Some(options)).await? {
        let options = RemoveContainerOptions { force: true, v: true, ..RemoveContainerOptions::default() };
        match engine.remove_container(&other.id.unwrap_or_default(), Some(options)).await {
            Err(error) if !is_status(&error, 404) && !is_status(&error, 409) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// An error with the answer of engine or registry, of which the password is no part.
fn failure(container: &Container, code: &str, doing: &str, answer: &str) -> EntityError {
    let answer = match &container.login {
        Some(login) if !login.password.is_empty() => answer.replace(&login.password, "***"),
        _ => answer.to_owned(),
    };
    let error = EntityError::new(code, format!("{doing}: {answer}"));
    about_image(container, error).with_detail("answer", answer)
}

/// The same error with what it is about.
fn about_image(container: &Container, error: EntityError) -> EntityError {
    let error = error.with_detail("imageName", container.image.clone());
    let registry = container.login.as_ref().and_then(|login| login.registry.clone());
    let error = registry.into_iter().fold(error, |error, registry| error.with_detail("registry", registry));
    error.with_detail("nodeId", container.node_id.clone())
}

async fn run(name: &Name, line: &str, environment: &Variables, directory: &str, input: Input) -> Result<u8, Error> {
    let engine = connect(name).await?;
    let command = CreateExecOptions {
        attach_stdin: Some(input == Input::Own),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(vec!["/bin/sh".to_owned(), "-c".to_owned(), SHELL.to_owned(), line.to_owned()]),
        env: Some(environment.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        user: Some(settings::user()),
        working_dir: Some(directory.to_owned()),
        ..CreateExecOptions::default()
    };
    let command = engine.create_exec(&name.name, command).await?.id;
    if let StartExecResults::Attached { mut output, input: mut into } = engine.start_exec(&command, None).await? {
        let mut from = match input {
            Input::Own => Some(tokio::fs::File::from_std(File::from(io::stdin().as_fd().try_clone_to_owned()?))),
            Input::Nothing => None,
        };
        let (mut stdout, mut stderr) = (io::stdout().lock(), io::stderr().lock());
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let piece = tokio::select! {
                piece = output.next() => piece,
                read = read_some(from.as_mut(), &mut buffer) => {
                    let count = read.unwrap_or(0);
                    // The command may have ended without having read it all.
                    let taken = into.write_all(buffer.get(..count).unwrap_or_default()).await;
                    if count == 0 || taken.is_err() {
                        from = None;
                        let _ = into.shutdown().await;
                    }
                    continue;
                }
            };
            let Some(piece) = piece else { break };
            // A full disk is no reason to hold the command up: it would wait for ever.
            let _ = match piece? {
                LogOutput::StdErr { message } => stderr.write_all(&message),
                LogOutput::StdOut { message } | LogOutput::Console { message } => stdout.write_all(&message).and(stdout.flush()),
                LogOutput::StdIn { .. } => Ok(()),
            };
        }
    }
    await_end(&engine, &command).await
}

/// What there is to read; for ever nothing, where there is nothing to read from.
async fn read_some(from: Option<&mut tokio::fs::File>, buffer: &mut [u8]) -> io::Result<usize> {
    match from {
        Some(from) => from.read(buffer).await,
        None => std::future::pending().await,
    }
}

/// The exit code of a command whose output has ended.
async fn await_end(engine: &Docker, command: &str) -> Result<u8, Error> {
    let deadline = Instant::now() + ENDING;
    loop {
        let seen = engine.inspect_exec(command).await?;
        if let (Some(false), Some(code)) = (seen.running, seen.exit_code) {
            // More than a byte has no exit code.
            return Ok(u8::try_from(code & 0xff).unwrap_or(u8::MAX));
        }
        if Instant::now() > deadline {
            return Err(Error::RequestTimeoutError);
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn terminate(name: &Name) -> Result<(), Error> {
    let engine = connect(name).await?;
    let command = CreateExecOptions {
        cmd: Some(vec!["/bin/sh".to_owned(), "-c".to_owned(), TERMINATE.to_owned()]),
        user: Some(settings::user()),
        ..CreateExecOptions::default()
    };
    let command = engine.create_exec(&name.name, command).await?.id;
    let detached = StartExecOptions { detach: true, ..StartExecOptions::default() };
    engine.start_exec(&command, Some(detached)).await.map(drop)
}

/// Ends all that runs in a container and removes it; returns once neither is there. None of that name is no error.
///
/// # Errors
/// The engine does not answer, or does not do it.
pub(in crate::agent) async fn remove(name: &Name) -> Result<(), Error> {
    let engine = connect(name).await?;
    let deadline = Instant::now() + REMOVAL;
    loop {
        let options = RemoveContainerOptions { force: true, v: true, ..RemoveContainerOptions::default() };
        match engine.remove_container(&name.name, Some(options)).await {
            Ok(()) => return Ok(()),
            Err(error) if is_status(&error, 404) => return Ok(()),
            // Someone else does it already.
            Err(error) if is_status(&error, 409) && Instant::now() < deadline => tokio::time::sleep(AGAIN).await,
            Err(error) => return Err(error),
        }
    }
}

fn is_status(error: &Error, wanted: u16) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code, .. } if *status_code == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::protocol::RegistryLogin;
    use crate::domain::container::PullLimits;

    #[test]
    fn the_registrys_answer_is_told_without_the_password() {
        let login =
            RegistryLogin { registry: Some("r.example".into()), username: "u".into(), password: "canary-password".into() };
        let container = Container {
            name: Name { socket: "/s".into(), name: "n".into() },
            own_engine: true,
            node_id: "tvm-1".into(),
            image: "r.example/a:1".into(),
            login: Some(login),
            limits: PullLimits::default(),
            shm_size: None,
            memory: None,
            binds: vec![],
            keys: vec![],
            gpus: vec![],
        };
        let answer = words(&Error::DockerStreamError { error: "denied for canary-password ".into() });
        let error = failure(&container, NO_IMAGE, "The image 'r.example/a:1' could not be pulled", &answer);
        assert_eq!(error.message, "The image 'r.example/a:1' could not be pulled: denied for ***");
        let details: Vec<_> = error.details.iter().map(|d| (d.name.as_str(), d.value.as_str())).collect();
        let expected =
            [("imageName", "r.example/a:1"), ("registry", "r.example"), ("nodeId", "tvm-1"), ("answer", "denied for ***")];
        assert_eq!(details, expected);
    }
}
