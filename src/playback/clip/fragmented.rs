//! A fragmented file of any length: its fragments as they are stored, with other decode times, looked up as they are sent.
//!
//! ```text
//! ftyp moov (mdat)   front: up to the first random access point behind the first picture, as in a progressive file, with its
//!                    edit list; or the tracks alone, when the first picture needs nothing before it
//! moof mdat ...      the fragments that follow, and of the last what lies before the end
//! ```
//!
//! Stored parts keep their length, so the length of the whole is known from the index, and every byte can be found again: a file of
//! ten hours is planned by walking the index twice, and what is kept of it is a mark each thousand fragments. Silence in a gap is
//! fragments of its own, whose length follows from that of the gap.
//!
//! An edit list over the samples of the head is what FFmpeg and Chromium apply to the picture; GStreamer 1.22 shows the first picture
//! and then goes on at the first fragment. With an edit list alone, and all samples in fragments, FFmpeg shows what should be hidden.
//! The pictures behind the last one that it needs are shown too: fragments have no edit at their end.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use media::container::cmaf::{self, Entry};
use media::container::mp4::MOVIE_TIMESCALE;
use media::time::rescale;
use media::{
    FragmentInfo, FragmentTrack, Ordinal, Position, StartKind, StreamId, Track, TrackId, TrackSet, TrackSetId,
};
use store::{Select, StoreError};

use super::super::hls::is_allowed;
use super::cut::{self, Raw};
use super::progressive::{self, Extent, Plan};
use super::select::{self, Chosen, Piece, RANGES_MAX, Take, is_wanted};
use super::silence::{SilentFragments, Sound};
use super::{Asker, ClipError, Gaps, Request, SameTracks};
use crate::live::{Descriptor, Handle, Hub, Source};

/// Fragments looked up at once; few in tests, so that a short recording has many pages.
const PAGE: usize = if cfg!(test) { 8 } else { 1_024 };
/// Fragments at either end whose samples are looked at.
const ENDS: usize = 16;

/// Everything about a file but its fragments.
#[derive(Debug)]
pub(super) struct Film {
    pub etag: String,
    pub len: u64,
    pub start_us: i64,
    pub has_video: bool,
    pub front: Arc<Plan>,
    asker: Asker,
    request: Request,
    tracks: Vec<Track>,
    /// Where each page begins; the first is where the fragments begin.
    marks: Vec<Walk>,
    tail: Tail,
    /// Bytes of all fragments.
    fragments_len: u64,
}

/// The last fragment, and how many samples of each track are sent of it.
#[derive(Clone, Debug)]
struct Tail {
    position: Position,
    parts: BTreeMap<TrackId, Vec<Raw>>,
}

/// A walk over fragments: what the next one's times and place depend on.
#[derive(Clone, Debug)]
struct Walk {
    /// The fragment before the next.
    after: Position,
    before: Option<(Ordinal, TrackSetId)>,
    /// Bytes of fragments so far, and parts.
    at: u64,
    parts: u32,
    /// Taken from the stream's times, in ticks of the movie.
    shift: i64,
    /// When the latest track has ended, in ticks of the movie.
    end: i64,
    /// When the decode times of each track have ended, in ticks of the movie.
    decoded: Vec<(TrackId, i64)>,
    /// The first picture: its time in ticks of the movie, and when it was taken.
    start_us: i64,
    /// Taken from the shifted times of each track, in its ticks.
    origins: Arc<Vec<(TrackId, i64)>>,
    /// Tracks of sound, in times of the file.
    sounds: Vec<(TrackId, Sound)>,
}

/// What is sent as a whole, or not at all.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    /// Where it starts among all fragments.
    pub at: u64,
    pub content: Content,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    Stored(Stored),
    /// Silence before the stored fragment that follows.
    Silence(SilentFragments),
}

/// A stored fragment as it is sent.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub handle: Handle,
    body_len: u32,
    parts: Vec<SentPart>,
}

#[derive(Clone, Debug)]
struct SentPart {
    track: TrackId,
    range: Range<u32>,
    first_dts: u64,
    number: u32,
    /// Its length when it is not sent as a whole, and its samples.
    cut: Option<(u32, Vec<Raw>)>,
}

impl SentPart {
    fn len(&self) -> u64 {
        self.cut.as_ref().map_or(self.range.end - self.range.start, |(len, _)| *len).into()
    }
}

impl Sent {
    pub fn len(&self) -> u64 {
        match &self.content {
            Content::Stored(stored) => stored.len(),
            Content::Silence(silence) => silence.len(),
        }
    }
}

impl Stored {
    pub fn len(&self) -> u64 {
        self.parts.iter().map(SentPart::len).sum()
    }

    /// What is to be read of its body: all of it is checked, when it is.
    pub fn read(&self) -> Range<u32> {
        // Tracks lie behind each other in the order of their numbers, if their fragment is not damaged.
        let start = self.parts.iter().map(|part| part.range.start).min().unwrap_or(0);
        let end = self.parts.iter().map(|part| part.range.end).max().unwrap_or(0);
        if end - start > self.body_len / 2 { 0..self.body_len } else { start..end }
    }

    /// Its bytes, made of what was read.
    pub fn bytes(&self, read: &Bytes) -> io::Result<Vec<u8>> {
        let before = self.read().start;
        let mut out = Vec::with_capacity(usize::try_from(self.len()).unwrap_or(0));
        let broken = |error: &dyn std::fmt::Display| io::Error::other(format!("not a stored fragment: {error}"));
        let slice = |range: Range<u32>| {
            let bytes = read.get((range.start - before) as usize..(range.end - before) as usize);
            bytes.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
        };
        for part in &self.parts {
            let Some((_, samples)) = &part.cut else {
                let start = out.len();
                out.extend_from_slice(slice(part.range.clone())?);
                let written = cmaf::rebase(&mut out[start..], part.first_dts, part.number);
                written.map_err(|error| broken(&error))?;
                continue;
            };
            let payloads = samples.iter().map(|raw| slice(raw.start..raw.start.saturating_add(raw.size)));
            let payloads = payloads.collect::<io::Result<Vec<_>>>()?;
            let entries = entries(samples);
            let start = out.len();
            let written =
                cmaf::append(&mut out, start, part.track, part.number, part.first_dts, &entries, payloads.into_iter());
            written.map_err(|error| broken(&error))?;
        }
        Ok(out)
    }
}

fn entries(samples: &[Raw]) -> Vec<Entry> {
    let entry = |raw: &Raw| Entry { duration: raw.duration, offset: raw.offset, size: raw.size, sync: raw.sync };
    samples.iter().map(entry).collect()
}

/// Length of a part of these samples.
fn cut_len(samples: &[Raw]) -> u32 {
    let payload: u64 = samples.iter().map(|raw| u64::from(raw.size)).sum();
    u32::try_from(cmaf::moof_len(&entries(samples)) as u64 + 8 + payload).unwrap_or(u32::MAX)
}

/// Plans the file: reads the index twice, and the heads of some fragments at either end.
pub(super) async fn plan(hub: &Hub, asker: Asker, request: Request) -> Result<Film, ClipError> {
    select::refuse_gone(hub, asker, request.from_us, request.clock).await?;
    let survey = survey(hub, asker, request).await?;
    let tracks = survey.tracks;
    // Where it starts.
    let first = survey.first.first().ok_or(ClipError::NoMedia)?;
    let mut front = select::lead_in(hub, asker, &first.info).await?;
    let lead = front.len();
    front.extend(survey.first);
    let front = select::assemble(hub, asker.stream, request, front, lead, Take::Decodable).await?;
    let front = Chosen { tracks: tracks.clone(), ..front };
    let loaded = progressive::load(&front, progressive::read_heads(hub, asker.stream, &front).await?);
    // Where it ends.
    let last = select::assemble(hub, asker.stream, request, survey.last, 0, Take::All).await?;
    let last = Chosen { tracks, ..last };
    let last_loaded = progressive::load(&last, progressive::read_heads(hub, asker.stream, &last).await?);
    // What is sent in between.
    let mut making = begin(asker, request, (front, loaded), (last, last_loaded))?;
    while let Some(sent) = making.next(hub).await? {
        making.note(&sent);
    }
    making.finish()
}

/// A film whose ends are known, while its fragments are walked over.
pub(super) struct Making {
    film: Film,
    front: Chosen,
    loaded: cut::Loaded,
    cut: cut::Cut,
    walk: Walk,
    is_whole: bool,
    /// All that is wanted is in the front.
    ends_at_once: bool,
    hasher: DefaultHasher,
}

/// A film by what is known of its ends: fragments with the samples that their heads list.
pub(super) fn begin(
    asker: Asker,
    request: Request,
    (front, loaded): (Chosen, cut::Loaded),
    (last, last_loaded): (Chosen, cut::Loaded),
) -> Result<Making, ClipError> {
    let tracks = front.tracks.clone();
    let start = cut::find(&front, &loaded, request).ok_or(ClipError::NoMedia)?;
    let (end_at, last_pts, end) = cut::last(&last, &last_loaded, start.lead, request).ok_or(ClipError::NoMedia)?;
    let lead_track = &tracks[start.lead];
    let tail = tail(&last, &last_loaded, end_at, start.lead, (last_pts, end));
    let at = &front.fragments[start.at];
    let is_whole = start.first == start.at
        && loaded[start.at][start.lead].iter().all(|sample| {
            let time = start.time(at.run, lead_track.timescale, sample.pts);
            time >= 0
        });
    let ends_at_once = !is_whole && tail.position <= at.info.position;
    let mut cut = start.clone();
    if !ends_at_once {
        cut.last = start.at;
        cut.last_pts = i64::MAX;
        cut.end = i64::MAX >> 16;
    }
    let mut built = progressive::build(&front, &loaded, &cut, Extent::Front)?;
    if is_whole {
        // All tracks alike: decode times are zero or later, and there is no edit list.
        // So the first picture comes by so much later as anything is decoded before it: reordering pictures, sound that began sooner.
        let early = tracks.iter().filter_map(|track| {
            let first_dts = rescale(at.info.track(track.id)?.first_dts, track.timescale, MOVIE_TIMESCALE);
            Some(start.shifts[at.run].saturating_sub(first_dts))
        });
        let early = early.max().unwrap_or(0).max(0);
        let origin = |track: &Track| (track.id, rescale(early, MOVIE_TIMESCALE, track.timescale).saturating_neg());
        built.origins = tracks.iter().map(origin).collect();
    }
    let mut walk = Walk {
        after: position_before(at, is_whole),
        before: Some((at.info.ordinal, at.info.track_set)),
        at: 0,
        parts: 0,
        shift: start.shifts[at.run],
        end: 0,
        decoded: Vec::new(),
        start_us: start.start_us,
        origins: Arc::new(built.origins.clone()),
        sounds: tracks.iter().filter_map(|track| Some((track.id, Sound::of(track)?))).collect(),
    };
    if is_whole {
        walk.before = at.info.ordinal.0.checked_sub(1).map(|before| (Ordinal(before), at.info.track_set));
    } else {
        walk.note(&at.info.tracks, &tracks);
        for (track, part) in tracks.iter().filter_map(|track| Some((track, at.info.track(track.id)?))) {
            walk.silence_before(track, part);
        }
    }
    let film = Film {
        etag: String::new(),
        len: 0,
        start_us: start.start_us,
        has_video: tracks.iter().any(|track| track.codec.is_video()),
        front: Arc::new(built.plan),
        asker,
        request,
        tracks: tracks.clone(),
        marks: vec![walk.clone()],
        tail,
        fragments_len: 0,
    };
    Ok(Making { film, front, loaded, cut, walk, is_whole, ends_at_once, hasher: DefaultHasher::new() })
}

impl Making {
    /// The next fragments; none at the end.
    async fn next(&mut self, hub: &Hub) -> Result<Option<Vec<Sent>>, StoreError> {
        if self.ends_at_once {
            return Ok(None);
        }
        self.film.page(hub, &mut self.walk).await
    }

    /// Takes note of fragments that are sent.
    fn note(&mut self, sent: &[Sent]) {
        sent.iter().for_each(|one| match &one.content {
            Content::Stored(stored) => (stored.handle.position, stored.body_len).hash(&mut self.hasher),
            Content::Silence(silence) => silence.len().hash(&mut self.hasher),
        });
        self.film.marks.push(self.walk.clone());
    }

    /// The film, when all its fragments were walked over.
    fn finish(self) -> Result<Film, ClipError> {
        let Making { mut film, front, loaded, mut cut, walk, is_whole, ends_at_once, mut hasher } = self;
        if !ends_at_once {
            film.fragments_len = walk.at;
            let head = match is_whole {
                true => cmaf::block_head(&TrackSet::new(film.tracks.clone()).ok_or(ClipError::NoMedia)?),
                false => {
                    cut.end = walk.end;
                    progressive::build(&front, &loaded, &cut, Extent::Front)?.plan.head
                }
            };
            film.front = Arc::new(film.front.with_head(head, !is_whole));
        }
        film.front.etag.hash(&mut hasher);
        film.front.head.hash(&mut hasher);
        film.tail.parts.iter().for_each(|(track, samples)| (track.0, samples.len()).hash(&mut hasher));
        film.len = film.front_len() + film.fragments_len;
        film.etag = format!("\"{:016x}-{:x}f\"", hasher.finish(), film.len);
        Ok(film)
    }
}

/// A film of fragments that are all at hand, and what is sent of them; a page is so long.
#[cfg(any(test, fuzzing))]
pub(super) fn walked(
    asker: Asker,
    request: Request,
    front: (Chosen, cut::Loaded),
    last: (Chosen, cut::Loaded),
    all: &[Descriptor],
    page: usize,
) -> Result<(Film, Vec<Sent>), ClipError> {
    let mut making = begin(asker, request, front, last)?;
    let mut all_sent = Vec::new();
    while !making.ends_at_once && making.walk.after < making.film.tail.position {
        let rest = &all[all.partition_point(|one| one.info.position <= making.walk.after)..];
        if rest.is_empty() {
            break;
        }
        let sent = making.film.take(&mut making.walk, &rest[..rest.len().min(page)]);
        if !sent.is_empty() {
            making.note(&sent);
            all_sent.extend(sent);
        }
    }
    Ok((making.finish()?, all_sent))
}

/// The position from which the walk starts, so that it comes to the fragments that follow the front.
fn position_before(at: &Piece, with_it: bool) -> Position {
    let mut position = at.info.position;
    if with_it {
        position.sequence.0 = position.sequence.0.saturating_sub(1);
    }
    position
}

/// The samples of the last fragment that are sent.
fn tail(last: &Chosen, loaded: &cut::Loaded, at: usize, lead: usize, end: (i64, i64)) -> Tail {
    let (last_pts, end) = end;
    let piece = &last.fragments[at];
    let parts = last.tracks.iter().enumerate().map(|(index, track)| {
        let samples = &loaded[at][index];
        let count = if index == lead {
            samples.iter().rposition(|sample| sample.pts <= last_pts).map_or(0, |last| last + 1)
        } else {
            let end = rescale(end, last.tracks[lead].timescale, track.timescale);
            samples.partition_point(|sample| sample.pts < end)
        };
        (track.id, samples[..count].to_vec())
    });
    Tail { position: piece.info.position, parts: parts.collect() }
}

/// What a first walk over the index finds.
#[derive(Default)]
pub(super) struct Survey {
    pub first: Vec<Descriptor>,
    pub last: Vec<Descriptor>,
    pub tracks: Vec<Track>,
    same: Vec<SameTracks>,
    of: Option<TrackSetId>,
    changed: bool,
    /// There is media that the credential may not see.
    seen: bool,
}

impl Survey {
    /// Whether a fragment, and what follows it, may be in the range.
    pub fn covers(request: Request, descriptor: &Descriptor) -> bool {
        descriptor.is_persisted() && request.clock.start(&descriptor.info) < request.to_us
    }

    /// Takes note of tracks that are not those of the fragment before.
    pub fn turn(&mut self, request: Request, info: &FragmentInfo, set: &TrackSet) {
        for track in set.tracks().iter().filter(|track| is_wanted(track, request.audio)) {
            match self.tracks.iter().find(|known| known.id == track.id) {
                Some(known) => {
                    self.changed |= known.sample_entry != track.sample_entry || !select::fits(known, track);
                }
                None => self.tracks.push(track.clone()),
            }
        }
        if self.same.len() < RANGES_MAX {
            let from_us = request.clock.start(info).max(request.from_us);
            self.same.push(SameTracks { from_us, to_us: from_us, tracks: select::names(set) });
        }
    }

    pub fn add(&mut self, request: Request, descriptor: Descriptor) {
        if let Some(part) = self.same.last_mut() {
            part.to_us = request.clock.end(&descriptor.info).min(request.to_us).max(part.to_us);
        }
        if self.first.len() < ENDS {
            self.first.push(descriptor.clone());
        }
        if self.last.len() == ENDS {
            self.last.remove(0);
        }
        self.last.push(descriptor);
    }

    /// What was found, when one file can have it.
    pub fn finish(mut self) -> Result<Survey, ClipError> {
        if self.first.is_empty() {
            return Err(if self.seen { ClipError::OutsideRange } else { ClipError::NoMedia });
        }
        self.tracks.sort_by_key(|track| track.id);
        let pictures = self.tracks.iter().filter(|track| track.codec.is_video()).count();
        if self.changed || pictures > 1 {
            return Err(ClipError::TracksChange { ranges: self.same });
        }
        if self.tracks.is_empty() {
            let codecs = self.same.last().map_or_else(String::new, |part| part.tracks.clone());
            return Err(ClipError::NotPlayable { codecs });
        }
        Ok(self)
    }
}

/// Walks over all fragments of the range: finds its ends, and whether one file can have all tracks.
async fn survey(hub: &Hub, asker: Asker, request: Request) -> Result<Survey, ClipError> {
    let select = request.clock.select(request.from_us, request.to_us);
    let first = hub.timeline(asker.stream, select, 1).await?.fragments.pop().ok_or(ClipError::NoMedia)?;
    let mut survey = Survey::default();
    let mut after = first.info.position;
    after.sequence.0 = after.sequence.0.saturating_sub(1);
    loop {
        let page = hub.timeline(asker.stream, Select::After(after), PAGE).await?;
        let Some(last) = page.fragments.last() else { break };
        after = last.info.position;
        let mut is_over = !page.more;
        for descriptor in page.fragments {
            if !Survey::covers(request, &descriptor) {
                is_over = true;
                break;
            }
            if !is_allowed(asker.allowed, &descriptor.info) {
                survey.seen = true;
                continue;
            }
            if survey.of.replace(descriptor.info.track_set) != Some(descriptor.info.track_set) {
                match track_set(hub, asker.stream, &descriptor).await? {
                    Some(set) => survey.turn(request, &descriptor.info, &set),
                    None => continue,
                }
            }
            survey.add(request, descriptor);
        }
        if is_over {
            break;
        }
    }
    survey.finish()
}

async fn track_set(hub: &Hub, stream: StreamId, descriptor: &Descriptor) -> Result<Option<Arc<TrackSet>>, StoreError> {
    match &descriptor.source {
        Source::Tail { fragment, .. } => Ok(Some(fragment.tracks.clone())),
        Source::Store(_) => hub.track_set(stream, descriptor.info.track_set).await,
    }
}

impl Walk {
    /// Keeps where a fragment's tracks end.
    fn note(&mut self, parts: &[FragmentTrack], tracks: &[Track]) {
        for track in tracks {
            let Some(part) = parts.iter().find(|part| part.track == track.id) else { continue };
            let up = |ticks: i64| cut::movie_ticks_up(ticks, track.timescale).saturating_sub(self.shift);
            let shown = up(part.first_pts.saturating_add_unsigned(part.duration));
            let decoded = up(part.first_dts.saturating_add_unsigned(part.duration));
            self.end = self.end.max(shown);
            match self.decoded.iter_mut().find(|(of, _)| *of == track.id) {
                Some((_, end)) => *end = decoded.max(*end),
                None => self.decoded.push((track.id, decoded)),
            }
        }
    }

    /// When a part is decoded in the file, in ticks of its track.
    fn first_dts(&self, track: &Track, part: &FragmentTrack) -> i64 {
        let origin = self.origins.iter().find(|(of, _)| *of == track.id).map_or(0, |(_, origin)| *origin);
        let shift = rescale(self.shift, MOVIE_TIMESCALE, track.timescale);
        part.first_dts.saturating_sub(shift).saturating_sub(origin)
    }

    /// The silence that is due before a part.
    fn silence_before(&mut self, track: &Track, part: &FragmentTrack) -> Option<SilentFragments> {
        let start = self.first_dts(track, part);
        let (_, sound) = self.sounds.iter_mut().find(|(of, _)| *of == track.id)?;
        let fill = sound.go_on(start, start.saturating_add_unsigned(part.duration))?;
        let silence = SilentFragments::new(track.id, self.parts.wrapping_add(1), fill);
        self.parts = self.parts.wrapping_add(silence.count() as u32);
        Some(silence)
    }

    /// Moves the times so that a stretch that begins with these parts follows what was before.
    fn join(&mut self, film: &Film, descriptor: &Descriptor) {
        let wanted = film.tracks.iter().filter_map(|track| Some((track, descriptor.info.track(track.id)?)));
        let mut closed = i64::MAX;
        for (track, part) in wanted {
            let down = |ticks: i64| rescale(ticks, track.timescale, MOVIE_TIMESCALE);
            closed = closed.min(down(part.first_pts).saturating_sub(self.end));
            if let Some((_, end)) = self.decoded.iter().find(|(of, _)| *of == track.id) {
                closed = closed.min(down(part.first_dts).saturating_sub(*end));
            }
        }
        if closed == i64::MAX {
            return;
        }
        let lead = film.tracks.iter().find(|track| track.codec.is_video()).or(film.tracks.first());
        let by_clock = lead.and_then(|track| {
            let part = descriptor.info.track(track.id)?;
            let taken_us = film.request.clock.start(&descriptor.info);
            let at = MOVIE_TIMESCALE.from_micros(taken_us.saturating_sub(self.start_us));
            Some(rescale(part.first_pts, track.timescale, MOVIE_TIMESCALE).saturating_sub(at))
        });
        self.shift = match (film.request.gaps, by_clock) {
            (Gaps::Keep, Some(by_clock)) => closed.min(by_clock),
            _ => closed,
        };
    }

    /// The next fragment as it is sent, behind the silence before it; nothing when it is left out.
    fn take(&mut self, film: &Film, descriptor: &Descriptor) -> Vec<Sent> {
        let info = &descriptor.info;
        self.after = info.position;
        let continues = info.break_before.is_none()
            && self
                .before
                .is_some_and(|(ordinal, set)| select::follows(info.ordinal, ordinal) && set == info.track_set);
        let video = film.tracks.iter().find(|track| track.codec.is_video());
        let has_video = video.is_some_and(|track| info.track(track.id).is_some());
        if !is_allowed(film.asker.allowed, info) || (!continues && has_video && info.start == StartKind::Dependent) {
            return Vec::new();
        }
        if !continues && self.before.is_some() && !(self.at == 0 && self.decoded.is_empty()) {
            self.join(film, descriptor);
            self.sounds.iter_mut().for_each(|(_, sound)| sound.join());
        }
        self.before = Some((info.ordinal, info.track_set));
        let is_last = info.position == film.tail.position;
        let cut = |part: &FragmentTrack| {
            let samples = film.tail.parts.get(&part.track).filter(|_| is_last);
            samples.filter(|samples| samples.len() < part.samples as usize)
        };
        let wanted = film.tracks.iter().filter_map(|track| Some((track, info.track(track.id)?)));
        let wanted: Vec<_> = wanted.filter(|(_, part)| cut(part).is_none_or(|samples| !samples.is_empty())).collect();
        let mut sent = Vec::new();
        for (track, part) in &wanted {
            let silence = self.silence_before(track, part);
            sent.extend(silence.map(|silence| self.place(Content::Silence(silence))));
        }
        let mut parts = Vec::with_capacity(wanted.len());
        for (track, part) in wanted {
            self.parts = self.parts.wrapping_add(1);
            parts.push(SentPart {
                track: track.id,
                range: part.offset..part.offset.saturating_add(part.len),
                first_dts: u64::try_from(self.first_dts(track, part)).unwrap_or(0),
                number: self.parts,
                cut: cut(part).map(|samples| (cut_len(samples), samples.clone())),
            });
        }
        self.note(&info.tracks, &film.tracks);
        if !parts.is_empty() {
            let stored = Stored { handle: descriptor.handle(), body_len: info.body_len, parts };
            sent.push(self.place(Content::Stored(stored)));
        }
        sent
    }

    /// Gives it its place behind what was before.
    fn place(&mut self, content: Content) -> Sent {
        let sent = Sent { at: self.at, content };
        self.at += sent.len();
        sent
    }
}

impl Film {
    pub fn front_len(&self) -> u64 {
        self.front.head.len() as u64 + self.front.pieces.iter().map(progressive::Stretch::len).sum::<u64>()
    }

    pub fn stream(&self) -> StreamId {
        self.asker.stream
    }

    /// The next fragments, `walk` moved behind them; none at the end.
    async fn page(&self, hub: &Hub, walk: &mut Walk) -> Result<Option<Vec<Sent>>, StoreError> {
        while walk.after < self.tail.position {
            let page = hub.timeline(self.asker.stream, Select::After(walk.after), PAGE).await?;
            if page.fragments.is_empty() {
                break;
            }
            let sent = self.take(walk, &page.fragments);
            if !sent.is_empty() {
                return Ok(Some(sent));
            }
        }
        Ok(None)
    }

    /// Fragments of a page as they are sent, `walk` moved behind them.
    fn take(&self, walk: &mut Walk, page: &[Descriptor]) -> Vec<Sent> {
        let wanted = page.iter().filter(|one| one.info.position <= self.tail.position);
        let sent: Vec<Sent> = wanted.flat_map(|descriptor| walk.take(self, descriptor)).collect();
        if let Some(beyond) = page.iter().find(|one| one.info.position > self.tail.position) {
            walk.after = beyond.info.position;
        }
        sent
    }

    /// A reader of fragments from byte `at` of all fragments on.
    pub fn reader(self: &Arc<Film>, at: u64) -> Reader {
        let page = self.marks.partition_point(|mark| mark.at <= at).saturating_sub(1);
        Reader { film: self.clone(), walk: self.marks[page].clone(), page }
    }
}

/// Looks up the fragments of a film, page by page.
pub(super) struct Reader {
    film: Arc<Film>,
    walk: Walk,
    page: usize,
}

impl Reader {
    /// The next fragments; none at the end.
    ///
    /// # Errors
    /// When they are not those that the film was planned with: retention took some.
    pub async fn next(&mut self, hub: &Hub) -> Result<Option<Vec<Sent>>, StoreError> {
        let sent = self.film.page(hub, &mut self.walk).await?;
        self.page += usize::from(sent.is_some());
        let expected = self.film.marks.get(self.page).map_or(self.film.fragments_len, |mark| mark.at);
        if self.walk.at != expected {
            return Err(StoreError::Gone);
        }
        Ok(sent)
    }
}
