//! Keeps a run of sound samples without holes or overlaps in step with the times of the units that they came of.
//!
//! An encoder counts samples; what it makes is in step with the pictures only while that count agrees with the units' times.
//! Times jitter by less than is heard and are let be; where they part from the count for good, silence is put in or
//! sound left out, and where they part by more than that makes sense, the count starts anew.

/// Times that are off by more than this are believed at once: hundredths of a second.
const JUMP_HUNDREDTHS: i64 = 8;
/// The mean of the last units' offsets may be this much: two hundredths of that are 5 ms.
const DRIFT_PER_SECOND: f64 = 200.0;
/// Units over which the mean goes.
const MEAN_UNITS: f64 = 32.0;

/// What to do with samples.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// They follow those before.
    Follow {
        /// Samples of silence that go before them.
        silence: usize,
        /// Samples at their beginning that are left out.
        skip: usize,
    },
    /// A new count starts with them.
    Anew,
}

/// The count. All times are in samples.
#[derive(Clone, Debug)]
pub(super) struct Steady {
    rate: i64,
    next: Option<i64>,
    mean_off: f64,
}

impl Steady {
    /// A count of `rate` samples per second that has not begun.
    pub fn new(rate: u32) -> Steady {
        Steady { rate: rate.into(), next: None, mean_off: 0.0 }
    }

    pub fn rate(&self) -> u32 {
        self.rate as u32
    }

    /// Where `count` samples go whose unit says that they are heard at `time`.
    pub fn place(&mut self, time: i64, count: usize, after_gap: bool) -> Place {
        let length = count as i64;
        let Some(next) = self.next else { return self.anew(time, length) };
        let off = time.saturating_sub(next);
        self.mean_off += (off as f64 - self.mean_off) / MEAN_UNITS;
        let jumps = off.saturating_abs() > self.rate * JUMP_HUNDREDTHS / 100;
        let drifts = self.mean_off.abs() > self.rate as f64 / DRIFT_PER_SECOND;
        if !after_gap && !jumps && !drifts {
            self.next = Some(next.saturating_add(length));
            return Place::Follow { silence: 0, skip: 0 };
        }
        self.mean_off = 0.0;
        if off.saturating_abs() > self.rate {
            return self.anew(time, length);
        }
        let skip = (-off).clamp(0, length);
        self.next = Some(next.saturating_add(off.max(0)).saturating_add(length - skip));
        Place::Follow { silence: off.max(0) as usize, skip: skip as usize }
    }

    fn anew(&mut self, time: i64, length: i64) -> Place {
        self.next = Some(time.saturating_add(length));
        self.mean_off = 0.0;
        Place::Anew
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOLLOW: Place = Place::Follow { silence: 0, skip: 0 };

    fn begun() -> Steady {
        let mut steady = Steady::new(48_000);
        assert_eq!(steady.place(-1024, 1024, false), Place::Anew);
        steady
    }

    #[test]
    fn units_that_follow_each_other_follow() {
        let mut steady = begun();
        for at in 0..1000 {
            // Times written in milliseconds.
            let time = at * 1024 / 48 * 48;
            assert_eq!(steady.place(time, 1024, false), FOLLOW, "unit {at}");
        }
    }

    #[test]
    fn jitter_is_let_be() {
        let mut steady = begun();
        for at in 0..1000 {
            let jitter = if at % 2 == 0 { 960 } else { -960 };
            assert_eq!(steady.place(at * 1024 + jitter, 1024, false), FOLLOW, "unit {at}");
        }
    }

    #[test]
    fn what_was_lost_becomes_silence() {
        let mut steady = begun();
        assert_eq!(steady.place(2048, 1024, true), Place::Follow { silence: 2048, skip: 0 });
        assert_eq!(steady.place(3072, 1024, false), FOLLOW);
        assert_eq!(steady.place(3072 + 1024 + 4800, 1024, false), Place::Follow { silence: 4800, skip: 0 });
    }

    #[test]
    fn a_loss_that_nobody_told_of_is_made_good_within_a_second() {
        let mut steady = begun();
        let lost = 1024;
        let mends = |place: &Place| matches!(place, Place::Follow { silence, .. } if *silence == lost as usize);
        let places: Vec<Place> = (0..47).map(|at| steady.place(lost + at * 1024, 1024, false)).collect();
        assert_eq!(places.iter().filter(|place| mends(place)).count(), 1, "{places:?}");
        assert_eq!(places.last(), Some(&FOLLOW));
    }

    #[test]
    fn sound_of_a_time_that_was_is_left_out() {
        let mut steady = begun();
        assert_eq!(steady.place(-524, 1024, true), Place::Follow { silence: 0, skip: 524 });
        assert_eq!(steady.place(500, 1024, false), FOLLOW);
        assert_eq!(steady.place(-10_000, 1024, false), Place::Follow { silence: 0, skip: 1024 }, "all of it");
        assert_eq!(steady.place(1524, 1024, false), FOLLOW);
    }

    #[test]
    fn a_far_jump_starts_anew() {
        for time in [100_000, -100_000, i64::MAX, i64::MIN] {
            let mut steady = begun();
            assert_eq!(steady.place(time, 1024, false), Place::Anew, "{time}");
            assert_eq!(steady.place(time.saturating_add(1024), 1024, false), FOLLOW, "{time}");
        }
    }
}
