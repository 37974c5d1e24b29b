//! Text that shells read.

use crate::domain::framework::Script;

/// What runs scripts whose job names no interpreter: `python`, as documented, and where a node has only the other name, that.
const PYTHON: &str = "$(command -v python || command -v python3 || echo python)";

/// The command of a script, with arguments as the user wrote them.
pub(super) fn script(script: &Script, arguments: Option<&str>) -> String {
    let interpreter = script.interpreter.as_deref().map_or_else(|| PYTHON.to_owned(), word);
    with_arguments(format!("{interpreter} {}", word(&script.path)), arguments)
}

/// A command with arguments as the user wrote them.
pub(super) fn with_arguments(command: String, arguments: Option<&str>) -> String {
    match arguments.map(str::trim) {
        None | Some("") => command,
        Some(arguments) => format!("{command} {arguments}"),
    }
}

/// A path as one word, in which variables are replaced and nothing else is.
pub(super) fn word(path: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%,".contains(c);
    if !path.is_empty() && path.chars().all(plain) {
        return path.to_owned();
    }
    let mut word = String::from("\"");
    let mut chars = path.chars().peekable();
    while let Some(c) = chars.next() {
        let is_variable = |next: char| next.is_ascii_alphabetic() || next == '_' || next == '{';
        let literal = match c {
            '"' | '\\' | '`' => true,
            '$' => !chars.peek().copied().is_some_and(is_variable),
            _ => false,
        };
        if literal {
            word.push('\\');
        }
        word.push(c);
    }
    word.push('"');
    word
}

/// Text as one word in which nothing is replaced.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_one_word_with_variables() {
        assert_eq!(word("/a/b-1.py"), "/a/b-1.py");
        assert_eq!(word("$AZ_BATCHAI_MOUNT_ROOT/my script.py"), "\"$AZ_BATCHAI_MOUNT_ROOT/my script.py\"");
        assert_eq!(word("a$(id)`id`\"\\$"), r#""a\$(id)\`id\`\"\\\$""#);
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }

    #[test]
    fn arguments_stay_as_they_are() {
        let script = Script { path: "t.py".into(), interpreter: Some("python3".into()), arguments: None };
        assert_eq!(super::script(&script, Some(" --rank $AZ_BATCHAI_TASK_INDEX ")), "python3 t.py --rank $AZ_BATCHAI_TASK_INDEX");
    }
}
