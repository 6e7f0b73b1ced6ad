//! The store without its threads: everything in it runs when called and is done when it returns, so that a
//! simulation can drive it step by step.
//!
//! Lock order: `lock`, `folders`, `unlinking` or a stream's writer, then `index_writes`, then `writers`, then `memory`. An acknowledgement takes
//! its stream's writer, `writers` and `memory`: no call to the disk or the index is made under the last two, and under
//! `index_writes` only calls to the index.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use media::{Epoch, FragmentNumber, GapReason, Position, ServerTime, StreamId, TrackSet, TrackSetId};

use crate::blobs::Blobs;
use crate::disk::{Disk, Lock};
use crate::index::{BlockRow, BlockState, Index};
use crate::layout::{self, Layout, StoreFile, disk_error};
use crate::packed::{self, Entry};
use crate::pulse::Pulse;
use crate::read::OpenBlobs;
use crate::reserve::Reserve;
use crate::track_sets::TrackSets;
use crate::turns::Turns;
use crate::writer::Writer;
use crate::{Clock, Place, Settings, StoreError, Stored};

/// What a store stands on.
pub(crate) struct Ground {
    pub disk: Arc<dyn Disk>,
    pub blobs: Arc<dyn Blobs>,
    pub index: Arc<dyn Index>,
    pub clock: Arc<dyn Clock>,
}

/// The store of one data folder.
pub(crate) struct Core {
    pub ground: Ground,
    pub settings: Settings,
    pub layout: Layout,
    pub epoch: Epoch,
    pub file: StoreFile,
    /// What the index does not answer for: open blocks, and sealed ones whose row is not committed.
    memory: RwLock<HashMap<StreamId, StreamMemory>>,
    writers: Mutex<HashMap<StreamId, Arc<Mutex<Writer>>>>,
    /// One writer of the index at a time; held while blocks move between memory and index.
    index_writes: Mutex<()>,
    /// Making a stream's folder, and its tombstone: one at a time.
    pub folders: Turns,
    /// Small files that come and blocks that go in a stream's folder beside its writer: one at a time.
    pub unlinking: Turns,
    /// Deleted streams that have files left.
    pub doomed: Mutex<BTreeSet<StreamId>>,
    pub pulse: Pulse,
    pub open_blobs: OpenBlobs,
    pub track_sets: TrackSets,
    /// The volume is below the hard watermark: appends are refused.
    pub refuses: AtomicBool,
    pub reserve: Reserve,
    /// Held until the store is closed, or nobody has it any more. What changes files of its own holds it for reading.
    lock: RwLock<Option<Box<dyn Lock>>>,
    /// How long each sync of fragments took.
    pub sync_seconds: metrics::Histogram,
}

/// The blocks of a stream that only memory knows, by their first position. A stream without an entry does not exist.
pub(crate) type StreamMemory = BTreeMap<Position, MemoryBlock>;

/// A block that the index does not answer for yet.
pub(crate) struct MemoryBlock {
    /// Persisted fragments: synced, in order.
    pub entries: Vec<Entry>,
    pub track_set: (TrackSetId, Arc<TrackSet>),
    /// Bytes of the file known to be on disk.
    pub synced_bytes: u64,
    pub ended: Option<GapReason>,
    pub phase: Phase,
    /// Something changed since the row was put.
    pub changed: bool,
    /// When the last record was written.
    pub written: ServerTime,
}

/// Where a block is on its way to the index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// Being written.
    Open,
    /// A write or sync of it failed: its footer goes into a sidecar, nothing more into it.
    NeedsSidecar,
    /// Footer on disk: its row may be put.
    Sealed,
}

impl Core {
    pub(crate) fn new(
        ground: Ground,
        settings: Settings,
        epoch: Epoch,
        file: StoreFile,
        lock: Box<dyn Lock>,
        streams: Vec<StreamId>,
    ) -> Core {
        Core {
            layout: Layout::new(&settings.root),
            ground,
            settings,
            epoch,
            file,
            memory: RwLock::new(streams.into_iter().map(|stream| (stream, BTreeMap::new())).collect()),
            writers: Mutex::default(),
            index_writes: Mutex::default(),
            folders: Turns::default(),
            unlinking: Turns::default(),
            doomed: Mutex::default(),
            pulse: Pulse::default(),
            open_blobs: OpenBlobs::default(),
            track_sets: TrackSets::default(),
            refuses: AtomicBool::new(false),
            reserve: Reserve::default(),
            lock: RwLock::new(Some(lock)),
            sync_seconds: metrics::histogram!("kinora_store_sync_seconds"),
        }
    }

    /// Leave to change files and rows, as long as the guard lives; an error once the store is closed.
    pub(crate) fn leave_to_change(&self) -> Result<RwLockReadGuard<'_, Option<Box<dyn Lock>>>, StoreError> {
        let lock = self.lock.read().unwrap_or_else(PoisonError::into_inner);
        if lock.is_some() {
            Ok(lock)
        } else {
            Err(disk_error("change the store", std::io::Error::other("it is closed")))
        }
    }

    /// Gives the folder back, once every change under way is done.
    pub(crate) fn release(&self) {
        drop(self.lock.write().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// What readers see of the open blocks. Each change under it is complete before anything could panic.
    pub(crate) fn memory(&self) -> RwLockReadGuard<'_, HashMap<StreamId, StreamMemory>> {
        self.memory.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is such a stream. A deleted one is gone for readers before its files are.
    pub(crate) fn exists(&self, stream: StreamId) -> bool {
        self.memory().contains_key(&stream)
    }

    pub(crate) fn memory_mut(&self) -> RwLockWriteGuard<'_, HashMap<StreamId, StreamMemory>> {
        self.memory.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn index_writes(&self) -> MutexGuard<'_, ()> {
        self.index_writes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stream's writer; none when the stream does not exist.
    pub(crate) fn writer(&self, stream: StreamId) -> Option<Arc<Mutex<Writer>>> {
        let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: a deletion takes the stream from memory before it forgets the writer, so none is left behind it.
        if !self.memory().contains_key(&stream) {
            return None;
        }
        Some(writers.entry(stream).or_insert_with(|| Arc::new(Mutex::new(Writer::new(stream)))).clone())
    }

    /// Takes the stream's writer out; whoever works with it still has it.
    pub(crate) fn forget_writer(&self, stream: StreamId) -> Option<Arc<Mutex<Writer>>> {
        self.writers.lock().unwrap_or_else(PoisonError::into_inner).remove(&stream)
    }

    /// Streams that have a block of this kind in memory.
    pub(crate) fn streams_with(&self, wanted: impl Fn(&MemoryBlock) -> bool) -> Vec<StreamId> {
        let memory = self.memory();
        memory.iter().filter(|(_, blocks)| blocks.values().any(&wanted)).map(|(stream, _)| *stream).collect()
    }

    /// Puts the rows of sealed blocks and, when `checkpoint`, of open ones that changed. Blocks whose row is in leave memory.
    ///
    /// A row that cannot be put stays here and is tried again: readers miss nothing.
    pub(crate) fn commit_index(&self, checkpoint: bool) -> Result<(), StoreError> {
        self.write_sidecars();
        let _writes = self.index_writes();
        let mut rows = Vec::new();
        for (stream, blocks) in self.memory().iter() {
            for (first, block) in blocks {
                match block.phase {
                    Phase::Sealed => rows.push(block.row(*stream, *first)),
                    _ if checkpoint && block.changed && !block.entries.is_empty() => {
                        rows.push(block.row(*stream, *first));
                    }
                    _ => {}
                }
            }
        }
        if rows.is_empty() {
            return Ok(());
        }
        self.ground.index.put(&rows)?;
        let mut memory = self.memory_mut();
        for row in rows {
            let Some(blocks) = memory.get_mut(&row.stream) else { continue };
            if row.state == BlockState::Open {
                if let Some(block) = blocks.get_mut(&row.first) {
                    block.changed = block.synced_bytes != row.synced_bytes;
                }
            } else {
                blocks.remove(&row.first);
            }
        }
        Ok(())
    }

    /// Gives blocks that may not be written any more their footer beside them. One that fails is tried again.
    fn write_sidecars(&self) {
        let mut waiting = Vec::new();
        for (stream, blocks) in self.memory().iter() {
            for (first, block) in blocks.iter().filter(|(_, block)| block.phase == Phase::NeedsSidecar) {
                waiting.push((*stream, *first, block.entries.clone(), block.ended, block.synced_bytes));
            }
        }
        for (stream, first, entries, ended, data_len) in waiting {
            let _turn = self.unlinking.take(stream);
            if !self.exists(stream) {
                // Deleted meanwhile.
                continue;
            }
            let footer = crate::block::Footer { entries, ended, quarantined: false, data_len, data_crc: 0 };
            match self.write_sidecar(stream, first, &footer) {
                Ok(()) => {
                    if let Some(block) = self.memory_mut().get_mut(&stream).and_then(|blocks| blocks.get_mut(&first)) {
                        block.phase = Phase::Sealed;
                    }
                }
                Err(error) => tracing::warn!(%stream, %error, "sidecar not written, it is tried again"),
            }
        }
    }

    /// Writes a block's sidecar footer, durably.
    pub(crate) fn write_sidecar(
        &self,
        stream: StreamId,
        first: Position,
        footer: &crate::block::Footer,
    ) -> std::io::Result<()> {
        crate::recover::write_sidecar(&*self.ground.disk, &self.layout, stream, first, footer)
    }

    /// The public number of a fragment.
    pub(crate) fn number(&self, stream: StreamId, position: Position, server_time: ServerTime) -> FragmentNumber {
        let server_ms = u64::try_from(server_time.micros().div_euclid(1000)).unwrap_or(0);
        let mut hash = crate::siphash::SipHasher::new(self.file.number_key.as_u128());
        hash.write(stream.0.as_bytes());
        hash.write(&position.epoch.0.to_be_bytes());
        hash.write(&position.sequence.0.to_be_bytes());
        FragmentNumber::new(position, server_ms, hash.finish() as u32)
    }

    /// Bytes free and in all on the volume.
    pub(crate) fn space(&self) -> Result<(u64, u64), StoreError> {
        let root: &Path = self.layout.root();
        self.ground.disk.space(root).map_err(|error| disk_error("ask for free space", error))
    }

    /// Looks whether the data folder is still the one that was opened.
    pub(crate) fn watch_folder(&self) {
        let gone = &self.pulse.folder_gone;
        let outcome = layout::read_store_file(&*self.ground.disk, &self.layout);
        let is_ours = outcome.as_ref().is_ok_and(|file| *file == self.file);
        match (is_ours, gone.since()) {
            (true, Some(_)) => {
                tracing::warn!("the data folder is back");
                gone.end();
            }
            (false, None) => {
                let error = outcome.err().map(|error| error.to_string()).unwrap_or("it is another store's".into());
                tracing::error!(folder = %self.layout.root().display(), error, "the data folder is gone");
                gone.begin();
            }
            _ => {}
        }
    }

    /// Looks at the free space; below the hard watermark appends are refused from now on.
    pub(crate) fn watch_space(&self) {
        if let Ok((free, all)) = self.space() {
            self.tend_reserve(free, all);
            let refuses = u128::from(free) * 1000 < u128::from(all) * u128::from(self.settings.hard_free_permille);
            if self.refuses.swap(refuses, std::sync::atomic::Ordering::Relaxed) != refuses {
                tracing::warn!(free, all, refuses, "free space crossed the hard watermark");
            }
        }
    }
}

impl MemoryBlock {
    /// Its row: open until its footer is on disk.
    fn row(&self, stream: StreamId, first: Position) -> BlockRow {
        let state = if self.phase == Phase::Sealed { BlockState::Sealed } else { BlockState::Open };
        row_of(stream, first, &self.entries, state, self.synced_bytes)
    }
}

/// The row that these fragments make.
pub(crate) fn row_of(
    stream: StreamId,
    first: Position,
    entries: &[Entry],
    state: BlockState,
    synced_bytes: u64,
) -> BlockRow {
    let infos = || entries.iter().map(|entry| &entry.info);
    let start = entries.first().map(|entry| &entry.info);
    BlockRow {
        stream,
        first,
        last: entries.last().map_or(first, |entry| entry.info.position),
        first_ordinal: start.map(|info| info.ordinal).unwrap_or_default(),
        count: u32::try_from(entries.len()).unwrap_or(u32::MAX),
        discontinuities: start.map_or(0, |info| info.discontinuities),
        producer_from: infos().map(|info| info.producer_time).min().unwrap_or_default(),
        producer_to: infos().map(|info| info.producer_end()).max().unwrap_or_default(),
        server_from: infos().map(|info| info.server_time).min().unwrap_or_default(),
        server_to: infos().map(|info| info.server_end()).max().unwrap_or_default(),
        synced_bytes,
        state,
        fragments: (state != BlockState::Open).then(|| packed::encode(entries)),
    }
}

/// The fragments that a row carries. None for an open block; damage is the index's fault and is said so.
pub(crate) fn entries_of(row: &BlockRow) -> Result<Vec<Entry>, StoreError> {
    entries_where(row, |_| true)
}

/// The fragments that a row carries and that `keep` wants.
pub(crate) fn entries_where(row: &BlockRow, keep: impl FnMut(&Entry) -> bool) -> Result<Vec<Entry>, StoreError> {
    let Some(bytes) = &row.fragments else { return Ok(Vec::new()) };
    packed::decode_where(bytes, keep).map_err(|error| {
        StoreError::Index(crate::index::IndexError::Damaged {
            stream: row.stream,
            first: row.first,
            what: error.to_string(),
        })
    })
}

/// A fragment as readers get it.
pub(crate) fn stored(stream: StreamId, block: Position, entry: &Entry) -> Stored {
    Stored { info: entry.info.clone(), place: Place { stream, block, body_offset: entry.body_offset } }
}
