//! What one viewer is sent of what comes: pure, units and time in, sendings out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use media::ProducerTime;

use super::pack::Packed;
use crate::protocol::webrtc::Kind;

/// Catching up runs so many times as fast as the pictures were taken.
const SPEED: i64 = 8;
/// Between pictures while catching up.
const STEP_MIN: Duration = Duration::from_millis(1);
const STEP_MAX: Duration = Duration::from_millis(8);
/// More than this is not sent to catch up: the next key picture is waited for.
const CATCH_UP_BYTES: usize = 16 << 20;
const CATCH_UP_UNITS: usize = 2_000;
/// A time that moves this much against arrival has jumped.
const JUMP_US: i64 = 2_000_000;

/// A unit, and the timestamp that this viewer gets it under.
#[derive(Clone, Debug)]
pub(crate) struct Sending {
    pub unit: Arc<Packed>,
    pub timestamp: u32,
}

/// The pictures since the last key picture, for those who come.
#[derive(Debug, Default)]
pub(crate) struct Catchup {
    units: VecDeque<Arc<Packed>>,
    bytes: usize,
    /// There were more than may be kept.
    spoilt: bool,
}

impl Catchup {
    /// Takes the next picture of the stream.
    pub(crate) fn take(&mut self, unit: &Arc<Packed>) {
        if unit.starts {
            self.clear();
        }
        self.bytes += unit.bytes;
        self.spoilt |= self.bytes > CATCH_UP_BYTES || self.units.len() >= CATCH_UP_UNITS;
        if self.spoilt {
            self.units.clear();
        } else if unit.starts || !self.units.is_empty() {
            self.units.push_back(unit.clone());
        }
    }

    /// Forgets them: what comes does not continue them.
    pub(crate) fn clear(&mut self) {
        *self = Catchup::default();
    }
}

/// The timestamps of one track.
#[derive(Clone, Copy, Debug)]
struct Line {
    /// What is added to a unit's ticks; none before the first.
    offset: Option<i64>,
    /// The last timestamp given, and its unit's session, ticks and arrival.
    last: i64,
    session: u64,
    ticks: i64,
    arrival_us: i64,
    /// A timestamp, and what the stream's clock shows then in microseconds.
    clock: Option<(u32, i64)>,
}

impl Line {
    fn new(first: u32) -> Line {
        Line { offset: None, last: i64::from(first), session: 0, ticks: 0, arrival_us: 0, clock: None }
    }

    /// The timestamp of a unit that is sent as it comes.
    fn stamp(&mut self, unit: &Packed) -> u32 {
        let rate = i64::from(unit.clock_rate);
        let passed_us = unit.arrival_us - self.arrival_us;
        let moved_us = (unit.ticks - self.ticks).saturating_mul(1_000_000) / rate;
        let goes_on = unit.session == self.session && (moved_us - passed_us).abs() < JUMP_US;
        let stamp = match self.offset.filter(|_| goes_on) {
            Some(offset) => (unit.ticks + offset).max(self.last + 1),
            None if self.offset.is_some() => self.last + (passed_us.clamp(1, 60_000_000) * rate / 1_000_000).max(1),
            None => self.last,
        };
        self.note(unit, stamp);
        if !goes_on || self.offset.is_none() {
            self.offset = Some(stamp - unit.ticks);
        }
        self.clock = Some((stamp as u32, unit.shown_us));
        stamp as u32
    }

    fn note(&mut self, unit: &Packed, stamp: i64) {
        (self.last, self.session, self.ticks, self.arrival_us) = (stamp, unit.session, unit.ticks, unit.arrival_us);
    }
}

/// Where a viewer is.
#[derive(Debug)]
enum Place {
    /// A key picture is waited for.
    Waiting,
    /// Older pictures are sent quickly, each under the time at which it is sent: at `since` that was `from`.
    Behind { backlog: VecDeque<Arc<Packed>>, bytes: usize, step: Duration, next: Instant, since: Instant, from: i64 },
    /// Pictures are sent as they come.
    Live,
}

/// One viewer's view of a stream.
#[derive(Debug)]
pub(crate) struct Viewer {
    place: Place,
    video: Option<Line>,
    audio: Option<Line>,
    /// Nothing that was taken before this may be seen, in microseconds.
    since_us: i64,
}

impl Viewer {
    /// A viewer of pictures and sound, as far as it takes them, whose timestamps begin there.
    pub(crate) fn new(video: Option<u32>, audio: Option<u32>) -> Viewer {
        Viewer { place: Place::Waiting, video: video.map(Line::new), audio: audio.map(Line::new), since_us: i64::MIN }
    }

    /// Who may see nothing that was taken before `since`: not the frames since the last key frame either, where that is older.
    pub(crate) fn since(self, since: ProducerTime) -> Viewer {
        Viewer { since_us: since.micros(), ..self }
    }

    /// Starts with the pictures since the last key picture, when there are any; says whether there are.
    pub(crate) fn catch_up(&mut self, catchup: &Catchup, now: Instant) -> bool {
        let Some(line) = &mut self.video else { return true };
        let (Some(first), Some(last)) = (catchup.units.front(), catchup.units.back()) else { return false };
        if first.shown_us < self.since_us {
            return false;
        }
        let count = catchup.units.len() as i64;
        let span_us = (last.ticks - first.ticks).max(0).saturating_mul(1_000_000) / i64::from(last.clock_rate);
        let step = Duration::from_micros((span_us / SPEED / count).unsigned_abs()).clamp(STEP_MIN, STEP_MAX);
        // The first goes out under the time of the newest: what is sent now is shown now.
        if line.offset.is_none() || line.session != last.session {
            line.offset = Some(line.last + 1 - last.ticks);
        }
        (line.session, line.ticks, line.arrival_us) = (last.session, last.ticks, last.arrival_us);
        line.clock = line.offset.map(|offset| ((last.ticks + offset) as u32, last.shown_us));
        let (backlog, bytes) = (catchup.units.clone(), catchup.bytes);
        self.place = Place::Behind { backlog, bytes, step, next: now, since: now, from: last.ticks };
        true
    }

    /// Leaves pictures out until the next key picture.
    pub(crate) fn skip(&mut self) {
        if self.video.is_some() {
            self.place = Place::Waiting;
        }
    }

    /// When [`Viewer::tick`] has something to send.
    pub(crate) fn due(&self) -> Option<Instant> {
        match &self.place {
            Place::Behind { next, .. } => Some(*next),
            Place::Waiting | Place::Live => None,
        }
    }

    /// Takes what came just now; what is to be sent goes to `out`.
    pub(crate) fn take(&mut self, unit: &Arc<Packed>, out: &mut Vec<Sending>) {
        let line = match unit.kind {
            Kind::Audio => &mut self.audio,
            Kind::Video => &mut self.video,
        };
        let Some(line) = line else { return };
        // What comes later depends on what is live by then: only the start is looked at.
        if unit.shown_us < self.since_us {
            return;
        }
        if unit.kind == Kind::Video {
            match &mut self.place {
                Place::Waiting if !unit.starts => return,
                Place::Behind { backlog, bytes, .. } if !unit.starts => {
                    *bytes += unit.bytes;
                    backlog.push_back(unit.clone());
                    if *bytes > 2 * CATCH_UP_BYTES || backlog.len() > 2 * CATCH_UP_UNITS {
                        self.place = Place::Waiting;
                    }
                    return;
                }
                Place::Waiting | Place::Behind { .. } | Place::Live => self.place = Place::Live,
            }
        }
        out.push(Sending { timestamp: line.stamp(unit), unit: unit.clone() });
    }

    /// Time went by: the next of the backlog.
    pub(crate) fn tick(&mut self, now: Instant, out: &mut Vec<Sending>) {
        let (Place::Behind { backlog, bytes, step, next, since, from }, Some(line)) =
            (&mut self.place, &mut self.video)
        else {
            return;
        };
        while now >= *next {
            let Some(newest) = backlog.back().map(|unit| unit.ticks) else { break };
            let after = backlog.len() as i64 - 1;
            let Some(unit) = backlog.pop_front() else { break };
            *bytes -= unit.bytes.min(*bytes);
            let offset = line.offset.unwrap_or(0);
            let passed = next.saturating_duration_since(*since).as_micros() as i64;
            let time = *from + offset + passed.saturating_mul(i64::from(unit.clock_rate)) / 1_000_000;
            // Those that follow need times between this one and that of the newest, which is its own.
            let stamp = time.min(newest + offset - after).max(line.last + 1);
            line.note(&unit, stamp);
            out.push(Sending { unit, timestamp: stamp as u32 });
            *next += *step;
        }
        if backlog.is_empty() {
            self.place = Place::Live;
        }
    }

    /// A timestamp of this viewer's track of `kind`, and what the clock that all tracks share shows then, in microseconds.
    pub(crate) fn clock(&self, kind: Kind) -> Option<(u32, i64)> {
        match kind {
            Kind::Audio => self.audio.as_ref(),
            Kind::Video => self.video.as_ref(),
        }?
        .clock
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use media::Codec;

    use super::*;

    const RATE: i64 = 90_000;
    /// Between pictures, in ticks.
    const STEP: i64 = RATE / 30;

    /// The `at`-th picture of 30 a second; every `gop`-th is a key picture.
    fn picture(session: u64, at: i64, gop: i64) -> Arc<Packed> {
        Arc::new(Packed {
            session,
            kind: Kind::Video,
            codec: Codec::H264,
            ticks: 1_000_000 * session as i64 + at * STEP,
            clock_rate: RATE as u32,
            shown_us: at * 1_000_000 / 30,
            arrival_us: 50_000 + at * 1_000_000 / 30,
            starts: at % gop == 0,
            marks_end: true,
            payloads: vec![Bytes::from_static(b"picture")],
            bytes: 7,
        })
    }

    fn sent(viewer: &mut Viewer, unit: &Arc<Packed>) -> Vec<Sending> {
        let mut out = Vec::new();
        viewer.take(unit, &mut out);
        out
    }

    #[test]
    fn who_may_see_nothing_from_before_now_starts_at_the_next_key_frame() {
        let mut catchup = Catchup::default();
        let frames: Vec<_> = (0..40).map(|at| picture(1, at, 30)).collect();
        frames.iter().take(20).for_each(|frame| catchup.take(frame));
        let since = ProducerTime::from_micros(frames[20].shown_us);
        let mut viewer = Viewer::new(Some(7), None).since(since);
        assert!(!viewer.catch_up(&catchup, Instant::now()), "it begins before");
        let mut out = Vec::new();
        frames.iter().skip(10).for_each(|frame| viewer.take(frame, &mut out));
        let shown: Vec<_> = out.iter().map(|sending| sending.unit.shown_us).collect();
        assert_eq!(shown, frames[30..].iter().map(|frame| frame.shown_us).collect::<Vec<_>>());
    }

    #[test]
    fn a_viewer_starts_at_a_key_picture_and_gets_every_picture_from_there() {
        let mut viewer = Viewer::new(Some(7), None);
        let counts: Vec<usize> = (5..25).map(|at| sent(&mut viewer, &picture(1, at, 10)).len()).collect();
        assert_eq!(counts, [vec![0; 5], vec![1; 15]].concat());
    }

    #[test]
    fn timestamps_go_on_as_the_pictures_were_taken() {
        let mut viewer = Viewer::new(Some(7), None);
        let stamps: Vec<u32> =
            (0..5).flat_map(|at| sent(&mut viewer, &picture(1, at, 10))).map(|sending| sending.timestamp).collect();
        assert_eq!(stamps, [7, 3_007, 6_007, 9_007, 12_007]);
    }

    /// Catches up with `behind` pictures while one comes each 33 ms; what was sent when, until nothing is left.
    fn catch_up(behind: i64) -> (Viewer, Vec<(Duration, Sending)>) {
        let (start, mut catchup) = (Instant::now(), Catchup::default());
        (0..behind).for_each(|at| catchup.take(&picture(1, at, 1_000)));
        let mut viewer = Viewer::new(Some(7), None);
        assert!(viewer.catch_up(&catchup, start));
        let (mut all, mut coming) = (Vec::new(), behind);
        while let Some(due) = viewer.due() {
            let next = Duration::from_micros(((coming - behind + 1) * 1_000_000 / 30).unsigned_abs());
            let mut out = Vec::new();
            let now = if due < start + next {
                viewer.tick(due, &mut out);
                due
            } else {
                viewer.take(&picture(1, coming, 1_000), &mut out);
                coming += 1;
                start + next
            };
            all.extend(out.into_iter().map(|sending| (now - start, sending)));
        }
        (viewer, all)
    }

    #[test]
    fn who_comes_late_runs_through_the_pictures_since_the_key_picture_to_the_live_edge() {
        for behind in [1, 2, 29, 299] {
            let (mut viewer, all) = catch_up(behind);
            let ticks: Vec<i64> = all.iter().map(|(_, sending)| sending.unit.ticks).collect();
            assert!(ticks.windows(2).all(|pair| pair[1] - pair[0] == STEP), "no picture is left out: {behind}");
            assert!(all.windows(2).all(|pair| pair[0].1.timestamp < pair[1].1.timestamp), "time goes on: {behind}");
            let took = all.last().expect("one at least").0;
            assert!(
                took < Duration::from_millis(50) + Duration::from_micros(33_333) * behind as u32 / 6,
                "{behind} took {took:?}"
            );
            // A second of timestamps is a second of sending, so that the receiver sees no jitter in it.
            let stamps = i64::from(all.last().expect("one").1.timestamp - all[0].1.timestamp);
            let spread = (stamps - took.as_micros() as i64 * RATE / 1_000_000).abs();
            assert!(spread <= 3 * STEP, "{behind}: {stamps} ticks in {took:?}");
            // From here on it is as if the viewer had been there before.
            let next = i64::try_from(all.len()).expect("few");
            let last = all.last().expect("one").1.timestamp;
            let step = i64::from(sent(&mut viewer, &picture(1, next, 1_000))[0].timestamp - last);
            assert!((step - STEP).abs() <= 2, "{behind}: {step}");
        }
    }

    #[test]
    fn a_key_picture_ends_catching_up() {
        let (now, mut catchup) = (Instant::now(), Catchup::default());
        (0..100).for_each(|at| catchup.take(&picture(1, at, 100)));
        let mut viewer = Viewer::new(Some(7), None);
        viewer.catch_up(&catchup, now);
        let mut out = Vec::new();
        viewer.tick(now, &mut out);
        assert_eq!(out.len(), 1);
        assert_eq!(sent(&mut viewer, &picture(1, 100, 100)).len(), 1);
        assert_eq!(viewer.due(), None);
        assert_eq!(sent(&mut viewer, &picture(1, 101, 100)).len(), 1);
    }

    #[test]
    fn more_than_can_be_caught_up_with_is_not_kept() {
        let mut catchup = Catchup::default();
        (0..3_000).for_each(|at| catchup.take(&picture(1, at, 10_000)));
        let mut viewer = Viewer::new(Some(7), None);
        assert!(!viewer.catch_up(&catchup, Instant::now()));
        assert!(catchup.units.is_empty());
        catchup.take(&picture(1, 10_000, 10_000));
        assert!(viewer.catch_up(&catchup, Instant::now()), "from the next key picture on");
    }

    #[test]
    fn a_viewer_that_skips_gets_nothing_until_the_next_key_picture() {
        let mut viewer = Viewer::new(Some(7), Some(9));
        sent(&mut viewer, &picture(1, 0, 10));
        viewer.skip();
        let counts: Vec<usize> = (1..12).map(|at| sent(&mut viewer, &picture(1, at, 10)).len()).collect();
        assert_eq!(counts, [vec![0; 9], vec![1; 2]].concat());
        let sound = Arc::new(Packed { kind: Kind::Audio, clock_rate: 48_000, ..copy(&picture(1, 12, 10)) });
        viewer.skip();
        assert_eq!(sent(&mut viewer, &sound).len(), 1, "sound goes on");
    }

    #[test]
    fn timestamps_go_on_over_another_publisher_whose_times_are_its_own() {
        let mut viewer = Viewer::new(Some(7), None);
        let before = sent(&mut viewer, &picture(1, 0, 10))[0].timestamp;
        let later = Packed { arrival_us: 1_050_000, ..copy(&picture(9, 0, 10)) };
        let after = sent(&mut viewer, &Arc::new(later))[0].timestamp;
        assert_eq!(after - before, RATE as u32, "a second later by arrival");
    }

    fn copy(unit: &Packed) -> Packed {
        Packed { payloads: unit.payloads.clone(), ..*unit }
    }
}
