//! Reading stored bytes: one `pread` on a descriptor that is kept open for a while, or all of a body where a part of it is wanted and
//! every byte of that must be right.

use std::collections::{HashMap, HashSet};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::blobs::{Blob, BlockKey};
use crate::block::Record;
use crate::block::record::{MAX_BODY, MAX_HEADER};
use crate::block::scan::body_crc;
use crate::core::Core;
use crate::layout::disk_error;
use crate::{Place, StoreError};

/// Most blocks kept open for readers.
const MAX_OPEN: usize = 256;
/// Most blocks remembered as damaged.
const MAX_DAMAGED: usize = 10_000;

/// Blocks that readers use, open; and those that were found damaged.
#[derive(Default)]
pub(crate) struct OpenBlobs(Mutex<Opened>);

#[derive(Default)]
struct Opened {
    blobs: HashMap<BlockKey, (Arc<dyn Blob>, u64)>,
    /// Counts uses, to tell which was used longest ago.
    uses: u64,
    damaged: HashSet<Place>,
}

impl OpenBlobs {
    fn lock(&self) -> MutexGuard<'_, Opened> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, key: BlockKey) -> Option<Arc<dyn Blob>> {
        let mut opened = self.lock();
        opened.uses += 1;
        let now = opened.uses;
        let (blob, used) = opened.blobs.get_mut(&key)?;
        *used = now;
        Some(blob.clone())
    }

    fn keep(&self, key: BlockKey, blob: Arc<dyn Blob>) {
        let mut opened = self.lock();
        opened.uses += 1;
        let now = opened.uses;
        opened.blobs.insert(key, (blob, now));
        if opened.blobs.len() > MAX_OPEN {
            let oldest = opened.blobs.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| *key);
            let gone = oldest.and_then(|key| opened.blobs.remove(&key));
            drop(opened);
            drop(gone);
        }
    }

    /// Lets go of blocks that are being deleted, so that their space is freed when their last reader leaves.
    pub(crate) fn forget(&self, goes: impl Fn(BlockKey) -> bool) {
        let mut opened = self.lock();
        let gone: Vec<_> = opened.blobs.extract_if(|key, _| goes(*key)).collect();
        drop(opened);
        // Closing the last descriptor of an unlinked file frees its space, which takes a while. No reader waits for that.
        drop(gone);
    }

    fn damaged(&self, place: &Place) -> bool {
        self.lock().damaged.contains(place)
    }

    fn condemn(&self, place: &Place) -> StoreError {
        tracing::error!(?place, "stored bytes are damaged");
        let mut opened = self.lock();
        if opened.damaged.len() < MAX_DAMAGED {
            opened.damaged.insert(*place);
        }
        StoreError::Damaged { place: *place }
    }
}

impl Core {
    /// An open block, whether it is written still or sealed.
    pub(crate) fn blob(&self, key: BlockKey) -> Result<Arc<dyn Blob>, StoreError> {
        if let Some(blob) = self.open_blobs.get(key) {
            return Ok(blob);
        }
        match self.ground.blobs.open(key) {
            Ok(blob) => {
                self.open_blobs.keep(key, blob.clone());
                Ok(blob)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StoreError::Gone),
            Err(error) => Err(disk_error(format!("open block {key}"), error)),
        }
    }

    /// Bytes `range` of a fragment's body. A read from its start checks that this is the fragment; a read
    /// of all of it checks every byte.
    pub(crate) fn read(&self, place: &Place, range: Range<u32>) -> Result<Bytes, StoreError> {
        let blob = self.readable(place, &range)?;
        let before = if range.start == 0 { place.body_offset.min(MAX_HEADER as u64) as usize } else { 0 };
        let start = place.body_offset + u64::from(range.start) - before as u64;
        let mut bytes = vec![0; before + (range.end - range.start) as usize];
        blob.read_at(&mut bytes, start).map_err(|error| self.unreadable(place, error))?;
        let mut bytes = Bytes::from(bytes);
        let header = bytes.split_to(before);
        if range.start == 0 {
            let right = Record::decode_before(&header).is_ok_and(|record| {
                record.stream == place.stream
                    && range.end <= record.info.body_len
                    && (range.end != record.info.body_len || crc32c::crc32c(&bytes) == record.body_crc)
            });
            if !right {
                return Err(self.open_blobs.condemn(place));
            }
        }
        Ok(bytes)
    }

    /// Bytes `range` of a fragment's body, when every byte of the body is what was written; what is read besides is not kept.
    pub(crate) fn read_checked(&self, place: &Place, range: Range<u32>) -> Result<Bytes, StoreError> {
        let blob = self.readable(place, &range)?;
        let failed = |error| self.unreadable(place, error);
        let header_len = place.body_offset.min(MAX_HEADER as u64);
        let mut header = vec![0; header_len as usize];
        blob.read_at(&mut header, place.body_offset - header_len).map_err(failed)?;
        let record = Record::decode_before(&header).ok();
        let right = |record: &Record| record.stream == place.stream && range.end <= record.info.body_len;
        let Some(record) = record.filter(right) else { return Err(self.open_blobs.condemn(place)) };
        let at = |offset: u32| place.body_offset + u64::from(offset);
        let mut bytes = vec![0; (range.end - range.start) as usize];
        blob.read_at(&mut bytes, at(range.start)).map_err(failed)?;
        let before = body_crc(&*blob, at(0), at(range.start)).map_err(failed)?;
        let after = body_crc(&*blob, at(range.end), at(record.info.body_len)).map_err(failed)?;
        let crc = crc32c::crc32c_combine(before, crc32c::crc32c(&bytes), bytes.len());
        let crc = crc32c::crc32c_combine(crc, after, (record.info.body_len - range.end) as usize);
        if crc != record.body_crc {
            return Err(self.open_blobs.condemn(place));
        }
        Ok(Bytes::from(bytes))
    }

    /// The block of a fragment that is not known as damaged.
    fn readable(&self, place: &Place, range: &Range<u32>) -> Result<Arc<dyn Blob>, StoreError> {
        let is_outside = range.start > range.end || range.end > MAX_BODY;
        if is_outside || self.open_blobs.damaged(place) {
            return Err(StoreError::Damaged { place: *place });
        }
        if !self.exists(place.stream) {
            // Its files go behind its deletion.
            return Err(StoreError::Gone);
        }
        self.blob(BlockKey { stream: place.stream, first: place.block })
    }

    fn unreadable(&self, place: &Place, error: io::Error) -> StoreError {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => self.open_blobs.condemn(place),
            _ => disk_error("read block", error),
        }
    }
}
