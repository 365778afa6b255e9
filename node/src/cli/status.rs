//! `status`.

use clap::Args;

use super::{Context, read};
use crate::api::document::{ConduitDocument, StatusDocument};
use crate::api::problem::{Exit, Problem};
use crate::core::command::DeviceView;
use crate::format::{Moment, ago, bytes, count};

/// Shows devices, locations and conduits at a glance
#[derive(Debug, Args)]
pub(super) struct StatusArgs {}

pub(super) async fn run(_: &StatusArgs, context: &Context) -> Result<Exit, Problem> {
    let document = context.client.get("/status").await?;
    if context.out.json() {
        context.out.document(&document);
        return Ok(Exit::Done);
    }
    let status: StatusDocument = read(&document)?;
    let out = &context.out;
    let me = &status.device;
    out.line(&format!(
        "{} ({})  {} in library {}",
        me.name,
        me.short,
        count(status.devices.len() as u64 + 1, "device", "devices"),
        &status.library[..8]
    ));
    out.table(&status.devices.iter().map(device_row).collect::<Vec<_>>());
    if !status.locations.is_empty() {
        out.line("Locations");
        let rows = status.locations.iter().map(|l| {
            let name = format!("  {}:{}", l.device, l.name);
            vec![name, count(l.files, "file", "files"), bytes(l.bytes), l.state.clone(), l.root.clone()]
        });
        out.table(&rows.collect::<Vec<_>>());
    }
    if !status.conduits.is_empty() {
        out.line("Conduits");
        out.table(&status.conduits.iter().map(|c| conduit_row(c, status.now)).collect::<Vec<_>>());
    }
    let next = match (status.devices.is_empty(), status.locations.is_empty(), status.conduits.is_empty()) {
        (true, true, _) => Some("pair"),
        (_, true, _) => Some("location add PATH"),
        (_, _, true) => Some("conduit create NAME DEVICE:LOCATION DEVICE:LOCATION"),
        (_, _, false) => None,
    };
    if let Some(verb) = next {
        out.talk(&format!("Next: {}", context.command(verb)));
    }
    Ok(Exit::Done)
}

pub(super) fn device_row(device: &DeviceView) -> Vec<String> {
    let place = match (&device.address, device.heard_ms_ago) {
        _ if !device.member => "revoked".to_owned(),
        (Some(address), _) if device.online => format!("online {address}"),
        (_, _) if device.online => "online".to_owned(),
        (_, Some(ms)) => format!("offline, heard {}", ago(ms)),
        (_, None) => "never heard".to_owned(),
    };
    let index = match device.signed.saturating_sub(device.held) {
        _ if device.quarantined => "quarantined: it signed two states under one number".to_owned(),
        _ if device.over_quota => {
            "over quota: its index is larger than index.max_entries or index.max_bytes".to_owned()
        }
        _ if device.caught_up => "caught up".to_owned(),
        0 => "catching up".to_owned(),
        behind => count(behind, "change behind", "changes behind"),
    };
    vec![format!("  {}", device.name), device.short.clone(), place, index]
}

pub(super) fn conduit_row(conduit: &ConduitDocument, now: Moment) -> Vec<String> {
    let refused = conduit.refused.as_ref().map(|refused| format!("REFUSED beside {}, which is older", refused.older));
    let state = match (&conduit.held, &conduit.running) {
        (_, None) if refused.is_some() => refused.unwrap_or_default(),
        (Some(held), _) => format!("HELD, waits for: tidegate approve {}", held.plan),
        (None, Some(p)) => format!("{} {}/{}", p.phase, p.items_done, p.items),
        (None, None) if !conduit.enabled => "disabled".to_owned(),
        (None, None) if conduit.paused => "paused".to_owned(),
        (None, None) => conduit.state.clone(),
    };
    let verified = conduit
        .verified
        .map_or_else(|| "never verified".to_owned(), |at| format!("verified {}", ago(now.0.saturating_sub(at.0))));
    let ends = format!("{} -> {}", conduit.source, conduit.target);
    vec![format!("  {}", conduit.name), ends, conduit.mode.clone(), conduit.schedule.clone(), state, verified]
}
