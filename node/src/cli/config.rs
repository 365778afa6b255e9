//! `config`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Context, load_config, read_list};
use crate::api::document::{SettingDocument, list};
use crate::api::problem::{Exit, Problem};
use crate::config::{Config, KEYS};

/// Shows and checks the configuration
#[derive(Debug, Args)]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Shows every setting
    Show {
        /// Says where each value comes from
        #[arg(long)]
        origin: bool,
        /// Asks the daemon what is in force, instead of reading file and environment
        #[arg(long)]
        running: bool,
    },
    /// Checks file and environment, and exits with 13 if they are not right
    Check,
    /// Prints where the files are
    Path,
}

impl ConfigArgs {
    /// Whether no daemon is asked.
    pub(super) const fn is_local(&self) -> bool {
        !matches!(self.what, What::Show { running: true, .. })
    }
}

pub(super) fn run_local(args: &ConfigArgs, context: &Context) -> Result<Exit, Problem> {
    let out = &context.out;
    match &args.what {
        What::Show { origin, .. } => {
            let config = load_config(&context.layout, &[])?;
            show(&list("settings", &settings(&config)), *origin, context)?;
        }
        What::Check => {
            load_config(&context.layout, &[])?;
            let found =
                if context.layout.config.exists() { "is right" } else { "does not exist; defaults are in force" };
            if out.json() {
                out.document(&json!({ "v": 1, "type": "config_check", "ok": true, "path": context.layout.config.display().to_string() }));
            } else {
                out.line(&format!("{} {found}", context.layout.config.display()));
            }
        }
        What::Path => {
            let places =
                [("config", &context.layout.config), ("state", &context.layout.state), ("socket", &context.socket.0)];
            if out.json() {
                let mut document = json!({ "v": 1, "type": "paths" });
                for (what, path) in places {
                    document[what] = json!(path.display().to_string());
                }
                out.document(&document);
            } else {
                out.table(&places.map(|(what, path)| vec![what.to_owned(), path.display().to_string()]));
            }
        }
    }
    Ok(Exit::Done)
}

pub(super) async fn run(args: &ConfigArgs, context: &Context) -> Result<Exit, Problem> {
    let origin = matches!(args.what, What::Show { origin: true, .. });
    show(&context.client.get("/config").await?, origin, context)?;
    Ok(Exit::Done)
}

/// Every setting with where it came from.
pub(super) fn settings(config: &Config) -> Vec<SettingDocument> {
    let setting = |key: &crate::config::Key| SettingDocument {
        key: key.name.to_owned(),
        value: (key.show)(&config.settings),
        origin: config.origin(key.name).to_string(),
    };
    KEYS.iter().map(setting).collect()
}

fn show(document: &Value, origin: bool, context: &Context) -> Result<(), Problem> {
    if context.out.json() {
        context.out.document(document);
        return Ok(());
    }
    let settings: Vec<SettingDocument> = read_list(document, "settings")?;
    let rows = settings.into_iter().map(|setting| {
        let line = format!("{} = {}", setting.key, setting.value);
        if origin { vec![line, format!("# {}", setting.origin)] } else { vec![line] }
    });
    context.out.table(&rows.collect::<Vec<_>>());
    Ok(())
}
