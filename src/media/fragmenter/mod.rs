//! Access units in, closed fragments out: the pure machine behind every publisher.
//!
//! Here: where fragments are cut, which audio goes with which pictures, decode times, the stream's own
//! timeline, and which clock is believed. One [`Fragmenter`] lives as long as one session of a publisher;
//! the next one is made from its [`Continuation`].
//!
//! ```text
//!  units --> lanes, one per track:   v v v v | v v v      pictures decide where (cut)
//!                                    a a a a a a | a      sound follows, by time
//!                 cut, and every lane is past it --> close: times, clock, boxes --> Fragment
//! ```
//!
//! A session that has reports for all its tracks, or waited long enough for them, is *settled*: how its
//! tracks lie to each other is known. Nothing is closed before, since what is closed is never rewritten.
//!
//! Not here: bytes of boxes ([`crate::container::cmaf`]), waiting, tasks, back-pressure (`live`), and
//! anything that reads a clock: time comes in with the units, and goes on like a monotonic clock but for
//! [`Fragmenter::clock_was_set`].

mod clock;
mod close;
mod cut;
mod lane;
mod open;
mod place;
mod settings;
mod shown;
mod times;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

pub use open::{OpenPicture, OpenPictures};
pub use settings::{ClockPolicy, Continuation, FIRST_STREAM_TIME_US, Pushed, Settings};

use crate::container::cmaf::Entry;
use crate::{
    AccessUnit, ClockSource, DropReason, Dropped, Fragment, GapReason, ProducerTime, RandomAccess, ServerTime, TrackId,
    TrackSet, TrackSetId,
};
use clock::ProducerClock;
use lane::Lane;

/// Largest time that is taken, in ticks and in microseconds: sums of a few of them cannot overflow.
const TIME_MAX: i64 = 1 << 56;
/// Most units that wait to be closed.
const UNITS_MAX: usize = 1 << 16;
/// Sound from this long before the first picture is kept.
const SOUND_BEFORE_PICTURES_US: i64 = 500_000;

/// Where the leading track's fragment ends: before the unit with this count.
#[derive(Clone, Copy, Debug)]
struct Cut {
    before: u64,
    /// Its presentation time, in the session's ticks of the leading track.
    pts: i64,
    arrival: ServerTime,
    /// Nothing after it is shown before it.
    closed: bool,
}

/// The unit that the newest open fragment starts with.
#[derive(Clone, Copy, Debug)]
struct Open {
    pts: i64,
    arrival: ServerTime,
    /// It is a frame that needs those before it.
    dependent: bool,
}

/// How pictures of the track set are reordered.
#[derive(Clone, Copy, Debug)]
struct Delay {
    /// Pictures that are decoded before a picture and shown after it, at most.
    depth: u32,
    /// How much earlier than shown pictures are decoded, in ticks of the leading track.
    ticks: i64,
}

/// Makes fragments of one session's access units.
#[derive(Debug)]
pub struct Fragmenter {
    settings: Settings,
    next: Continuation,
    clock: ProducerClock,
    /// One per track of the set, in the same order.
    lanes: Vec<Lane>,
    /// Index of the leading track's lane.
    lead: usize,
    /// Fragments of `next.track_set` were closed in this session.
    set_used: bool,
    /// Why the next fragment does not continue the last one.
    broken: Option<GapReason>,
    /// The lane whose time the stream's timeline follows, in an unbroken run of fragments.
    reference: Option<usize>,
    /// None until the first pictures are seen.
    delay: Option<Delay>,
    open: Option<Open>,
    cuts: VecDeque<Cut>,
    /// A random access point of the leading track was seen.
    started: bool,
    settled: bool,
    /// Arrival of the first unit since the tracks' times (re)started.
    first_arrival: Option<ServerTime>,
    /// `producer_time` of the last fragment, in this run.
    last_producer: Option<(ProducerTime, i64)>,
    /// Where that came from, and its error bound in microseconds.
    last_clock: (ClockSource, u32),
    bytes: usize,
    units: usize,
    lost: u64,
    dropped: Dropped,
    // Scratch, kept for its memory.
    sorted: Vec<i64>,
    ticks: Vec<i64>,
    entries: Vec<Entry>,
}

impl Fragmenter {
    /// A machine that goes on where `from` ended.
    pub fn new(settings: Settings, policy: ClockPolicy, mut from: Continuation) -> Fragmenter {
        from.end_us = from.end_us.clamp(0, TIME_MAX);
        Fragmenter {
            settings,
            broken: Some(from.reason),
            next: from,
            clock: ProducerClock::new(policy),
            lanes: Vec::new(),
            lead: 0,
            set_used: false,
            reference: None,
            delay: None,
            open: None,
            cuts: VecDeque::new(),
            started: false,
            settled: false,
            first_arrival: None,
            last_producer: None,
            last_clock: (ClockSource::Arrival, 0),
            bytes: 0,
            units: 0,
            lost: 0,
            dropped: Dropped::default(),
            sorted: Vec::new(),
            ticks: Vec::new(),
            entries: Vec::new(),
        }
    }

    /// Says what the units are. A set that does not continue the one before closes what is open.
    #[must_use]
    pub fn set_tracks(&mut self, tracks: TrackSet) -> Vec<Fragment> {
        let same = self.next.track_set.as_ref().is_some_and(|(_, ours)| ours.continues(&tracks));
        if same && !self.lanes.is_empty() {
            return Vec::new();
        }
        let closed = self.close(false);
        let lead_was = self.lead_track();
        let mut before = std::mem::take(&mut self.lanes);
        self.lanes = tracks.tracks().iter().map(Lane::new).collect();
        for lane in &mut self.lanes {
            let at = before.iter().position(|old| old.track == lane.track && old.timescale == lane.timescale);
            if let Some(at) = at {
                let old = before.swap_remove(at);
                (lane.newest_pts, lane.newest_arrival, lane.offset) = (old.newest_pts, old.newest_arrival, old.offset);
            } else {
                // Its reports are to be waited for.
                self.settled = false;
                self.first_arrival = None;
            }
        }
        self.clock.set_tracks(self.lanes.iter().map(|lane| (lane.track, lane.timescale)));
        let lead = tracks.lead();
        self.lead = self.lanes.iter().position(|lane| lane.track == lead.id).unwrap_or(0);
        self.started &= lead_was.is_some_and(|was| was.continues(lead));
        if !same {
            let id = self.next.next_track_set;
            self.next.next_track_set = TrackSetId(id.0.saturating_add(1));
            self.next.track_set = Some((id, Arc::new(tracks)));
        }
        self.delay = None;
        self.set_used = false;
        self.reference = None;
        self.broken.get_or_insert(GapReason::TracksChanged);
        closed
    }

    /// Takes an RTCP sender report: at `ticks` of the session's timeline of `track` the producer's clock
    /// showed `producer`; the report reached us at `arrival`.
    pub fn sender_report(&mut self, track: TrackId, ticks: i64, producer: ProducerTime, arrival: ServerTime) {
        let Some(lane) = self.lanes.iter().find(|lane| lane.track == track) else { return };
        let sane = [ticks, lane.micros(ticks), producer.micros(), arrival.micros()];
        if sane.iter().all(|value| value.saturating_abs() < TIME_MAX) {
            self.clock.report(track, ticks, producer, arrival);
        }
    }

    /// The clock that arrival is read from was set, by so much. Between two of these calls arrival goes on as a monotonic
    /// clock does. What came before is closed; what comes next is labelled by the clock as it is now.
    #[must_use]
    pub fn clock_was_set(&mut self, by_us: i64) -> Vec<Fragment> {
        let closed = self.close(false);
        self.clock.shift(by_us);
        let shifted = |arrival: ServerTime| arrival.plus_micros(by_us);
        self.first_arrival = self.first_arrival.map(shifted);
        for lane in &mut self.lanes {
            lane.newest_arrival = lane.newest_arrival.map(shifted);
        }
        closed
    }

    /// Takes a unit; the units of a track come in decode order.
    pub fn push(&mut self, unit: AccessUnit) -> Pushed {
        let mut pushed = Pushed::default();
        let Some(at) = self.lanes.iter().position(|lane| lane.track == unit.track) else {
            return self.refuse(None, DropReason::UnknownTrack);
        };
        self.lost = self.lost.saturating_add(u64::from(unit.loss_before));
        if let Some(reason) = self.unfit(at, &unit) {
            return self.refuse(Some(at), reason);
        }
        if at == self.lead && self.lanes[at].picture && !self.started {
            if unit.random_access == RandomAccess::No {
                self.forget_sound_before(unit.arrival);
                return self.refuse(None, DropReason::BeforeRandomAccess);
            }
            self.started = true;
            // Until the refresh is over frames lack what came before.
            self.lanes[at].hole |= unit.random_access == RandomAccess::Gradual;
        }
        if self.lanes[at].jumps(&unit, self.delay.map(|delay| delay.ticks)) {
            self.close_all(&mut pushed.closed);
            self.start_anew(at);
        }
        if self.bytes + unit.data.len() > self.settings.bytes || self.units >= UNITS_MAX {
            self.close_all(&mut pushed.closed);
        }
        if at == self.lead {
            self.cut_before(&unit);
        }
        let arrival = unit.arrival;
        self.first_arrival.get_or_insert(arrival);
        self.queue(at, unit);
        self.drain(arrival, &mut pushed.closed);
        pushed
    }

    /// Appends bytes to the newest unit of `track`: a sender ended it too early, and this is the rest. False when that unit
    /// is in a closed fragment, or would grow too large: then they are not stored.
    pub fn push_rest(&mut self, track: TrackId, data: &[u8]) -> bool {
        // Behind a unit that was not taken the newest of the queue is another one.
        let lane = self.lanes.iter_mut().find(|lane| lane.track == track && !lane.hole);
        let newest = lane.and_then(|lane| lane.queue.back_mut());
        let fits = |unit: &AccessUnit| self.bytes + unit.data.len() + data.len() <= self.settings.bytes;
        let Some(unit) = newest.filter(|unit| fits(unit)) else {
            self.dropped.count(DropReason::TooLate, 1);
            return false;
        };
        unit.data = [&unit.data[..], data].concat().into();
        self.bytes += data.len();
        true
    }

    /// The fragment that closes next does not continue the one before it, because of `reason`; what is known of the
    /// tracks and their clocks stays.
    pub fn break_with(&mut self, reason: GapReason) {
        self.broken.get_or_insert(reason);
    }

    /// Closes all that is open; the last fragment is marked when the session ends with it.
    #[must_use]
    pub fn close(&mut self, end_of_session: bool) -> Vec<Fragment> {
        let mut closed = Vec::new();
        self.close_all(&mut closed);
        if let Some(last) = closed.last_mut() {
            last.info.end_of_session = end_of_session;
        }
        closed
    }

    /// Where the next session goes on, and why it does not continue this one. What is still open is lost:
    /// close first.
    pub fn into_continuation(self, reason: GapReason) -> Continuation {
        Continuation { reason, ..self.next }
    }

    /// Bytes of payload in no closed fragment yet.
    pub fn open_bytes(&self) -> usize {
        self.bytes
    }

    /// The newest track set, with the id that its fragments have.
    pub fn tracks(&self) -> Option<(TrackSetId, &Arc<TrackSet>)> {
        self.next.track_set.as_ref().map(|(id, tracks)| (*id, tracks))
    }

    /// Units or packets that were lost on the way to us in this session.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Units that came and were not taken in this session.
    pub fn dropped(&self) -> Dropped {
        self.dropped
    }

    fn delay_ticks(&self) -> i64 {
        self.delay.map_or(0, |delay| delay.ticks)
    }

    fn lead_track(&self) -> Option<crate::Track> {
        let lane = self.lanes.get(self.lead)?;
        self.next.track_set.as_ref()?.1.track(lane.track).cloned()
    }

    fn unfit(&self, at: usize, unit: &AccessUnit) -> Option<DropReason> {
        let times = [unit.pts, self.lanes[at].micros(unit.pts), unit.arrival.micros()];
        if unit.data.is_empty() {
            Some(DropReason::Empty)
        } else if unit.data.len() > self.settings.bytes || u32::try_from(unit.data.len()).is_err() {
            Some(DropReason::TooLarge)
        } else if times.iter().any(|value| value.saturating_abs() >= TIME_MAX) {
            Some(DropReason::BadTime)
        } else {
            None
        }
    }

    fn refuse(&mut self, lane: Option<usize>, reason: DropReason) -> Pushed {
        self.dropped.count(reason, 1);
        if let Some(at) = lane {
            self.lanes[at].hole = true;
        }
        Pushed { closed: Vec::new(), dropped: Some(reason) }
    }

    /// While pictures come that cannot be decoded, sound is kept for a moment only: it is to start with them.
    fn forget_sound_before(&mut self, arrival: ServerTime) {
        for lane in &mut self.lanes {
            while lane.queue.front().is_some_and(|unit| arrival.micros_since(unit.arrival) > SOUND_BEFORE_PICTURES_US) {
                let unit = lane.queue.pop_front().expect("it has a front");
                lane.taken += 1;
                self.bytes -= unit.data.len();
                self.units -= 1;
                self.dropped.count(DropReason::BeforeRandomAccess, 1);
            }
        }
    }

    /// A track's time started anew: nothing that was known of it holds.
    fn start_anew(&mut self, at: usize) {
        let lane = &mut self.lanes[at];
        (lane.newest_pts, lane.newest_arrival, lane.offset) = (None, None, None);
        self.clock.forget(lane.track);
        self.reference = None;
        self.settled = false;
        self.first_arrival = None;
        self.broken.get_or_insert(GapReason::TimeJumped);
    }

    fn queue(&mut self, at: usize, mut unit: AccessUnit) {
        let lane = &mut self.lanes[at];
        if std::mem::take(&mut lane.hole) {
            unit.loss_before = unit.loss_before.max(1);
        }
        lane.newest_pts = lane.newest_pts.max(Some(unit.pts));
        lane.newest_arrival = Some(unit.arrival);
        self.clock.came(lane.track, unit.arrival.micros().saturating_sub(lane.micros(unit.pts)));
        self.bytes += unit.data.len();
        self.units += 1;
        lane.queue.push_back(unit);
    }
}
