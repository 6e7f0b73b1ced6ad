//! Memory that large pictures are read into, again and again.
//!
//! Megabytes that are taken from the system for each picture are cleared page by page before they are written over, and given
//! back after it: that takes longer than reading them. So they are kept here between pictures, as far as there are few.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Smaller pictures are no trouble to the heap; and they may be remembered, for which what is over in a buffer is too much.
const BYTES_MIN: usize = 1 << 20;

/// Buffers that nobody uses.
#[derive(Clone)]
pub(super) struct Buffers {
    free: Arc<Mutex<Free>>,
    kept_bytes_max: usize,
}

#[derive(Default)]
struct Free {
    /// The one that was used last at the end: it may still be in the processor's cache.
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

impl Buffers {
    pub(super) fn new(kept_bytes_max: usize) -> Buffers {
        Buffers { free: Arc::default(), kept_bytes_max }
    }

    /// A buffer of so many bytes; what is in it is to be written over.
    pub(super) fn take(&self, len: usize) -> Vec<u8> {
        if len < BYTES_MIN {
            return vec![0; len];
        }
        let mut free = self.lock();
        let fits = |buffer: &Vec<u8>| buffer.capacity() >= len && buffer.capacity() / 2 <= len;
        match free.buffers.iter().rposition(fits) {
            Some(at) => {
                let mut buffer = free.buffers.remove(at);
                free.bytes -= buffer.capacity();
                buffer.resize(len, 0);
                buffer
            }
            None => vec![0; len],
        }
    }

    /// Bytes whose buffer comes back when nobody uses them any more.
    pub(super) fn lend(&self, buffer: Vec<u8>) -> Bytes {
        match buffer.capacity() < BYTES_MIN {
            true => Bytes::from(buffer),
            false => Bytes::from_owner(Lent { buffer, home: self.clone() }),
        }
    }

    /// Gives back to the system what nobody uses.
    pub(super) fn clear(&self) {
        *self.lock() = Free::default();
    }

    fn put(&self, buffer: Vec<u8>) {
        let mut free = self.lock();
        if free.bytes + buffer.capacity() <= self.kept_bytes_max {
            free.bytes += buffer.capacity();
            free.buffers.push(buffer);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A buffer that is in use.
struct Lent {
    buffer: Vec<u8>,
    home: Buffers,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.home.put(std::mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(buffers: &Buffers, len: usize) -> Bytes {
        let mut buffer = buffers.take(len);
        assert_eq!(buffer.len(), len);
        buffer.fill(7);
        buffers.lend(buffer)
    }

    #[test]
    fn a_buffer_is_used_again_when_all_of_its_bytes_are_gone() {
        let buffers = Buffers::new(8 << 20);
        let picture = filled(&buffers, 3 << 20);
        let part = picture.slice(1..2);
        let address = picture.as_ptr();
        drop(picture);
        assert_ne!(filled(&buffers, 3 << 20).as_ptr(), address, "a part of it is still in use");
        buffers.clear();
        drop(part);
        assert_ne!(filled(&buffers, 1 << 20).as_ptr(), address, "it is far too large");
        assert_eq!(filled(&buffers, 2 << 20).as_ptr(), address);
    }

    #[test]
    fn few_are_kept() {
        let buffers = Buffers::new(8 << 20);
        let pictures: Vec<Bytes> = (0..4).map(|_| filled(&buffers, 3 << 20)).collect();
        drop(pictures);
        drop(filled(&buffers, 1000));
        let free = buffers.lock();
        assert_eq!(free.buffers.len(), 2, "small ones are not");
        assert_eq!(free.bytes, free.buffers.iter().map(Vec::capacity).sum::<usize>());
    }
}
