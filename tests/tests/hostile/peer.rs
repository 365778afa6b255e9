//! The peer itself: bare quinn with a member's certificate.

use std::future::Future;
use std::sync::{Arc, LazyLock, Mutex};

use tidegate::lab::{self, Device};
use tidegate::os::net::identity::DeviceKey;
use tidegate_protocol::id::{DeviceId, Nonce, Sequence};
use tidegate_protocol::library_sync::{Head, Row};
use tidegate_protocol::wire::{ALPN, Request, Response};
use tidegate_tests::trusted::PATIENCE;

use crate::raw;

/// One for all peers: a connection that is closed still has to say so.
pub(crate) static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap());

/// What the peer answers to a question of the victim; `None` is silence.
pub(crate) type Answers = Arc<dyn Fn(&Request) -> Option<Vec<u8>> + Send + Sync>;

/// A connection under a member's key.
pub(crate) struct Peer {
    pub(crate) connection: quinn::Connection,
    asked: Arc<Mutex<Vec<Request>>>,
}

impl Peer {
    pub(crate) fn dial(key: &DeviceKey, victim: &Device, answers: Answers) -> Self {
        let connection = RUNTIME.block_on(soon("handshake", raw::dial(key, &[ALPN], victim.address()))).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (streams, seen) = (connection.clone(), Arc::clone(&asked));
        RUNTIME.spawn(async move {
            while let Ok((mut send, mut receive)) = streams.accept_bi().await {
                let (answers, seen) = (Arc::clone(&answers), Arc::clone(&seen));
                tokio::spawn(async move {
                    while let Some(frame) = frame(&mut receive).await {
                        let request = Request::decode(&frame).unwrap();
                        let answer = answers(&request);
                        if let Some(answer) = answer
                            && send.write_all(&framed(&answer)).await.is_err()
                        {
                            return;
                        }
                        seen.lock().unwrap().push(request);
                    }
                    let _ = send.finish();
                    let _ = send.stopped().await;
                });
            }
        });
        Self { connection, asked }
    }

    /// One that answers nothing.
    pub(crate) fn silent(key: &DeviceKey, victim: &Device) -> Self {
        Self::dial(key, victim, Arc::new(|_| None))
    }

    /// Sends these bytes on a stream of its own and reads what comes back, up to the end of the first frame.
    pub(crate) fn send(&self, bytes: &[u8]) -> Option<Response> {
        RUNTIME.block_on(soon("answer", async {
            let (mut send, mut receive) = self.connection.open_bi().await.ok()?;
            send.write_all(bytes).await.ok()?;
            let frame = frame(&mut receive).await?;
            Some(Response::decode(&frame).unwrap())
        }))
    }

    pub(crate) fn ask(&self, request: &Request) -> Response {
        self.send(&framed(&request.encode())).expect("the victim answers")
    }

    /// Waits until the victim has asked this and has been answered.
    pub(crate) fn await_asked(&self, what: &str, is_it: impl Fn(&Request) -> bool) {
        let was_asked = lab::eventually(PATIENCE, || self.asked.lock().unwrap().iter().any(&is_it));
        assert!(was_asked, "{what} was never asked: {:?}", self.asked.lock().unwrap());
    }

    /// The victim's head, and the newest that it holds of `of`.
    pub(crate) fn heads(&self, of: DeviceId) -> (Head, Head) {
        let request =
            Request::Heads { nonce: Nonce::from_bytes([7; 16]), locations: Vec::new(), conduit: None, own: None };
        let Response::Heads { own, others, .. } = self.ask(&request) else { panic!("no heads") };
        let other = others.iter().map(|head| head.verify().unwrap()).find(|head| head.device == of).unwrap();
        (own.verify().unwrap(), other)
    }

    pub(crate) fn rows(&self, head: &Head) -> Vec<Row> {
        let request = Request::Rows { device: head.device, epoch: head.epoch, from: Sequence::ZERO };
        let Response::Rows(rows) = self.ask(&request) else { panic!("no rows") };
        assert_eq!(rows.upto, head.sequence);
        rows.rows
    }
}

pub(crate) async fn soon<F: Future>(what: &str, work: F) -> F::Output {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("{what} did not happen in time"))
}

pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u32).to_be_bytes()[..], message].concat()
}

async fn frame(receive: &mut quinn::RecvStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    receive.read_exact(&mut length).await.ok()?;
    let mut bytes = vec![0; u32::from_be_bytes(length) as usize];
    receive.read_exact(&mut bytes).await.ok()?;
    Some(bytes)
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.connection.close(0_u32.into(), b"");
    }
}
