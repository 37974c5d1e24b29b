//! The record of what was asked for: every request that writes, deletes or acts, and what became of it.

use std::net::IpAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::domain::resource::Expected;
use crate::id::{OperationId, PrincipalId, SubscriptionId};

/// A request that writes, deletes or acts, before it is known what becomes of it. Holds no body and no secret.
#[derive(Debug)]
pub struct Asked {
    /// Its identity.
    pub event_id: Uuid,
    /// When it came.
    pub at: Timestamp,
    /// Where.
    pub subscription: SubscriptionId,
    /// Who asks.
    pub caller: PrincipalId,
    /// Groups related requests, as the caller gave it.
    pub correlation: String,
    /// The permission that it asked for.
    pub action: String,
    /// What it is about, in lower case.
    pub key: String,
    /// What it is about, as answers show it.
    pub path: String,
    /// The rest, for people.
    pub request: RequestFacts,
    /// Its span, as a W3C traceparent, where it is told.
    pub trace: Option<String>,
    /// Whether it was recorded in the transaction that carried it out.
    recorded: AtomicBool,
    /// Under which condition.
    expected: OnceLock<Expected>,
}

/// What people want to know of a request beside who, what and when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestFacts {
    /// The request's own id, as its answer carried it.
    pub request_id: Uuid,
    /// The name that the caller signs in with.
    pub client_id: String,
    /// The caller's directory.
    pub tenant: Uuid,
    /// The role that allowed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The method.
    pub method: String,
    /// The address, shortened where it is long.
    pub uri: String,
    /// The caller's own id of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_request_id: Option<String>,
    /// Where it came from; `None` over a unix socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ip: Option<IpAddr>,
    /// Code and message of the refusal, where it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<(String, String)>,
}

/// The parts of an [`Asked`] that whoever makes one gives.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Where.
    pub subscription: SubscriptionId,
    /// The permission that it asks for.
    pub action: String,
    /// What it is about, in lower case.
    pub key: String,
    /// What it is about, as answers show it.
    pub path: String,
}

impl Asked {
    /// A request that came now.
    pub fn new(at: Timestamp, caller: PrincipalId, correlation: String, subject: Subject, request: RequestFacts) -> Asked {
        let Subject { subscription, action, key, path } = subject;
        Asked {
            event_id: Uuid::new_v4(),
            at,
            subscription,
            caller,
            correlation,
            action,
            key,
            path,
            request,
            trace: None,
            recorded: AtomicBool::new(false),
            expected: OnceLock::new(),
        }
    }

    /// The same, with its span.
    pub fn traced(self, trace: Option<String>) -> Asked {
        Asked { trace, ..self }
    }

    /// The row that tells of it, with what became of it.
    pub fn row(&self, ended_at: Timestamp, status: u16, operation: Option<OperationId>) -> Activity {
        Activity {
            event_id: self.event_id,
            subscription_id: self.subscription.0,
            at: self.at,
            ended_at,
            correlation: self.correlation.clone(),
            caller: Some(self.caller.0),
            action: self.action.clone(),
            key: self.key.clone(),
            path: self.path.clone(),
            status: i16::try_from(status).unwrap_or_default(),
            operation_id: operation.map(|id| id.0),
            request: self.request.clone(),
        }
    }

    /// The row of a refusal.
    pub fn refused(&self, ended_at: Timestamp, status: u16, code: &str, message: &str) -> Activity {
        let mut row = self.row(ended_at, status, None);
        row.request.refusal = Some((code.to_owned(), message.to_owned()));
        row
    }

    /// Tells that the transaction that carried it out has recorded it.
    pub fn set_recorded(&self) {
        self.recorded.store(true, Ordering::Release);
    }

    /// Sets the condition under which it is carried out, once.
    pub fn expect(&self, expected: Expected) {
        // A request has one resource, and so one condition.
        let _ = self.expected.set(expected);
    }

    /// The condition under which it is carried out, if there is one.
    pub fn expected(&self) -> Option<Expected> {
        self.expected.get().copied()
    }

    /// Whether it is recorded.
    pub fn is_recorded(&self) -> bool {
        self.recorded.load(Ordering::Acquire)
    }
}

/// A request and what became of it, as stored. Written as the columns of its row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activity {
    /// Its identity.
    pub event_id: Uuid,
    /// Where.
    pub subscription_id: Uuid,
    /// When it came.
    #[serde(with = "time::serde::rfc3339")]
    pub at: Timestamp,
    /// When it was answered.
    #[serde(with = "time::serde::rfc3339")]
    pub ended_at: Timestamp,
    /// Groups related requests.
    pub correlation: String,
    /// Who asked.
    pub caller: Option<Uuid>,
    /// The permission that it asked for.
    pub action: String,
    /// What it was about, in lower case.
    pub key: String,
    /// What it was about, as answers show it.
    pub path: String,
    /// The HTTP status of the answer.
    pub status: i16,
    /// The operation that went on after the answer.
    pub operation_id: Option<Uuid>,
    /// Method, address, client and refusal.
    pub request: RequestFacts,
}

/// An activity as it is read back, with what its operation came to.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Its place in the record.
    pub position: i64,
    /// What was stored.
    pub activity: Activity,
    /// What became of the operation that went on after the answer, where one did: when it ended, and whether well.
    pub outcome: Option<(Timestamp, bool)>,
}

/// Which part of a subscription's record is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Whose record.
    pub subscription: SubscriptionId,
    /// Nothing that ended before this.
    pub from: Timestamp,
    /// Nothing that began after this.
    pub to: Option<Timestamp>,
    /// Only what is about this key or something below it.
    pub below: Option<String>,
    /// Only what is about this key.
    pub at: Option<String>,
    /// Only actions of this provider, in lower case.
    pub provider: Option<String>,
    /// Only this correlation.
    pub correlation: Option<String>,
}
