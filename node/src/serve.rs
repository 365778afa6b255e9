//! The composition root: builds a node from its settings and runs it until it is told to stop.

use std::path::PathBuf;

use crate::api::document::SettingDocument;
use crate::api::problem::Problem;
use crate::config::Settings;

/// What a node is built from.
#[derive(Debug)]
pub struct Options {
    /// The state directory.
    pub state: PathBuf,
    /// Where the API listens.
    pub socket: PathBuf,
    /// Everything that can be set.
    pub settings: Settings,
    /// The settings as they are shown.
    pub shown: Vec<SettingDocument>,
}

/// Runs a node until SIGTERM, SIGINT or the API stops it.
pub fn run(options: Options) -> Result<(), Problem> {
    crate::state::make_directory(&options.state)?;
    let _held = crate::state::hold(&options.state)?;
    Ok(())
}
