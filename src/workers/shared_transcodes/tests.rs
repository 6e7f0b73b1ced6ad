//! Viewers of one real transcode.

use media::{Codec, ServerTime};

use super::super::transcode::tests::{feed, settings, units};
use super::*;

fn shared(folder: &std::path::Path, linger: Duration) -> SharedTranscodes {
    SharedTranscodes::new(Transcodes::new(settings(folder)), linger)
}

fn is_aac(codec: Codec) -> bool {
    codec == Codec::Aac
}

fn is_video(codec: Codec) -> bool {
    codec.is_video()
}

async fn pts(viewer: &mut Viewer) -> Option<i64> {
    match viewer.next().await {
        Some(Shown::Unit(unit)) => Some(unit.pts),
        Some(Shown::Skipped) => panic!("nothing is skipped"),
        None => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_of_a_stream_hear_one_transcode() {
    let folder = tempfile::tempdir().expect("a folder");
    let shared = shared(folder.path(), LINGER);
    let (track, mut units) = units("flash-beep.mp4", is_aac);
    // So few that no viewer can be too slow for them.
    units.truncate(100);
    let stream = StreamId::random();
    let (start, started) = tokio::sync::oneshot::channel::<()>();
    let fed = units.clone();
    let first = shared.join(stream, &track, Target::Opus, |sink| async move {
        let _ = started.await;
        feed(sink, fed).await;
    });
    let mut first = first.expect("started");
    let second = shared.join(stream, &track, Target::Opus, fed_already);
    let mut second = second.expect("joined");
    start.send(()).expect("it waits");
    let (mut heard, mut together) = (0, 0);
    loop {
        let (one, other) = (pts(&mut first).await, pts(&mut second).await);
        let Some(one) = one else { break };
        heard += 1;
        together += usize::from(other == Some(one));
    }
    assert!(heard > 100 && together == heard, "{together} of {heard}");
    assert_eq!((first.ended(), second.ended()), (Some(Ok(())), Some(Ok(()))));
    assert_eq!(first.track().map(|track| track.codec), Some(Codec::Opus));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transcode_ends_after_its_last_viewer() {
    let folder = tempfile::tempdir().expect("a folder");
    let shared = shared(folder.path(), Duration::ZERO);
    let (track, units) = units("flash-beep.mp4", is_aac);
    let (alive, ended) = tokio::sync::oneshot::channel::<()>();
    let viewer = shared.join(StreamId::random(), &track, Target::Opus, |sink| async move {
        let _alive = alive;
        for unit in units {
            sink.push_when_there_is_room(unit).await;
        }
        std::future::pending::<()>().await;
    });
    let mut viewer = viewer.expect("started");
    assert!(pts(&mut viewer).await.is_some());
    drop(viewer);
    assert!(ended.await.is_err(), "what fed it is dropped");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_late_sees_pictures_from_a_key_frame_on_soon() {
    let folder = tempfile::tempdir().expect("a folder");
    let shared = shared(folder.path(), LINGER);
    let (track, mut units) = units("bframes.mp4", is_video);
    units.truncate(120);
    let stream = StreamId::random();
    let (go_on, wait) = tokio::sync::oneshot::channel::<()>();
    let first = shared.join(stream, &track, Target::H264, |sink| async move {
        let (begin, rest) = units.split_at(30);
        feed_some(&sink, begin).await;
        let _ = wait.await;
        feed_some(&sink, rest).await;
    });
    let mut first = first.expect("started");
    assert_eq!(pts(&mut first).await, Some(0));
    let late = shared.join(stream, &track, Target::H264, fed_already);
    let mut late = late.expect("joined");
    go_on.send(()).expect("it waits");
    let Some(Shown::Unit(unit)) = late.next().await else { panic!("a picture") };
    assert_eq!(unit.random_access, RandomAccess::Closed);
    assert!(unit.pts > 0 && unit.pts < 180_000, "{} is before the key frame that comes anyway", unit.pts);
    late.want_key_frame();
    loop {
        let Some(Shown::Unit(next)) = late.next().await else { panic!("another key frame") };
        if next.random_access == RandomAccess::Closed {
            break;
        }
    }
    assert_eq!((unit.arrival, late.track().map(|track| track.codec)), (ServerTime::default(), Some(Codec::H264)));
}

/// What feeds a transcode that somebody else feeds.
fn fed_already(_: Sink) -> std::future::Ready<()> {
    panic!("it is fed already")
}

async fn feed_some(sink: &Sink, units: &[Arc<AccessUnit>]) {
    for unit in units {
        sink.push_when_there_is_room(unit.clone()).await;
    }
}
