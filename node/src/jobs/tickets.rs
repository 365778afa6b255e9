//! Questions that wait for one answer each, by ticket.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_channel::{Receiver, Sender};

use crate::core::io::Ticket;

/// Open questions.
#[derive(Debug)]
pub(crate) struct Tickets<T>(Arc<Mutex<Open<T>>>);

#[derive(Debug)]
struct Open<T> {
    last: u64,
    waiting: BTreeMap<Ticket, Sender<T>>,
    closed: bool,
}

/// One open question. Dropping it gives up the answer.
#[derive(Debug)]
pub(crate) struct Waiting<T> {
    ticket: Ticket,
    answer: Receiver<T>,
    tickets: Arc<Mutex<Open<T>>>,
}

impl<T> Default for Tickets<T> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Open { last: 0, waiting: BTreeMap::new(), closed: false })))
    }
}

impl<T> Tickets<T> {
    /// Draws a ticket.
    pub(crate) fn open(&self) -> Waiting<T> {
        let (sender, answer) = async_channel::bounded(1);
        let mut open = lock(&self.0);
        open.last += 1;
        let ticket = Ticket(open.last);
        if !open.closed {
            open.waiting.insert(ticket, sender);
        }
        Waiting { ticket, answer, tickets: Arc::clone(&self.0) }
    }

    /// Answers a question, if somebody still waits.
    pub(crate) fn answer(&self, ticket: Ticket, answer: T) {
        let waiting = lock(&self.0).waiting.remove(&ticket);
        if let Some(sender) = waiting {
            // Room for the one answer is there; a reader that left does not want it.
            let _ = sender.try_send(answer);
        }
    }

    /// No answer will come any more, now or later.
    pub(crate) fn close(&self) {
        let mut open = lock(&self.0);
        open.closed = true;
        open.waiting.clear();
    }
}

impl<T> Waiting<T> {
    /// Its ticket.
    pub(crate) const fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// Waits for the answer; `None` if none will come.
    pub(crate) async fn wait(self) -> Option<T> {
        self.answer.recv().await.ok()
    }
}

impl<T> Drop for Waiting<T> {
    fn drop(&mut self) {
        lock(&self.tickets).waiting.remove(&self.ticket);
    }
}

fn lock<T>(open: &Mutex<Open<T>>) -> MutexGuard<'_, Open<T>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}
