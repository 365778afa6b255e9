//! Asking a member one question and getting one answer.

use std::time::Duration;

use bytes::Bytes;
use tidegate_protocol::id::DeviceId;
use tidegate_protocol::limits::ANSWER_MS_MAX;
use tidegate_protocol::wire::{Request, Response};

use super::wait::within;
use crate::env::{Env, Network, NetworkError, Stream};

/// Longest wait for an answer.
pub(crate) const ANSWER_WAIT: Duration = Duration::from_millis(ANSWER_MS_MAX);

/// Asks on a stream of its own. Whatever happens, there is exactly one result, after [`ANSWER_WAIT`] at most.
pub(crate) async fn ask<E: Env>(env: &E, device: DeviceId, request: &Request) -> Result<Response, NetworkError> {
    let exchange = async {
        let mut stream = env.network().open(device).await?;
        stream.send(Bytes::from(request.encode())).await?;
        stream.finish().await?;
        receive(&mut stream).await?.ok_or(NetworkError::Reset)
    };
    within(env.clock(), ANSWER_WAIT, exchange).await.unwrap_or(Err(NetworkError::TimedOut))
}

/// Receives and decodes one answer; `None` when the peer has finished.
pub(crate) async fn receive<S: Stream>(stream: &mut S) -> Result<Option<Response>, NetworkError> {
    let Some(frame) = stream.receive().await? else { return Ok(None) };
    Response::decode(&frame).map(Some).map_err(|error| NetworkError::Protocol(error.to_string()))
}
