//! Files that describe a cluster, a job or a file server: the JSON of the published schemas, or the same as YAML.

use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::client::{Environment, Failure, Result};

/// Longest file that is read. Unit: bytes. The server takes less.
const LONGEST: u64 = 4 << 20;

/// A document and the text that it was read from.
#[derive(Clone, Debug)]
pub(super) struct Document {
    /// What it says.
    pub value: Value,
    /// Its name, for messages.
    pub name: String,
    /// As it was written; empty where there was no file.
    pub text: String,
}

impl Document {
    /// An empty one.
    pub(super) fn new(name: &str) -> Document {
        Document { value: json!({ "properties": {} }), name: name.to_owned(), text: String::new() }
    }

    /// Reads a file; `-` is standard input. YAML holds JSON, so that both are read alike.
    ///
    /// # Errors
    /// It cannot be read, or is neither.
    pub(super) fn read(path: &str) -> Result<Document> {
        let cannot = |error: std::io::Error| Failure::local(&format!("cannot read {path}"), error);
        let mut bytes = Vec::new();
        match path {
            "-" => std::io::stdin().take(LONGEST).read_to_end(&mut bytes).map_err(cannot)?,
            path => crate::client::open(Path::new(path))?.take(LONGEST).read_to_end(&mut bytes).map_err(cannot)?,
        };
        let text = String::from_utf8(bytes).map_err(|_| Failure::usage(format!("{path} is no text")))?;
        Document::parse(path, text)
    }

    /// Reads a text.
    ///
    /// # Errors
    /// It is neither JSON nor YAML, or no object.
    pub(super) fn parse(name: &str, text: String) -> Result<Document> {
        // JSON's own words say better what is wrong with JSON.
        let value: Value = match text.trim_start().starts_with('{') {
            true => serde_json::from_str(&text).map_err(|error| invalid(name, &error.to_string()))?,
            false => serde_saphyr::from_str(&text).map_err(|error| invalid(name, &error.to_string()))?,
        };
        if !value.is_object() {
            return Err(invalid(name, "it is no object with 'properties'"));
        }
        Ok(Document { value, name: name.to_owned(), text })
    }

    /// Its `properties`, made where there are none.
    pub(super) fn properties(&mut self) -> &mut Map<String, Value> {
        members(&mut self.value, "properties")
    }

    /// Sets a member: `path=value`, where the path is `properties.nodeCount` or `properties.inputDirectories[0].path` and the value JSON,
    /// or text where it is none.
    ///
    /// # Errors
    /// `Usage` where it is no such thing.
    pub(super) fn set(&mut self, assignment: &str) -> Result<()> {
        let (path, text) = assignment.split_once('=').ok_or_else(|| Failure::usage(format!("--set {assignment}: PATH=VALUE")))?;
        let value = serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
        let wrong = || Failure::usage(format!("--set {path} leads to nothing that can be set"));
        let mut at = &mut self.value;
        for step in path.split('.') {
            let (name, indices) = step.split_once('[').map_or((step, ""), |(name, rest)| (name, rest));
            if !at.is_object() && !at.is_null() {
                return Err(wrong());
            }
            if at.is_null() {
                *at = json!({});
            }
            at = at.as_object_mut().ok_or_else(wrong)?.entry(name).or_insert(Value::Null);
            for index in indices.split('[').filter(|index| !index.is_empty()) {
                let index: usize = index.trim_end_matches(']').parse().map_err(|_| wrong())?;
                if at.is_null() {
                    *at = json!([]);
                }
                let items = at.as_array_mut().ok_or_else(wrong)?;
                if index == items.len() {
                    items.push(Value::Null);
                }
                at = items.get_mut(index).ok_or_else(wrong)?;
            }
        }
        *at = value;
        Ok(())
    }

    /// Puts values in place of the placeholders that the recipes of the Azure CLI have.
    pub(super) fn fill(&mut self, account: Option<&str>, key: Option<&str>) {
        let pairs = [("<AZURE_BATCHAI_STORAGE_ACCOUNT>", account), ("<AZURE_BATCHAI_STORAGE_KEY>", key)];
        fn walk(value: &mut Value, pairs: &[(&str, Option<&str>)]) {
            match value {
                Value::String(text) => {
                    for (placeholder, value) in pairs {
                        if let Some(value) = value {
                            *text = text.replace(placeholder, value);
                        }
                    }
                }
                Value::Array(items) => items.iter_mut().for_each(|item| walk(item, pairs)),
                Value::Object(members) => members.values_mut().for_each(|member| walk(member, pairs)),
                _ => {}
            }
        }
        walk(&mut self.value, &pairs);
    }
}

fn invalid(name: &str, why: &str) -> Failure {
    Failure::new(
        crate::client::Exit::Invalid,
        "InvalidRequestContent",
        format!("{name} is neither JSON nor YAML of a resource: {why}"),
    )
}

/// A member that is an object, made where it is none.
pub(super) fn members<'v>(value: &'v mut Value, name: &str) -> &'v mut Map<String, Value> {
    object(object(value).entry(name).or_insert(Value::Null))
}

/// The members of a value, which becomes an object where it is none.
pub(super) fn object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(members) => members,
        _ => unreachable!("it was made an object above"),
    }
}

/// The storage account and key that flags or the environment name.
pub(super) fn account(
    environment: &Environment,
    name: &Option<String>,
    key: &Option<String>,
) -> (Option<String>, Option<String>) {
    let text = |variable: &str| environment.get(variable).map(str::to_owned);
    match name {
        Some(_) => (name.clone(), key.clone().or_else(|| text("AZURE_BATCHAI_STORAGE_KEY"))),
        None => (text("AZURE_BATCHAI_STORAGE_ACCOUNT"), key.clone().or_else(|| text("AZURE_BATCHAI_STORAGE_KEY"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_and_yaml_say_the_same() {
        let json = Document::parse(
            "a",
            r#"{"properties": {"nodeCount": 2, "customToolkitSettings": {"commandLine": "echo hi"}}}"#.into(),
        );
        let yaml =
            Document::parse("b", "properties:\n  nodeCount: 2\n  customToolkitSettings:\n    commandLine: echo hi\n".into());
        assert_eq!(json.expect("reads").value, yaml.expect("reads").value);
        for wrong in ["[1]", "{", "a: [", "text"] {
            assert_eq!(Document::parse("c", wrong.into()).expect_err(wrong).exit.code(), 5, "{wrong}");
        }
    }

    #[test]
    fn members_are_set_by_their_path() {
        let mut document = Document::new("job");
        for assignment in [
            "properties.nodeCount=3",
            "properties.customToolkitSettings.commandLine=echo a=b",
            "properties.inputDirectories[0].id=CODE",
            "properties.inputDirectories[1]={\"id\":\"DATA\"}",
        ] {
            document.set(assignment).expect(assignment);
        }
        assert_eq!(
            document.value,
            json!({"properties": {
                "nodeCount": 3,
                "customToolkitSettings": {"commandLine": "echo a=b"},
                "inputDirectories": [{"id": "CODE"}, {"id": "DATA"}],
            }})
        );
        for wrong in ["properties", "properties.nodeCount.x=1", "properties.inputDirectories[9]=1", "properties.nodeCount[0]=1"] {
            assert_eq!(document.set(wrong).expect_err(wrong).exit.code(), 2, "{wrong}");
        }
    }

    #[test]
    fn placeholders_are_filled_everywhere() {
        let mut document =
            Document::parse("a", r#"{"properties": {"x": ["https://<AZURE_BATCHAI_STORAGE_ACCOUNT>.file/s"]}}"#.into())
                .expect("reads");
        document.fill(Some("acct"), None);
        assert_eq!(document.value, json!({"properties": {"x": ["https://acct.file/s"]}}));
    }
}
