//! Disks that are stuck, broken or full.

use store::AppendError;

use super::*;

/// The next fragments of a cursor, which come at once or the test fails.
async fn take(cursor: &mut Cursor, count: usize) -> Vec<Descriptor> {
    let mut found = Vec::new();
    while found.len() < count {
        if let Step::Fragment(descriptor) = soon(cursor.next()).await.unwrap() {
            found.push(descriptor);
        }
    }
    found
}

/// L2: a stuck disk never stops live viewing; a source that can wait is held back when memory's share is full.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l2_stuck_disk_never_stops_live_viewing() {
    let mut site = Site::new();
    site.settings.unpersisted_bytes = 200_000;
    let mut camera = Camera::new(&site);
    let server = site.start();
    server.hub.faults.stick(true);
    let mut publisher = server.publish("token:1").await;
    let mut viewer = server.hub.cursor(server.stream.id, Start::Latest).await.unwrap();
    // Twenty fragments of ten kilobytes are the budget; ten of them are seen while none is on disk.
    for ordinal in 0..10u64 {
        soon(camera.shoot(&mut publisher, if ordinal == 0 { 11 + 1 } else { 10 })).await.unwrap();
        let seen = take(&mut viewer, 1).await;
        assert_eq!(seen[0].info.ordinal.0, ordinal);
        assert!(!seen[0].is_persisted());
    }
    assert_eq!(server.hub.totals().unpersisted, 10);
    assert_eq!(server.hub.edge(server.stream.id).borrow().persisted, media::Position::default());
    let timeline = server.all().await;
    assert_eq!(timeline.len(), 10);
    assert!(timeline.iter().all(|fragment| !fragment.is_persisted()));

    // The rest is pushed beside us and comes to a halt at the budget.
    let mut rest = camera.next;
    let pushing = tokio::spawn(async move {
        camera.shoot(&mut publisher, 300).await.unwrap();
        publisher
    });
    take(&mut viewer, 8).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!pushing.is_finished(), "the publisher is held back");
    assert!(server.hub.totals().unpersisted_bytes <= 220_000, "{:?}", server.hub.totals());

    // Nothing is lost when the disk comes back.
    server.hub.faults.stick(false);
    let publisher = soon(pushing).await.unwrap();
    soon(publisher.finish()).await;
    rest += 300;
    let all = server.all().await;
    assert_eq!(all_pictures(&server, &all).await, (0..rest).collect::<Vec<_>>());
    assert_eq!(breaks(&all).len(), 1, "the beginning");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn source_that_cannot_wait_loses_whole_groups_and_the_gap_says_overload() {
    let mut site = Site::new();
    site.settings.unpersisted_bytes = 100_000;
    let mut camera = Camera::new(&site);
    let server = site.start();
    server.hub.faults.stick(true);
    let mut publisher = server.publish_udp().await;
    soon(camera.shoot(&mut publisher, 305)).await.unwrap();
    assert!(server.hub.totals().unpersisted_bytes <= 120_000, "{:?}", server.hub.totals());
    assert!(server.hub.status(server.stream.id).await.unwrap().lost > 150);
    server.hub.faults.stick(false);
    edge(&server, |edge| edge.persisted == edge.closed).await;
    soon(camera.shoot(&mut publisher, 100)).await.unwrap();
    soon(publisher.finish()).await;
    let all = server.all().await;
    assert_eq!(ordinals(&all), (0..all.len() as u64).collect::<Vec<_>>(), "ordinals are dense");
    let said = breaks(&all);
    assert_eq!(said.values().copied().collect::<Vec<_>>(), [GapReason::Started, GapReason::Overload]);
    let resumed = all.iter().position(|fragment| fragment.info.break_before == Some(GapReason::Overload)).unwrap();
    // It stopped somewhere and resumes at the first key picture after the disk came back, with nothing lost after.
    let before = all_pictures(&server, &all[..resumed]).await;
    assert_eq!(before, (0..before.len() as i64).collect::<Vec<_>>());
    assert_eq!(all_pictures(&server, &all[resumed..]).await, (310..405).collect::<Vec<_>>());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_fragment_is_a_hole_that_is_seen_live_and_explained_after() {
    let mut site = Site::new();
    let mut camera = Camera::new(&site);
    let server = site.start();
    let mut publisher = server.publish("token:1").await;
    let mut viewer = server.hub.cursor(server.stream.id, Start::Latest).await.unwrap();
    soon(camera.shoot(&mut publisher, 15)).await.unwrap();
    edge(&server, |edge| edge.persisted.sequence.0 == 1).await;
    server.hub.faults.fail([AppendError::Disk("no such luck".to_owned())]);
    soon(camera.shoot(&mut publisher, 10)).await.unwrap();
    soon(async {
        while server.hub.totals().unpersisted > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    soon(camera.shoot(&mut publisher, 30)).await.unwrap();
    soon(publisher.finish()).await;
    assert_eq!(take(&mut viewer, 6).await.len(), 6, "live saw every one");
    drop(viewer);
    let all = server.all().await;
    assert_eq!(ordinals(&all), [0, 2, 3, 4, 5]);
    assert_eq!(breaks(&all).values().copied().collect::<Vec<_>>(), [GapReason::Started, GapReason::StorageError]);
    server.stop().await;
    // The hole stays, and nothing fills it.
    let server = site.start();
    assert_eq!(ordinals(&server.all().await), [0, 2, 3, 4, 5]);
    let mut cursor = server.hub.cursor(server.stream.id, Start::Earliest).await.unwrap();
    assert_eq!(take(&mut cursor, 1).await[0].info.ordinal.0, 0);
    assert!(matches!(soon(cursor.next()).await.unwrap(), Step::Skipped { to } if to.sequence.0 == 3));
    drop(cursor);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_of_refused_fragments_are_not_given_again() {
    let mut site = Site::new();
    site.settings.idle_after = Duration::from_millis(5);
    let mut camera = Camera::new(&site);
    let server = site.start();
    let mut publisher = server.publish("token:1").await;
    server.hub.faults.fail(vec![AppendError::Disk("broken".to_owned()); 2]);
    soon(camera.shoot(&mut publisher, 15)).await.unwrap();
    soon(publisher.finish()).await;
    soon(async { server.hub.existing(server.stream.id).expect("kept for its numbers").retired().await }).await;
    camera.next = 20;
    let mut publisher = server.publish("token:1").await;
    soon(camera.shoot(&mut publisher, 15)).await.unwrap();
    soon(publisher.finish()).await;
    let all = server.all().await;
    assert_eq!(ordinals(&all), [2, 3]);
    assert_eq!(all[0].info.position.sequence.0, 3);
    assert_eq!(all[0].info.break_before, Some(GapReason::StorageError));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_volume_ends_publishing_until_there_is_room() {
    let mut site = Site::new();
    let mut camera = Camera::new(&site);
    let server = site.start();
    let mut publisher = server.publish("token:1").await;
    soon(camera.shoot(&mut publisher, 15)).await.unwrap();
    edge(&server, |edge| edge.persisted.sequence.0 == 1).await;
    server.hub.faults.fail([AppendError::Full]);
    // The end may come before the last of them.
    let _ = soon(camera.shoot(&mut publisher, 10)).await;
    assert_eq!(soon(publisher.ended()).await, Ended::DiskFull);
    assert_eq!(publisher.push(camera.picture()).await, Err(Ended::DiskFull));
    assert!(server.hub.space().full);
    let refused = server.hub.publish(&server.stream, who("token:1", true)).await;
    assert!(matches!(refused.err(), Some(PublishError::DiskFull)));
    // What is there is still there.
    assert_eq!(ordinals(&server.all().await)[0], 0);

    server.hub.found_space(Space { free: 1 << 30, total: 1 << 31, ..Space::default() });
    camera.next = 30;
    let mut publisher = server.publish("token:1").await;
    soon(camera.shoot(&mut publisher, 15)).await.unwrap();
    soon(publisher.finish()).await;
    let all = server.all().await;
    let resumed = all.iter().find(|fragment| fragment.info.break_before == Some(GapReason::DiskFull)).unwrap();
    assert_eq!(pictures(&server, resumed).await, (30..40).collect::<Vec<_>>());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stop_with_a_stuck_disk_ends_within_its_deadline_and_says_what_is_missing() {
    let mut site = Site::new();
    let mut camera = Camera::new(&site);
    let server = site.start();
    server.hub.faults.stick(true);
    let mut publisher = server.publish("token:1").await;
    soon(camera.shoot(&mut publisher, 25)).await.unwrap();
    assert_eq!(soon(server.hub.shutdown(Duration::from_millis(20))).await, 3);
}

/// A camera whose connection stays open and silent: what it sent before is recorded after a bounded time, and it can go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_fragment_of_a_silent_publisher_is_closed_and_recorded() {
    let mut site = Site::new();
    site.settings.fragment_max = Duration::from_millis(1500);
    let mut camera = Camera::new(&site);
    let server = site.start();
    let mut publisher = server.publish("token:1").await;
    let began = std::time::Instant::now();
    soon(camera.shoot(&mut publisher, 15)).await.unwrap();
    edge(&server, |edge| edge.persisted.sequence.0 == 1).await;
    assert_eq!(server.all().await.len(), 1, "the second fragment is open");
    edge(&server, |edge| edge.persisted.sequence.0 == 2).await;
    assert!(began.elapsed() >= site.settings.fragment_max);
    assert!(server.hub.status(server.stream.id).await.unwrap().publisher.is_some(), "it is still there");
    // Nothing was lost: it goes on in the middle of the group of pictures.
    soon(camera.shoot(&mut publisher, 15)).await.unwrap();
    soon(publisher.finish()).await;
    let all = server.all().await;
    assert_eq!(all_pictures(&server, &all).await, (0..30).collect::<Vec<_>>());
    assert_eq!(ordinals(&all), [0, 1, 2, 3], "the key frame behind the dependent start begins one");
    assert_eq!(breaks(&all).len(), 1, "the beginning");
    assert!(all[..2].iter().all(|fragment| !fragment.info.end_of_session));
    server.stop().await;
}

/// A source that is held back by the disk is not silent: its fragment is not cut for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publisher_that_waits_for_the_disk_is_not_taken_for_silent() {
    let mut site = Site::new();
    site.settings.fragment_max = Duration::from_millis(1200);
    site.settings.unpersisted_bytes = 25_000;
    let mut camera = Camera::new(&site);
    let server = site.start();
    server.hub.faults.stick(true);
    let mut publisher = server.publish("token:1").await;
    let pushing = tokio::spawn(async move {
        camera.shoot(&mut publisher, 40).await.unwrap();
        publisher
    });
    tokio::time::sleep(Duration::from_millis(2000)).await;
    assert!(!pushing.is_finished(), "the publisher is held back");
    assert_eq!(server.all().await.len(), 2, "the third fragment is open and waits");
    server.hub.faults.stick(false);
    soon(soon(pushing).await.unwrap().finish()).await;
    let all = server.all().await;
    assert_eq!(ordinals(&all), [0, 1, 2, 3]);
    assert_eq!(all_pictures(&server, &all).await, (0..40).collect::<Vec<_>>());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorder_that_panics_ends_its_publisher_and_another_one_records() {
    let mut site = Site::new();
    let mut camera = Camera::new(&site);
    let server = site.start();
    let mut publisher = server.publish("token:1").await;
    soon(camera.shoot(&mut publisher, 15)).await.unwrap();
    edge(&server, |edge| edge.persisted.sequence.0 == 1).await;
    server.hub.faults.panic();
    // The end may come before the last of them.
    let _ = soon(camera.shoot(&mut publisher, 10)).await;
    assert_eq!(soon(publisher.ended()).await, Ended::Failed);
    drop(publisher);
    camera.next = 40;
    let mut publisher = server.publish("token:1").await;
    soon(camera.shoot(&mut publisher, 15)).await.unwrap();
    soon(publisher.finish()).await;
    let all = server.all().await;
    let resumed = all.iter().find(|fragment| fragment.info.break_before == Some(GapReason::StorageError)).unwrap();
    assert_eq!(pictures(&server, resumed).await, (40..50).collect::<Vec<_>>());
    assert!(
        ordinals(&all).windows(2).any(|pair| pair[1] > pair[0] + 1),
        "what it had in hand is a hole: {:?}",
        ordinals(&all)
    );
    assert_eq!(server.hub.totals().unpersisted, 0);
    server.stop().await;
}
