//! A line of a plan as words, each with its place in the line, so that an error can point at one.
//!
//! Words are parted by blanks; `'…'` and `"…"` hold blanks. `key=value` is an option; options may stand anywhere
//! after the verb. Whatever is left over when a verb has taken what it knows is an error.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// What is wrong with a line, and where in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineError {
    /// Bytes of the line that are meant.
    pub at: Range<usize>,
    /// What is wrong, as a sentence without a full stop.
    pub what: String,
    /// What to write instead, if that can be guessed.
    pub help: Option<String>,
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        self.help.as_ref().map_or(Ok(()), |help| write!(f, "; {help}"))
    }
}

impl std::error::Error for LineError {}

impl LineError {
    /// An error at a place.
    pub fn new(at: Range<usize>, what: impl Into<String>) -> Self {
        Self { at, what: what.into(), help: None }
    }

    /// With advice.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// One word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// Where it stands.
    pub at: Range<usize>,
    /// What it says, without quotes.
    pub text: String,
}

/// The words of a line that have not been taken yet.
#[derive(Debug, Clone)]
pub struct Words {
    plain: Vec<Word>,
    options: Vec<(String, Word)>,
    end: usize,
}

impl Words {
    /// Splits a line.
    pub fn of(line: &str) -> Result<Self, LineError> {
        let (mut words, mut options) = (Vec::new(), Vec::new());
        let mut at = 0;
        while let Some(start) = line[at..].find(|c: char| !c.is_whitespace()).map(|skip| at + skip) {
            let (word, key, end) = word(line, start)?;
            match key {
                Some(key) => options.push((key, word)),
                None => words.push(word),
            }
            at = end;
        }
        words.reverse();
        Ok(Self { plain: words, options, end: line.len() })
    }

    /// The next word, which must be there.
    pub fn next(&mut self, what: &str) -> Result<Word, LineError> {
        self.plain.pop().ok_or_else(|| LineError::new(self.end..self.end, format!("{what} is missing here")))
    }

    /// The next word, if there is one.
    pub fn maybe(&mut self) -> Option<Word> {
        self.plain.pop()
    }

    /// The next word, read as something.
    pub fn parse<T: FromStr<Err: fmt::Display>>(&mut self, what: &str) -> Result<T, LineError> {
        let word = self.next(what)?;
        read(&word)
    }

    /// An option, if it is given.
    pub fn option<T: FromStr<Err: fmt::Display>>(&mut self, key: &str) -> Result<Option<T>, LineError> {
        let Some(found) = self.options.iter().position(|(name, _)| name == key) else { return Ok(None) };
        let (_, word) = self.options.remove(found);
        read(&word).map(Some)
    }

    /// Nothing may be left.
    pub fn done(mut self, options: &[&str]) -> Result<(), LineError> {
        if let Some((key, word)) = self.options.pop() {
            let start = word.at.start.saturating_sub(key.len() + 1);
            let error =
                LineError::new(start..word.at.end, format!("there is no option `{key}` here, or it is given twice"));
            return Err(match nearest(&key, options.iter().copied()) {
                Some(near) => error.help(format!("did you mean `{near}=`?")),
                None if options.is_empty() => error.help("this verb takes none"),
                None => error.help(format!("it knows {}", options.join(", "))),
            });
        }
        match self.plain.pop() {
            Some(word) => Err(LineError::new(word.at, format!("`{}` is one word too many", word.text))
                .help("put quotes around what holds blanks")),
            None => Ok(()),
        }
    }
}

/// Reads a word as something.
pub fn read<T: FromStr<Err: fmt::Display>>(word: &Word) -> Result<T, LineError> {
    word.text.parse().map_err(|e: T::Err| LineError::new(word.at.clone(), e.to_string()))
}

/// The word that begins at `start`, its key if it is an option, and where it ends.
fn word(line: &str, start: usize) -> Result<(Word, Option<String>, usize), LineError> {
    let mut text = String::new();
    let (mut key, mut began) = (None, start);
    let mut chars = line[start..].char_indices();
    while let Some((offset, c)) = chars.next() {
        match c {
            '\'' | '"' => loop {
                match chars.next() {
                    Some((_, end)) if end == c => break,
                    Some((_, inside)) => text.push(inside),
                    None => return Err(LineError::new(start + offset..line.len(), "the quote is not closed")),
                }
            },
            '=' if key.is_none() && is_key(&text) => {
                key = Some(std::mem::take(&mut text));
                began = start + offset + 1;
            }
            c if c.is_whitespace() => {
                let end = start + offset;
                return Ok((Word { at: began..end, text }, key, end));
            }
            c => text.push(c),
        }
    }
    Ok((Word { at: began..line.len(), text }, key, line.len()))
}

fn is_key(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
}

/// A word in such a form that it reads back as itself.
pub fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+~@#,()[]{}*!%^&:".contains(c);
    match text {
        "" => "''".to_owned(),
        text if text.chars().all(plain) => text.to_owned(),
        // Both kinds of quotes: pieces stand side by side and join to one word.
        text => text.split('\'').map(|piece| format!("'{piece}'")).collect::<Vec<_>>().join("\"'\""),
    }
}

/// The known word that is closest, if one is close enough to be meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).max(1);
    let ranked = known.into_iter().map(|other| (distance(word, other), other));
    ranked.filter(|(far, _)| *far <= limit).min().map(|(_, other)| other)
}

/// Letters to add, drop, change or swap with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.to_lowercase().chars().collect(), b.to_lowercase().chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let changed = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = changed.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_falls_into_words_and_options_with_their_places() {
        let line = "writes Notes/a.txt 'two words' style=append for='5 s'";
        let mut words = Words::of(line).unwrap();
        let verb = words.next("a verb").unwrap();
        assert_eq!((verb.text.as_str(), &line[verb.at]), ("writes", "writes"));
        assert_eq!(words.next("").unwrap().text, "Notes/a.txt");
        let text = words.next("").unwrap();
        assert_eq!((text.text.as_str(), &line[text.at]), ("two words", "'two words'"));
        assert_eq!(words.option::<String>("style"), Ok(Some("append".to_owned())));
        assert_eq!(words.option::<String>("for"), Ok(Some("5 s".to_owned())));
        assert_eq!(words.done(&[]), Ok(()));
    }

    #[test]
    fn what_is_left_over_is_told_with_what_may_be_meant() {
        let left = Words::of("a b").unwrap();
        assert!(left.done(&[]).unwrap_err().what.contains("one word too many"));
        let mut options = Words::of("stile=append").unwrap();
        assert_eq!(options.option::<String>("style"), Ok(None));
        let error = options.done(&["style"]).unwrap_err();
        assert_eq!((error.at, error.help.as_deref()), (0..12, Some("did you mean `style=`?")));
        assert_eq!(Words::of("'open").unwrap_err().at, 0..5);
    }

    #[test]
    fn quoting_reads_back_as_itself() {
        for text in ["", "plain/path.txt", "two words", "it's", "'", "\"both' kinds\"", "a=b", "ü \u{1F600}", "''"] {
            let line = quoted(text);
            let mut words = Words::of(&line).unwrap();
            assert_eq!(words.next("").unwrap().text, text, "{line}");
            assert_eq!(words.done(&[]), Ok(()), "{line}");
        }
    }

    #[test]
    fn the_nearest_word_is_near_or_none() {
        assert_eq!(nearest("wriet", ["write", "rename"]), Some("write"));
        assert_eq!(nearest("serevr", ["server", "laptop"]), Some("server"));
        assert_eq!(nearest("xyz", ["write", "rename"]), None);
    }
}
