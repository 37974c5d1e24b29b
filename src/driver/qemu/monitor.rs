//! What QEMU says of its machine by QMP: that it started again, stopped, or broke.
//!
//! Source: QEMU's page on the QEMU Machine Protocol: a greeting, `qmp_capabilities`, then events as they come, one JSON object a line.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::Builder;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Events that tell of the machine as a whole.
const TOLD: [&str; 6] = ["SHUTDOWN", "RESET", "STOP", "GUEST_PANICKED", "BLOCK_IO_ERROR", "WATCHDOG"];

/// Longest time until QEMU listens.
const BEGIN: Duration = Duration::from_secs(10);

/// Time between two tries.
const LOOK: Duration = Duration::from_millis(20);

/// Longest line that is read. Unit: bytes.
const MAX_LINE: u64 = 1 << 20;

/// Tells `hear` of events of the QEMU that listens at `socket`, for as long as it lives.
///
/// # Errors
/// It does not listen, or speaks another way.
pub(super) fn listen(socket: &Path, hear: impl Fn(String) + Send + 'static) -> io::Result<()> {
    let until = Instant::now() + BEGIN;
    let stream = loop {
        match UnixStream::connect(socket) {
            Ok(stream) => break stream,
            Err(error) if Instant::now() > until => return Err(error),
            Err(_) => std::thread::sleep(LOOK),
        }
    };
    stream.set_read_timeout(Some(BEGIN))?;
    let mut lines = BufReader::new(stream.try_clone()?);
    let greeting = read(&mut lines)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    if greeting.get("QMP").is_none() {
        return Err(io::Error::other("the monitor is none of QEMU's"));
    }
    writeln!(&stream, "{}", serde_json::json!({ "execute": "qmp_capabilities" }))?;
    stream.set_read_timeout(None)?;
    Builder::new().name("monitor".into()).spawn(move || {
        // Held, so that QEMU has whom to tell.
        let _stream = stream;
        while let Ok(Some(said)) = read(&mut lines) {
            if let Some(event) = event(&said) {
                hear(event);
            }
        }
    })?;
    Ok(())
}

fn read(lines: &mut BufReader<UnixStream>) -> io::Result<Option<Value>> {
    let mut line = String::new();
    if io::Read::take(lines, MAX_LINE).read_line(&mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(serde_json::from_str(&line)?))
}

/// An event that is worth a line, for people.
fn event(said: &Value) -> Option<String> {
    let name = said.get("event")?.as_str().filter(|name| TOLD.contains(name))?;
    let why = said.pointer("/data/reason").and_then(Value::as_str);
    Some(match why {
        Some(why) => format!("{name} ({why})"),
        None => name.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_tells_of_the_machine_is_told() {
        let said = json!({ "event": "SHUTDOWN", "data": { "guest": true, "reason": "guest-shutdown" }, "timestamp": {} });
        assert_eq!(event(&said).as_deref(), Some("SHUTDOWN (guest-shutdown)"));
        assert_eq!(event(&json!({ "event": "RTC_CHANGE" })), None);
        assert_eq!(event(&json!({ "return": {} })), None);
    }
}
