//! Mirror: the target becomes the source. The law of one name; the walk around it keeps the rest.
//!
//! The source is never written, and versions decide nothing: whatever the target has, the source's state is put there.

use super::decision::{Decision, Fate, Leave};
use super::walk::Node;
use super::{Rule, Side};
use crate::index::EntryKind;

/// Decides a name at which the ends are not in step.
pub(super) fn decide(node: &Node) -> Decision {
    use EntryKind::{Directory, File, Special, Symlink, Unknown};
    let version = node.joined();
    let follow = Decision::follow(Rule::SourceIsLaw, Side::Source, version.clone());
    match (node.kind(Side::Source), node.kind(Side::Target)) {
        (None, Some(Directory { .. })) => {
            let leave = Leave { side: Side::Target, version, made_again: None };
            Decision::of(Rule::SourceIsLaw, Fate::Leave(leave))
        }
        (Some(File(file)), Some(File(old))) if file.content == old.content => {
            Decision::of(Rule::Adopted, Fate::Agree(version, Some(*file)))
        }
        (None, None) => Decision::stay(Rule::InStep),
        (Some(Directory { .. }), Some(Directory { .. })) => Decision::stay(Rule::InStep),
        (None, Some(File(_) | Symlink { .. } | Special | Unknown(_)))
        | (Some(File(_) | Directory { .. } | Symlink { .. } | Special | Unknown(_)), _) => follow,
    }
}
