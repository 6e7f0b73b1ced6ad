//! Wall time and randomness: the seam that lets a test turn the clock and repeat a run.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use media::ServerTime;

/// Where wall time comes from. Monotonic time comes from the runtime.
pub trait Clock: Send + Sync + 'static {
    /// Now, by this server's wall clock.
    fn now(&self) -> ServerTime;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn now(&self) -> ServerTime {
        let micros = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX),
        };
        ServerTime::from_micros(micros)
    }
}

/// A clock that stands still until it is set.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that shows `now`.
    pub fn new(now: ServerTime) -> ManualClock {
        ManualClock(AtomicI64::new(now.micros()))
    }

    /// Makes it show `now`, earlier times too.
    pub fn set(&self, now: ServerTime) {
        self.0.store(now.micros(), Ordering::SeqCst);
    }

    /// Moves it on by `micros`.
    pub fn advance(&self, micros: i64) {
        self.0.fetch_add(micros, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> ServerTime {
        ServerTime::from_micros(self.0.load(Ordering::SeqCst))
    }
}
