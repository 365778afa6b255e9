//! Waiting: for the first of two, until a time is over, for all of some. Polled in a fixed order, so that the
//! simulator's runs repeat; tied to no runtime.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use crate::env::Clock;

/// Which of two came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum First<A, B> {
    /// The one named first; it wins a tie.
    Left(A),
    /// The other one.
    Right(B),
}

/// Waits for the first of two, and drops the other.
pub(crate) async fn race<A, B>(left: impl Future<Output = A>, right: impl Future<Output = B>) -> First<A, B> {
    let (mut left, mut right) = (pin!(left), pin!(right));
    poll_fn(|cx| match left.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(First::Left(value)),
        Poll::Pending => right.as_mut().poll(cx).map(First::Right),
    })
    .await
}

/// Waits for at most `duration`; `None` if that was not enough.
pub(crate) async fn within<T>(clock: &impl Clock, duration: Duration, wait: impl Future<Output = T>) -> Option<T> {
    match race(wait, clock.sleep(duration)).await {
        First::Left(value) => Some(value),
        First::Right(()) => None,
    }
}

/// Runs some futures side by side on this task and waits for all of them. Results are in the given order.
pub(crate) async fn all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    enum Slot<F: Future> {
        Running(Pin<Box<F>>),
        Done(F::Output),
    }
    let mut slots: Vec<Option<Slot<F>>> = futures.into_iter().map(|f| Some(Slot::Running(Box::pin(f)))).collect();
    poll_fn(|cx| {
        let mut ready = true;
        for slot in &mut slots {
            if let Some(Slot::Running(future)) = slot {
                match future.as_mut().poll(cx) {
                    Poll::Ready(value) => *slot = Some(Slot::Done(value)),
                    Poll::Pending => ready = false,
                }
            }
        }
        if !ready {
            return Poll::Pending;
        }
        let taken = slots.iter_mut().filter_map(Option::take);
        Poll::Ready(
            taken
                .filter_map(|slot| match slot {
                    Slot::Done(value) => Some(value),
                    Slot::Running(_) => None,
                })
                .collect(),
        )
    })
    .await
}
