//! The activity log as the platform writes it: a request is an event when it begins, one when it is accepted, and one when it ends.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::domain::activity::Recorded;
use crate::wire::times::precise;

/// Ticks of 100 ns from the year 1 to 1970, which ids of events count from.
const TICKS_TO_EPOCH: i128 = 621_355_968_000_000_000;

/// What an event tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Started,
    Accepted,
    Succeeded,
    Failed,
}

impl Stage {
    fn as_str(self) -> &'static str {
        match self {
            Stage::Started => "Started",
            Stage::Accepted => "Accepted",
            Stage::Succeeded => "Succeeded",
            Stage::Failed => "Failed",
        }
    }
}

/// An event with the moment that lists are filtered and ordered by.
#[derive(Clone, Debug)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// How it stands, such as `Succeeded`.
    pub status: &'static str,
    /// Who asked: the name that it signs in with.
    pub caller: String,
    /// The document.
    pub body: Value,
}

/// The events of a recorded request, the latest first.
pub fn events(recorded: &Recorded) -> Vec<Event> {
    let activity = &recorded.activity;
    let status = u16::try_from(activity.status).unwrap_or(500);
    let mut found = vec![event(recorded, Stage::Started, activity.at, None)];
    if activity.operation_id.is_some() && status == 202 {
        found.push(event(recorded, Stage::Accepted, activity.ended_at, Some(status)));
        if let Some((at, well)) = recorded.outcome {
            found.push(event(recorded, if well { Stage::Succeeded } else { Stage::Failed }, at, None));
        }
    } else {
        let stage = if status < 400 { Stage::Succeeded } else { Stage::Failed };
        found.push(event(recorded, stage, activity.ended_at, Some(status)));
    }
    found.reverse();
    found
}

fn event(recorded: &Recorded, stage: Stage, at: Timestamp, status: Option<u16>) -> Event {
    let (activity, request) = (&recorded.activity, &recorded.activity.request);
    let id = Uuid::from_u128(activity.event_id.as_u128() ^ (1 + stage as u128));
    let ticks = TICKS_TO_EPOCH + at.unix_timestamp_nanos() / 100;
    let moment = precise(at);
    let word = |word: &str| json!({"value": word, "localizedValue": word});
    let sub_status = match status {
        Some(code) => {
            let name = reason(code);
            json!({"value": name.replace([' ', '-'], ""), "localizedValue": format!("{name} (HTTP Status Code: {code})")})
        }
        None => json!({"value": "", "localizedValue": ""}),
    };
    let begins = stage == Stage::Started;
    let mut properties = json!({
        "eventCategory": "Administrative",
        "entity": activity.path,
        "message": activity.action,
        "hierarchy": activity.subscription_id,
    });
    if let (Value::Object(members), Some((code, message)), false) = (&mut properties, &request.refusal, begins) {
        members.insert("statusMessage".into(), json!(json!({"error": {"code": code, "message": message}}).to_string()));
    }
    if let (Value::Object(members), Some(code)) = (&mut properties, status) {
        members.insert("statusCode".into(), json!(reason(code)));
    }
    let provider = activity.action.split('/').next().unwrap_or_default();
    let body = json!({
        "authorization": {"action": activity.action, "role": request.role, "scope": activity.path},
        "caller": request.client_id,
        "channels": "Operation",
        "claims": {
            "appid": request.client_id,
            "http://schemas.microsoft.com/identity/claims/objectidentifier": activity.caller,
            "http://schemas.microsoft.com/identity/claims/tenantid": request.tenant,
        },
        "correlationId": activity.correlation,
        "description": "",
        "eventDataId": id,
        "eventName": if begins {
            json!({"value": "BeginRequest", "localizedValue": "Begin request"})
        } else {
            json!({"value": "EndRequest", "localizedValue": "End request"})
        },
        "category": word("Administrative"),
        "httpRequest": {
            "clientRequestId": request.client_request_id,
            "clientIpAddress": request.client_ip,
            "method": request.method,
            "uri": request.uri,
        },
        "id": format!("{}/events/{id}/ticks/{ticks}", activity.path),
        "level": if stage == Stage::Failed { "Error" } else { "Informational" },
        "resourceGroupName": group_of(&activity.path),
        "resourceProviderName": word(provider),
        "resourceId": activity.path,
        "resourceType": word(&type_of(&activity.action)),
        "operationId": activity.event_id,
        "operationName": word(&activity.action),
        "properties": properties,
        "status": word(stage.as_str()),
        "subStatus": sub_status,
        "eventTimestamp": moment,
        "submissionTimestamp": moment,
        "subscriptionId": activity.subscription_id,
        "tenantId": request.tenant,
    });
    Event { at, status: stage.as_str(), caller: request.client_id.clone(), body }
}

fn group_of(path: &str) -> String {
    let mut segments = path.split('/').skip(3);
    match segments.next() {
        Some(word) if word.eq_ignore_ascii_case("resourceGroups") => segments.next().unwrap_or_default().to_owned(),
        _ => String::new(),
    }
}

/// The type that an action is about: what is between its provider and its verb, with the provider.
fn type_of(action: &str) -> String {
    let kept = if action.to_ascii_lowercase().ends_with("/action") { 2 } else { 1 };
    let segments: Vec<&str> = action.split('/').collect();
    segments.iter().take(segments.len().saturating_sub(kept)).copied().collect::<Vec<_>>().join("/")
}

/// The name of a status.
fn reason(code: u16) -> &'static str {
    match code {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        409 => "Conflict",
        412 => "Precondition Failed",
        413 => "Payload Too Large",
        415 => "Unsupported Media Type",
        429 => "Too Many Requests",
        503 => "Service Unavailable",
        code if code < 400 => "OK",
        code if code < 500 => "Bad Request",
        _ => "Internal Server Error",
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::domain::activity::{Activity, RequestFacts};

    fn recorded(status: i16, operation: bool, outcome: Option<bool>) -> Recorded {
        let at = datetime!(2026-01-02 03:04:05.6 UTC);
        Recorded {
            position: 1,
            activity: Activity {
                event_id: Uuid::from_u128(64),
                subscription_id: Uuid::from_u128(1),
                at,
                ended_at: at,
                correlation: "c".into(),
                caller: Some(Uuid::from_u128(2)),
                action: "Microsoft.BatchAI/workspaces/experiments/jobs/terminate/action".into(),
                key: "/subscriptions/s/resourcegroups/g".into(),
                path: "/subscriptions/s/resourceGroups/G".into(),
                status,
                operation_id: operation.then(|| Uuid::from_u128(3)),
                request: RequestFacts {
                    refusal: (status >= 400).then(|| ("Code".into(), "Why.".into())),
                    ..RequestFacts::default()
                },
            },
            outcome: outcome.map(|well| (at, well)),
        }
    }

    #[test]
    fn a_request_is_told_from_its_beginning_to_its_end() {
        let told = |recorded: &Recorded| events(recorded).iter().map(|event| event.status).collect::<Vec<_>>();
        assert_eq!(told(&recorded(200, false, None)), ["Succeeded", "Started"]);
        assert_eq!(told(&recorded(409, false, None)), ["Failed", "Started"]);
        assert_eq!(told(&recorded(202, true, None)), ["Accepted", "Started"]);
        assert_eq!(told(&recorded(202, true, Some(true))), ["Succeeded", "Accepted", "Started"]);
        assert_eq!(told(&recorded(202, true, Some(false))), ["Failed", "Accepted", "Started"]);
        let failed = &events(&recorded(409, false, None))[0].body;
        assert_eq!(failed["subStatus"]["localizedValue"], "Conflict (HTTP Status Code: 409)");
        assert_eq!(failed["properties"]["statusMessage"], r#"{"error":{"code":"Code","message":"Why."}}"#);
        assert_eq!(failed["resourceType"]["value"], "Microsoft.BatchAI/workspaces/experiments/jobs");
        assert_eq!(failed["resourceGroupName"], "G");
        assert_eq!(failed["eventTimestamp"], "2026-01-02T03:04:05.6000000Z");
        assert!(failed["id"].as_str().expect("text").ends_with("/ticks/639029198456000000"), "{}", failed["id"]);
        let ids: std::collections::BTreeSet<String> =
            events(&recorded(202, true, Some(true))).iter().map(|event| event.body["eventDataId"].to_string()).collect();
        assert_eq!(ids.len(), 3);
    }
}
