//! Where the parts of a range stand, written beside its pictures in `.STREAM.frames.json`.
//!
//! The newest file of a folder does not tell that: parts are fetched at the same time, and other commands may have left
//! pictures there. The journal is of one question; another one to the same folder replaces it. It says nothing that is not so: a
//! part goes on behind its last picture only if that file is there. Pictures that the server could not give are stretches of
//! their own, which are asked for when the command is given once more.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::ask::Range;
use super::parts::{Stretch, Taken};
use super::place::{self, Place};

/// A journal is not longer: parts, and what is missing, of some hundred bytes each.
const BYTES_MAX: u64 = 4 << 20;
/// With more stretches than these, what is missing is written down with what lies between.
const STRETCHES_MAX: usize = 10_000;
/// How often it is written.
const PERIOD: Duration = Duration::from_secs(1);

/// Keeps one.
pub(super) struct Journal {
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    kept: Kept,
    /// By the number of a stretch, that of what is missing of it since its last picture.
    holes: HashMap<usize, usize>,
    written: Instant,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    asked: String,
    stretches: Vec<Stretch>,
}

impl Journal {
    /// The journal of a folder for this question, and how far its stretches are; none of them when it was never asked, or
    /// all is to be done anew. No journal where there is no folder.
    pub(super) fn of(place: &Place, range: &Range, form: &str, anew: bool) -> Option<(Journal, Vec<Stretch>)> {
        let Place::Folder { path: folder, stream } = place else { return None };
        let path = folder.join(format!(".{stream}.frames.json"));
        let asked = format!("{range:?}&{form}");
        let is_bounded = fs::metadata(&path).is_ok_and(|found| found.len() <= BYTES_MAX);
        let read = || serde_json::from_slice::<Kept>(&fs::read(&path).ok()?).ok();
        let known = (is_bounded && !anew).then(read).flatten().filter(|kept| kept.asked == asked);
        let mut stretches = known.map(|kept| kept.stretches).unwrap_or_default();
        for stretch in &mut stretches {
            if stretch.last.as_ref().is_some_and(|last| !folder.join(&last.file).is_file()) {
                (stretch.last, stretch.passed_us) = (None, None);
            }
        }
        // What was missing is there, or is missing again, of which another stretch tells.
        stretches.retain(|stretch| !stretch.again || stretch.rest_us(range) < stretch.to_us);
        let kept = Kept { asked, stretches: Vec::new() };
        let state = State { kept, holes: HashMap::new(), written: Instant::now() };
        Some((Journal { path, state: Mutex::new(state) }, stretches))
    }

    /// These are the stretches.
    pub(super) fn begin(&self, stretches: &[Stretch]) {
        self.lock().kept.stretches = stretches.to_vec();
    }

    /// A picture of a stretch is there.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub(super) fn take(&self, number: usize, taken: Taken) -> std::io::Result<()> {
        let mut state = self.lock();
        state.holes.remove(&number);
        if let Some(stretch) = state.kept.stretches.get_mut(number) {
            stretch.last = Some(taken);
        }
        self.write_sometimes(&mut state)
    }

    /// Nothing of a stretch up to there is to be asked for any more.
    pub(super) fn pass(&self, number: usize, at_us: i64) {
        if let Some(stretch) = self.lock().kept.stretches.get_mut(number) {
            stretch.pass(at_us);
        }
    }

    /// What is in `from_us..to_us` of a stretch cannot be had now.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub(super) fn miss(&self, number: usize, from_us: i64, to_us: i64) -> std::io::Result<()> {
        let mut state = self.lock();
        let State { kept, holes, .. } = &mut *state;
        if let Some(stretch) = kept.stretches.get_mut(number) {
            stretch.pass(to_us.saturating_sub(1));
        }
        let is_full = kept.stretches.len() >= STRETCHES_MAX;
        let newest = kept.stretches.iter().rposition(|stretch| stretch.again && stretch.at_us().is_none());
        let hole = holes.get(&number).copied().or_else(|| newest.filter(|_| is_full));
        let at = match hole {
            Some(at) => {
                let stretch = &mut kept.stretches[at];
                (stretch.from_us, stretch.to_us) = (stretch.from_us.min(from_us), stretch.to_us.max(to_us));
                at
            }
            None => {
                kept.stretches.push(Stretch { again: true, ..Stretch::new(from_us, to_us) });
                kept.stretches.len() - 1
            }
        };
        holes.insert(number, at);
        self.write_sometimes(&mut state)
    }

    /// Nothing follows. Where no picture was taken, nothing is left behind.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub(super) fn end(&self) -> std::io::Result<()> {
        let State { kept, .. } = &*self.lock();
        match kept.stretches.iter().any(|stretch| stretch.last.is_some()) {
            true => self.write(kept),
            false => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_sometimes(&self, state: &mut State) -> std::io::Result<()> {
        if state.written.elapsed() < PERIOD {
            return Ok(());
        }
        state.written = Instant::now();
        self.write(&state.kept)
    }

    fn write(&self, kept: &Kept) -> std::io::Result<()> {
        place::write(&self.path, &serde_json::to_vec(kept).expect("numbers and texts are JSON"))
    }
}
