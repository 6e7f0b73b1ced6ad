//! Blocks in memory, for tests and for models.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use media::{Position, StreamId};

use super::{Blob, Blobs, BlockKey};

/// Blocks in memory.
#[derive(Default)]
pub struct MemoryBlobs(Mutex<BTreeMap<BlockKey, Bytes>>);

impl MemoryBlobs {
    fn blocks(&self) -> std::sync::MutexGuard<'_, BTreeMap<BlockKey, Bytes>> {
        self.0.lock().expect("no call panics while it holds the blocks")
    }
}

impl Blobs for MemoryBlobs {
    fn put(&self, key: BlockKey, bytes: &[u8]) -> io::Result<()> {
        match self.blocks().entry(key) {
            std::collections::btree_map::Entry::Occupied(_) => Err(io::ErrorKind::AlreadyExists.into()),
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(Bytes::copy_from_slice(bytes));
                Ok(())
            }
        }
    }

    fn open(&self, key: BlockKey) -> io::Result<Arc<dyn Blob>> {
        let bytes = self.blocks().get(&key).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(Held(bytes)))
    }

    fn remove(&self, stream: StreamId, blocks: &[Position]) -> io::Result<()> {
        let mut all = self.blocks();
        for first in blocks {
            all.remove(&BlockKey { stream, first: *first });
        }
        Ok(())
    }

    fn list(&self, stream: StreamId) -> io::Result<Vec<(Position, u64)>> {
        let all = self.blocks();
        let own = all.iter().filter(|(key, _)| key.stream == stream);
        Ok(own.map(|(key, bytes)| (key.first, bytes.len() as u64)).collect())
    }
}

struct Held(Bytes);

impl Blob for Held {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let end = start.checked_add(bytes.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        bytes.copy_from_slice(self.0.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }
}
