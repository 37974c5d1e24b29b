//! Files, logins, usages and the list of operations.

use serde_json::json;

use super::{Named, int, long, object, page, text, time, to, word};

pub(super) fn schemas() -> Named {
    vec![
        (
            "File",
            object([
                ("name!", text()),
                ("fileType!", word(&["file", "directory"])),
                ("downloadUrl", text()),
                ("properties", to("FileProperties")),
            ]),
        ),
        ("FileProperties", object([("lastModified!", time()), ("contentLength!", long())])),
        ("FileListResult", page("File")),
        (
            "RemoteLoginInformation",
            object([("nodeId!", text()), ("ipAddress!", text()), ("port!", json!({"type": "number", "format": "int32"}))]),
        ),
        ("RemoteLoginInformationListResult", page("RemoteLoginInformation")),
        (
            "Usage",
            object([("unit!", word(&["Count"])), ("currentValue!", int()), ("limit!", long()), ("name!", to("UsageName"))]),
        ),
        ("UsageName", object([("value!", text()), ("localizedValue!", text())])),
        ("ListUsagesResult", page("Usage")),
        (
            "Operation",
            object([
                ("name!", text()),
                (
                    "display!",
                    object([("provider!", text()), ("operation!", text()), ("resource!", text()), ("description!", text())]),
                ),
                ("origin", text()),
                ("properties", json!({"type": "object"})),
            ]),
        ),
        ("OperationListResult", page("Operation")),
    ]
}
