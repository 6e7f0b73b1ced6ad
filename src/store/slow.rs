//! One slow call: a call on one file, or to the index, is held, and whoever does not need it goes on. The order is what is tested:
//! others were answered while the call was held still.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex};

use media::{Epoch, GapReason, Position, ServerTime, StreamId};

use crate::blobs::FolderBlobs;
use crate::clock::ManualClock;
use crate::core::Ground;
use crate::disk::{Disk, File, Listed, Lock, RealDisk};
use crate::index::SqliteIndex;
use crate::layout::Layout;
use crate::store::{open_core, prepare};
use crate::testing::{END, Feed, START_US, identity, settings, stream, wait};
use crate::volume::Volume;
use crate::{AppendError, Select, Settings, Store, StoreError, Stored};

/// The calls that can be held.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Call {
    Sync,
    SyncDir,
    Rename,
    Unlink,
    /// The next append panics, once.
    Panic,
}

/// Calls of a kind on paths that contain a text do not return while they are held.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    held: HashMap<(Call, String), u32>,
}

impl Gate {
    fn hold(&self, call: Call, on: impl ToString) {
        self.0.0.lock().unwrap().held.insert((call, on.to_string()), 0);
    }

    /// Waits until a call is held here.
    fn reached(&self, call: Call) {
        let state = self.0.0.lock().unwrap();
        let reached = |state: &mut State| state.held.iter().any(|((kind, _), waiting)| *kind == call && *waiting > 0);
        drop(self.0.1.wait_while(state, |state| !reached(state)).unwrap());
    }

    fn release(&self) {
        self.0.0.lock().unwrap().held.clear();
        self.0.1.notify_all();
    }

    fn pass(&self, call: Call, path: &Path) {
        let mut state = self.0.0.lock().unwrap();
        let path = path.to_string_lossy();
        let Some(key) = state.held.keys().find(|(kind, on)| *kind == call && path.contains(on.as_str())).cloned()
        else {
            return;
        };
        if call == Call::Panic {
            state.held.remove(&key);
            drop(state);
            panic!("as asked for");
        }
        *state.held.get_mut(&key).unwrap() += 1;
        self.0.1.notify_all();
        drop(self.0.1.wait_while(state, |state| state.held.contains_key(&key)).unwrap());
    }
}

/// The real disk behind the gate.
struct GatedDisk(Gate);

struct GatedFile {
    gate: Gate,
    path: PathBuf,
    file: Arc<dyn File>,
}

impl Disk for GatedDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = RealDisk.create(path)?;
        Ok(Arc::new(GatedFile { gate: self.0.clone(), path: path.to_owned(), file }))
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        RealDisk.open(path)
    }
    fn cut(&self, path: &Path, len: u64) -> io::Result<()> {
        RealDisk.cut(path, len)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.pass(Call::Rename, to);
        RealDisk.rename(from, to)
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.0.pass(Call::Unlink, path);
        RealDisk.unlink(path)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.0.pass(Call::SyncDir, path);
        RealDisk.sync_dir(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<Listed>> {
        RealDisk.list(path)
    }
    fn space(&self, path: &Path) -> io::Result<(u64, u64)> {
        RealDisk.space(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        RealDisk.lock(path)
    }
}

impl File for GatedFile {
    fn append(&self, slices: &[&[u8]]) -> io::Result<()> {
        self.gate.pass(Call::Panic, &self.path);
        self.file.append(slices)
    }
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_at(bytes, offset)
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn sync(&self) -> io::Result<()> {
        self.gate.pass(Call::Sync, &self.path);
        self.file.sync()
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<Stored, AppendError>>>>;

/// A store of two streams, and their feeds.
struct Site {
    store: Store,
    clock: Arc<ManualClock>,
    gate: Gate,
    feeds: HashMap<StreamId, Feed>,
    epoch: u32,
    folder: tempfile::TempDir,
}

impl Site {
    fn new() -> Site {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(ServerTime::from_micros(START_US)));
        let gate = Gate::default();
        let store = open(folder.path(), 1, &clock, &gate);
        let feeds = [1, 2].map(|n| {
            store.create_stream(&identity(n)).unwrap();
            (stream(n), Feed::new(1))
        });
        Site { store, clock, gate, feeds: feeds.into(), epoch: 1, folder }
    }

    fn append(&mut self, n: u128) -> Answer {
        let fragment = self.feeds.get_mut(&stream(n)).unwrap().next();
        Box::pin(self.store.append(stream(n), fragment))
    }

    /// Appends to a stream and waits until that is acknowledged.
    fn record(&mut self, n: u128, count: usize) {
        for _ in 0..count {
            wait(self.append(n)).unwrap();
        }
    }

    fn listed(&self, n: u128) -> usize {
        self.store.select(stream(n), Select::After(Position::default()), 1000).unwrap().len()
    }

    fn restart(&mut self) {
        self.store.close().unwrap();
        self.epoch += 1;
        self.store = open(self.folder.path(), self.epoch, &self.clock, &self.gate);
        for feed in self.feeds.values_mut() {
            (feed.epoch, feed.sequence) = (self.epoch, 0);
        }
    }

    fn close(self) {
        self.gate.release();
        self.store.close().unwrap();
        drop(self.store);
        let clock = Arc::new(ManualClock::new(ServerTime::from_micros(START_US)));
        let report = Store::check(&settings(self.folder.path()), clock, &mut |_| {}).unwrap();
        assert_eq!(report.violations, []);
    }
}

fn open(root: &Path, epoch: u32, clock: &Arc<ManualClock>, gate: &Gate) -> Store {
    let layout = Layout::new(root);
    let disk: Arc<dyn Disk> = Arc::new(GatedDisk(gate.clone()));
    let lock = prepare(&*disk, &layout).unwrap();
    let index = Arc::new(SqliteIndex::open(&layout.index()).unwrap());
    let blobs = Arc::new(FolderBlobs::new(disk.clone(), layout.streams()));
    let ground = Ground { disk, blobs, index, clock: clock.clone() };
    // Ticks of no length: what is ready is ready at once.
    let settings = Settings { tick: std::time::Duration::ZERO, ..settings(root) };
    let (core, _) = open_core(ground, settings, Epoch(epoch), lock).unwrap();
    let core = Arc::new(core);
    Store::of(core.clone(), Volume::start(core).unwrap())
}

#[test]
fn a_slow_sync_holds_up_its_own_stream_only() {
    for (call, on) in [(Call::Sync, format!("{}/0", stream(1))), (Call::SyncDir, stream(1).to_string())] {
        let mut site = Site::new();
        site.gate.hold(call, on);
        let slow = site.append(1);
        site.gate.reached(call);
        // It fills blocks, which are sealed and put into the index meanwhile.
        site.record(2, 20);
        assert_eq!((site.listed(1), site.listed(2)), (0, 20));
        // What came meanwhile shares the next sync.
        let more: Vec<_> = (0..3).map(|_| site.append(1)).collect();
        site.record(2, 1);
        site.gate.release();
        wait(slow).unwrap();
        for answer in more {
            wait(answer).unwrap();
        }
        assert_eq!(site.listed(1), 4);
        site.close();
    }
}

#[test]
fn a_slow_clock_record_and_a_slow_seal_hold_up_their_own_stream_only() {
    let mut site = Site::new();
    site.record(1, 1);
    site.record(2, 1);
    site.gate.hold(Call::Sync, stream(1));
    site.clock.advance(20_000_000);
    site.store.core().pulse.watch.ring();
    site.gate.reached(Call::Sync);
    site.record(2, 9);
    site.gate.release();

    site.record(1, 1);
    site.gate.hold(Call::Sync, stream(1));
    let sealed = site.store.seal(stream(1), GapReason::PublisherLeft);
    site.gate.reached(Call::Sync);
    site.record(2, 9);
    site.gate.release();
    wait(sealed);
    site.close();
}

#[test]
fn slow_unlinks_of_retention_hold_up_nobody() {
    let mut site = Site::new();
    site.record(1, 30);
    site.record(2, 30);
    wait(site.store.seal(stream(1), GapReason::PublisherLeft));
    site.store.core().commit_index(true).unwrap();
    site.gate.hold(Call::Unlink, format!("{}/0", stream(1)));
    let dropping = std::thread::spawn({
        let store = site.store.clone();
        move || store.drop_through(stream(1), END)
    });
    site.gate.reached(Call::Unlink);
    // Both streams are recorded, sealed, and put into the index; the other one's retention gets on, too.
    site.record(1, 12);
    site.record(2, 12);
    site.store.core().commit_index(true).unwrap();
    assert!(site.store.drop_through(stream(2), END).unwrap() > 0);
    assert_eq!(site.listed(1), 12, "what is marked is not listed any more");
    site.gate.release();
    assert!(dropping.join().unwrap().unwrap() > 0);
    site.close();
}

#[test]
fn a_slow_note_of_what_was_dropped_holds_up_nobody() {
    let mut site = Site::new();
    site.record(1, 12);
    wait(site.store.seal(stream(1), GapReason::PublisherLeft));
    site.store.core().commit_index(true).unwrap();
    site.gate.hold(Call::Rename, "last");
    let dropping = std::thread::spawn({
        let store = site.store.clone();
        move || store.drop_through(stream(1), END)
    });
    site.gate.reached(Call::Rename);
    site.record(1, 12);
    site.record(2, 12);
    site.store.core().commit_index(true).unwrap();
    site.gate.release();
    dropping.join().unwrap().unwrap();
    site.close();
}

#[test]
fn a_deletion_is_answered_before_its_files_go_and_holds_up_nobody() {
    let mut site = Site::new();
    site.record(1, 40);
    let all = site.store.select(stream(1), Select::After(Position::default()), 1000).unwrap();
    site.gate.hold(Call::Unlink, format!("{}/0", stream(1)));
    site.store.delete_stream(stream(1)).unwrap();
    site.gate.reached(Call::Unlink);
    // Whatever is left of it on the disk, nobody reads it any more.
    for stored in &all {
        assert!(matches!(site.store.read(&stored.place, 0..stored.info.body_len), Err(StoreError::Gone)));
    }
    assert_eq!(site.listed(1), 0);
    assert!(site.store.bounds(stream(1)).unwrap().is_none() && site.store.head(stream(1)).unwrap().is_none());
    assert!(site.store.track_set(stream(1), all[0].info.track_set).unwrap().is_none());
    assert!(matches!(wait(site.append(1)), Err(AppendError::Gone)));
    assert!(matches!(site.store.create_stream(&identity(1)), Err(StoreError::Gone)));
    // Another stream, as one that is made again with the same name is, works at once.
    site.store.create_stream(&identity(3)).unwrap();
    site.feeds.insert(stream(3), Feed::new(1));
    site.record(3, 12);
    site.record(2, 12);
    site.store.core().commit_index(true).unwrap();
    site.store.delete_stream(stream(3)).unwrap();
    site.gate.release();
    site.close();
}

#[test]
fn a_deletion_goes_on_after_a_restart() {
    let mut site = Site::new();
    site.record(1, 100);
    site.gate.hold(Call::Unlink, format!("{}/0", stream(1)));
    site.store.delete_stream(stream(1)).unwrap();
    site.gate.reached(Call::Unlink);
    let closing = std::thread::spawn({
        let store = site.store.clone();
        move || store.close()
    });
    // What is closed takes nothing; so the deletion stops after the files that it is at.
    while wait(site.append(2)).is_ok() {}
    site.gate.release();
    closing.join().unwrap().unwrap();
    let blocks = |site: &Site| std::fs::read_dir(Layout::new(site.folder.path()).stream(stream(1))).unwrap().count();
    assert!(blocks(&site) > 1, "some are left");
    site.restart();
    while blocks(&site) > 1 {
        std::thread::yield_now();
    }
    site.record(2, 1);
    site.close();
}

#[test]
fn a_slow_index_holds_up_nobody() {
    let mut site = Site::new();
    site.record(1, 3);
    // As SQLite does while one of its syncs takes long: whoever changes the index waits.
    let store = site.store.clone();
    let writes = store.core().index_writes();
    let store = site.store.clone();
    let committing = std::thread::spawn(move || store.core().commit_index(true));
    site.record(1, 30);
    site.record(2, 30);
    assert_eq!((site.listed(1), site.listed(2)), (33, 30));
    drop(writes);
    committing.join().unwrap().unwrap();
    site.close();
}

#[test]
fn a_slow_sidecar_and_a_slow_tombstone_hold_up_nobody() {
    let mut site = Site::new();
    site.record(1, 2);
    // The block is left, so its footer goes beside it.
    site.gate.hold(Call::Panic, stream(1));
    site.gate.hold(Call::Rename, ".idx");
    wait(site.append(1)).unwrap_err();
    site.gate.reached(Call::Rename);
    site.record(1, 12);
    site.record(2, 12);
    site.gate.release();
    site.gate.hold(Call::Rename, "DELETED");
    let deleting = std::thread::spawn({
        let store = site.store.clone();
        move || store.delete_stream(stream(1))
    });
    site.gate.reached(Call::Rename);
    site.record(1, 6);
    site.record(2, 6);
    site.gate.release();
    deleting.join().unwrap().unwrap();
    site.close();
}

#[test]
fn streams_of_one_identity_made_at_once_are_one() {
    let site = Site::new();
    site.gate.hold(Call::Rename, "stream.json");
    let making: Vec<_> = (0..4)
        .map(|_| {
            let store = site.store.clone();
            std::thread::spawn(move || store.create_stream(&identity(7)))
        })
        .collect();
    site.gate.reached(Call::Rename);
    site.gate.release();
    for made in making {
        made.join().unwrap().unwrap();
    }
    assert!(site.store.identities().unwrap().contains(&identity(7)));
    site.close();
}

#[test]
fn a_panic_of_a_writer_is_a_disk_error_of_its_stream() {
    let mut site = Site::new();
    site.record(1, 2);
    site.record(2, 2);
    // More often than there are threads.
    for round in 0..20 {
        site.gate.hold(Call::Panic, stream(1));
        let answer = wait(site.append(1));
        assert!(matches!(answer, Err(AppendError::Disk(_))), "{answer:?}");
        site.record(1, 1);
        site.record(2, 1);
        assert_eq!((site.listed(1), site.listed(2)), (3 + round, 3 + round));
    }
    assert_eq!(site.store.stuck(), []);
    site.close();
}

#[test]
fn a_lost_data_folder_is_said() {
    let site = Site::new();
    let moved = site.folder.path().with_extension("moved");
    std::fs::rename(site.folder.path(), &moved).unwrap();
    let is_gone =
        |store: &Store| store.stuck().iter().any(|stuck| stuck.part == "data_folder" && stuck.stops_recording);
    while !is_gone(&site.store) {
        site.store.core().pulse.watch.ring();
        std::thread::yield_now();
    }
    std::fs::rename(&moved, site.folder.path()).unwrap();
    while is_gone(&site.store) {
        site.store.core().pulse.watch.ring();
        std::thread::yield_now();
    }
    site.close();
}
