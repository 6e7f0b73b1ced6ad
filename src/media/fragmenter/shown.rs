//! When a unit is shown, for those who show it before its fragment is closed.

use super::{Fragmenter, TIME_MAX};
use crate::AccessUnit;

impl Fragmenter {
    /// When `unit` is shown, in microseconds by a clock that all tracks share: the producer's when every track has had a
    /// report, else by arrival. None when its track or its time is none that a fragment would have.
    ///
    /// It is what is known now; a fragment has better, and may differ by what the clock learns until it is closed.
    pub fn shown_us(&self, unit: &AccessUnit) -> Option<i64> {
        let lane = self.lanes.iter().find(|lane| lane.track == unit.track)?;
        let micros = lane.micros(unit.pts);
        let sane = [unit.pts, micros, unit.arrival.micros()];
        if sane.iter().any(|value| value.saturating_abs() >= TIME_MAX) {
            return None;
        }
        let reported = self.lanes.iter().all(|lane| self.clock.has_report(lane.track));
        let base = self.clock.base(unit.track, reported).unwrap_or(unit.arrival.micros() - micros);
        Some(micros.saturating_add(base))
    }
}
