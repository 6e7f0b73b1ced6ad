//! The store upon a disk that forgets, tears, fails and fills up: the promises of the store, each with a test of
//! its name.

mod model;
mod promises;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_channel::oneshot;
use media::{Epoch, Fragment, GapReason, Position, ServerTime};

use crate::blobs::FolderBlobs;
use crate::check::{CheckReport, check, dump};
use crate::clock::ManualClock;
use crate::core::{Core, Ground};
use crate::disk::{Disk, SimulatedDisk};
use crate::index::{Index, MemoryIndex};
use crate::layout::Layout;
use crate::queue::Work;
use crate::store::{open_core, prepare, rebuild};
use crate::testing::{Feed, START_US, identity, settings, stream};
use crate::writer::Job;
use crate::{AppendError, RecoveryReport, Select, Settings, StoreError, Stored};

/// What becomes of the index when the power goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum IndexFate {
    /// Its last transaction is there.
    Kept,
    /// Its last transactions are not: it is as it was at the last [`World::remember_index`].
    Old,
    /// The file is gone.
    Lost,
}

/// One stream on one disk, through many lives.
struct World {
    disk: SimulatedDisk,
    index: Arc<MemoryIndex>,
    old_index: Arc<MemoryIndex>,
    clock: Arc<ManualClock>,
    epoch: u32,
    feed: Feed,
    core: Option<Core>,
    /// What was acknowledged, and the bytes.
    acked: Vec<(Stored, Bytes)>,
    /// What was handed over, acknowledged or not.
    given: Vec<Fragment>,
}

fn root() -> PathBuf {
    PathBuf::from("/data")
}

fn small() -> Settings {
    settings(&root())
}

impl World {
    fn new(seed: u64) -> World {
        World {
            disk: SimulatedDisk::new(seed),
            index: Arc::default(),
            old_index: Arc::default(),
            clock: Arc::new(ManualClock::new(ServerTime::from_micros(START_US))),
            epoch: 0,
            feed: Feed::new(0),
            core: None,
            acked: Vec::new(),
            given: Vec::new(),
        }
    }

    /// A world whose stream exists.
    fn with_stream(seed: u64) -> World {
        let mut world = World::new(seed);
        world.open().expect("a healthy disk");
        world.core().create_stream(&identity(1)).expect("a healthy disk");
        world
    }

    fn core(&self) -> &Core {
        self.core.as_ref().expect("opened")
    }

    fn ground(&self) -> Ground {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let blobs = Arc::new(FolderBlobs::new(disk.clone(), Layout::new(&root()).streams()));
        Ground { disk, blobs, index: self.index.clone(), clock: self.clock.clone() }
    }

    /// Starts a life: a new epoch, recovery, and the feed goes on where the store says.
    fn open(&mut self) -> Result<RecoveryReport, StoreError> {
        self.core = None;
        self.epoch += 1;
        let lock = prepare(&self.disk, &Layout::new(&root()))?;
        let (core, report) = open_core(self.ground(), small(), Epoch(self.epoch), lock)?;
        core.finish_deletions();
        let head = core.head(stream(1))?;
        self.feed.epoch = self.epoch;
        self.feed.sequence = 0;
        self.feed.ordinal = head.as_ref().map_or(0, |head| head.next_ordinal.0);
        self.feed.discontinuities = head.as_ref().map_or(0, |head| head.discontinuities);
        self.feed.break_next = head.map(|head| head.ended);
        self.core = Some(core);
        Ok(report)
    }

    /// Hands `count` fragments over in one tick; the answers.
    fn append(&mut self, count: usize) -> Vec<Result<Stored, AppendError>> {
        let first_ordinal = self.feed.ordinal;
        let mut work = Vec::new();
        let mut answers = Vec::new();
        for _ in 0..count {
            let fragment = self.feed.next();
            self.clock.set(fragment.info.server_time);
            let (reply, answer) = oneshot::channel();
            self.given.push(fragment.clone());
            work.push(Work::Append(Job { fragment: fragment.clone(), reply }));
            answers.push((answer, fragment));
        }
        let core = self.core.as_ref().expect("opened");
        core.work(stream(1), work);
        let outcome = answers.into_iter().map(|(mut answer, fragment)| {
            let answer = answer.try_recv().expect("answered").expect("answered when work returns");
            if let Ok(stored) = &answer {
                assert_eq!(stored.info, fragment.info);
                self.acked.push((stored.clone(), fragment.body));
            }
            answer
        });
        let outcome: Vec<_> = outcome.collect();
        if outcome.iter().any(Result::is_err) {
            // What was refused never was: its ordinals go to others, its positions to nobody.
            let last = self.acked.last().map(|(stored, _)| &stored.info);
            self.feed.ordinal = last.map_or(0, |info| info.ordinal.0 + 1).max(first_ordinal);
        }
        self.commit(false);
        outcome
    }

    fn seal(&self, why: GapReason) {
        let (done, mut answer) = oneshot::channel();
        self.core().work(stream(1), vec![Work::Seal(why, done)]);
        assert!(answer.try_recv().expect("answered").is_some());
        self.commit(true);
    }

    fn tick_clocks(&self) {
        for stream in self.core().quiet_streams() {
            self.core().tick_clock(stream);
        }
    }

    fn seal_all(&self) {
        for stream in self.core().open_streams() {
            self.core().work(stream, vec![Work::Seal(GapReason::ServerStopped, oneshot::channel().0)]);
        }
    }

    /// Puts rows, while there is power.
    fn commit(&self, checkpoint: bool) {
        if !self.disk.is_dead() {
            let _ = self.core().commit_index(checkpoint);
        }
    }

    /// The index as it is now is what a later crash may leave.
    fn remember_index(&mut self) {
        self.old_index = Arc::new(copy(&*self.index));
    }

    /// The power goes and comes back.
    fn crash(&mut self, fate: IndexFate) {
        self.core = None;
        self.disk.crash();
        match fate {
            IndexFate::Kept => {}
            IndexFate::Old => self.index = Arc::new(copy(&*self.old_index)),
            IndexFate::Lost => self.index = Arc::default(),
        }
    }

    fn all(&self) -> Vec<Stored> {
        self.core().select(stream(1), Select::After(Position::default()), usize::MAX).expect("selects")
    }

    fn check(&self) -> CheckReport {
        check(&self.ground(), &Layout::new(&root()), &mut |_| {}).expect("checks")
    }

    /// Everything acknowledged is listed and equal, everything listed is whole, in order, and was given once.
    fn verify(&self) {
        let all = self.all();
        for pair in all.windows(2) {
            assert!(pair[0].info.position < pair[1].info.position, "positions rise");
            assert!(pair[0].info.ordinal < pair[1].info.ordinal, "ordinals rise: {:?}", pair);
        }
        for (stored, body) in &self.acked {
            assert!(all.contains(stored), "{:?} was acknowledged and is not listed", stored.info.position);
            let read =
                self.core().read(&stored.place, 0..stored.info.body_len).expect("acknowledged bytes are readable");
            assert_eq!(read, body, "{:?} is altered", stored.info.position);
        }
        for stored in &all {
            let given = self.given.iter().find(|fragment| fragment.info == stored.info).expect("it was given");
            let read = self.core().read(&stored.place, 0..stored.info.body_len).expect("listed bytes are readable");
            assert_eq!(read, given.body);
        }
        assert_eq!(self.disk.misuses(), Vec::<String>::new());
    }

    /// Each invariant holds, and an index made from the blocks alone is the one there is.
    fn verify_at_rest(&mut self) {
        assert_eq!(self.check().violations, []);
        let before = dump(&*self.index).expect("dumps");
        self.core = None;
        self.index = Arc::default();
        let lock = prepare(&self.disk, &Layout::new(&root())).expect("free");
        rebuild(self.ground(), small(), lock, &mut |_| {}).expect("rebuilds");
        assert_eq!(dump(&*self.index).expect("dumps"), before);
    }
}

fn copy(index: &dyn Index) -> MemoryIndex {
    let copy = MemoryIndex::default();
    for stream in index.streams().expect("memory") {
        let rows = index.after(stream, Position::default(), usize::MAX).expect("memory");
        copy.put(&rows).expect("memory");
    }
    copy.put(&index.deleting().expect("memory")).expect("memory");
    copy
}

/// A short run that meets everything: ticks of several fragments, rotation, sealing, checkpoints, a quiet time.
fn run(world: &mut World) {
    world.append(1);
    world.append(3);
    world.commit(true);
    world.remember_index();
    world.append(4);
    world.seal(GapReason::PublisherLeft);
    world.append(2);
    world.clock.advance(20_000_000);
    world.tick_clocks();
    world.append(1);
    world.commit(true);
    world.append(2);
}
