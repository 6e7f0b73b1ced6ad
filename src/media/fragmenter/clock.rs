//! The producer's clock: which one is believed, and how it may move.
//!
//! A track's time and a wall clock are tied by a *base*: what is added to the track's own time, in
//! microseconds, to have wall time. Each track has up to two: one from sender reports, which is exact
//! and tells how tracks lie to each other even when the wall time in it is hours off, and one from
//! arrival, which is the smallest delay seen, so that one late packet moves nothing.

use std::collections::VecDeque;

use super::ClockPolicy;
use crate::{ClockSource, ProducerTime, ServerTime, Timescale, TrackId};

/// A sender report this far from its arrival is believed.
const TRUSTED_US: i64 = 2_000_000;
/// A time of ours that is further ahead of our clock than this is from before the clock was set back.
pub(super) const AHEAD_MAX_US: i64 = 10_000_000;
/// Reports that place a track further from another than arrival does are not believed: both are on the way for about as long.
const APART_MAX_US: i64 = 5_000_000;
/// What the clock may be moved without a discontinuity.
pub(super) const SLEW_MAX_US: i64 = 500_000;
/// A track's reports that move by more than this against its own time say that the sender set its clock.
const STEP_US: i64 = 100_000;
/// Arrival moves by less than this all the time, and means nothing.
const ARRIVAL_NOISE_US: i64 = 20_000;
/// Fragments whose smallest delays are kept: long enough to span a stall of the network.
const ARRIVALS_KEPT: usize = 8;

/// Why and what: the producer's time at a fragment's first presentation time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Reading {
    pub time: ProducerTime,
    pub source: ClockSource,
    pub error_us: u32,
    /// It moved further than it may without a discontinuity.
    pub jumped: bool,
}

/// How a track's time lies to another's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Relation {
    /// What to add to the track's time for the other's, in microseconds.
    pub shift_us: i64,
    /// From reports of both, not from arrival.
    pub exact: bool,
}

#[derive(Debug)]
struct TrackClock {
    track: TrackId,
    timescale: Timescale,
    report: Option<Report>,
    /// `arrival - time` of the first unit: it serves while no fragment is closed.
    first_us: Option<i64>,
    /// Smallest `arrival - time` of each of the last fragments, and the spread in the newest.
    arrivals: VecDeque<i64>,
    spread_us: i64,
}

#[derive(Clone, Copy, Debug)]
struct Report {
    base_us: i64,
    /// The report's clock minus ours.
    skew_us: i64,
}

impl TrackClock {
    fn arrival_base(&self) -> Option<i64> {
        self.arrivals.iter().min().copied()
    }

    /// What arrival says, as far as it is known.
    fn rough_base(&self) -> Option<i64> {
        self.arrival_base().or(self.first_us)
    }
}

#[derive(Debug)]
pub(super) struct ProducerClock {
    policy: ClockPolicy,
    tracks: Vec<TrackClock>,
    /// The base in use, and the track that it is for.
    applied: Option<(TrackId, i64)>,
    /// What is added to reports that are not believed, so that they go on from where arrival had us.
    remembered_us: Option<i64>,
    /// Our own clock was set back, and the readings are still to follow: once, they may jump back.
    was_set_back: bool,
}

impl ProducerClock {
    pub(super) fn new(policy: ClockPolicy) -> ProducerClock {
        ProducerClock { policy, tracks: Vec::new(), applied: None, remembered_us: None, was_set_back: false }
    }

    /// Keeps what is known of tracks that stay, and forgets the others.
    pub(super) fn set_tracks(&mut self, tracks: impl Iterator<Item = (TrackId, Timescale)>) {
        let mut known = std::mem::take(&mut self.tracks);
        for (track, timescale) in tracks {
            let at = known.iter().position(|clock| clock.track == track && clock.timescale == timescale);
            self.tracks.push(match at {
                Some(at) => known.swap_remove(at),
                None => TrackClock {
                    track,
                    timescale,
                    report: None,
                    first_us: None,
                    arrivals: VecDeque::new(),
                    spread_us: 0,
                },
            });
        }
        if self.applied.is_some_and(|(track, _)| self.get(track).is_none()) {
            self.applied = None;
        }
    }

    /// Forgets a track whose own time started anew.
    pub(super) fn forget(&mut self, track: TrackId) {
        if let Some(clock) = self.tracks.iter_mut().find(|clock| clock.track == track) {
            (clock.report, clock.first_us) = (None, None);
            clock.arrivals.clear();
        }
        if self.applied.is_some_and(|(applied, _)| applied == track) {
            self.applied = None;
            self.remembered_us = None;
        }
    }

    pub(super) fn report(&mut self, track: TrackId, ticks: i64, producer: ProducerTime, arrival: ServerTime) {
        let Some(clock) = self.tracks.iter_mut().find(|clock| clock.track == track) else { return };
        let report = Report {
            base_us: producer.micros().saturating_sub(clock.timescale.to_micros(ticks)),
            skew_us: producer.micros().saturating_sub(arrival.micros()),
        };
        let before = clock.report.replace(report);
        if before.is_some_and(|before| before.base_us.abs_diff(report.base_us) > STEP_US as u64) {
            // The other tracks' reports are from before the step: together with this one they lie.
            for other in self.tracks.iter_mut().filter(|other| other.track != track) {
                other.report = None;
            }
            self.remembered_us = None;
        }
    }

    /// Our own clock was set, by so much: what it showed before is told as if it had been set then.
    pub(super) fn shift(&mut self, by_us: i64) {
        for clock in &mut self.tracks {
            clock.first_us = clock.first_us.map(|first| first.saturating_add(by_us));
            clock.arrivals.iter_mut().for_each(|arrival| *arrival = arrival.saturating_add(by_us));
            if let Some(report) = &mut clock.report {
                report.skew_us = report.skew_us.saturating_sub(by_us);
            }
        }
        self.remembered_us = self.remembered_us.map(|remembered| remembered.saturating_add(by_us));
        self.was_set_back |= by_us < -AHEAD_MAX_US;
    }

    /// A unit came, so long after its own time.
    pub(super) fn came(&mut self, track: TrackId, late_us: i64) {
        if let Some(clock) = self.tracks.iter_mut().find(|clock| clock.track == track) {
            clock.first_us.get_or_insert(late_us);
        }
    }

    pub(super) fn has_report(&self, track: TrackId) -> bool {
        self.get(track).is_some_and(|clock| clock.report.is_some())
    }

    /// What to add to the track's own time for wall time: as its report says, or the smallest delay of arrival.
    pub(super) fn base(&self, track: TrackId, reported: bool) -> Option<i64> {
        let clock = self.get(track)?;
        if reported { Some(clock.report?.base_us) } else { clock.arrival_base() }
    }

    /// Takes the smallest and the largest `arrival - time` of a fragment's units of `track`.
    pub(super) fn observe(&mut self, track: TrackId, smallest_us: i64, largest_us: i64) {
        let Some(clock) = self.tracks.iter_mut().find(|clock| clock.track == track) else { return };
        if clock.arrivals.len() == ARRIVALS_KEPT {
            clock.arrivals.pop_front();
        }
        clock.arrivals.push_back(smallest_us);
        clock.spread_us = largest_us.saturating_sub(smallest_us);
    }

    pub(super) fn relation(&self, track: TrackId, to: TrackId) -> Option<Relation> {
        if track == to {
            return Some(Relation { shift_us: 0, exact: true });
        }
        let (track, to) = (self.get(track)?, self.get(to)?);
        let by_arrival = track.rough_base().zip(to.rough_base()).map(|(ours, theirs)| ours.saturating_sub(theirs));
        if let (Some(ours), Some(theirs)) = (track.report, to.report) {
            let shift_us = ours.base_us.saturating_sub(theirs.base_us);
            // One of them may be an hour ahead, count from the year 2000 or from the camera's start.
            if by_arrival.is_none_or(|arrival| shift_us.abs_diff(arrival) <= APART_MAX_US as u64) {
                return Some(Relation { shift_us, exact: true });
            }
        }
        Some(Relation { shift_us: track.arrival_base()? - to.arrival_base()?, exact: false })
    }

    /// Reads the clock for `time_us` of `track`, `elapsed_us` after the reading before.
    ///
    /// It is never before `floor` when the clock moves on, nor before `end` when it starts or jumps.
    pub(super) fn read(
        &mut self,
        track: TrackId,
        time_us: i64,
        elapsed_us: i64,
        floor: Option<ProducerTime>,
        end: Option<ProducerTime>,
    ) -> Reading {
        let applied = self.applied.filter(|(applied, _)| *applied == track).map(|(_, base)| base);
        let (target, source, error_us) = self.target(track, applied);
        let (mut base, jumped, floor) = match applied {
            None => (target, false, end),
            Some(applied) => {
                let off = target - applied;
                // No jump back where media came faster than time goes: stored times stay the smaller ones, and the rest is slewed.
                let back = off < -AHEAD_MAX_US && std::mem::take(&mut self.was_set_back);
                if off > SLEW_MAX_US || back {
                    (target, true, end)
                } else if source == ClockSource::Arrival && off.abs() < ARRIVAL_NOISE_US {
                    (applied, false, floor)
                } else {
                    let most = elapsed_us.max(0).div_euclid(100);
                    (applied + off.clamp(-most, most), false, floor)
                }
            }
        };
        if let Some(floor) = floor {
            base = base.max(floor.micros().saturating_sub(time_us));
        }
        self.applied = Some((track, base));
        let error_us = u32::try_from(error_us.max((target - base).abs())).unwrap_or(u32::MAX);
        Reading { time: ProducerTime::from_micros(time_us.saturating_add(base)), source, error_us, jumped }
    }

    /// The base in use is for another track from now on.
    pub(super) fn lead_with(&mut self, track: TrackId, shift_us: i64) {
        if let Some((applied, base)) = self.applied
            && applied != track
        {
            self.applied = Some((track, base + shift_us));
            self.remembered_us = None;
        }
    }

    /// The base that should be in use, where it comes from and its error bound.
    fn target(&mut self, track: TrackId, applied: Option<i64>) -> (i64, ClockSource, i64) {
        let clock = self.get(track);
        let arrival = clock.and_then(TrackClock::arrival_base).unwrap_or(0);
        let spread = clock.map_or(0, |clock| clock.spread_us);
        let Some(report) = clock.and_then(|clock| clock.report) else {
            return (arrival, ClockSource::Arrival, spread);
        };
        let believed = match self.policy {
            ClockPolicy::Trust => true,
            ClockPolicy::Auto => report.skew_us.abs() <= TRUSTED_US,
            ClockPolicy::Arrival => false,
        };
        if believed {
            self.remembered_us = None;
            return (report.base_us, ClockSource::SenderReport, report.skew_us.abs());
        }
        let now = applied.unwrap_or(arrival);
        let remembered = *self.remembered_us.get_or_insert(now.saturating_sub(report.base_us));
        (report.base_us.saturating_add(remembered), ClockSource::Arrival, spread)
    }

    fn get(&self, track: TrackId) -> Option<&TrackClock> {
        self.tracks.iter().find(|clock| clock.track == track)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V: TrackId = TrackId(1);
    const A: TrackId = TrackId(2);
    const NOW: i64 = 1_700_000_000_000_000;

    fn clock(policy: ClockPolicy) -> ProducerClock {
        let mut clock = ProducerClock::new(policy);
        let audio = Timescale::new(48_000).expect("not zero");
        clock.set_tracks([(V, Timescale::VIDEO), (A, audio)].into_iter());
        clock
    }

    fn report(clock: &mut ProducerClock, track: TrackId, ticks: i64, ntp: i64, arrival: i64) {
        clock.report(track, ticks, ProducerTime::from_micros(ntp), ServerTime::from_micros(arrival));
    }

    fn read(clock: &mut ProducerClock, time_us: i64, last: i64) -> Reading {
        let last = ProducerTime::from_micros(last);
        clock.read(V, time_us, 1_000_000, Some(last), Some(last))
    }

    #[test]
    fn arrival_is_producer_time_until_a_report_comes() {
        let mut clock = clock(ClockPolicy::Auto);
        clock.observe(V, NOW, NOW + 3_000);
        let reading = read(&mut clock, 0, 0);
        assert_eq!((reading.time.micros(), reading.source), (NOW, ClockSource::Arrival));
    }

    #[test]
    fn report_close_to_its_arrival_is_believed() {
        let mut clock = clock(ClockPolicy::Auto);
        clock.observe(V, NOW, NOW);
        report(&mut clock, V, 90_000, NOW + 1_000_000 - 1_900_000, NOW + 1_000_000);
        let reading = read(&mut clock, 0, 0);
        assert_eq!((reading.time.micros(), reading.source), (NOW - 1_900_000, ClockSource::SenderReport));
        assert_eq!(reading.error_us, 1_900_000);
    }

    #[test]
    fn report_hours_off_relates_the_tracks_and_leaves_the_time_to_arrival() {
        let mut clock = clock(ClockPolicy::Auto);
        clock.observe(V, NOW, NOW);
        clock.observe(A, NOW + 150_000, NOW);
        let hours = 7 * 3_600_000_000;
        report(&mut clock, V, 0, NOW - hours, NOW);
        report(&mut clock, A, 0, NOW - hours + 10_000, NOW);
        assert_eq!(clock.relation(A, V), Some(Relation { shift_us: 10_000, exact: true }));
        assert_eq!(read(&mut clock, 0, 0).time.micros(), NOW);
        // The same sender an hour later, 40 ms of drift of our clock: the offset is remembered.
        report(&mut clock, V, 3_600 * 90_000, NOW - hours + 3_600_000_000, NOW + 3_600_040_000);
        assert_eq!(read(&mut clock, 3_600_000_000, 0).time.micros(), NOW + 3_600_000_000);
    }

    #[test]
    fn trust_takes_a_report_that_is_hours_off() {
        let mut clock = clock(ClockPolicy::Trust);
        clock.observe(V, NOW, NOW);
        report(&mut clock, V, 0, NOW - 3_600_000_000, NOW);
        assert_eq!(read(&mut clock, 0, 0).time.micros(), NOW - 3_600_000_000);
    }

    #[test]
    fn arrival_policy_ignores_the_time_in_reports() {
        let mut clock = clock(ClockPolicy::Arrival);
        clock.observe(V, NOW, NOW);
        report(&mut clock, V, 0, NOW - 100_000, NOW);
        let reading = read(&mut clock, 0, 0);
        assert_eq!((reading.time.micros(), reading.source), (NOW, ClockSource::Arrival));
    }

    #[test]
    fn late_report_within_half_a_second_slews_by_one_percent() {
        let mut clock = clock(ClockPolicy::Auto);
        clock.observe(V, NOW, NOW);
        assert_eq!(read(&mut clock, 0, 0).time.micros(), NOW);
        report(&mut clock, V, 0, NOW + 400_000, NOW);
        for n in 1..=40 {
            let reading = read(&mut clock, n * 1_000_000, 0);
            assert!(!reading.jumped);
            assert_eq!(reading.time.micros(), NOW + n * 1_010_000);
        }
        assert_eq!(read(&mut clock, 41_000_000, 0).time.micros(), NOW + 41_400_000);
    }

    #[test]
    fn late_report_beyond_half_a_second_jumps_forward() {
        let mut clock = clock(ClockPolicy::Auto);
        clock.observe(V, NOW, NOW);
        assert!(!read(&mut clock, 0, 0).jumped);
        report(&mut clock, V, 0, NOW + 600_000, NOW);
        let reading = read(&mut clock, 1_000_000, NOW);
        assert!(reading.jumped);
        assert_eq!(reading.time.micros(), NOW + 1_600_000);
    }

    #[test]
    fn time_never_goes_back() {
        let mut clock = clock(ClockPolicy::Auto);
        clock.observe(V, NOW, NOW);
        let mut last = read(&mut clock, 0, 0).time.micros();
        report(&mut clock, V, 0, NOW - 1_500_000, NOW);
        for n in 1..=200 {
            let reading = read(&mut clock, n * 1_000_000, last);
            assert!(!reading.jumped);
            assert!(reading.time.micros() > last);
            last = reading.time.micros();
        }
        assert_eq!(last, NOW + 200_000_000 - 1_500_000);
        // And a start after a restart whose clock is behind what is stored.
        let mut clock = self::clock(ClockPolicy::Auto);
        clock.observe(V, NOW - 5_000_000, NOW);
        assert_eq!(read(&mut clock, 0, NOW).time.micros(), NOW);
    }

    #[test]
    fn our_clock_that_is_set_sets_the_readings_with_a_break() {
        for by in [3_600_000_000, -3_600_000_000] {
            let mut clock = clock(ClockPolicy::Auto);
            clock.observe(V, NOW, NOW);
            assert_eq!(read(&mut clock, 0, 0).time.micros(), NOW);
            clock.shift(by);
            clock.observe(V, NOW + by, NOW + by);
            let reading = clock.read(V, 1_000_000, 1_000_000, Some(ProducerTime::from_micros(NOW + 1_000_000)), None);
            assert_eq!((reading.time.micros(), reading.jumped), (NOW + 1_000_000 + by, true));
        }
        // A camera whose clock was right all along keeps its time.
        let mut clock = clock(ClockPolicy::Auto);
        clock.observe(V, NOW, NOW);
        report(&mut clock, V, 0, NOW, NOW);
        assert_eq!(read(&mut clock, 0, 0).time.micros(), NOW);
        clock.shift(3_600_000_000);
        report(&mut clock, V, 90_000, NOW + 3_601_000_000, NOW + 3_601_000_000);
        assert_eq!(read(&mut clock, 1_000_000, NOW).time.micros(), NOW + 3_601_000_000);
    }

    #[test]
    fn reports_that_place_a_track_where_arrival_does_not_are_not_believed() {
        for (ntp, exact) in [
            (NOW + 3_600_000_000, false),
            (NOW - 800_000_000_000_000, false),
            (12_000_000, false),
            (NOW - 2_000_000, true),
        ] {
            let mut clock = clock(ClockPolicy::Auto);
            clock.came(V, NOW);
            clock.came(A, NOW + 40_000);
            report(&mut clock, V, 0, NOW, NOW);
            report(&mut clock, A, 0, ntp, NOW);
            let before = clock.relation(A, V);
            clock.observe(V, NOW, NOW);
            clock.observe(A, NOW + 40_000, NOW);
            let shift_us = if exact { ntp - NOW } else { 40_000 };
            assert_eq!(clock.relation(A, V), Some(Relation { shift_us, exact }));
            assert_eq!(before, exact.then_some(Relation { shift_us, exact }), "before arrival is known well");
        }
    }

    #[test]
    fn one_late_packet_moves_nothing() {
        let mut clock = clock(ClockPolicy::Auto);
        for delay in [0, 3_000, 900_000, 5_000] {
            clock.observe(V, NOW + delay, NOW + delay);
        }
        assert_eq!(read(&mut clock, 0, 0).time.micros(), NOW);
    }

    #[test]
    fn reports_from_before_a_step_of_the_clock_are_not_compared_with_later_ones() {
        let mut clock = clock(ClockPolicy::Auto);
        report(&mut clock, V, 0, NOW, NOW);
        report(&mut clock, A, 0, NOW, NOW);
        report(&mut clock, V, 450_000, NOW + 5_000_000 - 300_000, NOW + 5_000_000);
        assert!(!clock.has_report(A));
        report(&mut clock, A, 240_000, NOW + 5_000_000 - 300_000, NOW + 5_000_000);
        assert_eq!(clock.relation(A, V), Some(Relation { shift_us: 0, exact: true }));
    }
}
