//! The routes of the past: the trash, and what was done.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::{get, post};

use super::Face;
use super::body::{TrashBody, UndoBody, VerifyBody};
use super::document::{AuditDocument, ReplayDocument, TrashDocument, UndoDocument, document};
use super::router::{Answer, Body, Document, Node, mismatch, no_such};
use crate::core::command::{Command, Reply};
use crate::core::past::TrashWhat;

/// The routes.
pub(super) fn routes() -> Router<Arc<dyn Face>> {
    Router::new()
        .route("/conduits/{conduit}/verify", post(verify_all).get(verified))
        .route("/generations/{conduit}/{number}/verify", post(verify))
        .route("/generations/{conduit}/{number}/undo", post(undo))
        .route("/generations/{conduit}/{number}/replay", get(replay))
        .route("/trash", post(list))
        .route("/trash/restore", post(restore))
        .route("/trash/purge", post(purge))
}

async fn verify(
    State(face): Node,
    Path((conduit, number)): Path<(String, u64)>,
    Body(body): Body<VerifyBody>,
) -> Answer {
    audit(&face, Command::Verify { conduit, number: Some(number), heal: body.heal }).await
}

async fn verify_all(State(face): Node, Path(conduit): Path<String>, Body(body): Body<VerifyBody>) -> Answer {
    audit(&face, Command::Verify { conduit, number: None, heal: body.heal }).await
}

async fn verified(State(face): Node, Path(conduit): Path<String>) -> Answer {
    audit(&face, Command::Verified { conduit }).await
}

async fn audit(face: &Arc<dyn Face>, command: Command) -> Answer {
    match face.command(command).await? {
        Reply::Audit(view) => Ok(Document(document("verification", &AuditDocument::from(*view)))),
        _ => Err(mismatch()),
    }
}

async fn undo(State(face): Node, Path((conduit, number)): Path<(String, u64)>, Body(body): Body<UndoBody>) -> Answer {
    let wait_ms = body.wait_ms.unwrap_or_else(|| face.gate_timeout_ms());
    let command = Command::Undo { conduit, number, dry_run: body.dry_run, approve: body.approve, wait_ms };
    match face.command(command).await? {
        Reply::Undo(view) => Ok(Document(document("undo", &UndoDocument::from(*view)))),
        _ => Err(mismatch()),
    }
}

async fn replay(State(face): Node, Path((conduit, number)): Path<(String, String)>) -> Answer {
    let number = match number.as_str() {
        "latest" => None,
        text => Some(text.parse().map_err(|_| no_such("a generation has a number, or is the latest"))?),
    };
    match face.command(Command::Replay { conduit, number }).await? {
        Reply::Replay(view) => Ok(Document(document("replay", &ReplayDocument::from(*view)))),
        _ => Err(mismatch()),
    }
}

async fn trash(face: &Arc<dyn Face>, body: TrashBody, what: TrashWhat) -> Answer {
    match face.command(Command::Trash(body.ask(what)?)).await? {
        Reply::Trash(view) => Ok(Document(document("trash", &TrashDocument::from(*view)))),
        _ => Err(mismatch()),
    }
}

async fn list(State(face): Node, Body(body): Body<TrashBody>) -> Answer {
    trash(&face, body, TrashWhat::List).await
}

async fn restore(State(face): Node, Body(body): Body<TrashBody>) -> Answer {
    trash(&face, body, TrashWhat::Restore).await
}

async fn purge(State(face): Node, Body(body): Body<TrashBody>) -> Answer {
    trash(&face, body, TrashWhat::Purge).await
}
