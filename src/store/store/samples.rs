//! Frozen data folders of each format version, read by every later version.

use super::*;
use crate::clock::ManualClock;
use crate::testing::{Feed, START_US, identity, settings, stream, wait};

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(ServerTime::from_micros(START_US)))
}

/// What the sample holds: a stream with a sealed block and one that a crash left open, and a deleted stream.
const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/store-v1");
const FRAGMENTS: usize = 8;

fn fragments() -> Vec<Fragment> {
    let mut feed = Feed { payload: 24, ..Feed::new(1) };
    (0..FRAGMENTS).map(|_| feed.next()).collect()
}

#[test]
#[ignore = "makes the sample anew; a frozen one is never made again"]
fn make_the_v1_sample() {
    let root = Path::new(SAMPLE);
    assert!(!root.exists(), "it is frozen");
    std::fs::create_dir_all(root).expect("makes");
    let (store, _) = Store::open(settings(root), Epoch(1), clock()).expect("opens");
    store.create_stream(&identity(1)).expect("creates");
    store.create_stream(&identity(2)).expect("creates");
    store.delete_stream(stream(2)).expect("deletes");
    for (number, fragment) in fragments().into_iter().enumerate() {
        wait(store.append(stream(1), fragment)).expect("persisted");
        if number == 4 {
            wait(store.seal(stream(1), GapReason::PublisherLeft));
        }
    }
    // As a crash leaves it: the last block open, no index.
    let open = store.core.memory()[&stream(1)].keys().copied().max().expect("an open block");
    let name = crate::blobs::file_name(open);
    let bytes = std::fs::read(root.join("streams").join(stream(1).to_string()).join(&name)).expect("reads");
    let first = &store.select(stream(1), Select::After(Position::default()), 1).expect("selects")[0].info;
    let number = store.number(stream(1), first.position, first.server_time);
    store.close().expect("closes");
    drop(store);
    std::fs::write(root.join("first-number.txt"), format!("{number}\n")).expect("writes");
    std::fs::write(root.join("streams").join(stream(1).to_string()).join(&name), bytes).expect("writes");
    for name in ["index.db", "index.db-wal", "index.db-shm", "store.lock"] {
        let _ = std::fs::remove_file(root.join(name));
    }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("makes");
    for entry in std::fs::read_dir(from).expect("lists") {
        let entry = entry.expect("lists");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("asks").is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copies");
        }
    }
}

#[test]
fn v1_data_folder_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    copy_folder(Path::new(SAMPLE), folder.path());
    let (store, report) = Store::open(settings(folder.path()), Epoch(2), clock()).expect("opens");
    assert_eq!((report.found, report.quarantined, report.lost, report.cut_bytes), (2, 0, 0, 0));
    assert_eq!(store.identities().expect("identities"), [identity(1)]);
    let all = store.select(stream(1), Select::After(Position::default()), 100).expect("selects");
    assert_eq!(all.len(), FRAGMENTS);
    for (stored, fragment) in all.iter().zip(fragments()) {
        assert_eq!(stored.info, fragment.info);
        assert_eq!(store.read(&stored.place, 0..stored.info.body_len).expect("reads"), fragment.body);
    }
    let head = store.head(stream(1)).expect("head").expect("some");
    assert_eq!(head.ended, GapReason::ServerCrashed);
    // Numbers that were given out stay what they are.
    let number = store.number(stream(1), all[0].info.position, all[0].info.server_time);
    let expected = std::fs::read_to_string(Path::new(SAMPLE).join("first-number.txt")).expect("is there");
    assert_eq!(number.to_string(), expected.trim());
    drop(store);
    let report = Store::check(&settings(folder.path()), clock(), &mut |_| {}).expect("checks");
    assert_eq!(report.violations, []);
}

#[test]
fn newer_data_folder_is_refused_with_both_versions_named() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("store.json"), r#"{"format": 2, "shape": "unknown"}"#).expect("writes");
    let refused = Store::open(settings(folder.path()), Epoch(1), clock());
    assert!(matches!(refused, Err(StoreError::Newer { found: 2, known: 1 })));
}
