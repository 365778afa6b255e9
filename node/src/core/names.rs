//! Names that people use, and what they name.
//!
//! A device goes by its name, its short or its full id; a location by `device:name`, or `name` alone when
//! that is unambiguous; a conduit by its name or id. A root is `device:location[/dir]`.

use tidegate_protocol::file_sync::{Conduit, JobKey, Root};
use tidegate_protocol::id::{DeviceId, Label};
use tidegate_protocol::index::{Device, Location};
use tidegate_protocol::limits::DEVICES_MAX;
use tidegate_protocol::path::DirPath;

use super::command::{Fault, FaultCode};
use super::{Core, CoreError, Step};

/// Members that are named where something is not known here.
const NEWS_SHOWN_MAX: usize = 3;

impl Core {
    pub(super) fn device_named(&self, step: &Step<'_>, name: &str) -> Result<Result<Device, Fault>, CoreError> {
        let devices = step.txn.devices()?;
        Ok(one(
            devices,
            |device| device.name.value.as_str() == name || device.id.to_string() == name || device.id.short() == name,
            "device",
            name,
            "tidegate device list",
        ))
    }

    pub(super) fn location_named(&self, step: &Step<'_>, name: &str) -> Result<Result<Location, Fault>, CoreError> {
        let (device, location) = match name.split_once(':') {
            Some((device, location)) => match self.device_named(step, device)? {
                Ok(device) => (Some(device.id), location),
                Err(fault) => return Ok(Err(fault)),
            },
            None => (None, name),
        };
        let mut found: Vec<Location> = step.txn.locations()?.into_iter().filter(|l| !l.removed).collect();
        found.retain(|l| {
            device.is_none_or(|d| d == l.owner) && (l.name.as_str() == location || l.id.to_string() == name)
        });
        // Without a device, the own location of that name is meant.
        if device.is_none() && found.len() > 1 && found.iter().any(|l| l.owner == self.me) {
            found.retain(|l| l.owner == self.me);
        }
        let found = one(found, |_| true, "location", name, "tidegate location list");
        self.or_news(step, found)
    }

    pub(super) fn conduit_named(&self, step: &Step<'_>, name: &str) -> Result<Result<Conduit, Fault>, CoreError> {
        let conduits: Vec<Conduit> = step.txn.conduits()?.into_iter().filter(|c| !c.removed.value).collect();
        let is_it = |conduit: &Conduit| conduit.settings.name.value.as_str() == name || conduit.id.to_string() == name;
        self.or_news(step, one(conduits, is_it, "conduit", name, "tidegate conduit list"))
    }

    /// What names nothing here may be known elsewhere already.
    fn or_news<T>(&self, step: &Step<'_>, found: Result<T, Fault>) -> Result<Result<T, Fault>, CoreError> {
        match found {
            Err(mut fault) => {
                fault.next.extend(self.news_elsewhere(step)?);
                Ok(Err(fault))
            }
            Ok(found) => Ok(Ok(found)),
        }
    }

    /// The members of which not everything is known here, in words; the first few.
    pub(super) fn news_elsewhere(&self, step: &Step<'_>) -> Result<Vec<String>, CoreError> {
        let mut news = Vec::new();
        for device in self.library.members.iter().take(DEVICES_MAX) {
            let view = self.device_view(step, *device)?;
            if !view.online {
                news.push(format!("{} is offline, and what was added there since is not known here", view.name));
            } else if !view.caught_up {
                news.push(format!("news of {} are on their way; try again", view.name));
            }
        }
        news.truncate(NEWS_SHOWN_MAX);
        Ok(news)
    }

    /// `device:location[/dir]`.
    pub(super) fn root_named(&self, step: &Step<'_>, text: &str) -> Result<Result<Root, Fault>, CoreError> {
        let (head, dir) = text.split_once('/').unwrap_or((text, ""));
        let location = match self.location_named(step, head)? {
            Ok(location) => location,
            Err(fault) => return Ok(Err(fault)),
        };
        let dir = match DirPath::from_slashes(dir.trim_end_matches('/').as_bytes()) {
            Ok(dir) => dir,
            Err(error) => {
                return Ok(Err(Fault::new(
                    FaultCode::Usage,
                    format!("{text:?} names no directory; nothing was changed"),
                    error.to_string(),
                    &["write it as device:location or device:location/directory"],
                )));
            }
        };
        Ok(Ok(Root { device: location.owner, location: location.id, dir }))
    }

    pub(super) fn job_named(&self, step: &Step<'_>, name: &str) -> Result<Result<JobKey, Fault>, CoreError> {
        let jobs: Vec<JobKey> = step.txn.jobs()?.into_iter().map(|record| record.spec.key).collect();
        Ok(one(jobs, |job| job.to_string() == name, "job", name, "tidegate job list"))
    }

    /// Name of a device, or its short id if it has none here.
    pub(super) fn device_label(&self, step: &Step<'_>, id: DeviceId) -> Result<Label, CoreError> {
        Ok(step.txn.device_fact(id)?.map_or_else(|| Label::lossy(&id.short()), |device| device.name.value))
    }

    /// `device:location[/dir]` of a root.
    pub(super) fn root_label(&self, step: &Step<'_>, root: &Root) -> Result<String, CoreError> {
        let device = self.device_label(step, root.device)?;
        let location = step.txn.location(root.device, root.location)?;
        let name = location.map_or_else(|| root.location.short(), |location| location.name.to_string());
        Ok(match root.dir.as_entry() {
            None => format!("{device}:{name}"),
            Some(dir) => format!("{device}:{name}/{dir}"),
        })
    }
}

fn one<T>(all: Vec<T>, is_it: impl Fn(&T) -> bool, kind: &str, name: &str, list: &str) -> Result<T, Fault> {
    let shown: String = name.chars().take(80).flat_map(char::escape_debug).collect();
    let mut found = all.into_iter().filter(is_it);
    match (found.next(), found.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(Fault::new(
            FaultCode::NoSuchName,
            format!("there is no {kind} {shown:?}; nothing was changed"),
            "no name or id matches",
            &[list],
        )),
        (Some(_), Some(_)) => Err(Fault::new(
            FaultCode::NoSuchName,
            format!("{shown:?} names more than one {kind}; nothing was changed"),
            "names are given by people and may clash between devices",
            &[list, "use the full id"],
        )),
    }
}
