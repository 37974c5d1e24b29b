//! Reading a JSON document member by member, so that every violation is found in one pass, each with its wire path.
//!
//! Members that nobody asks for are ignored, and `null` means absent, as the retired service read them. No message quotes a
//! value: it could be a secret in the wrong place.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::error::Violations;

/// Longest command line, script or value of a variable. Unit: bytes. Below what one argument of a Linux process may have, 128 KiB, with
/// some room for what launchers put around it.
pub const LONG_TEXT: usize = 120 * 1024;

/// Longest name, path or key. Unit: bytes.
pub const SHORT_TEXT: usize = 4 * 1024;

/// Most entries of a list.
pub const MAX_ENTRIES: usize = 1_000;

/// One object of a document and where it is.
#[derive(Clone, Debug)]
pub struct Fields<'v> {
    object: &'v Map<String, Value>,
    path: String,
}

impl<'v> Fields<'v> {
    /// The document itself.
    pub fn root(document: &'v Value, found: &mut Violations) -> Option<Fields<'v>> {
        match document {
            Value::Object(object) => Some(Fields { object, path: String::new() }),
            other => {
                found.invalid("$", format!("The request body must be a JSON object, not {}.", kind(other)));
                None
            }
        }
    }

    /// The wire path of a member.
    pub fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Whether a member is given, and not as `null`.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    fn get(&self, name: &str) -> Option<&'v Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// A text of at most `limit` bytes.
    pub fn text(&self, name: &str, limit: usize, found: &mut Violations) -> Option<&'v str> {
        match self.get(name)? {
            Value::String(text) if text.len() <= limit => Some(text),
            Value::String(_) => {
                let path = self.path_of(name);
                found.invalid(&path, format!("The property '{path}' is longer than {limit} bytes. Shorten it."));
                None
            }
            other => {
                self.mistyped(name, "a string", other, found);
                None
            }
        }
    }

    /// A text that must be there and not be empty.
    pub fn required_text(&self, name: &str, limit: usize, found: &mut Violations) -> Option<&'v str> {
        if !self.has(name) {
            found.missing(self.path_of(name));
            return None;
        }
        let text = self.text(name, limit, found)?;
        if text.trim().is_empty() {
            let path = self.path_of(name);
            found.invalid(&path, format!("The property '{path}' is empty. Give it a value."));
            return None;
        }
        Some(text)
    }

    /// A whole number within `range`.
    pub fn number(&self, name: &str, range: RangeInclusive<u32>, found: &mut Violations) -> Option<u32> {
        let value = self.get(name)?;
        let Value::Number(number) = value else {
            self.mistyped(name, "a whole number", value, found);
            return None;
        };
        let number = number.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| range.contains(n));
        if number.is_none() {
            let (path, low, high) = (self.path_of(name), range.start(), range.end());
            found.invalid(&path, format!("The property '{path}' must be a whole number from {low} to {high}."));
        }
        number
    }

    /// A whole number that must be there.
    pub fn required_number(&self, name: &str, range: RangeInclusive<u32>, found: &mut Violations) -> Option<u32> {
        if !self.has(name) {
            found.missing(self.path_of(name));
            return None;
        }
        self.number(name, range, found)
    }

    /// One of a set of words, read without regard to case.
    pub fn word<T: Copy>(&self, name: &str, words: &[(&str, T)], found: &mut Violations) -> Option<T> {
        let text = self.text(name, SHORT_TEXT, found)?;
        let known = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)).map(|(_, value)| *value);
        if known.is_none() {
            let path = self.path_of(name);
            let list: Vec<String> = words.iter().map(|(word, _)| format!("'{word}'")).collect();
            found.invalid(&path, format!("The property '{path}' must be one of {}.", list.join(", ")));
        }
        known
    }

    /// A list of at most `most` whole numbers within `range`.
    pub fn numbers(&self, name: &str, range: RangeInclusive<i32>, most: usize, found: &mut Violations) -> Option<Vec<i32>> {
        let value = self.get(name)?;
        let Value::Array(entries) = value else {
            self.mistyped(name, "a list of whole numbers", value, found);
            return None;
        };
        let number = |entry: &Value| entry.as_i64().and_then(|n| i32::try_from(n).ok()).filter(|n| range.contains(n));
        let numbers: Option<Vec<i32>> = entries.iter().map(number).collect();
        if numbers.is_none() || entries.len() > most {
            let (path, low, high) = (self.path_of(name), range.start(), range.end());
            found.invalid(
                &path,
                format!("The property '{path}' must be a list of at most {most} whole numbers from {low} to {high}."),
            );
            return None;
        }
        numbers
    }

    /// A list of words of a set, read without regard to case.
    pub fn words<T: Copy>(&self, name: &str, words: &[(&str, T)], found: &mut Violations) -> Option<Vec<T>> {
        let texts = self.list_of_texts(name, SHORT_TEXT, found)?;
        let known = |text: &&str| words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)).map(|(_, value)| *value);
        let read: Option<Vec<T>> = texts.iter().map(known).collect();
        if read.is_none() {
            let path = self.path_of(name);
            let list: Vec<String> = words.iter().map(|(word, _)| format!("'{word}'")).collect();
            found.invalid(&path, format!("The entries of the property '{path}' must be of {}.", list.join(", ")));
        }
        read
    }

    /// True or false.
    pub fn flag(&self, name: &str, found: &mut Violations) -> Option<bool> {
        match self.get(name)? {
            Value::Bool(flag) => Some(*flag),
            other => {
                self.mistyped(name, "true or false", other, found);
                None
            }
        }
    }

    /// An object.
    pub fn object(&self, name: &str, found: &mut Violations) -> Option<Fields<'v>> {
        match self.get(name)? {
            Value::Object(object) => Some(Fields { object, path: self.path_of(name) }),
            other => {
                self.mistyped(name, "an object", other, found);
                None
            }
        }
    }

    /// An object that must be there.
    pub fn required_object(&self, name: &str, found: &mut Violations) -> Option<Fields<'v>> {
        if !self.has(name) {
            found.missing(self.path_of(name));
            return None;
        }
        self.object(name, found)
    }

    /// The entries of a list of at most `most`, each with its path.
    fn entries(&self, name: &str, most: usize, found: &mut Violations) -> Option<Vec<(String, &'v Value)>> {
        let path = self.path_of(name);
        let entries = match self.get(name)? {
            Value::Array(entries) => entries,
            other => {
                self.mistyped(name, "a list", other, found);
                return None;
            }
        };
        if entries.len() > most {
            found.invalid(&path, format!("The property '{path}' has more than {most} entries."));
            return None;
        }
        Some(entries.iter().enumerate().map(|(index, entry)| (format!("{path}[{index}]"), entry)).collect())
    }

    /// A list of objects. Entries that are none are violations and left out.
    pub fn objects(&self, name: &str, found: &mut Violations) -> Option<Vec<Fields<'v>>> {
        let entries = self.entries(name, MAX_ENTRIES, found)?;
        let mut objects = Vec::with_capacity(entries.len());
        for (path, entry) in entries {
            match entry {
                Value::Object(object) => objects.push(Fields { object, path }),
                other => found.invalid(&path, format!("The property '{path}' must be an object, not {}.", kind(other))),
            }
        }
        Some(objects)
    }

    /// A list of texts, each of at most `limit` bytes.
    pub fn list_of_texts(&self, name: &str, limit: usize, found: &mut Violations) -> Option<Vec<&'v str>> {
        let texts = self.strings(name, MAX_ENTRIES, found)?;
        let fits = |(path, text): (String, &'v str)| {
            if text.len() > limit {
                found.invalid(&path, format!("The property '{path}' is longer than {limit} bytes. Shorten it."));
            }
            (text.len() <= limit).then_some(text)
        };
        Some(texts.into_iter().filter_map(fits).collect())
    }

    /// A list of at most `most` texts, each with its path. Entries that are none are violations and left out.
    pub fn strings(&self, name: &str, most: usize, found: &mut Violations) -> Option<Vec<(String, &'v str)>> {
        let entries = self.entries(name, most, found)?;
        let mut texts = Vec::with_capacity(entries.len());
        for (path, entry) in entries {
            match entry {
                Value::String(text) => texts.push((path, text.as_str())),
                other => found.invalid(&path, format!("The property '{path}' must be a string, not {}.", kind(other))),
            }
        }
        Some(texts)
    }

    /// A map of texts, as tags are.
    pub fn texts(&self, name: &str, found: &mut Violations) -> Option<Vec<(&'v str, &'v str)>> {
        let object = self.object(name, found)?;
        let mut texts = Vec::with_capacity(object.object.len());
        for (key, value) in object.object {
            match value {
                Value::String(text) => texts.push((key.as_str(), text.as_str())),
                other => object.mistyped(key, "a string", other, found),
            }
        }
        Some(texts)
    }

    fn mistyped(&self, name: &str, wanted: &str, value: &Value, found: &mut Violations) {
        let path = self.path_of(name);
        found.invalid(&path, format!("The property '{path}' must be {wanted}, not {}.", kind(value)));
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_violation_is_found_with_its_path() {
        let document = json!({"a": 1, "b": {"c": -1, "d": [{}, 7], "e": "Wrong"}, "tags": {"x": 1}, "n": null});
        let mut found = Violations::new();
        let root = Fields::root(&document, &mut found).expect("an object");
        assert_eq!(root.text("a", 10, &mut found), None);
        assert_eq!(root.text("n", 10, &mut found), None, "null is absent");
        let b = root.object("b", &mut found).expect("an object");
        assert_eq!(b.number("c", 0..=5, &mut found), None);
        assert_eq!(b.objects("d", &mut found).map(|d| d.len()), Some(1));
        assert_eq!(b.word("e", &[("right", 1)], &mut found), None);
        b.required_text("f", 10, &mut found);
        root.texts("tags", &mut found);
        let targets: Vec<&str> = found.iter().map(|v| v.target.as_str()).collect();
        assert_eq!(targets, ["a", "b.c", "b.d[1]", "b.e", "b.f", "tags.x"]);
    }

    #[test]
    fn numbers_are_whole_and_within_bounds() {
        for (value, read) in
            [(json!(3), Some(3)), (json!(3.0), None), (json!(-1), None), (json!("3"), None), (json!(1e300), None)]
        {
            let document = json!({ "n": value });
            let mut found = Violations::new();
            let root = Fields::root(&document, &mut found).expect("an object");
            assert_eq!(root.number("n", 0..=5, &mut found), read);
            assert_eq!(found.is_empty(), read.is_some());
        }
    }
}
