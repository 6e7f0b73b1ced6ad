//! Cursors from each start, slow readers, status.

use media::{Position, ProducerTime, Sequence};

use super::*;

/// Takes fragments until the cursor is at the end.
async fn read_to_end(cursor: &mut Cursor) -> (Vec<Descriptor>, Option<GapReason>) {
    let mut found = Vec::new();
    loop {
        match soon(cursor.next()).await.unwrap() {
            Step::Fragment(descriptor) => found.push(descriptor),
            Step::Idle(reason) => return (found, Some(reason)),
            step => panic!("{step:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cursor_starts_where_it_is_told_in_store_and_tail() {
    let mut site = Site::new();
    // Three fragments in memory, the others on disk only.
    site.settings.tail_bytes = 0;
    let mut camera = Camera::new(&site);
    let server = site.start();
    let mut publisher = server.publish("token:1").await;
    soon(camera.shoot(&mut publisher, 100)).await.unwrap();
    edge(&server, |edge| edge.persisted == edge.closed && edge.closed.sequence.0 >= 9).await;
    let all = server.all().await;
    assert!(matches!(all[0].source, Source::Store(_)), "the oldest has left memory");
    assert!(matches!(all.last().unwrap().source, Source::Tail { persisted: true, .. }));
    soon(publisher.finish()).await;
    let all = server.all().await;
    assert_eq!(ordinals(&all), (0..10).collect::<Vec<_>>());

    let at = |ordinal: usize| all[ordinal].info.position;
    let producer = |ordinal: usize| all[ordinal].info.producer_time;
    let in_middle = producer(4).plus_micros(1);
    let server_time = all[6].info.server_time.plus_micros(1);
    let starts = [
        (Start::Earliest, 0),
        (Start::Latest, 9),
        (Start::After(at(3)), 4),
        (Start::After(at(9)), 10),
        (Start::Producer(producer(4)), 4),
        (Start::Producer(in_middle), 4),
        (Start::Producer(ProducerTime::from_micros(0)), 0),
        (Start::Server(server_time), 6),
    ];
    for (start, first) in starts {
        let mut cursor = server.hub.cursor(server.stream.id, start).await.unwrap();
        let (found, idle) = read_to_end(&mut cursor).await;
        assert_eq!(ordinals(&found), (first..10).collect::<Vec<_>>(), "{start:?}");
        assert_eq!(idle, Some(GapReason::PublisherLeft));
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handles_find_bytes_in_memory_and_after_they_left_it() {
    let mut site = Site::new();
    site.settings.tail_bytes = 0;
    let mut camera = Camera::new(&site);
    let server = site.start();
    let mut publisher = server.publish("token:1").await;
    soon(camera.shoot(&mut publisher, 60)).await.unwrap();
    edge(&server, |edge| edge.persisted == edge.closed && edge.closed.sequence.0 >= 5).await;
    let all = server.all().await;
    assert!(all.iter().any(|one| matches!(one.source, Source::Tail { .. })));
    let parts: Vec<_> = all.iter().map(|one| (one.handle(), 8..one.info.body_len)).collect();
    let read = server.hub.read_parts(server.stream.id, parts.clone()).await.unwrap();
    for (one, bytes) in all.iter().zip(&read) {
        assert_eq!(server.hub.read(one, 8..one.info.body_len).await.unwrap(), bytes);
    }
    // Newer ones push them out of memory.
    soon(camera.shoot(&mut publisher, 60)).await.unwrap();
    edge(&server, |edge| edge.persisted == edge.closed && edge.closed.sequence.0 >= 11).await;
    assert!(server.all().await[..all.len()].iter().all(|one| matches!(one.source, Source::Store(_))));
    let stream = server.stream.id;
    assert_eq!(server.hub.read_parts(stream, parts.clone()).await.unwrap(), read);
    server.hub.delete(stream).await.unwrap();
    assert!(matches!(server.hub.read_parts(stream, parts).await, Err(store::StoreError::Gone)));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cursor_goes_on_into_live_and_through_a_new_session() {
    let mut site = Site::new();
    let mut camera = Camera::new(&site);
    let server = site.start();
    let mut cursor = server.hub.cursor(server.stream.id, Start::Latest).await.unwrap();
    assert!(matches!(soon(cursor.next()).await.unwrap(), Step::Idle(GapReason::Started)));
    let mut publisher = server.publish("token:1").await;
    for expected in 0..3u64 {
        let enough = if expected == 0 { 21 } else { 10 };
        soon(camera.shoot(&mut publisher, enough)).await.unwrap();
        let Step::Fragment(found) = soon(cursor.next()).await.unwrap() else { panic!("a fragment") };
        assert_eq!(found.info.ordinal.0, expected);
    }
    soon(publisher.finish()).await;
    let (_, idle) = read_to_end(&mut cursor).await;
    assert_eq!(idle, Some(GapReason::PublisherLeft));
    let waiting = tokio::spawn(async move { cursor.next().await });
    camera.next = 100;
    let publisher = {
        let mut publisher = server.publish("token:1").await;
        soon(camera.shoot(&mut publisher, 25)).await.unwrap();
        publisher
    };
    let Step::Fragment(found) = soon(waiting).await.unwrap().unwrap() else { panic!("a fragment") };
    assert_eq!(found.info.break_before, Some(GapReason::PublisherLeft));
    drop(publisher);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cursor_at_a_time_to_come_waits_for_it() {
    let mut site = Site::new();
    let mut camera = Camera::new(&site);
    let server = site.start();
    let mut publisher = server.publish("token:1").await;
    soon(camera.shoot(&mut publisher, 25)).await.unwrap();
    edge(&server, |edge| edge.closed.sequence.0 >= 1).await;
    let from = ServerTime::from_micros(NOON.micros() + 6_500_000);
    let mut cursor = server.hub.cursor(server.stream.id, Start::Server(from)).await.unwrap();
    soon(camera.shoot(&mut publisher, 75)).await.unwrap();
    soon(publisher.finish()).await;
    let (found, _) = read_to_end(&mut cursor).await;
    assert!(found[0].info.server_end() > from && found[0].info.server_time <= from, "{:?}", found[0].info);
    assert_eq!(found.last().unwrap().info.ordinal.0, 9);
    server.stop().await;
}

/// L1: a slow viewer never slows ingest or other viewers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l1_slow_viewer_never_slows_ingest() {
    let mut site = Site::new();
    site.settings.tail_bytes = 50_000;
    let mut camera = Camera::new(&site);
    let server = site.start();
    let mut publisher = server.publish("token:1").await;
    soon(camera.shoot(&mut publisher, 11)).await.unwrap();
    // Two hundred viewers that read one step and then never again.
    let mut viewers = Vec::new();
    for _ in 0..200 {
        let mut viewer = server.hub.cursor(server.stream.id, Start::Earliest).await.unwrap();
        soon(viewer.next()).await.unwrap();
        viewers.push(viewer);
    }
    let mut quick = server.hub.cursor(server.stream.id, Start::Earliest).await.unwrap();
    let quick = tokio::spawn(async move {
        let mut found = 0;
        while found < 100 {
            if let Step::Fragment(_) = quick.next().await.unwrap() {
                found += 1;
            }
        }
    });
    soon(camera.shoot(&mut publisher, 1000)).await.unwrap();
    soon(quick).await.unwrap();
    edge(&server, |edge| edge.persisted == edge.closed).await;
    let kept: usize = {
        let state = server.hub.existing(server.stream.id).unwrap();
        let shared = state.shared();
        shared.tail.entries().map(|entry| entry.fragment.body.len()).sum()
    };
    assert!(kept <= 50_000 + 20_000, "{kept} bytes are kept in memory for viewers who do not read");
    // They have lost nothing: the store has it.
    soon(publisher.finish()).await;
    let (found, _) = read_to_end(&mut viewers[7]).await;
    assert_eq!(found.last().unwrap().info.ordinal.0, 101);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reader_that_comes_after_retention_is_told_what_it_skipped() {
    let mut site = Site::new();
    site.settings.tail_bytes = 0;
    site.settings.idle_after = Duration::from_millis(10);
    let mut camera = Camera::new(&site);
    let server = site.start();
    for _ in 0..3 {
        let mut publisher = server.publish("token:1").await;
        soon(camera.shoot(&mut publisher, 30)).await.unwrap();
        soon(publisher.finish()).await;
        // Idle: the block is sealed.
        soon(async {
            while server.hub.existing(server.stream.id).is_some() {
                tokio::time::sleep(Duration::from_millis(5)).await;
                // As the sweeper does: our own look may have been in the way of the recorder's.
                server.hub.forget_idle(server.stream.id);
            }
        })
        .await;
    }
    let mut cursor = server.hub.cursor(server.stream.id, Start::Earliest).await.unwrap();
    let mut resumed = server.hub.cursor(server.stream.id, Start::After(at(1))).await.unwrap();
    let all = server.all().await;
    let through = all[2].info.position;
    let (store, stream) = (server.store.clone(), server.stream.id);
    tokio::task::spawn_blocking(move || store.drop_through(stream, through)).await.unwrap().unwrap();
    assert_eq!(ordinals(&server.all().await), (3..9).collect::<Vec<_>>());
    let (found, _) = read_to_end(&mut cursor).await;
    assert_eq!(ordinals(&found), (3..9).collect::<Vec<_>>(), "the earliest there is");
    assert!(matches!(soon(resumed.next()).await.unwrap(), Step::Skipped { to } if to == all[3].info.position));
    let (found, _) = read_to_end(&mut resumed).await;
    assert_eq!(ordinals(&found), (3..9).collect::<Vec<_>>());
    server.stop().await;
}

fn at(sequence: u64) -> Position {
    Position { epoch: Epoch(1), sequence: Sequence(sequence) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_says_who_publishes_what_at_which_rate() {
    let mut site = Site::new();
    let mut camera = Camera::new(&site);
    camera.size = 12_500;
    let server = site.start();
    let before = server.hub.status(server.stream.id).await.unwrap();
    assert!(before.publisher.is_none() && before.last.is_none() && before.tracks.is_none() && before.bytes == 0);
    let mut publisher = server.publish("token:1").await;
    let mut picture = camera.picture();
    picture.loss_before = 3;
    soon(publisher.push(picture)).await.unwrap();
    soon(camera.shoot(&mut publisher, 99)).await.unwrap();
    edge(&server, |edge| edge.closed.sequence.0 >= 9 && edge.persisted == edge.closed).await;
    let status = server.hub.status(server.stream.id).await.unwrap();
    assert_eq!(status.publisher.unwrap().since, NOON);
    assert_eq!(status.tracks.unwrap().1.tracks()[0].codec, media::Codec::H264);
    assert_eq!(status.lost, 3);
    // 12.5 kB, 10 a second: a megabit, and the boxes around it.
    assert!((1_000_000..1_030_000).contains(&status.bitrate), "{}", status.bitrate);
    assert!(status.bytes > 9 * 10 * 12_500, "{}", status.bytes);
    assert_eq!(status.first.unwrap().ordinal.0, 0);
    assert_eq!(status.last.unwrap().ordinal.0, 8);
    soon(publisher.finish()).await;
    assert_eq!(server.hub.status(server.stream.id).await.unwrap().bitrate, 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_outside_of_a_fragment_are_refused() {
    let mut site = Site::new();
    let mut camera = Camera::new(&site);
    let server = site.start();
    let mut publisher = server.publish("token:1").await;
    soon(camera.shoot(&mut publisher, 5)).await.unwrap();
    soon(publisher.finish()).await;
    let all = server.all().await;
    let len = all[0].info.body_len;
    assert_eq!(server.hub.read(&all[0], 1..len).await.unwrap().len() as u32, len - 1);
    assert!(server.hub.read(&all[0], 0..len + 1).await.is_err());
    #[expect(clippy::reversed_empty_ranges, reason = "the hostile one")]
    let backwards = 5..4;
    assert!(server.hub.read(&all[0], backwards).await.is_err());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timeline_has_no_holes_while_fragments_move_from_memory_to_disk() {
    let mut site = Site::new();
    site.settings.tail_bytes = 0;
    let mut camera = Camera::new(&site);
    let server = site.start();
    let mut publisher = server.publish("token:1").await;
    let pushing = tokio::spawn(async move {
        for _ in 0..40 {
            camera.shoot(&mut publisher, 100).await.unwrap();
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        publisher.finish().await;
    });
    let (mut looks, mut newest) = (0, 0);
    while !pushing.is_finished() {
        let all = server.all().await;
        assert_eq!(ordinals(&all), (0..all.len() as u64).collect::<Vec<_>>());
        assert!(all.len() >= newest, "what was seen stays");
        assert!(all.iter().rev().skip_while(|fragment| !fragment.is_persisted()).all(Descriptor::is_persisted));
        newest = all.len();
        looks += 1;
    }
    soon(pushing).await.unwrap();
    assert!(looks > 5, "{looks} looks while it went on");
    assert_eq!(server.all().await.len(), 400);
    server.stop().await;
}
