//! Routes of conflicts and explanations. Texts are compared and joined here, from the versions that the node finds.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use tidegate_protocol::file_sync::Decision;
use tidegate_protocol::path::EntryPath;

use super::Face;
use super::body::{FetchSet, PinSet};
use super::document::{document, list};
use super::document_conflict::{ConflictDocument, DiffDocument, WhyDocument};
use super::problem::{Code, Problem};
use super::router::{Body, Document, mismatch};
use crate::core::command::{Choice, Command, Reply, VersionOf};
use crate::merge;

/// Largest body of a choice, in bytes: a content of 1 MiB in base64 and some.
const CHOICE_BYTES_MAX: usize = 2 << 20;

type Node = State<Arc<dyn Face>>;
type Answer = Result<Document, Problem>;

/// The routes.
pub(super) fn routes() -> Router<Arc<dyn Face>> {
    Router::new()
        .route("/conflicts", get(conflicts))
        .route("/conflicts/{conduit}/{number}", get(conflict))
        .route("/conflicts/{conduit}/{number}/content/{version}", get(content))
        .route("/conflicts/{conduit}/{number}/diff", get(diff))
        .route("/conflicts/{conduit}/{number}/resolve", post(resolve).layer(DefaultBodyLimit::max(CHOICE_BYTES_MAX)))
        .route("/why", post(why))
        .route("/fetch", post(fetch))
        .route("/conduits/{name}/pins", post(pin))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Which {
    conduit: Option<String>,
    all: bool,
}

/// `POST /conflicts/{conduit}/{number}/resolve`: exactly one member.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Resolution {
    /// `source`, `target`, `both` or `newest`.
    pub keep: Option<String>,
    /// What both sides made of the base.
    pub merge: bool,
    /// Another content, in base64.
    pub content_b64: Option<String>,
}

/// `POST /why`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Question {
    /// Below a conduit's roots, or absolute and below a location of this device.
    pub path: String,
    /// In which conduit; found by the path if absent.
    pub conduit: Option<String>,
    /// How long to wait for the gate, in milliseconds; the configured time if absent.
    pub wait_ms: Option<u64>,
}

async fn conflicts(State(face): Node, query: Result<Query<Which>, axum::extract::rejection::QueryRejection>) -> Answer {
    let Query(which) = query.map_err(|rejection| usage(rejection.body_text()))?;
    match face.command(Command::Conflicts { conduit: which.conduit, settled: which.all }).await? {
        Reply::Conflicts(views) => {
            let all: Vec<ConflictDocument> = views.into_iter().map(Into::into).collect();
            Ok(Document(list("conflicts", &all)))
        }
        _ => Err(mismatch()),
    }
}

async fn conflict(State(face): Node, Path((conduit, number)): Path<(String, String)>) -> Answer {
    match face.command(Command::Conflict(format!("{conduit}:{number}"))).await? {
        Reply::Conflict(view) => Ok(Document(document("conflict", &ConflictDocument::from(*view)))),
        _ => Err(mismatch()),
    }
}

async fn read(face: &Arc<dyn Face>, id: &str, version: VersionOf) -> Result<Vec<u8>, Problem> {
    match face.command(Command::ConflictContent { conflict: id.to_owned(), version }).await? {
        Reply::Content(bytes) => Ok(bytes),
        _ => Err(mismatch()),
    }
}

/// One version as it is, in a form that no browser runs.
async fn content(
    State(face): Node,
    Path((conduit, number, version)): Path<(String, String, VersionOf)>,
) -> Result<Response, Problem> {
    let bytes = read(&face, &format!("{conduit}:{number}"), version).await?;
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'"),
    ];
    Ok((headers, bytes).into_response())
}

async fn diff(State(face): Node, Path((conduit, number)): Path<(String, String)>) -> Answer {
    let id = format!("{conduit}:{number}");
    let source = read(&face, &id, VersionOf::Source).await?;
    let target = read(&face, &id, VersionOf::Target).await?;
    let base = read(&face, &id, VersionOf::Base).await;
    let mut found = DiffDocument { id, diff: None, changed: None, merged: None, why: None };
    match merge::diff(&source, &target) {
        Ok(diff) => found.diff = Some(diff),
        Err(error) => found.why = Some(error.to_string()),
    }
    match &base {
        Ok(base) => {
            let lines = [&source, &target].map(|version| merge::lines_changed(base, version));
            if let [Ok(by_source), Ok(by_target)] = lines {
                found.changed = Some([by_source, by_target]);
            }
            match merge::merge(base, &source, &target) {
                Ok(merged) => found.merged = String::from_utf8(merged).ok(),
                Err(error) => found.why = Some(error.to_string()),
            }
        }
        Err(problem) => found.why = found.why.or_else(|| Some(format!("the base is not at hand: {}", problem.why))),
    }
    Ok(Document(document("diff", &found)))
}

async fn resolve(
    State(face): Node,
    Path((conduit, number)): Path<(String, String)>,
    Body(body): Body<Resolution>,
) -> Answer {
    let id = format!("{conduit}:{number}");
    let choice = match (body.keep.as_deref(), body.merge, &body.content_b64) {
        (Some(word), false, None) => Choice::Keep(decision(word)?),
        (None, true, None) => {
            let base = read(&face, &id, VersionOf::Base).await?;
            let source = read(&face, &id, VersionOf::Source).await?;
            let target = read(&face, &id, VersionOf::Target).await?;
            let merged = merge::merge(&base, &source, &target).map_err(|error| {
                Problem::new(Code::Usage, format!("{id} was not merged; nothing was changed"), error.to_string())
                    .next(format!("tidegate conflict diff {id}"))
                    .next(format!("tidegate conflict resolve {id} --with FILE"))
            })?;
            Choice::Content(merged)
        }
        (None, false, Some(text)) => {
            let bytes = data_encoding::BASE64.decode(text.as_bytes()).map_err(|error| usage(error.to_string()))?;
            Choice::Content(bytes)
        }
        (Some(_) | None, _, _) => return Err(usage("exactly one of keep, merge and content_b64 is wanted".to_owned())),
    };
    match face.command(Command::ResolveConflict { conflict: id, choice }).await? {
        Reply::Done => Ok(Document(serde_json::json!({ "v": 1, "type": "done" }))),
        _ => Err(mismatch()),
    }
}

fn decision(word: &str) -> Result<Decision, Problem> {
    match word {
        "source" => Ok(Decision::Source),
        "target" => Ok(Decision::Target),
        "both" => Ok(Decision::Both),
        "newest" => Ok(Decision::Newest),
        _ => Err(usage(format!("{word:?} is no choice; there are: source, target, both, newest"))),
    }
}

async fn why(State(face): Node, Body(body): Body<Question>) -> Answer {
    let wait_ms = body.wait_ms.unwrap_or_else(|| face.gate_timeout_ms());
    match face.command(Command::Why { conduit: body.conduit, path: body.path, wait_ms }).await? {
        Reply::Why(view) => Ok(Document(document("why", &WhyDocument::from(*view)))),
        _ => Err(mismatch()),
    }
}

async fn fetch(State(face): Node, Body(body): Body<FetchSet>) -> Answer {
    match face.command(Command::Fetch { conduit: body.conduit, path: body.path, for_ms: body.for_ms }).await? {
        Reply::Conduit(view) => Ok(Document(serde_json::json!({ "v": 1, "type": "done", "conduit": view.name }))),
        _ => Err(mismatch()),
    }
}

async fn pin(State(face): Node, Path(conduit): Path<String>, Body(body): Body<PinSet>) -> Answer {
    let path = EntryPath::from_slashes(body.path.trim_end_matches('/').as_bytes());
    let path = path.map_err(|error| usage(format!("{:?}: {error}", body.path)))?;
    match face.command(Command::Pin { conduit, path, pinned: body.pinned }).await? {
        Reply::Conduit(_) => Ok(Document(serde_json::json!({ "v": 1, "type": "done" }))),
        _ => Err(mismatch()),
    }
}

fn usage(why: String) -> Problem {
    Problem::new(Code::Usage, "the request was not understood; nothing was changed", why)
}
