//! The corpus as types. Keys that are not known here are refused, so that no expectation is passed over.

use std::collections::BTreeMap;

use serde::Deserialize;
use tidegate_protocol::file_sync::{ConflictKind, SyncMode};

pub use super::edit::{During, Edit, Moment};
use super::runner::Tree;

const TEXT: &str = include_str!("../../corpus/scenarios.toml");

/// The corpus.
#[derive(Debug, Deserialize)]
pub struct Corpus {
    /// Version of the format.
    pub schema: u32,
    /// Cases of one conduit.
    pub scenario: Vec<Scenario>,
    /// Cases of several conduits over several devices.
    pub topology: Vec<super::model::TopologyRow>,
    /// Cases of the gate.
    pub gate: Vec<super::gate::GateRow>,
    /// Cases of the rules of creation.
    pub config: Vec<super::conduits::ConfigRow>,
}

/// One conduit through one or more rounds.
#[derive(Debug, Deserialize)]
#[serde(try_from = "toml::Table")]
pub struct Scenario {
    /// How both ends start, and what is settled about them.
    pub head: Head,
    /// What happens then, round by round.
    pub rounds: Vec<Round>,
}

/// What holds for all rounds of a scenario.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Such as `MI-001`.
    pub id: String,
    /// What it shows.
    pub title: String,
    /// What the conduit keeps true.
    #[serde(default)]
    pub mode: Mode,
    /// What happens on a conflict.
    #[serde(default)]
    pub strategy: Strategy,
    /// Kind of the source's file system.
    #[serde(default)]
    pub fs_source: Names,
    /// Kind of the target's file system.
    #[serde(default)]
    pub fs_target: Names,
    /// Patterns that both ends ignore.
    #[serde(default)]
    pub ignore: Vec<String>,
    /// Whether guards are asked.
    #[serde(default)]
    pub guards: GuardSetting,
    /// Both ends at the start, verified.
    #[serde(default)]
    pub base: Tree,
    /// The target at the start, where it differs.
    pub base_target: Option<Tree>,
    /// Files of the source that no generation has seen.
    #[serde(default)]
    pub unmanaged_source: Tree,
    /// Files of the target that no generation has seen.
    #[serde(default)]
    pub unmanaged_target: Tree,
    /// Chosen subtrees and patterns (selective).
    #[serde(default)]
    pub select: Vec<String>,
    /// `policy`, `backup`.
    #[serde(default)]
    pub tags: Vec<String>,
    /// For readers.
    pub note: Option<String>,
}

/// Modes by the corpus's names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Three-way merge.
    #[default]
    Bidirectional,
    /// The target becomes the source.
    Mirror,
    /// The target holds a part of the source.
    Selective,
}

impl From<Mode> for SyncMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Bidirectional => Self::Bidirectional,
            Mode::Mirror => Self::Mirror,
            Mode::Selective => Self::Selective,
        }
    }
}

/// Strategies by the corpus's names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Both versions stay.
    #[default]
    KeepBoth,
    /// The later one.
    NewestWins,
    /// The source's.
    SourceWins,
    /// The target's.
    TargetWins,
    /// A person decides.
    Ask,
}

/// What names a file system can tell apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Names {
    /// Any bytes.
    #[default]
    Posix,
    /// Folds case and Unicode form.
    Mac,
    /// Folds case, refuses some names, has no links.
    Win,
}

/// Whether guards are asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuardSetting {
    /// None of those that can be disabled.
    #[default]
    Off,
    /// All, with their thresholds.
    Default,
}

/// Edits on both ends, generations, and what must have come of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Round {
    /// Edits on the source before the run.
    #[serde(default)]
    pub source: Vec<Edit>,
    /// Edits on the target before the run.
    #[serde(default)]
    pub target: Vec<Edit>,
    /// Edits inside the first generation.
    #[serde(default)]
    pub during: Vec<During>,
    /// Both trees, if they are to be equal.
    pub expect_both: Option<Tree>,
    /// The source's tree.
    pub expect_source: Option<Tree>,
    /// The target's tree.
    pub expect_target: Option<Tree>,
    /// Other final trees that are right as well.
    #[serde(default)]
    pub also_ok: Vec<Alternative>,
    /// Exactly the conflicts met on the way.
    #[serde(default)]
    pub conflicts: Vec<(String, Kind)>,
    /// How it ends.
    #[serde(default)]
    pub outcome: Outcome,
    /// Contents that must be recoverable on the source.
    #[serde(default)]
    pub trash_source: Vec<String>,
    /// Contents that must be recoverable on the target.
    #[serde(default)]
    pub trash_target: Vec<String>,
    /// Most content installs.
    pub max_copies: Option<u64>,
    /// Paths that must be executable on both sides.
    #[serde(default)]
    pub executable: Vec<String>,
    /// A person's answers: path, and whose version wins.
    #[serde(default)]
    pub resolve: Vec<(String, String)>,
    /// Approves the plan that the round before left held.
    #[serde(default)]
    pub approve: bool,
    /// Generations until nothing is planned; otherwise one.
    #[serde(default = "yes")]
    pub settle: bool,
    /// Another selection, from this round on.
    pub select: Option<Vec<String>>,
}

/// A final state that is right as well.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alternative {
    /// Both trees.
    pub both: Option<Tree>,
    /// The source's tree.
    pub source: Option<Tree>,
    /// The target's tree.
    pub target: Option<Tree>,
}

/// How a round ends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Outcome {
    /// Everything was done.
    #[default]
    Ok,
    /// Held, for this reason.
    Held(String),
    /// Some of it was not, for this reason.
    Partial(String),
}

/// Kinds of conflict by the corpus's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(remote = "ConflictKind", rename_all = "snake_case")]
enum KindName {
    BothModified,
    CreateCreate,
    DeleteModify,
    TypeMismatch,
    CaseCollision,
    UnicodeCollision,
    Unrepresentable,
    Unsupported,
    Drift,
    DirNotEmpty,
}

/// A kind of conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(transparent)]
pub struct Kind(#[serde(with = "KindName")] pub ConflictKind);

impl Scenario {
    /// All edits of all rounds.
    pub fn edits(&self) -> impl Iterator<Item = &Edit> {
        self.rounds.iter().flat_map(|round| {
            let inside = round.during.iter().map(|during| &during.op);
            round.source.iter().chain(&round.target).chain(inside)
        })
    }
}

impl Corpus {
    /// The corpus that is compiled in.
    pub fn load() -> Result<Self, toml::de::Error> {
        toml::from_str(TEXT)
    }
}

impl TryFrom<toml::Table> for Scenario {
    type Error = toml::de::Error;

    fn try_from(table: toml::Table) -> Result<Self, toml::de::Error> {
        const HEAD: &[&str] = &[
            "id",
            "title",
            "mode",
            "strategy",
            "fs_source",
            "fs_target",
            "ignore",
            "guards",
            "base",
            "base_target",
            "unmanaged_source",
            "unmanaged_target",
            "select",
            "tags",
            "note",
        ];
        let (head, mut rest): (toml::Table, toml::Table) =
            table.into_iter().partition(|(key, _)| HEAD.contains(&key.as_str()));
        let mut rounds: Vec<Round> = rest.remove("round").map_or(Ok(Vec::new()), toml::Value::try_into)?;
        if rounds.is_empty() || !rest.is_empty() {
            rounds.insert(0, rest.try_into()?);
        }
        Ok(Self { head: head.try_into()?, rounds })
    }
}

impl TryFrom<String> for Outcome {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Ok(match (text.as_str(), text.split_once(':')) {
            ("ok", _) => Self::Ok,
            (_, Some(("held", why))) => Self::Held(why.to_owned()),
            (_, Some(("partial", why))) => Self::Partial(why.to_owned()),
            _ => return Err(format!("no such outcome: {text}")),
        })
    }
}

impl Round {
    /// What the trees may be in the end: source and target, the expected pair first. Empty if nothing is said.
    pub fn accepted(&self) -> Vec<(Tree, Tree)> {
        let pair = |both: &Option<Tree>, source: &Option<Tree>, target: &Option<Tree>| {
            let side = |tree: &Option<Tree>| both.as_ref().or(tree.as_ref()).cloned().unwrap_or_else(BTreeMap::new);
            (side(source), side(target))
        };
        if self.expect_both.is_none() && self.expect_source.is_none() && self.expect_target.is_none() {
            return Vec::new();
        }
        let first = pair(&self.expect_both, &self.expect_source, &self.expect_target);
        std::iter::once(first).chain(self.also_ok.iter().map(|a| pair(&a.both, &a.source, &a.target))).collect()
    }
}

const fn yes() -> bool {
    true
}
