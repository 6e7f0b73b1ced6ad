//! A fuzz target: stored fragments that say what cannot be through both kinds of clip, see `crate::fuzz`.
//!
//! Here: everything between the index and the bytes of a file, with descriptions and heads of fragments as a bad disk, or whoever can
//! write one, may leave them. Not here: the store's own reading of them, which keeps a part inside of its body and nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use media::container::cmaf;
use media::{
    ClockSource, Epoch, Fragment, FragmentInfo, FragmentTrack, GapReason, Ordinal, Position, ProducerTime, Sequence,
    ServerTime, StartKind, StreamId, Track, TrackId, TrackSet, TrackSetId,
};

use super::super::hls::{SpanClock, is_allowed};
use super::body::{Load, Loads};
use super::cut::{self, Loaded};
use super::fragmented::{self, Content, Survey};
use super::progressive::{self, Extent, Payload, Plan};
use super::select::{self, Chosen, Take};
use super::silence::SilentFragments;
use super::{Asker, Audio, ClipError, Gaps, Request};
use crate::live::{Descriptor, Source};

/// Most fragments of an input.
const FRAGMENTS_MAX: usize = 64;
/// Fragments looked up at once.
const PAGE: usize = 3;

/// A request, the head of a block, and fragments: what is planned can be read, and is as long as it says.
///
/// ```text
/// input    = flags 1, from 2, to 2 (tenths of a second from the first fragment on), head (ftyp moov), fragment*
/// fragment = start 1, break 1, set 1, tracks 1, ordinal 8, producer time 8, duration 8, track*, body length 2, body
/// track    = id 4, offset 4, moof length 4, length 4, samples 4, first dts 8, first pts 8, duration 8
/// ```
pub(crate) fn plan(data: &[u8]) {
    let Some((request, asker, fragments)) = Fields(data).input() else { return };
    let _ = planned(request, asker, &fragments);
    let _ = filmed(request, asker, &fragments);
}

/// As [`super::select::choose`] and [`super::progressive::plan`] do. Gives how many silences are in it.
fn planned(request: Request, asker: Asker, all: &[Descriptor]) -> Result<usize, ClipError> {
    let chosen = chosen(request, asker, all, in_range(request, asker, all))?;
    let loaded = load(&chosen, all);
    let cut = cut::find(&chosen, &loaded, request).ok_or(ClipError::NoMedia)?;
    let plan = progressive::build(&chosen, &loaded, &cut, Extent::Whole)?.plan;
    check_plan(&plan, all);
    Ok(plan.pieces.iter().filter(|piece| matches!(piece.payload, Payload::Silence(_))).count())
}

/// As [`super::fragmented::plan`] and its readers do. Gives how many silences are in it.
fn filmed(request: Request, asker: Asker, all: &[Descriptor]) -> Result<usize, ClipError> {
    let mut survey = Survey::default();
    let mut of = None;
    let start = all.iter().position(|one| request.clock.end(&one.info) > request.from_us).unwrap_or(all.len());
    for descriptor in all[start..].iter().take_while(|one| Survey::covers(request, one)) {
        if !is_allowed(asker.allowed, &descriptor.info) {
            continue;
        }
        if of.replace(descriptor.info.track_set) != Some(descriptor.info.track_set) {
            survey.turn(request, &descriptor.info, &set_of(descriptor));
        }
        survey.add(request, descriptor.clone());
    }
    let Survey { first, last, tracks, .. } = survey.finish()?;
    let front = Chosen { tracks: tracks.clone(), ..chosen(request, asker, all, first)? };
    let last = Chosen { tracks, ..select::gather(request, described(last), 0, Take::All)? };
    let (loaded, last_loaded) = (load(&front, all), load(&last, all));
    let (film, sent) = fragmented::walked(asker, request, (front, loaded), (last, last_loaded), all, PAGE)?;
    check_plan(&film.front, all);
    let (mut at, mut silences) = (0, 0);
    for one in sent {
        assert_eq!(one.at, at, "fragments follow each other");
        at += one.len();
        let stored = match &one.content {
            Content::Stored(stored) => stored,
            Content::Silence(silence) => {
                check_silence(silence);
                silences += 1;
                continue;
            }
        };
        let body = &body_of(all, stored.handle.position);
        let read = stored.read();
        assert!(read.start <= read.end && read.end as usize <= body.len(), "what is read is there");
        if let Ok(bytes) = stored.bytes(&body.slice(read.start as usize..read.end as usize)) {
            assert_eq!(bytes.len() as u64, one.len(), "a fragment is as long as was promised");
        }
    }
    assert_eq!(film.len, film.front_len() + at);
    Ok(silences)
}

/// Its ends can be had, and join what is between them.
fn check_silence(silence: &SilentFragments) {
    let len = silence.len();
    let end = |range: std::ops::Range<u64>| silence.bytes(range).expect("times of sound are within reason");
    assert!(end(len..len).is_empty());
    let (first, last) = (end(0..len.min(5_000)), end(len.saturating_sub(5_000)..len));
    assert_eq!((first.len(), last.len()), (len.min(5_000) as usize, len.min(5_000) as usize), "all of it is there");
    assert_eq!(&first[4..8], b"moof");
    if len <= 5_000 {
        assert_eq!(first, last);
    }
}

fn in_range(request: Request, asker: Asker, all: &[Descriptor]) -> Vec<Descriptor> {
    let meets =
        |info: &FragmentInfo| request.clock.start(info) < request.to_us && request.clock.end(info) > request.from_us;
    all.iter().filter(|one| meets(&one.info) && is_allowed(asker.allowed, &one.info)).cloned().collect()
}

fn chosen(request: Request, asker: Asker, all: &[Descriptor], found: Vec<Descriptor>) -> Result<Chosen, ClipError> {
    let first = found.first().ok_or(ClipError::NoMedia)?.info.clone();
    let before = all.partition_point(|one| one.info.position < first.position);
    let is_start = first.start == StartKind::Closed || first.break_before.is_some();
    let lead = if is_start { 0 } else { select::reach_back(&first, &all[..before], asker).0 };
    let chosen = all[before - lead..before].iter().cloned().chain(found).collect();
    select::gather(request, described(chosen), lead, Take::Decodable)
}

fn described(descriptors: Vec<Descriptor>) -> Vec<(Descriptor, Option<Arc<TrackSet>>)> {
    descriptors.into_iter().map(|one| (one.clone(), Some(set_of(&one)))).collect()
}

fn fragment(descriptor: &Descriptor) -> &Arc<Fragment> {
    match &descriptor.source {
        Source::Tail { fragment, .. } => fragment,
        Source::Store(_) => unreachable!("all of them are in memory"),
    }
}

fn set_of(descriptor: &Descriptor) -> Arc<TrackSet> {
    fragment(descriptor).tracks.clone()
}

fn body_of(all: &[Descriptor], position: Position) -> Bytes {
    let found = all.iter().find(|one| one.info.position == position);
    fragment(found.expect("only what was there is planned")).body.clone()
}

fn load(chosen: &Chosen, all: &[Descriptor]) -> Loaded {
    let heads = chosen.fragments.iter().map(|piece| {
        let body = body_of(all, piece.info.position);
        let head = |track: &Track| {
            let part = piece.info.track(track.id)?;
            Some(body.slice(part.offset as usize..(part.offset + part.moof_len) as usize))
        };
        chosen.tracks.iter().map(head).collect()
    });
    progressive::load(chosen, heads.collect())
}

/// The payload follows the head without a hole, lies in its fragments, and every part of it can be asked for.
fn check_plan(plan: &Plan, all: &[Descriptor]) {
    let head_len = plan.head.len() as u64;
    let mut at = head_len;
    for piece in &plan.pieces {
        assert_eq!(piece.at, at, "pieces follow each other");
        at += piece.len();
        let Payload::Stored(stored) = &piece.payload else { continue };
        let body = body_of(all, stored.handle.position);
        assert!(stored.ranges.iter().all(|range| range.start <= range.end && range.end as usize <= body.len()));
    }
    if plan.pieces.is_empty() {
        return;
    }
    assert_eq!(at, plan.len);
    let len = at - head_len;
    let plan = Arc::new(plan.with_head(plan.head.clone(), true));
    for range in [head_len..at, head_len + len / 3..at, head_len..at - len / 3, head_len + len / 3..at - len / 3] {
        let loads: Vec<_> = Loads::new(plan.clone(), range.clone()).flatten().collect();
        let mut sent = 0;
        for load in &loads {
            let load = match load {
                Load::Read(load) => load,
                Load::Silence(silence, part) => {
                    assert!(part.start < part.end && part.end <= silence.len);
                    sent += part.end - part.start;
                    continue;
                }
            };
            let inside = |part: &std::ops::Range<u32>| load.read.start <= part.start && part.end <= load.read.end;
            assert!(load.sent.iter().all(inside), "what is sent was read");
            sent += load.sent.iter().map(|part| u64::from(part.end - part.start)).sum::<u64>();
        }
        assert_eq!(sent, range.end - range.start, "all of it and no more");
    }
}

/// Takes an input apart.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.take().map(i64::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    fn input(mut self) -> Option<(Request, Asker, Vec<Descriptor>)> {
        let [flags] = self.take()?;
        let (from, to) = (self.take().map(i16::from_be_bytes)?, self.take().map(i16::from_be_bytes)?);
        let (tracks, len) = cmaf::read_head(self.0).ok()?;
        self.0 = self.0.get(len..)?;
        let sets = [Arc::new(tracks.clone()), Arc::new(other(&tracks)?)];
        let mut all = Vec::new();
        while all.len() < FRAGMENTS_MAX
            && let Some(fragment) = self.fragment(all.len() as u64, &sets)
        {
            let source = Source::Tail { fragment: Arc::new(fragment.clone()), persisted: true };
            all.push(Descriptor { info: fragment.info, source });
        }
        let clock = if flags & 1 == 0 { SpanClock::Producer } else { SpanClock::Server };
        let start_us = clock.start(&all.first()?.info);
        let at = |tenths: i16| start_us.saturating_add(i64::from(tenths) * 100_000);
        let audio = [Audio::Keep, Audio::Keep, Audio::Only, Audio::None][usize::from(flags >> 2 & 3)];
        let gaps = if flags & 2 == 0 { Gaps::Close } else { Gaps::Keep };
        let request = Request { from_us: at(from), to_us: at(to), clock, gaps, audio };
        let seen = (ProducerTime::from_micros(at(0)), ProducerTime::from_micros(at(30)));
        let allowed = (flags & 16 != 0).then_some(seen);
        let asker = Asker { stream: StreamId(uuid::Uuid::from_u128(1)), was_trimmed: false, allowed };
        (request.from_us < request.to_us).then_some((request, asker, all))
    }

    fn fragment(&mut self, number: u64, sets: &[Arc<TrackSet>; 2]) -> Option<Fragment> {
        let [start, reason, set, count] = self.take()?;
        let ordinal = Ordinal(self.u64()?);
        let producer_time = ProducerTime::from_micros(self.i64()?);
        let duration_us = self.u64()?;
        let tracks = (0..count.min(8)).map(|_| self.part()).collect::<Option<Vec<FragmentTrack>>>()?;
        let body_len = usize::from(self.take().map(u16::from_be_bytes)?);
        let body = Bytes::copy_from_slice(self.0.get(..body_len)?);
        self.0 = &self.0[body_len..];
        // What the store refuses to read (`store::block::record`).
        let is_inside = |part: &FragmentTrack| {
            part.offset.checked_add(part.len).is_some_and(|end| end as usize <= body_len) && part.moof_len <= part.len
        };
        let info = FragmentInfo {
            position: Position { epoch: Epoch(1), sequence: Sequence(number + 1) },
            ordinal,
            discontinuities: 0,
            track_set: TrackSetId(u32::from(set)),
            start: StartKind::from_u8(start)?,
            break_before: GapReason::from_u8(reason),
            end_of_session: false,
            damaged: false,
            producer_time,
            clock_source: ClockSource::Arrival,
            clock_error_us: 0,
            server_time: ServerTime::from_micros(producer_time.micros()).plus_micros(500_000),
            duration_us,
            tracks,
            body_len: body_len as u32,
        };
        let tracks = sets[usize::from(set & 1)].clone();
        info.tracks.iter().all(is_inside).then_some(Fragment { info, tracks, body })
    }

    fn part(&mut self) -> Option<FragmentTrack> {
        let (track, offset, moof_len) = (TrackId(self.u32()?), self.u32()?, self.u32()?);
        let (len, samples) = (self.u32()?, self.u32()?);
        let (first_dts, first_pts, duration) = (self.i64()?, self.i64()?, self.u64()?);
        Some(FragmentTrack { track, offset, moof_len, len, samples, first_dts, first_pts, duration })
    }
}

/// The same tracks, of which the first is described otherwise.
fn other(tracks: &TrackSet) -> Option<TrackSet> {
    let mut tracks: BTreeMap<TrackId, Track> = tracks.tracks().iter().map(|one| (one.id, one.clone())).collect();
    let mut first = tracks.first_entry()?;
    let track = first.get_mut();
    track.sample_entry = Bytes::from([&track.sample_entry[..], &[0, 0, 0, 8, b'f', b'r', b'e', b'e']].concat());
    TrackSet::new(tracks.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_inputs_reach_both_kinds_of_clip() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus/clip_plan");
        let silences = [("whole", 0), ("middle", 0), ("gap", 2), ("dependent", 0), ("sound", 0)];
        for (name, expected) in silences {
            let data = std::fs::read(folder.join(name)).expect("a stored input");
            let (request, asker, fragments) = Fields(&data).input().expect("it is read");
            let found = [planned(request, asker, &fragments), filmed(request, asker, &fragments)];
            assert_eq!(found.map(|found| found.expect(name)), [expected; 2], "{name}");
        }
    }
}
