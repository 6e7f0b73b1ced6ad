//! Units before their fragment is closed, as those who follow a stream read them.

use super::*;

/// Numbers of the units until something else comes, and that.
async fn read(reader: &mut UnitReader) -> (Vec<i64>, Next) {
    let mut numbers = Vec::new();
    loop {
        match soon(reader.next()).await {
            Next::Unit(unit) => {
                numbers.push(i64::from_be_bytes(unit.unit.data[5..13].try_into().expect("a number")));
                if numbers.len() == 1_000 {
                    return (numbers, Next::Unit(unit));
                }
            }
            other => return (numbers, other),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_starts_at_the_newest_key_picture_and_misses_nothing_to_the_end() {
    let mut site = Site::new();
    let (mut camera, server) = (Camera::new(&site), site.start());
    let mut publisher = server.publish("token:1").await;
    soon(camera.shoot(&mut publisher, 25)).await.unwrap();
    let mut reader = server.hub.units(server.stream.id).await.unwrap();
    soon(camera.shoot(&mut publisher, 5)).await.unwrap();
    soon(publisher.finish()).await;
    let (numbers, end) = read(&mut reader).await;
    assert_eq!(numbers, (20..30).collect::<Vec<_>>(), "the 20th is the newest key picture of those that had come");
    assert!(matches!(end, Next::Idle), "{end:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_too_slow_is_told_and_goes_on_at_a_key_picture() {
    let mut site = Site::new();
    let (mut camera, server) = (Camera::new(&site), site.start());
    let mut publisher = server.publish("token:1").await;
    soon(camera.shoot(&mut publisher, 5)).await.unwrap();
    let mut reader = server.hub.units(server.stream.id).await.unwrap();
    soon(camera.shoot(&mut publisher, 50)).await.unwrap();
    let (numbers, skipped) = read(&mut reader).await;
    assert!(numbers.is_empty() && matches!(skipped, Next::Skipped), "{numbers:?} {skipped:?}");
    soon(publisher.finish()).await;
    assert_eq!(read(&mut reader).await.0, (50..55).collect::<Vec<_>>());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_starts_with_what_a_publisher_that_left_has_shown() {
    let mut site = Site::new();
    let (mut camera, server) = (Camera::new(&site), site.start());
    let mut first = server.publish("token:1").await;
    // Keeps the stream in memory.
    let _edge = server.hub.edge(server.stream.id);
    soon(camera.shoot(&mut first, 15)).await.unwrap();
    soon(first.finish()).await;
    site.clock.advance(3_600_000_000);
    let mut second = server.publish("token:1").await;
    let mut reader = server.hub.units(server.stream.id).await.unwrap();
    camera.next = 20;
    soon(camera.shoot(&mut second, 5)).await.unwrap();
    soon(second.finish()).await;
    assert_eq!(read(&mut reader).await.0, (20..25).collect::<Vec<_>>(), "and nothing from an hour before");
    server.stop().await;
}
