//! Whether a connection's answers get anywhere: HTTP/2 may leave each of them waiting for room (RFC 9113 section 10.5) while
//! the connection itself looks alive.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use http::Response;
use http_body::{Frame, SizeHint};

/// The answers that are being sent over a connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress(Arc<Mutex<Answers>>);

#[derive(Debug, Default)]
struct Answers {
    next: u64,
    /// Since when each waits for its client; none while the client waits for it.
    waiting: HashMap<u64, Option<Instant>>,
}

impl Progress {
    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer, watched on its way.
    pub(super) fn watch(&self, response: Response<Body>) -> Response<Body> {
        response.map(|inner| {
            let mut answers = self.answers();
            let number = answers.next;
            answers.next += 1;
            answers.waiting.insert(number, Some(Instant::now()));
            drop(answers);
            Body::new(Watched { inner, number, progress: self.clone() })
        })
    }

    /// Whether there are answers, and every one has waited for the client longer than `patience`.
    pub(super) fn is_stuck(&self, patience: Duration) -> bool {
        let answers = self.answers();
        let stuck = |since: &Option<Instant>| since.is_some_and(|since| since.elapsed() > patience);
        !answers.waiting.is_empty() && answers.waiting.values().all(stuck)
    }
}

/// The body of an answer.
struct Watched {
    inner: Body,
    number: u64,
    progress: Progress,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let outcome = Pin::new(&mut self.inner).poll_frame(context);
        let since = outcome.is_ready().then(Instant::now);
        self.progress.answers().waiting.insert(self.number, since);
        outcome
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.progress.answers().waiting.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn answers_that_nobody_takes_are_stuck_and_those_that_wait_for_us_are_not() {
        let progress = Progress::default();
        assert!(!progress.is_stuck(Duration::ZERO), "nothing is asked for");
        let mut first = progress.watch(Response::new(Body::from("media"))).into_body();
        assert!(progress.is_stuck(Duration::ZERO) && !progress.is_stuck(Duration::from_secs(60)));
        // An answer whose next bytes are still to come, such as events, waits for us.
        let mut events = progress
            .watch(Response::new(Body::from_stream(futures_util::stream::pending::<Result<Bytes, axum::Error>>())));
        let mut next = Box::pin(events.body_mut().frame());
        assert!(futures_util::poll!(next.as_mut()).is_pending());
        assert!(!progress.is_stuck(Duration::ZERO));
        drop(next);
        drop(events);
        assert!(first.frame().await.is_some());
        assert!(progress.is_stuck(Duration::ZERO), "the client has a frame, and asks for no other");
        drop(first);
        assert!(!progress.is_stuck(Duration::ZERO));
    }
}
