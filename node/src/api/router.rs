//! The routes: one handler each, one command each.
//!
//! A body is at most [`BODY_BYTES_MAX`]; every refusal, also axum's own, is a problem document.

use std::path::Path as FilePath;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post, put};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tidegate_protocol::id::{Label, LocationId};
use tidegate_protocol::index::Rights;
use tidegate_protocol::wire::JobControl;

use super::body::{Ask, ConduitNew, ConduitSet, Join, NewLocation, Rename, Rescan, Run};
use super::document::{
    ConduitDocument, GenerationDocument, GenerationItems, JobDocument, LocationDocument, PlanDocument, StartedDocument,
    StatusDocument, document, list,
};
use super::problem::{Code, Problem};
use super::{Face, PairingAsk, root};
use crate::core::command::{Command, Reply, StatusView};

/// Largest body, in bytes: the largest request is a conduit with its settings.
pub const BODY_BYTES_MAX: usize = 64 << 10;

pub(super) type Node = State<Arc<dyn Face>>;
pub(super) type Answer = Result<Document, Problem>;

/// All routes over one node.
pub fn router(face: Arc<dyn Face>) -> Router {
    let v1 = Router::new()
        .route("/daemon", get(daemon))
        .route("/stop", post(stop))
        .route("/status", get(status))
        .route("/library", axum::routing::delete(leave))
        .route("/devices", get(devices))
        .route("/devices/{name}/ping", get(ping))
        .route("/devices/{name}", get(device).patch(rename_device).delete(revoke))
        .route("/pairing", get(pairing))
        .route("/pairing/start", post(pairing_start))
        .route("/pairing/cancel", post(pairing_cancel))
        .route("/pairing/join", post(pairing_join))
        .route("/locations", get(locations).post(add_location))
        .route("/locations/{name}", get(location).delete(remove_location))
        .route("/locations/{name}/rescan", post(rescan))
        .route("/locations/{name}/grants/{device}", put(allow))
        .route("/conduits", get(conduits).post(create_conduit))
        .route("/conduits/{name}", patch(set_conduit).get(conduit).delete(remove_conduit))
        .route("/conduits/{name}/plan", post(plan))
        .route("/conduits/{name}/sync", post(sync))
        .route("/plans/{id}/approve", post(approve))
        .route("/jobs", get(jobs))
        .route("/jobs/{job}", get(job))
        .route("/jobs/{job}/{control}", post(control_job))
        .route("/generations", get(generations))
        .route("/generations/{conduit}/{number}", get(generation))
        .route("/events", get(super::events::stream))
        .merge(super::past::routes())
        .route("/doctor", get(doctor))
        .route("/config", get(config))
        .merge(super::conflicts::routes());
    Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .nest("/api/v1", v1)
        .fallback(|| async { no_such("there is no such path") })
        .method_not_allowed_fallback(|| async {
            (StatusCode::METHOD_NOT_ALLOWED, no_such("this path has no such method")).into_response()
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(face)
}

/// A document as a response.
pub struct Document(pub(super) Value);

impl IntoResponse for Document {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, "application/json")], self.0.to_string()).into_response()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code.status()).expect("codes have valid statuses");
        (status, [(header::CONTENT_TYPE, "application/problem+json")], self.http_document().to_string()).into_response()
    }
}

/// A JSON body; an empty one reads as `{}`.
pub struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let refused =
            |why: String| Problem::new(Code::Usage, "the request was not understood; nothing was changed", why);
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
            let mut response = refused(rejection.body_text()).into_response();
            *response.status_mut() = rejection.status();
            response
        })?;
        let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        serde_json::from_slice(text).map(Self).map_err(|error| refused(error.to_string()).into_response())
    }
}

pub(super) fn no_such(why: &str) -> Problem {
    Problem::new(Code::NoSuchName, "nothing was found; nothing was changed", why)
}

/// The core answered something else than was asked: a mistake in this program, not in the request.
pub(super) fn mismatch() -> Problem {
    Problem::new(Code::Internal, "the node gave an answer of another kind", "this is a mistake in Tidegate")
}

macro_rules! expect {
    ($reply:expr, $variant:ident) => {
        match $reply? {
            Reply::$variant(value) => value,
            _ => return Err(mismatch()),
        }
    };
}

async fn done(face: &Arc<dyn Face>, command: Command) -> Answer {
    match face.command(command).await? {
        Reply::Done | Reply::Device(_) | Reply::Location(_) | Reply::Conduit(_) => Ok(Document(json!({
            "v": 1, "type": "done"
        }))),
        Reply::Status(_)
        | Reply::Plan(_)
        | Reply::Why(_)
        | Reply::Conflicts(_)
        | Reply::Conflict(_)
        | Reply::Content(_)
        | Reply::Started(_)
        | Reply::Jobs(_)
        | Reply::History(_)
        | Reply::Generation(_)
        | Reply::Audit(_)
        | Reply::Undo(_)
        | Reply::Replay(_)
        | Reply::Trash(_) => Err(mismatch()),
    }
}

async fn view(face: &Arc<dyn Face>) -> Result<StatusView, Problem> {
    Ok(*expect!(face.command(Command::Status).await, Status))
}

async fn readyz(State(face): Node) -> Response {
    match face.ready() {
        Ok(()) => "ready\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn daemon(State(face): Node) -> Answer {
    Ok(Document(document("daemon", &face.daemon())))
}

async fn stop(State(face): Node) -> Answer {
    face.stop();
    Ok(Document(json!({ "v": 1, "type": "done" })))
}

async fn status(State(face): Node) -> Answer {
    Ok(Document(document("status", &StatusDocument::from(view(&face).await?))))
}

async fn leave(State(face): Node) -> Answer {
    done(&face, Command::LeaveLibrary).await
}

async fn devices(State(face): Node) -> Answer {
    let status = view(&face).await?;
    let all: Vec<_> = std::iter::once(status.device).chain(status.devices).collect();
    Ok(Document(list("devices", &all)))
}

async fn device(State(face): Node, Path(name): Path<String>) -> Answer {
    let device = expect!(face.command(Command::Device(name)).await, Device);
    Ok(Document(document("device", &device)))
}

async fn rename_device(State(face): Node, Path(device): Path<String>, Body(body): Body<Rename>) -> Answer {
    done(&face, Command::RenameDevice { device, name: body.name }).await
}

async fn revoke(State(face): Node, Path(name): Path<String>) -> Answer {
    done(&face, Command::RevokeDevice(name)).await
}

async fn pairing(State(face): Node) -> Answer {
    Ok(Document(document("pairing", &face.pairing(PairingAsk::Look).await?)))
}

async fn pairing_start(State(face): Node) -> Answer {
    Ok(Document(document("pairing", &face.pairing(PairingAsk::Start).await?)))
}

async fn pairing_cancel(State(face): Node) -> Answer {
    Ok(Document(document("pairing", &face.pairing(PairingAsk::Cancel).await?)))
}

async fn pairing_join(State(face): Node, Body(body): Body<Join>) -> Answer {
    let ask = PairingAsk::Join { code: body.code, at: body.at };
    Ok(Document(document("pairing", &face.pairing(ask).await?)))
}

/// A round trip that asks nothing of the index, in microseconds.
async fn ping(State(face): Node, Path(name): Path<String>) -> Answer {
    let device = expect!(face.command(Command::Device(name)).await, Device);
    let id = device.id.parse().map_err(|_| Problem::new(Code::Internal, "a device without an id", ""))?;
    let round_trip = face.ping(id).await.map_err(|why| {
        Problem::new(Code::Unreachable, format!("{} does not answer", device.name), why)
            .next("start it there: tidegate up")
            .next("look here: tidegate doctor")
    })?;
    let answer = serde_json::json!({
        "device": device.name, "address": device.address, "round_trip_us": round_trip.as_micros() as u64,
    });
    Ok(Document(document("ping", &answer)))
}

async fn locations(State(face): Node) -> Answer {
    let all: Vec<LocationDocument> = view(&face).await?.locations.into_iter().map(Into::into).collect();
    Ok(Document(list("locations", &all)))
}

async fn location(State(face): Node, Path(name): Path<String>) -> Answer {
    let location = expect!(face.command(Command::Location(name)).await, Location);
    Ok(Document(document("location", &LocationDocument::from(*location))))
}

async fn add_location(State(face): Node, Body(body): Body<NewLocation>) -> Answer {
    let refuse = |why: String| {
        let shown = tidegate_protocol::path::Escaped(body.path.as_os_str().as_encoded_bytes()).to_string();
        Problem::new(Code::RootRefused, format!("{shown} was not added; nothing was changed"), why)
    };
    if !body.path.is_absolute() {
        return Err(refuse("it is not an absolute path".to_owned()));
    }
    let root = tokio::fs::canonicalize(&body.path).await.map_err(|error| refuse(error.to_string()))?;
    if !tokio::fs::metadata(&root).await.map_err(|error| refuse(error.to_string()))?.is_dir() {
        return Err(refuse("it is not a directory".to_owned()));
    }
    let here = view(&face).await?.locations.into_iter().filter(|location| location.here);
    let taken: Vec<(String, String)> = here.map(|location| (location.name.to_string(), location.root)).collect();
    let state = tokio::fs::canonicalize(face.state_dir()).await.unwrap_or_else(|_| face.state_dir());
    root::check(&root, &state, &taken)?;
    let name = body.name.clone().unwrap_or_else(|| label_of(&root));
    if taken.iter().any(|(other, _)| other == name.as_str()) {
        let taken = Problem::new(
            Code::NameTaken,
            format!("{} was not added; nothing was changed", root.display()),
            format!("this device has a location {name} already"),
        );
        return Err(taken.next("give it another name: --name NAME"));
    }
    let id = LocationId::from_bytes(face.draw());
    let prepared = face.prepare_root(root.clone(), id).await?;
    let (identity, rules) = (prepared.identity, prepared.rules);
    if let Err(fault) = face.command(Command::AddLocation { id, name, root: root.clone(), identity, rules }).await {
        face.abandon_root(root, id).await;
        return Err(fault.into());
    }
    let location = expect!(face.command(Command::Location(id.to_string())).await, Location);
    Ok(Document(document("location", &LocationDocument::from(*location))))
}

fn label_of(root: &FilePath) -> Label {
    Label::lossy(&root.file_name().unwrap_or_default().to_string_lossy())
}

async fn remove_location(State(face): Node, Path(name): Path<String>) -> Answer {
    done(&face, Command::RemoveLocation(name)).await
}

async fn rescan(State(face): Node, Path(location): Path<String>, Body(body): Body<Rescan>) -> Answer {
    done(&face, Command::RescanLocation { location, deep: body.deep }).await
}

async fn allow(
    State(face): Node,
    Path((location, device)): Path<(String, String)>,
    Body(rights): Body<Rights>,
) -> Answer {
    done(&face, Command::Allow { location, device, rights }).await
}

async fn conduits(State(face): Node) -> Answer {
    let all: Vec<ConduitDocument> = view(&face).await?.conduits.into_iter().map(Into::into).collect();
    Ok(Document(list("conduits", &all)))
}

async fn conduit(State(face): Node, Path(name): Path<String>) -> Answer {
    let conduit = expect!(face.command(Command::Conduit(name)).await, Conduit);
    Ok(Document(document("conduit", &ConduitDocument::from(*conduit))))
}

async fn create_conduit(State(face): Node, Body(body): Body<ConduitNew>) -> Answer {
    done(&face, Command::CreateConduit(body.command()?)).await
}

async fn set_conduit(State(face): Node, Path(conduit): Path<String>, Body(body): Body<ConduitSet>) -> Answer {
    done(&face, Command::SetConduit { conduit, change: body.change()? }).await
}

async fn remove_conduit(State(face): Node, Path(name): Path<String>) -> Answer {
    done(&face, Command::RemoveConduit(name)).await
}

async fn plan(State(face): Node, Path(conduit): Path<String>, Body(ask): Body<Ask>) -> Answer {
    let wait_ms = ask.wait_ms.unwrap_or_else(|| face.gate_timeout_ms());
    let plan = expect!(face.command(Command::Plan { conduit, wait_ms }).await, Plan);
    Ok(Document(document("plan", &PlanDocument::new(&plan, ask.items_max.unwrap_or(usize::MAX)))))
}

async fn sync(State(face): Node, Path(conduit): Path<String>, Body(run): Body<Run>) -> Answer {
    let wait_ms = run.wait_ms.unwrap_or_else(|| face.gate_timeout_ms());
    let started = expect!(face.command(Command::Sync { conduit, plan: run.plan, wait_ms }).await, Started);
    Ok(Document(document("started", &StartedDocument::from(started))))
}

async fn approve(State(face): Node, Path(plan): Path<String>, Body(run): Body<Run>) -> Answer {
    let wait_ms = run.wait_ms.unwrap_or_else(|| face.gate_timeout_ms());
    let started = expect!(face.command(Command::Approve { plan, wait_ms }).await, Started);
    Ok(Document(document("started", &StartedDocument::from(started))))
}

async fn jobs(State(face): Node) -> Answer {
    let jobs = expect!(face.command(Command::Jobs).await, Jobs);
    Ok(Document(list("jobs", &jobs.into_iter().map(JobDocument::from).collect::<Vec<_>>())))
}

async fn job(State(face): Node, Path(name): Path<String>) -> Answer {
    let jobs = expect!(face.command(Command::Jobs).await, Jobs);
    let found = jobs.into_iter().find(|job| job.job == name);
    let found = found.ok_or_else(|| no_such("there is no job of that name").next("tidegate job list"))?;
    Ok(Document(document("job", &JobDocument::from(found))))
}

async fn control_job(State(face): Node, Path((job, control)): Path<(String, String)>) -> Answer {
    let control = match control.as_str() {
        "pause" => JobControl::Pause,
        "resume" => JobControl::Resume,
        "cancel" => JobControl::Cancel,
        _ => return Err(no_such("a job can be told to pause, resume or cancel")),
    };
    done(&face, Command::ControlJob { job, control }).await
}

#[derive(Deserialize)]
struct OfConduit {
    conduit: String,
}

async fn generations(
    State(face): Node,
    query: Result<Query<OfConduit>, axum::extract::rejection::QueryRejection>,
) -> Answer {
    let Query(of) = query.map_err(|rejection| {
        Problem::new(Code::Usage, "the request was not understood; nothing was changed", rejection.body_text())
    })?;
    let history = expect!(face.command(Command::History { conduit: of.conduit }).await, History);
    Ok(Document(list("generations", &history.iter().map(GenerationDocument::from).collect::<Vec<_>>())))
}

async fn generation(State(face): Node, Path((conduit, number)): Path<(String, String)>) -> Answer {
    let number = match number.as_str() {
        "latest" => None,
        text => Some(text.parse().map_err(|_| no_such("a generation has a number, or is the latest"))?),
    };
    let generation = expect!(face.command(Command::Generation { conduit, number }).await, Generation);
    Ok(Document(document("generation", &GenerationItems::from(*generation))))
}

async fn doctor(State(face): Node) -> Answer {
    Ok(Document(list("checks", &face.doctor().await)))
}

async fn config(State(face): Node) -> Answer {
    Ok(Document(list("settings", &face.settings())))
}
