//! Sealed, immutable blocks by key: the seam for where finished blocks live.
//!
//! Here: putting, opening, removing, listing whole blocks. Not here: the block that is being written (the
//! writer has its file), and what the bytes mean (`block`).

mod folder;
mod memory;

use std::fmt;
use std::io;
use std::sync::Arc;

use media::{Epoch, Position, Sequence, StreamId};

pub use folder::FolderBlobs;
pub(crate) use folder::SIDECAR;
pub use memory::MemoryBlobs;

/// The name of a block: its stream and the position of its first fragment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BlockKey {
    /// The stream.
    pub stream: StreamId,
    /// Position of the fragment that the block was opened for.
    pub first: Position,
}

impl fmt::Display for BlockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.stream, file_name(self.first))
    }
}

/// File name of the block that starts at `first`: zero-padded, so that names sort as positions do.
pub(crate) fn file_name(first: Position) -> String {
    format!("{:08}-{:013}{BLOCK_SUFFIX}", first.epoch.0, first.sequence.0)
}

/// Ending of block files.
pub(crate) const BLOCK_SUFFIX: &str = ".mp4";

/// The position that a block file's name says; none for any other name.
pub(crate) fn position_of(name: &str) -> Option<Position> {
    let (epoch, sequence) = name.strip_suffix(BLOCK_SUFFIX)?.split_once('-')?;
    let digits = |text: &str, len| text.len() == len && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(epoch, 8) || !digits(sequence, 13) {
        return None;
    }
    Some(Position { epoch: Epoch(epoch.parse().ok()?), sequence: Sequence(sequence.parse().ok()?) })
}

/// The seam: a folder on a [`crate::disk::Disk`], and memory. Later an object store.
pub trait Blobs: Send + Sync + 'static {
    /// Keeps these bytes under `key`, durably when it returns.
    ///
    /// # Errors
    /// `AlreadyExists`: what is sealed is never replaced.
    fn put(&self, key: BlockKey, bytes: &[u8]) -> io::Result<()>;
    /// Opens a block for reading; it stays readable while it is held, removed or not.
    fn open(&self, key: BlockKey) -> io::Result<Arc<dyn Blob>>;
    /// Removes these blocks of one stream, durably when it returns; those that are gone already are no error.
    fn remove(&self, stream: StreamId, blocks: &[Position]) -> io::Result<()>;
    /// Blocks of a stream with their lengths, in stream order.
    fn list(&self, stream: StreamId) -> io::Result<Vec<(Position, u64)>>;
}

/// An open block.
pub trait Blob: Send + Sync + 'static {
    /// Fills `bytes` from `offset`; `UnexpectedEof` when the block ends before.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether it has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::disk::{Disk, RealDisk, SimulatedDisk};

    fn at(epoch: u32, sequence: u64) -> Position {
        Position { epoch: Epoch(epoch), sequence: Sequence(sequence) }
    }

    /// What every implementation does.
    fn conformance(blobs: &dyn Blobs, stream: StreamId) {
        let key = |sequence| BlockKey { stream, first: at(1, sequence) };
        assert_eq!(blobs.list(stream).expect("empty"), []);
        assert_eq!(blobs.open(key(1)).err().map(|error| error.kind()), Some(io::ErrorKind::NotFound));
        blobs.put(key(20), b"second").expect("put");
        blobs.put(key(3), b"first").expect("put");
        assert_eq!(blobs.put(key(3), b"other").map_err(|error| error.kind()), Err(io::ErrorKind::AlreadyExists));
        assert_eq!(blobs.list(stream).expect("list"), [(at(1, 3), 5), (at(1, 20), 6)]);
        let blob = blobs.open(key(3)).expect("open");
        assert_eq!(blob.len().expect("len"), 5);
        let mut bytes = [0; 3];
        blob.read_at(&mut bytes, 2).expect("inside");
        assert_eq!(&bytes, b"rst");
        assert_eq!(blob.read_at(&mut bytes, 3).map_err(|error| error.kind()), Err(io::ErrorKind::UnexpectedEof));
        blobs.remove(stream, &[at(1, 3), at(9, 9)]).expect("remove");
        assert_eq!(blobs.list(stream).expect("list"), [(at(1, 20), 6)]);
        blob.read_at(&mut bytes, 0).expect("a holder reads on");
        assert_eq!(&bytes, b"fir");
        assert_eq!(blobs.list(StreamId::random()).expect("unknown stream"), []);
    }

    #[test]
    fn memory_conforms() {
        conformance(&MemoryBlobs::default(), StreamId::random());
    }

    #[test]
    fn folder_conforms_on_both_disks() {
        let stream = StreamId::random();
        let folder = tempfile::tempdir().expect("a folder");
        let disks: [(Arc<dyn Disk>, &Path); 2] =
            [(Arc::new(RealDisk), folder.path()), (Arc::new(SimulatedDisk::new(1)), Path::new("/data"))];
        for (disk, root) in disks {
            disk.create_dir(&root.join(stream.to_string())).expect("the stream's folder");
            conformance(&FolderBlobs::new(disk, root.to_owned()), stream);
        }
    }

    #[test]
    fn block_names_sort_as_positions_and_read_back() {
        let positions = [at(0, 1), at(1, 0), at(1, 9), at(1, 10), at((1 << 24) - 1, (1 << 40) - 1)];
        for pair in positions.windows(2) {
            assert!(file_name(pair[0]) < file_name(pair[1]));
        }
        for position in positions {
            assert_eq!(position_of(&file_name(position)), Some(position));
        }
        for name in ["", "1-2.mp4", "00000001-0000000000002.idx", "00000001-+000000000002.mp4", "stream.json"] {
            assert_eq!(position_of(name), None);
        }
    }
}
