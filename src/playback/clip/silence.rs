//! Sound where there is none: coded silence between two stretches, so that a track of sound goes on without a pause.
//!
//! A player may take the times of sound for what they say, or play what it decodes without looking at them; Chromium does the
//! second, and a pause would bring all sound behind it early. So a pause is filled, with as many units as bring the *count* of samples
//! nearest to the time: what was rounded at one pause is made good at the next, and players that count are never more than half a
//! unit (11 ms of AAC) beside the pictures. The *times* in the file stay exact: the last unit is as much longer or shorter.
//!
//! Here: how many units, and their fragments. Not here: their bytes (`media::codec::silence`), and pauses inside of a stretch, which
//! stay as they were recorded.

use std::io;
use std::ops::Range;

use bytes::Bytes;
use media::codec::silence::Silence;
use media::container::cmaf::{self, Entry};
use media::{Track, TrackId};

/// Longest pause that is filled, in seconds: a day. What is longer is left to the times alone, for nobody waits for its end, and a
/// producer's clock that was off by years would make as many of them.
const PAUSE_MAX_S: i64 = 86_400;
/// Units in a fragment: some ten seconds.
const UNITS_OF_FRAGMENT: u64 = 512;

/// How far a track of sound has come. Times are in ticks of the track, and of one kind: those of the clip or those of the file.
#[derive(Clone, Debug)]
pub(super) struct Sound {
    silence: Silence,
    hz: i64,
    /// When its last unit ends; none before the first.
    end: Option<i64>,
    /// How much sooner than that a player is that counts samples.
    early: i64,
    /// A stretch began since.
    is_joint: bool,
}

impl Sound {
    /// None for pictures, and for sound whose silence is not known.
    pub fn of(track: &Track) -> Option<Sound> {
        let silence = Silence::of(track)?;
        Some(Sound { silence, hz: track.timescale.hz().into(), end: None, early: 0, is_joint: false })
    }

    /// The next units are of another stretch.
    pub fn join(&mut self) {
        self.is_joint = true;
    }

    /// Units from `start` to `end` come next. Gives the silence before them, when they begin a stretch.
    pub fn go_on(&mut self, start: i64, end: i64) -> Option<Fill> {
        let is_joint = std::mem::take(&mut self.is_joint);
        let before = self.end.replace(end);
        before.filter(|_| is_joint).and_then(|before| self.fill(before, start))
    }

    fn fill(&mut self, from: i64, to: i64) -> Option<Fill> {
        let pause = to.saturating_sub(from);
        if pause > self.hz.saturating_mul(PAUSE_MAX_S) {
            return None;
        }
        let ticks = i64::from(self.silence.ticks);
        let whole = |units: i64| units.saturating_sub(1).saturating_mul(ticks);
        let count = match self.silence.divisible {
            true => pause.max(0).saturating_add(ticks - 1).div_euclid(ticks),
            false => pause.saturating_add(self.early).saturating_add(ticks / 2).div_euclid(ticks).max(0),
        };
        // Each takes some time.
        let count = if whole(count) >= pause { count - 1 } else { count };
        let played = if self.silence.divisible { pause.max(0) } else { count.max(0).saturating_mul(ticks) };
        self.early = self.early.saturating_add(pause).saturating_sub(played);
        let last = u32::try_from(pause.saturating_sub(whole(count))).ok()?;
        let size = if self.silence.divisible { last } else { self.payload_len() };
        let last = Entry { duration: last, offset: 0, size, sync: true };
        (count > 0).then(|| Fill { silence: self.silence.clone(), start: from, count: count.unsigned_abs(), last })
    }

    fn payload_len(&self) -> u32 {
        u32::try_from(self.silence.payload.len()).unwrap_or(u32::MAX)
    }
}

/// Units of silence that follow each other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Fill {
    silence: Silence,
    /// When the first begins, in the times of the [`Sound`].
    pub start: i64,
    /// At least one.
    pub count: u64,
    last: Entry,
}

impl Fill {
    /// Those of `range`.
    fn entries(&self, range: Range<u64>) -> impl Iterator<Item = Entry> + use<> {
        let size = u32::try_from(self.silence.payload.len()).unwrap_or(u32::MAX);
        let (ticks, last, at_last) = (self.silence.ticks, self.last, self.count - 1);
        range.map(move |at| if at == at_last { last } else { Entry { duration: ticks, offset: 0, size, sync: true } })
    }

    /// All of them, each with its time.
    pub fn units(&self) -> impl Iterator<Item = (i64, Entry)> + use<> {
        let (start, ticks) = (self.start, i64::from(self.silence.ticks));
        let at = (0i64..).map(move |number| start.saturating_add(number.saturating_mul(ticks)));
        at.zip(self.entries(0..self.count))
    }

    /// The bytes of all.
    pub fn payload(&self) -> Repeated {
        let len = (self.count - 1) * self.silence.payload.len() as u64 + u64::from(self.last.size);
        Repeated { unit: self.silence.payload.clone(), len }
    }
}

/// The same bytes over and over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Repeated {
    /// Not empty.
    unit: Bytes,
    /// Of all together; the last may be cut.
    pub len: u64,
}

impl Repeated {
    pub fn bytes(&self, range: Range<u64>) -> Vec<u8> {
        // Less than its length.
        let within = (range.start % self.unit.len() as u64) as usize;
        let wanted = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        self.unit.iter().copied().cycle().skip(within).take(wanted).collect()
    }
}

/// Silence as fragments of its track alone, made when it is sent: a day of it takes no more memory than a second.
#[derive(Clone, Debug)]
pub(super) struct SilentFragments {
    track: TrackId,
    /// Number of the first fragment.
    number: u32,
    fill: Fill,
    /// Length of each fragment but the last, and of that.
    each_len: u64,
    last_len: u64,
}

impl SilentFragments {
    pub fn new(track: TrackId, number: u32, fill: Fill) -> SilentFragments {
        let mut fragments = SilentFragments { track, number, fill, each_len: 0, last_len: 0 };
        let len = |units: Range<u64>| {
            let entries: Vec<Entry> = fragments.fill.entries(units).collect();
            let payload: u64 = entries.iter().map(|entry| u64::from(entry.size)).sum();
            cmaf::moof_len(&entries) as u64 + 8 + payload
        };
        let last = fragments.count() - 1;
        let (each_len, last_len) = (len(fragments.units(0)), len(fragments.units(last)));
        (fragments.each_len, fragments.last_len) = (each_len, last_len);
        fragments
    }

    pub fn count(&self) -> u64 {
        self.fill.count.div_ceil(UNITS_OF_FRAGMENT)
    }

    pub fn len(&self) -> u64 {
        (self.count() - 1) * self.each_len + self.last_len
    }

    /// Units of a fragment.
    fn units(&self, fragment: u64) -> Range<u64> {
        let start = fragment * UNITS_OF_FRAGMENT;
        start..self.fill.count.min(start + UNITS_OF_FRAGMENT)
    }

    /// Bytes `range` of them.
    pub fn bytes(&self, range: Range<u64>) -> io::Result<Vec<u8>> {
        let first = (range.start / self.each_len).min(self.count() - 1);
        let before = range.start - first * self.each_len;
        let wanted = range.end.saturating_sub(range.start);
        let mut out = Vec::new();
        for fragment in first..self.count() {
            if out.len() as u64 >= before + wanted {
                break;
            }
            self.append(&mut out, fragment)?;
        }
        let cut = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(out.len());
        let (from, to) = (cut(before), cut(before + wanted));
        out.truncate(to);
        Ok(out.split_off(from))
    }

    fn append(&self, out: &mut Vec<u8>, fragment: u64) -> io::Result<()> {
        let units = self.units(fragment);
        // Both are below the units of a day.
        let ticks = units.start as i64 * i64::from(self.fill.silence.ticks);
        let first_dts = u64::try_from(self.fill.start.saturating_add(ticks)).unwrap_or(0);
        let number = self.number.wrapping_add(fragment as u32);
        let entries: Vec<Entry> = self.fill.entries(units).collect();
        let payloads = entries.iter().map(|entry| &self.fill.silence.payload[..entry.size as usize]);
        let start = out.len();
        let written = cmaf::append(out, start, self.track, number, first_dts, &entries, payloads);
        written.map(|_| ()).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use media::codec::{aac, g711, opus};

    fn aac() -> Sound {
        Sound::of(&aac::track(TrackId(2), &[0x11, 0x90]).expect("AAC-LC")).expect("its silence is known")
    }

    /// The durations that fill a pause.
    fn durations(fill: &Fill) -> Vec<u32> {
        fill.units().map(|(_, entry)| entry.duration).collect()
    }

    /// Fills a pause, and plays a unit behind it.
    fn pause(sound: &mut Sound, ticks: i64) -> Option<Fill> {
        let end = sound.end.expect("it has begun");
        sound.join();
        sound.go_on(end + ticks, end + ticks + 1024)
    }

    #[test]
    fn last_unit_ends_where_sound_goes_on() {
        let mut sound = aac();
        assert_eq!(sound.go_on(500, 1_524), None, "nothing before the first");
        assert_eq!(sound.go_on(4_000, 5_024), None, "a pause inside of a stretch stays");
        let fill = pause(&mut sound, 3_000).expect("three of them");
        assert_eq!((fill.start, durations(&fill)), (5_024, vec![1_024, 1_024, 952]));
        assert_eq!(sound.early, -72);
        let fill = pause(&mut sound, 1_400).expect("one of them");
        assert_eq!((durations(&fill), sound.early), (vec![1_400], 304));
        assert_eq!(pause(&mut sound, 100), None);
        assert_eq!(sound.early, 404);
        let fill = pause(&mut sound, 120).expect("one of them");
        assert_eq!((durations(&fill), sound.early), (vec![120], -500), "what was rounded is made good");
        assert_eq!(pause(&mut sound, 0), None);
        assert_eq!(pause(&mut sound, -1), None);
        assert_eq!(sound.early, -501);
        assert_eq!(pause(&mut sound, 86_401 * 48_000), None, "longer than a day");
        assert!(pause(&mut sound, 86_399 * 48_000).is_some());
    }

    #[test]
    fn count_stays_with_the_time_over_many_pauses() {
        let mut sound = aac();
        sound.go_on(0, 1_024);
        let (mut counted, mut time) = (1_024, 1_024);
        for ticks in (1..4_000).step_by(37) {
            let fill = pause(&mut sound, ticks);
            let filled: u32 = fill.iter().flat_map(durations).sum();
            assert!(fill.is_none() || i64::from(filled) == ticks, "{ticks}");
            counted += 1_024 * (fill.map_or(0, |fill| fill.count as i64) + 1);
            time += ticks + 1_024;
            // A pause shorter than half a unit may have to wait for the next.
            assert!((time - counted).abs() <= 512 || ticks < 1_024, "{} ticks apart behind {ticks}", time - counted);
        }
    }

    #[test]
    fn g711_is_filled_to_the_byte() {
        let mut sound = Sound::of(&g711::track(TrackId(2), g711::Law::A)).expect("its silence is known");
        sound.go_on(0, 160);
        let fill = pause(&mut sound, 333).expect("silence");
        assert_eq!((durations(&fill), sound.early, fill.payload().len), (vec![160, 160, 13], 0, 333));
        assert_eq!(fill.payload().bytes(300..333), [0xd5; 33]);
    }

    #[test]
    fn fragments_are_as_long_as_they_say_and_every_part_is_a_part() {
        let mut sound = Sound::of(&opus::track(TrackId(2), 2).expect("stereo")).expect("its silence is known");
        sound.go_on(0, 960);
        let fill = pause(&mut sound, 1_300 * 960 + 400).expect("silence");
        let payload = fill.payload();
        assert_eq!(payload.bytes(4..9), [0xff, 0xfe, 0xf8, 0xff, 0xfe]);
        let fragments = SilentFragments::new(TrackId(2), 7, fill);
        assert_eq!(fragments.count(), 3);
        let whole = fragments.bytes(0..fragments.len()).expect("written");
        assert_eq!(whole.len() as u64, fragments.len());
        for start in (0..fragments.len()).step_by(777) {
            let end = (start + 1_500).min(fragments.len());
            let part = fragments.bytes(start..end).expect("written");
            assert!(part == whole[start as usize..end as usize], "{start}..{end}");
        }
        let (mut at, mut time, mut units) = (0, 960, 0);
        while at < whole.len() {
            let samples = cmaf::part_samples(&whole[at..]).expect("a fragment");
            assert!(samples.iter().all(|sample| whole[at..][sample.range.clone()] == [0xf8, 0xff, 0xfe]));
            assert_eq!(samples[0].dts, time, "they follow each other");
            time += samples.iter().map(|sample| i64::from(sample.duration)).sum::<i64>();
            units += samples.len();
            at += samples.last().expect("not empty").range.end;
        }
        assert_eq!((time, units), (960 + 1_300 * 960 + 400, 1_300));
    }
}
