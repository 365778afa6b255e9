//! The effective ignore rules of a location: the defaults, then those of `.tidegateignore` at its root.
//!
//! The file is an ordinary entry and is synced like any other. What a rule means stands in the protocol.

use std::io;

use tidegate_protocol::index::{DEFAULT_RULES, IgnoreRules, RuleError, parse_rules};
use tidegate_protocol::limits::RULES_BYTES_MAX;
use tidegate_protocol::path::EntryPath;

use super::{RootDir, reading};

/// Name of the rule file at the root of a location.
pub const RULE_FILE: &str = ".tidegateignore";

/// Why the rules of a location are not known. Nothing may be scanned by other rules meanwhile.
#[derive(Debug, thiserror::Error)]
pub enum IgnoreError {
    /// The file holds what is no rule.
    #[error("{RULE_FILE}: {0}")]
    Rule(#[from] RuleError),
    /// It cannot be read.
    #[error("{RULE_FILE} cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// Reads the rules of a location, as text for its row and compiled. A missing file is no rule.
pub async fn load_rules<R: RootDir>(root: &R) -> Result<(Vec<String>, IgnoreRules), IgnoreError> {
    let mut texts: Vec<String> = DEFAULT_RULES.iter().map(|rule| (*rule).to_owned()).collect();
    let path = EntryPath::from_slashes(RULE_FILE.as_bytes()).expect("the rule file has a plain name");
    match root.open(&(&path).into()).await {
        Ok(file) => {
            // One byte more than is allowed shows that it is too long.
            let mut text = vec![0; RULES_BYTES_MAX + 1];
            let length = reading::fill(&file, &mut text, 0).await?;
            texts.extend(parse_rules(&text[..length])?);
        }
        // A directory or a link of that name is no rule file; links are not followed.
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => {}
        Err(e) => return Err(e.into()),
    }
    let rules = IgnoreRules::new(&texts)?;
    Ok((texts, rules))
}
