//! Who sits in the seat, and how numbers go on.

use store::StoreError;

use super::*;

/// O1: fragment numbers of a stream strictly increase in the order of ingestion, across restarts, takeovers and clock jumps.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o1_numbers_strictly_increase_over_restarts_and_takeovers() {
    let mut site = Site::new();
    let mut camera = Camera::new(&site);
    let day = 86_400_000_000;
    for jump in [-day, 366 * day, 0, -3 * day] {
        let server = site.start();
        for _ in 0..2 {
            let mut first = server.publish("token:1").await;
            soon(camera.shoot(&mut first, 25)).await.unwrap();
            // The old one is still there and half-way in a fragment.
            let mut second = server.publish("token:1").await;
            assert_eq!(first.push(camera.picture()).await, Err(Ended::TakenOver));
            camera.next = (camera.next / RATE + 1) * RATE;
            soon(camera.shoot(&mut second, 25)).await.unwrap();
            soon(second.finish()).await;
            camera.next = (camera.next / RATE + 1) * RATE;
        }
        server.stop().await;
        site.clock.advance(jump);
    }
    let server = site.start();
    let all = server.all().await;
    // Three fragments a session: of 10, 10 and 5 pictures.
    assert_eq!(all.len(), 4 * 4 * 3);
    for pair in all.windows(2) {
        let [a, b] = [&pair[0].info, &pair[1].info];
        assert!(a.position < b.position, "{:?} then {:?}", a.position, b.position);
        assert!(server.hub.number(server.stream.id, a) < server.hub.number(server.stream.id, b));
        assert!(a.server_time <= b.server_time, "server time goes back");
    }
    assert_eq!(ordinals(&all), (0..48).collect::<Vec<_>>(), "ordinals are dense");
    assert!(all.iter().all(|fragment| fragment.is_persisted()));
    // Each session breaks once, at its first fragment.
    let breaks = breaks(&all);
    assert_eq!(breaks.keys().copied().collect::<Vec<_>>(), (0..48).step_by(3).collect::<Vec<_>>());
    assert_eq!(breaks[&0], GapReason::Started);
    assert_eq!(breaks[&3], GapReason::PublisherLeft);
    assert_eq!(all[47].info.discontinuities, 15);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishers_that_take_over_from_each_other_do_not_do_so_for_ever() {
    let mut site = Site::new();
    let mut server = site.start();
    server.stream.settings.on_second_publisher = SecondPublisher::Takeover;
    let mut camera = Camera::new(&site);
    let mut first = server.publish("token:1").await;
    assert_eq!(camera.shoot(&mut first, 5).await, Ok(()));
    let mut second = server.publish("token:2").await;
    assert_eq!(camera.shoot(&mut second, 5).await, Ok(()));
    assert_eq!(soon(first.ended()).await, Ended::TakenOver);
    drop(first);
    for _ in 0..3 {
        let refused = server.hub.publish(&server.stream, who("token:1", true)).await;
        let Some(PublishError::Displaced { stream, peer }) = refused.err() else { panic!("it takes the seat back") };
        assert_eq!((stream.as_str(), peer.as_str()), ("gate", "192.0.2.7:5000"));
    }
    assert_eq!(camera.shoot(&mut second, 5).await, Ok(()), "nobody disturbed it");
    // It comes back to itself, and whoever was displaced may when it has left.
    let second = server.publish("token:2").await;
    drop(second);
    server.publish("token:1").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn same_credential_takes_over_and_another_is_told_who_is_there() {
    let mut site = Site::new();
    let server = site.start();
    let mut first = server.publish("token:1").await;
    let refused = server.hub.publish(&server.stream, who("token:2", true)).await;
    match refused.err() {
        Some(PublishError::Busy { stream, peer, since }) => {
            assert_eq!((stream.as_str(), peer.as_str(), since), ("gate", "192.0.2.7:5000", NOON));
        }
        other => panic!("{other:?}"),
    }
    let mut second = server.publish("token:1").await;
    assert_eq!(soon(first.ended()).await, Ended::TakenOver);
    // Its leaving does not end who sits there now.
    drop(first);
    let mut camera = Camera::new(&site);
    assert_eq!(camera.shoot(&mut second, 1).await, Ok(()));
    assert!(server.hub.status(server.stream.id).await.unwrap().publisher.is_some());
    drop(second);
    assert!(server.hub.status(server.stream.id).await.unwrap().publisher.is_none());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn second_publisher_rules_refuse_and_takeover() {
    let mut site = Site::new();
    let mut server = site.start();
    server.stream.settings.on_second_publisher = SecondPublisher::Refuse;
    let mut first = server.publish("token:1").await;
    let again = server.hub.publish(&server.stream, who("token:1", true)).await;
    assert!(matches!(again.err(), Some(PublishError::Busy { .. })));
    server.stream.settings.on_second_publisher = SecondPublisher::Takeover;
    let second = server.publish("token:2").await;
    assert_eq!(soon(first.ended()).await, Ended::TakenOver);
    drop(second);
    server.stop().await;
}

/// L7: a graceful stop loses nothing that was received.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l7_graceful_stop_loses_nothing() {
    let mut site = Site::new();
    let mut camera = Camera::new(&site);
    let server = site.start();
    let mut publisher = server.publish("token:1").await;
    soon(camera.shoot(&mut publisher, 37)).await.unwrap();
    assert_eq!(server.hub.shutdown(Duration::from_secs(10)).await, 0);
    assert_eq!(publisher.push(camera.picture()).await, Err(Ended::Stopping));
    let late = server.hub.publish(&server.stream, who("token:1", true)).await;
    assert!(matches!(late.err(), Some(PublishError::Stopping)));
    server.stop().await;

    let server = site.start();
    let all = server.all().await;
    assert!(all.iter().all(|fragment| matches!(fragment.source, Source::Store(_))));
    assert_eq!(all_pictures(&server, &all).await, (0..37).collect::<Vec<_>>());
    assert!(all.last().unwrap().info.end_of_session);
    let mut publisher = server.publish("token:1").await;
    camera.next = 40;
    soon(camera.shoot(&mut publisher, 15)).await.unwrap();
    soon(publisher.finish()).await;
    let all = server.all().await;
    assert_eq!(breaks(&all).get(&4), Some(&GapReason::ServerStopped));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_publisher_leaves_its_open_fragment_persisted() {
    let mut site = Site::new();
    let mut camera = Camera::new(&site);
    let server = site.start();
    let mut publisher = server.publish("token:1").await;
    soon(camera.shoot(&mut publisher, 5)).await.unwrap();
    drop(publisher);
    edge(&server, |edge| !edge.live && edge.persisted.sequence.0 == 1).await;
    let all = server.all().await;
    assert_eq!(all_pictures(&server, &all).await, (0..5).collect::<Vec<_>>());
    assert!(all[0].info.end_of_session);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_stream_is_sealed_and_forgotten_and_goes_on_from_the_store() {
    let mut site = Site::new();
    site.settings.idle_after = Duration::from_millis(20);
    let mut camera = Camera::new(&site);
    let server = site.start();
    let mut publisher = server.publish("token:1").await;
    soon(camera.shoot(&mut publisher, 15)).await.unwrap();
    soon(publisher.finish()).await;
    soon(async {
        // Looked at without a handle: who has one keeps it from being forgotten.
        while server.hub.streams().contains_key(&server.stream.id) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    camera.next = 20;
    let mut publisher = server.publish("token:1").await;
    soon(camera.shoot(&mut publisher, 15)).await.unwrap();
    soon(publisher.finish()).await;
    let all = server.all().await;
    assert_eq!(ordinals(&all), [0, 1, 2, 3]);
    assert_eq!(breaks(&all)[&2], GapReason::PublisherLeft);
    assert_eq!(all[3].info.position.sequence.0, 4);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_stream_ends_its_publisher_and_its_readers() {
    let mut site = Site::new();
    let mut camera = Camera::new(&site);
    let server = site.start();
    let mut publisher = server.publish("token:1").await;
    soon(camera.shoot(&mut publisher, 25)).await.unwrap();
    let mut cursor = server.hub.cursor(server.stream.id, Start::Latest).await.unwrap();
    while !matches!(soon(cursor.next()).await.unwrap(), Step::Fragment(_)) {}
    let mut watched = server.hub.edge(server.stream.id);
    soon(server.hub.delete(server.stream.id)).await.unwrap();
    assert_eq!(soon(publisher.ended()).await, Ended::Deleted);
    assert_eq!(publisher.push(camera.picture()).await, Err(Ended::Deleted));
    assert!(matches!(soon(cursor.next()).await.unwrap(), Step::Deleted));
    assert!(soon(watched.wait_for(|edge| edge.deleted)).await.is_ok());
    let late = server.hub.publish(&server.stream, who("token:1", true)).await;
    assert!(matches!(late.err(), Some(PublishError::Store(StoreError::Gone))), "it was looked up before");
    drop((publisher, cursor, watched));
    assert!(server.all().await.is_empty());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stream_whose_fragmenter_failed_ends_and_its_past_is_still_read() {
    let mut site = Site::new();
    let mut camera = Camera::new(&site);
    let server = site.start();
    let mut publisher = server.publish("token:1").await;
    soon(camera.shoot(&mut publisher, 25)).await.unwrap();
    edge(&server, |edge| edge.persisted.sequence.0 == 2).await;
    let state = server.hub.existing(server.stream.id).unwrap();
    let broken = std::thread::spawn(move || {
        let _seat = state.seat();
        panic!("as a fragmenter would");
    });
    assert!(broken.join().is_err());
    assert!(publisher.push(camera.picture()).await.is_err());
    soon(publisher.ended()).await;
    let again = server.hub.publish(&server.stream, who("token:1", true)).await;
    assert!(matches!(again.err(), Some(PublishError::Store(StoreError::Disk { .. }))));
    assert_eq!(server.all().await.len(), 2);
    edge(&server, |edge| !edge.live).await;
    drop(publisher);
    server.stop().await;
}

/// A start with a clock a month ahead labels what is recorded then, and nothing that is recorded later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_was_ahead_once_labels_nothing_later() {
    let month = 30 * 86_400_000_000;
    let mut site = Site::new();
    let mut camera = Camera::new(&site);
    let mut labelled = Vec::new();
    for ahead in [month, 0, 0] {
        site.clock.set(NOON.plus_micros(camera.next * 1_000_000 / RATE + ahead));
        let server = site.start();
        let mut publisher = server.publish("token:1").await;
        soon(camera.shoot(&mut publisher, 2 * RATE)).await.unwrap();
        soon(publisher.finish()).await;
        labelled = server.all().await;
        server.stop().await;
    }
    let labels: Vec<_> = labelled
        .iter()
        .map(|fragment| fragment.info.producer_time.micros_since(media::ProducerTime::from_micros(NOON.micros())))
        .collect();
    let first = labels[0] - month;
    assert!((0..1_000_000).contains(&first), "{labels:?}");
    let expected: Vec<_> =
        labels.iter().enumerate().map(|(n, _)| first + n as i64 * 1_000_000 + if n < 2 { month } else { 0 }).collect();
    assert_eq!(labels, expected);
    assert!(labelled.iter().all(|fragment| fragment.info.clock_error_us < 1_000_000));
    assert!(labelled.is_sorted_by_key(|fragment| fragment.info.server_time), "server time goes back");
    let found = labelled[4].info.producer_time;
    let server = site.start();
    let select = store::Select::Producer(found, found.plus_micros(1));
    let fragments = server.hub.timeline(server.stream.id, select, 10).await.unwrap().fragments;
    assert_eq!(ordinals(&fragments), [4], "it is found by its time");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_stored_is_known_while_the_session_runs() {
    let mut site = Site::new();
    let server = site.start();
    let mut publisher = server.publish("token:1").await;
    let mut camera = Camera::new(&site);
    camera.next = 1;
    soon(camera.shoot(&mut publisher, 3)).await.unwrap();
    let mut account = Account { packets: 12, notes: vec!["track 2 is not recorded".to_owned()], ..Account::default() };
    account.dropped.count(media::DropReason::MalformedPacket, 2);
    publisher.account(account);
    let status = server.hub.status(server.stream.id).await.unwrap().publisher.unwrap();
    assert_eq!(status.dropped.to_string(), "2 malformed packets, 3 frames before the first keyframe");
    assert_eq!(status.notes[0], "track 2 is not recorded");
    assert!(server.hub.take_notices().is_empty(), "it is too early to tell anybody");
    soon(publisher.finish()).await;
    server.stop().await;
}
