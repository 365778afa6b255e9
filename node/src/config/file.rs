//! The configuration file, read strictly: an unknown key, a wrong type or a value outside its bounds is
//! refused with its line. A byte order mark and CRLF are accepted, as editors on other systems leave them.

use std::io::Read;
use std::path::{Path, PathBuf};

use tidegate_protocol::id::Label;
use toml::de::{DeTable, DeValue};

use super::keys::{Kind, address};
use super::{Admitted, Config, Given, KEYS, Origin, nearest, problem};
use crate::api::problem::Problem;

/// Largest configuration file, in bytes. A person writes a few hundred lines; more is a mistake.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Reads the file if it exists; never more than [`CONFIG_BYTES_MAX`] of it.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, Problem> {
    let unreadable = |error: std::io::Error| problem(&format!("{} cannot be read", path.display()), error.to_string());
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(problem(&format!("{} is not a file", path.display()), "only a regular file is read"));
    }
    let mut text = Vec::new();
    file.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut text).map_err(unreadable)?;
    Ok(Some(text))
}

/// Puts what a file says over `config`. `path` is for messages.
pub fn apply(config: &mut Config, path: &Path, text: &[u8]) -> Result<(), Problem> {
    if text.len() as u64 > CONFIG_BYTES_MAX {
        return Err(problem(&format!("{} is too large", path.display()), "a configuration has at most 1 MiB"));
    }
    let text = std::str::from_utf8(text).map_err(|error| {
        let line = line_of(text, error.valid_up_to());
        problem(&format!("{}:{line}: not UTF-8", path.display()), "a configuration is text in UTF-8")
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let reader = Reader { path, text };
    let table = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        reader.refuse(at, "not TOML", error.message().to_owned())
    })?;
    for (section, value) in table.into_inner() {
        let (name, at) = (section.get_ref().to_string(), section.span().start);
        match value.into_inner() {
            DeValue::Array(entries) if name == "device" => {
                for entry in entries {
                    let at = entry.span().start;
                    config.settings.admitted.push(reader.admitted(at, entry.into_inner())?);
                }
            }
            DeValue::Table(keys) => reader.section(config, &name, at, keys)?,
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_) => {
                return Err(reader.unknown(at, &name, SECTIONS.map(str::to_owned)));
            }
        }
    }
    Ok(())
}

const SECTIONS: [&str; 7] = ["device", "network", "api", "index", "sync", "safety", "log"];
const ADMITTED_KEYS: [&str; 3] = ["name", "id", "addresses"];

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Reader<'_> {
    fn section(&self, config: &mut Config, section: &str, at: usize, keys: DeTable<'_>) -> Result<(), Problem> {
        if section == "device" && keys.iter().any(|(key, _)| matches!(key.get_ref().as_ref(), "id" | "addresses")) {
            return Err(self.refuse(at, "[device] is this device", "another device is admitted under [[device]]"));
        }
        if !SECTIONS.contains(&section) {
            return Err(self.unknown(at, section, SECTIONS.map(str::to_owned)));
        }
        for (key, value) in keys {
            let (name, at) = (format!("{section}.{}", key.get_ref()), key.span().start);
            let Some(known) = KEYS.iter().find(|known| known.name == name) else {
                return Err(self.unknown(at, &name, KEYS.iter().map(|known| known.name.to_owned())));
            };
            let given = given(known.kind, value.into_inner()).ok_or_else(|| {
                self.refuse(at, &format!("{name} has the wrong type"), format!("{name} is {}", known.kind.words()))
            })?;
            (known.set)(&mut config.settings, given)
                .map_err(|why| self.refuse(at, &format!("{name} has no such value"), why))?;
            let origin = Origin::File { path: PathBuf::from(self.path), line: self.line(at) };
            config.origins.insert(known.name, origin);
        }
        Ok(())
    }

    fn admitted(&self, at: usize, entry: DeValue<'_>) -> Result<Admitted, Problem> {
        let wrong = |at, why: String| self.refuse(at, "[[device]] is not understood", why);
        let DeValue::Table(keys) = entry else { return Err(wrong(at, "it is not a table".to_owned())) };
        let (mut name, mut id, mut addresses) = (None, None, Vec::new());
        for (key, value) in keys {
            let at = key.span().start;
            match (key.get_ref().as_ref(), value.into_inner()) {
                ("name", DeValue::String(text)) => {
                    name = Some(Label::new(&text).map_err(|error| wrong(at, error.to_string()))?);
                }
                ("id", DeValue::String(text)) => {
                    id = Some(text.parse().map_err(|error| wrong(at, format!("{error}; the whole id is wanted")))?);
                }
                ("addresses", value @ DeValue::Array(_)) => {
                    let Some(Given::List(list)) = given(Kind::List, value) else {
                        return Err(wrong(at, "addresses is a list of texts".to_owned()));
                    };
                    addresses =
                        list.iter().map(|a| address(a)).collect::<Result<_, _>>().map_err(|why| wrong(at, why))?;
                }
                (known, _) if ADMITTED_KEYS.contains(&known) => {
                    return Err(wrong(at, format!("{known} has the wrong type")));
                }
                (unknown, _) => return Err(self.unknown(at, unknown, ADMITTED_KEYS.map(str::to_owned))),
            }
        }
        let id = id.ok_or_else(|| wrong(at, "id is missing".to_owned()))?;
        let name = name.ok_or_else(|| wrong(at, "name is missing".to_owned()))?;
        Ok(Admitted { id, name, addresses })
    }

    fn unknown(&self, at: usize, name: &str, known: impl IntoIterator<Item = String>) -> Problem {
        let near = nearest(name, known);
        let refused =
            self.refuse(at, &format!("{name:?} is not a setting"), "an unknown key is never skipped in silence");
        refused.next(
            near.map_or_else(|| "tidegate config show lists all keys".to_owned(), |k| format!("did you mean {k}?")),
        )
    }

    fn refuse(&self, at: usize, what: &str, why: impl Into<String>) -> Problem {
        problem(&format!("{}:{}: {what}", self.path.display(), self.line(at)), why)
    }

    fn line(&self, at: usize) -> usize {
        line_of(self.text.as_bytes(), at)
    }
}

/// The line of a byte, counted from 1.
fn line_of(text: &[u8], at: usize) -> usize {
    text[..at.min(text.len())].split(|byte| *byte == b'\n').count()
}

fn given(kind: Kind, value: DeValue<'_>) -> Option<Given> {
    match (kind, value) {
        (Kind::Text, DeValue::String(text)) => Some(Given::Text(text.into_owned())),
        (Kind::Number, DeValue::Integer(n)) => i64::from_str_radix(n.as_str(), n.radix()).ok().map(Given::Number),
        (Kind::Flag, DeValue::Boolean(flag)) => Some(Given::Flag(flag)),
        (Kind::List, DeValue::Array(items)) => items
            .into_iter()
            .map(|item| match item.into_inner() {
                DeValue::String(text) => Some(text.into_owned()),
                _ => None,
            })
            .collect::<Option<_>>()
            .map(Given::List),
        (Kind::Text | Kind::Number | Kind::Flag | Kind::List, _) => None,
    }
}
