//! `GET /events`: what happens, as server-sent events. Ids are `<boot>-<number>`, numbers grow by one; a listener that
//! comes back with `Last-Event-ID` gets what it missed, or first an event `gap` and is to look at the status again.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde::Deserialize;
use serde_json::{Value, json};

use super::problem::{Code, Problem};
use super::router::Node;
use crate::events::{LISTENERS_MAX, Listening, Numbered};
use crate::format::Moment;

/// Time between two signs of life while nothing happens.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// What is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Asked {
    /// Kinds, separated by commas; a kind stands for all that begin with it. All if absent.
    types: Option<String>,
    /// As `Last-Event-ID`.
    since: Option<String>,
    /// Ends after what is kept, instead of waiting for more.
    once: bool,
}

struct Told {
    listening: Listening,
    types: Vec<String>,
    once: bool,
    begun: bool,
}

/// The stream.
pub(super) async fn stream(
    State(face): Node,
    headers: HeaderMap,
    asked: Result<Query<Asked>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Problem> {
    let refused = |why: String| Problem::new(Code::Usage, "the request was not understood; nothing was changed", why);
    let Query(asked) = asked.map_err(|rejection| refused(rejection.body_text()))?;
    let header = headers.get("last-event-id").and_then(|value| value.to_str().ok());
    let last = asked.since.as_deref().or(header);
    // An id that is none of ours is an id that is not kept any more.
    let last = last.map(|id| parse(id).unwrap_or((0, 0)));
    let listening = face.listen(last).ok_or_else(|| {
        let why = format!("{LISTENERS_MAX} listen already");
        Problem::new(Code::Refused, "nobody else can listen now; nothing was changed", why).next("try again later")
    })?;
    let types = asked.types.iter().flat_map(|types| types.split(',')).map(|word| word.trim().to_owned());
    let told =
        Told { listening, types: types.filter(|word| !word.is_empty()).collect(), once: asked.once, begun: false };
    let body = Body::from_stream(stream::unfold(told, next));
    Ok(([(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")], body).into_response())
}

fn parse(id: &str) -> Option<(u64, u64)> {
    let (boot, number) = id.split_once('-')?;
    Some((u64::from_str_radix(boot, 16).ok()?, number.parse().ok()?))
}

async fn next(mut told: Told) -> Option<(Result<Bytes, std::convert::Infallible>, Told)> {
    if !told.begun {
        told.begun = true;
        let mut text = String::from(": tidegate\n\n");
        if told.listening.gap {
            let id = format!("{:x}-{}", told.listening.boot, told.listening.from);
            text.push_str(&frame(&id, "gap", &json!({ "v": 1, "type": "event", "event": "gap" })));
        }
        for numbered in std::mem::take(&mut told.listening.missed) {
            text.push_str(&told.text(&numbered));
        }
        return Some((Ok(Bytes::from(text)), told));
    }
    if told.once {
        return None;
    }
    let text = match tokio::time::timeout(HEARTBEAT, told.listening.coming.recv()).await {
        Ok(Ok(numbered)) => told.text(&numbered),
        // Too slow, or the node ends.
        Ok(Err(_)) => return None,
        Err(_) => String::from(": alive\n\n"),
    };
    Some((Ok(Bytes::from(text)), told))
}

impl Told {
    fn text(&self, numbered: &Numbered) -> String {
        let kind = numbered.event.kind();
        let is_wanted =
            |word: &String| kind == word || kind.strip_prefix(word.as_str()).is_some_and(|r| r.starts_with('.'));
        if !self.types.is_empty() && !self.types.iter().any(is_wanted) {
            return String::new();
        }
        let id = format!("{:x}-{}", self.listening.boot, numbered.sequence);
        let mut document = serde_json::to_value(&*numbered.event).expect("events are plain data");
        if let Value::Object(members) = &mut document {
            members.insert("v".to_owned(), json!(1));
            members.insert("type".to_owned(), json!("event"));
            members.insert("id".to_owned(), json!(id));
            members.insert("at".to_owned(), json!(Moment(numbered.at_ms)));
        }
        frame(&id, kind, &document)
    }
}

/// A frame; documents have no line breaks.
fn frame(id: &str, kind: &str, document: &Value) -> String {
    format!("id: {id}\nevent: {kind}\ndata: {document}\n\n")
}
