//! Changes as they are followed.

use serde::Serialize;

use crate::domain::event::Event;
use crate::id::ResourceId;
use crate::wire::times::moment;

/// One change.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventBody<'a> {
    /// The same as the stream's own id of the event.
    id: String,
    time: String,
    resource_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_type: Option<&'static str>,
    /// A short stable word.
    what: &'a str,
    /// Text for people.
    why: &'a str,
    /// The object id of the caller whose request it was; absent for the service itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    caller: Option<String>,
}

impl<'a> EventBody<'a> {
    /// The document of an event.
    pub fn of(event: &'a Event) -> EventBody<'a> {
        EventBody {
            id: event.place.to_string(),
            time: moment(event.at),
            resource_id: &event.path,
            resource_type: ResourceId::parse(&event.path).ok().map(|id| id.kind().resource_type()),
            what: &event.what,
            why: &event.why,
            caller: event.caller.map(|caller| caller.to_string()),
        }
    }
}
