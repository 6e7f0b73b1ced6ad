//! Where the parts of a range stand, written beside its pictures in `.STREAM.frames.json`.
//!
//! The newest file of a folder does not tell that: parts are fetched at the same time, and other commands may have left
//! pictures there. The journal is of one question; another one to the same folder replaces it. It says nothing that is not so: a
//! part goes on behind its last picture only if that file is there.

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::parts::{Stretch, Taken};
use super::place::{self, Place};

/// A journal is not longer: a thousand parts of some hundred bytes.
const BYTES_MAX: u64 = 4 << 20;
/// How often it is written.
const PERIOD: Duration = Duration::from_secs(1);

/// Keeps one.
pub(super) struct Journal {
    path: PathBuf,
    kept: Mutex<(Kept, Instant)>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    asked: String,
    stretches: Vec<Stretch>,
}

impl Journal {
    /// The journal of a folder for this question, and how far its stretches are; none of them when it was never asked, or
    /// all is to be done anew. No journal where there is no folder.
    pub(super) fn of(place: &Place, asked: &str, anew: bool) -> Option<(Journal, Vec<Stretch>)> {
        let Place::Folder { path: folder, stream } = place else { return None };
        let path = folder.join(format!(".{stream}.frames.json"));
        let is_bounded = fs::metadata(&path).is_ok_and(|found| found.len() <= BYTES_MAX);
        let read = || serde_json::from_slice::<Kept>(&fs::read(&path).ok()?).ok();
        let known = (is_bounded && !anew).then(read).flatten().filter(|kept| kept.asked == asked);
        let mut stretches = known.map(|kept| kept.stretches).unwrap_or_default();
        for stretch in &mut stretches {
            stretch.last = stretch.last.take().filter(|last| folder.join(&last.file).is_file());
        }
        let kept = Kept { asked: asked.to_owned(), stretches: Vec::new() };
        Some((Journal { path, kept: Mutex::new((kept, Instant::now())) }, stretches))
    }

    /// These are the stretches.
    pub(super) fn begin(&self, stretches: &[Stretch]) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).0.stretches = stretches.to_vec();
    }

    /// A picture of a stretch is there.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub(super) fn take(&self, number: usize, taken: Taken) -> std::io::Result<()> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stretch) = kept.0.stretches.get_mut(number) {
            stretch.last = Some(taken);
        }
        if kept.1.elapsed() < PERIOD {
            return Ok(());
        }
        kept.1 = Instant::now();
        self.write(&kept.0)
    }

    /// Nothing follows. Where no picture was taken, nothing is left behind.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub(super) fn end(&self) -> std::io::Result<()> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match kept.0.stretches.iter().any(|stretch| stretch.last.is_some()) {
            true => self.write(&kept.0),
            false => Ok(()),
        }
    }

    fn write(&self, kept: &Kept) -> std::io::Result<()> {
        place::write(&self.path, &serde_json::to_vec(kept).expect("numbers and texts are JSON"))
    }
}
