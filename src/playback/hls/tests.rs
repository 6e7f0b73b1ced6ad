//! Playlists as a whole: golden files, the same read by another parser, and what must hold while a window slides.
//!
//! `UPDATE_GOLDEN=1 cargo test hls` writes the golden files anew; read the difference before it is committed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use media::{
    ClockSource, Codec, Epoch, FragmentInfo, FragmentTrack, GapReason, Ordinal, Position, ProducerTime, Sequence,
    ServerTime, StartKind, StreamId, Timescale, Track, TrackId, TrackSet, TrackSetId,
};
use proptest::prelude::*;

use super::media_playlist::{Kind, MediaPlaylist, target_seconds};
use super::rendition::{Rendition, TrackSets};
use super::span::{Span, SpanClock, segment_query, start_after_long_holes, window_start};
use super::{BadSpan, FragmentName, Settings, multivariant};

pub(super) const STREAM: StreamId = StreamId(uuid::Uuid::from_u128(0x9f3a_c2d1_0000_4000_8000_0000_0000_0001));

/// 2026-08-01T12:00:00Z.
pub(super) const NOON_US: i64 = 1_785_585_600_000_000;

pub(super) fn track(id: u32, codec: Codec, codec_string: Option<&str>) -> Track {
    let video = codec.is_video();
    Track {
        id: TrackId(id),
        codec,
        timescale: if video { Timescale::VIDEO } else { Timescale::new(48_000).expect("not zero") },
        sample_entry: Bytes::from(format!("entry {id} {codec_string:?}")),
        codec_string: codec_string.map(str::to_owned),
        width: if video { 1280 } else { 0 },
        height: if video { 720 } else { 0 },
        frame_rate_millis: video.then_some(25_000),
        reorder_depth: None,
        channels: if video { 0 } else { 2 },
    }
}

pub(super) fn h264() -> Track {
    track(1, Codec::H264, Some("avc1.64001f"))
}

pub(super) fn aac(id: u32) -> Track {
    track(id, Codec::Aac, Some("mp4a.40.2"))
}

/// A camera that is recorded: fragments of some length one after another, with every count as the store keeps it.
pub(super) struct Reel {
    pub(super) fragments: Vec<FragmentInfo>,
    pub(super) sets: TrackSets,
    set: (TrackSetId, Arc<TrackSet>),
    /// Video decode times are this many ticks before the presentation times.
    reorder_delay: i64,
    next: (Epoch, u64, u64, u64),
    /// End so far on the stream's timeline, in video ticks.
    end: i64,
    pub(super) wall_us: i64,
    break_next: Option<GapReason>,
}

impl Reel {
    pub(super) fn new(tracks: Vec<Track>) -> Reel {
        let set = (TrackSetId(1), Arc::new(TrackSet::new(tracks).expect("a set")));
        let mut sets = TrackSets::default();
        sets.insert(set.0, set.1.clone());
        Reel {
            fragments: Vec::new(),
            sets,
            set,
            reorder_delay: 0,
            next: (Epoch(1), 1, 0, 0),
            end: 10 * 90_000,
            wall_us: NOON_US,
            break_next: Some(GapReason::Started),
        }
    }

    /// Appends a fragment of so many pictures at 25 a second.
    pub(super) fn cut(&mut self, pictures: u32) -> &mut FragmentInfo {
        let (epoch, sequence, ordinal, mut discontinuities) = self.next;
        if self.break_next.is_some_and(|reason| reason != GapReason::Started) {
            discontinuities += 1;
        }
        let start = self.end;
        let end = start + i64::from(pictures) * 3600;
        let mut tracks = Vec::new();
        let mut offset = 0;
        for track in self.set.1.tracks() {
            let part = if track.codec.is_video() {
                let len = 600 + pictures * 5_000;
                part_of(track, offset, len, pictures, start - self.reorder_delay, start, (end - start) as u64)
            } else {
                // Frames of 1024 samples whose time is at or after the cut.
                let frame = |ticks: i64| -((-ticks * 48_000).div_euclid(90_000 * 1024));
                let (first, count) = (frame(start) * 1024, frame(end) - frame(start));
                let len = 200 + count as u32 * 340;
                part_of(track, offset, len, count as u32, first, first, count as u64 * 1024)
            };
            offset += part.len;
            tracks.push(part);
        }
        let duration_us = u64::from(pictures) * 40_000;
        self.fragments.push(FragmentInfo {
            position: Position { epoch, sequence: Sequence(sequence) },
            ordinal: Ordinal(ordinal),
            discontinuities,
            track_set: self.set.0,
            start: StartKind::Closed,
            break_before: self.break_next.take(),
            end_of_session: false,
            damaged: false,
            producer_time: ProducerTime::from_micros(self.wall_us),
            clock_source: ClockSource::SenderReport,
            clock_error_us: 1_000,
            server_time: ServerTime::from_micros(self.wall_us + 40_000),
            duration_us,
            tracks,
            body_len: offset,
        });
        self.end = end;
        self.wall_us += duration_us as i64;
        self.next = (epoch, sequence + 1, ordinal + 1, discontinuities);
        self.fragments.last_mut().expect("just put there")
    }

    /// Appends so many fragments of so many pictures.
    pub(super) fn run(&mut self, fragments: usize, pictures: u32) {
        for _ in 0..fragments {
            self.cut(pictures);
        }
    }

    /// The publisher goes away and comes back after some seconds.
    fn away(&mut self, seconds: i64, reason: GapReason) {
        self.end += seconds * 90_000;
        self.wall_us += seconds * 1_000_000;
        self.break_next = Some(reason);
    }

    fn change_tracks(&mut self, tracks: Vec<Track>) {
        let id = TrackSetId(self.set.0.0 + 1);
        self.set = (id, Arc::new(TrackSet::new(tracks).expect("a set")));
        self.sets.insert(id, self.set.1.clone());
        self.break_next = Some(GapReason::TracksChanged);
    }

    fn restart(&mut self) {
        let (epoch, _, ordinal, discontinuities) = self.next;
        self.next = (Epoch(epoch.0 + 1), 1, ordinal, discontinuities);
        self.away(4, GapReason::ServerCrashed);
    }

    fn text(&self, rendition: Rendition, kind: Kind) -> String {
        text(&self.fragments, &self.sets, rendition, kind, None)
    }
}

fn part_of(track: &Track, offset: u32, len: u32, samples: u32, dts: i64, pts: i64, duration: u64) -> FragmentTrack {
    FragmentTrack { track: track.id, offset, moof_len: 200, len, samples, first_dts: dts, first_pts: pts, duration }
}

fn text(fragments: &[FragmentInfo], sets: &TrackSets, rendition: Rendition, kind: Kind, token: Option<&str>) -> String {
    let playlist = MediaPlaylist {
        stream: STREAM,
        fragments,
        track_sets: sets,
        rendition,
        kind,
        target_seconds: target_seconds(fragments, sets),
        query: &segment_query(token),
    };
    playlist.text()
}

/// Compares with the golden file, and has another parser read it.
fn golden(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/hls").join(format!("{name}.m3u8"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().expect("has one")).expect("make folder");
        std::fs::write(&path, text).expect("write golden file");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(text == expected, "{} differs; we wrote:\n{text}", path.display());
    let (rest, _) = m3u8_rs::parse_playlist(text.as_bytes()).expect("another parser reads it");
    assert!(rest.is_empty(), "another parser stopped at {:?}", String::from_utf8_lossy(rest));
}

fn parse(text: &str) -> m3u8_rs::MediaPlaylist {
    m3u8_rs::parse_media_playlist_res(text.as_bytes()).expect("a media playlist")
}

fn is_gap(segment: &m3u8_rs::MediaSegment) -> bool {
    segment.unknown_tags.iter().any(|tag| tag.tag == "X-GAP")
}

#[test]
fn live_lists_video_and_audio_of_the_newest_window() {
    let mut reel = Reel::new(vec![h264(), aac(2)]);
    for _ in 0..40 {
        reel.cut(50);
    }
    let start = window_start(&reel.fragments, Duration::from_secs(12));
    assert_eq!(start, 34);
    let video = text(&reel.fragments[start..], &reel.sets, Rendition::Video, Kind::Live, Some("kin_a/b\"\n"));
    golden("live-video", &video);
    let audio = text(&reel.fragments[start..], &reel.sets, Rendition::Audio(0), Kind::Live, None);
    golden("live-audio", &audio);
    let (video, audio) = (parse(&video), parse(&audio));
    assert_eq!(video.media_sequence, 34);
    assert_eq!(audio.media_sequence, 34);
    assert_eq!(video.segments.len(), audio.segments.len());
    assert_eq!(video.target_duration, audio.target_duration);
    assert!(!video.end_list && video.playlist_type.is_none());
}

#[test]
fn past_range_ends_and_a_growing_one_starts_at_its_head() {
    let mut reel = Reel::new(vec![h264(), aac(2)]);
    reel.run(3, 50);
    golden("past-video", &reel.text(Rendition::Video, Kind::Past));
    golden("growing-video", &reel.text(Rendition::Video, Kind::Growing));
    let past = parse(&reel.text(Rendition::Video, Kind::Past));
    assert!(past.end_list);
    assert_eq!(past.playlist_type, Some(m3u8_rs::MediaPlaylistType::Vod));
    let growing = parse(&reel.text(Rendition::Video, Kind::Growing));
    assert!(!growing.end_list);
    assert_eq!(growing.start.expect("a start").time_offset, 0.0);
}

#[test]
fn b_frames_are_dated_by_presentation_and_timed_by_decoding() {
    let mut reel = Reel::new(vec![h264(), aac(2)]);
    reel.reorder_delay = 2 * 3600;
    reel.run(3, 50);
    let list = parse(&reel.text(Rendition::Video, Kind::Past));
    let first = list.segments[0].program_date_time.expect("dated");
    assert_eq!(first.timestamp_micros(), NOON_US);
    assert!(list.segments.iter().all(|segment| segment.duration == 2.0));
    // The audio's own first sample: frame 469 of 1024 samples is the first at or after 10 s.
    let list = parse(&reel.text(Rendition::Audio(0), Kind::Past));
    let ahead_us = (469 * 1024 * 1_000_000i64).div_euclid(48_000) - 10_000_000;
    let first = list.segments[0].program_date_time.expect("dated");
    assert_eq!(first.timestamp_millis(), (NOON_US + ahead_us + 500) / 1000);
}

#[test]
fn new_tracks_make_a_new_map_after_a_discontinuity() {
    let mut reel = Reel::new(vec![h264(), aac(2)]);
    reel.run(2, 50);
    reel.change_tracks(vec![Track { width: 1920, height: 1080, ..track(1, Codec::H264, Some("avc1.640028")) }]);
    reel.run(2, 50);
    // Back, with the tracks in another order.
    let video = track(2, Codec::H264, Some("avc1.64001f"));
    reel.change_tracks(vec![aac(1), video]);
    reel.run(2, 50);
    golden("tracks-changed-video", &reel.text(Rendition::Video, Kind::Past));
    golden("tracks-changed-audio", &reel.text(Rendition::Audio(0), Kind::Past));
    let text = multivariant::text(&reel.fragments, &reel.sets, Kind::Past, 2, "?from=x").expect("playable");
    golden("tracks-changed-index", &text);

    let audio = parse(&reel.text(Rendition::Audio(0), Kind::Past));
    let gaps: Vec<bool> = audio.segments.iter().map(is_gap).collect();
    assert_eq!(gaps, [false, false, true, true, false, false]);
    let breaks: Vec<bool> = audio.segments.iter().map(|segment| segment.discontinuity).collect();
    assert_eq!(breaks, [false, false, true, false, true, false]);
}

#[test]
fn sessions_and_restarts_are_discontinuities_with_a_date() {
    let mut reel = Reel::new(vec![h264(), aac(2)]);
    reel.run(2, 50);
    reel.away(30, GapReason::PublisherLeft);
    reel.run(2, 50);
    reel.restart();
    reel.run(2, 50);
    golden("restarts-video", &reel.text(Rendition::Video, Kind::Growing));
    let list = parse(&reel.text(Rendition::Video, Kind::Growing));
    assert_eq!(list.media_sequence, 0);
    assert_eq!(list.discontinuity_sequence, 0);
    let third = list.segments[2].program_date_time.expect("dated");
    assert_eq!(third.timestamp_micros(), NOON_US + 34_000_000);
}

#[test]
fn missing_ordinals_are_gaps_that_keep_the_count() {
    let mut reel = Reel::new(vec![h264(), aac(2)]);
    reel.run(6, 50);
    reel.away(3, GapReason::PublisherLeft);
    reel.run(3, 50);
    reel.fragments.drain(5..7);
    reel.fragments.drain(2..4);
    golden("holes-video", &reel.text(Rendition::Video, Kind::Growing));
    golden("holes-past-video", &reel.text(Rendition::Video, Kind::Past));
    let list = parse(&reel.text(Rendition::Audio(0), Kind::Growing));
    assert_eq!(list.segments.len(), 9);
    let gaps: Vec<usize> = (0..9).filter(|at| is_gap(&list.segments[*at])).collect();
    assert_eq!(gaps, [2, 3, 5, 6]);
}

#[test]
fn open_starts_and_cut_fragments_are_not_called_independent() {
    let mut reel = Reel::new(vec![h264(), aac(2)]);
    reel.run(3, 50);
    assert!(parse(&reel.text(Rendition::Video, Kind::Live)).independent_segments);
    for start in [StartKind::Open, StartKind::Dependent] {
        reel.fragments[1].start = start;
        assert!(!parse(&reel.text(Rendition::Video, Kind::Live)).independent_segments);
        assert!(parse(&reel.text(Rendition::Audio(0), Kind::Live)).independent_segments);
    }
}

#[test]
fn fragment_without_audio_is_a_gap_in_the_audio_playlist() {
    let mut reel = Reel::new(vec![h264(), aac(2)]);
    reel.run(4, 50);
    reel.fragments[1].tracks.truncate(1);
    golden("silent-audio", &reel.text(Rendition::Audio(0), Kind::Live));
    let audio = parse(&reel.text(Rendition::Audio(0), Kind::Live));
    assert_eq!(audio.segments.iter().map(is_gap).collect::<Vec<_>>(), [false, true, false, false]);
    let video = parse(&reel.text(Rendition::Video, Kind::Live));
    assert!(!video.segments.iter().any(is_gap));
}

fn index(tracks: Vec<Track>) -> Option<String> {
    let mut reel = Reel::new(tracks);
    reel.run(5, 50);
    let span = Span::Live { window: Duration::from_secs(60) };
    multivariant::text(&reel.fragments, &reel.sets, Kind::Live, 2, &span.query(Some("kin_x")))
}

#[test]
fn index_names_what_a_player_chooses_by() {
    let both = index(vec![h264(), aac(2)]).expect("playable");
    golden("index", &both);
    let list = m3u8_rs::parse_master_playlist_res(both.as_bytes()).expect("a multivariant playlist");
    let variant = &list.variants[0];
    // Each 2 s: 50 pictures of 5000 bytes and 600 around them. In all 469 frames of 340 bytes and 5 times 200
    // around them, in 469 * 1024 / 48000 s.
    assert_eq!(variant.average_bandwidth, Some(1_002_400 + 128_300));
    assert_eq!(variant.frame_rate, Some(25.0));
    golden("index-video-only", &index(vec![h264()]).expect("playable"));
    golden("index-audio-only", &index(vec![aac(1)]).expect("playable"));
    golden("index-two-audio", &index(vec![h264(), aac(2), track(3, Codec::Opus, Some("opus"))]).expect("playable"));
}

#[test]
fn g711_and_unknown_codecs_are_left_out() {
    let g711 = index(vec![h264(), track(2, Codec::Pcmu, None)]).expect("the pictures are playable");
    assert_eq!(g711, index(vec![h264()]).expect("playable"));
    let behind = index(vec![h264(), track(2, Codec::Pcma, None), aac(3)]).expect("playable");
    assert!(behind.contains("audio.m3u8") && behind.contains("mp4a.40.2"), "{behind}");
    assert_eq!(index(vec![track(1, Codec::Pcmu, None)]), None);
    assert_eq!(index(vec![track(1, Codec::Opaque, None)]), None);
}

#[test]
fn audio_that_is_declared_and_never_comes_is_no_rendition() {
    let mut reel = Reel::new(vec![h264(), aac(2)]);
    (0..5).for_each(|_| reel.cut(50).tracks.truncate(1));
    let text = multivariant::text(&reel.fragments, &reel.sets, Kind::Live, 2, "").expect("playable");
    assert!(!text.contains("AUDIO") && !text.contains("mp4a"), "{text}");
}

#[test]
fn declared_frame_rate_that_is_not_so_is_replaced_by_the_counted_one() {
    let wrong = Track { frame_rate_millis: Some(50_000), ..h264() };
    assert!(index(vec![wrong]).expect("playable").contains("FRAME-RATE=25"));
    let ntsc = Track { frame_rate_millis: Some(25_100), ..h264() };
    assert!(index(vec![ntsc]).expect("playable").contains("FRAME-RATE=25.1"));
}

#[test]
fn a_heavy_moment_counts_as_bandwidth_and_not_on_average() {
    let mut reel = Reel::new(vec![h264()]);
    reel.run(9, 50);
    reel.fragments[4].tracks[0].len *= 10;
    let text = multivariant::text(&reel.fragments, &reel.sets, Kind::Past, 2, "").expect("playable");
    let list = m3u8_rs::parse_master_playlist_res(text.as_bytes()).expect("a multivariant playlist");
    assert_eq!(list.variants[0].bandwidth, 10_024_000);
    assert_eq!(list.variants[0].average_bandwidth, Some(2_004_800));
}

#[test]
fn spans_that_make_no_sense_are_refused() {
    let settings = Settings::default();
    let span = |window: Option<u64>, from, to| {
        Span::new(window.map(Duration::from_secs), from, to, SpanClock::Producer, &settings)
    };
    assert_eq!(span(None, None, None), Ok(Span::Live { window: Duration::from_secs(60) }));
    assert_eq!(span(Some(3600), None, None), Ok(Span::Live { window: Duration::from_secs(3600) }));
    assert!(matches!(span(Some(3601), None, None), Err(BadSpan::Window { .. })));
    assert!(matches!(span(Some(0), None, None), Err(BadSpan::Window { .. })));
    assert_eq!(span(Some(60), Some(1), None), Err(BadSpan::WindowAndRange));
    assert_eq!(span(None, None, Some(1)), Err(BadSpan::ToAlone));
    assert_eq!(span(None, Some(5), Some(5)), Err(BadSpan::Order));
    assert_eq!(span(None, Some(i64::MIN), Some(i64::MAX)).map(|_| ()), Ok(()));
    let since = Span::Since { from_us: NOON_US + 5, clock: SpanClock::Server };
    assert_eq!(since.query(None), "?from=2026-08-01T12:00:00.000005Z&clock=server");
}

#[test]
fn names_of_fragments_have_one_spelling() {
    let name: FragmentName = "3-17-9f3ac2d1".parse().expect("a name");
    assert_eq!(name.position, Position { epoch: Epoch(3), sequence: Sequence(17) });
    for text in ["", "3", "3-17", "03-17-a", "3-+7-a", "3-17-a-b", "-3-17-a", "99999999999-1-a", "gap"] {
        assert!(text.parse::<FragmentName>().is_err(), "{text}");
    }
}

#[test]
fn track_numbers_name_renditions_too() {
    let set = TrackSet::new(vec![h264(), track(2, Codec::Pcmu, None), aac(3)]).expect("a set");
    let named = |text: &str| text.parse::<super::RenditionName>().ok().and_then(|name| name.in_set(&set));
    assert_eq!(named("1"), Some(Rendition::Video));
    assert_eq!(named("2"), None);
    assert_eq!(named("3"), Some(Rendition::Audio(0)));
    assert_eq!(named("audio"), Some(Rendition::Audio(0)));
    assert_eq!(named("audio-2"), None);
    assert_eq!(named("4"), None);
    assert_eq!(named("01"), None);
}

#[test]
fn a_day_is_written_at_once() {
    let mut reel = Reel::new(vec![h264(), aac(2)]);
    reel.run(43_200, 50);
    let started = std::time::Instant::now();
    let text = reel.text(Rendition::Audio(0), Kind::Past);
    let took = started.elapsed();
    assert_eq!(text.lines().filter(|line| line.ends_with(".m4s")).count(), 43_200);
    // Some 10 ms optimised; the bound is for a debug build on a busy machine.
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn lengths_add_up_without_drift_over_a_day() {
    let odd = Track { timescale: Timescale::new(44_100).expect("not zero"), ..aac(1) };
    let set = TrackSet::new(vec![odd.clone()]).expect("a set");
    let mut sets = TrackSets::default();
    sets.insert(TrackSetId(1), Arc::new(set));
    let mut reel = Reel::new(vec![odd.clone()]);
    let count = 43_200u64;
    for at in 0..count {
        let first = at as i64 * 86 * 1024;
        let info = reel.cut(50);
        info.tracks = vec![part_of(&odd, 0, 1000, 86, first, first, 86 * 1024)];
    }
    let text = text(&reel.fragments, &sets, Rendition::Audio(0), Kind::Past, None);
    let micros = |line: &str| line.strip_prefix("#EXTINF:")?.strip_suffix(',')?.replace('.', "").parse::<u64>().ok();
    let total: u64 = text.lines().filter_map(micros).sum();
    assert_eq!(total, count * 86 * 1024 * 1_000_000 / 44_100);
}

/// What happens to a stream, one thing after another.
#[derive(Clone, Copy, Debug)]
enum Event {
    Cut { pictures: u32 },
    CutSilent,
    Lose { fragments: usize },
    Leave,
    Crash,
    NewTracks,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (1u32..250).prop_map(|pictures| Event::Cut { pictures }),
        1 => Just(Event::CutSilent),
        1 => (1usize..5).prop_map(|fragments| Event::Lose { fragments }),
        1 => Just(Event::Leave),
        1 => Just(Event::Crash),
        1 => Just(Event::NewTracks),
    ]
}

proptest! {
    /// A player that sees any two windows of a stream finds every segment with the same numbers, address, date and
    /// length in both, in either rendition; and the window never goes back.
    #[test]
    fn segments_keep_their_numbers_while_the_window_slides(
        events in proptest::collection::vec(event(), 1..80),
        window in 1u64..40,
    ) {
        let mut reel = Reel::new(vec![h264(), aac(2)]);
        let mut seen = std::collections::HashMap::new();
        let (mut last_sequence, mut last_breaks) = (0, 0);
        for event in events {
            match event {
                Event::Cut { pictures } => reel.run(1, pictures),
                Event::CutSilent => reel.cut(50).tracks.truncate(1),
                Event::Lose { fragments } => {
                    let keep = reel.fragments.len();
                    reel.run(fragments, 50);
                    reel.fragments.truncate(keep);
                }
                Event::Leave => reel.away(3, GapReason::PublisherLeft),
                Event::Crash => reel.restart(),
                Event::NewTracks => reel.change_tracks(vec![h264(), aac(2)]),
            }
            if reel.fragments.is_empty() {
                continue;
            }
            let start = window_start(&reel.fragments, Duration::from_secs(window));
            let listed = &reel.fragments[start..];
            let listed = &listed[start_after_long_holes(listed)..];
            let texts = [Rendition::Video, Rendition::Audio(0)].map(|rendition| {
                // A server that has seen all of the stream knows its longest segment.
                let playlist = MediaPlaylist {
                    stream: STREAM,
                    fragments: listed,
                    track_sets: &reel.sets,
                    rendition,
                    kind: Kind::Live,
                    target_seconds: 10,
                    query: "",
                };
                playlist.text()
            });
            let numbers = texts.each_ref().map(|text| numbered(text));
            prop_assert_eq!(numbers[0].len(), numbers[1].len());
            prop_assert!(numbers[0].len() >= listed.len());
            for (rendition, list) in numbers.iter().enumerate() {
                for segment in list {
                    let known = seen.entry((rendition, segment.sequence)).or_insert_with(|| segment.clone());
                    prop_assert_eq!(&*known, segment);
                }
            }
            for (video, audio) in numbers[0].iter().zip(&numbers[1]) {
                prop_assert_eq!((video.sequence, video.breaks), (audio.sequence, audio.breaks));
            }
            let (sequence, breaks) = (numbers[0][0].sequence, numbers[0][0].breaks);
            prop_assert!(sequence >= last_sequence && breaks >= last_breaks);
            (last_sequence, last_breaks) = (sequence, breaks);
        }
    }
}

#[derive(Clone, PartialEq, Debug)]
struct Numbered {
    sequence: u64,
    breaks: u64,
    uri: String,
    seconds: String,
    date: Option<String>,
    map: Option<String>,
}

/// The segments of a media playlist as a client numbers them (RFC 8216 sections 6.2.1 and 6.3.4), read line by line:
/// the other parser does not count repeated discontinuities.
fn numbered(text: &str) -> Vec<Numbered> {
    let (mut sequence, mut breaks, mut map) = (0, 0, None);
    let (mut seconds, mut date, mut gap) = (String::new(), None, false);
    let mut list = Vec::new();
    for line in text.lines() {
        if let Some(value) = line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:") {
            sequence = value.parse().expect("a number");
        } else if let Some(value) = line.strip_prefix("#EXT-X-DISCONTINUITY-SEQUENCE:") {
            breaks = value.parse().expect("a number");
        } else if line == "#EXT-X-DISCONTINUITY" {
            breaks += 1;
        } else if line == "#EXT-X-GAP" {
            gap = true;
        } else if let Some(value) = line.strip_prefix("#EXTINF:") {
            seconds = value.to_owned();
        } else if let Some(value) = line.strip_prefix("#EXT-X-PROGRAM-DATE-TIME:") {
            date = Some(value.to_owned());
        } else if let Some(value) = line.strip_prefix("#EXT-X-MAP:") {
            map = Some(value.to_owned());
        } else if !line.starts_with('#') {
            let map = if gap { None } else { map.clone() };
            assert!(gap || map.is_some(), "a segment before its map: {line}");
            list.push(Numbered {
                sequence,
                breaks,
                uri: line.to_owned(),
                seconds: seconds.clone(),
                date: date.take(),
                map,
            });
            sequence += 1;
            gap = false;
        }
    }
    list
}
