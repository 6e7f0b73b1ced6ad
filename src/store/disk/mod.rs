//! The disk: the few things the store asks of a file system, with their durability said aloud.
//!
//! Here: opening, appending, syncing, renaming, unlinking, listing, locking. Not here: what the bytes
//! mean (`block`), where files lie (`layout`), SQLite, which keeps its own files beside ours.

mod real;
mod simulated;

use std::io;
use std::path::Path;
use std::sync::Arc;

pub use real::RealDisk;
pub use simulated::{Fault, Operation, SimulatedDisk};

/// The seam: the machine's file system, and a simulated one that forgets.
///
/// Nothing is durable before its sync: bytes before [`File::sync`] of their file, names before
/// [`Disk::sync_dir`] of their folder. After an error of `append` or `sync` the content of that file
/// beyond what was synced is unknown, and no later sync of it means anything.
pub trait Disk: Send + Sync + 'static {
    /// Makes a new file for appending and reading.
    ///
    /// # Errors
    /// `AlreadyExists` when the name is taken.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Opens a file for reading. It stays readable while it is held, unlinked or not.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Shortens a file to `len` bytes and syncs it.
    fn cut(&self, path: &Path, len: u64) -> io::Result<()>;
    /// Gives a file another name, over any that has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a name; `NotFound` is an error.
    fn unlink(&self, path: &Path) -> io::Result<()>;
    /// Makes a folder and those above it; nothing when it exists.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Names in a folder with their lengths, in no order; folders have none.
    fn list(&self, path: &Path) -> io::Result<Vec<Listed>>;
    /// Bytes free for us and in all on the volume of `path`.
    fn space(&self, path: &Path) -> io::Result<(u64, u64)>;
    /// Takes the exclusive lock that `path` stands for, held until dropped or the process ends; none when another has it.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>>;
}

/// An open file. Appends come from one thread at a time, reads from any.
pub trait File: Send + Sync + 'static {
    /// Writes these slices at the end, one after another, whole.
    fn append(&self, slices: &[&[u8]]) -> io::Result<()>;
    /// Fills `bytes` from `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file ends before.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether it has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Makes every byte appended before this call durable (`fdatasync`).
    fn sync(&self) -> io::Result<()>;
}

/// A held lock.
pub trait Lock: Send + Sync {}

/// Held by several: by the last of them to the end.
impl Lock for Arc<dyn Lock> {}

/// A name in a folder.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Listed {
    /// The name, without its folder.
    pub name: String,
    /// Length of the file; none for a folder.
    pub len: Option<u64>,
}

/// Whether the volume is full, rather than broken: ENOSPC, EDQUOT.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Writes a small file whole: temporary name, sync, rename, sync of the folder.
///
/// # Errors
/// What the disk refused; the old file, if any, is then untouched or wholly replaced.
pub fn write_whole(disk: &dyn Disk, path: &Path, slices: &[&[u8]]) -> io::Result<()> {
    let folder = path.parent().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let name =
        path.file_name().and_then(|name| name.to_str()).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let temporary = folder.join(format!("{name}{TEMPORARY}"));
    match disk.unlink(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = disk.create(&temporary)?;
    file.append(slices)?;
    file.sync()?;
    disk.rename(&temporary, path)?;
    disk.sync_dir(folder)
}

/// Ending of names that [`write_whole`] has not finished.
pub const TEMPORARY: &str = ".tmp";

/// Reads a file whole.
///
/// # Errors
/// `InvalidData` when it is longer than `limit`.
pub fn read_whole(disk: &dyn Disk, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = disk.open(path)?;
    let len = file.len()?;
    if len > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{len} bytes, expected at most {limit}")));
    }
    let mut bytes = vec![0; usize::try_from(len).expect("bounded by the limit")];
    file.read_at(&mut bytes, 0)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
