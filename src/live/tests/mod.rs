//! The room as a whole, on a real store in a temporary folder, fed by a camera that needs no waiting:
//! media time comes with the units.

mod faults;
mod model;
mod publishing;
mod reading;
mod retention;
mod units;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use media::codec::h264;
use media::{AccessUnit, Epoch, GapReason, RandomAccess, ServerTime, StreamId, StreamName, TrackId, TrackSet};
use store::clock::ManualClock;
use store::{Store, StreamIdentity};
use tempfile::TempDir;

use super::cursor::{Cursor, Start, Step};
use super::sweeper::Space;
use super::*;
use crate::catalog::{SecondPublisher, Stream, StreamSettings};

/// Pictures a second; a group of pictures is a second too.
const RATE: i64 = 10;

/// A wall clock's beginning.
const NOON: ServerTime = ServerTime::from_micros(1_800_000_000_000_000);

/// A data folder that outlives its servers.
struct Site {
    folder: TempDir,
    clock: Arc<ManualClock>,
    epoch: u32,
    settings: Settings,
    soft_free_permille: u32,
}

/// One life of a server, with one stream.
struct Server {
    store: Store,
    hub: Arc<Hub>,
    stream: Stream,
}

impl Site {
    fn new() -> Site {
        let settings = Settings { idle_after: Duration::from_secs(60), ..Settings::default() };
        let folder = tempfile::tempdir().unwrap();
        Site { folder, clock: Arc::new(ManualClock::new(NOON)), epoch: 0, settings, soft_free_permille: 0 }
    }

    fn start(&mut self) -> Server {
        self.epoch += 1;
        let settings = store::Settings {
            root: self.folder.path().to_owned(),
            rotate_after: Duration::from_secs(300),
            rotate_bytes: 64 << 20,
            tick: Duration::from_millis(2),
            soft_free_permille: self.soft_free_permille,
            hard_free_permille: 0,
        };
        let (store, _) = Store::open(settings, Epoch(self.epoch), self.clock.clone()).unwrap();
        let stream = Stream {
            id: StreamId(uuid::Uuid::from_u128(7)),
            name: StreamName::new("gate").unwrap(),
            created: NOON,
            settings: StreamSettings::default(),
            retained_from: None,
            dropped: None,
        };
        let identity = StreamIdentity { id: stream.id, name: stream.name.clone(), created: stream.created };
        store.create_stream(&identity).unwrap();
        let hub = Hub::new(store.clone(), self.clock.clone(), self.settings);
        Server { store, hub, stream }
    }
}

impl Server {
    async fn publish(&self, credential: &str) -> Publisher {
        let mut publisher = self.hub.publish(&self.stream, who(credential, true)).await.unwrap();
        publisher.set_tracks(tracks());
        publisher
    }

    /// A publisher whose source cannot be held back.
    async fn publish_udp(&self) -> Publisher {
        let mut publisher = self.hub.publish(&self.stream, who("token:1", false)).await.unwrap();
        publisher.set_tracks(tracks());
        publisher
    }

    async fn all(&self) -> Vec<Descriptor> {
        let all = self.hub.timeline(self.stream.id, store::Select::After(media::Position::default()), 100_000);
        all.await.unwrap().fragments
    }

    /// Stops in order and gives the data folder back.
    async fn stop(self) {
        assert_eq!(self.hub.shutdown(Duration::from_secs(10)).await, 0);
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || store.close()).await.unwrap().unwrap();
    }
}

fn who(credential: &str, can_wait: bool) -> PublisherInfo {
    let protocol = if can_wait { "rtsp+tcp" } else { "rtsp+udp" };
    PublisherInfo {
        credential: credential.to_owned(),
        protocol,
        peer: "192.0.2.7:5000".to_owned(),
        can_wait,
        sends_on_request: false,
    }
}

/// Pictures of 160 by 120 as x264 describes them.
fn tracks() -> TrackSet {
    let track = h264::track(TrackId(1), &SPS, &[&PPS]).unwrap();
    TrackSet::new(vec![track]).unwrap()
}

/// A source of pictures, each known by its number, which is its first bytes.
struct Camera {
    clock: Arc<ManualClock>,
    next: i64,
    /// Bytes of a picture.
    size: usize,
}

impl Camera {
    fn new(site: &Site) -> Camera {
        Camera { clock: site.clock.clone(), next: 0, size: 1000 }
    }

    fn picture(&mut self) -> AccessUnit {
        let number = self.next;
        self.next += 1;
        self.clock.advance(1_000_000 / RATE);
        let mut data = vec![0u8; self.size];
        data[..4].copy_from_slice(&((self.size - 4) as u32).to_be_bytes());
        data[4] = if number % RATE == 0 { 0x65 } else { 0x41 };
        data[5..13].copy_from_slice(&number.to_be_bytes());
        AccessUnit {
            track: TrackId(1),
            pts: number * 90_000 / RATE,
            duration: None,
            random_access: if number % RATE == 0 { RandomAccess::Closed } else { RandomAccess::No },
            disposable: false,
            loss_before: 0,
            arrival: store::Clock::now(&*self.clock),
            data: Bytes::from(data),
        }
    }

    /// Pushes this many pictures.
    async fn shoot(&mut self, publisher: &mut Publisher, pictures: i64) -> Result<(), Ended> {
        for _ in 0..pictures {
            let picture = self.picture();
            publisher.push(picture).await?;
        }
        Ok(())
    }
}

/// Fails the test instead of hanging it.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it happens within seconds")
}

/// Waits until `edge` satisfies `wanted`.
async fn edge(server: &Server, wanted: impl FnMut(&Edge) -> bool) -> Edge {
    *soon(server.hub.edge(server.stream.id).wait_for(wanted)).await.unwrap()
}

/// Numbers of the pictures in a fragment, in stored order.
async fn pictures(server: &Server, descriptor: &Descriptor) -> Vec<i64> {
    let body = server.hub.read(descriptor, 0..descriptor.info.body_len).await.unwrap();
    let mut numbers = Vec::new();
    let part = &descriptor.info.tracks[0];
    let mut rest = &body[(part.offset + part.moof_len) as usize + 8..(part.offset + part.len) as usize];
    while !rest.is_empty() {
        let len = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
        numbers.push(i64::from_be_bytes(rest[5..13].try_into().unwrap()));
        rest = &rest[4 + len..];
    }
    numbers
}

async fn all_pictures(server: &Server, fragments: &[Descriptor]) -> Vec<i64> {
    let mut all = Vec::new();
    for fragment in fragments {
        all.extend(pictures(server, fragment).await);
    }
    all
}

fn ordinals(fragments: &[Descriptor]) -> Vec<u64> {
    fragments.iter().map(|fragment| fragment.info.ordinal.0).collect()
}

/// Reasons of breaks by ordinal.
fn breaks(fragments: &[Descriptor]) -> BTreeMap<u64, GapReason> {
    let said = |fragment: &Descriptor| Some((fragment.info.ordinal.0, fragment.info.break_before?));
    fragments.iter().filter_map(said).collect()
}

const SPS: [u8; 23] = [
    0x67, 0x42, 0xc0, 0x0a, 0xd9, 0x02, 0x84, 0x7e, 0x5c, 0x04, 0x40, 0x00, 0x00, 0x03, 0x00, 0x40, 0x00, 0x00, 0x05,
    0x03, 0xc4, 0x89, 0x92,
];
const PPS: [u8; 5] = [0x68, 0xcb, 0x83, 0xcb, 0x20];
