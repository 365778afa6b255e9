//! `device`.

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::json;

use super::status::device_row;
use super::{Context, read, read_list};
use crate::api::client::segment;
use crate::api::problem::{Code, Exit, Problem};
use crate::core::command::DeviceView;
use crate::format::{ago, number};

/// Shows and changes the devices of the library
#[derive(Debug, Args)]
pub(super) struct DeviceArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Lists all devices
    List,
    /// Shows one device
    Show {
        /// Name, short id or full id
        device: String,
    },
    /// Asks whether a device is connected now, and exits with 7 if it is not
    Ping {
        /// Name, short id or full id
        device: String,
    },
    /// Gives a device another name
    Rename {
        /// Name, short id or full id
        device: String,
        /// The new name
        name: String,
    },
    /// Throws a device out of the library; it keeps its files and can be paired anew
    Revoke {
        /// Name, short id or full id
        device: String,
    },
}

pub(super) async fn run(args: DeviceArgs, context: &Context) -> Result<Exit, Problem> {
    let (client, out) = (&context.client, &context.out);
    match args.what {
        What::List => {
            let document = client.get("/devices").await?;
            if out.json() {
                out.document(&document);
            } else {
                let devices: Vec<DeviceView> = read_list(&document, "devices")?;
                let (me, others) = devices.split_first().ok_or_else(|| {
                    Problem::new(Code::Internal, "nothing was shown", "the daemon did not name its own device")
                })?;
                let mine = vec![format!("  {}", me.name), me.short.clone(), "this device".to_owned()];
                out.table(&std::iter::once(mine).chain(others.iter().map(device_row)).collect::<Vec<_>>());
            }
        }
        What::Show { device } => {
            let document = client.get(&format!("/devices/{}", segment(&device))).await?;
            if out.json() { out.document(&document) } else { show(&read(&document)?, context) }
        }
        What::Ping { device } => {
            let document = client.get(&format!("/devices/{}", segment(&device))).await?;
            let view: DeviceView = read(&document)?;
            if !view.online {
                let heard = view
                    .heard_ms_ago
                    .map_or_else(|| "it was never heard".to_owned(), |ms| format!("it was heard {}", ago(ms)));
                return Err(Problem::new(Code::Unreachable, format!("{} is not connected", view.name), heard)
                    .next(format!("start it there (tidegate up), or look here: {}", context.command("doctor"))));
            }
            if out.json() {
                out.document(&document);
            } else {
                let address = view.address.as_deref().unwrap_or("an unknown address");
                let heard = ago(view.heard_ms_ago.unwrap_or(0));
                out.line(&format!("{} is connected at {address}, heard {heard}", view.name));
            }
        }
        What::Rename { device, name } => {
            client.request(Method::PATCH, &format!("/devices/{}", segment(&device)), &json!({ "name": name })).await?;
            out.talk(&format!("{device} is now called {name}"));
        }
        What::Revoke { device } => {
            let question = format!("Revoke {device}? It is cut off at once, and only pairing lets it in again.");
            context.confirm(&question)?;
            client.request(Method::DELETE, &format!("/devices/{}", segment(&device)), &json!({})).await?;
            out.talk(&format!("{device} is revoked. Files that it already has stay on it."));
        }
    }
    Ok(Exit::Done)
}

fn show(device: &DeviceView, context: &Context) {
    let row = |key: &str, value: String| vec![key.to_owned(), value];
    let cells = device_row(device);
    context.out.table(&[
        row("name", device.name.to_string()),
        row("id", device.id.clone()),
        row("short", device.short.clone()),
        row("state", cells[2].clone()),
        row(
            "index",
            format!(
                "{}: it signed {}, this device holds {} ({} rows)",
                cells[3],
                number(device.signed),
                number(device.held),
                number(device.rows)
            ),
        ),
    ]);
}
