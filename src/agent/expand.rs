//! Variables in paths and values, replaced by us and never by a shell: `$NAME` and `${NAME}`, once, without looking at the result again.

/// A variable that is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unknown(pub(super) String);

/// `text` with all variables replaced.
///
/// # Errors
/// [`Unknown`] names the first that `find` does not know.
pub(super) fn expand<'a>(text: &str, find: impl Fn(&str) -> Option<&'a str>) -> Result<String, Unknown> {
    let mut unknown = None;
    let expanded = replace(text, |name, _| match find(name) {
        Some(value) => value,
        None => {
            unknown.get_or_insert_with(|| name.to_owned());
            ""
        }
    });
    match unknown {
        None => Ok(expanded),
        Some(name) => Err(Unknown(name)),
    }
}

/// `text` with the variables replaced that `find` knows; all else stays as it is, so that a value may hold any `$`.
pub(super) fn expand_known<'a>(text: &'a str, find: impl Fn(&str) -> Option<&'a str>) -> String {
    replace(text, |name, whole| find(name).unwrap_or(whole))
}

fn replace<'a>(text: &'a str, mut value: impl FnMut(&'a str, &'a str) -> &'a str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        result.push_str(before);
        match name_at_start(after) {
            Some((name, length)) => {
                let (inside, behind) = after.split_at(length);
                let whole = rest.get(before.len()..before.len() + 1 + inside.len()).unwrap_or_default();
                result.push_str(value(name, whole));
                rest = behind;
            }
            None => {
                result.push('$');
                rest = after;
            }
        }
    }
    result.push_str(rest);
    result
}

/// The name that follows a `$`, and how long its writing is.
fn name_at_start(text: &str) -> Option<(&str, usize)> {
    if let Some(braced) = text.strip_prefix('{') {
        let (name, _) = braced.split_once('}')?;
        return is_name(name).then_some((name, name.len() + 2));
    }
    let length = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    let name = text.get(..length)?;
    is_name(name).then_some((name, length))
}

/// Whether `name` may be a variable.
pub(super) fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(name: &str) -> Option<&'static str> {
        match name {
            "A" => Some("one"),
            "LONG_1" => Some("$A"),
            _ => None,
        }
    }

    #[test]
    fn replaces_once_and_by_whole_names() {
        assert_eq!(expand("$A/${A}x/$LONG_1", find).as_deref(), Ok("one/onex/$A"));
        assert_eq!(expand("plain", find).as_deref(), Ok("plain"));
        assert_eq!(expand("$AB", find), Err(Unknown("AB".into())));
    }

    #[test]
    fn leaves_what_is_no_variable() {
        for text in ["$", "$$", "5$", "${", "${A", "${}", "$1", "$(id)", "`id`", "$-x", "é$é", "${A b}"] {
            assert_eq!(expand(text, find).as_deref(), Ok(text));
            assert_eq!(expand_known(text, find), text);
        }
        assert_eq!(expand_known("pa$$word$NO${NO}$A", find), "pa$$word$NO${NO}one");
    }
}
