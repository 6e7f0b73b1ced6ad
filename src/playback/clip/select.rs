//! Which fragments a clip is made of, and which of their tracks.

use std::collections::HashMap;
use std::sync::Arc;

use media::{Codec, FragmentInfo, FragmentTrack, Ordinal, StartKind, StreamId, Track, TrackId, TrackSet, TrackSetId};
use store::Select;

use super::super::hls::{ROUNDING_US, SpanClock, is_allowed};
use super::{Asker, Audio, ClipError, Request, SameTracks};
use crate::live::{Descriptor, Handle, Hub, Source};

/// Most fragments of a progressive file: more than an hour of the shortest.
const FRAGMENTS_MAX: usize = 20_000;
/// Fragments before the range among which a random access point is looked for: half an hour of the longest.
const LEAD_MAX: u64 = 180;
/// Fragments before an open random access point among which a closed one is preferred to the nearest.
pub(super) const OPEN_LEAD_MAX: usize = 12;
/// Ranges that an error names.
pub(super) const RANGES_MAX: usize = 20;

/// What of a stream a clip is made of.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    /// In stream order, each decodable after those before it.
    pub fragments: Vec<Piece>,
    /// Count of those before the range, from which its first pictures may depend.
    pub lead: usize,
    /// The tracks of the clip, each as it is when it first comes, in id order.
    pub tracks: Vec<Track>,
}

/// A fragment of a clip.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub info: FragmentInfo,
    pub handle: Handle,
    pub set: Arc<TrackSet>,
    /// The stretch that it belongs to, counted from 0: inside of one nothing is missing.
    pub run: usize,
}

impl Piece {
    /// The part whose first presentation time the fragment's clock times speak of, and its track.
    pub fn lead(&self) -> Option<(&FragmentTrack, &Track)> {
        let part = self.info.track(self.set.lead().id).or(self.info.tracks.first())?;
        Some((part, self.set.track(part.track)?))
    }

    pub fn has_video(&self) -> bool {
        self.info.tracks.iter().any(|part| self.set.track(part.track).is_some_and(|track| track.codec.is_video()))
    }
}

/// The fragments that `request` needs.
pub(super) async fn choose(hub: &Hub, asker: Asker, request: Request) -> Result<Chosen, ClipError> {
    refuse_gone(hub, asker, request.from_us, request.clock).await?;
    let select = request.clock.select(request.from_us, request.to_us);
    let timeline = hub.timeline(asker.stream, select, FRAGMENTS_MAX).await?;
    if timeline.more {
        return Err(ClipError::TooLong);
    }
    let mut found: Vec<Descriptor> = timeline.fragments.into_iter().take_while(Descriptor::is_persisted).collect();
    if found.is_empty() {
        return Err(ClipError::NoMedia);
    }
    found.retain(|descriptor| is_allowed(asker.allowed, &descriptor.info));
    let Some(first) = found.first() else { return Err(ClipError::OutsideRange) };
    let mut all = lead_in(hub, asker, &first.info).await?;
    let lead = all.len();
    all.append(&mut found);
    assemble(hub, asker.stream, request, all, lead, Take::Decodable).await
}

/// Refuses a range that starts before what retention has left.
pub(super) async fn refuse_gone(hub: &Hub, asker: Asker, from_us: i64, clock: SpanClock) -> Result<(), ClipError> {
    if !asker.was_trimmed {
        return Ok(());
    }
    match hub.status(asker.stream).await?.first {
        Some(first) if from_us.saturating_add(ROUNDING_US) < clock.start(&first) => {
            Err(ClipError::Gone { earliest: Some(Box::new(first)) })
        }
        Some(_) => Ok(()),
        None => Err(ClipError::Gone { earliest: None }),
    }
}

/// The fragments before `first` that its pictures need: back to one that starts at a closed random access point, or, where none is
/// near, to the nearest that is open.
pub(super) async fn lead_in(hub: &Hub, asker: Asker, first: &FragmentInfo) -> Result<Vec<Descriptor>, ClipError> {
    if first.start == StartKind::Closed || first.break_before.is_some() {
        return Ok(Vec::new());
    }
    let mut reach = 8;
    loop {
        let from = first.ordinal.0.saturating_sub(reach);
        let select = Select::Ordinals(Ordinal(from), first.ordinal);
        let found = hub.timeline(asker.stream, select, LEAD_MAX as usize).await?.fragments;
        let (count, is_whole) = reach_back(first, &found, asker);
        if is_whole || from == 0 || found.is_empty() || reach >= LEAD_MAX {
            let start = found.len() - count;
            return Ok(found.into_iter().skip(start).collect());
        }
        reach = (reach * 4).min(LEAD_MAX);
    }
}

/// How many of the fragments before `first`, which end `found`, are needed; and whether looking further back would not change that.
pub(super) fn reach_back(first: &FragmentInfo, found: &[Descriptor], asker: Asker) -> (usize, bool) {
    let mut next = first;
    let (mut count, mut has_access) = (0, false);
    for before in found.iter().rev() {
        let info = &before.info;
        let is_next = next.break_before.is_none() && follows(next.ordinal, info.ordinal);
        if !is_next || info.track_set != first.track_set || !is_allowed(asker.allowed, info) {
            return (count, true);
        }
        count += 1;
        has_access |= info.start != StartKind::Dependent;
        if info.start == StartKind::Closed || (has_access && count >= OPEN_LEAD_MAX) {
            return (count, true);
        }
        next = info;
    }
    (count, false)
}

/// Whether an ordinal is the next after another.
pub(super) fn follows(ordinal: Ordinal, before: Ordinal) -> bool {
    before.0.checked_add(1) == Some(ordinal.0)
}

/// Whether fragments must be decodable after those before them in a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Take {
    Decodable,
    /// The list begins somewhere.
    All,
}

/// Finds track sets and stretches, and leaves out what cannot be decoded.
pub(super) async fn assemble(
    hub: &Hub,
    stream: StreamId,
    request: Request,
    all: Vec<Descriptor>,
    lead: usize,
    what: Take,
) -> Result<Chosen, ClipError> {
    let mut sets: HashMap<TrackSetId, Option<Arc<TrackSet>>> = HashMap::new();
    let mut described = Vec::with_capacity(all.len());
    for descriptor in all {
        let id = descriptor.info.track_set;
        let set = match (sets.get(&id), &descriptor.source) {
            (Some(set), _) => set.clone(),
            (None, Source::Tail { fragment, .. }) => Some(fragment.tracks.clone()),
            (None, Source::Store(_)) => hub.track_set(stream, id).await?,
        };
        sets.insert(id, set.clone());
        described.push((descriptor, set));
    }
    gather(request, described, lead, what)
}

/// The same of fragments whose track sets are known, as far as anybody knows them.
pub(super) fn gather(
    request: Request,
    all: Vec<(Descriptor, Option<Arc<TrackSet>>)>,
    lead: usize,
    what: Take,
) -> Result<Chosen, ClipError> {
    let mut fragments: Vec<Piece> = Vec::with_capacity(all.len());
    let mut kept_lead = 0;
    let (mut run, mut before) = (0, None::<(Ordinal, TrackSetId)>);
    for (at, (descriptor, set)) in all.into_iter().enumerate() {
        let id = descriptor.info.track_set;
        // Its blocks are damaged: nobody can say what its samples are.
        let Some(set) = set else { continue };
        let continues = descriptor.info.break_before.is_none()
            && before.is_some_and(|(ordinal, set)| follows(descriptor.info.ordinal, ordinal) && set == id);
        let piece = Piece { handle: descriptor.handle(), info: descriptor.info, set, run };
        let needs_more = piece.info.start == StartKind::Dependent && piece.has_video() && request.audio != Audio::Only;
        if !continues && needs_more && what == Take::Decodable {
            continue;
        }
        before = Some((piece.info.ordinal, id));
        run += usize::from(!continues && !fragments.is_empty());
        fragments.push(Piece { run, ..piece });
        kept_lead += usize::from(at < lead);
    }
    let tracks = tracks(request, &fragments)?;
    Ok(Chosen { fragments, lead: kept_lead, tracks })
}

/// Whether a track can be in a clip, and is wanted there.
pub(super) fn is_wanted(track: &Track, audio: Audio) -> bool {
    match track.codec {
        Codec::Opaque => false,
        codec => match audio {
            Audio::Keep => true,
            Audio::Only => !codec.is_video(),
            Audio::None => codec.is_video(),
        },
    }
}

/// The tracks of the clip, when one file can have them all.
fn tracks(request: Request, fragments: &[Piece]) -> Result<Vec<Track>, ClipError> {
    let mut tracks: Vec<Track> = Vec::new();
    let mut seen: Option<TrackSetId> = None;
    for piece in fragments {
        if seen == Some(piece.info.track_set) {
            continue;
        }
        seen = Some(piece.info.track_set);
        for track in piece.set.tracks().iter().filter(|track| is_wanted(track, request.audio)) {
            match tracks.iter().find(|known| known.id == track.id) {
                Some(known) if !fits(known, track) => {
                    return Err(ClipError::TracksChange { ranges: ranges(request, fragments) });
                }
                Some(_) => {}
                None => tracks.push(track.clone()),
            }
        }
    }
    tracks.sort_by_key(|track| track.id);
    if tracks.is_empty() {
        let Some(piece) = fragments.last() else { return Err(ClipError::NoMedia) };
        let names: Vec<String> = piece.set.tracks().iter().map(|track| format!("{:?}", track.codec)).collect();
        return Err(ClipError::NotPlayable { codecs: names.join(", ") });
    }
    if tracks.iter().filter(|track| track.codec.is_video()).count() > 1 {
        // A set has one; a later set has it under another number.
        return Err(ClipError::TracksChange { ranges: ranges(request, fragments) });
    }
    Ok(tracks)
}

/// Whether samples of `other` can be in one track with those of `known`. FFmpeg, GStreamer and Chromium follow pictures of another
/// size; sound of another rate or other channels none of them was seen to follow in every case.
pub(super) fn fits(known: &Track, other: &Track) -> bool {
    known.codec == other.codec
        && known.timescale == other.timescale
        && (known.codec.is_video() || known.sample_entry == other.sample_entry)
}

/// The parts of the request in which one set of tracks holds.
fn ranges(request: Request, fragments: &[Piece]) -> Vec<SameTracks> {
    let mut ranges: Vec<SameTracks> = Vec::new();
    let mut of: Option<TrackSetId> = None;
    for piece in fragments {
        let start = request.clock.start(&piece.info).max(request.from_us);
        let end = request.clock.end(&piece.info).min(request.to_us);
        let is_same = of == Some(piece.info.track_set);
        if !is_same && ranges.len() == RANGES_MAX {
            break;
        }
        match ranges.last_mut().filter(|_| is_same) {
            Some(last) => last.to_us = last.to_us.max(end),
            None => ranges.push(SameTracks { from_us: start, to_us: end, tracks: names(&piece.set) }),
        }
        of = Some(piece.info.track_set);
    }
    ranges
}

pub(super) fn names(set: &TrackSet) -> String {
    let name = |track: &Track| match (track.codec.is_video(), track.channels) {
        (true, _) => format!("{:?} {}x{}", track.codec, track.width, track.height),
        (false, 0) => format!("{:?}", track.codec),
        (false, channels) => format!("{:?} {} Hz, {channels} ch", track.codec, track.timescale.hz()),
    };
    set.tracks().iter().map(name).collect::<Vec<_>>().join(" + ")
}

/// Which description of a track its samples in this piece have: an index into `entries`, which grows as needed.
pub(super) fn description(entries: &mut Vec<bytes::Bytes>, piece: &Piece, track: TrackId) -> u32 {
    let Some(track) = piece.set.track(track) else { return 0 };
    let at = entries.iter().position(|entry| *entry == track.sample_entry).unwrap_or_else(|| {
        entries.push(track.sample_entry.clone());
        entries.len() - 1
    });
    u32::try_from(at).unwrap_or(0)
}
