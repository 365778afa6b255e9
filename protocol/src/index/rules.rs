//! Ignore rules: what they match is outside the index's view and outside every conduit, and never deleted.
//!
//! A rule is a glob. Without `/` it is held against each name of a path; with `/` inside or in front it is
//! held against each prefix of the path, from the location's root. A hit on a directory hides all below it.
//! A trailing `/` is dropped: it hides a file of that name, too, as hiding is the safe side. Matching is
//! linear in the path's length (automata, no backtracking). Negation (`!`) is refused.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use globset::{Candidate, GlobBuilder, GlobSet, GlobSetBuilder};

use crate::limits::{RULE_BYTES_MAX, RULE_WILDCARDS_MAX, RULES_BYTES_MAX, RULES_MAX};
use crate::path::{EntryPath, INTERNAL};

/// Rules that every location has: the droppings of other tools and of NAS systems.
pub const DEFAULT_RULES: [&str; 10] = [
    ".stfolder",
    ".stversions",
    ".DS_Store",
    "Thumbs.db",
    "@eaDir",
    "#recycle",
    ".zfs",
    ".snapshot",
    "lost+found",
    ".Trash-*",
];

/// Why a list of rules is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// More than `RULES_MAX` rules or `RULES_BYTES_MAX` bytes.
    #[error("more than {RULES_MAX} rules or {RULES_BYTES_MAX} bytes of them")]
    TooMany,
    /// One rule is longer than `RULE_BYTES_MAX` or has more than `RULE_WILDCARDS_MAX` wildcards.
    #[error("a rule is longer than {RULE_BYTES_MAX} bytes or has more than {RULE_WILDCARDS_MAX} wildcards: {0:.80}")]
    TooComplex(String),
    /// `!pattern`.
    #[error("a rule cannot take back another one (begin with \\! for a name that begins with !): {0:.80}")]
    Negation(String),
    /// Nothing but slashes.
    #[error("a rule without a name: {0:.80}")]
    Empty(String),
    /// Not a glob.
    #[error("not a valid pattern: {rule:.80}: {why}")]
    Pattern {
        /// The rule.
        rule: String,
        /// What is wrong with it.
        why: String,
    },
    /// A rule file that is not UTF-8.
    #[error("line {0} is not UTF-8")]
    NotText(usize),
}

/// Compiled rules of one location. `.tidegate` is hidden always and everywhere. Cheap to clone.
#[derive(Debug, Clone)]
pub struct IgnoreRules(Arc<Compiled>);

#[derive(Debug)]
struct Compiled {
    names: GlobSet,
    prefixes: GlobSet,
}

/// Lists of rules whose compiled form is remembered: those of the ends of some conduits.
const REMEMBERED_MAX: usize = 16;

/// What was compiled last, the newest first. A resolve needs the rules of both ends each time, and to make automata
/// of them takes longer than to resolve. The same words always come to the same rules, so nothing depends on this.
static REMEMBERED: Mutex<VecDeque<(Vec<String>, IgnoreRules)>> = Mutex::new(VecDeque::new());

impl IgnoreRules {
    /// Compiles a location's effective rules, or finds them compiled.
    pub fn new(rules: &[String]) -> Result<Self, RuleError> {
        {
            let mut remembered = REMEMBERED.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(at) = remembered.iter().position(|(known, _)| known == rules)
                && let Some(found) = remembered.remove(at)
            {
                let compiled = found.1.clone();
                remembered.push_front(found);
                return Ok(compiled);
            }
        }
        let compiled = Self::compile(rules)?;
        let mut remembered = REMEMBERED.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.push_front((rules.to_vec(), compiled.clone()));
        remembered.truncate(REMEMBERED_MAX);
        Ok(compiled)
    }

    fn compile(rules: &[String]) -> Result<Self, RuleError> {
        if rules.len() > RULES_MAX || rules.iter().map(String::len).sum::<usize>() > RULES_BYTES_MAX {
            return Err(RuleError::TooMany);
        }
        let mut names = GlobSetBuilder::new();
        let mut prefixes = GlobSetBuilder::new();
        for rule in rules {
            let pattern = check_rule(rule)?;
            let anchored = pattern.contains('/');
            let glob = GlobBuilder::new(pattern.strip_prefix('/').unwrap_or(pattern))
                .literal_separator(true)
                .backslash_escape(true)
                .build()
                .map_err(|e| RuleError::Pattern { rule: rule.clone(), why: e.kind().to_string() })?;
            if anchored {
                prefixes.add(glob)
            } else {
                names.add(glob)
            };
        }
        let all = |e: &globset::Error| RuleError::Pattern {
            rule: e.glob().unwrap_or("all rules together").to_owned(),
            why: e.kind().to_string(),
        };
        let (names, prefixes) = (names.build().map_err(|e| all(&e))?, prefixes.build().map_err(|e| all(&e))?);
        Ok(Self(Arc::new(Compiled { names, prefixes })))
    }

    /// Rules that hide nothing but `.tidegate`.
    pub fn none() -> Self {
        Self(Arc::new(Compiled { names: GlobSet::empty(), prefixes: GlobSet::empty() }))
    }

    /// Whether `path`, or a directory above it, is hidden.
    pub fn hides(&self, path: &EntryPath) -> bool {
        self.hides_last(path) || path.ancestors().any(|above| self.hides_last(&above))
    }

    /// Whether `path` itself is hidden; for walks that never enter a hidden directory.
    pub fn hides_last(&self, path: &EntryPath) -> bool {
        let (name, Compiled { names, prefixes }) = (path.name(), &*self.0);
        name == INTERNAL
            || (!names.is_empty() && names.is_match_candidate(&Candidate::from_bytes(name)))
            || (!prefixes.is_empty() && prefixes.is_match_candidate(&Candidate::from_bytes(&path.to_slashes())))
    }
}

/// The rules in a rule file: one a line; blank lines and lines that begin with `#` are skipped (`\#` begins a
/// name), blanks at the end of a line are dropped, a BOM and CRLF are accepted.
pub fn parse_rules(text: &[u8]) -> Result<Vec<String>, RuleError> {
    if text.len() > RULES_BYTES_MAX {
        return Err(RuleError::TooMany);
    }
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut rules = Vec::new();
    for (number, line) in text.split(|b| *b == b'\n').enumerate() {
        let line = std::str::from_utf8(line).map_err(|_| RuleError::NotText(number + 1))?;
        let line = line.trim_end_matches(['\r', ' ', '\t']);
        if !line.is_empty() && !line.starts_with('#') {
            check_rule(line)?;
            rules.push(line.to_owned());
        }
    }
    Ok(rules)
}

/// The pattern of a rule, without slashes at its end.
fn check_rule(rule: &str) -> Result<&str, RuleError> {
    let wildcards = rule.bytes().filter(|b| matches!(b, b'*' | b'?' | b'[' | b'{')).count();
    let pattern = rule.trim_end_matches('/');
    if rule.starts_with('!') {
        Err(RuleError::Negation(rule.to_owned()))
    } else if rule.len() > RULE_BYTES_MAX || wildcards > RULE_WILDCARDS_MAX {
        Err(RuleError::TooComplex(rule.to_owned()))
    } else if pattern.is_empty() {
        Err(RuleError::Empty(rule.to_owned()))
    } else {
        Ok(pattern)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(texts: &[&str]) -> Result<IgnoreRules, RuleError> {
        IgnoreRules::new(&texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_rule_hides_names_anywhere_or_prefixes_from_the_root_and_all_below_a_hit() {
        for (rule, path, hidden) in [
            ("node_modules", "a/node_modules/b/c", true),
            ("node_modules", "a/node_modules2", false),
            ("*.tmp", "a/b.tmp", true),
            ("*.tmp", "a.tmp/b", true),
            ("*.tmp", "a/b.tmpx", false),
            ("*", "a", true),
            ("~$*", "docs/~$x.docx", true),
            ("/build", "build/x", true),
            ("/build", "a/build", false),
            ("build/", "a/build/x", true),
            ("docs/*.pdf", "docs/a.pdf", true),
            ("docs/*.pdf", "docs/x/a.pdf", false),
            ("docs/*.pdf", "x/docs/a.pdf", false),
            ("**/cache/*", "a/b/cache/c", true),
            ("a/**", "a/b/c", true),
            ("a/**", "a", false),
            ("\\!x", "!x", true),
            ("#recycle", "#recycle/a", true),
            ("{a,b}.o", "x/b.o", true),
        ] {
            let path = EntryPath::from_slashes(path.as_bytes()).unwrap();
            assert_eq!(rules(&[rule]).unwrap().hides(&path), hidden, "{rule} on {path}");
        }
    }

    #[test]
    fn the_nodes_own_directory_is_hidden_without_any_rule() {
        let nested = EntryPath::from_slashes(b"x/.tidegate/id").unwrap();
        assert!(IgnoreRules::none().hides(&nested));
        assert!(!IgnoreRules::none().hides(&EntryPath::from_slashes(b".tidegateignore").unwrap()));
    }

    #[test]
    fn names_that_are_not_text_are_matched_as_bytes() {
        let path = EntryPath::from_slashes(b"a/\xff\xfe.tmp").unwrap();
        assert!(rules(&["*.tmp"]).unwrap().hides(&path));
        assert!(rules(&["a/*"]).unwrap().hides(&path));
    }

    #[test]
    fn a_rule_that_cannot_be_kept_is_refused_with_its_reason() {
        let deep = "**/".repeat(1000);
        assert!(matches!(rules(&["!keep"]), Err(RuleError::Negation(_))));
        assert!(matches!(rules(&[&deep]), Err(RuleError::TooComplex(_))));
        assert!(matches!(rules(&["//"]), Err(RuleError::Empty(_))));
        assert!(matches!(rules(&["[a"]), Err(RuleError::Pattern { .. })));
        assert_eq!(rules(&vec!["a"; RULES_MAX + 1]).unwrap_err(), RuleError::TooMany);
        assert_eq!(parse_rules(&vec![b'a'; 10 << 20]), Err(RuleError::TooMany));
        assert_eq!(parse_rules(b"a\n\xff\n"), Err(RuleError::NotText(2)));
    }

    #[test]
    fn the_worst_rules_that_are_taken_still_match_in_linear_time() {
        let texts: Vec<String> = (0..120).map(|n| format!("{}x{n}", "*a".repeat(RULE_WILDCARDS_MAX))).collect();
        let rules = IgnoreRules::new(&texts).unwrap();
        let path = EntryPath::from_slashes("a".repeat(255).as_bytes()).unwrap();
        assert!((0..1000).all(|_| !rules.hides(&path)), "a backtracking matcher would not come back");
    }

    #[test]
    fn a_rule_file_is_read_as_lines() {
        let text = b"\xef\xbb\xbf# comment\r\n\r\n*.tmp \r\n/build/\n\\#x\n";
        assert_eq!(parse_rules(text).unwrap(), ["*.tmp", "/build/", "\\#x"]);
        let defaults: Vec<String> = DEFAULT_RULES.iter().map(|r| (*r).to_owned()).collect();
        let rules = IgnoreRules::new(&defaults).unwrap();
        assert!(rules.hides(&EntryPath::from_slashes(b"a/lost+found/b").unwrap()));
        assert!(rules.hides(&EntryPath::from_slashes(b".Trash-1000").unwrap()));
    }
}
