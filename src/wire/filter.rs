//! The `$filter` of lists: comparisons and calls, joined by `and` and `or`.
//!
//! A small grammar of its own; nothing of it reaches a query as text. `and` binds closer than `or`; there are no parentheses around
//! expressions, as no client of this API sends them.

use crate::error::{Error, ErrorCode};

/// Longest filter. Unit: bytes.
const MAX_LENGTH: usize = 4096;

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clause {
    /// A comparison of a property with a value; the property's name is in lower case.
    Compare {
        /// The property.
        name: String,
        /// How.
        by: Comparison,
        /// The value.
        value: String,
    },
    /// A call such as `substringof('a', name)`; the function's name is in lower case.
    Call {
        /// The function.
        name: String,
        /// Its arguments: texts, and names of properties in lower case.
        arguments: Vec<String>,
    },
}

/// How a property is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// Equal.
    Equal,
    /// Not equal.
    NotEqual,
    /// Greater or equal.
    AtLeast,
    /// Less or equal.
    AtMost,
}

/// Conditions: all of one of these lists must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter(Vec<Vec<Clause>>);

impl Filter {
    /// Reads a filter.
    ///
    /// # Errors
    /// `InvalidFilterInQueryString`.
    pub fn parse(text: &str) -> Result<Filter, Error> {
        if text.len() > MAX_LENGTH {
            return Err(refused(text));
        }
        let mut tokens = tokens(text).ok_or_else(|| refused(text))?.into_iter().peekable();
        let mut alternatives = vec![Vec::new()];
        loop {
            let clause = clause(&mut tokens).ok_or_else(|| refused(text))?;
            if let Some(all) = alternatives.last_mut() {
                all.push(clause);
            }
            match tokens.next() {
                None => return Ok(Filter(alternatives)),
                Some(Token::Word(word)) if word.eq_ignore_ascii_case("and") => {}
                Some(Token::Word(word)) if word.eq_ignore_ascii_case("or") => alternatives.push(Vec::new()),
                Some(_) => return Err(refused(text)),
            }
        }
    }

    /// The alternatives; of each, all conditions must hold.
    pub fn alternatives(&self) -> &[Vec<Clause>] {
        &self.0
    }

    /// The conditions, where no `or` joins them.
    ///
    /// # Errors
    /// `InvalidFilterInQueryString`.
    pub fn all(&self) -> Result<&[Clause], Error> {
        match self.0.as_slice() {
            [all] => Ok(all),
            _ => Err(unsupported("'or' is not supported here")),
        }
    }
}

/// A filter that cannot be read.
fn refused(text: &str) -> Error {
    let shown: String = text.chars().take(200).map(|c| if c.is_control() { '?' } else { c }).collect();
    Error::new(ErrorCode::InvalidFilterInQueryString, format!("Invalid $filter '{shown}' specified in the query string."))
        .with_target("$filter")
}

/// A filter that can be read, but asks for what this list cannot tell.
pub fn unsupported(problem: &str) -> Error {
    let message = format!("Invalid $filter specified in the query string: {problem}.");
    Error::new(ErrorCode::InvalidFilterInQueryString, message).with_target("$filter")
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Text(String),
    Open,
    Close,
    Comma,
}

fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut found = Vec::new();
    let mut letters = text.chars().peekable();
    while let Some(&letter) = letters.peek() {
        match letter {
            ' ' | '\t' => {
                letters.next();
            }
            '(' | ')' | ',' => {
                letters.next();
                found.push(match letter {
                    '(' => Token::Open,
                    ')' => Token::Close,
                    _ => Token::Comma,
                });
            }
            '\'' => {
                letters.next();
                found.push(Token::Text(quoted(&mut letters)?));
            }
            _ => {
                let mut word = String::new();
                while let Some(&letter) = letters.peek() {
                    if !(letter.is_ascii_alphanumeric() || "._/-:+$".contains(letter)) {
                        break;
                    }
                    word.push(letter);
                    letters.next();
                }
                if word.is_empty() {
                    return None;
                }
                found.push(Token::Word(word));
            }
        }
    }
    Some(found)
}

/// A text up to its closing quote; a quote within is written twice.
fn quoted(letters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<String> {
    let mut text = String::new();
    loop {
        match letters.next()? {
            '\'' if letters.peek() == Some(&'\'') => {
                letters.next();
                text.push('\'');
            }
            '\'' => return Some(text),
            letter => text.push(letter),
        }
    }
}

fn clause(tokens: &mut std::iter::Peekable<impl Iterator<Item = Token>>) -> Option<Clause> {
    let Token::Word(word) = tokens.next()? else { return None };
    let name = word.to_ascii_lowercase();
    if tokens.peek() == Some(&Token::Open) {
        tokens.next();
        return Some(Clause::Call { name, arguments: arguments(tokens)? });
    }
    let Token::Word(by) = tokens.next()? else { return None };
    let by = match by.to_ascii_lowercase().as_str() {
        "eq" => Comparison::Equal,
        "ne" => Comparison::NotEqual,
        "ge" => Comparison::AtLeast,
        "le" => Comparison::AtMost,
        _ => return None,
    };
    match tokens.next()? {
        Token::Text(value) | Token::Word(value) => Some(Clause::Compare { name, by, value }),
        _ => None,
    }
}

fn arguments(tokens: &mut std::iter::Peekable<impl Iterator<Item = Token>>) -> Option<Vec<String>> {
    let mut found = Vec::new();
    if tokens.peek() == Some(&Token::Close) {
        tokens.next();
        return Some(found);
    }
    loop {
        match tokens.next()? {
            Token::Text(text) => found.push(text),
            Token::Word(word) => found.push(word.to_ascii_lowercase()),
            _ => return None,
        }
        match tokens.next()? {
            Token::Comma => {}
            Token::Close => return Some(found),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_clients_send() {
        let equal = |name: &str, value: &str| Clause::Compare { name: name.into(), by: Comparison::Equal, value: value.into() };
        let call = |name: &str, arguments: &[&str]| Clause::Call {
            name: name.into(),
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
        };
        let table = [
            ("resourceType eq 'Microsoft.BatchAI/workspaces'", vec![vec![equal("resourcetype", "Microsoft.BatchAI/workspaces")]]),
            ("tagName eq 'a' and tagValue eq 'it''s'", vec![vec![equal("tagname", "a"), equal("tagvalue", "it's")]]),
            ("name eq 'a' or name eq 'b'", vec![vec![equal("name", "a")], vec![equal("name", "b")]]),
            ("atScope()", vec![vec![call("atscope", &[])]]),
            (
                "substringof('a b', Name) and location eq eastus",
                vec![vec![call("substringof", &["a b", "name"]), equal("location", "eastus")]],
            ),
            (
                "eventTimestamp ge 2026-01-01T00:00:00.5Z",
                vec![vec![Clause::Compare {
                    name: "eventtimestamp".into(),
                    by: Comparison::AtLeast,
                    value: "2026-01-01T00:00:00.5Z".into(),
                }]],
            ),
        ];
        for (text, wanted) in table {
            assert_eq!(Filter::parse(text).expect(text), Filter(wanted), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in [
            "",
            " ",
            "name",
            "name eq",
            "name like 'a'",
            "name eq 'a",
            "'a' eq name",
            "name eq 'a' and",
            "name eq 'a' name eq 'b'",
            "(name eq 'a')",
            "f('a'",
            "f('a',)",
            "name eq 'a'; drop table x",
            "name eq \"a\"",
            "name gt 'a'",
            "\u{212a} eq 'a'",
        ] {
            assert_eq!(Filter::parse(text).expect_err(text).code, ErrorCode::InvalidFilterInQueryString, "{text}");
        }
        assert!(Filter::parse(&format!("name eq '{}'", "a".repeat(5000))).is_err());
    }

    proptest! {
        #[test]
        fn no_filter_panics(text in "[ -~äK]{0,60}") {
            let _ = Filter::parse(&text);
        }
    }
}
