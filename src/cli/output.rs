//! Answers on standard output, and nothing else there.

use std::io::{ErrorKind, Write};

use comfy_table::{ContentLineStyle, LineStyle, Table, TableStyle};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::Value;

use super::global::Format;
use super::query::Query;
use super::terminal::{Terminal, visible};
use super::views::{Look, View};
use crate::client::{Exit, Failure, Result};

/// Lists are as the Azure CLI draws them: a line of dashes below each title, two spaces between columns.
const STYLE: TableStyle = TableStyle::new()
    .header_lines(ContentLineStyle::none().junction(' '))
    .header_separator(LineStyle::none().fill('-').junction(' '))
    .content_lines(ContentLineStyle::none().junction(' '));

/// What a command found.
#[derive(Debug)]
pub(super) enum Answer {
    /// Nothing to tell.
    Nothing,
    /// One thing.
    One(Value, &'static View),
    /// Several.
    Many(Vec<Value>, &'static View),
    /// Text that is the answer as it is.
    Text(String),
    /// Nothing to tell, and an exit code of somebody else's.
    Exit(u8),
    /// One thing, and such an exit code.
    Ended(Value, &'static View, u8),
}

/// How answers are written.
pub(super) struct Output {
    /// As asked for; `None` lets the terminal decide.
    pub format: Option<Format>,
    /// What is picked from them.
    pub query: Option<Query>,
    /// Where to.
    pub terminal: Terminal,
}

impl Output {
    fn format(&self) -> Option<Format> {
        match self.format {
            None if self.query.is_some() || !self.terminal.out => Some(Format::Json),
            format => format,
        }
    }

    /// Whether people read it.
    pub(super) fn is_for_people(&self) -> bool {
        self.format().is_none()
    }

    /// Writes an answer, and answers with which code the process ends.
    ///
    /// # Errors
    /// `Usage` where the query cannot be applied; `Unread` where the reader went away.
    pub(super) fn end(&self, answer: Answer) -> Result<u8> {
        match answer {
            Answer::Exit(code) => Ok(code),
            Answer::Ended(document, view, code) => self.write(Answer::One(document, view)).map(|()| code),
            other => self.write(other).map(|()| 0),
        }
    }

    /// Writes one of many things that come one after the other: a line each.
    ///
    /// # Errors
    /// As of [`end`](Output::end).
    pub(super) fn line(&self, document: &Value, view: &View) -> Result<()> {
        let look = Look { people: false, ..Look::now() };
        match (&self.query, self.format()) {
            (Some(query), _) => print(&format!("{}\n", query.pick(document.clone())?)),
            (None, Some(Format::Json | Format::Jsonc | Format::Yaml)) => print(&format!("{document}\n")),
            (None, Some(Format::None)) => Ok(()),
            (None, Some(Format::Tsv)) => print(&tsv(&[view.row(document, &look)])),
            (None, _) => print(&format!("{}\n", view.row(document, &look).join("  "))),
        }
    }

    fn write(&self, answer: Answer) -> Result<()> {
        let look = Look { people: self.terminal.out, ..Look::now() };
        let (document, view, many) = match answer {
            Answer::Nothing | Answer::Exit(_) => return Ok(()),
            Answer::Text(text) => return print(&text),
            Answer::One(document, view) | Answer::Ended(document, view, _) => (document, view, false),
            Answer::Many(documents, view) => (Value::Array(documents), view, true),
        };
        let (document, view) = match &self.query {
            Some(query) => (query.pick(document)?, None),
            None => (document, Some(view)),
        };
        let keys = self.query.as_ref().map(|query| query.keys.as_slice()).unwrap_or_default();
        match (self.format(), view) {
            (Some(Format::None), _) => Ok(()),
            (Some(Format::Json | Format::Jsonc), _) => print(&format!("{}\n", pretty(&document, keys)?)),
            (Some(Format::Yaml), _) => print(&yaml(&document, keys)?),
            (Some(Format::Tsv), None) => print(&tsv_of(&document, keys)),
            (Some(Format::Tsv), Some(view)) => print(&tsv(&view.rows(&document, &look))),
            (Some(Format::Table), None) => print(&self.table_of(&document, keys)),
            (Some(Format::Table), Some(view)) => print(&self.table(&view.titles(), view.rows(&document, &look))),
            (None, Some(view)) if many => self.list(view, &document, &look),
            (None, Some(view)) => print(&self.sheet(view, &document, &look)),
            (None, None) => print(&format!("{}\n", pretty(&document, keys)?)),
        }
    }

    fn list(&self, view: &View, document: &Value, look: &Look) -> Result<()> {
        let rows = view.rows(document, look);
        if rows.is_empty() {
            self.terminal.say("none");
            return Ok(());
        }
        print(&self.table(&view.titles(), rows))
    }

    /// Columns that fit the terminal: the rightmost go first, and a line says how many.
    pub(super) fn table(&self, titles: &[&str], rows: Vec<Vec<String>>) -> String {
        let mut shown = titles.len();
        if let Some(width) = self.terminal.width {
            let widths: Vec<usize> = (0..titles.len())
                .map(|column| {
                    let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| console::measure_text_width(cell));
                    cells.chain([titles.get(column).map_or(0, |title| title.len())]).max().unwrap_or(0) + 2
                })
                .collect();
            while shown > 1 && widths.iter().take(shown).sum::<usize>() > width + 1 {
                shown -= 1;
            }
        }
        let mut table = Table::new();
        table.load_style(STYLE);
        table.set_header(titles.iter().take(shown).map(|title| (*title).to_owned()).collect::<Vec<_>>());
        for row in rows {
            table.add_row(row.into_iter().take(shown).collect::<Vec<_>>());
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 1));
        }
        let mut text = table.trim_fmt();
        text.push('\n');
        let hidden = titles.len() - shown;
        if hidden > 0 {
            self.terminal.say(&format!("{hidden} columns hidden: widen the terminal, or -o json"));
        }
        text
    }

    /// What a query picked, as a table: columns in the order in which they were asked for.
    fn table_of(&self, document: &Value, keys: &[String]) -> String {
        let items = match document {
            Value::Array(items) => items.clone(),
            Value::Null => return String::new(),
            other => vec![other.clone()],
        };
        let titles: Vec<String> = match items.first() {
            Some(Value::Object(members)) if keys.is_empty() => members.keys().cloned().collect(),
            Some(Value::Object(_)) => keys.to_vec(),
            Some(Value::Array(cells)) => (1..=cells.len()).map(|at| format!("Column{at}")).collect(),
            _ => vec!["Result".to_owned()],
        };
        let rows = items.iter().map(|item| cells(item, &titles)).collect();
        self.table(&titles.iter().map(String::as_str).collect::<Vec<_>>(), rows)
    }

    fn sheet(&self, view: &View, document: &Value, look: &Look) -> String {
        let cells = view.row(document, look);
        let width = view.titles().iter().map(|title| title.len()).max().unwrap_or(0);
        let mut text = String::new();
        for (title, cell) in view.titles().iter().zip(cells).filter(|(_, cell)| !cell.is_empty()) {
            text.push_str(&format!("{}  {cell}\n", self.terminal.dim(&format!("{title:<width$}"))));
        }
        for line in view.more(document) {
            text.push_str(&line);
            text.push('\n');
        }
        text
    }
}

fn cells(item: &Value, titles: &[String]) -> Vec<String> {
    match item {
        Value::Object(members) => titles.iter().map(|title| cell(members.get(title).unwrap_or(&Value::Null))).collect(),
        Value::Array(items) => items.iter().map(cell).collect(),
        other => vec![cell(other)],
    }
}

/// A value in one cell: nothing for what is not there, compact JSON for what has parts.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => visible(text),
        other => other.to_string(),
    }
}

fn tsv(rows: &[Vec<String>]) -> String {
    let field = |cell: &String| cell.replace(['\t', '\n', '\r'], " ");
    rows.iter().map(|row| row.iter().map(field).collect::<Vec<_>>().join("\t") + "\n").collect()
}

fn tsv_of(document: &Value, keys: &[String]) -> String {
    let items = match document {
        Value::Array(items) => items.clone(),
        Value::Null => return String::new(),
        other => vec![other.clone()],
    };
    let row = |item: &Value| match item {
        Value::Object(members) if keys.is_empty() => cells(item, &members.keys().cloned().collect::<Vec<_>>()),
        item => cells(item, keys),
    };
    tsv(&items.iter().map(row).collect::<Vec<_>>())
}

/// A document whose objects have some keys first, in this order.
struct Ordered<'d> {
    value: &'d Value,
    keys: &'d [String],
}

impl Serialize for Ordered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let of = |value| Ordered { value, keys: self.keys };
        match self.value {
            Value::Object(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                let first = self.keys.iter().filter_map(|key| members.get_key_value(key));
                let rest = members.iter().filter(|(key, _)| !self.keys.contains(key));
                for (key, value) in first.chain(rest) {
                    map.serialize_entry(key, &of(value))?;
                }
                map.end()
            }
            Value::Array(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    list.serialize_element(&of(item))?;
                }
                list.end()
            }
            other => other.serialize(serializer),
        }
    }
}

fn pretty(document: &Value, keys: &[String]) -> Result<String> {
    serde_json::to_string_pretty(&Ordered { value: document, keys })
        .map_err(|error| Failure::local("the answer cannot be written", error))
}

fn yaml(document: &Value, keys: &[String]) -> Result<String> {
    let mut text = serde_saphyr::to_string(&Ordered { value: document, keys })
        .map_err(|error| Failure::local("the answer cannot be written", error))?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

/// Writes to standard output.
///
/// # Errors
/// `Unread` where the reader went away.
pub(super) fn print(text: &str) -> Result<()> {
    print_bytes(text.as_bytes())
}

/// Writes bytes to standard output.
///
/// # Errors
/// As of [`print`].
pub(super) fn print_bytes(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Failure::new(Exit::Unread, "Unread", "whoever read the output went away"),
        _ => Failure::local("standard output cannot be written", error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::global::Global;
    use crate::client::Environment;
    use serde_json::json;

    fn output(width: Option<usize>) -> Output {
        let terminal = Terminal { width, ..Terminal::of(&Global::default(), &Environment::default()) };
        Output { format: None, query: None, terminal }
    }

    #[test]
    fn tables_are_drawn_as_az_draws_them() {
        let rows = vec![vec!["resnet-03".to_owned(), "1".to_owned()], vec!["resnet-02".to_owned(), String::new()]];
        assert_eq!(output(None).table(&["Name", "Exit"], rows), "Name       Exit\n---------- -----\nresnet-03  1\nresnet-02\n");
    }

    #[test]
    fn the_rightmost_columns_go_first_and_names_are_never_cut() {
        let row = || vec![vec!["a-very-long-name-that-stays-whole".to_owned(), "x".repeat(30), "y".to_owned()]];
        let text = output(Some(40)).table(&["Name", "Wide", "Last"], row());
        assert!(text.contains("a-very-long-name-that-stays-whole") && !text.contains("Wide"), "{text}");
        assert!(output(Some(100)).table(&["Name", "Wide", "Last"], row()).contains("Last"));
    }

    #[test]
    fn queries_keep_their_order_and_empty_fields() {
        let keys = ["Name".to_owned(), "Exit".to_owned()];
        let picked = json!([{"Exit": null, "Name": "b"}, {"Exit": 1, "Name": "a\tc"}]);
        assert_eq!(tsv_of(&picked, &keys), "b\t\na c\t1\n");
        assert_eq!(tsv_of(&json!([["b", null], ["a", true]]), &[]), "b\t\na\ttrue\n");
        assert_eq!(
            pretty(&json!({"nodes": 2, "state": "running"}), &["state".into(), "nodes".into()]).expect("writes"),
            "{\n  \"state\": \"running\",\n  \"nodes\": 2\n}"
        );
        assert!(output(None).table_of(&picked, &keys).starts_with("Name"));
        assert_eq!(output(None).table_of(&Value::Null, &keys), "");
    }

    #[test]
    fn yaml_is_the_same_document() {
        let text = yaml(&json!({"a": [1, {"b": "no"}]}), &[]).expect("writes");
        let back: Value = serde_saphyr::from_str(&text).expect("reads");
        assert_eq!(back, json!({"a": [1, {"b": "no"}]}));
    }
}
