//! Where words go: data to stdout, talk to stderr, both made safe for a terminal.
//!
//! Every line passes one door that escapes what could rewrite a terminal (names come from disks and peers).
//! A reader that went away ([`ErrorKind::BrokenPipe`]) is no error: the rest is dropped and the command goes on
//! to its true end.

use std::fmt::Write as _;
use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle as BarStyle};
use serde_json::{Value, json};
use tidegate_protocol::id::is_unprintable;

use crate::api::problem::Problem;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProgressStyle {
    /// One bar that moves
    Bar,
    /// A line every 10 s
    Plain,
    /// Nothing
    None,
    /// A document every 10 s
    Json,
}

/// Time between two lines of plain progress.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// The process's words.
pub struct Out {
    json: bool,
    quiet: bool,
    verbose: u8,
    progress: ProgressStyle,
}

impl Out {
    /// As the global flags say.
    pub fn new(json: bool, quiet: bool, verbose: u8, progress: Option<ProgressStyle>) -> Self {
        let fitting = if std::io::stderr().is_terminal() { ProgressStyle::Bar } else { ProgressStyle::Plain };
        let progress = if quiet { ProgressStyle::None } else { progress.unwrap_or(fitting) };
        Self { json, quiet, verbose, progress }
    }

    /// Whether documents are wanted.
    pub const fn json(&self) -> bool {
        self.json
    }

    /// Whether more is wanted.
    pub const fn verbose(&self) -> bool {
        self.verbose > 0
    }

    /// A line of the answer.
    pub fn line(&self, text: &str) {
        put(&mut std::io::stdout().lock(), &format!("{}\n", printable(text)));
    }

    /// Text of our own with line breaks: help, completions.
    pub fn text(&self, text: &str) {
        put(&mut std::io::stdout().lock(), text);
    }

    /// A document, as the answer.
    pub fn document(&self, document: &Value) {
        put(&mut std::io::stdout().lock(), &format!("{document}\n"));
    }

    /// A line of talk, for people only.
    pub fn talk(&self, text: &str) {
        if !self.quiet && !self.json {
            put(&mut std::io::stderr().lock(), &format!("{}\n", printable(text)));
        }
    }

    /// Text of our own with line breaks, on stderr.
    pub fn talk_text(&self, text: &str) {
        put(&mut std::io::stderr().lock(), text);
    }

    /// Rows in aligned columns.
    pub fn table(&self, rows: &[Vec<String>]) {
        for line in table(rows) {
            self.line(&line);
        }
    }

    /// What was refused or failed.
    pub fn problem(&self, problem: &Problem) {
        let text = if self.json { format!("{}\n", problem.document()) } else { explain(problem) };
        put(&mut std::io::stderr().lock(), &text);
    }

    /// Begins to show progress.
    pub fn progress(&self) -> Progress {
        let style = if self.json && self.progress == ProgressStyle::Bar { ProgressStyle::None } else { self.progress };
        let bar = (style == ProgressStyle::Bar).then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(10));
            let style = BarStyle::with_template("{prefix} [{bar:20}] {percent:>3}%  {msg}");
            bar.set_style(style.expect("the template is valid").progress_chars("#>-"));
            bar
        });
        Progress { style, bar, last_line: Mutex::new(None) }
    }
}

/// Progress of one command, on stderr.
pub struct Progress {
    style: ProgressStyle,
    bar: Option<ProgressBar>,
    last_line: Mutex<Option<Instant>>,
}

impl Progress {
    /// Shows where it is: `done` of `total`, with words for people and a document for scripts.
    pub fn show(&self, what: &str, done: u64, total: u64, words: &str, document: &Value) {
        if let Some(bar) = &self.bar {
            bar.set_length(total.max(1));
            bar.set_position(done.min(total.max(1)));
            bar.set_prefix(printable(what));
            bar.set_message(printable(words));
            return;
        }
        let mut last = self.last_line.lock().expect("nobody panics while holding it");
        if last.is_some_and(|at| at.elapsed() < LINE_EVERY) {
            return;
        }
        // The first moment of a run says nothing yet: a line is due after the first interval.
        let first = last.replace(Instant::now()).is_none();
        if first {
            return;
        }
        let line = match self.style {
            ProgressStyle::None | ProgressStyle::Bar => return,
            ProgressStyle::Plain => {
                let percent = (done.min(total) * 100).checked_div(total).unwrap_or(0);
                format!("{}\n", printable(&format!("{what} {percent}%  {words}")))
            }
            ProgressStyle::Json => {
                let event = json!({ "v": 1, "type": "event", "event": "progress", "of": what, "progress": document });
                format!("{event}\n")
            }
        };
        put(&mut std::io::stderr().lock(), &line);
    }

    /// Takes the bar away.
    pub fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The house's form of an error.
pub fn explain(problem: &Problem) -> String {
    let mut text = format!("error[{}]: {}\n", problem.code.as_str(), printable(&problem.message));
    if !problem.why.is_empty() {
        let _ = writeln!(text, "  why:  {}", printable(&problem.why));
    }
    for step in &problem.next {
        let _ = writeln!(text, "  next: {}", printable(step));
    }
    if let Some(what) = &problem.do_not {
        let _ = writeln!(text, "  do not: {}", printable(what));
    }
    text
}

/// Text in which nothing can rewrite a terminal's line: controls, bidirectional and zero-width characters are
/// shown as `\u{202e}`.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unprintable(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

/// Rows in aligned columns, two blanks apart, without blanks at the end.
pub fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| printable(cell).chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{:<width$}", printable(cell), width = *width));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn put(stream: &mut impl Write, text: &str) {
    match stream.write_all(text.as_bytes()).and_then(|()| stream.flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        // A full disk behind stdout: the work itself is not affected, and stderr may still be readable.
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "warning: output was cut off: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::problem::Code;

    #[test]
    fn nothing_shown_can_rewrite_a_terminal() {
        for (text, want) in [
            ("plain ä 日本", "plain ä 日本"),
            ("\u{1b}[31mred", "\\u{1b}[31mred"),
            ("photo\u{202e}gpj.exe", "photo\\u{202e}gpj.exe"),
            ("a\u{200b}b", "a\\u{200b}b"),
            ("two\nlines\r", "two\\nlines\\r"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("back\\slash", "back\\slash"),
        ] {
            assert_eq!(printable(text), want);
        }
    }

    #[test]
    fn an_error_says_what_why_next_and_what_not() {
        let problem =
            Problem::new(Code::RootMissing, "desk:Photos is not there; nothing was changed", "/mnt/\u{1b}usb is empty")
                .next("mount it, then tidegate location rescan Photos")
                .next("moved on purpose: tidegate location remove Photos")
                .do_not("create the marker by hand");
        let want = "error[ROOT_MISSING]: desk:Photos is not there; nothing was changed\n  why:  /mnt/\\u{1b}usb is empty\n  \
                    next: mount it, then tidegate location rescan Photos\n  next: moved on purpose: tidegate location \
                    remove Photos\n  do not: create the marker by hand\n";
        assert_eq!(explain(&problem), want);
    }

    #[test]
    fn columns_are_aligned_by_what_is_shown() {
        let rows =
            [vec!["a".to_owned(), "x".to_owned()], vec!["\u{202e}".to_owned(), "y".to_owned()], vec!["b".to_owned()]];
        assert_eq!(table(&rows), ["a         x", "\\u{202e}  y", "b"]);
    }
}
