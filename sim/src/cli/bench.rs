//! `bench`: how many device-hours one minute of CPU simulates, by profile. What else the machine does is left out.

use super::{Outcome, Stopwatch, Usage, drawn};
use crate::plan::Millis;
use crate::plan::profile::BUILT_IN;
use crate::run::run;

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only this profile.
    #[arg(long)]
    profile: Option<String>,
    /// CPU time for each profile.
    #[arg(long, default_value = "20s")]
    budget: Millis,
}

pub(super) fn main(args: &Args) -> Result<Outcome, Usage> {
    println!(
        "{:<12} {:>6} {:>14} {:>12} {:>22}",
        "profile", "runs", "device-hours", "events/s", "device-hours/CPU-min"
    );
    for (name, _) in BUILT_IN.iter().filter(|(name, _)| args.profile.as_deref().is_none_or(|only| only == *name)) {
        let watch = Stopwatch::start();
        let (mut runs, mut device_ms, mut events) = (0, 0, 0);
        while watch.cpu_ms() < args.budget.0 || runs == 0 {
            let verdict = run(&drawn(runs, name)?);
            runs += 1;
            device_ms += verdict.device_ms;
            events += verdict.fingerprint.events;
        }
        let ms = watch.cpu_ms().max(1) as f64;
        let hours = device_ms as f64 / 3_600_000.0;
        let rate = events as f64 / ms * 1_000.0;
        println!("{name:<12} {runs:>6} {hours:>14.1} {rate:>12.0} {:>22.0}", hours / (ms / 60_000.0));
    }
    Ok(Outcome::Fine)
}
