//! The room upon a real store in a temporary folder: what a clip holds, as our own reader of MP4 files finds it. Players judge
//! real recordings in `tests/it/clip.rs`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use media::codec::{aac, h264};
use media::container::cmaf::{self, Entry};
use media::container::mp4;
use media::{
    ClockSource, Epoch, Fragment, FragmentInfo, GapReason, Ordinal, Position, ProducerTime, Sequence, ServerTime,
    StartKind, StreamId, StreamName, Timescale, Track, TrackId, TrackSet, TrackSetId,
};
use store::clock::ManualClock;
use store::{Store, StreamIdentity};

use super::*;
use crate::live::{Hub, Settings};

const STREAM: StreamId = StreamId(uuid::Uuid::from_u128(0x9f3a_c2d1_0000_4000_8000_0000_0000_0001));
/// 2026-08-01T12:00:00Z.
const NOON_US: i64 = 1_785_585_600_000_000;
const PICTURE_US: i64 = 40_000;
const PICTURE_TICKS: i64 = 3_600;
/// Pictures of a fragment; sound comes in frames of a picture's length.
const PICTURES: i64 = 10;

const SPS: &[u8] = &[
    0x67, 0x64, 0x00, 0x0d, 0xac, 0xd9, 0x41, 0x50, 0x87, 0x88, 0x88, 0xc0, 0x44, 0x00, 0x00, 0x0f, 0xa4, 0x00, 0x03,
    0xa9, 0x80, 0x3c, 0x50, 0xa6, 0x58,
];
const PPS: &[u8] = &[0x68, 0xea, 0xe3, 0xcb, 0x22, 0xc0];

/// A camera that is recorded: each sample says in its bytes which it is.
struct Camera {
    store: Store,
    hub: Arc<Hub>,
    clips: Clips,
    asker: Asker,
    tracks: Arc<TrackSet>,
    set: TrackSetId,
    next: u64,
    /// Picture number at which the stream's timeline is, and at which the wall clock is.
    media: i64,
    wall: i64,
    breaks: Option<GapReason>,
    _folder: tempfile::TempDir,
}

impl Camera {
    fn new() -> Camera {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(ServerTime::from_micros(NOON_US)));
        let settings = store::Settings {
            root: folder.path().to_owned(),
            rotate_after: Duration::from_secs(300),
            rotate_bytes: 64 << 20,
            tick: Duration::from_millis(2),
            soft_free_permille: 0,
            hard_free_permille: 0,
        };
        let (store, _) = Store::open(settings, Epoch(1), clock.clone()).unwrap();
        let created = ServerTime::from_micros(NOON_US);
        let identity = StreamIdentity { id: STREAM, name: StreamName::new("gate").unwrap(), created };
        store.create_stream(&identity).unwrap();
        let hub = Hub::new(store.clone(), clock, Settings::default());
        Camera {
            clips: Clips::new(hub.clone()),
            hub,
            store,
            asker: Asker { stream: STREAM, was_trimmed: false, allowed: None },
            tracks: Arc::new(TrackSet::new(vec![video(), sound(&[0x11, 0x90])]).unwrap()),
            set: TrackSetId(1),
            next: 0,
            media: 250,
            wall: 0,
            breaks: Some(GapReason::Started),
            _folder: folder,
        }
    }

    /// Records a fragment of ten pictures and the sound beside them.
    async fn shoot(&mut self, start: StartKind) {
        let mut body = Vec::new();
        let mut parts = Vec::new();
        for track in self.tracks.tracks() {
            let is_video = track.codec.is_video();
            let ticks = i64::from(track.timescale.hz()) / 25;
            let entries: Vec<Entry> = (0..PICTURES)
                .map(|number| Entry {
                    duration: ticks as u32,
                    offset: 0,
                    size: 12,
                    sync: !is_video || (number == 0 && start != StartKind::Dependent),
                })
                .collect();
            let payloads: Vec<[u8; 12]> = (0..PICTURES).map(|number| payload(track.id, self.wall + number)).collect();
            let first = (self.media * ticks) as u64;
            let payloads = payloads.iter().map(|payload| &payload[..]);
            parts.push(cmaf::append(&mut body, 0, track.id, 1, first, &entries, payloads).unwrap());
        }
        let wall_us = NOON_US + self.wall * PICTURE_US;
        let info = FragmentInfo {
            position: Position { epoch: Epoch(1), sequence: Sequence(self.next + 1) },
            ordinal: Ordinal(self.next),
            discontinuities: 0,
            track_set: self.set,
            start,
            break_before: self.breaks.take(),
            end_of_session: false,
            damaged: false,
            producer_time: ProducerTime::from_micros(wall_us),
            clock_source: ClockSource::SenderReport,
            clock_error_us: 1_000,
            server_time: ServerTime::from_micros(wall_us + 500_000),
            duration_us: (PICTURES * PICTURE_US) as u64,
            tracks: parts,
            body_len: body.len() as u32,
        };
        let fragment = Fragment { info, tracks: self.tracks.clone(), body: Bytes::from(body) };
        self.store.append(STREAM, fragment).await.unwrap();
        (self.next, self.media, self.wall) = (self.next + 1, self.media + PICTURES, self.wall + PICTURES);
    }

    async fn shoot_all(&mut self, starts: &[StartKind]) {
        for start in starts {
            self.shoot(*start).await;
        }
    }

    fn away(&mut self, pictures: i64, reason: GapReason) {
        (self.media, self.wall) = (self.media + pictures, self.wall + pictures);
        self.breaks = Some(reason);
    }

    async fn clip(&self, request: Request) -> Result<Clip, ClipError> {
        self.clips.progressive(self.asker, request).await
    }

    async fn file(&self, request: Request) -> Vec<u8> {
        let clip = self.clip(request).await.unwrap();
        let whole = self.bytes(&clip, 0..clip.len()).await.unwrap();
        assert_eq!(whole.len() as u64, clip.len());
        whole
    }

    async fn bytes(&self, clip: &Clip, range: std::ops::Range<u64>) -> std::io::Result<Vec<u8>> {
        let parts: Vec<Bytes> = self.clips.body(clip, range).try_collect().await?;
        Ok(parts.concat())
    }

    /// Numbers and times in pictures of what a clip presents of the track, from the first at time zero on.
    async fn shown(&self, request: Request, track: u32) -> Vec<(i64, i64)> {
        shown(&self.file(request).await, track)
    }
}

/// The fragmented file, and that each part of it is a part of the whole.
async fn film(camera: &Camera, request: Request) -> Vec<u8> {
    let clip = camera.clips.fragmented(camera.asker, request).await.unwrap();
    let whole = camera.bytes(&clip, 0..clip.len()).await.unwrap();
    assert_eq!(whole.len() as u64, clip.len());
    for start in (0..clip.len()).step_by(1_237) {
        let end = (start + 2_000).min(clip.len());
        let part = camera.bytes(&clip, start..end).await.unwrap();
        assert!(part == whole[start as usize..end as usize], "{start}..{end}");
    }
    whole
}

fn video() -> Track {
    h264::track(TrackId(1), SPS, &[PPS]).unwrap()
}

fn sound(config: &[u8]) -> Track {
    aac::track(TrackId(2), config).unwrap()
}

fn payload(track: TrackId, number: i64) -> [u8; 12] {
    let mut payload = [0; 12];
    payload[..4].copy_from_slice(&track.0.to_be_bytes());
    payload[4..].copy_from_slice(&number.to_be_bytes());
    payload
}

fn shown(file: &[u8], track: u32) -> Vec<(i64, i64)> {
    let read = mp4::read(file).expect("a whole file");
    let timescale = |id: TrackId| read.tracks.iter().find(|one| one.track.id == id).unwrap().track.timescale;
    let samples = read.samples.iter().filter(|sample| {
        let bytes = sample.bytes(file);
        bytes.len() == 12 && bytes[..4] == track.to_be_bytes()
    });
    let seen = samples.map(|sample| {
        let number = i64::from_be_bytes(sample.bytes(file)[4..].try_into().unwrap());
        let micros = timescale(sample.track).to_micros(sample.pts);
        (number, (micros + PICTURE_US / 2).div_euclid(PICTURE_US))
    });
    seen.filter(|(_, at)| *at >= 0).collect()
}

/// Silence of AAC-LC in stereo.
const SILENCE: [u8; 6] = [0x21, 0, 0, 0, 0, 0x1c];

/// Where all samples of sound begin and end, in ticks, and which are silence.
fn heard(file: &[u8]) -> Vec<(i64, i64, bool)> {
    let read = mp4::read(file).expect("a whole file");
    let sound = read.samples.iter().filter(|sample| sample.track == TrackId(2));
    let ends = |sample: &mp4::Sample| sample.pts + i64::from(sample.duration);
    sound.map(|sample| (sample.pts, ends(sample), sample.bytes(file) == SILENCE)).collect()
}

/// From a little before picture `from` to a little before picture `to`.
fn pictures(from: i64, to: i64) -> Request {
    let before = |picture: i64| NOON_US + picture * PICTURE_US - 5_000;
    Request {
        from_us: before(from),
        to_us: before(to),
        clock: SpanClock::Producer,
        gaps: Gaps::Close,
        audio: Audio::Keep,
    }
}

fn in_order(from: i64, to: i64) -> Vec<(i64, i64)> {
    (from..to).map(|number| (number, number - from)).collect()
}

use StartKind::{Closed, Dependent, Open};

#[tokio::test]
async fn clip_starts_at_the_picture_and_its_media_where_that_can_be_decoded() {
    let mut camera = Camera::new();
    camera.shoot_all(&[Closed, Closed, Dependent, Dependent, Closed]).await;
    let file = camera.file(pictures(33, 47)).await;
    assert_eq!(shown(&file, 1), in_order(33, 47));
    assert_eq!(shown(&file, 2), in_order(33, 47));
    let read = mp4::read(&file).unwrap();
    let first = read.samples.iter().find(|sample| sample.track == TrackId(1)).unwrap();
    assert_eq!(first.bytes(&file), payload(TrackId(1), 10), "the random access point two fragments before");
    assert_eq!(first.pts, -23 * PICTURE_TICKS);
    let sound = read.samples.iter().find(|sample| sample.track == TrackId(2)).unwrap();
    assert!(sound.pts >= -3 * 1920, "a decoder of sound needs less: {}", sound.pts);
    // The clock of the server is half a second later.
    let server = Request { clock: SpanClock::Server, ..pictures(33, 47) };
    assert_eq!(camera.shown(server, 1).await[0].0, 33 - 12);
    let instant = Request { to_us: pictures(33, 47).from_us + 1_000, ..pictures(33, 47) };
    assert_eq!(camera.shown(instant, 1).await, [(32, 0)], "what is shown then");
}

#[tokio::test]
async fn pictures_that_nothing_precedes_any_more_are_left_out() {
    let mut camera = Camera::new();
    camera.shoot_all(&[Closed, Dependent, Dependent, Closed, Open]).await;
    // Only fragments that lie in the range as a whole may be seen, and the first two of them depend on what may not.
    let at = |picture: i64| ProducerTime::from_micros(NOON_US + picture * PICTURE_US);
    camera.asker.allowed = Some((at(5), at(45)));
    assert_eq!(camera.shown(pictures(0, 50), 1).await, in_order(30, 40));
    camera.asker.allowed = Some((at(60), at(70)));
    assert!(matches!(camera.clip(pictures(0, 50)).await, Err(ClipError::OutsideRange)));
    camera.asker.allowed = Some((at(10), at(20)));
    assert!(matches!(camera.clip(pictures(0, 50)).await, Err(ClipError::NoMedia)), "nothing decodable is left");
}

#[tokio::test]
async fn gaps_are_closed_for_all_tracks_alike_or_kept() {
    let mut camera = Camera::new();
    camera.shoot_all(&[Closed, Closed]).await;
    camera.away(100, GapReason::PublisherLeft);
    camera.shoot(Closed).await;
    for track in [1, 2] {
        let closed = camera.shown(pictures(5, 125), track).await;
        let numbers: Vec<i64> = (5..20).chain(120..125).collect();
        assert_eq!(closed, numbers.iter().copied().zip(0..).collect::<Vec<_>>());
        let kept = camera.shown(Request { gaps: Gaps::Keep, ..pictures(5, 125) }, track).await;
        assert_eq!(kept, numbers.iter().map(|number| (*number, number - 5)).collect::<Vec<_>>());
    }
    assert!(matches!(camera.clip(pictures(30, 90)).await, Err(ClipError::NoMedia)));
}

#[tokio::test]
async fn sound_goes_on_in_silence_over_every_joint() {
    let mut camera = Camera::new();
    camera.shoot_all(&[Closed, Closed]).await;
    for away in [100, 1, 333] {
        camera.away(away, GapReason::PublisherLeft);
        camera.shoot_all(&[Closed, Dependent]).await;
    }
    for gaps in [Gaps::Close, Gaps::Keep] {
        let request = Request { gaps, ..pictures(5, 600) };
        for file in [camera.file(request).await, film(&camera, request).await] {
            let heard = heard(&file);
            assert!(heard.windows(2).all(|pair| pair[0].1 == pair[1].0), "{gaps:?}: nothing is missing: {heard:?}");
            let silent = heard.iter().filter(|(.., is_silent)| *is_silent).count();
            // A picture is 1,920 ticks of sound.
            let expected = if gaps == Gaps::Keep { (434.0 * 1_920.0 / 1_024.0_f64).round() as usize } else { 0 };
            assert_eq!(silent, expected, "{gaps:?}");
        }
    }
}

#[tokio::test]
async fn hours_of_silence_are_made_as_they_are_sent() {
    let mut camera = Camera::new();
    camera.shoot(Closed).await;
    let hours = |hours: i64| hours * 3_600 * 25;
    camera.away(hours(20), GapReason::PublisherLeft);
    camera.shoot(Closed).await;
    let request = Request { gaps: Gaps::Keep, ..pictures(5, hours(21)) };
    let clip = camera.clips.fragmented(camera.asker, request).await.unwrap();
    // 20 hours are 3,375,000 units of 6 bytes, and 4 more in their fragments' heads.
    assert!((33_000_000..35_000_000).contains(&clip.len()), "{} bytes", clip.len());
    let head = camera.bytes(&clip, 0..50_000).await.unwrap();
    assert!(head.windows(6).filter(|six| *six == SILENCE).count() > 4_000);
    let end = camera.bytes(&clip, clip.len() - 50_000..clip.len()).await.unwrap();
    let joined = camera.bytes(&clip, clip.len() - 3_000_000..clip.len()).await.unwrap();
    assert!(joined.ends_with(&end) && end.ends_with(&payload(TrackId(2), hours(20) + 19)));
    // More than a day is left to the times.
    camera.away(hours(25), GapReason::PublisherLeft);
    camera.shoot(Closed).await;
    let request = Request { to_us: pictures(5, hours(50)).to_us, ..request };
    let longer = camera.clips.fragmented(camera.asker, request).await.unwrap();
    assert!(longer.len() < clip.len() + 5_000, "{} and {} bytes", clip.len(), longer.len());
    assert_eq!(
        camera.bytes(&longer, longer.len() - 12..longer.len()).await.unwrap(),
        payload(TrackId(2), hours(45) + 29)
    );
}

#[tokio::test]
async fn tracks_that_one_file_cannot_have_are_refused_with_their_ranges() {
    let mut camera = Camera::new();
    camera.shoot_all(&[Closed, Closed]).await;
    // 44.1 kHz.
    camera.tracks = Arc::new(TrackSet::new(vec![video(), sound(&[0x12, 0x10])]).unwrap());
    camera.set = TrackSetId(2);
    camera.away(0, GapReason::TracksChanged);
    camera.shoot_all(&[Closed, Closed]).await;
    let Err(ClipError::TracksChange { ranges }) = camera.clip(pictures(5, 35)).await else { panic!("refused") };
    let us = |picture: i64| NOON_US + picture * PICTURE_US;
    let times: Vec<_> = ranges.iter().map(|part| (part.from_us, part.to_us)).collect();
    assert_eq!(times, [(us(5) - 5_000, us(20)), (us(20), us(35) - 5_000)]);
    assert_eq!(ranges[1].tracks, "H264 322x242 + Aac 44100 Hz, 2 ch");
    for part in ranges {
        let one = Request { from_us: part.from_us, to_us: part.to_us, ..pictures(5, 35) };
        assert_eq!(camera.shown(one, 1).await.len(), 15);
    }
    let silent = Request { audio: Audio::None, ..pictures(5, 35) };
    assert_eq!(camera.shown(silent, 1).await, in_order(5, 35), "pictures did not change");
}

#[tokio::test]
async fn tracks_that_mp4_cannot_hold_are_left_out() {
    let mut camera = Camera::new();
    let unknown = media::codec::opaque::track(TrackId(2), Timescale::new(48_000).unwrap(), "V_X", &[]).unwrap();
    camera.tracks = Arc::new(TrackSet::new(vec![video(), unknown.clone()]).unwrap());
    camera.shoot(Closed).await;
    let file = camera.file(pictures(0, 10)).await;
    assert_eq!((shown(&file, 1).len(), mp4::read(&file).unwrap().tracks.len()), (10, 1));
    camera.tracks = Arc::new(TrackSet::new(vec![unknown]).unwrap());
    camera.set = TrackSetId(2);
    camera.away(100, GapReason::TracksChanged);
    camera.shoot(Closed).await;
    let refused = camera.clip(pictures(100, 120)).await;
    assert!(matches!(&refused, Err(ClipError::NotPlayable { codecs }) if codecs == "Opaque"), "{refused:?}");
}

#[tokio::test]
async fn what_retention_took_is_said_before_and_while_a_clip_is_sent() {
    let mut camera = Camera::new();
    camera.shoot_all(&[Closed; 40]).await;
    let clip = camera.clip(pictures(0, 400)).await.unwrap();
    let whole = camera.bytes(&clip, 0..clip.len()).await.unwrap();
    for start in (0..clip.len()).step_by(997) {
        let end = (start + 1_500).min(clip.len());
        let part = camera.bytes(&clip, start..end).await.unwrap();
        assert!(part == whole[start as usize..end as usize], "{start}..{end}");
    }
    camera.hub.delete(STREAM).await.unwrap();
    let broken = camera.bytes(&clip, 0..clip.len()).await;
    assert!(broken.is_err(), "a body that lacks something must not end as if it were whole");
    camera.asker.was_trimmed = true;
    assert!(matches!(camera.clip(pictures(0, 400)).await, Err(ClipError::Gone { earliest: None })));
}

#[tokio::test]
async fn the_same_clip_has_the_same_tag_and_is_planned_once() {
    let mut camera = Camera::new();
    camera.shoot_all(&[Closed, Closed]).await;
    let first = camera.clip(pictures(3, 15)).await.unwrap();
    let again = camera.clip(pictures(3, 15)).await.unwrap();
    let (Form::Progressive(one), Form::Progressive(other)) = (&first.form, &again.form) else { panic!("progressive") };
    assert!(Arc::ptr_eq(one, other));
    let elsewhere = Clips::new(camera.hub.clone());
    assert_eq!(elsewhere.progressive(camera.asker, pictures(3, 15)).await.unwrap().etag(), first.etag());
    assert_ne!(camera.clip(pictures(4, 15)).await.unwrap().etag(), first.etag());
    let still_growing = camera.clip(pictures(3, 25)).await.unwrap();
    camera.shoot(Closed).await;
    assert_ne!(camera.clip(pictures(3, 25)).await.unwrap().etag(), still_growing.etag());
}

#[tokio::test]
async fn fragmented_file_shows_the_same_over_many_pages() {
    let mut camera = Camera::new();
    for _ in 0..10 {
        camera.shoot_all(&[Closed, Dependent, Closed]).await;
    }
    camera.away(50, GapReason::PublisherLeft);
    // The first cannot be decoded: its access point is not there.
    camera.shoot_all(&[Dependent, Closed, Closed]).await;
    for (from, to) in [(0, 380), (10, 20), (13, 247), (13, 17), (20, 300), (25, 365)] {
        for gaps in [Gaps::Close, Gaps::Keep] {
            let request = Request { gaps, ..pictures(from, to) };
            let file = film(&camera, request).await;
            let progressive = camera.file(request).await;
            for track in [1, 2] {
                let (film, file) = (shown(&file, track), shown(&progressive, track));
                assert_eq!(film, file, "{from} to {to}, {gaps:?}, track {track}");
            }
        }
    }
    let silent = film(&camera, Request { audio: Audio::None, ..pictures(13, 247) }).await;
    assert_eq!((shown(&silent, 1), shown(&silent, 2)), (in_order(13, 247), Vec::new()));
    let dark = film(&camera, Request { audio: Audio::Only, ..pictures(13, 247) }).await;
    assert_eq!((shown(&dark, 1), shown(&dark, 2)), (Vec::new(), in_order(13, 247)));
}

#[tokio::test]
async fn fragmented_file_breaks_off_where_fragments_were_taken() {
    let mut camera = Camera::new();
    camera.shoot_all(&[Closed; 40]).await;
    let clip = camera.clips.fragmented(camera.asker, pictures(0, 400)).await.unwrap();
    camera.hub.delete(STREAM).await.unwrap();
    assert!(camera.bytes(&clip, 0..clip.len()).await.is_err());
}

#[tokio::test]
async fn fragmented_file_has_one_description() {
    let mut camera = Camera::new();
    camera.shoot_all(&[Closed, Closed]).await;
    camera.tracks = Arc::new(TrackSet::new(vec![video(), sound(&[0x12, 0x10])]).unwrap());
    camera.set = TrackSetId(2);
    camera.away(0, GapReason::TracksChanged);
    camera.shoot_all(&[Closed, Closed]).await;
    let refused = camera.clips.fragmented(camera.asker, pictures(5, 35)).await;
    let Err(ClipError::TracksChange { ranges }) = refused else { panic!("refused") };
    assert_eq!(ranges.len(), 2);
    for part in ranges {
        film(&camera, Request { from_us: part.from_us, to_us: part.to_us, ..pictures(5, 35) }).await;
    }
    let outside = camera.clips.fragmented(camera.asker, pictures(90, 95)).await;
    assert!(matches!(outside, Err(ClipError::NoMedia)));
}
