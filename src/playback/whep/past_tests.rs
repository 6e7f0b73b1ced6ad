//! The past upon a real store in a temporary folder, of which bytes are damaged.

use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use media::codec::h264;
use media::container::cmaf::{self, Entry};
use media::{
    ClockSource, Epoch, Fragment, FragmentInfo, GapReason, Ordinal, Position, ProducerTime, Sequence, ServerTime,
    StartKind, StreamId, StreamName, TrackId, TrackSet, TrackSetId,
};
use store::clock::ManualClock;
use store::{Store, StreamIdentity};

use super::Past;
use crate::live::{Hub, Next, Settings};

const STREAM: StreamId = StreamId(uuid::Uuid::from_u128(0x9f3a_c2d1_0000_4000_8000_0000_0000_0001));
/// 2026-08-01T12:00:00Z.
const NOON_US: i64 = 1_785_585_600_000_000;
/// So short that nobody waits long for the pace.
const PICTURE_US: i64 = 4_000;
const PICTURE_TICKS: i64 = 360;
/// Pictures of a fragment.
const PICTURES: i64 = 5;

const SPS: &[u8] = &[
    0x67, 0x64, 0x00, 0x0d, 0xac, 0xd9, 0x41, 0x50, 0x87, 0x88, 0x88, 0xc0, 0x44, 0x00, 0x00, 0x0f, 0xa4, 0x00, 0x03,
    0xa9, 0x80, 0x3c, 0x50, 0xa6, 0x58,
];
const PPS: &[u8] = &[0x68, 0xea, 0xe3, 0xcb, 0x22, 0xc0];

/// A coded slice whose last byte says which picture it is.
fn slice(number: i64, is_key: bool) -> [u8; 7] {
    [0, 0, 0, 3, if is_key { 0x65 } else { 0x41 }, 0x9a, number as u8]
}

/// A stream of fragments of which these are the starts and these are damaged.
async fn recorded(starts: &[StartKind], damaged: &[u64]) -> (Arc<Hub>, tempfile::TempDir) {
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
    let track = h264::track(TrackId(1), SPS, &[PPS]).unwrap();
    let tracks = Arc::new(TrackSet::new(vec![track]).unwrap());
    for (at, start) in (0..).zip(starts) {
        let first = at * PICTURES;
        let is_key = |number: i64| number == first && *start != StartKind::Dependent;
        let slices: Vec<[u8; 7]> = (first..first + PICTURES).map(|number| slice(number, is_key(number))).collect();
        // An open one shows its second and third picture before the first, which is the key picture.
        let places = |number: i64| match (*start, number - first) {
            (StartKind::Open, 0) => 3,
            (StartKind::Open, 1 | 2) => 0,
            (StartKind::Open, _) => 1,
            _ => 0,
        };
        let offset = |number| (places(number) * PICTURE_TICKS) as u32;
        let entry =
            |number| Entry { duration: PICTURE_TICKS as u32, offset: offset(number), size: 7, sync: is_key(number) };
        let entries: Vec<Entry> = (first..first + PICTURES).map(entry).collect();
        let mut body = Vec::new();
        let dts = (900_000 + first * PICTURE_TICKS) as u64;
        let part = cmaf::append(&mut body, 0, TrackId(1), 1, dts, &entries, slices.iter().map(|one| &one[..])).unwrap();
        let taken_us = NOON_US + first * PICTURE_US;
        let info = FragmentInfo {
            position: Position { epoch: Epoch(1), sequence: Sequence(at as u64 + 1) },
            ordinal: Ordinal(at as u64),
            discontinuities: 0,
            track_set: TrackSetId(1),
            start: *start,
            break_before: (at == 0).then_some(GapReason::Started),
            end_of_session: false,
            damaged: false,
            producer_time: ProducerTime::from_micros(taken_us),
            clock_source: ClockSource::SenderReport,
            clock_error_us: 1_000,
            server_time: ServerTime::from_micros(taken_us),
            duration_us: (PICTURES * PICTURE_US) as u64,
            tracks: vec![part],
            body_len: body.len() as u32,
        };
        store.append(STREAM, Fragment { info, tracks: tracks.clone(), body: Bytes::from(body) }).await.unwrap();
    }
    for ordinal in damaged {
        let position = Position { epoch: Epoch(1), sequence: Sequence(ordinal + 1) };
        let stored = store.fragment(STREAM, position).unwrap().expect("it was appended");
        let streams = folder.path().join("streams").join(STREAM.0.simple().to_string());
        let mut files = std::fs::read_dir(streams).unwrap().map(|entry| entry.unwrap().path());
        let block = files.find(|path| path.extension().is_some_and(|end| end == "mp4")).expect("a block");
        let file = std::fs::File::options().write(true).open(block).unwrap();
        let last = stored.place.body_offset + u64::from(stored.info.body_len) - 1;
        file.write_all_at(&[0xff], last).unwrap();
    }
    (Hub::new(store, clock, Settings::default()), folder)
}

/// What is shown of a stream from this picture on: numbers of pictures, none where some were left out.
async fn shown(starts: &[StartKind], damaged: &[u64], from: i64) -> Vec<Option<u8>> {
    shown_within(starts, damaged, from, None).await
}

/// The same for a credential that may see these pictures only.
async fn shown_within(
    starts: &[StartKind],
    damaged: &[u64],
    from: i64,
    allowed: Option<(i64, i64)>,
) -> Vec<Option<u8>> {
    let (hub, _folder) = recorded(starts, damaged).await;
    let time = |picture: i64| ProducerTime::from_micros(NOON_US + picture * PICTURE_US);
    let allowed = allowed.map(|(first, end)| (time(first), time(end)));
    let mut past = Past::open(hub, STREAM, time(from), allowed).await.unwrap();
    let mut shown = Vec::new();
    let mut needs_key = true;
    loop {
        match past.next().await {
            Next::Unit(unit) => {
                assert!(unit.starts || !needs_key, "picture {:?} follows what is not there", unit.unit.data.last());
                needs_key = false;
                shown.push(unit.unit.data.last().copied());
            }
            Next::Skipped => {
                needs_key = true;
                shown.push(None);
            }
            Next::Idle => return shown,
            Next::Deleted if allowed.is_some() => return shown,
            Next::Deleted => panic!("it ends after {shown:?}"),
        }
    }
}

fn pictures(numbers: std::ops::Range<u8>) -> impl Iterator<Item = Option<u8>> {
    numbers.map(Some)
}

#[tokio::test]
async fn damaged_fragments_are_left_out_and_the_past_goes_on_at_the_next_key_picture() {
    use StartKind::{Closed, Dependent, Open};
    let whole = shown(&[Closed, Closed, Closed], &[], 0).await;
    assert_eq!(whole, pictures(0..15).collect::<Vec<_>>());
    let one = shown(&[Closed, Closed, Closed], &[1], 0).await;
    assert_eq!(one, pictures(0..5).chain([None]).chain(pictures(10..15)).collect::<Vec<_>>());
    // What depends on it cannot be decoded either.
    let chain = shown(&[Closed, Closed, Dependent, Dependent, Closed, Dependent], &[1], 0).await;
    assert_eq!(chain, pictures(0..5).chain([None]).chain(pictures(20..30)).collect::<Vec<_>>());
    let several = shown(&[Closed, Closed, Closed, Closed], &[0, 1], 2).await;
    assert_eq!(several, [None, None].into_iter().chain(pictures(10..20)).collect::<Vec<_>>());
    let open = shown(&[Closed, Closed, Open], &[], 0).await;
    assert_eq!(open, pictures(0..15).collect::<Vec<_>>());
    let open = shown(&[Closed, Closed, Open], &[1], 0).await;
    let after = pictures(10..11).chain(pictures(13..15));
    assert_eq!(
        open,
        pictures(0..5).chain([None]).chain(after).collect::<Vec<_>>(),
        "11 and 12 refer to what is damaged"
    );
    let last = shown(&[Closed, Closed], &[1], 0).await;
    assert_eq!(last, pictures(0..5).chain([None]).collect::<Vec<_>>());
}

#[tokio::test]
async fn nothing_before_a_credentials_range_is_shown_not_even_what_decoding_starts_at() {
    use StartKind::{Closed, Dependent, Open};
    let starts = [Closed, Dependent, Closed, Dependent, Open];
    let seen = |from, allowed| shown_within(&starts, &[], from, Some(allowed));
    // The first fragment inside the range begins with picture 10; what depends on one outside is not shown.
    assert_eq!(seen(7, (7, 24)).await, pictures(10..24).collect::<Vec<_>>());
    assert_eq!(seen(3, (3, 8)).await, [None; 0], "no fragment with a key picture lies inside");
    assert_eq!(seen(10, (10, 14)).await, pictures(10..14).collect::<Vec<_>>(), "the start of a fragment is inside");
}
