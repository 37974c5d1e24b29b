//! Takes settings out of a table of TOML, and gathers everything that is wrong with it.

use std::net::SocketAddr;
use std::path::PathBuf;

use toml::{Table, Value};

use super::value::{Bytes, Span};

/// One table of the file; what nobody took is unknown.
pub(super) struct Section<'p> {
    name: String,
    table: Table,
    known: Vec<&'static str>,
    problems: &'p mut Vec<String>,
}

impl<'p> Section<'p> {
    /// The whole file.
    pub(super) fn root(table: Table, problems: &'p mut Vec<String>) -> Section<'p> {
        Section { name: String::new(), table, known: Vec::new(), problems }
    }

    /// A table within; empty where the file has none.
    pub(super) fn section(&mut self, key: &'static str) -> Section<'_> {
        let name = self.full(key);
        let table = match self.take_value(key) {
            None => Table::new(),
            Some(Value::Table(table)) => table,
            Some(_) => {
                self.problems.push(format!("{name} must be a table: [{name}]"));
                Table::new()
            }
        };
        Section { name, table, known: Vec::new(), problems: self.problems }
    }

    /// Each table of a list; none where the file has none.
    pub(super) fn each<T>(&mut self, key: &'static str, mut read: impl FnMut(Section<'_>) -> T) -> Vec<T> {
        let name = self.full(key);
        let tables = match self.take_value(key) {
            None => Vec::new(),
            Some(Value::Array(tables)) => tables,
            Some(_) => {
                self.problems.push(format!("{name} must be a list of tables: [[{name}]]"));
                Vec::new()
            }
        };
        let mut found = Vec::new();
        for (index, table) in tables.into_iter().enumerate() {
            let name = format!("{name}[{index}]");
            match table {
                Value::Table(table) => found.push(read(Section { name, table, known: Vec::new(), problems: self.problems })),
                _ => self.problems.push(format!("{name} must be a table")),
            }
        }
        found
    }

    /// A text that must be there.
    pub(super) fn needed(&mut self, key: &'static str, wanted: &str) -> String {
        let problems = self.problems.len();
        let found = self.take(key, String::new(), wanted, text);
        if found.is_empty() && self.problems.len() == problems {
            self.problem(key, &format!("is missing: give {wanted}"));
        }
        found
    }

    /// A value as `parse` reads it, or `default` where there is none. `wanted` says what it should be.
    pub(super) fn take<T>(&mut self, key: &'static str, default: T, wanted: &str, parse: impl FnOnce(Value) -> Option<T>) -> T {
        let Some(value) = self.take_value(key) else { return default };
        let shown = value.to_string();
        parse(value).unwrap_or_else(|| {
            let name = self.full(key);
            self.problems.push(format!("{name} = {shown} is not {wanted}"));
            default
        })
    }

    pub(super) fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        self.take(key, None, "an absolute path", |value| {
            Some(PathBuf::from(text(value)?)).filter(|path| path.is_absolute()).map(Some)
        })
    }

    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        self.take(key, default, "true or false", |value| value.as_bool())
    }

    /// A number within bounds.
    pub(super) fn number(&mut self, key: &'static str, default: u32, bounds: std::ops::RangeInclusive<u32>) -> u32 {
        let wanted = format!("a number from {} to {}", bounds.start(), bounds.end());
        self.take(key, default, &wanted, |value| {
            value.as_integer().and_then(|number| u32::try_from(number).ok()).filter(|number| bounds.contains(number))
        })
    }

    pub(super) fn span(&mut self, key: &'static str, default: Span) -> Span {
        self.take(key, default, "a time such as \"30s\" (ms, s, m, h, d)", |value| Span::parse(value.as_str()?))
    }

    pub(super) fn bytes(&mut self, key: &'static str, default: Bytes, least: Bytes) -> Bytes {
        let wanted = format!("an amount such as \"64MiB\" (KiB, MiB, GiB, TiB), at least {least}");
        self.take(key, default, &wanted, |value| Bytes::parse(value.as_str()?).filter(|amount| amount.0 >= least.0))
    }

    pub(super) fn addresses(&mut self, key: &'static str, default: Vec<SocketAddr>) -> Vec<SocketAddr> {
        self.take(key, default, "a list of addresses such as [\"127.0.0.1:8080\"]", |value| {
            value.as_array()?.iter().map(|value| value.as_str()?.parse().ok()).collect()
        })
    }

    pub(super) fn texts(&mut self, key: &'static str, default: Vec<String>) -> Vec<String> {
        self.take(key, default, "a list of texts", |value| {
            let Value::Array(values) = value else { return None };
            values.into_iter().map(text).collect()
        })
    }

    /// A table of texts.
    pub(super) fn options(&mut self, key: &'static str) -> Vec<(String, String)> {
        self.take(key, Vec::new(), "a table of texts", |value| {
            let Value::Table(table) = value else { return None };
            table.into_iter().map(|(name, value)| Some((name, text(value)?))).collect()
        })
    }

    /// Records a problem of a setting of this table.
    pub(super) fn problem(&mut self, key: &str, what: &str) {
        let name = self.full(key);
        self.problems.push(format!("{name} {what}"));
    }

    /// Everything that was not taken is unknown.
    pub(super) fn end(self) {
        for key in self.table.keys() {
            let name = if self.name.is_empty() { key.clone() } else { format!("{}.{key}", self.name) };
            let place = if self.name.is_empty() { "the file".to_owned() } else { format!("[{}]", self.name) };
            self.problems.push(format!("{name} is not a setting; {place} has {}", self.known.join(", ")));
        }
    }

    fn take_value(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.table.remove(key)
    }

    fn full(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) if !text.trim().is_empty() => Some(text),
        _ => None,
    }
}
