//! What changed, by whom and why: the append-only record, and the order in which it can be followed.

use std::fmt;
use std::str::FromStr;

use crate::clock::Timestamp;
use crate::id::{PrincipalId, ResourceUid};

/// Where an event stands among all. What is followed is ordered by the transaction that wrote it, then by id: an id alone may become
/// visible after a greater one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The transaction's number, as the database counts them.
    pub transaction: i64,
    /// The event's id.
    pub id: i64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.transaction, self.id)
    }
}

/// A text that is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not two whole numbers with '-' between them")]
pub struct PlaceError;

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Place, PlaceError> {
        let number = |text: &str| {
            let digits = (1..=19).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
            if digits { text.parse::<i64>().map_err(|_| PlaceError) } else { Err(PlaceError) }
        };
        let (transaction, id) = text.split_once('-').ok_or(PlaceError)?;
        Ok(Place { transaction: number(transaction)?, id: number(id)? })
    }
}

/// One change of a resource. Holds no secret and no body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Where it stands among all.
    pub place: Place,
    /// When.
    pub at: Timestamp,
    /// What was changed.
    pub resource: ResourceUid,
    /// Its canonical path, readable after it is gone.
    pub path: String,
    /// The principal whose request it was; `None` for the service itself.
    pub caller: Option<PrincipalId>,
    /// What happened, as a short stable word such as `created`, `updated`, `placed`, `attempt_ended`, `requeued`, `deleted`.
    pub what: String,
    /// Why, as text for people.
    pub why: String,
}

/// Who made a resource and who changed it last, as far as the record tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authors {
    /// Who asked for it first: the name that it signs in with, or its object id where it is gone.
    pub created_by: Option<String>,
    /// Whose request changed it last.
    pub updated_by: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_place_reads_the_same() {
        let place = Place { transaction: 771, id: 42 };
        assert_eq!(place.to_string().parse(), Ok(place));
        assert!(place < Place { transaction: 772, id: 1 } && place < Place { transaction: 771, id: 43 });
        for text in
            ["", "-", "1", "1-", "-1-2", "+1-2", "1-2-3", "1-2 ", "99999999999999999999-1", "9223372036854775808-1", "１-2"]
        {
            assert_eq!(text.parse::<Place>(), Err(PlaceError), "{text}");
        }
    }
}
