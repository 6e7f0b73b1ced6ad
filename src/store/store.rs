//! The store: what the rest of the server sees of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use media::{
    Epoch, Fragment, FragmentNumber, GapReason, Ordinal, Position, ServerTime, StreamId, StreamName, TrackSet,
    TrackSetId,
};

use crate::blobs::FolderBlobs;
use crate::check;
use crate::core::{Core, Ground};
use crate::disk::{Disk, Lock, RealDisk};
use crate::index::{Index, IndexError, SqliteIndex};
use crate::layout::{Layout, disk_error, open_store_file, stream_folders};
use crate::volume::Volume;
use crate::{CheckReport, Clock, Expiry, Place, Progress, Reclaim, Select, Stored, Stuck};

/// How a store behaves; every value has the default that `kinora.toml` documents.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The data folder: blocks lie under `streams/<stream id>/`.
    pub root: PathBuf,
    /// A block is sealed when it spans this much server time. Default 5 min.
    pub rotate_after: Duration,
    /// A block is sealed before it grows beyond this many bytes. Default 64 MiB.
    pub rotate_bytes: u64,
    /// Fragments that close within a tick share a sync. Default 50 ms.
    pub tick: Duration,
    /// Free share of the volume, in thousandths, under which old blocks are dropped. Default 150, ...
    pub soft_free_permille: u32,
    /// ... and under which ingest is refused. Default 50.
    pub hard_free_permille: u32,
}

/// What every stream's folder says of it, so that a rebuild finds identity again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamIdentity {
    /// Its id.
    pub id: StreamId,
    /// Its name.
    pub name: StreamName,
    /// When it was created.
    pub created: ServerTime,
}

/// Where a stream's next fragment continues.
#[derive(Clone, Debug)]
pub struct StreamHead {
    /// Position of the last persisted fragment.
    pub position: Position,
    /// The next ordinal.
    pub next_ordinal: Ordinal,
    /// Discontinuities so far.
    pub discontinuities: u64,
    /// Its track set's id and tracks.
    pub track_set: (TrackSetId, Arc<TrackSet>),
    /// End of the last fragment on the stream's timeline, in microseconds: the latest over its tracks.
    pub end_us: i64,
    /// The last persisted fragment.
    pub last: Stored,
    /// Why it ended there: `ServerStopped`, `ServerCrashed`, `PublisherLeft` ...
    pub ended: GapReason,
}

/// First and last of what is stored.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Oldest fragment.
    pub first: Stored,
    /// Newest fragment.
    pub last: Stored,
    /// Bytes on disk.
    pub bytes: u64,
    /// Count of blocks.
    pub blocks: u64,
}

/// What recovery found and did.
#[derive(Clone, Debug, Default)]
pub struct RecoveryReport {
    /// Blocks that were open, now sealed.
    pub sealed: u32,
    /// Bytes of never-acknowledged tails cut off.
    pub cut_bytes: u64,
    /// Blocks put in quarantine.
    pub quarantined: u32,
    /// Blocks on disk that the index did not know.
    pub found: u32,
    /// Blocks in the index whose file is missing.
    pub lost: u32,
}

/// Why a fragment was not persisted.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// The volume is full.
    #[error("append: volume full")]
    Full,
    /// The disk refused twice in a row; the fragment is not stored.
    #[error("append: {0}")]
    Disk(String),
    /// The stream was deleted or the store is closing.
    #[error("append: stream is gone")]
    Gone,
}

/// Why a read or a change of the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The data folder is in use by another process.
    #[error("open store: {0} is in use by another process, most likely `kinora serve`: stop that one first")]
    Locked(PathBuf),
    /// Written by a newer version.
    #[error("open store: data has format {found}, this version knows up to {known}")]
    Newer {
        /// The format found.
        found: u32,
        /// The newest we know.
        known: u32,
    },
    /// The bytes are not what was written. They are never served.
    #[error("read {place:?}: damaged")]
    Damaged {
        /// Where.
        place: Place,
    },
    /// Deleted by retention or by hand.
    #[error("read: gone")]
    Gone,
    /// The disk refused.
    #[error("{what}: {source}")]
    Disk {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The index refused.
    #[error(transparent)]
    Index(#[from] crate::index::IndexError),
}

impl Settings {
    /// The defaults, for this data folder.
    pub fn new(root: PathBuf) -> Settings {
        Settings {
            root,
            rotate_after: Duration::from_secs(300),
            rotate_bytes: 64 << 20,
            tick: Duration::from_millis(50),
            soft_free_permille: 150,
            hard_free_permille: 50,
        }
    }
}

/// The store of one data folder. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    core: Arc<Core>,
    volume: Arc<Volume>,
}

impl Store {
    /// Opens the data folder on the real disk with the SQLite index, recovers what a crash left, and serves.
    ///
    /// `epoch` was taken from the catalog for this start and is synced there already.
    ///
    /// An index that is damaged is discarded and rebuilt from the blocks.
    ///
    /// # Errors
    /// When the folder is in use, was written by a newer version, or the disk refuses.
    pub fn open(
        settings: Settings,
        epoch: Epoch,
        clock: Arc<dyn Clock>,
    ) -> Result<(Store, RecoveryReport), StoreError> {
        let layout = Layout::new(&settings.root);
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let lock: Arc<dyn Lock> = prepare(&*disk, &layout)?.into();
        let blobs = Arc::new(FolderBlobs::new(disk.clone(), layout.streams()));
        let open = |index| {
            let ground = Ground { disk: disk.clone(), blobs: blobs.clone(), index, clock: clock.clone() };
            open_core(ground, settings.clone(), epoch, Box::new(lock.clone()))
        };
        let (core, report) = match open(open_index(&layout)?) {
            // Damage that opening it does not show: the blocks fill a new one.
            Err(StoreError::Index(error @ (IndexError::Corrupt(_) | IndexError::Damaged { .. }))) => {
                open(remade_index(&layout, &error)?)?
            }
            opened => opened?,
        };
        let core = Arc::new(core);
        let volume = Volume::start(core.clone()).map_err(|error| disk_error("start threads", error))?;
        Ok((Store { core, volume: Arc::new(volume) }, report))
    }

    /// Lets go of the room that is kept for deletion when the volume of the store at `root` is full to the last byte, so that
    /// databases can be opened on it; whether it did. For before anything else is opened.
    ///
    /// # Errors
    /// What the disk refused.
    pub fn make_room(root: &Path) -> std::io::Result<bool> {
        crate::reserve::make_room(&RealDisk, root)
    }

    /// The epoch of this life.
    pub fn epoch(&self) -> Epoch {
        self.core.epoch
    }

    /// Makes a stream's folder, durably. Does nothing when it exists.
    ///
    /// # Errors
    /// What the disk refused.
    pub fn create_stream(&self, identity: &StreamIdentity) -> Result<(), StoreError> {
        let _leave = self.core.leave_to_change()?;
        self.core.create_stream(identity)
    }

    /// Every stream folder found, by its `stream.json`. A folder whose file cannot be read is passed over and logged.
    ///
    /// # Errors
    /// What the disk refused.
    pub fn identities(&self) -> Result<Vec<StreamIdentity>, StoreError> {
        self.core.identities()
    }

    /// Writes the tombstone, durably. A thread of the store unlinks the stream's blocks afterwards, or that of the next start.
    ///
    /// # Errors
    /// What the disk refused.
    pub fn delete_stream(&self, stream: StreamId) -> Result<(), StoreError> {
        let _leave = self.core.leave_to_change()?;
        self.core.delete_stream(stream)
    }

    /// Where the stream's next fragment continues; none for a stream that never had one.
    ///
    /// # Errors
    /// What the disk or the index refused.
    pub fn head(&self, stream: StreamId) -> Result<Option<StreamHead>, StoreError> {
        self.core.head(stream)
    }

    /// Appends a fragment and resolves when it is on stable storage and readers can find it.
    ///
    /// Fragments of a stream must come in order. Dropping the future does not undo the append.
    pub fn append(
        &self,
        stream: StreamId,
        fragment: Fragment,
    ) -> impl Future<Output = Result<Stored, AppendError>> + Send + 'static {
        let answer = self.volume.append(stream, fragment);
        let failed = || Err(AppendError::Disk("the stream's writer failed".to_owned()));
        async move { answer.await.unwrap_or_else(|_| failed()) }
    }

    /// Seals the stream's open block, if it has one, and resolves when that is done. `why` is what the next block's
    /// first record will tell.
    pub fn seal(&self, stream: StreamId, why: GapReason) -> impl Future<Output = ()> + Send + 'static {
        let answer = self.volume.seal(stream, why);
        async move {
            // A store that closes seals everything anyway.
            let _ = answer.await;
        }
    }

    /// Persisted fragments, at most `limit`.
    ///
    /// # Errors
    /// What the index refused.
    pub fn select(&self, stream: StreamId, select: Select, limit: usize) -> Result<Vec<Stored>, StoreError> {
        self.core.select(stream, select, limit)
    }

    /// The persisted fragment at `position`; none when it is not there.
    ///
    /// # Errors
    /// What the index refused.
    pub fn fragment(&self, stream: StreamId, position: Position) -> Result<Option<Stored>, StoreError> {
        self.core.fragment(stream, position)
    }

    /// First and last of the stream.
    ///
    /// # Errors
    /// What the index refused.
    pub fn bounds(&self, stream: StreamId) -> Result<Option<Bounds>, StoreError> {
        self.core.bounds(stream)
    }

    /// Bytes `range` of a fragment's body, by one `pread`. Blocks: call it from a blocking pool.
    ///
    /// A read from the body's start checks that it is that fragment, a read of all of it checks every byte.
    ///
    /// # Errors
    /// `Gone` when the block was deleted, `Damaged` when the bytes are not what was written.
    pub fn read(&self, place: &Place, range: std::ops::Range<u32>) -> Result<Bytes, StoreError> {
        self.core.read(place, range)
    }

    /// Bytes `range` of a fragment's body, which is read and checked as a whole. Blocks: call it from a blocking pool.
    ///
    /// Of a body in the page cache 2 MB more take a seventh of a millisecond.
    ///
    /// # Errors
    /// As [`Store::read`]; `Damaged` wherever in the body a byte is not what was written.
    pub fn read_checked(&self, place: &Place, range: std::ops::Range<u32>) -> Result<Bytes, StoreError> {
        self.core.read_checked(place, range)
    }

    /// A track set of the stream.
    ///
    /// # Errors
    /// What the disk or the index refused.
    pub fn track_set(&self, stream: StreamId, id: TrackSetId) -> Result<Option<Arc<TrackSet>>, StoreError> {
        self.core.track_set(stream, id)
    }

    /// The public number of a fragment.
    pub fn number(&self, stream: StreamId, position: Position, server_time: ServerTime) -> FragmentNumber {
        self.core.number(stream, position, server_time)
    }

    /// How far a stream is to be dropped so that it stays within `max_age` and `max_bytes`; none when nothing is to
    /// go at `now`. Whole blocks, oldest first; open ones stay, and what comes after them.
    ///
    /// Age is by server times. After the clock was set back they stand still until it has caught up: what is recorded
    /// meanwhile is kept that much longer, never shorter.
    ///
    /// # Errors
    /// What the index refused.
    pub fn expiry(
        &self,
        stream: StreamId,
        now: ServerTime,
        max_age: Option<Duration>,
        max_bytes: Option<u64>,
    ) -> Result<Option<Expiry>, StoreError> {
        self.core.expiry(stream, now, max_age, max_bytes)
    }

    /// Drops the sealed blocks that end at or before `through`, oldest first, up to the first that stays; bytes freed. The
    /// caller has that synced in the catalog first, and calls it again with the same value after each start: what a lost
    /// index had forgotten goes then.
    ///
    /// # Errors
    /// What the disk or the index refused; the next start finishes what was begun.
    pub fn drop_through(&self, stream: StreamId, through: Position) -> Result<u64, StoreError> {
        let _leave = self.core.leave_to_change()?;
        self.core.drop_through(stream, through)
    }

    /// Which streams to drop how far so that free space rises above the soft watermark again: oldest blocks first, over
    /// all streams. Each keeps its newest block, and what ends less than `keep` before its end; half way to the hard watermark
    /// some of that goes, too, until `beyond` bytes are used up. Empty when there is space.
    ///
    /// # Errors
    /// What the disk or the index refused.
    pub fn reclaim_plan(&self, keep: Duration, beyond: u64) -> Result<Reclaim, StoreError> {
        self.core.reclaim_plan(keep, beyond)
    }

    /// Bytes that all streams have on disk, but for the newest second.
    ///
    /// # Errors
    /// What the index refused.
    pub fn stored_bytes(&self) -> Result<u64, StoreError> {
        self.core.stored_bytes()
    }

    /// Bytes free and in all on the volume.
    ///
    /// # Errors
    /// What the disk refused.
    pub fn space(&self) -> Result<(u64, u64), StoreError> {
        self.core.space()
    }

    /// What of the store does not get on: calls to the disk that do not return, threads that fail. Empty when all is well.
    pub fn stuck(&self) -> Vec<Stuck> {
        self.volume.stuck()
    }

    /// Stops taking appends, syncs and seals every open block, commits the index, and gives the data folder back: it can
    /// be opened again when this returns, whoever else still holds a clone of this store. What they read is still read.
    ///
    /// # Errors
    /// What the index refused; the blocks are safe, and the next start finds them.
    pub fn close(&self) -> Result<(), StoreError> {
        self.volume.close();
        let Ok(leave) = self.core.leave_to_change() else { return Ok(()) };
        let committed = self.core.commit_index(true);
        drop(leave);
        self.core.release();
        committed
    }
}

#[cfg(test)]
impl Store {
    /// A store upon a core and threads that a test made.
    pub(crate) fn of(core: Arc<Core>, volume: Volume) -> Store {
        Store { core, volume: Arc::new(volume) }
    }

    pub(crate) fn core(&self) -> &Core {
        &self.core
    }
}

/// Work on a data folder that no server uses.
impl Store {
    /// Verifies the numbered invariants of the store's README, reading every byte and changing nothing.
    ///
    /// # Errors
    /// When the folder is in use, was written by a newer version, or the disk refuses.
    pub fn check(
        settings: &Settings,
        clock: Arc<dyn Clock>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<CheckReport, StoreError> {
        let layout = Layout::new(&settings.root);
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        is_store(&*disk, &layout)?;
        let _lock = prepare(&*disk, &layout)?;
        open_store_file(&*disk, &layout)?;
        let index: Arc<dyn Index> = Arc::new(SqliteIndex::open(&layout.index())?);
        let blobs = Arc::new(FolderBlobs::new(disk.clone(), layout.streams()));
        check::check(&Ground { disk, blobs, index, clock }, &layout, progress)
    }

    /// Makes the index anew from the blocks alone. Blocks that a crash left open are closed on the way.
    ///
    /// # Errors
    /// When the folder is in use, was written by a newer version, or the disk refuses.
    pub fn rebuild(
        settings: &Settings,
        clock: Arc<dyn Clock>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<RecoveryReport, StoreError> {
        let layout = Layout::new(&settings.root);
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        is_store(&*disk, &layout)?;
        let lock = prepare(&*disk, &layout)?;
        SqliteIndex::discard(&layout.index()).map_err(|error| disk_error("discard index", error))?;
        let index: Arc<dyn Index> = Arc::new(SqliteIndex::open(&layout.index())?);
        let blobs = Arc::new(FolderBlobs::new(disk.clone(), layout.streams()));
        let ground = Ground { disk, blobs, index, clock };
        rebuild(ground, settings.clone(), lock, progress).map(|(_, report)| report)
    }
}

/// Refuses a folder that is none of ours, before anything is made in it.
fn is_store(disk: &dyn Disk, layout: &Layout) -> Result<(), StoreError> {
    disk.open(&layout.identity()).map(drop).map_err(|error| disk_error("open store.json", error))
}

/// Fills an index from the blocks upon `ground`.
pub(crate) fn rebuild(
    ground: Ground,
    settings: Settings,
    lock: Box<dyn Lock>,
    progress: &mut dyn FnMut(Progress),
) -> Result<(Core, RecoveryReport), StoreError> {
    let layout = Layout::new(&settings.root);
    let file = open_store_file(&*ground.disk, &layout)?;
    ground.index.clear()?;
    let streams = stream_folders(&*ground.disk, &layout).map_err(|error| disk_error("list streams", error))?;
    // Nothing is written under this epoch.
    let core = Core::new(ground, settings, Epoch(0), file, lock, streams);
    let report = core.recover(progress)?;
    core.finish_deletions();
    Ok((core, report))
}

/// Makes the folders and takes the lock.
pub(crate) fn prepare(disk: &dyn Disk, layout: &Layout) -> Result<Box<dyn Lock>, StoreError> {
    let failed = |error| disk_error("open data folder", error);
    let exists = |folder: &Path| disk.list(folder).is_ok();
    let missing: Vec<&Path> = layout.root().ancestors().take_while(|folder| !exists(folder)).collect();
    disk.create_dir(&layout.streams()).map_err(failed)?;
    disk.sync_dir(layout.root()).map_err(failed)?;
    // The data folder's own name, and those above it that were made just now. It may be someone else's folder.
    for folder in missing.into_iter().chain([layout.root()]).filter_map(Path::parent) {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        match disk.sync_dir(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::PermissionDenied => return Err(failed(error)),
            _ => {}
        }
    }
    let lock = disk.lock(&layout.lock()).map_err(failed)?;
    lock.ok_or_else(|| StoreError::Locked(layout.root().to_owned()))
}

/// Opens a store upon `ground` without threads, and recovers it.
pub(crate) fn open_core(
    ground: Ground,
    settings: Settings,
    epoch: Epoch,
    lock: Box<dyn Lock>,
) -> Result<(Core, RecoveryReport), StoreError> {
    let layout = Layout::new(&settings.root);
    let file = open_store_file(&*ground.disk, &layout)?;
    let streams = stream_folders(&*ground.disk, &layout).map_err(|error| disk_error("list streams", error))?;
    let core = Core::new(ground, settings, epoch, file, lock, streams);
    let report = core.recover(&mut |_| {})?;
    Ok((core, report))
}

/// Opens `index.db`; one that is damaged is discarded, and the blocks fill a new one.
pub(crate) fn open_index(layout: &Layout) -> Result<Arc<dyn Index>, StoreError> {
    let path = layout.index();
    if SqliteIndex::is_marked(&path) {
        return remade_index(layout, &IndexError::Corrupt("a look at it said so in the last life".into()));
    }
    match SqliteIndex::open(&path) {
        Ok(index) => Ok(Arc::new(index)),
        Err(error @ IndexError::Newer { .. }) => Err(error.into()),
        // The machine's fault, and not the file's.
        Err(error @ IndexError::Database(_)) => Err(error.into()),
        Err(error) => remade_index(layout, &error),
    }
}

/// A new `index.db`, since the one that was there cannot be used; the blocks fill it.
fn remade_index(layout: &Layout, error: &IndexError) -> Result<Arc<dyn Index>, StoreError> {
    tracing::error!(%error, "index.db is damaged: it is discarded and made again from the blocks");
    let path = layout.index();
    SqliteIndex::discard(&path).map_err(|error| disk_error("discard index", error))?;
    Ok(Arc::new(SqliteIndex::open(&path)?))
}

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
