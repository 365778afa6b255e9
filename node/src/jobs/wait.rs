//! Waiting: for the first of two, or until a time is over. Polled in a fixed order, so that the
//! simulator's runs repeat; tied to no runtime.

use std::future::{Future, poll_fn};
use std::pin::pin;
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
