//! Closing a fragment: its units get their place on the stream's timeline, their times, and their boxes.

use bytes::Bytes;

use super::clock::Reading;
use super::lane::Lane;
use super::times::{StartTooLate, median_step, picture_times, sound_times};
use super::{Cut, Fragmenter};
use crate::container::cmaf::{self, Entry};
use crate::{
    Fragment, FragmentInfo, FragmentTrack, GapReason, Ordinal, Position, RandomAccess, Sequence, StartKind, Timescale,
};

/// Presentation times may be moved by this much to make decode times rise: some cameras give two pictures the
/// same time.
const SLACK_TICKS: i64 = 16;

impl Fragmenter {
    /// Closes every fragment that is cut, and then the open one.
    pub(super) fn close_all(&mut self, closed: &mut Vec<Fragment>) {
        while let Some(cut) = self.cuts.pop_front() {
            self.close_at(&cut, closed);
        }
        let counts = self.lanes.iter().map(|lane| lane.queue.len()).collect::<Vec<_>>();
        self.close_units(&counts, None, closed);
        self.open = None;
    }

    pub(super) fn close_at(&mut self, cut: &Cut, closed: &mut Vec<Fragment>) {
        let counts = (0..self.lanes.len()).map(|at| {
            let lane = &self.lanes[at];
            if at == self.lead {
                usize::try_from(cut.before.saturating_sub(lane.taken)).unwrap_or(usize::MAX).min(lane.queue.len())
            } else {
                lane.queue.iter().take_while(|unit| self.is_before(at, unit, cut)).count()
            }
        });
        let counts = counts.collect::<Vec<_>>();
        self.close_units(&counts, Some(cut), closed);
    }

    /// Closes a fragment of the first units of each lane.
    fn close_units(&mut self, counts: &[usize], cut: Option<&Cut>, closed: &mut Vec<Fragment>) {
        let leading = if counts.get(self.lead).is_some_and(|count| *count > 0) {
            self.lead
        } else {
            match counts.iter().position(|count| *count > 0) {
                Some(at) => at,
                None => return,
            }
        };
        self.estimate_delay();
        for (at, count) in counts.iter().enumerate() {
            self.observe(at, *count);
        }
        let mut broken = self.broken.take();
        if broken.is_none() && !self.place_tracks(counts) {
            broken = Some(GapReason::TimeJumped);
        }
        if broken.is_some() {
            for (lane, count) in self.lanes.iter_mut().zip(counts) {
                lane.part_first_sound(*count);
            }
        }
        let reading = self.read_clock(leading, counts[leading], broken.is_some());
        if reading.jumped {
            broken.get_or_insert(GapReason::TimeJumped);
        }
        if self.deepen(counts) && self.set_used {
            self.take_new_set_id();
            broken.get_or_insert(GapReason::TracksChanged);
        }
        if broken.is_some() {
            self.begin_run(leading, counts, &reading);
        }
        if self.give_times(counts, cut, SLACK_TICKS) == Err(StartTooLate) {
            broken.get_or_insert(GapReason::TimeJumped);
            self.begin_run(leading, counts, &reading);
            // Nothing was promised in this run.
            let _ = self.give_times(counts, cut, i64::MAX);
        }
        if self.was_ahead(leading) {
            self.next.last_producer_end = None;
        }
        let fragment = self.build(leading, counts, broken, &reading);
        self.take_units(counts, &fragment);
        closed.push(fragment);
    }

    /// Gives every unit of the fragment its times, and every lane the time at which it goes on.
    fn give_times(&mut self, counts: &[usize], cut: Option<&Cut>, slack: i64) -> Result<(), StartTooLate> {
        let delay = self.delay_ticks();
        let next_cut = self.cuts.front().map(|cut| cut.before);
        for (at, lane) in self.lanes.iter_mut().enumerate() {
            let (count, Some(offset)) = (counts[at], lane.offset) else { continue };
            if count == 0 {
                continue;
            }
            if !lane.picture {
                let units = lane.queue.iter().take(count);
                sound_times(units.map(|unit| unit.pts + offset), lane.next_dts, &mut lane.times);
                continue;
            }
            self.ticks.clear();
            self.ticks.extend(lane.queue.iter().take(count).map(|unit| unit.pts + offset));
            let first = self.ticks.iter().min().copied().unwrap_or(0) - delay;
            let start = lane.next_dts.filter(|start| lane.promised || first < *start);
            picture_times(&self.ticks, delay, start, slack, &mut self.sorted, &mut lane.times)?;
        }
        // Nothing can fail any more: lanes may be told where they go on.
        for (lane, count) in self.lanes.iter_mut().zip(counts).filter(|(_, count)| **count > 0) {
            let Some(last_dts) = lane.times.last().map(|timed| timed.dts) else { continue };
            let next_dts = if lane.picture {
                let known = next_cut
                    .map_or(usize::MAX, |next| usize::try_from(next.saturating_sub(lane.taken)).unwrap_or(usize::MAX));
                let all_known = next_cut.is_some() || cut.is_some_and(|cut| cut.closed);
                let shown_next =
                    shown_next(lane, *count, known, all_known && cut.is_some(), &mut self.sorted, &mut self.ticks);
                shown_next - delay
            } else {
                sound_next(lane, *count)
            };
            lane.next_dts = Some(next_dts.max(last_dts + 1));
            lane.promised = cut.is_some();
        }
        Ok(())
    }

    /// Writes the fragment that the lanes' times describe.
    fn build(&mut self, leading: usize, counts: &[usize], broken: Option<GapReason>, reading: &Reading) -> Fragment {
        let (track_set, tracks) = self.next.track_set.clone().expect("units are taken only once there are tracks");
        let payload: usize = self
            .lanes
            .iter()
            .zip(counts)
            .flat_map(|(lane, count)| lane.queue.iter().take(*count))
            .map(|unit| unit.data.len())
            .sum();
        // Boxes around samples: at most 16 bytes a sample and 120 a track.
        let units: usize = counts.iter().sum();
        let mut body = Vec::with_capacity(payload + units * 16 + counts.len() * 120);
        let mut parts: Vec<FragmentTrack> = Vec::with_capacity(counts.len());
        let mut damaged = false;
        let entries = &mut self.entries;
        for (lane, count) in self.lanes.iter_mut().zip(counts).filter(|(_, count)| **count > 0) {
            entries.clear();
            let ends = lane.times.iter().skip(1).map(|timed| timed.dts).chain(lane.next_dts);
            for ((unit, timed), end) in lane.queue.iter().zip(&lane.times).zip(ends) {
                let access = unit.random_access.is_exact();
                let refreshes = unit.random_access == RandomAccess::Gradual;
                // A refresh that began behind the loss is over where the next one begins.
                let healed = access || (refreshes && lane.refreshing);
                lane.damaged = (lane.damaged && !healed) || unit.loss_before > 0;
                lane.refreshing = lane.damaged && (refreshes || (lane.refreshing && unit.loss_before == 0));
                damaged |= lane.damaged;
                entries.push(Entry {
                    duration: u32::try_from(end - timed.dts).unwrap_or(u32::MAX),
                    offset: u32::try_from(timed.pts - timed.dts).unwrap_or(u32::MAX),
                    size: u32::try_from(unit.data.len()).expect("larger units are refused"),
                    sync: access || !lane.picture,
                });
                if access && lane.picture {
                    // What was lost lies before it.
                    lane.damaged = false;
                }
            }
            let first_dts = lane.times.first().map_or(0, |timed| timed.dts);
            // Not 1, 2, 3 ... within a block: a fragment's bytes are final when it closes, before any block is
            // known. It still rises, and no player asks for more.
            let number = self.next.next_ordinal.0.wrapping_mul(8).wrapping_add(parts.len() as u64 + 1) as u32;
            let payloads = lane.queue.iter().take(*count).map(|unit| &unit.data[..]);
            let first_dts = u64::try_from(first_dts).unwrap_or(0);
            let part = cmaf::append(&mut body, 0, lane.track, number, first_dts, entries, payloads)
                .expect("the byte budget keeps fragments far below 4 GiB");
            parts.push(part);
        }
        let lead_part = parts.iter().find(|part| part.track == self.lanes[leading].track);
        let duration = lead_part.map_or(0, |part| i64::try_from(part.duration).unwrap_or(i64::MAX));
        let lane = &self.lanes[leading];
        let first = lane.queue.front().expect("the leading lane has units");
        let start = match first.random_access {
            _ if !lane.picture => StartKind::Closed,
            RandomAccess::Closed => StartKind::Closed,
            RandomAccess::Open => StartKind::Open,
            // There is nothing before it to start at. What is not refreshed yet is marked as damaged.
            RandomAccess::Gradual if broken.is_some() => StartKind::Open,
            RandomAccess::Gradual | RandomAccess::No => StartKind::Dependent,
        };
        let starts_the_stream = self.next.next_ordinal == Ordinal(0);
        let discontinuities = self.next.discontinuities + u64::from(broken.is_some() && !starts_the_stream);
        let info = FragmentInfo {
            position: Position { epoch: self.next.epoch, sequence: self.next.next_sequence },
            ordinal: self.next.next_ordinal,
            discontinuities,
            track_set,
            start,
            break_before: broken,
            end_of_session: false,
            damaged,
            producer_time: reading.time,
            clock_source: reading.source,
            clock_error_us: reading.error_us,
            server_time: self.next.last_server_time.map_or(first.arrival, |last| last.max(first.arrival)),
            duration_us: u64::try_from(lane.timescale.to_micros(duration)).unwrap_or(0),
            tracks: parts,
            body_len: u32::try_from(body.len()).expect("the byte budget keeps fragments far below 4 GiB"),
        };
        Fragment { info, tracks, body: Bytes::from(body) }
    }

    /// Forgets the units that are in the fragment, and moves on behind it.
    fn take_units(&mut self, counts: &[usize], fragment: &Fragment) {
        for (lane, count) in self.lanes.iter_mut().zip(counts) {
            for unit in lane.queue.drain(..count) {
                self.bytes -= unit.data.len();
                self.units -= 1;
            }
            lane.taken += *count as u64;
            lane.times.clear();
            if let (true, Some(next_dts)) = (*count > 0, lane.next_dts) {
                self.next.end_us = self.next.end_us.max(end_us(lane.timescale, next_dts));
            }
        }
        let info = &fragment.info;
        self.next.next_sequence = Sequence(info.position.sequence.0 + 1);
        self.next.next_ordinal = Ordinal(info.ordinal.0 + 1);
        self.next.discontinuities = info.discontinuities;
        self.next.last_server_time = Some(info.server_time);
        self.next.last_producer_end =
            Some(self.next.last_producer_end.map_or(info.producer_end(), |end| end.max(info.producer_end())));
        self.set_used = true;
    }
}

/// Microseconds of `ticks`, rounding up.
fn end_us(timescale: Timescale, ticks: i64) -> i64 {
    timescale.to_micros(ticks.saturating_neg()).saturating_neg()
}

/// When the first picture after the first `count` is shown, on the stream's timeline: as seen, where the pictures
/// up to `known` are in the queue and none can be shown before them, else as far as can be told.
fn shown_next(
    lane: &Lane,
    count: usize,
    known: usize,
    all_known: bool,
    sorted: &mut Vec<i64>,
    steps: &mut Vec<i64>,
) -> i64 {
    let offset = lane.offset.unwrap_or(0);
    let seen = lane.queue.iter().take(known).skip(count).map(|unit| unit.pts + offset).min();
    if let (Some(seen), true) = (seen, all_known) {
        return seen;
    }
    sorted.clear();
    sorted.extend(lane.times.iter().map(|timed| timed.pts));
    sorted.sort_unstable();
    let newest = sorted.last().copied().unwrap_or(0);
    let usual = median_step(sorted, steps);
    let last = lane.queue.get(count.saturating_sub(1));
    let after = |step| newest + last.map_or(1, |last| lane.nominal(last, step));
    match seen {
        // Leading pictures may still come, no sooner than the shortest step allows.
        Some(seen) => seen.min(after(steps.first().copied())),
        None => after(usual),
    }
}

/// When the first sound after the first `count` is heard, on the stream's timeline.
fn sound_next(lane: &Lane, count: usize) -> i64 {
    let times = &lane.times;
    let last_dts = times.last().map_or(0, |timed| timed.dts);
    let before = times.len().checked_sub(2).map(|n| last_dts - times[n].dts);
    let last = lane.queue.get(count.saturating_sub(1));
    let nominal = last.map_or(1, |last| lane.nominal(last, before));
    let next = lane.queue.get(count).map(|unit| unit.pts + lane.offset.unwrap_or(0));
    // A sample's duration has 32 bits.
    next.filter(|next| *next > last_dts && *next - last_dts < 1 << 30).unwrap_or(last_dts + nominal)
}
