//! Reading JSON from strangers: one reading of each document, and bounds on its cost.
//!
//! Refused: nesting beyond [`MAX_DEPTH`], more than [`MAX_MEMBERS`] members, a member given twice (parsers disagree about which
//! one counts), and U+0000, which the store cannot keep.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Deepest nesting of objects and lists.
pub(crate) const MAX_DEPTH: usize = 64;

/// Most members of all objects and entries of all lists together.
pub(crate) const MAX_MEMBERS: usize = 10_000;

/// Parses one document.
///
/// # Errors
/// What is wrong with it and where; no value of the document is quoted.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    let left = Cell::new(MAX_MEMBERS);
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Reader { depth: 0, left: &left }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

#[derive(Clone, Copy)]
struct Reader<'c> {
    depth: usize,
    left: &'c Cell<usize>,
}

impl Reader<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth >= MAX_DEPTH {
            return Err(E::custom(format_args!("the document is nested more than {MAX_DEPTH} deep")));
        }
        Ok(Reader { depth: self.depth + 1, left: self.left })
    }

    fn count<E: serde::de::Error>(self) -> Result<(), E> {
        let left = self.left.get().checked_sub(1);
        self.left.set(left.ok_or_else(|| E::custom(format_args!("the document has more than {MAX_MEMBERS} members")))?);
        Ok(())
    }
}

fn check<E: serde::de::Error>(text: &str) -> Result<(), E> {
    if text.contains('\0') { Err(E::custom("the document holds the character U+0000")) } else { Ok(()) }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        serde_json::Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Value, E> {
        check(text)?;
        Ok(Value::String(text.to_owned()))
    }

    fn visit_string<E: serde::de::Error>(self, text: String) -> Result<Value, E> {
        check(&text)?;
        Ok(Value::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let reader = self.deeper()?;
        let mut list = Vec::new();
        while let Some(entry) = entries.next_element_seed(reader)? {
            reader.count()?;
            list.push(entry);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let reader = self.deeper()?;
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            reader.count()?;
            check(&name)?;
            let value = members.next_value_seed(reader)?;
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("a member of an object is given twice"));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn ordinary_documents_are_read() {
        let text = br#" {"a": [1, -2, 2.5, true, null, "x"], "b": {"c": {}}} "#;
        assert_eq!(parse(text).expect("reads"), json!({"a": [1, -2, 2.5, true, null, "x"], "b": {"c": {}}}));
    }

    #[test]
    fn hostile_documents_are_refused() {
        let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
        let wide = format!("[{}0]", "0,".repeat(MAX_MEMBERS));
        let abyss = "[".repeat(1_000_000);
        for text in [
            "",
            "{",
            "{} {}",
            "nul",
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"a":"\u0000"}"#,
            r#"{"\u0000":1}"#,
            "1e400",
            "\u{feff}{}",
            deep.as_str(),
            wide.as_str(),
            abyss.as_str(),
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{}", text.chars().take(40).collect::<String>());
        }
        assert!(parse(b"\"\xff\"").is_err());
        assert!(parse(format!("{}{}", "[".repeat(64), "]".repeat(64)).as_bytes()).is_ok());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = parse(&bytes);
        }
    }
}
