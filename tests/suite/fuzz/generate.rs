//! Requests made of our own OpenAPI documents: some as they should be, most nearly so, some hostile. The same seed makes the same ones.

use serde_json::{Map, Value, json};

/// Random numbers from a seed. Source: splitmix64.
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// Whether something that happens once in `n` times happens.
    pub(super) fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(super) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// Texts that have hurt somebody.
const HOSTILE: [&str; 30] = [
    "",
    " ",
    ".",
    "..",
    "../../etc/passwd",
    "/",
    "\\",
    "%2e%2e",
    "%00",
    "\u{0}",
    "\r\nX-Injected: 1",
    "'; drop table resource; --",
    "\" or 1=1",
    "<script>alert(1)</script>",
    "${jndi:ldap://x}",
    "{{7*7}}",
    "\u{212a}elvin",
    "\u{130}stanbul",
    "\u{202e}txt.exe",
    "a\u{301}",
    "\u{feff}",
    "😀",
    "null",
    "true",
    "NaN",
    "-0",
    "1e400",
    "9223372036854775808",
    "P9999999999Y",
    "7.00:00:60",
];

/// Any text.
pub(super) fn text(dice: &mut Dice) -> String {
    match dice.below(12) {
        0 => "a".repeat(1 + dice.below(300)),
        1 => "x".repeat(70_000),
        2..8 => (*dice.pick(&HOSTILE)).to_owned(),
        _ => (0..dice.below(20)).map(|_| char::from_u32(dice.below(0x3000) as u32).unwrap_or('?')).collect(),
    }
}

fn number(dice: &mut Dice, schema: &Value) -> Value {
    let (low, high) = (schema["minimum"].as_i64().unwrap_or(0), schema["maximum"].as_i64().unwrap_or(i64::from(i32::MAX)));
    match dice.below(12) {
        0 => json!(low - 1),
        1 => json!(high.saturating_add(1)),
        2 => json!(high),
        3 => json!(i64::MAX),
        4 => json!(1.5),
        5 => json!(-1),
        6 => json!(u64::MAX),
        _ => json!(low + dice.below(3) as i64),
    }
}

/// What a request may name.
pub(super) struct Names {
    pub(super) subscription: String,
    pub(super) group: String,
    pub(super) cluster: String,
    pub(super) old_cluster: String,
}

/// The document of a version, and what makes requests of it.
pub(super) struct Contract<'d> {
    pub(super) document: &'d Value,
    pub(super) names: &'d Names,
}

impl Contract<'_> {
    /// A body that the schema describes; the smaller `oddness`, the odder it is, 0 being as it should.
    pub(super) fn body(&self, dice: &mut Dice, schema: &Value, member: &str, oddness: usize, depth: usize) -> Value {
        if oddness > 0 && dice.once_in(oddness) {
            return self.oddity(dice, depth);
        }
        let schema = self.resolve(schema);
        if depth > 12 {
            return Value::Null;
        }
        match schema["type"].as_str().unwrap_or_default() {
            "object" => self.object(dice, schema, oddness, depth),
            "array" => {
                let count = if dice.once_in(40) { 1_100 } else { dice.below(3) };
                (0..count).map(|_| self.body(dice, &schema["items"], member, oddness, depth + 1)).collect()
            }
            "integer" | "number" => number(dice, schema),
            "boolean" => json!(dice.once_in(2)),
            "string" => self.string(dice, schema, member, oddness),
            _ => json!({}),
        }
    }

    fn object(&self, dice: &mut Dice, schema: &Value, oddness: usize, depth: usize) -> Value {
        let mut object = Map::new();
        let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for (name, member) in schema["properties"].as_object().into_iter().flatten() {
            let must = required.contains(&name.as_str());
            // A secret is given by its value or by where it is; a good body has the one.
            let good = oddness > 0 || !name.ends_with("SecretReference");
            let given = if must { oddness == 0 || !dice.once_in(oddness) } else { good && dice.once_in(5) };
            if given {
                object.insert(name.clone(), self.body(dice, member, name, oddness, depth + 1));
            }
        }
        if schema["additionalProperties"].is_object() {
            for _ in 0..dice.below(4) {
                let name = if oddness > 0 { text(dice) } else { format!("tag{}", dice.below(9)) };
                object.insert(name, self.body(dice, &schema["additionalProperties"], "", oddness, depth + 1));
            }
        }
        if oddness > 0 && dice.once_in(8) {
            object.insert(text(dice), self.oddity(dice, depth));
        }
        self.choose(dice, schema, &mut object, oddness, depth);
        Value::Object(object)
    }

    /// Of members that exclude each other, mostly one.
    fn choose(&self, dice: &mut Dice, schema: &Value, object: &mut Map<String, Value>, oddness: usize, depth: usize) {
        const CHOICES: [&[&str]; 3] = [
            &["manual", "autoScale"],
            &[
                "customToolkitSettings",
                "customMpiSettings",
                "horovodSettings",
                "pyTorchSettings",
                "tensorFlowSettings",
                "chainerSettings",
                "caffeSettings",
                "caffe2Settings",
                "cntkSettings",
            ],
            &["accountKey", "accountKeySecretReference"],
        ];
        for choice in CHOICES {
            let known: Vec<&str> = choice.iter().copied().filter(|name| schema["properties"].get(*name).is_some()).collect();
            if known.is_empty() || dice.once_in(12) {
                continue;
            }
            let chosen = if dice.once_in(2) { known[0] } else { *dice.pick(&known) };
            known.iter().for_each(|name| drop(object.remove(*name)));
            let value = self.body(dice, &schema["properties"][chosen], chosen, oddness, depth + 1);
            object.insert(chosen.to_owned(), value);
        }
    }

    fn string(&self, dice: &mut Dice, schema: &Value, member: &str, oddness: usize) -> Value {
        if let Some(words) = schema["enum"].as_array() {
            return dice.pick(words).clone();
        }
        if oddness > 0 && dice.once_in(4) {
            return json!(text(dice));
        }
        json!(match member {
            "location" => (*dice.pick(&["eastus", "East US", "northeurope", "westus"])).to_owned(),
            "vmSize" => (*dice.pick(&["Standard_D1", "STANDARD_NC6", "Standard_A0"])).to_owned(),
            "adminUserName" => "ops".to_owned(),
            "adminUserPassword" => "Secret-1".to_owned(),
            "stdOutErrPathPrefix" | "pathPrefix" | "path" => "$AZ_BATCHAI_MOUNT_ROOT/shared".to_owned(),
            "maxWallClockTime" => (*dice.pick(&["P1D", "PT1H", "7.00:00:00"])).to_owned(),
            "id" if dice.once_in(2) => self.names.cluster.clone(),
            "id" => self.names.old_cluster.clone(),
            "accountName" => "acct".to_owned(),
            "azureFileUrl" => "https://acct.file.core.windows.net/share".to_owned(),
            "secretUrl" => "https://vault.vault.azure.net/secrets/x".to_owned(),
            "adminUserSshPublicKey" => "ssh-rsa AAAAB3NzaC1yc2E=".to_owned(),
            "relativeMountPath" => format!("m{}", dice.below(5)),
            "fileMode" | "directoryMode" => "0777".to_owned(),
            _ => format!("v{}", dice.below(9)),
        })
    }

    fn oddity(&self, dice: &mut Dice, depth: usize) -> Value {
        match dice.below(8) {
            0 => Value::Null,
            1 => json!(dice.once_in(2)),
            2 => number(dice, &Value::Null),
            3 => json!([text(dice)]),
            4 if depth < 6 => json!({ text(dice): self.oddity(dice, depth + 3) }),
            _ => json!(text(dice)),
        }
    }

    fn resolve<'s>(&'s self, schema: &'s Value) -> &'s Value {
        match schema["$ref"].as_str() {
            Some(reference) => &self.document["components"]["schemas"][reference.rsplit('/').next().unwrap_or_default()],
            None => schema,
        }
    }

    /// A path of the template.
    pub(super) fn path(&self, dice: &mut Dice, template: &str) -> String {
        let hostile = dice.once_in(8);
        let segments = template.split('/').skip(1).map(|segment| {
            let Some(name) = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
                return match dice.below(40) {
                    0 => segment.to_uppercase(),
                    1 => String::new(),
                    2 => "..".to_owned(),
                    _ => segment.to_owned(),
                };
            };
            if hostile && dice.once_in(3) {
                return escaped(dice);
            }
            match name {
                "subscriptionId" if !dice.once_in(30) => self.names.subscription.clone(),
                "resourceGroupName" if !dice.once_in(20) => self.names.group.clone(),
                "subscriptionId" | "operationId" | "jobUid" => format!("{:08x}-0000-4000-8000-000000000000", dice.next() as u32),
                "location" => "eastus".to_owned(),
                "namespace" => (*dice.pick(&["Microsoft.BatchAI", "Microsoft.Resources", "Other"])).to_owned(),
                // The same few names again and again, so that requests meet each other.
                _ => format!("{}{}", name.chars().next().unwrap_or('x'), dice.below(2)),
            }
        });
        segments.fold(String::new(), |path, segment| path + "/" + &segment)
    }

    /// A query of the operation's parameters.
    pub(super) fn query(&self, dice: &mut Dice, operation: &Value) -> String {
        let mut pairs = Vec::new();
        for parameter in operation["parameters"].as_array().into_iter().flatten().filter(|p| p["in"] == "query") {
            let name = parameter["name"].as_str().unwrap_or_default();
            if parameter["required"] != true && !dice.once_in(4) || dice.once_in(40) {
                continue;
            }
            let value = match name {
                "api-version" if !dice.once_in(25) => match parameter["schema"]["enum"].as_array() {
                    Some(words) => words[0].as_str().unwrap_or_default().to_owned(),
                    None => "2021-04-01".to_owned(),
                },
                // A wait is long enough when it is one second.
                "wait" => (*dice.pick(&["0", "1", "-1", "61", "x"])).to_owned(),
                "outputdirectoryid" if !dice.once_in(4) => "stdouterr".to_owned(),
                _ if dice.once_in(3) => escaped(dice),
                _ => match self.body(dice, &parameter["schema"], name, 0, 0) {
                    Value::String(text) => escape(dice, &text),
                    other => other.to_string(),
                },
            };
            pairs.push(format!("{name}={value}"));
            if dice.once_in(40) {
                pairs.push(format!("{name}={}", escaped(dice)));
            }
        }
        if dice.once_in(15) {
            pairs.push(escaped(dice));
        }
        pairs.join("&")
    }
}

/// A text as a URI may hold it: escaped, some twice; what is left bare is harmless to the URI itself.
fn escape(dice: &mut Dice, text: &str) -> String {
    let once: String = text
        .bytes()
        .take(600)
        .map(|byte| {
            if byte.is_ascii_alphanumeric() || b"-._".contains(&byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect();
    match dice.below(12) {
        0 => once.replace('%', "%25"),
        1 => once + "%zz",
        2 => once + "%ff",
        _ => once,
    }
}

/// Bytes of a body: the document, or something that is nearly JSON.
pub(super) fn bytes(dice: &mut Dice, document: &Value) -> Vec<u8> {
    let whole = document.to_string();
    match dice.below(30) {
        0 => whole.as_bytes()[..dice.below(whole.len() + 1)].to_vec(),
        1 => format!("{whole}{whole}").into_bytes(),
        2 => "[".repeat(100_000).into_bytes(),
        3 => format!("{{\"a\":{}1{}}}", "[".repeat(80), "]".repeat(80)).into_bytes(),
        4 => whole.replace('{', "{\"properties\":1,\"properties\":2,").into_bytes(),
        5 => whole.replace(':', ":1e400,\"x\":").into_bytes(),
        6 => whole.replace("\"", "\"\\u0000").into_bytes(),
        7 => vec![0xff, 0xfe, 0x00, 0x7b],
        8 => Vec::new(),
        9 => b"\"text\"".to_vec(),
        10 => b"null".to_vec(),
        11 => format!("\u{feff}{whole}").into_bytes(),
        _ => whole.into_bytes(),
    }
}

/// Any text, escaped.
fn escaped(dice: &mut Dice) -> String {
    let text = text(dice);
    escape(dice, &text)
}
