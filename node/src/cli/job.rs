//! `job`.

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Context, read, read_list};
use crate::api::client::segment;
use crate::api::document::JobDocument;
use crate::api::problem::{Exit, Problem};
use crate::format::{bytes, number};

/// Shows and controls jobs: batches of copies or deletes on one device
#[derive(Debug, Args)]
pub(super) struct JobArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Lists jobs
    List,
    /// Shows one job
    Show {
        /// As `job list` shows it
        job: String,
    },
    /// Holds a job
    Pause {
        /// As `job list` shows it
        job: String,
    },
    /// Lets a held job go on
    Resume {
        /// As `job list` shows it
        job: String,
    },
    /// Ends a job; what is done stays done
    Cancel {
        /// As `job list` shows it
        job: String,
    },
}

pub(super) async fn run(args: JobArgs, context: &Context) -> Result<Exit, Problem> {
    let (client, out) = (&context.client, &context.out);
    let (job, control) = match args.what {
        What::List => {
            let document = client.get("/jobs").await?;
            if out.json() {
                out.document(&document);
            } else {
                let jobs: Vec<JobDocument> = read_list(&document, "jobs")?;
                out.table(&jobs.iter().map(row).collect::<Vec<_>>());
            }
            return Ok(Exit::Done);
        }
        What::Show { job } => {
            let document = client.get(&format!("/jobs/{}", segment(&job))).await?;
            if out.json() {
                out.document(&document);
            } else {
                out.table(&[row(&read(&document)?)]);
            }
            return Ok(Exit::Done);
        }
        What::Pause { job } => (job, "pause"),
        What::Resume { job } => (job, "resume"),
        What::Cancel { job } => (job, "cancel"),
    };
    client.post(&format!("/jobs/{}/{control}", segment(&job)), &json!({})).await?;
    out.talk(&format!("{job}: {control}"));
    Ok(Exit::Done)
}

fn row(job: &JobDocument) -> Vec<String> {
    let items = format!("{}/{} items", number(job.items_done), number(job.items));
    let sizes = format!("{}/{}", bytes(job.bytes_done), bytes(job.bytes));
    let of = format!("{} gen {}", job.conduit, job.generation);
    let skipped = if job.items_skipped > 0 { format!("{} skipped", number(job.items_skipped)) } else { String::new() };
    vec![job.job.clone(), of, format!("{} on {}", job.kind, job.device), job.state.clone(), items, sizes, skipped]
}
