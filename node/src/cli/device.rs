//! `device`.

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::json;

use super::status::device_row;
use super::{Context, read, read_list};
use crate::api::client::segment;
use crate::api::problem::{Code, Exit, Problem};
use crate::core::command::DeviceView;
use crate::format::number;

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
    /// Makes a round trip to a device, and exits with 7 if it does not answer
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
            let document = client.get(&format!("/devices/{}/ping", segment(&device))).await?;
            if out.json() {
                out.document(&document);
            } else {
                let text = |key: &str| document[key].as_str().unwrap_or("an unknown address").to_owned();
                let ms = document["round_trip_us"].as_u64().unwrap_or(0) as f64 / 1000.0;
                out.line(&format!("{} answers at {} in {ms:.1} ms", text("device"), text("address")));
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
