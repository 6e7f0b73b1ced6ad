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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn begun_long_ago(beat: &Beat) {
        let long_ago = Instant::now().checked_sub(2 * PATIENCE).expect("this machine has run for longer");
        *beat.0.lock().unwrap() = Some(long_ago);
    }

    fn parts(pulse: &Pulse, scheduler: Option<Duration>) -> Vec<(&'static str, bool)> {
        pulse.stuck(scheduler).iter().map(|stuck| (stuck.part, stuck.stops_recording)).collect()
    }

    #[test]
    fn a_stuck_writer_is_named_and_recording_stands_still_when_all_are() {
        let pulse = Pulse::default();
        pulse.writers[0].begin();
        assert_eq!(parts(&pulse, Some(Duration::from_millis(50))), [], "that is how long things take");
        begun_long_ago(&pulse.writers[3]);
        assert_eq!(parts(&pulse, None), [("writers", false)]);
        pulse.writers.iter().for_each(begun_long_ago);
        assert_eq!(parts(&pulse, None), [("writers", true)]);
        pulse.writers[5].end();
        assert_eq!(parts(&pulse, None), [("writers", false)]);
        pulse.writers.iter().for_each(Beat::end);
        begun_long_ago(&pulse.index.beat);
        assert_eq!(parts(&pulse, Some(2 * PATIENCE)), [("scheduler", true), ("index", false)]);
    }

    #[test]
    fn rounds_go_on_after_a_panic_and_say_so_until_one_succeeds() {
        let pulse = Pulse::default();
        let count = Cell::new(0);
        let said = Cell::new(None);
        pulse.run("index", &pulse.index, Duration::ZERO, || {
            count.set(count.get() + 1);
            match count.get() {
                1 => panic!("as asked for"),
                2 => said.set(pulse.index.failing.since()),
                _ => pulse.stop(),
            }
        });
        assert_eq!((count.get(), pulse.index.failing.since()), (3, None));
        assert!(said.get().is_some());
    }
}
