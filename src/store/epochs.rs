//! Which epochs a data folder has seen, by its blocks alone: for a `control.db` that was lost or put back from a copy.

use std::io;
use std::path::Path;

use media::{Epoch, StreamId};

use crate::blobs::position_of;
use crate::disk::{Disk, RealDisk};
use crate::layout::{Layout, disk_error, stream_folders};
use crate::query::read_last;
use crate::{Store, StoreError};

impl Store {
    /// The newest epoch that a block in the data folder was written under, by the names of its files; the default epoch
    /// when there is none. An epoch that is given out must be newer, or fragment numbers would be used twice.
    ///
    /// Changes nothing and needs no lock: ask before [`Store::open`].
    ///
    /// # Errors
    /// What the disk refused.
    pub fn newest_epoch(root: &Path) -> Result<Epoch, StoreError> {
        newest_epoch(&RealDisk, &Layout::new(root))
    }
}

pub(crate) fn newest_epoch(disk: &dyn Disk, layout: &Layout) -> Result<Epoch, StoreError> {
    let streams = match stream_folders(disk, layout) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        streams => streams.map_err(|error| disk_error("list streams", error))?,
    };
    let mut newest = Epoch::default();
    for stream in streams {
        let found = newest_of(disk, layout, stream).map_err(|error| disk_error("list blocks", error))?;
        newest = newest.max(found);
    }
    Ok(newest)
}

fn newest_of(disk: &dyn Disk, layout: &Layout, stream: StreamId) -> io::Result<Epoch> {
    let names = disk.list(&layout.stream(stream))?;
    let blocks = names.iter().filter_map(|listed| position_of(&listed.name)).map(|first| first.epoch);
    // Retention may have taken every block; what is kept of the last one says where it was.
    let kept = read_last(disk, layout, stream)?.map(|last| last.record.info.position.epoch);
    Ok(blocks.chain(kept).max().unwrap_or_default())
}
