//! Fetching content: one request, and the pieces that answer it, checked for order and amount as they come.
//!
//! What a piece holds is not checked here: that is for whoever knows what the content must hash to.

use std::collections::VecDeque;

use bytes::Bytes;
use tidegate_protocol::file_sync::JobKey;
use tidegate_protocol::hash::ContentHash;
use tidegate_protocol::id::DeviceId;
use tidegate_protocol::path::EntryPath;
use tidegate_protocol::wire::{Fetch, FetchFailure, Part, Piece, Refusal, Request, Response, Want};

use super::ask::{ANSWER_WAIT, ask, receive};
use super::pace::Pace;
use super::wait::within;
use crate::env::{Env, Network, NetworkError, Stream};

/// Why a fetch broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// The wire, or what came over it.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The source said no to all of it.
    #[error("the source refused: {0}")]
    Refused(Refusal),
}

/// What arrived of a want.
#[derive(Debug)]
pub(crate) enum Arrived {
    /// Its next bytes.
    Bytes(Vec<u8>),
    /// Nothing more, and why.
    Failed(FetchFailure),
}

/// A fetch that runs on a stream of its own.
pub(crate) struct Fetching<'a, E: Env> {
    env: &'a E,
    pace: &'a Pace,
    stream: <E::Network as Network>::Stream,
    /// Bytes still to come of each want.
    left: Vec<u64>,
    /// The want whose turn it is.
    at: usize,
    ready: VecDeque<Piece>,
}

impl<'a, E: Env> Fetching<'a, E> {
    /// Asks. Wants must not be of length 0: nothing would answer them.
    pub(crate) async fn begin(
        env: &'a E,
        pace: &'a Pace,
        device: DeviceId,
        job: JobKey,
        wants: Vec<Want>,
    ) -> Result<Self, FetchError> {
        let left = wants.iter().map(|want| want.length).collect();
        let request = Bytes::from(Request::Fetch(Fetch { job, wants }).encode());
        let opening = async {
            let mut stream = env.network().open(device).await?;
            stream.send(request).await?;
            stream.finish().await?;
            Ok::<_, NetworkError>(stream)
        };
        let stream = within(env.clock(), ANSWER_WAIT, opening).await.unwrap_or(Err(NetworkError::TimedOut))?;
        Ok(Self { env, pace, stream, left, at: 0, ready: VecDeque::new() })
    }

    /// What arrives next, and of which want; `None` when every want is complete or failed.
    pub(crate) async fn next(&mut self) -> Result<Option<(usize, Arrived)>, FetchError> {
        while self.left.get(self.at) == Some(&0) {
            self.at += 1;
        }
        if self.at == self.left.len() {
            return if self.ready.is_empty() { Ok(None) } else { Err(broken("more content than was asked for")) };
        }
        if self.ready.is_empty() {
            self.ready = self.frame().await?;
        }
        let piece = self.ready.pop_front().ok_or_else(|| broken("an empty frame of content"))?;
        if piece.want as usize != self.at {
            return Err(broken("content out of order"));
        }
        let want = self.at;
        match piece.part {
            Part::Failed(failure) => {
                self.left[want] = 0;
                Ok(Some((want, Arrived::Failed(failure))))
            }
            Part::Bytes(bytes) if bytes.is_empty() || bytes.len() as u64 > self.left[want] => {
                Err(broken("a piece of a wrong length"))
            }
            Part::Bytes(bytes) => {
                self.left[want] -= bytes.len() as u64;
                Ok(Some((want, Arrived::Bytes(bytes))))
            }
        }
    }

    async fn frame(&mut self) -> Result<VecDeque<Piece>, FetchError> {
        let received = within(self.env.clock(), ANSWER_WAIT, receive(&mut self.stream)).await;
        match received.unwrap_or(Err(NetworkError::TimedOut))? {
            Some(Response::Pieces(pieces)) => {
                let bytes = pieces.iter().map(|piece| match &piece.part {
                    Part::Bytes(bytes) => bytes.len() as u64,
                    Part::Failed(_) => 0,
                });
                self.pace.take(self.env.clock(), bytes.sum()).await;
                Ok(pieces.into())
            }
            Some(Response::Refused(refusal)) => Err(FetchError::Refused(refusal)),
            Some(other) => Err(wrong(&other)),
            None => Err(NetworkError::Reset.into()),
        }
    }
}

/// Asks for the chunk hashes of a large content.
pub(crate) async fn outline<E: Env>(
    env: &E,
    device: DeviceId,
    job: JobKey,
    path: EntryPath,
    content: ContentHash,
) -> Result<Vec<[u8; 32]>, FetchError> {
    match ask(env, device, &Request::Outline { job, path, content }).await? {
        Response::Outline { chunks } => Ok(chunks),
        Response::Refused(refusal) => Err(FetchError::Refused(refusal)),
        other => Err(wrong(&other)),
    }
}

fn broken(what: &str) -> FetchError {
    NetworkError::Protocol(what.to_owned()).into()
}

fn wrong(response: &Response) -> FetchError {
    let what = match response {
        Response::Audited { .. } => "findings",
        Response::Hello(_) => "hello",
        Response::Heads { .. } => "heads",
        Response::Rows(_) => "rows",
        Response::JobAccepted { .. } => "a job's acceptance",
        Response::JobStatus(_) => "a job's status",
        Response::Coordinated { .. } | Response::Shown(_) => "a coordinator's answer",
        Response::Outline { .. } => "an outline",
        Response::Pieces(_) => "content",
        Response::Refused(_) => "a refusal",
        Response::Looking => "an answer to a wish to look",
    };
    broken(&format!("{what} came for an answer to something else"))
}
