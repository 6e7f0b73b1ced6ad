//! Where a fragment lies: how its tracks lie to each other, on the stream's timeline, and by the producer's clock.

use super::clock::{AHEAD_MAX_US, Reading, SLEW_MAX_US};
use super::lane::ticks_up;
use super::times::{delay_needed, median_step, reorder_depth};
use super::{Delay, Fragmenter, TIME_MAX};
use crate::TrackSetId;

/// Tracks known by arrival alone are moved only when they are off by more than this.
const ARRIVAL_OFF_US: i64 = 100_000;
/// A delay from the parameter sets is at most this: some say absurd ones.
const DELAY_MAX_US: i64 = 5_000_000;
/// Most media time that one reading of the clock may make up for.
const ELAPSED_MAX_US: i64 = 20_000_000;
/// Longest gap that the timeline keeps.
const GAP_MAX_US: i64 = 1 << 50;

impl Fragmenter {
    /// Guesses how much earlier than shown pictures must be decoded, when it is not known yet.
    pub(super) fn estimate_delay(&mut self) {
        let Some(lane) = self.lanes.get(self.lead) else { return };
        if self.delay.is_some() || lane.queue.is_empty() || !lane.picture {
            return;
        }
        let track = self.next.track_set.as_ref().and_then(|(_, tracks)| tracks.track(lane.track));
        let said = track.and_then(|track| track.reorder_depth).map_or(0, |depth| depth.min(16));
        self.ticks.clear();
        self.ticks.extend(lane.queue.iter().map(|unit| unit.pts));
        let depth = reorder_depth(&self.ticks).max(said);
        self.delay = Some(Delay { depth, ticks: self.delay_for(depth) });
    }

    /// The delay for the depth, and for the pictures in `self.ticks`.
    fn delay_for(&mut self, depth: u32) -> i64 {
        let lane = &self.lanes[self.lead];
        let needed = delay_needed(&self.ticks, &mut self.sorted);
        let seen = median_step(&self.sorted, &mut self.ticks).filter(|_| self.sorted.len() >= 8);
        let track = self.next.track_set.as_ref().and_then(|(_, tracks)| tracks.track(lane.track));
        let hz = i64::from(lane.timescale.hz());
        let said = track.and_then(|track| track.frame_rate_millis).filter(|rate| *rate > 0);
        let said = said.map(|rate| (hz * 1000).div_euclid(i64::from(rate)) + 1);
        let step = seen.or(said).unwrap_or(0);
        let longest = lane.timescale.from_micros(DELAY_MAX_US);
        needed.max(i64::from(depth).saturating_mul(step)).min(longest)
    }

    /// Takes a larger delay when pictures are reordered more deeply than before. True when it did.
    pub(super) fn deepen(&mut self, counts: &[usize]) -> bool {
        let (lane, Some(delay)) = (&self.lanes[self.lead], self.delay) else { return false };
        self.ticks.clear();
        self.ticks.extend(lane.queue.iter().take(counts[self.lead]).map(|unit| unit.pts));
        let depth = reorder_depth(&self.ticks);
        if depth <= delay.depth {
            return false;
        }
        let ticks = self.delay_for(depth).max(delay.ticks);
        self.delay = Some(Delay { depth, ticks });
        true
    }

    /// Tells the clock how late the first units of a lane came.
    pub(super) fn observe(&mut self, at: usize, count: usize) {
        let lane = &self.lanes[at];
        let delay = if lane.picture { self.delay_ticks() } else { 0 };
        if let Some((low, high)) = lane.delays(count, delay, &mut self.sorted) {
            self.clock.observe(lane.track, low, high);
        }
    }

    /// Places tracks that are new on the timeline, and those that drifted anew. False when one is so far off
    /// that the timeline breaks.
    pub(super) fn place_tracks(&mut self, counts: &[usize]) -> bool {
        let Some(mut reference) = self.reference else { return false };
        for (at, count) in counts.iter().enumerate() {
            let (lane, other) = (&self.lanes[at], &self.lanes[reference]);
            if *count == 0 || at == reference {
                continue;
            }
            let Some(relation) = self.clock.relation(lane.track, other.track) else { return false };
            let Some(origin) = other.offset else { return false };
            let wanted = ticks_up(lane.timescale, other.micros(origin).saturating_add(relation.shift_us));
            match lane.offset {
                None => {
                    self.lanes[at].offset = Some(wanted);
                    if at == self.lead {
                        // From now on the timeline follows the leading track.
                        self.clock.lead_with(self.lanes[at].track, relation.shift_us);
                        self.reference = Some(at);
                        reference = at;
                    }
                }
                // Pictures lead or stay: their decode times cannot be moved without a break.
                Some(_) if lane.picture => {}
                Some(offset) => {
                    let off = lane.micros(wanted.saturating_sub(offset)).saturating_abs();
                    let frame = lane.queue.front().map_or(0, |unit| lane.micros(lane.nominal(unit, None)));
                    let allowed = if relation.exact { frame } else { ARRIVAL_OFF_US };
                    if relation.exact && off > SLEW_MAX_US {
                        return false;
                    }
                    if off > allowed {
                        self.lanes[at].offset = Some(wanted);
                    }
                }
            }
        }
        true
    }

    pub(super) fn read_clock(&mut self, leading: usize, count: usize, broken: bool) -> Reading {
        let reference = if broken { leading } else { self.reference.unwrap_or(leading) };
        let lane = &self.lanes[leading];
        let first = lane.micros(lane.first_pts(count).unwrap_or(0));
        let shift = if reference == leading { 0 } else { self.shift_us(leading, reference).unwrap_or(0) };
        let track = self.lanes[reference].track;
        if broken && let Some(shift) = self.reference.and_then(|was| self.shift_us(reference, was)) {
            self.clock.lead_with(track, shift);
        }
        let time_us = first + shift;
        let elapsed = self.last_producer.map_or(0, |(_, at)| time_us.saturating_sub(at).clamp(0, ELAPSED_MAX_US));
        let end = self.next.last_producer_end.filter(|_| !self.was_ahead(leading));
        let floor = if broken { end } else { self.last_producer.map(|(time, _)| time.plus_micros(1)) };
        let reading = self.clock.read(track, time_us, elapsed, floor, end);
        self.last_producer = Some((reading.time, time_us));
        self.last_clock = (reading.source, reading.error_us);
        reading
    }

    /// Whether the stream's last fragment was labelled by a clock of ours that was far ahead of what it shows now. Its times hold
    /// nothing back: they would until the clock is there again.
    pub(super) fn was_ahead(&self, leading: usize) -> bool {
        let arrival = self.lanes[leading].queue.front().map(|unit| unit.arrival);
        self.next.last_server_time.zip(arrival).is_some_and(|(last, arrival)| last.micros_since(arrival) > AHEAD_MAX_US)
    }

    /// Starts a stretch of the stream's timeline that nothing before it runs into.
    pub(super) fn begin_run(&mut self, leading: usize, counts: &[usize], reading: &Reading) {
        let with_units = |at: &usize| counts[*at] > 0;
        let shift = |fragmenter: &Fragmenter, at: usize| {
            let (lane, to) = (&fragmenter.lanes[at], &fragmenter.lanes[leading]);
            let relation = fragmenter.clock.relation(lane.track, to.track);
            let exact = relation.filter(|relation| relation.exact).map(|relation| relation.shift_us);
            exact.or_else(|| fragmenter.shift_us(at, leading)).unwrap_or(0)
        };
        let shifts = (0..self.lanes.len()).map(|at| shift(self, at)).collect::<Vec<_>>();
        let earliest = (0..self.lanes.len()).filter(with_units).map(|at| {
            let lane = &self.lanes[at];
            let first = if lane.picture {
                lane.first_pts(counts[at]).unwrap_or(0) - self.delay_ticks()
            } else {
                lane.queue.front().map_or(0, |unit| unit.pts)
            };
            lane.micros(first) + shifts[at]
        });
        let earliest = earliest.min().unwrap_or(0);
        let gap = self.next.last_producer_end.map_or(0, |end| reading.time.micros_since(end).clamp(0, GAP_MAX_US));
        let start = self.next.end_us.saturating_add(gap).min(TIME_MAX);
        for (at, lane) in self.lanes.iter_mut().enumerate() {
            lane.offset = (counts[at] > 0).then(|| ticks_up(lane.timescale, start - earliest + shifts[at]));
            // Also for a track whose first units come later, and may be older.
            lane.next_dts = (counts[at] == 0 || !lane.picture).then(|| ticks_up(lane.timescale, start));
            lane.promised = false;
        }
        self.reference = Some(leading);
    }

    pub(super) fn take_new_set_id(&mut self) {
        let id = self.next.next_track_set;
        if let Some((ours, _)) = &mut self.next.track_set {
            *ours = id;
            self.next.next_track_set = TrackSetId(id.0.saturating_add(1));
        }
        self.set_used = false;
    }
}
