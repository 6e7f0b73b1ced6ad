//! Whether what the whole server rests on gets on: `/healthz` reads it here.
//!
//! A task that all streams share runs by [`essential`] or [`restarted`]. Both note when a poll of it begins and ends, so that a
//! call that never returns is seen from outside, and both see it panic.
//!
//! Not here: the store's threads, which say so themselves (`store::Stuck`), and tasks of one stream or one client.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// What takes longer without a sign of life is stuck.
const PATIENCE: Duration = Duration::from_secs(10);
/// Before a task that panicked is started again.
const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 1000 });
/// How the process ends when what all share is lost: `EX_SOFTWARE` of sysexits.
const SOFTWARE: i32 = 70;

/// The parts that run now. One list for the process, as with metrics: whoever is part of it needs no more than a name.
static PARTS: Mutex<Vec<Weak<Part>>> = Mutex::new(Vec::new());

fn parts() -> MutexGuard<'static, Vec<Weak<Part>>> {
    PARTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A part that does not get on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Stuck {
    pub part: &'static str,
    pub since: Duration,
    /// Recording stands still with it.
    pub stops_recording: bool,
}

/// What does not get on now.
pub(crate) fn stuck() -> Vec<Stuck> {
    parts().iter().filter_map(Weak::upgrade).filter_map(|part| part.stuck()).collect()
}

/// A part of the server that all streams share, for as long as it is held.
#[derive(Debug)]
pub(crate) struct Part {
    name: &'static str,
    patience: Duration,
    stops_recording: bool,
    /// When what it does now began, or its last sign of life; none while it waits.
    busy: Mutex<Option<Instant>>,
}

impl Part {
    /// A part that is stuck when it gives no sign of life for `patience` while it does something.
    pub(crate) fn new(name: &'static str, patience: Duration, stops_recording: bool) -> Arc<Part> {
        let part = Arc::new(Part { name, patience, stops_recording, busy: Mutex::new(None) });
        let mut parts = parts();
        parts.retain(|held| held.strong_count() > 0);
        parts.push(Arc::downgrade(&part));
        part
    }

    /// A sign of life: something begins, or goes on.
    pub(crate) fn beat(&self) {
        *self.busy() = Some(Instant::now());
    }

    /// It waits for something to do.
    pub(crate) fn rest(&self) {
        *self.busy() = None;
    }

    fn busy(&self) -> MutexGuard<'_, Option<Instant>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stuck(&self) -> Option<Stuck> {
        let since = self.busy().map(|begun| begun.elapsed()).filter(|since| *since > self.patience)?;
        Some(Stuck { part: self.name, since, stops_recording: self.stops_recording })
    }
}

/// Runs what every stream rests on. Should it panic, what it leaves cannot be trusted and nobody would do its work: the process
/// ends, and its service manager starts it again. Nothing acknowledged is lost by that.
pub(crate) async fn essential<F: Future>(name: &'static str, task: F) -> F::Output {
    let part = Part::new(name, PATIENCE, true);
    match (Watched { part, task: Box::pin(task) }).await {
        Ok(output) => output,
        Err(Panicked) => {
            tracing::error!(part = name, "a part that everything rests on panicked: the process ends");
            std::process::exit(SOFTWARE);
        }
    }
}

/// Runs a task that shares nothing with others that a panic could leave half changed; one that panics is made again.
pub(crate) async fn restarted<F: Future<Output = ()>>(name: &'static str, mut make: impl FnMut() -> F) {
    loop {
        let part = Part::new(name, PATIENCE, false);
        if (Watched { part, task: Box::pin(make()) }).await.is_ok() {
            return;
        }
        tracing::error!(part = name, "a part of the server panicked: it is started again");
        metrics::counter!("kinora_panics_total", "part" => name).increment(1);
        tokio::time::sleep(PAUSE).await;
    }
}

/// Beats as long as the runtime runs tasks and timers.
pub(crate) async fn beat_runtime() {
    let part = Part::new("runtime", PATIENCE, true);
    loop {
        part.beat();
        tokio::time::sleep(PAUSE).await;
    }
}

struct Panicked;

/// A task whose polls are noted.
struct Watched<F> {
    part: Arc<Part>,
    task: Pin<Box<F>>,
}

impl<F: Future> Future for Watched<F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.part.beat();
        let polled = catch_unwind(AssertUnwindSafe(|| self.task.as_mut().poll(context)));
        self.part.rest();
        match polled {
            Ok(polled) => polled.map(Ok),
            Err(_) => Poll::Ready(Err(Panicked)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_stuck(name: &str) -> bool {
        stuck().iter().any(|stuck| stuck.part == name)
    }

    #[test]
    fn a_part_is_stuck_from_its_last_sign_of_life_until_it_rests_or_is_gone() {
        let part = Part::new("a test's", Duration::ZERO, false);
        assert!(!is_stuck("a test's"), "it waits");
        part.beat();
        assert!(is_stuck("a test's"));
        part.rest();
        assert!(!is_stuck("a test's"));
        part.beat();
        drop(part);
        assert!(!is_stuck("a test's"));
        let patient = Part::new("a patient test's", Duration::from_secs(3600), false);
        patient.beat();
        assert!(!is_stuck("a patient test's"));
    }

    #[tokio::test]
    async fn a_task_that_panics_is_made_again_until_it_ends() {
        let mut made = 0;
        restarted("a failing test's", || {
            made += 1;
            let fails = made < 3;
            async move {
                tokio::task::yield_now().await;
                assert!(!fails, "as asked for");
            }
        })
        .await;
        assert_eq!(made, 3);
    }

    #[tokio::test]
    async fn a_task_that_blocks_is_seen_from_outside() {
        let part = Part::new("a blocking test's", Duration::ZERO, false);
        let task = async { assert!(is_stuck("a blocking test's")) };
        assert!((Watched { part: part.clone(), task: Box::pin(task) }).await.is_ok());
        assert!(!is_stuck("a blocking test's"));
    }
}
