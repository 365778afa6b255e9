//! `pair`.

use std::io::{BufRead, IsTerminal, Read};
use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Context, read};
use crate::api::body::Join;
use crate::api::document::{PairingDocument, PairingState};
use crate::api::problem::{Code, Exit, Problem};
use crate::format::duration;

/// Lets another device into the library: shows a code that is typed there
#[derive(Debug, Args)]
pub(super) struct PairArgs {
    /// Returns once the code is shown; it stays open in the daemon
    #[arg(long)]
    detach: bool,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Joins the library of the device that shows a code
    Join {
        /// Where that device is, when it cannot be found: ip:port
        #[arg(long, value_name = "IP:PORT")]
        at: Option<SocketAddr>,
        /// Reads the code from standard input; it is never an argument, where others could see it
        #[arg(long)]
        code_stdin: bool,
    },
}

/// Time between two looks at an open code.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Longest code that is read, in bytes.
const CODE_BYTES_MAX: u64 = 256;

pub(super) async fn run(args: PairArgs, context: &Context) -> Result<Exit, Problem> {
    match args.what {
        None => show_code(args.detach, context).await,
        Some(What::Join { at, code_stdin }) => join(at, code_stdin, context).await,
    }
}

async fn show_code(detach: bool, context: &Context) -> Result<Exit, Problem> {
    let out = &context.out;
    let document = context.client.post("/pairing/start", &json!({})).await?;
    let pairing: PairingDocument = read(&document)?;
    let code = pairing.code.clone().unwrap_or_default();
    if detach {
        if out.json() {
            out.document(&document);
        } else {
            out.line(&code);
        }
        return Ok(Exit::Done);
    }
    if out.json() {
        out.document(&document);
    } else {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let left = pairing.expires.map_or(0, |at| at.0.saturating_sub(now.as_millis() as u64));
        // Rounded to whole seconds up, so that a fresh code shows its full five minutes.
        out.line(&format!("Code:  {code}      {}, one device", duration(left.div_ceil(1000) * 1000)));
        out.talk("On the other device:  tidegate pair join");
    }
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let document = context.client.get("/pairing").await?;
        let pairing: PairingDocument = read(&document)?;
        match pairing.state {
            PairingState::Open => {}
            PairingState::Paired => {
                let name = pairing.device.clone().unwrap_or_default();
                if out.json() {
                    out.document(&document);
                } else {
                    out.talk(&format!("\"{name}\" {} proved the code.", pairing.address.as_deref().unwrap_or("")));
                    out.line(&paired(&pairing, &name));
                    out.talk(&format!(
                        "{name} sees the index; no location is readable or writable by it until you allow it."
                    ));
                    out.talk(&format!("Next: {}", context.command("location add PATH")));
                }
                return Ok(Exit::Done);
            }
            PairingState::Expired | PairingState::Closed => {
                let why = pairing.why.unwrap_or_else(|| "the code was withdrawn".to_owned());
                return Err(Problem::new(Code::PairClosed, "no device was paired", why).next(context.command("pair")));
            }
        }
    }
}

async fn join(at: Option<SocketAddr>, code_stdin: bool, context: &Context) -> Result<Exit, Problem> {
    let code = read_code(code_stdin, context)?;
    let document = context.client.post("/pairing/join", &Join { code, at }).await?;
    if context.out.json() {
        context.out.document(&document);
        return Ok(Exit::Done);
    }
    let pairing: PairingDocument = read(&document)?;
    let name = pairing.device.clone().unwrap_or_default();
    context.out.line(&paired(&pairing, &name));
    context.out.talk(&format!("Next: {}", context.command("location add PATH")));
    Ok(Exit::Done)
}

fn paired(pairing: &PairingDocument, name: &str) -> String {
    let words = pairing.check_words.as_ref().map(|words| format!(" Check words: {words}")).unwrap_or_default();
    format!("Paired with \"{name}\".{words}")
}

fn read_code(code_stdin: bool, context: &Context) -> Result<String, Problem> {
    let stdin = std::io::stdin();
    if !code_stdin {
        if context.globals.no_input || !stdin.is_terminal() {
            let why = "the code is typed on a terminal or read from standard input";
            return Err(Problem::new(Code::NeedsAnswer, "nothing was paired", why)
                .next(context.command("pair join --code-stdin < FILE")));
        }
        context.out.talk_text("Code: ");
    }
    let mut line = String::new();
    stdin
        .lock()
        .take(CODE_BYTES_MAX)
        .read_line(&mut line)
        .map_err(|error| Problem::new(Code::Usage, "nothing was paired", format!("no code was read: {error}")))?;
    Ok(line.trim().to_owned())
}
