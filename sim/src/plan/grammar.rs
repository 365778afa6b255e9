//! Reading what is written: a step is `TIME DEVICE VERB …`, a deed is `VERB …`.
//!
//! Errors point at the word that is wrong and say what could stand there. Names of devices, locations and
//! conduits are not looked up here: `check` does that, which knows the plan.

use std::ops::Range;
use std::str::FromStr;

use serde::Deserialize;
use tidegate_protocol::path::{DirPath, EntryPath};

use super::deed::{Content, Deed, Keep, Place, Style};
use super::words::{LineError, Word, Words, nearest, read};
use super::{Millis, Step};

/// Every verb, with its form.
pub const VERBS: [(&str, &str); 49] = [
    ("writes", "writes LOCATION/PATH 'text' | bytes=N [style=truncate|temp|append|slow:2m|stealth]"),
    ("deletes", "deletes LOCATION/PATH"),
    ("renames", "renames LOCATION/OLD LOCATION/NEW"),
    ("swaps", "swaps LOCATION/ONE LOCATION/OTHER"),
    ("makes-dir", "makes-dir LOCATION/PATH"),
    ("links", "links LOCATION/PATH TARGET"),
    ("makes-fifo", "makes-fifo LOCATION/PATH"),
    ("retypes", "retypes LOCATION/PATH"),
    ("touches", "touches LOCATION/PATH"),
    ("chmods", "chmods LOCATION/PATH +x|-x"),
    ("checks-out", "checks-out LOCATION[/DIR] files=N"),
    ("strikes", "strikes LOCATION"),
    ("loses-power", "loses-power [for=10s] [operation=N]"),
    ("is-killed", "is-killed [for=10s]"),
    ("is-stopped", "is-stopped [for=10s]"),
    ("is-cut-from", "is-cut-from DEVICE [for=30s] [one-way]"),
    ("is-isolated", "is-isolated [for=30s]"),
    ("is-slow-to", "is-slow-to DEVICE latency=500ms rate=20000 [for=30s]"),
    ("is-reset-from", "is-reset-from DEVICE"),
    ("disk-full", "disk-full LOCATION [for=30s]"),
    ("disk-fails", "disk-fails LOCATION [calls=1] [after=0]"),
    ("disk-read-only", "disk-read-only LOCATION [for=30s]"),
    ("cannot-read", "cannot-read LOCATION/PATH [for=30s]"),
    ("disk-slow", "disk-slow LOCATION each=20ms [for=30s]"),
    ("clock", "clock +10m|-1y"),
    ("unmounts", "unmounts LOCATION [for=30s]"),
    ("replaces-root", "replaces-root LOCATION [for=30s]"),
    ("copies-tree", "copies-tree LOCATION"),
    ("restores-tree", "restores-tree LOCATION"),
    ("copies-index", "copies-index"),
    ("restores-index", "restores-index"),
    ("loses-index", "loses-index"),
    ("overflows", "overflows LOCATION"),
    ("watches-late", "watches-late LOCATION by=5s [for=30s]"),
    ("joins", "joins DEVICE"),
    ("leaves", "leaves"),
    ("revokes", "revokes DEVICE"),
    ("syncs", "syncs CONDUIT"),
    ("approves", "approves CONDUIT"),
    ("pauses", "pauses CONDUIT"),
    ("resumes", "resumes CONDUIT"),
    ("resolves", "resolves CONDUIT PATH keep=source|target|both"),
    ("undoes", "undoes CONDUIT"),
    ("pins", "pins CONDUIT PATH"),
    ("unpins", "unpins CONDUIT PATH"),
    ("fetches", "fetches CONDUIT PATH [stays=1d]"),
    ("restores", "restores LOCATION[/PATH]"),
    ("rescans", "rescans LOCATION [deep]"),
    ("ignores", "ignores LOCATION PATTERN…"),
];

/// How long a fault lasts if nothing is said.
const SPAN: Millis = Millis(30_000);
/// How long what was fetched stays if nothing is said.
const STAYS: Millis = Millis(24 * 3_600_000);
/// How long a device is off if nothing is said.
const OFF: Millis = Millis(10_000);

/// A step with the places of its words, for whoever checks the names in it.
#[derive(Debug, Clone)]
pub struct Spanned {
    /// The step.
    pub step: Step,
    /// Of the device.
    pub device_at: Range<usize>,
    /// Of everything after the verb.
    pub deed_at: Range<usize>,
}

impl FromStr for Step {
    type Err = LineError;

    fn from_str(line: &str) -> Result<Self, LineError> {
        step(line).map(|spanned| spanned.step)
    }
}

/// Reads `TIME DEVICE VERB … [#NUMBER]`.
pub fn step(line: &str) -> Result<Spanned, LineError> {
    // The number stands at the end, after whatever the deed says.
    let (text, number) = match line.rsplit_once(" #") {
        Some((text, number)) if number.parse::<u32>().is_ok() => (text, number.parse().unwrap_or(0)),
        Some(_) | None => (line, 0),
    };
    let mut words = Words::of(text)?;
    let at: Millis = words.parse("a time, such as 00:01:30 or 90s,")?;
    let device = words.next("the name of a device")?;
    let (deed, deed_at) = deed(words, text.len())?;
    Ok(Spanned { step: Step { at, on: device.text, deed, number }, device_at: device.at, deed_at })
}

fn deed(mut words: Words, end: usize) -> Result<(Deed, Range<usize>), LineError> {
    let verb = words.next("a verb, such as writes or loses-power,")?;
    let Some((name, form)) = VERBS.iter().find(|(name, _)| *name == verb.text) else {
        let error = LineError::new(verb.at, format!("nobody can `{}`", verb.text));
        let names = VERBS.iter().map(|(name, _)| *name);
        return Err(match nearest(&verb.text, names.clone()) {
            Some(near) => error.help(format!("did you mean `{near}`?")),
            None => error.help(format!("the verbs are {}", names.collect::<Vec<_>>().join(", "))),
        });
    };
    let (start, options) = (verb.at.end, options_of(form));
    let mut read = || -> Result<Deed, LineError> { arguments(name, &mut words) };
    let deed =
        read().map_err(|error| if error.help.is_none() { error.help(format!("write: {form}")) } else { error })?;
    words.done(&options)?;
    Ok((deed, start..end))
}

fn arguments(verb: &str, words: &mut Words) -> Result<Deed, LineError> {
    let location = "the name of a location";
    let device = "the name of another device";
    let conduit = "the name of a conduit";
    let text = |words: &mut Words, what: &str| words.next(what).map(|word| word.text);
    let span = |words: &mut Words| words.option("for").map(|span: Option<Millis>| span.unwrap_or(SPAN));
    let off = |words: &mut Words| words.option("for").map(|span: Option<Millis>| span.unwrap_or(OFF));
    Ok(match verb {
        "writes" => writes(words)?,
        "deletes" => Deed::Delete(below(words)?),
        "renames" => pair(words).map(|(from, to)| Deed::Rename(from, to))?,
        "swaps" => pair(words).map(|(from, to)| Deed::Swap(from, to))?,
        "makes-dir" => Deed::MakeDir(below(words)?),
        "links" => Deed::Link(below(words)?, text(words, "what the link says")?),
        "makes-fifo" => Deed::Fifo(below(words)?),
        "retypes" => Deed::Retype(below(words)?),
        "touches" => Deed::Touch(below(words)?),
        "chmods" => Deed::Executable(below(words)?, plus(words)?),
        "checks-out" => {
            let at = words.parse("LOCATION or LOCATION/DIR")?;
            Deed::Checkout(at, words.option("files")?.unwrap_or(100))
        }
        "strikes" => Deed::Strike(text(words, location)?),
        "loses-power" => Deed::Crash { off: off(words)?, after: words.option("operation")? },
        "is-killed" => Deed::Kill(off(words)?),
        "is-stopped" => Deed::Stop(off(words)?),
        "is-cut-from" => {
            let other = text(words, device)?;
            Deed::Cut { other, span: span(words)?, one_way: flag(words, "one-way")? }
        }
        "is-isolated" => Deed::Isolate(span(words)?),
        "is-slow-to" => Deed::Slow {
            other: text(words, device)?,
            latency: words.option("latency")?.unwrap_or(Millis(500)),
            rate: words.option("rate")?.unwrap_or(20_000),
            span: span(words)?,
        },
        "is-reset-from" => Deed::Reset(text(words, device)?),
        "disk-full" => Deed::Full(text(words, location)?, span(words)?),
        "disk-fails" => Deed::Fail {
            location: text(words, location)?,
            calls: words.option("calls")?.unwrap_or(1),
            after: words.option("after")?.unwrap_or(0),
        },
        "disk-read-only" => Deed::ReadOnly(text(words, location)?, span(words)?),
        "cannot-read" => Deed::Unreadable(below(words)?, span(words)?),
        "disk-slow" => {
            let location = text(words, location)?;
            Deed::SlowDisk { location, each: words.option("each")?.unwrap_or(Millis(20)), span: span(words)? }
        }
        "clock" => {
            let word = words.next("+ or - and a span, such as -1y,")?;
            let (by, back) = signed(&word)?;
            Deed::Clock { by, back }
        }
        "unmounts" => Deed::Unmount(text(words, location)?, span(words)?),
        "replaces-root" => Deed::Replace(text(words, location)?, span(words)?),
        "copies-tree" => Deed::CopyTree(text(words, location)?),
        "restores-tree" => Deed::RestoreTree(text(words, location)?),
        "copies-index" => Deed::CopyIndex,
        "restores-index" => Deed::RestoreIndex,
        "loses-index" => Deed::Wipe,
        "overflows" => Deed::Overflow(text(words, location)?),
        "watches-late" => {
            let location = text(words, location)?;
            Deed::Late { location, by: words.option("by")?.unwrap_or(Millis(5_000)), span: span(words)? }
        }
        "joins" => Deed::Join(text(words, device)?),
        "leaves" => Deed::Leave,
        "revokes" => Deed::Revoke(text(words, device)?),
        "syncs" => Deed::Sync(text(words, conduit)?),
        "approves" => Deed::Approve(text(words, conduit)?),
        "pauses" => Deed::Pause(text(words, conduit)?, true),
        "resumes" => Deed::Pause(text(words, conduit)?, false),
        "resolves" => Deed::Resolve {
            conduit: text(words, conduit)?,
            path: text(words, "a path below the conduit's roots")?,
            keep: words.option("keep")?.unwrap_or(Keep::Both),
        },
        "undoes" => Deed::Undo(text(words, conduit)?),
        "pins" | "unpins" => {
            let (conduit, path) = (text(words, conduit)?, chosen(words)?);
            Deed::Pin { conduit, path, pinned: verb == "pins" }
        }
        "fetches" => {
            let (conduit, path) = (text(words, conduit)?, chosen(words)?);
            Deed::Fetch { conduit, path, stays: words.option("stays")?.unwrap_or(STAYS) }
        }
        "restores" => Deed::Restore(words.parse("LOCATION or LOCATION/PATH")?),
        "rescans" => Deed::Rescan { location: text(words, location)?, deep: flag(words, "deep")? },
        "ignores" => {
            let location = text(words, location)?;
            let mut rules = Vec::new();
            while let Some(rule) = words.maybe() {
                rules.push(rule.text);
            }
            Deed::Rules(location, rules)
        }
        other => unreachable!("{other} stands in VERBS and not here"),
    })
}

fn writes(words: &mut Words) -> Result<Deed, LineError> {
    let at = below(words)?;
    let bytes: Option<u32> = words.option("bytes")?;
    let style = words.option("style")?.unwrap_or(Style::Truncate);
    let content = match (bytes, words.maybe()) {
        (None, Some(word)) => Content::Text(word.text),
        (Some(bytes), None) => Content::Unique(bytes),
        (None, None) => Content::Unique(200),
        (Some(_), Some(word)) => return Err(LineError::new(word.at, "a text and bytes= at the same time")),
    };
    Ok(Deed::Write { at, content, style })
}

fn pair(words: &mut Words) -> Result<(Place, Place), LineError> {
    let from = below(words)?;
    let word = words.next("LOCATION/PATH")?;
    let to = below_of(&word)?;
    if from.location != to.location {
        return Err(
            LineError::new(word.at, "a rename stays in its location").help("write the file there and delete it here")
        );
    }
    Ok((from, to))
}

fn below(words: &mut Words) -> Result<Place, LineError> {
    below_of(&words.next("LOCATION/PATH")?)
}

/// A path below the roots of a conduit.
fn chosen(words: &mut Words) -> Result<String, LineError> {
    let word = words.next("a path below the conduit's roots")?;
    match EntryPath::from_slashes(word.text.as_bytes()) {
        Ok(_) => Ok(word.text),
        Err(error) => Err(LineError::new(word.at, format!("`{}` is no path below the roots: {error}", word.text))),
    }
}

/// A path that is not the root.
fn below_of(word: &Word) -> Result<Place, LineError> {
    let place: Place = read(word)?;
    if place.path.is_empty() {
        return Err(LineError::new(word.at.clone(), format!("`{}` names a location and no path in it", word.text)));
    }
    Ok(place)
}

fn flag(words: &mut Words, name: &str) -> Result<bool, LineError> {
    match words.maybe() {
        None => Ok(false),
        Some(word) if word.text == name => Ok(true),
        Some(word) => Err(LineError::new(word.at, format!("`{}` is neither nothing nor `{name}`", word.text))),
    }
}

fn plus(words: &mut Words) -> Result<bool, LineError> {
    let word = words.next("+x or -x")?;
    match word.text.as_str() {
        "+x" => Ok(true),
        "-x" => Ok(false),
        other => Err(LineError::new(word.at, format!("`{other}` is neither +x nor -x"))),
    }
}

fn signed(word: &Word) -> Result<(Millis, bool), LineError> {
    let wrong =
        || LineError::new(word.at.clone(), format!("`{}` is no jump", word.text)).help("write clock +10m or clock -1y");
    let (back, span) = match (word.text.strip_prefix('+'), word.text.strip_prefix('-')) {
        (Some(span), _) => (false, span),
        (None, Some(span)) => (true, span),
        (None, None) => return Err(wrong()),
    };
    span.parse().map(|by| (by, back)).map_err(|_| wrong())
}

/// The options that a verb's form names.
fn options_of(form: &'static str) -> Vec<&'static str> {
    let parts = form.split([' ', '[', '|']).filter_map(|part| part.split_once('='));
    parts.map(|(key, _)| key).collect()
}

/// A subtree, a file, or a pattern of a selection.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct Chosen(pub String);

impl TryFrom<String> for Chosen {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let path = if text == "." { Ok(DirPath::TOP) } else { DirPath::from_slashes(text.as_bytes()) };
        let wrong = path.err().map(|error| format!("`{text}` is no path below the roots: {error}"));
        wrong.map_or(Ok(Self(text)), Err)
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (location, path) = text.split_once('/').unwrap_or((text, ""));
        let bad = path.split('/').any(|name| matches!(name, "" | "." | "..") || name == ".tidegate");
        if location.is_empty() || (bad && !path.is_empty()) {
            return Err(format!("`{text}` is not LOCATION/PATH with plain names between slashes"));
        }
        Ok(Self { location: location.to_owned(), path: path.to_owned() })
    }
}

impl FromStr for Keep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "source" => Self::Source,
            "target" => Self::Target,
            "both" => Self::Both,
            _ => return Err(format!("`{text}` is nothing to keep: source, target or both")),
        })
    }
}

impl FromStr for Style {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text.split_once(':') {
            Some(("slow", span)) => Self::Slow(span.parse().map_err(|e: super::moment::TimeError| e.to_string())?),
            None if text == "truncate" => Self::Truncate,
            None if text == "temp" => Self::Temp,
            None if text == "append" => Self::Append,
            None if text == "stealth" => Self::Stealth,
            _ => return Err(format!("`{text}` is no way to save: truncate, temp, append, slow:2m or stealth")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_reads_back_as_it_is_written() {
        let lines = [
            "00:00:01 a writes L/x.txt 'two words'",
            "00:00:01 a writes L/x.txt bytes=1200 style=slow:2m #17",
            "00:00:01 a writes L/x.txt bytes=5 style=stealth",
            "00:00:01 a deletes 'L/my file'",
            "00:00:01 a renames L/x L/y",
            "00:00:01 a swaps L/x L/y",
            "00:00:01 a makes-dir L/d",
            "00:00:01 a links L/l ../x",
            "00:00:01 a makes-fifo L/f",
            "00:00:01 a retypes L/x",
            "00:00:01 a touches L/x",
            "00:00:01 a chmods L/x -x",
            "00:00:01 a checks-out L/src files=200",
            "00:00:01 a strikes L",
            "00:00:01 a loses-power for=10s operation=17",
            "00:00:01 a is-killed for=1m",
            "00:00:01 a is-stopped for=1m",
            "00:00:01 a is-cut-from b for=30s one-way",
            "00:00:01 a is-isolated for=30s",
            "00:00:01 a is-slow-to b latency=500ms rate=20000 for=30s",
            "00:00:01 a is-reset-from b",
            "00:00:01 a disk-full L for=30s",
            "00:00:01 a disk-fails L calls=2 after=7",
            "00:00:01 a disk-read-only L for=30s",
            "00:00:01 a cannot-read L/x for=30s",
            "00:00:01 a disk-slow L each=20ms for=30s",
            "00:00:01 a clock -1y",
            "00:00:01 a unmounts L for=30s",
            "00:00:01 a replaces-root L for=30s",
            "00:00:01 a copies-tree L",
            "00:00:01 a restores-tree L",
            "00:00:01 a copies-index",
            "00:00:01 a restores-index",
            "00:00:01 a loses-index",
            "00:00:01 a overflows L",
            "00:00:01 a watches-late L by=5s for=30s",
            "00:00:01 a joins b",
            "00:00:01 a leaves",
            "00:00:01 a revokes b",
            "00:00:01 a syncs c",
            "00:00:01 a approves c",
            "00:00:01 a pauses c",
            "00:00:01 a resumes c",
            "00:00:01 a resolves c 'd/a b' keep=target",
            "00:00:01 a undoes c",
            "00:00:01 a pins c 'd/a b'",
            "00:00:01 a unpins c d",
            "00:00:01 a fetches c d/a stays=1h",
            "00:00:01 a restores 'L/d a'",
            "00:00:01 a rescans L deep",
            "00:00:01 a ignores L *.tmp 'a b'",
        ];
        let mut seen = std::collections::BTreeSet::new();
        for line in lines {
            let step: Step = line.parse().unwrap_or_else(|e| panic!("{line}: {e}"));
            assert_eq!(step.to_string(), line);
            seen.insert(step.deed.verb());
        }
        assert_eq!(seen, VERBS.iter().map(|(verb, _)| *verb).collect());
    }

    #[test]
    fn an_error_points_at_its_word_and_says_what_could_stand_there() {
        let cases = [
            ("soon a writes L/x", "soon", "is not a time"),
            ("1s a wriets L/x", "wriets", "did you mean `writes`"),
            ("1s a frobs L/x", "frobs", "the verbs are"),
            ("1s a writes L", "L", "no path in it"),
            ("1s a writes L/../x 'y'", "L/../x", "plain names"),
            ("1s a writes L/x 'y' bytes=4", "'y'", "at the same time"),
            ("1s a writes L/x 'y' stile=temp", "stile=temp", "did you mean `style=`"),
            ("1s a writes L/x 'y' style=tmp", "tmp", "no way to save"),
            ("1s a deletes", "", "write: deletes LOCATION/PATH"),
            ("1s a renames L/x M/y", "M/y", "stays in its location"),
            ("1s a clock 1y", "1y", "clock -1y"),
            ("1s a loses-power for=x", "x", "is not a time"),
            ("1s a is-cut-from b both", "both", "one-way"),
            ("1s a leaves now", "now", "one word too many"),
            ("1s", "", "the name of a device is missing"),
        ];
        for (line, word, says) in cases {
            let error = line.parse::<Step>().unwrap_err();
            assert_eq!(&line[error.at.clone()], word, "{line}: {error}");
            assert!(error.to_string().contains(says), "{line}: {error}");
        }
    }
}
