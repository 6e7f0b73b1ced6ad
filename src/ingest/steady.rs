//! Arrival that goes on as a monotonic clock does, and says so when the wall clock was set.

use std::time::Duration;

use crate::protocol::rtp::receive::Moment;

/// A wall clock this far from where the monotonic one has it was set. Less is followed slowly.
const STEP_US: i64 = 1_000_000;

/// Ties the wall clock to the monotonic one, for one session.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Steady(Option<Tie>);

#[derive(Clone, Copy, Debug)]
struct Tie {
    /// A moment by both clocks.
    at: Moment,
}

impl Steady {
    /// The moment with its wall time as the monotonic clock has it, and by how much the wall clock was set since the one before.
    pub(super) fn moment(&mut self, at: Moment) -> (Moment, i64) {
        let Some(tie) = &mut self.0 else {
            self.0 = Some(Tie { at });
            return (at, 0);
        };
        let passed_us = micros(at.now.saturating_duration_since(tie.at.now));
        let expected = tie.at.wall.plus_micros(passed_us);
        let off = at.wall.micros_since(expected);
        if off.abs() >= STEP_US {
            tie.at = at;
            return (at, off);
        }
        // A clock that is slewed moves by half a thousandth at most.
        let follow = off.clamp(-(passed_us / 1_000), passed_us / 1_000);
        let wall = expected.plus_micros(follow);
        // Kept until there is something to follow: of many short steps each would be rounded away.
        if passed_us >= STEP_US {
            tie.at = Moment { now: at.now, wall };
        }
        (Moment { now: at.now, wall }, 0)
    }
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use media::ServerTime;

    use super::*;

    fn at(origin: Instant, passed_us: i64, wall_us: i64) -> Moment {
        let passed = Duration::from_micros(u64::try_from(passed_us).expect("forward"));
        Moment { now: origin + passed, wall: ServerTime::from_micros(1_700_000_000_000_000 + wall_us) }
    }

    #[test]
    fn a_clock_that_is_set_is_told_once() {
        for by in [3_600_000_000, -30 * 86_400_000_000, 1_000_000] {
            let (origin, mut steady) = (Instant::now(), Steady::default());
            let told = [(0, 0), (40_000, 40_000), (80_000, 80_000 + by), (120_000, 120_000 + by)];
            let told = told.map(|(passed, wall)| {
                let (moment, set) = steady.moment(at(origin, passed, wall));
                assert_eq!(moment.wall, at(origin, passed, wall).wall);
                set
            });
            assert_eq!(told, [0, 0, by, 0]);
        }
    }

    #[test]
    fn a_clock_that_is_slewed_is_followed_and_arrival_never_goes_back() {
        let (origin, mut steady) = (Instant::now(), Steady::default());
        let mut before = ServerTime::default();
        for n in 0..100_000 {
            // Slewed by half a thousandth, read up to 0.3 s late now and then.
            let (passed, wall) = (n * 40_000, n * 40_000 + n * 20 + if n % 100 == 99 { 300_000 } else { 0 });
            let (moment, set) = steady.moment(at(origin, passed, wall));
            assert_eq!(set, 0);
            assert!(moment.wall > before);
            before = moment.wall;
        }
        let off = before.micros_since(at(origin, 0, 99_999 * 40_020).wall);
        assert!(off.abs() < 400_000, "{off}");
    }
}
