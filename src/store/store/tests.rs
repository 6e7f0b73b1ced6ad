use media::{Ordinal, Sequence};

use super::*;
use crate::Expiry;
use crate::clock::ManualClock;
use crate::testing::{END, Feed, START_US, identity, settings, stream, wait};

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(ServerTime::from_micros(START_US)))
}

#[test]
fn fragments_come_back_as_they_were_given_before_and_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, report) = Store::open(settings(folder.path()), Epoch(1), clock()).expect("opens");
    assert_eq!(format!("{report:?}"), format!("{:?}", RecoveryReport::default()));
    store.create_stream(&identity(1)).expect("creates");
    let mut feed = Feed::new(1);
    let fragments: Vec<Fragment> = (0..12).map(|_| feed.next()).collect();
    let pending: Vec<_> = fragments.iter().map(|fragment| store.append(stream(1), fragment.clone())).collect();
    let acked: Vec<Stored> = pending.into_iter().map(|answer| wait(answer).expect("persisted")).collect();

    let check = |store: &Store| {
        let all = store.select(stream(1), Select::After(Position::default()), 100).expect("selects");
        assert_eq!(all, acked);
        for (stored, fragment) in all.iter().zip(&fragments) {
            assert_eq!(stored.info, fragment.info);
            let position = fragment.info.position;
            assert_eq!(store.fragment(stream(1), position).expect("looks up").as_ref(), Some(stored));
            for wrong in [position.epoch.0 - 1, position.epoch.0 + 1] {
                let position = Position { epoch: Epoch(wrong), ..position };
                assert_eq!(store.fragment(stream(1), position).expect("looks up"), None);
            }
            let body = store.read(&stored.place, 0..stored.info.body_len).expect("reads");
            assert_eq!(body, fragment.body);
            let part = &stored.info.tracks[1];
            let bytes = store.read(&stored.place, part.offset..part.offset + part.len).expect("reads a part");
            assert_eq!(bytes, fragment.body.slice(part.offset as usize..(part.offset + part.len) as usize));
        }
        for sequence in [0, 13, u64::MAX] {
            let position = Position { epoch: Epoch(1), sequence: media::Sequence(sequence) };
            assert_eq!(store.fragment(stream(1), position).expect("looks up"), None);
        }
        let middle = store.select(stream(1), Select::Ordinals(Ordinal(3), Ordinal(9)), 4).expect("selects");
        assert_eq!(middle, acked[3..7]);
        let bounds = store.bounds(stream(1)).expect("bounds").expect("some");
        assert_eq!((&bounds.first, &bounds.last), (&acked[0], &acked[11]));
        assert_eq!(bounds.blocks, 3);
        let head = store.head(stream(1)).expect("head").expect("some");
        assert_eq!(head.next_ordinal, Ordinal(12));
        assert_eq!(head.end_us, 22_000_000);
        assert_eq!(head.last, acked[11]);
        assert_eq!(head.track_set.1.tracks().len(), 2);
        head.ended
    };
    assert_eq!(check(&store), GapReason::PublisherLeft);
    assert!(matches!(Store::open(settings(folder.path()), Epoch(2), clock()), Err(StoreError::Locked(_))));
    store.close().expect("closes");
    assert!(wait(store.append(stream(1), feed.next())).is_err());
    let bytes = store.bounds(stream(1)).expect("bounds").expect("some").bytes;
    drop(store);

    let (store, report) = Store::open(settings(folder.path()), Epoch(2), clock()).expect("opens again");
    assert_eq!(report.sealed + report.found + report.lost, 0);
    assert_eq!(check(&store), GapReason::ServerStopped);
    assert_eq!(store.bounds(stream(1)).expect("bounds").expect("some").bytes, bytes);
    assert_eq!(store.identities().expect("identities"), [identity(1)]);
    // Everything else: `index.db` is lost.
    drop(store);
    std::fs::remove_file(folder.path().join("index.db")).expect("there is one");
    let (store, report) = Store::open(settings(folder.path()), Epoch(3), clock()).expect("opens again");
    assert_eq!(report.found, 3);
    assert_eq!(check(&store), GapReason::ServerStopped);
}

#[test]
fn d4_readers_never_see_a_torn_fragment_or_a_hole() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, _) = Store::open(settings(folder.path()), Epoch(1), clock()).expect("opens");
    store.create_stream(&identity(1)).expect("creates");
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (store, done) = (store.clone(), done.clone());
            std::thread::spawn(move || {
                let mut seen = 0;
                while !done.load(std::sync::atomic::Ordering::SeqCst) {
                    let all = store.select(stream(1), Select::After(Position::default()), 10_000).expect("selects");
                    assert!(all.len() >= seen, "what was listed stays");
                    seen = all.len();
                    for (ordinal, stored) in all.iter().enumerate() {
                        assert_eq!(stored.info.ordinal, Ordinal(ordinal as u64), "no hole");
                    }
                    for stored in all.iter().rev().take(3) {
                        // A read of the whole body checks every byte.
                        store.read(&stored.place, 0..stored.info.body_len).expect("whole");
                    }
                }
                seen
            })
        })
        .collect();
    let mut feed = Feed { payload: 20_000, ..Feed::new(1) };
    for _ in 0..40 {
        let tick: Vec<_> = (0..3).map(|_| store.append(stream(1), feed.next())).collect();
        for answer in tick {
            let stored = wait(answer).expect("persisted");
            let found = store.select(stream(1), Select::Ordinals(stored.info.ordinal, Ordinal(u64::MAX)), 1);
            assert_eq!(found.expect("selects"), [stored], "readers find it when it is acknowledged");
        }
    }
    done.store(true, std::sync::atomic::Ordering::SeqCst);
    for reader in readers {
        assert!(reader.join().expect("no reader saw anything torn") > 0);
    }
}

#[test]
fn reader_of_a_block_reads_on_when_it_is_deleted() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, _) = Store::open(settings(folder.path()), Epoch(1), clock()).expect("opens");
    store.create_stream(&identity(1)).expect("creates");
    let mut feed = Feed::new(1);
    let stored = wait(store.append(stream(1), feed.next())).expect("persisted");
    wait(store.seal(stream(1), GapReason::PublisherLeft));
    let held = store.core.blob(crate::blobs::BlockKey { stream: stream(1), first: stored.place.block }).expect("opens");
    while store.drop_through(stream(1), END).expect("drops") == 0 {
        // The row is committed after the seal was answered.
        std::thread::yield_now();
    }
    assert!(matches!(store.read(&stored.place, 0..10), Err(StoreError::Gone)));
    let mut bytes = vec![0; 10];
    held.read_at(&mut bytes, stored.place.body_offset).expect("the holder reads on");
}

#[test]
fn expiry_names_whole_old_blocks_and_never_the_open_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = clock();
    let (store, _) = Store::open(settings(folder.path()), Epoch(1), clock.clone()).expect("opens");
    store.create_stream(&identity(1)).expect("creates");
    let mut feed = Feed::new(1);
    let acked: Vec<Stored> = (0..12).map(|_| wait(store.append(stream(1), feed.next())).expect("persisted")).collect();
    store.core.commit_index(true).expect("puts");
    clock.set(ServerTime::from_micros(START_US + 12_000_000));
    let seconds = Duration::from_secs;
    let through = |n: usize| Some(Expiry { through: acked[n].info.position, ends: acked[n].info.server_end() });
    assert_eq!(store.expiry(stream(1), clock.now(), None, None).expect("asks"), None);
    assert_eq!(
        store.expiry(stream(1), clock.now(), Some(seconds(7)), None).expect("asks"),
        None,
        "its newest is younger"
    );
    assert_eq!(store.expiry(stream(1), clock.now(), Some(seconds(6)), None).expect("asks"), through(4));
    assert_eq!(store.expiry(stream(1), clock.now(), Some(seconds(0)), None).expect("asks"), through(9));
    assert_eq!(store.expiry(stream(1), clock.now(), None, Some(0)).expect("asks"), through(9));
    let bytes = store.bounds(stream(1)).expect("bounds").expect("some").bytes;
    assert_eq!(store.expiry(stream(1), clock.now(), None, Some(bytes - 1)).expect("asks"), through(4));
    assert_eq!(store.expiry(stream(1), clock.now(), None, Some(bytes)).expect("asks"), None);
    assert_eq!(store.drop_through(stream(1), acked[3].info.position).expect("drops"), 0, "not a part of a block");
    assert!(store.drop_through(stream(1), acked[4].info.position).expect("drops") > 0);
    let left = store.select(stream(1), Select::After(Position::default()), 100).expect("selects");
    assert_eq!(left, acked[5..]);
}

#[test]
fn track_sets_are_found_in_old_blocks() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, _) = Store::open(settings(folder.path()), Epoch(1), clock()).expect("opens");
    store.create_stream(&identity(1)).expect("creates");
    let mut feed = Feed::new(1);
    for set in 1..=9 {
        feed.track_set = set;
        for _ in 0..set {
            wait(store.append(stream(1), feed.next())).expect("persisted");
        }
    }
    store.close().expect("closes");
    drop(store);
    let (store, _) = Store::open(settings(folder.path()), Epoch(2), clock()).expect("opens");
    for set in 1..=9 {
        let found = store.track_set(stream(1), TrackSetId(set)).expect("asks").expect("there is one");
        assert_eq!(found.tracks().len(), 2, "set {set}");
    }
    for set in [0, 10] {
        assert!(store.track_set(stream(1), TrackSetId(set)).expect("asks").is_none());
    }
    drop(store);
    let report = Store::check(&settings(folder.path()), clock(), &mut |_| {}).expect("checks");
    assert_eq!((report.violations, report.fragments), (vec![], 45));
    let mut calls = 0;
    let report = Store::rebuild(&settings(folder.path()), clock(), &mut |_| calls += 1).expect("rebuilds");
    assert!(report.found >= 9 && calls == 1, "{report:?}");
    let report = Store::check(&settings(folder.path()), clock(), &mut |_| {}).expect("checks");
    assert_eq!(report.violations, []);
}

/// An index that does something of ours in the middle of a question, once.
struct Meddling {
    inner: crate::index::MemoryIndex,
    meddle: std::sync::Mutex<Option<Box<dyn FnOnce() + Send>>>,
    full: std::sync::atomic::AtomicBool,
}

mod meddling {
    use media::{Ordinal, ProducerTime};

    use super::*;
    use crate::index::BlockRow;

    type Rows = Result<Vec<BlockRow>, IndexError>;

    impl Meddling {
        fn ask(&self) -> &crate::index::MemoryIndex {
            let meddle = self.meddle.lock().expect("not poisoned").take();
            if let Some(meddle) = meddle {
                meddle();
            }
            &self.inner
        }

        fn change(&self) -> Result<&crate::index::MemoryIndex, IndexError> {
            if self.full.load(std::sync::atomic::Ordering::SeqCst) {
                return Err(IndexError::Database("database or disk is full".into()));
            }
            Ok(&self.inner)
        }
    }

    impl Index for Meddling {
        fn put(&self, rows: &[BlockRow]) -> Result<(), IndexError> {
            self.change()?.put(rows)
        }
        fn block(&self, stream: StreamId, first: Position) -> Result<Option<BlockRow>, IndexError> {
            self.inner.block(stream, first)
        }
        fn newest(&self, stream: StreamId) -> Result<Option<BlockRow>, IndexError> {
            self.inner.newest(stream)
        }
        fn oldest(&self, stream: StreamId) -> Result<Option<BlockRow>, IndexError> {
            self.inner.oldest(stream)
        }
        fn by_producer(
            &self,
            stream: StreamId,
            from: ProducerTime,
            to: ProducerTime,
            after: Option<Position>,
            limit: usize,
        ) -> Rows {
            self.ask().by_producer(stream, from, to, after, limit)
        }
        fn by_server(
            &self,
            stream: StreamId,
            from: ServerTime,
            to: ServerTime,
            after: Option<Position>,
            limit: usize,
        ) -> Rows {
            self.ask().by_server(stream, from, to, after, limit)
        }
        fn after(&self, stream: StreamId, position: Position, limit: usize) -> Rows {
            self.ask().after(stream, position, limit)
        }
        fn by_ordinal(&self, stream: StreamId, from: Ordinal, to: Ordinal, limit: usize) -> Rows {
            self.ask().by_ordinal(stream, from, to, limit)
        }
        fn streams(&self) -> Result<Vec<StreamId>, IndexError> {
            self.inner.streams()
        }
        fn usage(&self, stream: StreamId) -> Result<(u64, u64), IndexError> {
            self.inner.usage(stream)
        }
        fn open_blocks(&self) -> Rows {
            self.inner.open_blocks()
        }
        fn mark_deleting(&self, stream: StreamId, blocks: &[Position]) -> Result<(), IndexError> {
            self.change()?.mark_deleting(stream, blocks)
        }
        fn deleting(&self) -> Rows {
            self.inner.deleting()
        }
        fn forget(&self, stream: StreamId, blocks: &[Position]) -> Result<(), IndexError> {
            self.inner.forget(stream, blocks)
        }
        fn clear(&self) -> Result<(), IndexError> {
            self.inner.clear()
        }
    }
}

fn on_meddling_index() -> (Arc<Core>, Arc<Meddling>) {
    on_meddling_index_with(settings(Path::new("/data")))
}

fn on_meddling_index_with(settings: Settings) -> (Arc<Core>, Arc<Meddling>) {
    let root = Path::new("/data");
    let disk: Arc<dyn Disk> = Arc::new(crate::disk::SimulatedDisk::new(1));
    let layout = Layout::new(root);
    let lock = prepare(&*disk, &layout).expect("makes");
    let index = Arc::new(Meddling {
        inner: crate::index::MemoryIndex::new(),
        meddle: std::sync::Mutex::new(None),
        full: false.into(),
    });
    let blobs = Arc::new(FolderBlobs::new(disk.clone(), layout.streams()));
    let ground = Ground { disk, blobs, index: index.clone(), clock: clock() };
    let (core, _) = open_core(ground, settings, Epoch(1), lock).expect("opens");
    core.create_stream(&identity(1)).expect("creates");
    (Arc::new(core), index)
}

fn append_now(core: &Core, feed: &mut Feed, count: usize) {
    let jobs = (0..count).map(|_| {
        let (reply, _) = futures_channel::oneshot::channel();
        crate::queue::Work::Append(crate::writer::Job { fragment: feed.next(), reply })
    });
    core.work(stream(1), jobs.collect());
    let _ = core.commit_index(true);
}

#[test]
fn selection_is_of_one_moment_while_blocks_move_to_the_index() {
    let ordinals = media::Ordinal(0)..media::Ordinal(1000);
    let selects = [
        Select::After(Position::default()),
        Select::Ordinals(ordinals.start, ordinals.end),
        Select::Server(ServerTime::from_micros(0), ServerTime::from_micros(i64::MAX)),
    ];
    for select in selects {
        for before in [0, 3, 8] {
            let (core, index) = on_meddling_index();
            let mut feed = Feed::new(1);
            append_now(&core, &mut feed, before);
            let meddle = {
                let core = core.clone();
                move || append_now(&core, &mut feed, 14)
            };
            *index.meddle.lock().expect("not poisoned") = Some(Box::new(meddle));
            let found = core.select(stream(1), select, 1000).expect("selects");
            assert!(found.len() >= before);
            for (ordinal, stored) in found.iter().enumerate() {
                assert_eq!(stored.info.ordinal.0, ordinal as u64, "{select:?} after {before}: a hole");
            }
        }
    }
}

#[test]
fn full_disk_that_the_index_has_no_room_on_does_not_stop_deletion() {
    let (core, index) = on_meddling_index();
    append_now(&core, &mut Feed::new(1), 12);
    index.full.store(true, std::sync::atomic::Ordering::SeqCst);
    let until = Position { epoch: Epoch(1), sequence: Sequence(10) };
    assert!(core.drop_through(stream(1), until).expect("drops") > 0);
    let left = core.select(stream(1), Select::After(Position::default()), 100).expect("selects");
    assert_eq!(left.first().map(|stored| stored.info.ordinal), Some(Ordinal(10)));
    assert_eq!(core.ground.blobs.list(stream(1)).expect("lists").len(), 1);
}

#[test]
fn reclaiming_names_the_oldest_blocks_of_all_streams_and_spares_the_newest() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = Settings { soft_free_permille: 1000, ..settings(folder.path()) };
    let (store, _) = Store::open(settings.clone(), Epoch(1), clock()).expect("opens");
    // Nothing is to be recorded in the second life.
    let settings = Settings { hard_free_permille: 1000, ..settings };
    for n in [1, 2] {
        store.create_stream(&identity(n)).expect("creates");
        let mut feed = Feed::new(1);
        for _ in 0..12 {
            wait(store.append(stream(n), feed.next())).expect("persisted");
        }
        wait(store.seal(stream(n), GapReason::PublisherLeft));
    }
    store.close().expect("closes");
    let (store, _) = Store::open(settings, Epoch(2), clock()).expect("opens");
    // The whole volume is wanted free: everything but each stream's newest block is named.
    let newest_but_one = Expiry {
        through: Position { epoch: Epoch(1), sequence: Sequence(10) },
        ends: ServerTime::from_micros(START_US + 10_050_000),
    };
    let all = [(stream(1), newest_but_one), (stream(2), newest_but_one)];
    let plan = |keep, beyond| store.reclaim_plan(Duration::from_secs(keep), beyond).expect("plans");
    // Blocks end 2 and 7 s before the end of the stream.
    assert_eq!(plan(3600, 0), Reclaim { drops: vec![], keeps_minimum: true, is_pressing: true });
    let first = Expiry {
        through: Position { epoch: Epoch(1), sequence: Sequence(5) },
        ends: ServerTime::from_micros(START_US + 5_050_000),
    };
    let both = vec![(stream(1), first), (stream(2), first)];
    assert_eq!(plan(7, 0), Reclaim { drops: both, keeps_minimum: true, is_pressing: true });
    assert_eq!(plan(3600, 1), Reclaim { drops: vec![(stream(1), first)], keeps_minimum: true, is_pressing: true });
    assert_eq!(plan(3600, store.stored_bytes().expect("asks")).drops, all);
    assert_eq!(plan(2, 0), Reclaim { drops: all.to_vec(), ..Reclaim::default() });
    for (stream, expiry) in plan(0, 0).drops {
        assert!(store.drop_through(stream, expiry.through).expect("drops") > 0);
        assert_eq!(store.select(stream, Select::After(Position::default()), 100).expect("selects").len(), 2);
    }
    assert_eq!(plan(0, 0), Reclaim::default());
}

#[test]
fn the_minimum_stays_whatever_was_recorded_until_half_way_to_the_hard_watermark() {
    for (hard_free_permille, dropped) in [(0, 0), (1000, 1)] {
        let marks = Settings { soft_free_permille: 1001, hard_free_permille, ..settings(Path::new("/data")) };
        let (core, _) = on_meddling_index_with(marks);
        append_now(&core, &mut Feed::new(1), 12);
        let plan = core.reclaim_plan(Duration::from_secs(3600), 1).expect("plans");
        assert_eq!((plan.drops.len(), plan.keeps_minimum), (dropped, true));
        assert_eq!(plan.is_pressing, dropped == 1);
    }
}

#[test]
fn a_stream_with_much_to_drop_is_told_a_part_at_a_time() {
    let (core, index) = on_meddling_index();
    let at = |n| Position { epoch: Epoch(1), sequence: Sequence(n) };
    let rows: Vec<_> =
        (1..=300).map(|n| crate::core::row_of(stream(1), at(n), &[], crate::index::BlockState::Sealed, 1)).collect();
    index.inner.put(&rows).expect("puts");
    let now = ServerTime::from_micros(START_US);
    let expiry = || core.expiry(stream(1), now, Some(Duration::ZERO), None).expect("asks").map(|one| one.through);
    assert_eq!(expiry(), Some(at(256)));
    index.inner.forget(stream(1), &(1..=256).map(at).collect::<Vec<_>>()).expect("forgets");
    assert_eq!(expiry(), Some(at(300)));
}

#[test]
fn append_to_an_unknown_or_deleted_stream_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, _) = Store::open(settings(folder.path()), Epoch(1), clock()).expect("opens");
    assert!(matches!(wait(store.append(stream(1), Feed::new(1).next())), Err(AppendError::Gone)));
    store.create_stream(&identity(1)).expect("creates");
    wait(store.append(stream(1), Feed::new(1).next())).expect("persisted");
    assert!(matches!(wait(store.append(stream(1), Feed::new(1).next())), Err(AppendError::Disk(_))), "out of order");
    store.delete_stream(stream(1)).expect("deletes");
    store.delete_stream(stream(1)).expect("nothing to do");
    assert!(matches!(wait(store.append(stream(1), Feed::new(1).next())), Err(AppendError::Gone)));
    assert!(matches!(store.create_stream(&identity(1)), Err(StoreError::Gone)));
}

#[test]
fn volume_below_the_hard_watermark_refuses() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = Settings { hard_free_permille: 1001, ..settings(folder.path()) };
    let (store, _) = Store::open(settings, Epoch(1), clock()).expect("opens");
    store.create_stream(&identity(1)).expect("creates");
    assert!(matches!(wait(store.append(stream(1), Feed::new(1).next())), Err(AppendError::Full)));
}

#[test]
fn check_and_rebuild_make_nothing_in_a_folder_that_is_no_store() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = settings(folder.path());
    assert!(matches!(Store::check(&settings, clock(), &mut |_| {}), Err(StoreError::Disk { .. })));
    assert!(matches!(Store::rebuild(&settings, clock(), &mut |_| {}), Err(StoreError::Disk { .. })));
    assert_eq!(std::fs::read_dir(folder.path()).expect("lists").count(), 0);
}

#[test]
#[ignore = "a measurement"]
fn acknowledgement_times_of_fifty_streams() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, _) =
        Store::open(Settings { tick: Duration::from_millis(50), ..settings(folder.path()) }, Epoch(1), clock())
            .expect("opens");
    let mut feeds: Vec<_> = (0..50).map(|n| (n, Feed { payload: 140_000, ..Feed::new(1) })).collect();
    for (n, _) in &feeds {
        store.create_stream(&identity(*n)).expect("creates");
    }
    let mut times = Vec::new();
    for _ in 0..20 {
        let start = std::time::Instant::now();
        let answers: Vec<_> = feeds.iter_mut().map(|(n, feed)| store.append(stream(*n), feed.next())).collect();
        for answer in answers {
            wait(answer).expect("persisted");
            times.push(start.elapsed());
        }
    }
    times.sort_unstable();
    println!(
        "p50 {:?}, p99 {:?}, most {:?}",
        times[times.len() / 2],
        times[times.len() * 99 / 100],
        times[times.len() - 1]
    );
}

#[test]
fn closed_store_gives_the_folder_back_while_others_still_hold_it() {
    let folder = tempfile::tempdir().expect("a folder");
    for life in 1..=20 {
        let (store, _) = Store::open(settings(folder.path()), Epoch(life), clock()).expect("opens at once");
        store.create_stream(&identity(1)).expect("creates");
        let reader = store.clone();
        let mut feed = Feed::new(life);
        let stored = wait(store.append(stream(1), feed.next())).expect("persisted");
        store.close().expect("closes");
        store.close().expect("a second time does nothing");
        let (next, _) = Store::open(settings(folder.path()), Epoch(life + 100), clock()).expect("opens");
        // Who holds the closed one still reads, and changes nothing any more.
        assert!(reader.read(&stored.place, 0..stored.info.body_len).is_ok());
        assert!(reader.delete_stream(stream(1)).is_err());
        assert!(reader.drop_through(stream(1), END).is_err());
        assert!(reader.create_stream(&identity(2)).is_err());
        next.delete_stream(stream(1)).expect("deletes");
        // Its rows, too, go behind the deletion.
        while !next.core().doomed.lock().expect("nobody panicked").is_empty() {
            std::thread::yield_now();
        }
        std::fs::remove_dir_all(folder.path().join("streams")).expect("begins anew");
    }
}

#[test]
fn newest_epoch_is_known_from_the_blocks_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let newest = || Store::newest_epoch(folder.path()).expect("lists");
    assert_eq!(newest(), Epoch(0), "nothing is there");
    let clock = clock();
    for (ordinal, life) in [(0, 3), (1, 9)] {
        let (store, _) = Store::open(settings(folder.path()), Epoch(life), clock.clone()).expect("opens");
        store.create_stream(&identity(1)).expect("creates");
        let mut feed = Feed { ordinal, ..Feed::new(life) };
        assert!(wait(store.append(stream(1), feed.next())).is_ok());
        store.close().expect("closes");
        assert_eq!(newest(), Epoch(life));
    }
    // Retention takes everything, and the index is lost too.
    let (store, _) = Store::open(settings(folder.path()), Epoch(10), clock).expect("opens");
    store.drop_through(stream(1), END).expect("drops");
    assert_eq!(store.bounds(stream(1)).expect("bounds").map(|bounds| bounds.blocks), None);
    store.close().expect("closes");
    std::fs::remove_file(folder.path().join("index.db")).expect("there is one");
    assert_eq!(newest(), Epoch(9));
}

#[test]
fn a_clock_set_back_neither_deletes_more_than_asked_nor_stops_deletion() {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = clock();
    let (store, _) = Store::open(settings(folder.path()), Epoch(1), clock.clone()).expect("opens");
    store.create_stream(&identity(1)).expect("creates");
    let mut feed = Feed::new(1);
    let mut acked = Vec::new();
    // The clock was set back after the first: all others have its time, and none lasts.
    for n in 0..6 {
        let mut fragment = feed.next();
        fragment.info.server_time = ServerTime::from_micros(START_US + 1_000_000);
        fragment.info.duration_us = if n == 0 { fragment.info.duration_us } else { 0 };
        acked.push(wait(store.append(stream(1), fragment)).expect("persisted"));
        wait(store.seal(stream(1), GapReason::PublisherLeft));
    }
    store.core().commit_index(true).expect("commits");
    let left = |store: &Store| store.select(stream(1), Select::After(Position::default()), 100).expect("selects").len();
    // One byte too many: one block goes, and not those that end in the same moment.
    for gone in 1..=2 {
        let bytes = store.bounds(stream(1)).expect("bounds").expect("some").bytes;
        let expiry = store.expiry(stream(1), clock.now(), None, Some(bytes - 1)).expect("asks").expect("too many");
        assert_eq!(expiry.through, acked[gone - 1].info.position);
        assert!(store.drop_through(stream(1), expiry.through).expect("drops") > 0);
        assert_eq!(left(&store), 6 - gone);
    }
    // What a start does, with an index made anew: nothing more goes.
    store.close().expect("closes");
    std::fs::remove_file(folder.path().join("index.db")).expect("there is one");
    let (store, _) = Store::open(settings(folder.path()), Epoch(2), clock.clone()).expect("opens");
    assert_eq!(store.drop_through(stream(1), acked[1].info.position).expect("drops"), 0);
    assert_eq!(left(&store), 4);
    // By age they stay until the clock has caught up, and then go.
    let age = Some(Duration::from_secs(10));
    clock.set(ServerTime::from_micros(START_US - 50_000_000));
    assert_eq!(store.expiry(stream(1), clock.now(), age, None).expect("asks"), None);
    clock.set(ServerTime::from_micros(START_US + 20_000_000));
    let expiry = store.expiry(stream(1), clock.now(), age, None).expect("asks").expect("old");
    assert_eq!(expiry.through, acked[5].info.position);
}

/// A small generator, so that each seed damages the same bytes each time.
fn numbers(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % below.max(1)
    }
}

/// The index is a cache: whatever became of it, the store opens and has what the blocks have; at the next start at the latest,
/// where only a look at a row shows the damage.
#[test]
fn an_index_that_is_damaged_anywhere_is_made_again() {
    const STREAMS: std::ops::Range<u128> = 1..4;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("index.db");
    let (store, _) = Store::open(settings(folder.path()), Epoch(1), clock()).expect("opens");
    for number in STREAMS {
        store.create_stream(&identity(number)).expect("creates");
        let mut feed = Feed::new(1);
        for _ in 0..20 {
            wait(store.append(stream(number), feed.next())).expect("persisted");
        }
    }
    store.close().expect("closes");
    drop(store);
    let whole = std::fs::read(&path).expect("the index");
    for seed in 0..60 {
        let mut next = numbers(seed + 1);
        let mut bytes = whole.clone();
        let page = next(bytes.len() / 4_096) * 4_096;
        match seed % 4 {
            0 => (0..3).for_each(|_| {
                let at = next(bytes.len());
                bytes[at] ^= 1 << next(8);
            }),
            1 => bytes[page..page + 4_096].fill(0),
            2 => bytes[page..page + 4_096].iter_mut().for_each(|byte| *byte = next(256) as u8),
            _ => bytes.truncate(next(bytes.len())),
        }
        SqliteIndex::discard(&path).expect("gone");
        std::fs::write(&path, &bytes).expect("damaged");
        let all_there = |life: u32| {
            let epoch = Epoch(2 + 2 * seed as u32 + life);
            let (store, _) = Store::open(settings(folder.path()), epoch, clock())
                .unwrap_or_else(|error| panic!("seed {seed}, life {life}: {error}"));
            let count = |number| store.select(stream(number), Select::After(Position::default()), 100);
            let all = STREAMS.map(count).all(|found| found.is_ok_and(|found| found.len() == 20));
            let _ = store.close();
            all
        };
        assert!(all_there(0) || all_there(1), "seed {seed}");
    }
}
