//! What a story expects to be seen, looked at on the simulated disks.

use std::collections::BTreeMap;

use tidegate_storage::disk::FileKind;

use super::Run;
use crate::checkers::{differences, text};
use crate::disk::{Picture, Shown};
use crate::plan::{ConduitPlan, End, Expected};
use crate::verdict::{Violation, names};

/// What was not seen: the kind, where, and what is there instead.
type Unmet = (&'static str, Option<(End, String)>, String);

impl Run<'_> {
    pub(super) fn expect(&mut self, expected: &Expected) {
        let wrong = match expected {
            Expected::Tree(end, files) => self.tree(end, files),
            Expected::Same(one, other) => self.same(one, other),
            Expected::Trash(end, texts) => self.trash(end, texts),
            Expected::Verified(conduit) => {
                let at = self.plan.conduit(conduit).unwrap_or_default();
                let verified = self.verified.get(&at).copied().unwrap_or(false);
                (!verified).then(|| ("verified", None, format!("the newest generation of {conduit} is not verified")))
            }
            Expected::Held(conduit) => {
                let at = self.plan.conduit(conduit).unwrap_or_default();
                let held = self.held.get(&at).copied().unwrap_or(false);
                (!held).then(|| ("held", None, format!("no guard holds {conduit}")))
            }
        };
        if let Some((kind, place, says)) = wrong {
            let violation = Violation::new(names::EXPECTED, kind, says);
            self.tell(match place {
                Some((end, path)) => violation.on(end.device.as_str()).at(&end.place.location, &path),
                None => violation,
            });
        }
    }

    fn shown(&self, end: &End) -> BTreeMap<String, Shown> {
        crate::checkers::end(&self.view(), end).unwrap_or_default()
    }

    fn tree(&self, end: &End, files: &BTreeMap<String, String>) -> Option<Unmet> {
        let found = self.shown(end);
        let here = |path: &str, says: String| Some(("tree", Some((end.clone(), path.to_owned())), says));
        for (path, wanted) in files {
            let is_dir = path.ends_with('/');
            let name = path.trim_end_matches('/');
            match found.get(name) {
                None => return here(name, "it is expected there, and nothing is".to_owned()),
                Some(shown) if is_dir && shown.metadata.kind == FileKind::Directory => {}
                Some(shown) => {
                    let is = shown.content.as_ref().map(|content| text(&content.bytes()));
                    let is = is.or_else(|| shown.link.as_ref().map(|target| format!("->{}", text(target))));
                    if is.as_deref() != Some(wanted) {
                        let is = is.map_or_else(|| format!("a {:?}", shown.metadata.kind), |is| format!("{is:?}"));
                        return here(name, format!("{wanted:?} is expected there, and {is} is"));
                    }
                }
            }
        }
        let listed = |path: &String| {
            let mut wanted = files.keys().map(|wanted| wanted.trim_end_matches('/'));
            wanted.any(|wanted| wanted == path || crate::ghost::is_below(wanted, path))
        };
        let extra = found.keys().find(|path| !listed(path))?;
        here(extra, "nothing is expected there".to_owned())
    }

    fn same(&self, one: &End, other: &End) -> Option<Unmet> {
        let pair = ConduitPlan {
            limit: tidegate_protocol::file_sync::BandwidthLimit::default(),
            select: Vec::new(),
            name: String::new(),
            source: one.clone(),
            target: other.clone(),
            mode: tidegate_protocol::file_sync::SyncMode::Mirror,
            schedule: tidegate_protocol::file_sync::Schedule::Manual,
            delete_mode: tidegate_protocol::file_sync::DeleteMode::Trash,
            strategy: tidegate_protocol::file_sync::ConflictStrategy::CreateConflictFile,
            approves: false,
        };
        let found = differences(&self.view(), &pair, &|_| false)?;
        let (path, says) = found.into_iter().next()?;
        Some(("same", Some((other.clone(), path)), says.replace("source", "first").replace("target", "second")))
    }

    fn trash(&self, end: &End, texts: &[String]) -> Option<Unmet> {
        let device = self.plan.device(&end.device)?;
        let tree =
            crate::checkers::Scene::tree(&self.view(), device, &end.place.location, Picture::Live).unwrap_or_default();
        let held: Vec<String> = tree
            .iter()
            .filter(|(path, _)| path.starts_with(b".tidegate/trash/"))
            .filter_map(|(_, shown)| shown.content.as_ref().map(|content| text(&content.bytes())))
            .collect();
        let missing = texts.iter().find(|text| !held.contains(text))?;
        Some(("trash", Some((end.clone(), String::new())), format!("{missing:?} is not in the trash")))
    }
}
