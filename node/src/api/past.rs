//! The routes of the past: the trash.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::post;

use super::Face;
use super::body::TrashBody;
use super::document::{TrashDocument, document};
use super::router::{Answer, Body, Document, Node, mismatch};
use crate::core::command::{Command, Reply};
use crate::core::past::TrashWhat;

/// The routes.
pub(super) fn routes() -> Router<Arc<dyn Face>> {
    Router::new().route("/trash", post(list)).route("/trash/restore", post(restore)).route("/trash/purge", post(purge))
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
