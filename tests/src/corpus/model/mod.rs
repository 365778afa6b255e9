//! The smallest world: trees in memory, the real gate, resolver and guards, and generations in a loop.
//!
//! There is no replica, no job and no durability here; a crash only ends the generation.

mod apply;
mod disk;
mod link;
mod scan;
mod topology;

use std::collections::{BTreeMap, BTreeSet};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use tidegate_protocol::file_sync::{Decision, Guards, NameRules, Root, Selection, Side};
use tidegate_protocol::id::{DeviceId, Label, LocationId};
use tidegate_protocol::path::DirPath;

use super::format::{During, Edit, GuardSetting, Head, Names, Strategy};
use super::runner::{Contents, Report, Tree, World};
pub(super) use disk::Disk;
pub(super) use link::halt_name;
use link::{End, Link};
use scan::Index;
pub use topology::{Net, Pair as TopologyPair, TopologyRow};

/// Two ends in memory.
pub struct ModelWorld {
    link: Link,
    ends: [End; 2],
    clock_s: i64,
}

impl ModelWorld {
    /// Both ends as a scenario has them at the start. A base that is not empty was verified once.
    pub fn new(head: &Head) -> Self {
        let mut conduit = super::conduits::plain(1, root(1), root(2), head.mode.into());
        conduit.settings.strategy.value = head.strategy.into();
        conduit.settings.selection.value = selection(&head.select);
        let hide = patterns(&head.ignore);
        let mut ends = [Side::Source, Side::Target].map(|side| {
            let (tree, names) = match side {
                Side::Source => (&head.base, head.fs_source),
                Side::Target => (head.base_target.as_ref().unwrap_or(&head.base), head.fs_target),
            };
            let names = NameRules::from(names);
            let mut end = End {
                disk: Disk::new(tree, names),
                index: Index::new(root(side as u8 + 1).device, names, hide.clone()),
            };
            end.index.scan(&end.disk);
            end
        });
        let guards = match head.guards {
            GuardSetting::Off => Guards::OFF,
            GuardSetting::Default => Guards::default(),
        };
        let labels = BTreeMap::from([(root(1).device, label("source")), (root(2).device, label("target"))]);
        let mut link = Link::new(conduit, guards, labels);
        if !head.base.is_empty() {
            link.agree(&mut ends.each_mut());
        }
        for (side, unmanaged) in [(Side::Source, &head.unmanaged_source), (Side::Target, &head.unmanaged_target)] {
            ends[side as usize].disk.add(unmanaged);
        }
        Self { link, ends, clock_s: 1_000 }
    }
}

impl World for ModelWorld {
    fn edit(&mut self, side: Side, edit: &Edit) {
        self.clock_s += 1;
        let end = &mut self.ends[side as usize];
        if *edit == Edit::RestoredBackup {
            end.index.forget();
            self.link.forget();
        } else {
            end.disk.edit(edit, self.clock_s);
        }
    }

    fn rule(&mut self, path: &str, answer: &str) {
        let decision = match answer {
            "source" => Decision::Source,
            "target" => Decision::Target,
            "both" => Decision::Both,
            "newest" => Decision::Newest,
            other => panic!("no such answer: {other}"),
        };
        self.link.rule(path, decision);
    }

    fn select(&mut self, chosen: &[String]) {
        self.link.conduit.settings.selection.value = selection(chosen);
        self.link.conduit.settings.selection.stamp.ms += 1;
    }

    fn generation(&mut self, during: &[During], approve: bool) -> Report {
        self.link.generation(&mut self.ends.each_mut(), during, approve, &mut self.clock_s)
    }

    fn tree(&self, side: Side) -> Tree {
        self.ends[side as usize].disk.tree()
    }

    fn executable(&self, side: Side) -> BTreeSet<String> {
        self.ends[side as usize].disk.executable()
    }

    fn trash(&self, side: Side) -> Contents {
        self.ends[side as usize].disk.trash.clone()
    }
}

impl From<Names> for NameRules {
    fn from(names: Names) -> Self {
        match names {
            Names::Posix => Self::POSIX,
            Names::Mac => Self { folds: true, windows: false, links: true },
            Names::Win => Self { folds: true, windows: true, links: false },
        }
    }
}

impl From<Strategy> for tidegate_protocol::file_sync::ConflictStrategy {
    fn from(strategy: Strategy) -> Self {
        match strategy {
            Strategy::KeepBoth => Self::CreateConflictFile,
            Strategy::NewestWins => Self::NewestWins,
            Strategy::SourceWins => Self::SourceWins,
            Strategy::TargetWins => Self::TargetWins,
            Strategy::Ask => Self::PromptUser,
        }
    }
}

/// The one location of a device.
const fn root(number: u8) -> Root {
    Root {
        device: DeviceId::from_bytes([number; 32]),
        location: LocationId::from_bytes([number; 16]),
        dir: DirPath::TOP,
    }
}

fn label(text: &str) -> Label {
    Label::new(text).expect("a plain name")
}

/// Chosen subtrees, files and patterns.
fn selection(chosen: &[String]) -> Selection {
    let (globs, subtrees): (Vec<String>, Vec<String>) =
        chosen.iter().cloned().partition(|text| text.contains(['*', '?', '[']));
    let dir = |text: &String| DirPath::from_slashes(text.as_bytes()).expect("paths of the corpus are valid");
    Selection { subtrees: subtrees.iter().map(dir).collect(), globs, ..Selection::default() }
}

/// Patterns over names and over the path of every directory above.
fn patterns(texts: &[String]) -> GlobSet {
    let mut set = GlobSetBuilder::new();
    for text in texts {
        set.add(GlobBuilder::new(text).literal_separator(true).build().expect("patterns of the corpus are valid"));
    }
    set.build().expect("a few patterns")
}
