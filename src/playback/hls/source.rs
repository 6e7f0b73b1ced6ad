//! From a request to its fragments: what of the hub's timeline a playlist lists, and where a segment's bytes are.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use media::container::cmaf;
use media::{FragmentInfo, Ordinal, Position, ProducerTime, StreamId, TrackId, TrackSet, TrackSetId};
use store::{Clock, Select, StoreError};
use tokio::time::Instant;

use super::media_playlist::{Kind, MediaPlaylist, target_seconds};
use super::rendition::{Rendition, RenditionName, TrackSets};
use super::span::{Span, SpanClock, segment_query, start_after_long_holes, window_start};
use super::{FragmentName, Settings, lead_in, life_tag, multivariant};
use crate::live::{Descriptor, Handle, Hub, Source, Timeline};

/// Why there is no playlist or segment.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HlsError {
    /// Nothing was recorded there.
    #[error("no media here")]
    NoMedia,
    /// Media there was deleted; `earliest` is the first that is left, if anything.
    #[error("media was deleted here")]
    Gone { earliest: Option<Box<FragmentInfo>> },
    /// There is media, and no track of it that an HLS player can play.
    #[error("no track of this stream can be played over HLS; it has {codecs}")]
    NotPlayable { codecs: String },
    /// The stream has no such rendition, track or track set.
    #[error("no such track")]
    NoTrack,
    /// The credential may not see these times.
    #[error("the credential does not reach these times")]
    OutsideRange,
    /// More than one playlist may list.
    #[error("the range has more than {max} fragments: ask for a shorter one")]
    TooLong { max: usize },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Who watches what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Viewer<'a> {
    pub stream: StreamId,
    /// Whether retention ever took something of the stream.
    pub was_trimmed: bool,
    /// The producer times that the credential may see: fragments that lie in them as a whole. None means all.
    pub allowed: Option<(ProducerTime, ProducerTime)>,
    /// The token that came in `?token=`, to be repeated in child addresses.
    pub token: Option<&'a str>,
    /// As configured now.
    pub settings: Settings,
}

/// A segment of a rendition: which bytes of which fragment.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    stream: StreamId,
    handle: Handle,
    range: Range<u32>,
    /// Its bytes, where they are not those stored.
    lead_in: Option<Bytes>,
    /// Whether it is video, for its content type.
    pub is_video: bool,
}

impl Segment {
    /// Bytes in all.
    pub(crate) fn len(&self) -> u32 {
        let stored = self.range.end - self.range.start;
        self.lead_in.as_ref().map_or(stored, |bytes| u32::try_from(bytes.len()).unwrap_or(u32::MAX))
    }
}

/// Playlists and segments of all streams.
pub(crate) struct Playlists {
    hub: Arc<Hub>,
    clock: Arc<dyn Clock>,
    known: Mutex<HashMap<StreamId, Known>>,
}

/// What is remembered of a stream, so that its viewers need not ask the timeline each.
#[derive(Default)]
struct Known {
    /// Largest target duration given out: it may grow, and does not shrink under a player while we live
    /// (RFC 8216 section 6.2.1 wants it constant, no one can promise that of a live camera).
    target_seconds: u32,
    windows: Vec<Window>,
    /// The newest track sets asked for: a stored one is read from a block.
    track_sets: VecDeque<(TrackSetId, Arc<TrackSet>)>,
}

/// A live window as it was when `edge` was the newest persisted fragment.
struct Window {
    length: Duration,
    edge: Position,
    built: Instant,
    listed: Arc<Listed>,
}

/// Windows of different lengths remembered per stream, and streams remembered.
const WINDOWS_MAX: usize = 4;
const STREAMS_MAX: usize = 10_000;
const TRACK_SETS_MAX: usize = 8;
/// A window is looked up anew after this even when nothing was added: retention may have taken its head.
const WINDOW_AGE_MAX: Duration = Duration::from_secs(5);

/// Beyond every ordinal, and still a signed number for a database.
const ORDINAL_END: Ordinal = Ordinal(i64::MAX as u64);
/// Beyond every time.
const OPEN_END_US: i64 = i64::MAX;
/// Times given in milliseconds are up to this much before the fragment they were read from.
pub(in crate::playback) const ROUNDING_US: i64 = 1_000;
/// A past range is complete when it ended this long ago, whatever may still be on its way.
const SETTLED_US: i64 = 30_000_000;

/// The fragments of a playlist and the track sets they refer to.
#[derive(Debug)]
struct Listed {
    fragments: Vec<FragmentInfo>,
    track_sets: TrackSets,
    kind: Kind,
}

impl Playlists {
    pub(crate) fn new(hub: Arc<Hub>, clock: Arc<dyn Clock>) -> Playlists {
        Playlists { hub, clock, known: Mutex::default() }
    }

    /// The multivariant playlist of `span`.
    pub(crate) async fn multivariant(&self, viewer: Viewer<'_>, span: Span) -> Result<String, HlsError> {
        let listed = self.list(viewer, span, Visit::First).await?;
        let target = self.target(viewer.stream, &listed);
        let query = span.query(viewer.token);
        multivariant::text(&listed.fragments, &listed.track_sets, listed.kind, target, &query)
            .ok_or_else(|| HlsError::NotPlayable { codecs: listed.codecs() })
    }

    /// The media playlist of `rendition` over `span`.
    pub(crate) async fn media(&self, viewer: Viewer<'_>, span: Span, name: RenditionName) -> Result<String, HlsError> {
        let listed = self.list(viewer, span, Visit::Again).await?;
        let rendition = listed.rendition(name).ok_or(HlsError::NoTrack)?;
        let playlist = MediaPlaylist {
            stream: viewer.stream,
            fragments: &listed.fragments,
            track_sets: &listed.track_sets,
            rendition,
            kind: listed.kind,
            target_seconds: self.target(viewer.stream, &listed),
            query: &segment_query(viewer.token),
        };
        Ok(playlist.text())
    }

    /// The segment at this address.
    pub(crate) async fn segment(
        &self,
        viewer: Viewer<'_>,
        name: &FragmentName,
        track: TrackId,
    ) -> Result<Segment, HlsError> {
        let stream = viewer.stream;
        if name.life_tag != life_tag(stream) {
            return Err(HlsError::NoMedia);
        }
        let descriptor = match self.hub.fragment(stream, name.position).await? {
            Some(descriptor) if descriptor.is_persisted() => descriptor,
            _ => return Err(self.why_not_there(viewer, name.position).await?),
        };
        if !is_allowed(viewer.allowed, &descriptor.info) {
            return Err(HlsError::OutsideRange);
        }
        let part = descriptor.info.track(track).ok_or(HlsError::NoTrack)?;
        let range = part.offset..part.offset.saturating_add(part.len).min(descriptor.info.body_len).max(part.offset);
        let set = self.track_set_of(stream, &descriptor).await?;
        let described = set.as_ref().and_then(|set| set.track(track));
        let is_video = described.is_some_and(|track| track.codec.is_video());
        let has_delay =
            described.is_some_and(|track| lead_in::is_needed(part.first_pts, part.first_dts, track.timescale));
        let lead_in = if is_video && has_delay && descriptor.info.break_before.is_some() {
            let stored = self.hub.read(&descriptor, range.clone()).await?;
            lead_in::without_delay(&stored, track).map(Bytes::from)
        } else {
            None
        };
        Ok(Segment { stream, handle: descriptor.handle(), range, lead_in, is_video })
    }

    /// Bytes `range` of a segment, which must lie in `0..segment.len()`. Found anew each time: a reader that is slow holds
    /// nothing of the stream in memory.
    pub(crate) fn read(
        &self,
        segment: &Segment,
        range: Range<u32>,
    ) -> impl Future<Output = Result<Bytes, StoreError>> + Send + use<> {
        let lead_in = segment.lead_in.as_ref().map(|bytes| {
            let end = (range.end as usize).min(bytes.len());
            bytes.slice((range.start as usize).min(end)..end)
        });
        let start = segment.range.start.saturating_add(range.start).min(segment.range.end);
        let end = segment.range.start.saturating_add(range.end).clamp(start, segment.range.end);
        let (hub, stream, handle) = (self.hub.clone(), segment.stream, segment.handle);
        async move {
            match lead_in {
                Some(bytes) => Ok(bytes),
                None => Ok(hub.read_parts(stream, vec![(handle, start..end)]).await?.pop().unwrap_or_default()),
            }
        }
    }

    /// The initialisation segment of a track, and whether it is video.
    pub(crate) async fn init(
        &self,
        viewer: Viewer<'_>,
        set: TrackSetId,
        track: TrackId,
        tag: &str,
    ) -> Result<(Bytes, bool), HlsError> {
        let stream = viewer.stream;
        if tag != life_tag(stream) {
            return Err(HlsError::NoTrack);
        }
        let set = self.track_set(stream, set).await?.ok_or(HlsError::NoTrack)?;
        let track = set.track(track).filter(|track| track.codec_string.is_some()).ok_or(HlsError::NoTrack)?;
        Ok((cmaf::init_segment(track), track.codec.is_video()))
    }

    /// What `span` lists for this viewer.
    async fn list(&self, viewer: Viewer<'_>, span: Span, visit: Visit) -> Result<Arc<Listed>, HlsError> {
        let listed = match span {
            Span::Live { window } => self.live(viewer, window).await?,
            Span::Past { from_us, to_us, clock } => Arc::new(self.past(viewer, from_us, to_us, clock).await?),
            Span::Since { from_us, clock } => Arc::new(self.since(viewer, from_us, clock, visit).await?),
        };
        if listed.fragments.is_empty() {
            return Err(HlsError::NoMedia);
        }
        listed.within(viewer.allowed).ok_or(HlsError::OutsideRange)
    }

    /// The newest `window` of persisted fragments.
    async fn live(&self, viewer: Viewer<'_>, window: Duration) -> Result<Arc<Listed>, HlsError> {
        let stream = viewer.stream;
        let edge = self.hub.edge(stream).borrow().persisted;
        if let Some(listed) = self.remembered(stream, window, edge) {
            return Ok(listed);
        }
        let last = self.hub.status(stream).await?.last.ok_or(HlsError::NoMedia)?;
        // Fragments of half a second are shorter than any that we cut.
        let most = (window.as_secs().saturating_mul(2) + 16).min(viewer.settings.fragments_max as u64);
        let select = Select::Ordinals(Ordinal(last.ordinal.0.saturating_sub(most)), ORDINAL_END);
        // Some may have been added since the status was read: the newest must not be those that are cut off.
        let timeline = self.hub.timeline(stream, select, most as usize + 1_000).await?;
        let mut listed = self.listed(stream, timeline, Kind::Live).await?;
        listed.drop_head(window_start(&listed.fragments, window));
        listed.drop_head(start_after_long_holes(&listed.fragments));
        let listed = Arc::new(listed);
        self.remember(stream, Window { length: window, edge, built: Instant::now(), listed: listed.clone() });
        Ok(listed)
    }

    /// All of `[from_us, to_us)`.
    async fn past(&self, viewer: Viewer<'_>, from_us: i64, to_us: i64, clock: SpanClock) -> Result<Listed, HlsError> {
        let stream = viewer.stream;
        self.refuse_gone(viewer, from_us, clock).await?;
        let max = viewer.settings.fragments_max;
        let timeline = self.hub.timeline(stream, clock.select(from_us, to_us), max).await?;
        if timeline.more {
            return Err(HlsError::TooLong { max });
        }
        let mut listed = self.listed(stream, timeline, Kind::Past).await?;
        if self.still_coming(&listed, stream, to_us, clock) {
            listed.kind = Kind::Growing;
            listed.drop_head(start_after_long_holes(&listed.fragments));
        }
        Ok(listed)
    }

    /// Whether fragments of a range that ends at `to_us` are still to be recorded.
    fn still_coming(&self, listed: &Listed, stream: StreamId, to_us: i64, clock: SpanClock) -> bool {
        let reached = listed.fragments.last().is_some_and(|last| clock.end(last) >= to_us);
        let settled = to_us <= self.clock.now().micros().saturating_sub(SETTLED_US);
        !reached && !settled && self.hub.edge(stream).borrow().live
    }

    /// From `from_us` on, to the newest persisted fragment.
    async fn since(
        &self,
        viewer: Viewer<'_>,
        from_us: i64,
        clock: SpanClock,
        visit: Visit,
    ) -> Result<Listed, HlsError> {
        let stream = viewer.stream;
        if visit == Visit::First {
            self.refuse_gone(viewer, from_us, clock).await?;
        }
        let select = clock.select(from_us, OPEN_END_US);
        let first = self.hub.timeline(stream, select, 1).await?.fragments.pop().ok_or(HlsError::NoMedia)?;
        let last = self.hub.status(stream).await?.last.ok_or(HlsError::NoMedia)?;
        let max = viewer.settings.fragments_max;
        let held = last.ordinal.0.saturating_sub(first.info.ordinal.0);
        if visit == Visit::First && held >= max as u64 {
            return Err(HlsError::TooLong { max });
        }
        // A player that has watched for a day loses the head of its list, not its playback.
        let start = first.info.ordinal.0.max(last.ordinal.0.saturating_sub(max as u64));
        let select = Select::Ordinals(Ordinal(start), ORDINAL_END);
        let timeline = self.hub.timeline(stream, select, max.saturating_add(1_000)).await?;
        let mut listed = self.listed(stream, timeline, Kind::Growing).await?;
        listed.drop_head(start_after_long_holes(&listed.fragments));
        Ok(listed)
    }

    /// Refuses a range that starts before what retention has left.
    async fn refuse_gone(&self, viewer: Viewer<'_>, from_us: i64, clock: SpanClock) -> Result<(), HlsError> {
        if !viewer.was_trimmed {
            return Ok(());
        }
        match self.hub.status(viewer.stream).await?.first {
            Some(first) if from_us.saturating_add(ROUNDING_US) < clock.start(&first) => {
                Err(HlsError::Gone { earliest: Some(Box::new(first)) })
            }
            Some(_) => Ok(()),
            None => Err(HlsError::Gone { earliest: None }),
        }
    }

    /// Whether a fragment that is not there was deleted or never was.
    async fn why_not_there(&self, viewer: Viewer<'_>, position: Position) -> Result<HlsError, HlsError> {
        let deleted = viewer.was_trimmed;
        let first = self.hub.status(viewer.stream).await?.first;
        Ok(match first {
            Some(first) if deleted && position < first.position => HlsError::Gone { earliest: Some(Box::new(first)) },
            None if deleted => HlsError::Gone { earliest: None },
            _ => HlsError::NoMedia,
        })
    }

    /// The persisted head of a timeline with its track sets.
    async fn listed(&self, stream: StreamId, timeline: Timeline, kind: Kind) -> Result<Listed, HlsError> {
        let mut track_sets = TrackSets::default();
        let mut fragments = Vec::with_capacity(timeline.fragments.len());
        let mut newest = None;
        for descriptor in timeline.fragments {
            if !descriptor.is_persisted() {
                break;
            }
            // Once for each run: a set that cannot be found (its blocks are damaged) is not looked for at each fragment.
            let id = descriptor.info.track_set;
            if newest != Some(id)
                && track_sets.get(id).is_none()
                && let Some(set) = self.track_set_of(stream, &descriptor).await?
            {
                track_sets.insert(id, set);
            }
            newest = Some(id);
            fragments.push(descriptor.info);
        }
        Ok(Listed { fragments, track_sets, kind })
    }

    async fn track_set_of(
        &self,
        stream: StreamId,
        descriptor: &Descriptor,
    ) -> Result<Option<Arc<TrackSet>>, StoreError> {
        match &descriptor.source {
            Source::Tail { fragment, .. } => Ok(Some(fragment.tracks.clone())),
            Source::Store(_) => self.track_set(stream, descriptor.info.track_set).await,
        }
    }

    /// A track set never changes under its id.
    async fn track_set(&self, stream: StreamId, id: TrackSetId) -> Result<Option<Arc<TrackSet>>, StoreError> {
        let remembered = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            let mut sets = known.get(&stream).into_iter().flat_map(|known| &known.track_sets);
            sets.find(|(other, _)| *other == id).map(|(_, set)| set.clone())
        };
        if remembered.is_some() {
            return Ok(remembered);
        }
        let found = self.hub.track_set(stream, id).await?;
        if let Some(set) = &found {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            let sets = &mut known_of(&mut known, stream).track_sets;
            sets.push_back((id, set.clone()));
            if sets.len() > TRACK_SETS_MAX {
                sets.pop_front();
            }
        }
        Ok(found)
    }

    fn remembered(&self, stream: StreamId, length: Duration, edge: Position) -> Option<Arc<Listed>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let window = known.get(&stream)?.windows.iter().find(|window| window.length == length)?;
        let fresh = window.edge == edge && window.built.elapsed() < WINDOW_AGE_MAX;
        fresh.then(|| window.listed.clone())
    }

    fn remember(&self, stream: StreamId, window: Window) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let windows = &mut known_of(&mut known, stream).windows;
        windows.retain(|other| other.length != window.length);
        if windows.len() >= WINDOWS_MAX {
            windows.remove(0);
        }
        windows.push(window);
    }

    /// The target duration of a list: a complete one has its own, the others the largest that their stream had.
    fn target(&self, stream: StreamId, listed: &Listed) -> u32 {
        let needed = target_seconds(&listed.fragments, &listed.track_sets);
        if listed.kind == Kind::Past {
            return needed;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known_of(&mut known, stream);
        known.target_seconds = known.target_seconds.max(needed);
        known.target_seconds
    }
}

/// What is remembered of a stream. Bounded: a server that has met too many starts again.
fn known_of(known: &mut HashMap<StreamId, Known>, stream: StreamId) -> &mut Known {
    if known.len() >= STREAMS_MAX && !known.contains_key(&stream) {
        known.clear();
    }
    known.entry(stream).or_default()
}

/// Whether a player asks for the first time, and can be told no, or reloads while it plays.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Visit {
    First,
    Again,
}

impl Listed {
    fn drop_head(&mut self, count: usize) {
        self.fragments.drain(..count);
    }

    /// What of it lies in `allowed`; none when nothing does.
    fn within(self: Arc<Listed>, allowed: Option<(ProducerTime, ProducerTime)>) -> Option<Arc<Listed>> {
        if self.fragments.iter().all(|info| is_allowed(allowed, info)) {
            return Some(self);
        }
        let fragments: Vec<_> = self.fragments.iter().filter(|info| is_allowed(allowed, info)).cloned().collect();
        let listed = Listed { fragments, track_sets: self.track_sets.clone(), kind: self.kind };
        (!listed.fragments.is_empty()).then(|| Arc::new(listed))
    }

    /// The rendition of this name, if a track set of a listed fragment has it; the newest says what a track number is.
    fn rendition(&self, name: RenditionName) -> Option<Rendition> {
        let mut ids: Vec<TrackSetId> = self.fragments.iter().rev().map(|info| info.track_set).collect();
        ids.dedup();
        ids.into_iter().filter_map(|id| self.track_sets.get(id)).find_map(|set| name.in_set(set))
    }

    /// The codecs of the newest fragment, for people.
    fn codecs(&self) -> String {
        let set = self.fragments.last().and_then(|info| self.track_sets.get(info.track_set));
        let Some(set) = set else { return "no known track".to_owned() };
        let names: Vec<String> = set.tracks().iter().map(|track| format!("{:?}", track.codec)).collect();
        names.join(", ")
    }
}

/// As a whole: a fragment that reaches over an end would show what lies beyond.
pub(in crate::playback) fn is_allowed(allowed: Option<(ProducerTime, ProducerTime)>, info: &FragmentInfo) -> bool {
    allowed.is_none_or(|(from, to)| info.producer_time >= from && info.producer_end() <= to)
}
