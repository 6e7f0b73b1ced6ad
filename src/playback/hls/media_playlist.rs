//! The text of a media playlist. Pure: a list of fragments in, one string out.
//!
//! Written by hand, since low-latency tags (parts, hints, skips, delta updates) need places that no library gives
//! them: `header` and `segment` are those places.

use media::{FragmentInfo, FragmentTrack, StreamId, Timescale, Track, TrackSetId};

use super::date::{push_date_millis, push_number, push_seconds};
use super::rate::span_micros;
use super::rendition::{Rendition, TrackSets};
use super::span::HOLE_MAX;

/// Highest protocol version that what we write needs: EXT-X-MAP outside of I-frame playlists needs 6, and 7 is what
/// authoring rules ask of fragmented MP4.
pub(super) const VERSION: usize = 7;

/// How a list goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// The newest window: starts near its end, loses segments at the start.
    Live,
    /// From a past time, growing: starts at its first segment. Not of type EVENT, since retention may take its head.
    Growing,
    /// A complete past range.
    Past,
}

/// A media playlist to be written.
pub(super) struct MediaPlaylist<'a> {
    pub stream: StreamId,
    /// In stream order.
    pub fragments: &'a [FragmentInfo],
    pub track_sets: &'a TrackSets,
    pub rendition: Rendition,
    pub kind: Kind,
    /// EXT-X-TARGETDURATION; at least [`target_seconds`] of the fragments.
    pub target_seconds: u32,
    /// Appended to every address: empty, or `?token=...`.
    pub query: &'a str,
}

/// The target duration that these fragments need: their longest segment in any rendition, to the nearest second
/// (RFC 8216 section 4.3.3.1). The same for every rendition, so that players reload them in step.
pub(super) fn target_seconds(fragments: &[FragmentInfo], sets: &TrackSets) -> u32 {
    let of_fragment = |info: &FragmentInfo| {
        let set = sets.get(info.track_set);
        let tracks = info.tracks.iter().filter_map(|part| {
            let track = set?.track(part.track)?;
            track.codec_string.as_ref()?;
            Some(span_micros(part.first_dts, part.duration, track.timescale))
        });
        tracks.max().unwrap_or(0).max(info.duration_us)
    };
    let longest_us = fragments.iter().map(of_fragment).max().unwrap_or(0);
    // Hostile durations end here: no segment that we cut is an hour long.
    (longest_us.saturating_add(500_000) / 1_000_000).clamp(1, 3600) as u32
}

/// Room for a segment's lines without its query: date, EXTINF and address.
const SEGMENT_BYTES: usize = 128;

impl MediaPlaylist<'_> {
    /// The playlist's text.
    pub(super) fn text(&self) -> String {
        let mut text = String::with_capacity(512 + self.fragments.len() * (SEGMENT_BYTES + self.query.len()));
        self.header(&mut text);
        let tag = super::life_tag(self.stream);
        let mut before: Option<&FragmentInfo> = None;
        let mut map: Option<TrackSetId> = None;
        let mut subject = Subject::default();
        for info in self.fragments {
            if let Some(before) = before {
                self.hole(&mut text, before, info);
                for _ in 0..breaks_between(before, info) {
                    text.push_str("#EXT-X-DISCONTINUITY\n");
                }
            }
            subject.turn_to(info.track_set, self);
            match subject.part(info) {
                Some((track, part)) => {
                    if map != Some(info.track_set) {
                        self.map(&mut text, info.track_set, track, &tag);
                        map = Some(info.track_set);
                    }
                    self.segment(&mut text, info, track, part, subject.lead_start_us(info), &tag);
                }
                None => self.silent(&mut text, info, &tag),
            }
            before = Some(info);
        }
        if self.kind == Kind::Past {
            text.push_str("#EXT-X-ENDLIST\n");
        }
        text
    }

    fn header(&self, text: &mut String) {
        text.push_str("#EXTM3U\n#EXT-X-VERSION:");
        push_number(text, VERSION as u64);
        text.push_str("\n#EXT-X-TARGETDURATION:");
        push_number(text, u64::from(self.target_seconds));
        let first = self.fragments.first();
        text.push_str("\n#EXT-X-MEDIA-SEQUENCE:");
        push_number(text, first.map_or(0, |info| info.ordinal.0));
        text.push_str("\n#EXT-X-DISCONTINUITY-SEQUENCE:");
        push_number(text, first.map_or(0, |info| info.discontinuities));
        text.push('\n');
        match self.kind {
            Kind::Live => {}
            // Without it a player would start at the end of a list that has none.
            Kind::Growing => text.push_str("#EXT-X-START:TIME-OFFSET=0\n"),
            Kind::Past => text.push_str("#EXT-X-PLAYLIST-TYPE:VOD\n"),
        }
        let closed = |info: &FragmentInfo| info.start == media::StartKind::Closed;
        if self.rendition != Rendition::Video || self.fragments.iter().all(closed) {
            text.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
        }
    }

    fn map(&self, text: &mut String, set: TrackSetId, track: &Track, tag: &str) {
        text.push_str("#EXT-X-MAP:URI=\"init/");
        push_number(text, u64::from(set.0));
        text.push('-');
        push_number(text, u64::from(track.id.0));
        text.push('-');
        text.push_str(tag);
        text.push_str(".mp4");
        text.push_str(self.query);
        text.push_str("\"\n");
    }

    /// A segment with its own wall clock: that of its first presentation time.
    fn segment(
        &self,
        text: &mut String,
        info: &FragmentInfo,
        track: &Track,
        part: &FragmentTrack,
        lead_start_us: Option<i64>,
        tag: &str,
    ) {
        let behind_lead_us =
            lead_start_us.map_or(0, |lead| track.timescale.to_micros(part.first_pts).saturating_sub(lead));
        text.push_str("#EXT-X-PROGRAM-DATE-TIME:");
        push_date_millis(text, info.producer_time.plus_micros(behind_lead_us));
        text.push('\n');
        self.length(text, span_micros(part.first_dts, part.duration, track.timescale));
        self.address(text, info, track.id.0, tag);
    }

    /// A fragment in which this rendition has nothing.
    fn silent(&self, text: &mut String, info: &FragmentInfo, tag: &str) {
        text.push_str("#EXT-X-GAP\n#EXT-X-PROGRAM-DATE-TIME:");
        push_date_millis(text, info.producer_time);
        text.push('\n');
        self.length(text, info.duration_us);
        self.address(text, info, 0, tag);
    }

    /// Ordinals between two fragments that are not there. Their time is that between the two, in equal shares.
    ///
    /// A past range skips those between two runs: there they may be fragments of other times (the producer's clock
    /// went back), and a complete list may number its segments as it likes.
    fn hole(&self, text: &mut String, before: &FragmentInfo, after: &FragmentInfo) {
        let missing = after.ordinal.0.saturating_sub(before.ordinal.0).saturating_sub(1);
        let runs_on = breaks_between(before, after) == 0;
        if missing == 0 || missing > HOLE_MAX || (self.kind == Kind::Past && !runs_on) {
            return;
        }
        let apart_us = after.producer_time.micros_since(before.producer_end());
        let each_us = (u64::try_from(apart_us).unwrap_or(0) / missing).min(u64::from(self.target_seconds) * 1_000_000);
        for ordinal in before.ordinal.0 + 1..after.ordinal.0 {
            text.push_str("#EXT-X-GAP\n");
            self.length(text, each_us);
            text.push_str("gap/");
            push_number(text, ordinal);
            text.push_str(".m4s\n");
        }
    }

    fn length(&self, text: &mut String, micros: u64) {
        text.push_str("#EXTINF:");
        push_seconds(text, micros.min(u64::from(self.target_seconds) * 1_000_000 + 499_999));
        text.push_str(",\n");
    }

    fn address(&self, text: &mut String, info: &FragmentInfo, track: u32, tag: &str) {
        push_number(text, u64::from(info.position.epoch.0));
        text.push('-');
        push_number(text, info.position.sequence.0);
        text.push('-');
        text.push_str(tag);
        text.push('/');
        push_number(text, u64::from(track));
        text.push_str(".m4s");
        text.push_str(self.query);
        text.push('\n');
    }
}

/// Discontinuities from one listed fragment to the next: more than one when those of a hole are between them.
fn breaks_between(before: &FragmentInfo, after: &FragmentInfo) -> u64 {
    // Stored counts are checked by nobody on the way here: a wrong one must not become a gigabyte.
    after.discontinuities.saturating_sub(before.discontinuities).min(HOLE_MAX)
}

/// The track that the playlist is about and the one that leads, looked up once for each track set.
#[derive(Default)]
struct Subject<'a> {
    set: Option<TrackSetId>,
    track: Option<&'a Track>,
    lead: Option<(&'a Track, Timescale)>,
}

impl<'a> Subject<'a> {
    fn turn_to(&mut self, id: TrackSetId, playlist: &MediaPlaylist<'a>) {
        if self.set != Some(id) {
            let set = playlist.track_sets.get(id);
            self.set = Some(id);
            self.track = set.and_then(|set| playlist.rendition.track(set));
            self.lead = set.map(|set| (set.lead(), set.lead().timescale));
        }
    }

    fn part<'b>(&self, info: &'b FragmentInfo) -> Option<(&'a Track, &'b FragmentTrack)> {
        let track = self.track?;
        Some((track, info.track(track.id)?))
    }

    /// First presentation time of the leading track, whose wall clock is the fragment's producer time.
    fn lead_start_us(&self, info: &FragmentInfo) -> Option<i64> {
        let (lead, timescale) = self.lead?;
        Some(timescale.to_micros(info.track(lead.id)?.first_pts))
    }
}
