//! The sweeper on a real catalog.

use super::*;
use crate::catalog::{Catalog, Retention};

fn catalog(site: &Site, max_bytes: Option<u64>, max_age: Option<Duration>) -> (Arc<Catalog>, Stream) {
    let catalog = Catalog::open(&site.folder.path().join("control.db")).unwrap();
    let settings = StreamSettings { retention: Retention { max_age, max_bytes }, ..StreamSettings::default() };
    let stream = catalog.create_stream(&StreamName::new("gate").unwrap(), settings, NOON, 99).unwrap();
    (catalog, stream)
}

/// Sessions of ten kilobytes, each in a block of its own.
async fn record(site: &mut Site, stream: &Stream, sessions: usize) -> Server {
    site.settings.idle_after = Duration::from_millis(5);
    let mut server = site.start();
    server.stream = stream.clone();
    let identity = StreamIdentity { id: stream.id, name: stream.name.clone(), created: NOON };
    server.store.create_stream(&identity).unwrap();
    let mut camera = Camera::new(site);
    for _ in 0..sessions {
        let mut publisher = server.publish("token:1").await;
        soon(camera.shoot(&mut publisher, 10)).await.unwrap();
        let state = server.hub.existing(stream.id).unwrap();
        soon(publisher.finish()).await;
        soon(state.retired()).await;
    }
    server
}

async fn sweep(server: &Server, catalog: &Arc<Catalog>, settings: SweeperSettings) {
    let sweeper = Sweeper::new(server.hub.clone(), catalog.clone(), settings);
    let now = server.hub.clock.now();
    tokio::task::spawn_blocking(move || sweeper.sweep(now)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oldest_blocks_go_beyond_the_streams_bytes_and_the_catalog_knows() {
    let mut site = Site::new();
    let (catalog, stream) = catalog(&site, Some(60_000), None);
    let server = record(&mut site, &stream, 10).await;
    let before = server.all().await;
    assert_eq!(before.len(), 10);
    sweep(&server, &catalog, SweeperSettings { soft_free_permille: 0, hard_free_permille: 0, ..Default::default() })
        .await;
    let after = server.all().await;
    let dropped = before.len() - after.len();
    assert!((4..=7).contains(&dropped), "{dropped} of ten blocks went");
    assert_eq!(ordinals(&after), (dropped as u64..10).collect::<Vec<_>>(), "the oldest went");
    let retained = catalog.stream_by_id(stream.id).unwrap().retained_from.unwrap();
    assert!(before[dropped - 1].info.server_end() <= retained.plus_micros(1), "what went lies before retained_from");
    assert!(after[0].info.server_end() > retained);
    assert!(server.hub.status(stream.id).await.unwrap().bytes <= 60_000);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_set_back_lets_no_more_go_than_the_streams_bytes_ask_for() {
    let mut site = Site::new();
    let (catalog, stream) = catalog(&site, Some(60_000), None);
    let server = record(&mut site, &stream, 1).await;
    site.clock.set(NOON.plus_micros(-3_600_000_000));
    let mut camera = Camera::new(&site);
    camera.next = 10;
    for _ in 1..10 {
        let mut publisher = server.publish("token:1").await;
        soon(camera.shoot(&mut publisher, 10)).await.unwrap();
        let state = server.hub.existing(stream.id).unwrap();
        soon(publisher.finish()).await;
        soon(state.retired()).await;
    }
    let before = server.all().await;
    assert_eq!(before.len(), 10);
    assert_eq!(before[1].info.server_end(), before[9].info.server_end(), "server time stands still");
    let settings = SweeperSettings { soft_free_permille: 0, hard_free_permille: 0, ..Default::default() };
    // The store's index follows its blocks a moment later, so the first sweep may not see all of them.
    soon(async {
        while server.hub.status(stream.id).await.unwrap().bytes > 60_000 {
            sweep(&server, &catalog, settings).await;
        }
    })
    .await;
    let kept = ordinals(&server.all().await);
    assert!((3..=6).contains(&kept.len()), "{kept:?} stay");
    assert_eq!(kept, (10 - kept.len() as u64..10).collect::<Vec<_>>(), "the oldest went");
    // Another life catches up on what the catalog says: that was done.
    server.stop().await;
    let mut server = site.start();
    server.stream = stream.clone();
    sweep(&server, &catalog, settings).await;
    assert_eq!(ordinals(&server.all().await), kept);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn short_volume_drops_the_oldest_and_then_refuses_publishers() {
    let mut site = Site::new();
    let (catalog, stream) = catalog(&site, None, None);
    // Marks that no volume meets.
    site.soft_free_permille = 1000;
    let settings = SweeperSettings {
        soft_free_permille: 1000,
        hard_free_permille: 1001,
        min_retention: Duration::ZERO,
        ..Default::default()
    };
    let server = record(&mut site, &stream, 3).await;
    // The store's index follows its blocks a moment later, so the first sweep may not see all of them.
    soon(async {
        while server.all().await.len() > 1 {
            sweep(&server, &catalog, settings).await;
        }
    })
    .await;
    assert_eq!(ordinals(&server.all().await), [2], "each stream keeps its newest block");
    assert!(catalog.stream_by_id(stream.id).unwrap().retained_from.is_some());
    assert!(server.hub.space().full);
    let refused = server.hub.publish(&stream, who("token:1", true)).await;
    assert!(matches!(refused.err(), Some(PublishError::DiskFull)));
    // Marks that every volume meets.
    sweep(&server, &catalog, SweeperSettings { soft_free_permille: 0, hard_free_permille: 0, ..Default::default() })
        .await;
    assert!(!server.hub.space().full);
    assert!(server.hub.publish(&stream, who("token:1", true)).await.is_ok());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_that_fill_the_volume_leave_each_stream_its_minimum_and_that_is_said() {
    let mut site = Site::new();
    let (catalog, stream) = catalog(&site, None, None);
    // Marks that no volume meets: as if others had all of it, whatever is dropped.
    site.soft_free_permille = 1000;
    let settings = SweeperSettings { soft_free_permille: 1000, hard_free_permille: 1001, ..Default::default() };
    let server = record(&mut site, &stream, 6).await;
    // The store's index follows its blocks a moment later.
    soon(async {
        let bytes = server.hub.status(stream.id).await.unwrap().bytes;
        while server.store.stored_bytes().unwrap() < bytes {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let sweeper = Arc::new(Sweeper::new(server.hub.clone(), catalog.clone(), settings));
    let sweep = async || {
        let sweeper = sweeper.clone();
        tokio::task::spawn_blocking(move || sweeper.sweep(NOON)).await.unwrap();
    };
    for _ in 0..12 {
        sweep().await;
    }
    assert_eq!(server.all().await.len(), 6, "an hour stays, and there are some seconds");
    let space = server.hub.space();
    assert!(space.minimum_kept && space.full, "{space:?}");
    server.stop().await;
}
