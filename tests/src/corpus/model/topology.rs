//! Rows of several conduits, run one after the other: over disks in memory, or any other [`Net`].

use std::collections::{BTreeMap, BTreeSet};

use globset::GlobSet;
use serde::Deserialize;
use tidegate_protocol::file_sync::{Guards, NameRules};

use super::disk::Disk;
use super::link::{End, Link};
use super::scan::Index;
use super::{label, root};
use crate::corpus::conduits::plain;
use crate::corpus::format::{Edit, Kind, Mode, Strategy};
use crate::corpus::runner::{Tree, with_placeholders};

/// Rounds over all conduits after which they do not settle.
const ROUNDS_MAX: u32 = 20;

/// One row.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "explained at the head of the corpus")]
pub struct TopologyRow {
    pub id: String,
    pub title: String,
    pub endpoints: Vec<String>,
    pub base: Tree,
    pub conduits: Vec<Pair>,
    pub steps: Vec<Step>,
    #[serde(default)]
    pub conflicts: Vec<(String, Kind)>,
    pub expect_all: Option<Tree>,
    pub expect: Option<BTreeMap<String, Tree>>,
    #[serde(default)]
    pub tags: Vec<String>,
    pub note: Option<String>,
}

/// A conduit of a row.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// Its name.
    pub id: String,
    /// The endpoint that it comes from.
    pub source: String,
    /// The endpoint that it goes to.
    pub target: String,
    /// What "in step" means.
    #[serde(default)]
    pub mode: Mode,
    /// What becomes of conflicts.
    #[serde(default)]
    pub strategy: Strategy,
}

/// What is done.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub enum Step {
    On { endpoint: String, edit: Edit },
    Sync { conduit: String },
    Reset { conduit: String },
    Settle,
}

impl TryFrom<Vec<String>> for Step {
    type Error = String;

    fn try_from(words: Vec<String>) -> Result<Self, String> {
        match words.as_slice() {
            [on, endpoint, edit @ ..] if on == "on" => {
                Ok(Self::On { endpoint: endpoint.clone(), edit: Edit::try_from(edit.to_vec())? })
            }
            [sync, conduit] if sync == "sync" => Ok(Self::Sync { conduit: conduit.clone() }),
            [reset, conduit] if reset == "reset" => Ok(Self::Reset { conduit: conduit.clone() }),
            [settle] if settle == "settle" => Ok(Self::Settle),
            other => Err(format!("no such step: {other:?}")),
        }
    }
}

/// Ends and the conduits between them, by their places in a row.
pub trait Net {
    /// Somebody edits an end.
    fn edit(&mut self, end: usize, edit: &Edit);
    /// One generation of a conduit; whether it found nothing to do.
    fn sync(&mut self, at: usize) -> bool;
    /// A conduit forgets what its ends have agreed on.
    fn reset(&mut self, at: usize);
    /// What is on an end.
    fn tree(&self, end: usize) -> Tree;
    /// All conflicts that were met.
    fn met(&mut self) -> BTreeSet<(String, Kind)>;
}

/// All disks and conduits of a row, in memory.
struct World {
    ends: Vec<End>,
    links: Vec<Link>,
    /// Which ends each conduit links.
    pairs: Vec<[usize; 2]>,
    met: BTreeSet<(String, Kind)>,
    clock_s: i64,
}

impl TopologyRow {
    /// Everything that is not as the row expects it, on disks in memory.
    pub fn failures(&self) -> Vec<String> {
        self.failures_on(&mut World::new(self))
    }

    /// Everything that is not as the row expects it.
    pub fn failures_on(&self, net: &mut impl Net) -> Vec<String> {
        let mut failures = Vec::new();
        for step in &self.steps {
            match step {
                Step::On { endpoint, edit } => net.edit(self.endpoint(endpoint), edit),
                Step::Sync { conduit } => drop(net.sync(self.conduit(conduit))),
                Step::Reset { conduit } => net.reset(self.conduit(conduit)),
                Step::Settle if !self.settles(net) => failures.push("the conduits do not come to rest".to_owned()),
                Step::Settle => {}
            }
        }
        for (at, name) in self.endpoints.iter().enumerate() {
            let tree = with_placeholders(&net.tree(at));
            let expected = self.expect.as_ref().and_then(|expect| expect.get(name)).or(self.expect_all.as_ref());
            if expected.is_some_and(|expected| *expected != tree) {
                failures.push(format!("{name} is {tree:?}, expected {expected:?}"));
            }
        }
        let expected: BTreeSet<_> = self.conflicts.iter().cloned().collect();
        let met = net.met();
        if met != expected {
            failures.push(format!("conflicts {met:?}, expected {expected:?}"));
        }
        failures
    }

    /// All conduits in order until none has anything to do.
    fn settles(&self, net: &mut impl Net) -> bool {
        (0..ROUNDS_MAX).any(|_| {
            let quiet: Vec<bool> = (0..self.conduits.len()).map(|at| net.sync(at)).collect();
            quiet.into_iter().all(|quiet| quiet)
        })
    }

    fn endpoint(&self, name: &str) -> usize {
        self.endpoints.iter().position(|known| known == name).expect("a row names its own endpoints")
    }

    fn conduit(&self, id: &str) -> usize {
        self.conduits.iter().position(|known| known.id == id).expect("a row names its own conduits")
    }
}

impl World {
    fn new(row: &TopologyRow) -> Self {
        let names = NameRules::POSIX;
        let number = |at: usize| u8::try_from(at + 1).expect("a handful of endpoints");
        let labels: BTreeMap<_, _> =
            row.endpoints.iter().enumerate().map(|(at, name)| (root(number(at)).device, label(name))).collect();
        let mut ends: Vec<End> = (0..row.endpoints.len())
            .map(|at| {
                let disk = Disk::new(&row.base, names);
                let mut index = Index::new(root(number(at)).device, names, GlobSet::empty());
                index.scan(&disk);
                End { disk, index }
            })
            .collect();
        let pairs: Vec<[usize; 2]> =
            row.conduits.iter().map(|pair| [row.endpoint(&pair.source), row.endpoint(&pair.target)]).collect();
        let made = row.conduits.iter().zip(&pairs).enumerate().map(|(at, (pair, ends))| {
            let [source, target] = ends.map(|end| root(number(end)));
            let mut conduit = plain(number(at), source, target, pair.mode.into());
            conduit.settings.strategy.value = pair.strategy.into();
            Link::new(conduit, Guards::OFF, labels.clone())
        });
        let mut links: Vec<Link> = made.collect();
        // Twice, so that the versions of all ends have been joined before the baselines are taken.
        for _ in 0..2 {
            for (link, pair) in links.iter_mut().zip(&pairs) {
                link.agree(&mut both(&mut ends, *pair));
            }
        }
        Self { ends, links, pairs, met: BTreeSet::new(), clock_s: 1_000 }
    }
}

impl Net for World {
    fn edit(&mut self, end: usize, edit: &Edit) {
        self.clock_s += 1;
        self.ends[end].disk.edit(edit, self.clock_s);
    }

    fn sync(&mut self, at: usize) -> bool {
        let mut ends = both(&mut self.ends, self.pairs[at]);
        let report = self.links[at].generation(&mut ends, &[], false, &mut self.clock_s);
        self.met.extend(report.conflicts);
        !report.planned
    }

    fn reset(&mut self, at: usize) {
        self.links[at].forget();
    }

    fn tree(&self, end: usize) -> Tree {
        self.ends[end].disk.tree()
    }

    fn met(&mut self) -> BTreeSet<(String, Kind)> {
        self.met.clone()
    }
}

fn both(ends: &mut [End], pair: [usize; 2]) -> [&mut End; 2] {
    ends.get_disjoint_mut(pair).expect("a conduit links two different ends")
}
