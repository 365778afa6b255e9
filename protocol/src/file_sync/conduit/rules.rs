//! The rules under which a conduit may be created, run and set, from the definitions alone.
//!
//! They are asked where a conduit is created ([`check`]). Two devices may each create one of two conduits that clash before they
//! hear of one another; so every device asks them of conduits that exist, too ([`clash`]), and all of them alike let the older
//! one run.

use super::{Conduit, ConduitSettings, Root, Schedule, SyncMode};
use crate::file_sync::{LimitError, Side};
use crate::id::Label;
use crate::index::IgnoreRules;
use crate::limits::{INTERVAL_MS_MIN, PARALLEL_TRANSFERS_MAX, RULE_BYTES_MAX, RULES_MAX, SETTLE_MS_MIN};
use crate::path::is_internal;

/// Why a conduit was not created; the first rule that it breaks, in the order of declaration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConduitError {
    /// An end is not a directory that its owner has indexed.
    #[error("the {0:?} end is not an indexed directory")]
    NotIndexed(Side),
    /// Source and target are the same directory.
    #[error("source and target are the same directory")]
    SameEndpoint,
    /// One end lies inside the other.
    #[error("one end lies inside the other")]
    Nested,
    /// An end lies in a directory that a node keeps for itself.
    #[error("an end lies inside a directory that Tidegate keeps for itself")]
    InternalPath,
    /// The same two ends are linked already, in this or the other order.
    #[error("the same two ends are linked already by {0}")]
    Duplicate(Label),
    /// A one-way conduit runs the other way between the same ends.
    #[error("{0} runs one way between the same ends in the opposite direction")]
    Opposed(Label),
    /// Another mirror writes into the same or a nested target.
    #[error("{0} mirrors into the same or a nested target")]
    SharedMirrorTarget(Label),
    /// Another conduit writes into a mirror's target.
    #[error("{0} would write into the same directories, and one of the two is a mirror")]
    MirrorTargetWritten(Label),
    /// The new conduit would close a cycle that holds a one-way conduit.
    #[error("it would close a cycle that runs through a one-way conduit")]
    OneWayCycle,
    /// A setting outside its bounds.
    #[error(transparent)]
    Setting(#[from] SettingError),
}

/// Why a setting was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// Quiet time of an instant schedule.
    #[error("the settle time must be at least {SETTLE_MS_MIN} ms")]
    SettleTooShort,
    /// Interval of a schedule.
    #[error("the interval must be at least {INTERVAL_MS_MIN} ms")]
    IntervalTooShort,
    /// Transfers at the same time.
    #[error("parallel transfers must be 1 to {PARALLEL_TRANSFERS_MAX}")]
    ParallelTransfers,
    /// A limit of bandwidth.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// Too many subtrees and patterns, or one that is too long.
    #[error("a selection has at most {RULES_MAX} subtrees and patterns of {RULE_BYTES_MAX} bytes")]
    SelectionTooLarge,
    /// A pattern that does not parse.
    #[error("not a pattern: {pattern:?}: {why}")]
    Pattern {
        /// As given.
        pattern: String,
        /// What the parser says.
        why: String,
    },
}

/// Checks a conduit that is to be created against those that exist. Removed ones do not count.
///
/// `is_indexed` says whether the replica holds a directory at a root; the top of a location is one.
pub fn check(new: &Conduit, existing: &[Conduit], is_indexed: impl Fn(&Root) -> bool) -> Result<(), ConduitError> {
    let others: Vec<&Conduit> = existing.iter().filter(|c| !c.removed.value && c.id != new.id).collect();
    for (side, root) in [(Side::Source, &new.source), (Side::Target, &new.target)] {
        if !is_inside_node(root) && !is_indexed(root) {
            return Err(ConduitError::NotIndexed(side));
        }
    }
    if new.source == new.target {
        return Err(ConduitError::SameEndpoint);
    }
    if new.source.overlaps(&new.target) {
        return Err(ConduitError::Nested);
    }
    if is_inside_node(&new.source) || is_inside_node(&new.target) {
        return Err(ConduitError::InternalPath);
    }
    check_beside(new, &others)?;
    Ok(check_settings(&new.settings)?)
}

/// What keeps a conduit that exists from running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clash<'a> {
    /// The rule that refuses it.
    pub rule: ConduitError,
    /// The older conduit beside which it is refused; where it takes several, the last of them.
    pub older: &'a Conduit,
}

/// Whether the rules refuse a conduit beside an older one: by when they were created, then by id.
///
/// As on creation, what is disabled or paused counts, and what is removed does not: the later one may run when the older is
/// gone. Devices that know of the same conduits, in whatever order, answer alike.
pub fn clash<'a>(conduit: &Conduit, existing: &'a [Conduit]) -> Option<Clash<'a>> {
    let age = |conduit: &Conduit| (conduit.created, conduit.id);
    let mut older: Vec<&Conduit> = existing.iter().filter(|c| !c.removed.value && age(c) < age(conduit)).collect();
    older.sort_by_key(|conduit| age(conduit));
    (0..older.len()).find_map(|last| {
        let rule = check_beside(conduit, &older[..=last]).err()?;
        Some(Clash { rule, older: older[last] })
    })
}

/// The rules about conduits beside one another.
fn check_beside(new: &Conduit, others: &[&Conduit]) -> Result<(), ConduitError> {
    check_pairs(new, others)?;
    check_mirror_targets(new, others)?;
    if closes_one_way_cycle(new, others) {
        return Err(ConduitError::OneWayCycle);
    }
    Ok(())
}

/// Checks settings against their bounds, on creation and on every later change.
pub fn check_settings(settings: &ConduitSettings) -> Result<(), SettingError> {
    match settings.schedule.value {
        Schedule::Instant { settle_ms } if settle_ms < SETTLE_MS_MIN => return Err(SettingError::SettleTooShort),
        Schedule::Every { interval_ms } if interval_ms < INTERVAL_MS_MIN => return Err(SettingError::IntervalTooShort),
        Schedule::Manual | Schedule::Instant { .. } | Schedule::Every { .. } => {}
    }
    if !(1..=PARALLEL_TRANSFERS_MAX).contains(&settings.parallel_transfers.value) {
        return Err(SettingError::ParallelTransfers);
    }
    settings.bandwidth_limit.value.check()?;
    let selection = &settings.selection.value;
    let paths = selection.subtrees.len() + selection.pins.len() + selection.fetched.len();
    let patterns = || selection.globs.iter().chain(&selection.exclude);
    if paths + patterns().count() > RULES_MAX || patterns().any(|glob| glob.len() > RULE_BYTES_MAX) {
        return Err(SettingError::SelectionTooLarge);
    }
    for pattern in patterns() {
        if let Err(error) = IgnoreRules::new(std::slice::from_ref(pattern)) {
            return Err(SettingError::Pattern { pattern: pattern.clone(), why: error.to_string() });
        }
    }
    Ok(())
}

/// Whether a root is, or lies in, a directory that a node keeps for itself, of whatever location.
fn is_inside_node(root: &Root) -> bool {
    root.dir.as_entry().is_some_and(|dir| dir.names().any(is_internal))
}

/// The same two ends, linked twice.
fn check_pairs(new: &Conduit, others: &[&Conduit]) -> Result<(), ConduitError> {
    let is_reversed = |c: &Conduit| c.source == new.target && c.target == new.source;
    let is_opposed = |c: &Conduit| is_reversed(c) && c.mode.is_one_way() && new.mode.is_one_way();
    let is_same = |c: &Conduit| c.source == new.source && c.target == new.target;
    if let Some(c) = others.iter().find(|c| is_same(c) || (is_reversed(c) && !is_opposed(c))) {
        return Err(ConduitError::Duplicate(c.settings.name.value.clone()));
    }
    match others.iter().find(|c| is_opposed(c)) {
        Some(c) => Err(ConduitError::Opposed(c.settings.name.value.clone())),
        None => Ok(()),
    }
}

/// A mirror owns what is in its target; nobody else may write there, nor it where others write.
fn check_mirror_targets(new: &Conduit, others: &[&Conduit]) -> Result<(), ConduitError> {
    let is_mirror = |c: &Conduit| c.mode == SyncMode::Mirror;
    let both = |c: &Conduit| is_mirror(c) && is_mirror(new) && c.target.overlaps(&new.target);
    if let Some(c) = others.iter().find(|c| both(c)) {
        return Err(ConduitError::SharedMirrorTarget(c.settings.name.value.clone()));
    }
    let writes = |writer: &Conduit, root: &Root| written(writer).any(|end| end.overlaps(root));
    let clashes = |c: &Conduit| (is_mirror(c) && writes(new, &c.target)) || (is_mirror(new) && writes(c, &new.target));
    match others.iter().find(|c| clashes(c)) {
        Some(c) => Err(ConduitError::MirrorTargetWritten(c.settings.name.value.clone())),
        None => Ok(()),
    }
}

/// The ends into which a conduit writes.
fn written(conduit: &Conduit) -> impl Iterator<Item = &Root> {
    let source = (!conduit.mode.is_one_way()).then_some(&conduit.source);
    std::iter::once(&conduit.target).chain(source)
}

/// Whether what leaves the new conduit can come back to it, through at least one one-way conduit in all.
///
/// Content that arrives in a root goes on through every conduit that starts at, above or below it.
fn closes_one_way_cycle(new: &Conduit, others: &[&Conduit]) -> bool {
    let one_way = new.mode.is_one_way();
    reaches(&new.target, &new.source, one_way, others) || (!one_way && reaches(&new.source, &new.target, false, others))
}

fn reaches<'a>(from: &'a Root, to: &Root, one_way: bool, others: &[&'a Conduit]) -> bool {
    let mut seen: Vec<(&Root, bool)> = vec![(from, one_way)];
    let mut next = 0;
    while let Some((at, one_way)) = seen.get(next).copied() {
        next += 1;
        if next > 1 && one_way && at.overlaps(to) {
            return true;
        }
        for conduit in others {
            let forth = conduit.source.overlaps(at).then_some(&conduit.target);
            let back = (!conduit.mode.is_one_way() && conduit.target.overlaps(at)).then_some(&conduit.source);
            for root in forth.into_iter().chain(back) {
                let state = (root, one_way || conduit.mode.is_one_way());
                if !seen.contains(&state) {
                    seen.push(state);
                }
            }
        }
    }
    false
}
