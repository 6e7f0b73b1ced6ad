//! One track's way through a fragmenter: its units that wait, and where its time lies on the stream's.

use std::collections::VecDeque;

use super::times::Timed;
use crate::{AccessUnit, RandomAccess, ServerTime, Timescale, Track, TrackId};

/// Forward step of presentation times beyond which they are taken to have started anew, unless arrival steps as far.
const FORWARD_US: i64 = 10_000_000;

/// How far the steps of presentation time and of arrival may be apart.
const STEPS_APART_US: i64 = 2_000_000;

/// Units at the start of a track that may have the time of the one after them: encoders begin with one or two.
const CROWD_MAX: usize = 4;

/// Moves `micros` to ticks, rounding up.
pub(super) fn ticks_up(timescale: Timescale, micros: i64) -> i64 {
    timescale.from_micros(micros.saturating_neg()).saturating_neg()
}

#[derive(Debug)]
pub(super) struct Lane {
    pub track: TrackId,
    pub timescale: Timescale,
    /// Pictures: decode order is not presentation order.
    pub picture: bool,
    /// Units in no closed fragment yet, in decode order.
    pub queue: VecDeque<AccessUnit>,
    /// Count of all units before the queue's front.
    pub taken: u64,
    /// Largest presentation time so far, in the session's ticks.
    pub newest_pts: Option<i64>,
    /// When the last unit arrived.
    pub newest_arrival: Option<ServerTime>,
    /// What is added to the session's ticks for the stream's; none until the track's first fragment.
    pub offset: Option<i64>,
    /// Where the last fragment's samples end, in the stream's ticks.
    pub next_dts: Option<i64>,
    /// The next sample was seen when `next_dts` was set: it starts there, and not after a pause.
    pub promised: bool,
    /// Units were lost since the last random access point.
    pub damaged: bool,
    /// A gradual refresh began since then, which is not over yet.
    pub refreshing: bool,
    /// The next unit follows one that was not taken.
    pub hole: bool,
    /// Times of the fragment being closed.
    pub times: Vec<Timed>,
}

impl Lane {
    pub(super) fn new(track: &Track) -> Lane {
        Lane {
            track: track.id,
            timescale: track.timescale,
            picture: track.codec.is_video(),
            queue: VecDeque::new(),
            taken: 0,
            newest_pts: None,
            newest_arrival: None,
            offset: None,
            next_dts: None,
            promised: false,
            damaged: false,
            refreshing: false,
            hole: false,
            times: Vec::new(),
        }
    }

    /// Whether a unit's presentation time cannot belong to the timeline of the units before it.
    /// `delay` is how far decode order may be from presentation order, in ticks, where that is known.
    pub(super) fn jumps(&self, unit: &AccessUnit, delay: Option<i64>) -> bool {
        let Some(newest) = self.newest_pts else { return false };
        // A sample's duration has 32 bits.
        let forward = self.timescale.from_micros(FORWARD_US).clamp(1, 1 << 30);
        let back = if !self.picture {
            self.timescale.from_micros(500_000)
        } else if unit.random_access == RandomAccess::Closed {
            // Nothing after it may be shown before what came before it.
            self.timescale.from_micros(100_000)
        } else {
            match delay {
                Some(delay) => delay.saturating_mul(2).max(self.timescale.from_micros(500_000)),
                None => self.timescale.from_micros(2_000_000),
            }
        };
        let step = unit.pts.saturating_sub(newest);
        step < -back || step >= 1 << 30 || (step > forward && !self.is_pause(unit, step))
    }

    /// Whether the unit came as much later as its time says: a track paused, or has a frame now and then.
    fn is_pause(&self, unit: &AccessUnit, step: i64) -> bool {
        let Some(arrival) = self.newest_arrival else { return false };
        let waited_us = unit.arrival.micros_since(arrival);
        self.micros(step).abs_diff(waited_us) <= STEPS_APART_US.max(waited_us.div_euclid(10)) as u64
    }

    /// Microseconds of the session's `ticks`.
    pub(super) fn micros(&self, ticks: i64) -> i64 {
        self.timescale.to_micros(ticks)
    }

    /// Smallest and largest `arrival - decode time` of the first `count` units, in microseconds.
    pub(super) fn delays(&self, count: usize, delay: i64, sorted: &mut Vec<i64>) -> Option<(i64, i64)> {
        sorted.clear();
        sorted.extend(self.queue.iter().take(count).map(|unit| unit.pts));
        if self.picture {
            sorted.sort_unstable();
            sorted.iter_mut().for_each(|pts| *pts -= delay);
        }
        let delays = self.queue.iter().zip(sorted.iter());
        let delays = delays.map(|(unit, dts)| unit.arrival.micros().saturating_sub(self.micros(*dts)));
        delays.fold(None, |range, delay| match range {
            None => Some((delay, delay)),
            Some((low, high)) => Some((delay.min(low), delay.max(high))),
        })
    }

    /// Smallest presentation time of the first `count` units, in the session's ticks.
    pub(super) fn first_pts(&self, count: usize) -> Option<i64> {
        self.queue.iter().take(count).map(|unit| unit.pts).min()
    }

    /// Gives sound that starts a run with several units of one time a time for each, earlier by their lengths.
    ///
    /// GStreamer's payloaders send what lies before the start of its segment, such as the frame with which an AAC
    /// encoder begins, with the time of the start. Stored like that it would last a tick, and players that count
    /// samples would be late by its length from then on.
    pub(super) fn part_first_sound(&mut self, count: usize) {
        if self.picture {
            return;
        }
        let count = count.min(self.queue.len());
        let length = |unit: &AccessUnit| unit.duration.map(|_| self.nominal(unit, None));
        let same_time = |at: &usize| {
            let (unit, next) = (&self.queue[*at], &self.queue[*at + 1]);
            length(unit).is_some_and(|length| next.pts - unit.pts < length.div_euclid(2) && next.pts >= unit.pts)
        };
        let crowd = (0..count.saturating_sub(1)).take_while(same_time).count();
        if crowd > CROWD_MAX {
            return;
        }
        for at in (0..crowd).rev() {
            let length = self.nominal(&self.queue[at], None);
            self.queue[at].pts = self.queue[at + 1].pts - length;
        }
    }

    /// How long the unit lasts if the next one does not say.
    pub(super) fn nominal(&self, unit: &AccessUnit, step: Option<i64>) -> i64 {
        let said = unit.duration.map(i64::from).filter(|duration| *duration > 0);
        let longest = self.timescale.from_micros(FORWARD_US).clamp(1, 1 << 30);
        said.or(step)
            .unwrap_or_else(|| self.timescale.from_micros(if self.picture { 40_000 } else { 20_000 }))
            .clamp(1, longest)
    }
}
