//! Whether the wall clock goes with the monotonic one, and what retention by age makes of it when it does not.
//!
//! A clock that is set forward makes all media old at once. The server cannot know which of the two times is right, and what is
//! deleted is gone: so retention goes on by the clock as it was for [`HOLD`], long enough for a person to look or for the
//! clock to come back.

use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use media::ServerTime;
use metrics::{counter, gauge};

use super::hub::Hub;

/// A clock that moves by less against the monotonic one is adjusted, not set.
const STEP_US: i64 = 2_000_000;
/// How long retention goes on by the clock as it was.
const HOLD: Duration = Duration::from_secs(24 * 3600);

/// The wall clock was set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct ClockStep {
    /// Counts them since the server started; 0 when there was none.
    pub number: u64,
    /// By how much, in microseconds: positive when it is later now.
    pub by_us: i64,
    /// How far behind the clock retention by age goes now, in microseconds.
    pub held_us: i64,
}

/// The wall clock beside the monotonic one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ClockWatch {
    looked: Option<(Instant, ServerTime)>,
    /// How far the clock is ahead of what it was before it was set lately, and since when.
    ahead: Option<(i64, Instant)>,
    last: ClockStep,
}

impl ClockWatch {
    /// Looks at both clocks. True when the wall clock was set since the last look.
    fn look(&mut self, now: Instant, wall: ServerTime) -> bool {
        let before = self.looked.replace((now, wall));
        if self.ahead.is_some_and(|(_, since)| now.saturating_duration_since(since) >= HOLD) {
            self.ahead = None;
        }
        let by_us = before.map_or(0, |(then, was)| {
            let passed = i64::try_from(now.saturating_duration_since(then).as_micros()).unwrap_or(i64::MAX);
            wall.micros_since(was.plus_micros(passed))
        });
        let is_set = by_us.saturating_abs() >= STEP_US;
        if is_set {
            let ahead_us = self.ahead.map_or(0, |(ahead, _)| ahead).saturating_add(by_us);
            self.ahead = (ahead_us.saturating_abs() >= STEP_US).then_some((ahead_us, now));
            self.last = ClockStep { number: self.last.number + 1, by_us, held_us: 0 };
        }
        self.last.held_us = self.ahead.map_or(0, |(ahead, _)| ahead.max(0));
        is_set
    }
}

impl Hub {
    /// The last time that the wall clock was set, as far as anybody looked.
    pub(crate) fn clock_step(&self) -> ClockStep {
        self.clock_watch().last
    }

    /// Now, for retention by age: what the clock shows, or for a while what it would show had nobody set it forward.
    pub(super) fn believed_now(&self) -> ServerTime {
        let wall = self.clock.now();
        let mut watch = self.clock_watch();
        let is_set = watch.look(Instant::now(), wall);
        let ClockStep { by_us, held_us, .. } = watch.last;
        drop(watch);
        gauge!("kinora_clock_held_seconds").set(held_us as f64 / 1e6);
        if is_set {
            counter!("kinora_clock_steps_total").increment(1);
            tracing::warn!(
                by_seconds = by_us / 1_000_000,
                held_seconds = held_us / 1_000_000,
                "this server's clock was set; retention by age goes by the clock as it was for a day, or until it is set back"
            );
        }
        wall.plus_micros(-held_us)
    }

    fn clock_watch(&self) -> MutexGuard<'_, ClockWatch> {
        // Plain numbers: whole whatever panicked beside them.
        self.clock_watch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: ServerTime = ServerTime::from_micros(1_700_000_000_000_000);
    const YEAR: i64 = 365 * 86_400;

    /// Looks at a clock after so many seconds by the monotonic one, and says how far retention is held, in seconds.
    fn held(watch: &mut ClockWatch, origin: Instant, passed: u64, wall: i64) -> (bool, i64) {
        let is_set = watch.look(origin + Duration::from_secs(passed), NOON.plus_micros(wall * 1_000_000));
        (is_set, watch.last.held_us / 1_000_000)
    }

    #[test]
    fn a_clock_that_is_set_forward_holds_retention_until_it_is_back() {
        let (origin, mut watch) = (Instant::now(), ClockWatch::default());
        assert_eq!(held(&mut watch, origin, 0, 0), (false, 0));
        assert_eq!(held(&mut watch, origin, 10, 11), (false, 0), "it is adjusted");
        assert_eq!(held(&mut watch, origin, 20, 21 + YEAR), (true, YEAR));
        assert_eq!(held(&mut watch, origin, 30, 31 + YEAR), (false, YEAR));
        assert_eq!(held(&mut watch, origin, 40, 41), (true, 0));
        assert_eq!(watch.last.number, 2);
    }

    #[test]
    fn the_hold_ends_after_a_day_and_a_clock_that_was_behind_for_a_moment_needs_none() {
        let (origin, mut watch) = (Instant::now(), ClockWatch::default());
        let day = HOLD.as_secs();
        assert_eq!(held(&mut watch, origin, 0, 0), (false, 0));
        assert_eq!(held(&mut watch, origin, 1, 1 - YEAR), (true, 0));
        assert_eq!(held(&mut watch, origin, 2, 2), (true, 0));
        assert_eq!(held(&mut watch, origin, 3, 3 + YEAR), (true, YEAR));
        assert_eq!(held(&mut watch, origin, day, day as i64 + YEAR), (false, YEAR));
        assert_eq!(held(&mut watch, origin, day + 3, day as i64 + 3 + YEAR), (false, 0));
    }
}
