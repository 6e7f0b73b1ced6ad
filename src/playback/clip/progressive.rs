//! The head of a progressive file, and where its payload lies.

use std::hash::{DefaultHasher, Hasher};
use std::ops::Range;

use bytes::Bytes;
use futures_util::StreamExt;
use media::container::cmaf::{self, Entry};
use media::container::mp4::{Chunk, Edit, MOVIE_TIMESCALE, Movie, MovieTrack};
use media::time::rescale;
use media::{StartKind, StreamId, Timescale, TrackId};

use super::cut::{self, Cut, Loaded, Raw};
use super::select::{Chosen, Piece, description};
use super::silence::{Fill, Repeated, Sound};
use super::{ClipError, Request};
use crate::live::{Handle, Hub};

/// Most samples of a file: 16 tracks of an hour of sound, each in frames of 10 ms. Their tables take some 20 bytes each.
const SAMPLES_MAX: u64 = 6_000_000;
/// Sound before the first picture that a decoder may want to hear first, milliseconds: Opus asks for 80
/// (RFC 7845 section 4.6), AAC for a frame or two.
const SOUND_LEAD_MS: i64 = 100;
/// Heads of fragments read in one go, and so many goes at once.
const READS_AT_ONCE: usize = 64;
const GOES: usize = 4;

/// Everything about a file but its payload.
#[derive(Debug)]
pub(super) struct Plan {
    pub etag: String,
    pub len: u64,
    pub start_us: i64,
    pub has_video: bool,
    /// Up to the payload.
    pub head: Bytes,
    /// The payload in order.
    pub pieces: Vec<Stretch>,
}

/// Bytes that follow each other in the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Stretch {
    /// Where they start in the file.
    pub at: u64,
    pub payload: Payload,
}

/// Where bytes of a file come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Payload {
    Stored(Stored),
    Silence(Repeated),
}

/// Bytes of one fragment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Stored {
    pub handle: Handle,
    pub body_len: u32,
    /// Parts of the fragment's body.
    pub ranges: Vec<Range<u32>>,
}

impl Stretch {
    pub fn len(&self) -> u64 {
        match &self.payload {
            Payload::Stored(stored) => stored.ranges.iter().map(|range| u64::from(range.end - range.start)).sum(),
            Payload::Silence(silence) => silence.len,
        }
    }
}

impl Plan {
    /// The same with another head, of the same length, or without a payload.
    pub fn with_head(&self, head: Bytes, has_payload: bool) -> Plan {
        let pieces = if has_payload { self.pieces.clone() } else { Vec::new() };
        Plan {
            etag: self.etag.clone(),
            len: self.len,
            start_us: self.start_us,
            has_video: self.has_video,
            head,
            pieces,
        }
    }

    pub fn bytes_held(&self) -> usize {
        let ranges = |piece: &Stretch| match &piece.payload {
            Payload::Stored(stored) => stored.ranges.len(),
            Payload::Silence(_) => 0,
        };
        let ranges: usize = self.pieces.iter().map(ranges).sum();
        self.head.len() + self.pieces.len() * size_of::<Stretch>() + ranges * size_of::<Range<u32>>()
    }
}

/// Plans the file of these fragments: reads their heads, and no payload.
pub(super) async fn plan(hub: &Hub, stream: StreamId, request: Request, chosen: Chosen) -> Result<Plan, ClipError> {
    let read = read_heads(hub, stream, &chosen).await?;
    // Some ten milliseconds of arithmetic for an hour.
    let built = tokio::task::spawn_blocking(move || {
        let loaded = load(&chosen, read);
        let cut = cut::find(&chosen, &loaded, request).ok_or(ClipError::NoMedia)?;
        Ok(build(&chosen, &loaded, &cut, Extent::Whole)?.plan)
    });
    built.await.map_err(|failure| match failure.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => ClipError::NoMedia,
    })?
}

/// The `moof` of each wanted track of each fragment.
pub(super) async fn read_heads(
    hub: &Hub,
    stream: StreamId,
    chosen: &Chosen,
) -> Result<Vec<Vec<Option<Bytes>>>, ClipError> {
    let wanted = |piece: &Piece| {
        chosen.tracks.iter().filter_map(|track| piece.info.track(track.id).cloned()).collect::<Vec<_>>()
    };
    let samples: u64 = chosen.fragments.iter().flat_map(&wanted).map(|part| u64::from(part.samples)).sum();
    if samples > SAMPLES_MAX {
        return Err(ClipError::TooLong);
    }
    let heads = chosen.fragments.chunks(READS_AT_ONCE).map(|pieces| {
        let range = |piece: &Piece| {
            let handle = piece.handle;
            wanted(piece).into_iter().map(move |part| (handle, part.offset..part.offset.saturating_add(part.moof_len)))
        };
        let parts = pieces.iter().flat_map(range).collect();
        hub.read_parts(stream, parts)
    });
    let heads: Vec<_> = futures_util::stream::iter(heads.collect::<Vec<_>>()).buffered(GOES).collect().await;
    let mut heads = heads.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten();
    let mut read = Vec::new();
    for piece in &chosen.fragments {
        let parts =
            chosen.tracks.iter().map(|track| piece.info.track(track.id).map(|_| heads.next()).unwrap_or_default());
        read.push(parts.collect::<Vec<Option<Bytes>>>());
    }
    Ok(read)
}

/// The samples that the heads list. Those of a head that is not ours, or lists others than its fragment has, are left out: it is
/// damaged.
pub(super) fn load(chosen: &Chosen, heads: Vec<Vec<Option<Bytes>>>) -> Loaded {
    let of_fragment = |(piece, heads): (&Piece, Vec<Option<Bytes>>)| {
        let of_track = |(track, head): (&media::Track, Option<Bytes>)| {
            let (Some(head), Some(part)) = (head, piece.info.track(track.id)) else { return Vec::new() };
            let samples = cmaf::moof_samples(&head, part.len).unwrap_or_default();
            let is_right = samples.len() == part.samples as usize
                && samples.first().is_some_and(|first| first.dts == part.first_dts)
                && samples.last().is_some_and(|last| last.range.end <= part.len as usize);
            if !is_right {
                return Vec::new();
            }
            let raw = samples.into_iter().map(|sample| Raw {
                pts: sample.pts,
                start: part.offset + u32::try_from(sample.range.start).unwrap_or(u32::MAX),
                size: u32::try_from(sample.range.len()).unwrap_or(u32::MAX),
                duration: sample.duration,
                offset: u32::try_from(sample.pts - sample.dts).unwrap_or(0),
                sync: sample.sync,
            });
            raw.collect()
        };
        chosen.tracks.iter().zip(heads).map(of_track).collect()
    };
    chosen.fragments.iter().zip(heads).map(of_fragment).collect()
}

/// A track of the file while it is put together.
struct Draft {
    /// Times of the clip in ticks of the track, in decode order, and what else the tables say.
    samples: Vec<(i64, Raw)>,
    chunks: Vec<Chunk>,
    entries: Vec<Bytes>,
    /// When its last sample ends.
    end: i64,
    /// How much earlier than shown its fragments decode, in ticks of the track.
    delay: i64,
    /// Of a track of sound, in times of the clip.
    sound: Option<Sound>,
}

impl Draft {
    /// The silence that is due before these samples of a fragment.
    fn silence_before(&mut self, cut: &Cut, run: usize, timescale: Timescale, samples: &[Raw]) -> Option<Fill> {
        let (first, last) = (samples.first()?, samples.last()?);
        let end = cut.time(run, timescale, last.pts).saturating_add(last.duration.into());
        self.sound.as_mut()?.go_on(cut.time(run, timescale, first.pts), end)
    }

    /// Adds silence whose bytes start at `offset` of the payload.
    fn fill(&mut self, fill: &Fill, offset: u64) {
        let samples = u32::try_from(fill.count).unwrap_or(u32::MAX);
        self.chunks.push(Chunk { offset, samples, description: 0 });
        // Only their sizes and durations are ever asked for.
        self.samples.extend(fill.units().map(|(time, Entry { duration, offset, size, sync })| {
            (time, Raw { pts: time, start: 0, size, duration, offset, sync })
        }));
    }
}

/// Whether fragments follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Extent {
    Whole,
    /// The cut's end is that of all fragments, which follow.
    Front,
}

/// A plan, and the decode time of each track's first sample in ticks of the track from the first picture on.
pub(super) struct Built {
    pub plan: Plan,
    pub origins: Vec<(TrackId, i64)>,
}

/// Puts a plan together.
///
/// # Errors
/// [`ClipError::TooLong`] when there is more silence than a head may list.
pub(super) fn build(chosen: &Chosen, loaded: &Loaded, cut: &Cut, extent: Extent) -> Result<Built, ClipError> {
    let mut drafts: Vec<Draft> = chosen
        .tracks
        .iter()
        .map(|track| Draft {
            samples: Vec::new(),
            chunks: Vec::new(),
            entries: vec![track.sample_entry.clone()],
            end: i64::MIN,
            delay: 0,
            sound: Sound::of(track),
        })
        .collect();
    let mut pieces: Vec<Stretch> = Vec::with_capacity(cut.last - cut.first + 1);
    let mut at = 0u64;
    let (mut run, mut silent) = (chosen.fragments[cut.first].run, 0u64);
    for fragment in cut.first..=cut.last {
        let piece = &chosen.fragments[fragment];
        if run != piece.run {
            run = piece.run;
            drafts.iter_mut().filter_map(|draft| draft.sound.as_mut()).for_each(Sound::join);
        }
        for (index, draft) in drafts.iter_mut().enumerate() {
            let samples = wanted(chosen, loaded, cut, fragment, index);
            let Some(fill) = draft.silence_before(cut, run, chosen.tracks[index].timescale, samples) else { continue };
            silent = silent.saturating_add(fill.count);
            if silent > SAMPLES_MAX {
                return Err(ClipError::TooLong);
            }
            draft.fill(&fill, at);
            let payload = fill.payload();
            pieces.push(Stretch { at, payload: Payload::Silence(payload.clone()) });
            at += payload.len;
        }
        let mut ranges: Vec<Range<u32>> = Vec::new();
        let start = at;
        for (index, draft) in drafts.iter_mut().enumerate() {
            let samples = wanted(chosen, loaded, cut, fragment, index);
            let Some(head) = samples.first() else { continue };
            let track = &chosen.tracks[index];
            let leads = index == cut.lead && track.codec.is_video();
            // FFmpeg starts at the last sync sample before the edit: at an open one it would miss what is before it.
            let hides_sync =
                leads && (cut.first + 1..=cut.at).contains(&fragment) && piece.info.start == StartKind::Open;
            // Leading pictures that nothing precedes cannot be decoded, and Chromium gives up on them.
            let starts_open = leads && fragment == cut.first && piece.info.start == StartKind::Open;
            for part in samples
                .chunk_by(|one, next| (starts_open && one.pts < head.pts) == (starts_open && next.pts < head.pts))
            {
                let (first, last) = (part[0], part[part.len() - 1]);
                if starts_open && first.pts < head.pts {
                    continue;
                }
                let range = first.start..last.start + last.size;
                draft.chunks.push(Chunk {
                    offset: at,
                    samples: u32::try_from(part.len()).unwrap_or(u32::MAX),
                    description: description(&mut draft.entries, piece, track.id),
                });
                draft.samples.extend(part.iter().map(|sample| {
                    let sync = sample.sync && !(hides_sync && sample.start == head.start);
                    (cut.time(piece.run, track.timescale, sample.pts), Raw { sync, ..*sample })
                }));
                at += u64::from(range.end - range.start);
                // Samples without a byte are listed, and there is nothing to send of them.
                ranges.extend((!range.is_empty()).then_some(range));
            }
            if let Some(part) = piece.info.track(track.id) {
                let end = part.first_pts.saturating_add_unsigned(part.duration);
                draft.end = draft.end.max(cut.time(piece.run, track.timescale, end));
                draft.delay = draft.delay.max(part.first_pts.saturating_sub(part.first_dts));
            }
        }
        if !ranges.is_empty() {
            let stored = Stored { handle: piece.handle, body_len: piece.info.body_len, ranges };
            pieces.push(Stretch { at: start, payload: Payload::Stored(stored) });
        }
    }
    let is_kept = |draft: &Draft| extent == Extent::Front || !draft.samples.is_empty();
    let tracks = chosen.tracks.iter().zip(drafts).filter(|(_, draft)| is_kept(draft));
    let finished = tracks.map(|(track, draft)| finish(track, draft, cut, extent));
    let (tracks, origins): (Vec<MovieTrack>, Vec<_>) = finished.unzip();
    let has_video = tracks.iter().any(|track| track.track.codec.is_video());
    let movie = Movie { tracks, payload_len: at, fragments_follow: extent == Extent::Front };
    let head = Bytes::from(movie.head());
    let mut hasher = DefaultHasher::new();
    hasher.write(&head);
    for piece in &mut pieces {
        piece.at += head.len() as u64;
        // The head says how long each silence is, and of which codec.
        let Payload::Stored(stored) = &piece.payload else { continue };
        hasher.write_u32(stored.handle.position.epoch.0);
        hasher.write_u64(stored.handle.position.sequence.0);
        stored.ranges.iter().for_each(|range| hasher.write_u32(range.start));
    }
    let len = head.len() as u64 + at;
    let etag = format!("\"{:016x}-{len:x}\"", hasher.finish());
    Ok(Built { plan: Plan { etag, len, start_us: cut.start_us, has_video, head, pieces }, origins })
}

/// The samples of a track in a fragment that the file has: they lie behind each other.
fn wanted<'a>(chosen: &Chosen, loaded: &'a Loaded, cut: &Cut, fragment: usize, index: usize) -> &'a [Raw] {
    let samples = &loaded[fragment][index];
    if index == cut.lead && chosen.tracks[index].codec.is_video() {
        if fragment < cut.last {
            return samples;
        }
        let end = samples.iter().rposition(|sample| sample.pts <= cut.last_pts).map_or(0, |last| last + 1);
        return &samples[..end];
    }
    let timescale = chosen.tracks[index].timescale;
    let run = chosen.fragments[fragment].run;
    let time = |sample: &Raw| cut.time(run, timescale, sample.pts);
    let from = -i64::from(timescale.hz()) * SOUND_LEAD_MS / 1000;
    let to = rescale(cut.end, MOVIE_TIMESCALE, timescale);
    let first = samples.partition_point(|sample| time(sample).saturating_add(sample.duration.into()) <= from);
    let end = samples.partition_point(|sample| time(sample) < to).max(first);
    &samples[first..end]
}

/// Decode times, descriptions and the edit of a track.
///
/// Decode times are the sorted presentation times, as in fragments, moved earlier by what the deepest reordering of the whole
/// clip needs: so they rise over every joint.
fn finish(track: &media::Track, draft: Draft, cut: &Cut, extent: Extent) -> (MovieTrack, (TrackId, i64)) {
    let mut times: Vec<i64> = draft.samples.iter().map(|(time, _)| *time).collect();
    times.sort_unstable();
    for at in 1..times.len() {
        times[at] = times[at].max(times[at - 1].saturating_add(1));
    }
    let later = times.iter().zip(&draft.samples).map(|(dts, (pts, _))| dts.saturating_sub(*pts)).max();
    let later = later.unwrap_or(0).max(draft.delay);
    let last = times.last().copied().unwrap_or(0);
    let ends = times.iter().skip(1).copied().chain([draft.end.max(last.saturating_add(1))]);
    let narrow = |ticks: i64| u32::try_from(ticks).unwrap_or(if ticks < 0 { 0 } else { u32::MAX });
    let samples = times.iter().zip(ends).zip(&draft.samples).map(|((dts, end), (pts, raw))| Entry {
        duration: narrow(end.saturating_sub(*dts)),
        offset: narrow(pts.saturating_sub(*dts).saturating_add(later)),
        size: raw.size,
        sync: raw.sync,
    });
    let samples = samples.collect();
    let first_dts = times.first().copied().unwrap_or(0).saturating_sub(later);
    let first_shown = times.first().copied().unwrap_or(0);
    let begin = first_shown.max(0);
    let ticks = |media: i64| rescale(media, track.timescale, MOVIE_TIMESCALE);
    let end = if extent == Extent::Front { cut.end } else { ticks(draft.end).min(cut.end) };
    let origin = if times.is_empty() { 0 } else { first_dts };
    let mut entries = draft.entries;
    let own = entries.remove(0);
    let movie_track = MovieTrack {
        track: media::Track { sample_entry: own, ..track.clone() },
        more_entries: entries,
        samples,
        chunks: draft.chunks,
        edit: Edit {
            wait: narrow(ticks(begin)),
            start: narrow(begin.saturating_sub(first_dts)),
            duration: narrow(end.saturating_sub(ticks(begin))).max(1),
        },
    };
    (movie_track, (track.id, origin))
}
