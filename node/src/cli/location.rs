//! `location`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Value, json};

use super::{Context, read, read_list};
use crate::api::client::segment;
use crate::api::document::LocationDocument;
use crate::api::problem::{Code, Exit, Problem};
use crate::api::words;
use crate::format::{bytes, count, number};

/// Adds and shows locations: directories that are indexed whole
#[derive(Debug, Args)]
pub(super) struct LocationArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Indexes a directory of this device; nobody else may read or write it until you allow it
    Add {
        /// The directory
        path: PathBuf,
        /// Its name; the directory's own by default
        #[arg(long)]
        name: Option<String>,
        /// Allows a device something at once: DEVICE=read, DEVICE=write or DEVICE=delete
        #[arg(long, value_name = "DEVICE=RIGHT")]
        allow: Vec<String>,
        /// Returns before the first scan has ended
        #[arg(long)]
        no_wait: bool,
    },
    /// Lists the locations of all devices
    List,
    /// Shows one location
    Show {
        /// LOCATION or DEVICE:LOCATION
        location: String,
        /// Lists what could not be read
        #[arg(long)]
        problems: bool,
    },
    /// Scans a location of this device again
    Rescan {
        /// LOCATION
        location: String,
        /// Reads every file, however unchanged it looks
        #[arg(long)]
        deep: bool,
        /// Returns before the scan has ended
        #[arg(long)]
        no_wait: bool,
    },
    /// Allows a device to read, write (and read), or delete (and write and read) in a location
    Allow {
        /// LOCATION of this device
        location: String,
        /// DEVICE=read, DEVICE=write or DEVICE=delete
        #[arg(value_name = "DEVICE=RIGHT", required = true)]
        grants: Vec<String>,
    },
    /// Takes all rights in a location from a device
    Deny {
        /// LOCATION of this device
        location: String,
        /// The device
        device: String,
    },
    /// Forgets a location; its files stay
    Remove {
        /// LOCATION of this device
        location: String,
    },
}

/// Time between two looks at a running scan.
const LOOK_EVERY: Duration = Duration::from_millis(150);

pub(super) async fn run(args: LocationArgs, context: &Context) -> Result<Exit, Problem> {
    let (client, out) = (&context.client, &context.out);
    match args.what {
        What::Add { path, name, allow, no_wait } => return add(path, name, &allow, no_wait, context).await,
        What::List => {
            let document = client.get("/locations").await?;
            if out.json() {
                out.document(&document);
            } else {
                let locations: Vec<LocationDocument> = read_list(&document, "locations")?;
                let rows = locations.iter().map(|l| {
                    let name = format!("{}:{}", l.device, l.name);
                    vec![name, count(l.files, "file", "files"), bytes(l.bytes), l.state.clone(), l.root.clone()]
                });
                out.table(&rows.collect::<Vec<_>>());
            }
        }
        What::Show { location, problems } => {
            let document = look(&location, context).await?;
            if out.json() { out.document(&document) } else { show(&read(&document)?, problems, context) }
        }
        What::Rescan { location, deep, no_wait } => {
            client.post(&format!("/locations/{}/rescan", segment(&location)), &json!({ "deep": deep })).await?;
            if !no_wait {
                settle(&location, context).await?;
            }
        }
        What::Allow { location, grants } => {
            for grant in &grants {
                allow_one(&location, grant, context).await?;
            }
        }
        What::Deny { location, device } => grant(&location, &device, "none", context).await?,
        What::Remove { location } => {
            client.request(Method::DELETE, &format!("/locations/{}", segment(&location)), &json!({})).await?;
            out.talk(&format!("{location} is no location any more. Its files were not touched."));
        }
    }
    Ok(Exit::Done)
}

async fn add(
    path: PathBuf,
    name: Option<String>,
    allow: &[String],
    no_wait: bool,
    context: &Context,
) -> Result<Exit, Problem> {
    // Bad grants are found before anything is added.
    for grant in allow {
        parse_grant(grant)?;
    }
    let absolute = std::path::absolute(&path).map_err(|error| {
        Problem::new(Code::Usage, "the location was not added", format!("{}: {error}", path.display()))
    })?;
    let Some(text) = absolute.to_str() else {
        return Err(Problem::new(
            Code::Usage,
            "the location was not added",
            "the path of a location itself must be UTF-8; what is below it need not be",
        ));
    };
    let document = context.client.post("/locations", &json!({ "path": text, "name": name })).await?;
    let location: LocationDocument = read(&document)?;
    for one in allow {
        allow_one(&location.id, one, context).await?;
    }
    if no_wait {
        if context.out.json() {
            context.out.document(&document);
        } else {
            context.out.line(&format!("{}: added, the first scan has begun", location.name));
        }
        return Ok(Exit::Done);
    }
    settle(&location.id, context).await?;
    context.out.talk(&format!("Next: {}", context.command(&format!("location allow {} DEVICE=read", location.name))));
    Ok(Exit::Done)
}

async fn allow_one(location: &str, text: &str, context: &Context) -> Result<(), Problem> {
    let (device, right) = parse_grant(text)?;
    grant(location, device, right, context).await
}

async fn grant(location: &str, device: &str, right: &str, context: &Context) -> Result<(), Problem> {
    let rights = if right == "none" {
        tidegate_protocol::index::Rights::NONE
    } else {
        words::parse_rights(right).map_err(usage)?
    };
    let path = format!("/locations/{}/grants/{}", segment(location), segment(device));
    context.client.request(Method::PUT, &path, &rights).await?;
    context.out.talk(&format!("{device} may now: {}", words::rights(rights)));
    Ok(())
}

fn parse_grant(text: &str) -> Result<(&str, &str), Problem> {
    let (device, right) = text.rsplit_once('=').ok_or_else(|| usage(format!("{text:?} is not DEVICE=RIGHT")))?;
    words::parse_rights(right).map_err(usage)?;
    Ok((device, right))
}

fn usage(why: String) -> Problem {
    Problem::new(Code::Usage, "the rights were not understood; nothing was changed", why)
}

async fn look(location: &str, context: &Context) -> Result<Value, Problem> {
    context.client.get(&format!("/locations/{}", segment(location))).await
}

/// Follows a scan until the location is settled, and says what it found.
async fn settle(location: &str, context: &Context) -> Result<(), Problem> {
    let progress = context.out.progress();
    let began = std::time::Instant::now();
    loop {
        let document = look(location, context).await?;
        let view: LocationDocument = read(&document)?;
        match view.state.as_str() {
            "settled" => {
                progress.clear();
                if context.out.json() {
                    context.out.document(&document);
                } else {
                    context.out.line(&summary(&view));
                }
                return Ok(());
            }
            "root missing" | "root replaced" => {
                progress.clear();
                let what = format!("{}:{} is not there; nothing was changed", view.device, view.name);
                return Err(Problem::new(Code::RootMissing, what, format!("{}: {}", view.root, view.state))
                    .next(format!("mount it, then {}", context.command(&format!("location rescan {}", view.name))))
                    .do_not("create the marker by hand: everything that is not there would count as deleted"));
            }
            _ => {
                let (files, read) = view.scanning.as_ref().map_or((0, 0), |s| (s.files_hashed, s.bytes_hashed));
                let rate = read / began.elapsed().as_secs().max(1);
                let words = format!("{} hashed, {}, {}/s", count(files, "file", "files"), bytes(read), bytes(rate));
                progress.show(view.name.as_str(), files, view.files.max(files), &words, &json!(view.scanning));
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn summary(view: &LocationDocument) -> String {
    let mut text = format!("{}: {}, {}", view.name, count(view.files, "file", "files"), bytes(view.bytes));
    if view.unreadable > 0 {
        let _ =
            write!(text, ", {} unreadable (tidegate location show {} --problems)", number(view.unreadable), view.name);
    }
    if view.special > 0 {
        let _ = write!(text, ", {} skipped (sockets, FIFOs, devices)", number(view.special));
    }
    text
}

fn show(view: &LocationDocument, problems: bool, context: &Context) {
    let out = &context.out;
    let row = |key: &str, value: String| vec![key.to_owned(), value];
    let grants: Vec<String> = view.grants.iter().map(|g| format!("{}={}", g.device, words::rights(g.rights))).collect();
    out.table(&[
        row("location", format!("{}:{}", view.device, view.name)),
        row("id", view.id.clone()),
        row("root", view.root.clone()),
        row("state", view.state.clone()),
        row(
            "holds",
            format!(
                "{}, {}, {}",
                count(view.files, "file", "files"),
                count(view.directories, "directory", "directories"),
                bytes(view.bytes)
            ),
        ),
        row("unreadable", number(view.unreadable)),
        row("skipped", number(view.special)),
        row("rights", if grants.is_empty() { "nobody else".to_owned() } else { grants.join(" ") }),
        row("ignores", view.rules.join("  ")),
    ]);
    if problems {
        for problem in &view.problems {
            out.line(&format!("  {}: {}", problem.path, problem.why));
        }
    }
}
