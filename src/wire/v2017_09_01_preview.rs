//! 2017-09-01-preview: what it asks and shows otherwise than 2018-03-01.
//!
//! Jobs mount nothing of their own, nobody has secret variables, and what came later is neither read nor shown.

use serde_json::{Value, json};

use crate::error::Violations;
use crate::id::Kind;
use crate::wire::v2018_03_01::{Read, members, read as read_newer};

/// What came later, by where it is.
const LATER: [(&str, &[&str]); 4] = [
    ("/properties", &["mountVolumes", "secrets", "pyTorchSettings", "jobOutputDirectoryPathSegment"]),
    ("/properties/nodeSetup", &["performanceCountersSettings"]),
    ("/properties/nodeSetup/setupTask", &["secrets", "stdOutErrPathSuffix"]),
    ("/properties/virtualMachineConfiguration/imageReference", &["virtualMachineImageId"]),
];

/// Turns the body of a PUT or PATCH into one of 2018-05-01.
pub fn read(kind: Kind, document: &Value, found: &mut Violations) -> Read {
    let mut document = document.clone();
    forget_later(&mut document);
    for list in ["/properties/environmentVariables", "/properties/nodeSetup/setupTask/environmentVariables"] {
        for variable in document.pointer_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            // The value of a variable is optional here.
            if let Some(variable) = variable.as_object_mut()
                && variable.get("value").is_none_or(Value::is_null)
            {
                variable.insert("value".into(), json!(""));
            }
        }
    }
    if let Some(settings) = members(&mut document, "/properties/tensorFlowSettings")
        && settings.get("masterCommandLineArgs").is_none_or(Value::is_null)
    {
        found.missing("properties.tensorFlowSettings.masterCommandLineArgs");
    }
    read_newer(kind, &document, found)
}

/// A resource's document, made of the one that 2018-03-01 shows.
pub fn resource(mut document: Value) -> Value {
    forget_later(&mut document);
    document
}

/// An entry of a list of files; `None` for a directory, which this version does not list. Made of the entry of 2018-03-01.
pub fn file(mut entry: Value) -> Option<Value> {
    let is_directory = members(&mut entry, "").and_then(|entry| entry.remove("isDirectory"));
    (is_directory != Some(json!(true))).then_some(entry)
}

fn forget_later(document: &mut Value) {
    for (pointer, names) in LATER {
        if let Some(object) = members(document, pointer) {
            names.iter().for_each(|name| drop(object.remove(*name)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_later_is_neither_read_nor_shown() {
        let body = json!({"properties": {
            "mountVolumes": {}, "secrets": [], "environmentVariables": [{"name": "A"}], "tensorFlowSettings": {"pythonScriptFilePath": "x"},
        }});
        let mut found = Violations::new();
        let turned = read(Kind::Job, &body, &mut found);
        assert_eq!(
            turned.document["properties"],
            json!({
                "environmentVariables": [{"name": "A", "value": ""}], "tensorFlowSettings": {"pythonScriptFilePath": "x"},
                "schedulingPriority": "normal",
            })
        );
        assert_eq!(
            found.iter().map(|v| v.target.as_str()).collect::<Vec<_>>(),
            ["properties.tensorFlowSettings.masterCommandLineArgs"]
        );
        assert_eq!(file(json!({"name": "d", "isDirectory": true})), None);
        assert_eq!(file(json!({"name": "f", "isDirectory": false})), Some(json!({"name": "f"})));
    }
}
