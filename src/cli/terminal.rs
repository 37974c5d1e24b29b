//! What the terminal can show, and what may be shown on it.

use std::io::{BufRead, IsTerminal, Write};

use console::{Style, Term};

use super::global::{Color, Global};
use crate::client::{Environment, Exit, Failure, Result};

/// What is known of standard output, error and input.
#[derive(Clone, Debug)]
pub(super) struct Terminal {
    /// Whether standard output is one.
    pub out: bool,
    /// Whether standard error is one.
    pub err: bool,
    /// Whether somebody can be asked.
    pub asks: bool,
    /// Whether answers may have colours.
    pub color: bool,
    /// Whether signs beyond ASCII are shown.
    pub unicode: bool,
    /// Whether progress is drawn in place; else a line for each change.
    pub redraws: bool,
    /// Whether anything but errors is said.
    pub talks: bool,
    /// Columns of standard output; `None` where it is no terminal.
    pub width: Option<usize>,
}

impl Terminal {
    /// That of this process.
    pub(super) fn of(global: &Global, environment: &Environment) -> Terminal {
        let (out, err, input) =
            (std::io::stdout().is_terminal(), std::io::stderr().is_terminal(), std::io::stdin().is_terminal());
        let dumb = environment.get("TERM").is_none_or(|term| term == "dumb");
        let color = match global.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto if environment.get("NO_COLOR").is_some() => false,
            Color::Auto if environment.get("CLICOLOR_FORCE").is_some_and(|value| value != "0") => true,
            Color::Auto => out && !dumb,
        };
        let locale =
            ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|name| environment.get(name)).unwrap_or_default().to_ascii_lowercase();
        let plain = environment.get("BATCHYARD_PROGRESS").is_some_and(|wish| wish == "plain" || wish == "none");
        let silent = environment.get("BATCHYARD_PROGRESS").is_some_and(|wish| wish == "none");
        Terminal {
            out,
            err,
            asks: input && err && !global.no_input,
            color,
            unicode: locale.contains("utf-8") || locale.contains("utf8"),
            redraws: err && !dumb && !plain && environment.get("ACCESSIBLE").is_none(),
            talks: !global.only_show_errors && !silent,
            width: out.then(|| Term::stdout().size_checked().map_or(80, |(_, columns)| usize::from(columns))),
        }
    }

    /// The sign of a state, which colour repeats: the word beside it says the same.
    pub(super) fn sign(&self, state: &str) -> String {
        let (sign, plain, style) = match state {
            "queued" => ("○", ".", Style::new().yellow()),
            "preparing" | "resizing" | "creating" | "updating" => ("~", "~", Style::new().cyan()),
            "running" => ("●", "*", Style::new().blue()),
            "succeeded" | "steady" | "idle" => ("✓", "+", Style::new().green()),
            "failed" => ("✗", "x", Style::new().red()),
            "terminating" | "deleting" => ("◌", "-", Style::new().magenta()),
            "unusable" => ("!", "!", Style::new().red()),
            "leaving" => ("↓", "v", Style::new().yellow()),
            _ => ("?", "?", Style::new()),
        };
        let sign = if self.unicode { sign } else { plain };
        style.force_styling(self.color).apply_to(sign).to_string()
    }

    /// Text that stands out.
    pub(super) fn strong(&self, text: &str) -> String {
        Style::new().bold().force_styling(self.color).apply_to(text).to_string()
    }

    /// Text that stands back.
    pub(super) fn dim(&self, text: &str) -> String {
        Style::new().dim().force_styling(self.color).apply_to(text).to_string()
    }

    /// Says a line beside the answer.
    pub(super) fn say(&self, line: &str) {
        if self.talks {
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }

    /// Asks whether what cannot be undone is meant.
    ///
    /// # Errors
    /// `Usage` where nobody can be asked or the answer is no.
    pub(super) fn confirm(&self, what: &str) -> Result<()> {
        if !self.asks {
            return Err(Failure::usage(format!("{what}: this cannot be asked here")).or_try("the same with --yes"));
        }
        let _ = write!(std::io::stderr(), "{what}? [y/N] ");
        let _ = std::io::stderr().flush();
        let mut line = String::new();
        let read = std::io::stdin().lock().read_line(&mut line);
        match read {
            Ok(_) if matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes") => Ok(()),
            _ => Err(Failure::new(Exit::Usage, "NotConfirmed", "nothing was done")),
        }
    }
}

/// Text from elsewhere as a terminal may be sent it: what would move the cursor, change colours or turn the direction is written out.
pub(super) fn visible(text: &str) -> String {
    let hostile = |c: char| {
        (c.is_control() && c != '\t') || ('\u{202a}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{2069}').contains(&c)
    };
    if !text.chars().any(hostile) {
        return text.to_owned();
    }
    text.chars().map(|c| if hostile(c) { c.escape_default().to_string() } else { c.to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_drives_a_terminal_is_written_out() {
        assert_eq!(visible("a\tb ä"), "a\tb ä");
        assert_eq!(visible("\u{1b}[2Jx\u{202e}y\r\n"), "\\u{1b}[2Jx\\u{202e}y\\r\\n");
    }
}
