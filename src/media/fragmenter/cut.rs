//! Where fragments end, and when all that belongs before such a place is here.

use std::time::Duration;

use super::{Cut, Fragmenter, Open, TIME_MAX};
use crate::{AccessUnit, Fragment, RandomAccess, ServerTime};

/// How long a cut waits for the sound that belongs before it.
const SOUND_WAIT_US: i64 = 1_000_000;
/// A track that sent nothing for this long is waited for no more.
const SILENT_US: i64 = 3_000_000;
/// A cut is due this much before the shortest length, for presentation times that were rounded.
const CUT_EARLY_US: i64 = 10_000;
/// By arrival, a fragment may take this much longer than its greatest length before it is cut anyway, ...
const STALL_US: i64 = 1_000_000;
/// ... and any unit may wait this much longer, whatever its own time says.
const OVERDUE_US: i64 = 2_000_000;

impl Fragmenter {
    /// Decides whether a fragment ends before this unit of the leading track.
    pub(super) fn cut_before(&mut self, unit: &AccessUnit) {
        let lane = &self.lanes[self.lead];
        let access = unit.random_access.is_exact();
        let starts = Open { pts: unit.pts, arrival: unit.arrival, dependent: lane.picture && !access };
        let Some(open) = self.open else {
            self.open = Some(starts);
            return;
        };
        let length_us = lane.micros(unit.pts.saturating_sub(open.pts));
        let due = if lane.picture {
            let stalled = unit.arrival.micros_since(open.arrival) >= micros(self.settings.max) + STALL_US;
            // Nothing in a dependent fragment can be decoded without the one before: what can is not to be in it.
            (access && (open.dependent || length_us >= micros(self.settings.min) - CUT_EARLY_US))
                || length_us >= micros(self.settings.max)
                || stalled
        } else {
            length_us >= micros(self.settings.audio)
        };
        if due {
            self.cuts.push_back(Cut {
                before: lane.taken + lane.queue.len() as u64,
                pts: unit.pts,
                arrival: unit.arrival,
                closed: !lane.picture || unit.random_access == RandomAccess::Closed,
            });
            self.open = Some(starts);
        }
    }

    /// Closes every fragment that is ready at `now`.
    pub(super) fn drain(&mut self, now: ServerTime, closed: &mut Vec<Fragment>) {
        if !self.settled && !self.cuts.is_empty() {
            self.settle(now);
        }
        while let Some(cut) = self.cuts.front()
            && self.settled
            && self.is_ready(cut, now)
        {
            let cut = *cut;
            self.cuts.pop_front();
            self.close_at(&cut, closed);
        }
        if (self.cuts.is_empty() && self.is_stalled(now))
            || self.waits_since(now) >= micros(self.settings.max) + OVERDUE_US
        {
            self.close_all(closed);
        }
    }

    /// Whether it is known how the tracks lie to each other, or will not be known in time.
    fn settle(&mut self, now: ServerTime) {
        let talking = self.lanes.iter().filter(|lane| !lane.queue.is_empty());
        let (count, reported) = talking
            .fold((0, true), |(count, reported), lane| (count + 1, reported && self.clock.has_report(lane.track)));
        let waited = self.first_arrival.map_or(0, |first| now.micros_since(first));
        self.settled = count <= 1 || reported || waited >= micros(self.settings.settle);
        if self.settled {
            self.estimate_delay();
            for at in 0..self.lanes.len() {
                self.observe(at, usize::MAX);
            }
        }
    }

    /// Whether all units that belong before the cut are here, or were waited for long enough.
    fn is_ready(&self, cut: &Cut, now: ServerTime) -> bool {
        let lead = &self.lanes[self.lead];
        let newest = lead.newest_pts.unwrap_or(cut.pts);
        if now.micros_since(cut.arrival) >= SOUND_WAIT_US
            || lead.micros(newest.saturating_sub(cut.pts)) >= SOUND_WAIT_US
        {
            return true;
        }
        self.lanes.iter().enumerate().filter(|(at, _)| *at != self.lead).all(|(at, lane)| match lane.queue.back() {
            Some(unit) => now.micros_since(unit.arrival) >= SILENT_US || !self.is_before(at, unit, cut),
            // Nothing waits: a track that talks has its next unit within the wait.
            None => lane.newest_pts.is_none() || self.open_since(cut) >= SILENT_US,
        })
    }

    /// How long the fragment that ends at the cut was open, by arrival.
    fn open_since(&self, cut: &Cut) -> i64 {
        self.lanes[self.lead].queue.front().map_or(0, |unit| cut.arrival.micros_since(unit.arrival))
    }

    /// Whether a unit of another track belongs before the cut.
    pub(super) fn is_before(&self, at: usize, unit: &AccessUnit, cut: &Cut) -> bool {
        match self.shift_us(at, self.lead) {
            Some(shift) => self.lanes[at].micros(unit.pts) + shift < self.lanes[self.lead].micros(cut.pts),
            None => unit.arrival < cut.arrival,
        }
    }

    /// Microseconds from a track's own time to another's: as they lie on the stream's timeline, else as the
    /// clocks say.
    pub(super) fn shift_us(&self, at: usize, to: usize) -> Option<i64> {
        let (lane, other) = (&self.lanes[at], &self.lanes[to]);
        match (lane.offset, other.offset) {
            (Some(ours), Some(theirs)) => Some(lane.micros(ours) - other.micros(theirs)),
            _ => self.clock.relation(lane.track, other.track).map(|relation| relation.shift_us),
        }
    }

    /// The leading track fell silent while others go on.
    fn is_stalled(&self, now: ServerTime) -> bool {
        let quiet = self.lanes[self.lead].queue.back().is_none_or(|unit| now.micros_since(unit.arrival) >= SILENT_US);
        quiet && self.waits_since(now) >= micros(self.settings.max)
    }

    /// How long the unit that waits longest does.
    fn waits_since(&self, now: ServerTime) -> i64 {
        let oldest = self.lanes.iter().filter_map(|lane| lane.queue.front()).map(|unit| unit.arrival).min();
        oldest.map_or(0, |oldest| now.micros_since(oldest))
    }
}

/// Microseconds of a setting, at most what times may be.
fn micros(length: Duration) -> i64 {
    i64::try_from(length.as_micros()).unwrap_or(TIME_MAX).min(TIME_MAX)
}
