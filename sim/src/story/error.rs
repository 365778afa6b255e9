//! What is wrong with a story, shown where it stands.

use std::fmt;
use std::ops::Range;

use crate::plan::words::nearest;

/// What is wrong with a story, with the line that is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoryError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The line's text.
    pub text: String,
    /// How many characters are meant.
    pub width: usize,
    /// What is wrong.
    pub what: String,
    /// What to write instead.
    pub help: Option<String>,
}

impl fmt::Display for StoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gutter = self.line.to_string().len();
        writeln!(f, "line {}, column {}: {}", self.line, self.column, self.what)?;
        writeln!(f, "{:gutter$} |", "")?;
        writeln!(f, "{} | {}", self.line, self.text)?;
        write!(f, "{:gutter$} | {:>indent$}{}", "", "", "^".repeat(self.width.max(1)), indent = self.column - 1)?;
        self.help.as_ref().map_or(Ok(()), |help| write!(f, "\n{:gutter$} = {help}", ""))
    }
}

impl std::error::Error for StoryError {}

/// Where in the text something is wrong, and what.
pub(super) struct Wrong {
    pub(super) at: Range<usize>,
    pub(super) what: String,
    pub(super) help: Option<String>,
}

impl Wrong {
    pub(super) fn new(at: Range<usize>, what: impl Into<String>) -> Self {
        Self { at, what: what.into(), help: None }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Says of an unknown key which one may be meant.
pub(super) fn form_error(at: Range<usize>, message: &str) -> Wrong {
    let mut pieces = message.split('`').skip(1).step_by(2);
    let wrong = Wrong::new(at, message.lines().next().unwrap_or_default());
    let near = pieces.next().and_then(|unknown| nearest(unknown, pieces));
    match near {
        Some(near) if message.starts_with("unknown") => wrong.help(format!("did you mean `{near}`?")),
        Some(_) | None => wrong,
    }
}

pub(super) fn placed(text: &str, wrong: Wrong) -> StoryError {
    let start = wrong.at.start.min(text.len());
    let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
    let end = wrong.at.end.clamp(start, line_end);
    StoryError {
        line: text[..start].matches('\n').count() + 1,
        column: text[line_start..start].chars().count() + 1,
        text: text[line_start..line_end].to_owned(),
        width: text[start..end].chars().count(),
        what: wrong.what,
        help: wrong.help,
    }
}
