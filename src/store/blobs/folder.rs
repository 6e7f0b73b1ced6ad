//! Blocks as files, in one folder per stream.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use media::{Position, StreamId};

use super::{Blob, Blobs, BlockKey, file_name, position_of};
use crate::disk::{Disk, File, write_whole};

/// Blocks as `<root>/<stream id>/<epoch>-<sequence>.mp4`, with the sidecars that belong to them.
pub struct FolderBlobs {
    disk: Arc<dyn Disk>,
    root: PathBuf,
}

impl FolderBlobs {
    /// Blocks under `root`, whose streams' folders exist already.
    pub fn new(disk: Arc<dyn Disk>, root: PathBuf) -> FolderBlobs {
        FolderBlobs { disk, root }
    }

    fn path(&self, key: BlockKey) -> PathBuf {
        self.root.join(key.stream.to_string()).join(file_name(key.first))
    }
}

impl Blobs for FolderBlobs {
    fn put(&self, key: BlockKey, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(key);
        match self.disk.open(&path) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => write_whole(&*self.disk, &path, &[bytes]),
            Err(error) => Err(error),
        }
    }

    fn open(&self, key: BlockKey) -> io::Result<Arc<dyn Blob>> {
        Ok(Arc::new(Opened(self.disk.open(&self.path(key))?)))
    }

    fn remove(&self, stream: StreamId, blocks: &[Position]) -> io::Result<()> {
        if blocks.is_empty() {
            return Ok(());
        }
        for first in blocks {
            let path = self.path(BlockKey { stream, first: *first });
            // The sidecar first: a block without it is recovered, a sidecar without its block is nothing.
            for path in [path.with_extension(SIDECAR), path] {
                match self.disk.unlink(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        self.disk.sync_dir(&self.root.join(stream.to_string()))
    }

    fn list(&self, stream: StreamId) -> io::Result<Vec<(Position, u64)>> {
        let names = match self.disk.list(&self.root.join(stream.to_string())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            names => names?,
        };
        let mut blocks: Vec<(Position, u64)> =
            names.into_iter().filter_map(|listed| Some((position_of(&listed.name)?, listed.len?))).collect();
        blocks.sort_unstable();
        Ok(blocks)
    }
}

/// Extension of the footer of a block that may not be appended to.
pub(crate) const SIDECAR: &str = "idx";

struct Opened(Arc<dyn File>);

impl Blob for Opened {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_at(bytes, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
}
