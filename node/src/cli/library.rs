//! `library`.

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::json;

use super::{Context, read};
use crate::api::document::StatusDocument;
use crate::api::problem::{Exit, Problem};

/// Shows and leaves the library: the devices that trust one another, and the index they share
#[derive(Debug, Args)]
pub(super) struct LibraryArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Shows the library's id and how far each device's index is here
    Show,
    /// Forgets the other devices and begins a library of this device's own; no file is touched
    Leave,
}

pub(super) async fn run(args: LibraryArgs, context: &Context) -> Result<Exit, Problem> {
    let out = &context.out;
    match args.what {
        What::Show => {
            let document = context.client.get("/status").await?;
            let status: StatusDocument = read(&document)?;
            let all = || std::iter::once(&status.device).chain(&status.devices);
            if out.json() {
                let devices: Vec<_> = all()
                    .map(|d| json!({ "device": d.name, "id": d.id, "signed": d.signed, "held": d.held, "rows": d.rows, "caught_up": d.caught_up }))
                    .collect();
                out.document(&json!({ "v": 1, "type": "library", "id": status.library, "devices": devices }));
            } else {
                out.line(&format!("library {}", status.library));
                let rows = all().map(|d| {
                    let level = if d.caught_up { "caught up" } else { "behind" };
                    vec![
                        format!("  {}", d.name),
                        format!("signed {}", d.signed),
                        format!("held {}", d.held),
                        level.to_owned(),
                    ]
                });
                out.table(&rows.collect::<Vec<_>>());
            }
        }
        What::Leave => {
            context.confirm("Leave the library? This device forgets the others; conduits to them end.")?;
            context.client.request(Method::DELETE, "/library", &json!({})).await?;
            out.talk("This device has a library of its own again. No file was touched.");
        }
    }
    Ok(Exit::Done)
}
