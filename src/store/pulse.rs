//! Whether the store's threads get on. Each one says when it begins something, so that a call that never returns is seen from
//! outside, and a thread that fails is not missed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Writer threads, and so the most syncs at once.
pub(crate) const WRITERS: usize = 8;
/// What takes longer is stuck.
const PATIENCE: Duration = Duration::from_secs(10);

/// A part of the store that does not get on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stuck {
    /// Which part: `writers`, `scheduler`, `index`, `watch`, `removal`, `data_folder`.
    pub part: &'static str,
    /// For how long.
    pub since: Duration,
    /// Nothing is recorded until it gets on.
    pub stops_recording: bool,
}

/// The store's threads, as seen from outside.
#[derive(Default)]
pub(crate) struct Pulse {
    pub writers: [Beat; WRITERS],
    /// Rows into the index.
    pub index: Rounds,
    /// Looks at the volume, the folder and quiet blocks.
    pub watch: Rounds,
    /// Files of deleted streams.
    pub removal: Rounds,
    /// The data folder is not the one that was opened.
    pub folder_gone: Beat,
    stopping: AtomicBool,
}

impl Pulse {
    /// Ends the rounds.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        for rounds in [&self.index, &self.watch, &self.removal] {
            rounds.ring();
        }
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Does `round` every `every`, and when its bell rings, until the store closes. A round that panics is said; the next one tries
    /// again, since each begins with what is on the disk and in memory by then.
    pub fn run(&self, name: &str, rounds: &Rounds, every: Duration, round: impl Fn()) {
        loop {
            rounds.wait(every);
            if self.is_stopping() {
                return;
            }
            rounds.beat.begin();
            if catch_unwind(AssertUnwindSafe(&round)).is_ok() {
                rounds.failing.end();
            } else {
                tracing::error!(part = name, "a thread of the store panicked; it tries again");
                rounds.failing.begin();
            }
            rounds.beat.end();
        }
    }

    /// What does not get on; `scheduler` is how long the oldest arrival has waited for its tick.
    pub fn stuck(&self, scheduler: Option<Duration>) -> Vec<Stuck> {
        let writers: Vec<Duration> = self.writers.iter().filter_map(Beat::overdue).collect();
        let writers = writers.iter().max().map(|since| (*since, writers.len() == WRITERS));
        let mut found = Vec::new();
        let mut say = |part, since: Option<Duration>, stops_recording| {
            found.extend(since.map(|since| Stuck { part, since, stops_recording }));
        };
        say("writers", writers.map(|(since, _)| since), writers.is_some_and(|(_, all)| all));
        say("scheduler", scheduler.filter(|waited| *waited > PATIENCE), true);
        say("data_folder", self.folder_gone.since(), true);
        say("index", self.index.stuck(), false);
        say("watch", self.watch.stuck(), false);
        say("removal", self.removal.stuck(), false);
        found
    }
}

/// Since when something has been so.
#[derive(Default)]
pub(crate) struct Beat(Mutex<Option<Instant>>);

impl Beat {
    /// It begins, unless it has.
    pub fn begin(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Instant::now);
    }

    pub fn end(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub fn since(&self) -> Option<Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).map(|begun| begun.elapsed())
    }

    fn overdue(&self) -> Option<Duration> {
        self.since().filter(|since| *since > PATIENCE)
    }
}

/// A thread that works in rounds, and the bell that wakes it early.
#[derive(Default)]
pub(crate) struct Rounds {
    beat: Beat,
    failing: Beat,
    rung: Mutex<bool>,
    bell: Condvar,
}

impl Rounds {
    pub fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.bell.notify_one();
    }

    fn wait(&self, most: Duration) {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let woken = self.bell.wait_timeout_while(rung, most, |rung| !*rung);
        *woken.unwrap_or_else(PoisonError::into_inner).0 = false;
    }

    /// Overdue with a round, or every round has failed since.
    fn stuck(&self) -> Option<Duration> {
        self.failing.since().max(self.beat.overdue())
    }
}
