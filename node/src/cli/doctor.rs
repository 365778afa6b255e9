//! `doctor`.

use clap::Args;

use super::{Context, read_list};
use crate::api::document::{Check, CheckState};
use crate::api::problem::{Code, Exit, Problem};

/// Looks at what often goes wrong: watches, space, clock, keys, buffers, file systems
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {}

pub(super) async fn run(_: &DoctorArgs, context: &Context) -> Result<Exit, Problem> {
    let document = context.client.get("/doctor").await?;
    let checks: Vec<Check> = read_list(&document, "checks")?;
    if context.out.json() {
        context.out.document(&document);
    } else {
        for check in &checks {
            let state = match check.state {
                CheckState::Ok => "ok  ",
                CheckState::Warn => "warn",
                CheckState::Fail => "FAIL",
            };
            context.out.line(&format!("{state}  {}: {}", check.what, check.found));
            if let Some(next) = check.next.as_ref().filter(|_| check.state != CheckState::Ok) {
                context.out.line(&format!("      next: {next}"));
            }
        }
    }
    let failed: Vec<&str> =
        checks.iter().filter(|check| check.state == CheckState::Fail).map(|check| check.what.as_str()).collect();
    if failed.is_empty() {
        return Ok(Exit::Done);
    }
    Err(Problem::new(Code::Unhealthy, "something is broken", failed.join(", ")))
}
