//! Answering a member: reads requests from one stream, has the core decide, writes what it decided.
//!
//! A stream carries any number of requests, one after the other. A frame that is no request ends the stream;
//! it is answered, counted, and never reaches the core.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tidegate_protocol::limits::{ANSWER_MS_MAX, FRAME_BYTES_MAX};
use tidegate_protocol::wire::{Refusal, RefusalCode, Request, Response};

use super::pace::Pace;
use super::wait::within;
use super::{Context, serve};
use crate::core::io::{Input, Read};
use crate::env::{Env, NetworkError, Stream};
use tidegate_protocol::id::LocationId;
use tidegate_protocol::wire::FetchFailure;

/// Longest wait for a request on an open stream.
const REQUEST_WAIT: Duration = Duration::from_millis(ANSWER_MS_MAX);

/// What the core decided about a request.
#[derive(Debug)]
pub(crate) enum Decided {
    /// To send this.
    Respond(Response),
    /// To send content.
    Serve {
        /// Of which location.
        location: LocationId,
        /// What, in the order asked for.
        reads: Vec<Result<Read, FetchFailure>>,
        /// The limit of the conduit for which it is.
        pace: Arc<Pace>,
    },
}

/// Serves one incoming stream until the peer finishes it, breaks it, or stays silent.
pub(crate) async fn answer<E: Env>(context: Context<E>, mut stream: <E::Network as crate::env::Network>::Stream) {
    loop {
        match within(context.env.clock(), REQUEST_WAIT, stream.receive()).await {
            Some(Ok(Some(frame))) => {
                if answer_one(&context, &mut stream, &frame).await.is_err() {
                    return;
                }
            }
            Some(Ok(None)) => break,
            Some(Err(_)) | None => return,
        }
    }
    // The peer has all it asked for; if it is gone by now, there is nobody to tell.
    let _ = stream.finish().await;
}

async fn answer_one<E: Env, S: Stream>(context: &Context<E>, stream: &mut S, frame: &[u8]) -> Result<(), NetworkError> {
    let request = match Request::decode(frame) {
        Ok(request) => request,
        Err(error) => {
            context.counters.undecodable.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(peer = %stream.peer().short(), %error, "a stream was cut: not a request");
            send(stream, Response::Refused(Refusal::new(RefusalCode::Malformed, error.to_string()))).await?;
            stream.finish().await?;
            return Err(NetworkError::Protocol(error.to_string()));
        }
    };
    let peer = stream.peer();
    let waiting = context.requests.open();
    let ticket = waiting.ticket();
    if !context.tell(Input::Request { ticket, peer, request }).await {
        return Err(NetworkError::Disconnected);
    }
    match waiting.wait().await {
        Some(Decided::Respond(response)) => send(stream, response).await,
        Some(Decided::Serve { location, reads, pace }) => serve::serve(context, stream, location, reads, &pace).await,
        None => Err(NetworkError::Disconnected),
    }
}

async fn send<S: Stream>(stream: &mut S, response: Response) -> Result<(), NetworkError> {
    let mut bytes = response.encode();
    if bytes.len() > FRAME_BYTES_MAX {
        tracing::error!(bytes = bytes.len(), "an answer is larger than a frame");
        bytes = Response::Refused(Refusal::new(RefusalCode::Internal, "the answer is larger than a frame")).encode();
    }
    stream.send(Bytes::from(bytes)).await
}
