//! Room kept for deletion: on a volume that is full to the last byte, saying what is dropped and who is deleted
//! needs some pages too. A file of zeros holds them while there is plenty, and is let go when nothing else is left.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::core::Core;
use crate::disk::Disk;
use crate::layout::Layout;

/// Bytes held, or a hundredth of the volume if that is less.
const RESERVE: u64 = 4 << 20;
/// Written at once.
const PIECE: usize = 1 << 20;
/// With less than this free the reserve is let go.
const LAST: u64 = 1 << 20;

/// Lets go of the reserve of the store at `root` when its volume is full; whether it did.
///
/// For before anything is opened: a database needs some pages to be opened at all, and a kill on a full volume leaves none.
///
/// # Errors
/// What the disk refused.
pub(crate) fn make_room(disk: &dyn Disk, root: &Path) -> io::Result<bool> {
    let layout = Layout::new(root);
    if disk.open(&layout.reserve()).is_err() || disk.space(root)?.0 >= LAST {
        return Ok(false);
    }
    disk.unlink(&layout.reserve())?;
    disk.sync_dir(root)?;
    Ok(true)
}

/// What is known of the reserve.
#[derive(Default)]
pub(crate) struct Reserve {
    /// Whether the file was looked for in this life.
    looked: AtomicBool,
    held: AtomicBool,
}

impl Core {
    /// Lets go of the reserve when there are `free` bytes of `all` and that is next to nothing; takes it when that is
    /// above the soft watermark. An error is no harm: it is tried again.
    pub(crate) fn tend_reserve(&self, free: u64, all: u64) {
        let reserve = &self.reserve;
        let disk = &*self.ground.disk;
        if !reserve.looked.swap(true, Ordering::Relaxed) {
            reserve.held.store(disk.open(&self.layout.reserve()).is_ok(), Ordering::Relaxed);
        }
        let held = reserve.held.load(Ordering::Relaxed);
        let wanted = RESERVE.min(all / 100);
        let plenty = u128::from(free) * 1000 > u128::from(all) * u128::from(self.settings.soft_free_permille)
            && free > 4 * wanted;
        if held && free < LAST {
            let gone = disk.unlink(&self.layout.reserve()).and_then(|()| disk.sync_dir(self.layout.root()));
            match gone {
                Ok(()) => tracing::warn!("the volume is full to the last byte: the room kept for deletion is let go"),
                Err(error) => tracing::warn!(%error, "the room kept for deletion cannot be let go"),
            }
            reserve.held.store(false, Ordering::Relaxed);
            reserve.looked.store(false, Ordering::Relaxed);
        } else if !held && plenty && wanted > 0 {
            let taken = fill(disk, &self.layout, wanted);
            if let Err(error) = &taken {
                tracing::warn!(%error, "no room could be kept for deletion");
                let _ = disk.unlink(&self.layout.reserve());
            }
            reserve.held.store(taken.is_ok(), Ordering::Relaxed);
        }
    }
}

fn fill(disk: &dyn Disk, layout: &Layout, bytes: u64) -> io::Result<()> {
    let file = disk.create(&layout.reserve())?;
    let zeros = vec![0; PIECE];
    let mut left = bytes;
    while left > 0 {
        let piece = left.min(PIECE as u64);
        file.append(&[&zeros[..usize::try_from(piece).expect("at most a piece")]])?;
        left -= piece;
    }
    file.sync()
}

#[cfg(test)]
mod tests {
    use media::Epoch;

    use super::*;
    use crate::Store;
    use crate::testing::settings;

    const ALL: u64 = 200 << 20;

    #[test]
    fn the_reserve_goes_before_anything_is_opened_where_a_volume_is_full_and_only_there() {
        use crate::disk::{Disk, RealDisk};
        let folder = tempfile::tempdir().expect("a folder");
        assert!(!make_room(&RealDisk, folder.path()).expect("there is none"));
        let reserve = Layout::new(folder.path()).reserve();
        std::fs::write(&reserve, [0; 4_096]).expect("held");
        assert!(!make_room(&RealDisk, folder.path()).expect("there is room"));
        assert!(RealDisk.open(&reserve).is_ok(), "it stays");
    }

    #[test]
    fn reserve_is_taken_when_there_is_plenty_and_let_go_at_the_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = crate::Settings { soft_free_permille: 150, ..settings(folder.path()) };
        let path = folder.path().join("reserve");
        let (store, _) = Store::open(settings, Epoch(1), std::sync::Arc::new(crate::SystemClock)).expect("opens");
        store.close().expect("closes");
        let core = store.core();
        let _ = std::fs::remove_file(&path);
        core.reserve.held.store(false, Ordering::Relaxed);
        core.tend_reserve(ALL / 10, ALL);
        assert!(!path.exists(), "below the soft mark none is taken");
        core.tend_reserve(ALL / 2, ALL);
        assert_eq!(std::fs::metadata(&path).expect("it is there").len(), 2 << 20);
        core.tend_reserve(ALL / 100, ALL);
        assert!(path.exists(), "there is some room still");
        core.tend_reserve(0, ALL);
        assert!(!path.exists());
        core.tend_reserve(2 << 20, ALL);
        assert!(!path.exists(), "what was let go is for deletion");
        core.tend_reserve(ALL / 2, ALL);
        core.reserve.looked.store(false, Ordering::Relaxed);
        core.tend_reserve(ALL / 2, ALL);
        core.tend_reserve(0, ALL);
        assert!(!path.exists(), "that of a life before is ours");
    }
}
