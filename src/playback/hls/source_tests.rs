//! The room upon a real store in a temporary folder: what is listed for whom, and which bytes a segment is.

use store::clock::ManualClock;
use store::{Store, StreamIdentity};

use super::tests::{NOON_US, Reel, STREAM, aac, h264};
use super::*;
use crate::live::Hub;
use media::{Codec, Epoch, Fragment, ProducerTime, ServerTime, StreamName, TrackId};
use std::sync::Arc;

struct Site {
    playlists: Playlists,
    was_trimmed: bool,
    settings: Settings,
    _folder: tempfile::TempDir,
}

/// A server that has this reel on disk; `now` is an hour after its end.
async fn site(reel: &Reel) -> Site {
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
    for info in &reel.fragments {
        let tracks = reel.sets.get(info.track_set).unwrap().clone();
        let mut body = vec![0; info.body_len as usize];
        for part in &info.tracks {
            body[part.offset as usize..][..part.len as usize].fill(part.track.0 as u8 * 16 + info.ordinal.0 as u8);
        }
        store.append(STREAM, Fragment { info: info.clone(), tracks, body: body.into() }).await.unwrap();
    }
    clock.set(ServerTime::from_micros(reel.wall_us + 3_600_000_000));
    let hub = Hub::new(store, clock.clone(), crate::live::Settings::default());
    let playlists = Playlists::new(hub, clock);
    Site { playlists, was_trimmed: false, settings: Settings::default(), _folder: folder }
}

impl Site {
    fn viewer(&self) -> Viewer<'_> {
        Viewer { stream: STREAM, was_trimmed: self.was_trimmed, allowed: None, token: None, settings: self.settings }
    }

    async fn media(&self, viewer: Viewer<'_>, span: Span) -> Result<m3u8_rs::MediaPlaylist, HlsError> {
        let text = self.playlists.media(viewer, span, "video".parse().unwrap()).await?;
        Ok(m3u8_rs::parse_media_playlist_res(text.as_bytes()).expect("a media playlist"))
    }
}

fn reel(count: usize) -> Reel {
    let mut reel = Reel::new(vec![h264(), aac(2)]);
    reel.run(count, 10);
    reel
}

/// Fragments of [`reel`] last 0.4 s.
fn at(fragment: i64) -> i64 {
    NOON_US + fragment * 400_000
}

fn past(from: i64, to: i64) -> Span {
    Span::Past { from_us: at(from), to_us: at(to), clock: SpanClock::Producer }
}

#[tokio::test]
async fn live_playlist_is_the_newest_window() {
    let site = site(&reel(60)).await;
    let span = Span::Live { window: Duration::from_secs(4) };
    let list = site.media(site.viewer(), span).await.unwrap();
    assert_eq!((list.media_sequence, list.segments.len()), (50, 10));
    assert!(!list.end_list);
    // Remembered, and the same.
    assert_eq!(site.media(site.viewer(), span).await.unwrap(), list);
    let text = site.playlists.multivariant(site.viewer(), span).await.unwrap();
    assert!(text.contains("video.m3u8?window=4s") && text.contains("audio.m3u8?window=4s"), "{text}");
}

#[tokio::test]
async fn past_range_lists_what_meets_it() {
    let mut site = site(&reel(20)).await;
    let list = site.media(site.viewer(), past(5, 10)).await.unwrap();
    assert_eq!((list.media_sequence, list.segments.len(), list.end_list), (5, 5, true));
    let error = site.media(site.viewer(), past(25, 30)).await.unwrap_err();
    assert!(matches!(error, HlsError::NoMedia), "{error}");
    site.settings.fragments_max = 5;
    assert!(site.media(site.viewer(), past(5, 10)).await.is_ok());
    let error = site.media(site.viewer(), past(5, 11)).await.unwrap_err();
    assert!(matches!(error, HlsError::TooLong { max: 5 }), "{error}");
}

#[tokio::test]
async fn list_since_a_time_starts_there_and_stays_open() {
    let mut site = site(&reel(20)).await;
    let since = Span::Since { from_us: at(12) + 1, clock: SpanClock::Producer };
    let list = site.media(site.viewer(), since).await.unwrap();
    assert_eq!((list.media_sequence, list.segments.len(), list.end_list), (12, 8, false));
    // Too long for a first visit; one that plays loses its head instead.
    site.settings.fragments_max = 5;
    let error = site.playlists.multivariant(site.viewer(), since).await.unwrap_err();
    assert!(matches!(error, HlsError::TooLong { .. }), "{error}");
    assert_eq!(site.media(site.viewer(), since).await.unwrap().media_sequence, 14);
}

#[tokio::test]
async fn range_over_deleted_media_names_the_earliest_left() {
    let mut reel = reel(20);
    // What retention leaves.
    reel.fragments.drain(..8);
    let mut site = site(&reel).await;
    assert!(site.media(site.viewer(), past(2, 12)).await.is_ok(), "nothing was deleted");
    site.was_trimmed = true;
    let gone = |error| matches!(error, HlsError::Gone { earliest: Some(info) } if info.ordinal.0 == 8);
    assert!(gone(site.media(site.viewer(), past(2, 12)).await.unwrap_err()));
    assert!(gone(site.media(site.viewer(), past(2, 4)).await.unwrap_err()));
    let since = Span::Since { from_us: at(2), clock: SpanClock::Producer };
    assert!(gone(site.playlists.multivariant(site.viewer(), since).await.unwrap_err()));
    // A player that has been watching goes on.
    assert_eq!(site.media(site.viewer(), since).await.unwrap().media_sequence, 8);
    assert!(site.media(site.viewer(), past(8, 12)).await.is_ok());
    let name = |text: &str| text.parse::<FragmentName>().unwrap();
    let segment = site.playlists.segment(site.viewer(), &name("1-3-9f3ac2d1"), TrackId(1)).await;
    assert!(gone(segment.unwrap_err()));
}

#[tokio::test]
async fn segment_is_its_tracks_bytes_as_stored() {
    let reel = reel(3);
    let site = site(&reel).await;
    for (info, name) in reel.fragments.iter().zip(["1-1-9f3ac2d1", "1-2-9f3ac2d1", "1-3-9f3ac2d1"]) {
        for part in &info.tracks {
            let segment = site.playlists.segment(site.viewer(), &name.parse().unwrap(), part.track).await.unwrap();
            assert_eq!((segment.len(), segment.is_video), (part.len, part.track == TrackId(1)));
            let bytes = site.playlists.read(&segment, 0..segment.len()).await.unwrap();
            assert_eq!(bytes, vec![part.track.0 as u8 * 16 + info.ordinal.0 as u8; part.len as usize]);
            assert_eq!(site.playlists.read(&segment, 10..20).await.unwrap(), bytes.slice(10..20));
        }
    }
    for (name, track) in [("1-4-9f3ac2d1", 1), ("2-1-9f3ac2d1", 1), ("1-1-00000000", 1), ("1-0-9f3ac2d1", 1)] {
        let error = site.playlists.segment(site.viewer(), &name.parse().unwrap(), TrackId(track)).await.unwrap_err();
        assert!(matches!(error, HlsError::NoMedia), "{name}: {error}");
    }
    let error = site.playlists.segment(site.viewer(), &"1-1-9f3ac2d1".parse().unwrap(), TrackId(0)).await.unwrap_err();
    assert!(matches!(error, HlsError::NoTrack), "{error}");
}

#[tokio::test]
async fn credential_for_a_time_range_sees_whole_fragments_inside_of_it() {
    let site = site(&reel(20)).await;
    let times = |from: i64, to: i64| Some((ProducerTime::from_micros(from), ProducerTime::from_micros(to)));
    let viewer = Viewer { allowed: times(at(5) - 1, at(10) + 1), token: Some("kin_x"), ..site.viewer() };
    for span in [past(0, 20), Span::Live { window: Duration::from_secs(60) }] {
        let list = site.media(viewer, span).await.unwrap();
        assert_eq!((list.media_sequence, list.segments.len()), (5, 5));
        assert!(list.segments.iter().all(|segment| segment.uri.ends_with("?token=kin_x")));
    }
    let error = site.media(viewer, past(12, 20)).await.unwrap_err();
    assert!(matches!(error, HlsError::OutsideRange), "{error}");
    for (name, seen) in
        [("1-5-9f3ac2d1", false), ("1-6-9f3ac2d1", true), ("1-10-9f3ac2d1", true), ("1-11-9f3ac2d1", false)]
    {
        match site.playlists.segment(viewer, &name.parse().unwrap(), TrackId(1)).await {
            Ok(_) => assert!(seen, "{name}"),
            Err(error) => assert!(!seen && matches!(error, HlsError::OutsideRange), "{name}: {error}"),
        }
    }
}

#[tokio::test]
async fn stream_that_no_player_can_play_says_what_it_has() {
    let mut reel = Reel::new(vec![super::tests::track(1, Codec::Pcmu, None)]);
    reel.run(5, 50);
    let site = site(&reel).await;
    let error = site.playlists.multivariant(site.viewer(), past(0, 90)).await.unwrap_err();
    assert!(matches!(&error, HlsError::NotPlayable { codecs } if codecs == "Pcmu"), "{error}");
    let error = site.playlists.media(site.viewer(), past(0, 90), "audio".parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, HlsError::NoTrack), "{error}");
}

#[tokio::test]
async fn empty_stream_has_no_media_yet() {
    let site = site(&Reel::new(vec![h264()])).await;
    for span in [past(0, 90), Span::Live { window: Duration::from_secs(60) }] {
        let error = site.media(site.viewer(), span).await.unwrap_err();
        assert!(matches!(error, HlsError::NoMedia), "{error}");
    }
}
