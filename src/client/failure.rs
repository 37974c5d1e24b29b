//! Why a command did not do what it should: for people, for scripts, and as an exit code.

use std::fmt;
use std::ops::{Deref, DerefMut};

use serde_json::{Value, json};

/// What an exit code says. The numbers are a promise: `docs/cli.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The server refused or failed, and no better code fits.
    Refused = 1,
    /// A flag or argument, or an answer is needed and there is no terminal.
    Usage = 2,
    /// Not found.
    Absent = 3,
    /// Not signed in, or not allowed.
    Forbidden = 4,
    /// The input has violations.
    Invalid = 5,
    /// It exists with another spec, is locked, or was changed meanwhile.
    Conflict = 6,
    /// The time of `--timeout` is over; nothing was cancelled.
    Late = 7,
    /// The server was not reached, or failed.
    Away = 8,
    /// A job ended badly and has no exit code.
    JobEnded = 9,
    /// An operation failed.
    Operation = 10,
    /// Ctrl-C.
    Interrupted = 130,
    /// Whoever read the output went away.
    Unread = 141,
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// One violation of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The member that is wrong; empty where it is none.
    pub target: String,
    /// The stable word.
    pub code: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// What a failure tells.
#[derive(Clone, Debug)]
pub struct Told {
    /// The exit code.
    pub exit: Exit,
    /// The server's code, or one of ours.
    pub code: String,
    /// What happened.
    pub message: String,
    /// The member or parameter that it is about.
    pub target: String,
    /// Everything that is wrong with the input.
    pub violations: Vec<Found>,
    /// Lines that can be typed.
    pub remedies: Vec<String>,
    /// The server's name of the request.
    pub request_id: String,
    /// The status of the answer; 0 without one.
    pub status: u16,
}

/// A failure.
#[derive(Clone, Debug)]
pub struct Failure(Box<Told>);

impl Deref for Failure {
    type Target = Told;

    fn deref(&self) -> &Told {
        &self.0
    }
}

impl DerefMut for Failure {
    fn deref_mut(&mut self) -> &mut Told {
        &mut self.0
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl std::error::Error for Failure {}

impl Failure {
    /// One of the client's own.
    pub fn new(exit: Exit, code: &str, message: impl Into<String>) -> Failure {
        Failure(Box::new(Told {
            exit,
            code: code.to_owned(),
            message: message.into(),
            target: String::new(),
            violations: Vec::new(),
            remedies: Vec::new(),
            request_id: String::new(),
            status: 0,
        }))
    }

    /// Wrong flags or arguments.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, "Usage", message)
    }

    /// Something of this machine: a file that cannot be read or written.
    pub fn local(what: &str, error: impl fmt::Display) -> Failure {
        Failure::new(Exit::Refused, "LocalFailure", format!("{what}: {error}"))
    }

    /// With a line that can be typed.
    pub fn or_try(mut self, line: impl Into<String>) -> Failure {
        self.remedies.push(line.into());
        self
    }

    /// What the server's answer says.
    pub fn of(status: u16, body: &Value, text: &str, request_id: &str) -> Failure {
        let error = body.get("error").filter(|error| error.is_object()).unwrap_or(body);
        let word = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (code, message) = (word(error, "code"), word(error, "message"));
        let found = |detail: &Value| Found {
            target: word(detail, "target"),
            code: word(detail, "code"),
            message: word(detail, "message"),
        };
        let mut violations: Vec<Found> =
            error.get("details").and_then(Value::as_array).into_iter().flatten().map(found).collect();
        let is_invalid = matches!(
            code.as_str(),
            "InvalidPropertyValue"
                | "MissingRequiredProperty"
                | "MultipleErrorsOccurred"
                | "PropertyChangeNotAllowed"
                | "InvalidRequestContent"
                | "InvalidTags"
                | "InvalidResourceName"
                | "LocationNotAvailableForResourceType"
                | "LocationNotAvailableForResourceGroup"
        );
        let exit = match status {
            404 => Exit::Absent,
            401 | 403 => Exit::Forbidden,
            _ if is_invalid => Exit::Invalid,
            409 | 412 | 423 => Exit::Conflict,
            429 | 500.. => Exit::Away,
            _ => Exit::Refused,
        };
        let target = word(error, "target");
        if is_invalid && violations.is_empty() {
            violations.push(Found { target: target.clone(), code: code.clone(), message: message.clone() });
        }
        let message = match message.is_empty() {
            false => message,
            true if text.is_empty() => format!("the server answers {status} and no more"),
            true => format!("the server answers {status}: {}", text.chars().take(300).collect::<String>()),
        };
        let code = if code.is_empty() { format!("Http{status}") } else { code };
        let request_id = request_id.to_owned();
        Failure(Box::new(Told { exit, code, message, target, violations, remedies: Vec::new(), request_id, status }))
    }

    /// As one document, for scripts.
    pub fn document(&self) -> Value {
        let violations: Vec<Value> = self
            .violations
            .iter()
            .map(|found| json!({ "target": found.target, "code": found.code, "message": found.message }))
            .collect();
        json!({
            "code": self.code,
            "message": self.message,
            "target": self.target,
            "violations": violations,
            "requestId": self.request_id,
            "exitCode": self.exit.code(),
        })
    }

    /// Whether what was asked for does not exist.
    pub fn is_absence(&self) -> bool {
        self.exit == Exit::Absent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_follow_the_status_and_what_is_wrong() {
        let exit =
            |status: u16, code: &str| Failure::of(status, &json!({"error": {"code": code, "message": "m"}}), "", "r").exit.code();
        assert_eq!(exit(404, "JobNotFound"), 3);
        assert_eq!(exit(401, "ExpiredAuthenticationToken"), 4);
        assert_eq!(exit(403, "AuthorizationFailed"), 4);
        assert_eq!(exit(400, "InvalidPropertyValue"), 5);
        assert_eq!(exit(400, "InvalidQueryParameterValue"), 1);
        assert_eq!(exit(409, "Conflict"), 6);
        assert_eq!(exit(412, "PreconditionFailed"), 6);
        assert_eq!(exit(503, "ServiceUnavailable"), 8);
    }

    #[test]
    fn all_violations_are_told() {
        let body = json!({"error": {"code": "MultipleErrorsOccurred", "message": "2 errors", "details": [
            {"code": "InvalidPropertyValue", "target": "properties.nodeCount", "message": "too small"},
            {"code": "MissingRequiredProperty", "target": "properties.cluster", "message": "required"},
        ]}});
        let failure = Failure::of(400, &body, "", "id");
        assert_eq!(failure.exit, Exit::Invalid);
        assert_eq!(failure.violations.len(), 2);
        assert_eq!(failure.document()["violations"][1]["target"], "properties.cluster");
        assert_eq!(failure.document()["exitCode"], 5);
    }

    #[test]
    fn what_is_no_document_of_ours_is_shown_as_it_is() {
        let failure = Failure::of(502, &Value::Null, "<html>bad gateway</html>", "");
        assert_eq!((failure.exit, failure.code.as_str()), (Exit::Away, "Http502"));
        assert!(failure.message.contains("bad gateway"));
    }
}
