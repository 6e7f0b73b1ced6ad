//! The index: which blocks a stream has and which fragments lie in them. A cache: the blocks are the
//! truth, and [`crate::Store`] rebuilds it from them.
//!
//! [`SqliteIndex`] is the one that ships, [`MemoryIndex`] the model that simulations use; one conformance suite runs
//! on both.
//!
//! Not here: what a block's bytes mean (`block`), which blocks may go (`retention`), the packed fragments
//! inside a row ([`crate::packed`]).

mod memory;
mod sqlite;

#[cfg(test)]
mod conformance;

pub use memory::MemoryIndex;
pub use sqlite::SqliteIndex;

use bytes::Bytes;
use media::{Ordinal, Position, ProducerTime, ServerTime, StreamId};

/// A block's state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BlockState {
    /// Being written, or not yet looked at after a crash.
    Open,
    /// Complete.
    Sealed,
    /// About to be unlinked; readers do not see it.
    Deleting,
    /// Damaged before a synced offset; kept, and served only where its bytes are right.
    Quarantined,
    /// Its file is missing.
    Lost,
}

/// One block of a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BlockRow {
    /// The stream.
    pub stream: StreamId,
    /// Position of its first fragment: with the stream, its name.
    pub first: Position,
    /// Position of its last fragment so far.
    pub last: Position,
    /// Ordinal of its first fragment.
    pub first_ordinal: Ordinal,
    /// Count of fragments so far.
    pub count: u32,
    /// Discontinuities up to and including its first fragment's.
    pub discontinuities: u64,
    /// Earliest producer time.
    pub producer_from: ProducerTime,
    /// Latest producer end.
    pub producer_to: ProducerTime,
    /// Earliest server time.
    pub server_from: ServerTime,
    /// Latest server end.
    pub server_to: ServerTime,
    /// Bytes of the file known to be on disk.
    pub synced_bytes: u64,
    /// State.
    pub state: BlockState,
    /// Packed fragment index, see [`crate::packed`]; none for an open block.
    pub fragments: Option<Bytes>,
}

/// Why the index could not answer. It can be deleted and rebuilt.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The database refused: the disk, its locks, or memory.
    #[error("index: {0}")]
    Database(String),
    /// The file is not what was written: it is a cache, and the blocks fill a new one at the next start.
    #[error("index is damaged: {0}")]
    Corrupt(String),
    /// A row that no version of ours wrote.
    #[error("index: damaged row of stream {stream}, block {first:?}: {what}")]
    Damaged {
        /// The stream.
        stream: StreamId,
        /// The block.
        first: Position,
        /// What is wrong.
        what: String,
    },
    /// Written by a newer version.
    #[error(
        "index has format {found}, this version knows up to {known}: use the newer version, or run `kinora store rebuild`"
    )]
    Newer {
        /// The format found.
        found: u32,
        /// The newest we know.
        known: u32,
    },
}

/// The seam: SQLite and memory.
///
/// All writes come from one writer; reads from anywhere, and each answer is of one moment. Rows of state `Deleting`
/// are returned by [`Index::deleting`] only, and counted nowhere else.
///
/// Blocks of a stream do not overlap in position, and their ordinals rise with their positions. Their
/// times may do as they like: a producer's clock may jump, and a block may lie in time before the block before it.
///
/// A span `[a, b)` meets a range `[from, to)` when they share an instant; an empty span (`a == b`) counts as the instant `a`.
pub trait Index: Send + Sync + 'static {
    /// Inserts or replaces these rows in one transaction: the checkpoint of open blocks and the sealing of full ones.
    fn put(&self, rows: &[BlockRow]) -> Result<(), IndexError>;
    /// The block that starts at `first`.
    fn block(&self, stream: StreamId, first: Position) -> Result<Option<BlockRow>, IndexError>;
    /// The newest block.
    fn newest(&self, stream: StreamId) -> Result<Option<BlockRow>, IndexError>;
    /// The oldest block.
    fn oldest(&self, stream: StreamId) -> Result<Option<BlockRow>, IndexError>;
    /// Blocks whose producer span meets `[from, to)`, in stream order, at most `limit`, the first after `after`.
    fn by_producer(
        &self,
        stream: StreamId,
        from: ProducerTime,
        to: ProducerTime,
        after: Option<Position>,
        limit: usize,
    ) -> Result<Vec<BlockRow>, IndexError>;
    /// Blocks whose server span meets `[from, to)`, likewise.
    fn by_server(
        &self,
        stream: StreamId,
        from: ServerTime,
        to: ServerTime,
        after: Option<Position>,
        limit: usize,
    ) -> Result<Vec<BlockRow>, IndexError>;
    /// Blocks that hold a fragment after `position`, in stream order, at most `limit`.
    fn after(&self, stream: StreamId, position: Position, limit: usize) -> Result<Vec<BlockRow>, IndexError>;
    /// Blocks that hold ordinals of `[from, to)`, in stream order, at most `limit`.
    fn by_ordinal(
        &self,
        stream: StreamId,
        from: Ordinal,
        to: Ordinal,
        limit: usize,
    ) -> Result<Vec<BlockRow>, IndexError>;
    /// Every stream that has a block, in the order of their ids.
    fn streams(&self) -> Result<Vec<StreamId>, IndexError>;
    /// Bytes ([`BlockRow::synced_bytes`]) and blocks of a stream.
    fn usage(&self, stream: StreamId) -> Result<(u64, u64), IndexError>;
    /// Open blocks, of all streams.
    fn open_blocks(&self) -> Result<Vec<BlockRow>, IndexError>;
    /// Marks these blocks as `Deleting` in one transaction. Those that are not there are passed over.
    fn mark_deleting(&self, stream: StreamId, blocks: &[Position]) -> Result<(), IndexError>;
    /// Blocks marked and not yet forgotten, of all streams.
    fn deleting(&self) -> Result<Vec<BlockRow>, IndexError>;
    /// Forgets these blocks in one transaction, whatever their state. Those that are not there are passed over.
    fn forget(&self, stream: StreamId, blocks: &[Position]) -> Result<(), IndexError>;
    /// Forgets everything, for a rebuild.
    fn clear(&self) -> Result<(), IndexError>;
}

/// Whether the span `[a, b)` meets the range `[from, to)`.
fn meets(a: i64, b: i64, from: i64, to: i64) -> bool {
    a < to && (b > from || a >= from)
}
