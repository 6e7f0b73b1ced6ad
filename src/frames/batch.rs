//! From shots to tasks: which are decoded together, and how many of them a task makes.
//!
//! A *batch* is shots of one reel: their run is read once. A *part* is so many of a batch that their pictures need
//! little memory. The parts of a run go to one decoder one after another, which decodes nothing twice, while others are at
//! other runs.

use std::collections::VecDeque;
use std::sync::Arc;

use media::decoding::{Format, Output};

use super::find::Finder;
use super::picker::{Picked, Picker};
use super::run::build;
use super::{FramesError, Missing};
use crate::workers::{Asker, Run, RunId, Task};

/// Most shots of a batch.
const BATCH_SHOTS: usize = 1024;
/// Bytes of finished pictures of a part, as far as one of them is not more.
pub(super) const PART_BYTES: u64 = 16 << 20;
/// Most pictures of a part, so that others get their turn.
const PART_PICTURES: usize = 64;

/// Shots of one reel, in time order. Leading ones are apart: what they depend on may be damaged, and the others do without.
pub(super) type Batch = Vec<Picked>;

/// The batches of a request.
pub(super) struct Batches {
    picker: Picker,
    /// The first of the next batch.
    held: Option<Picked>,
    /// What came instead of it.
    failed: Option<Missing>,
    finished: bool,
}

impl Batches {
    pub fn new(picker: Picker) -> Batches {
        Batches { picker, held: None, failed: None, finished: false }
    }

    /// The next batch, or what is given in place of a picture; none after the last.
    pub async fn next(&mut self, finder: Finder<'_>) -> Option<Result<Batch, Missing>> {
        let mut batch: Batch = self.held.take().into_iter().collect();
        if let Some(error) = self.failed.take() {
            return Some(Err(self.end_with(error)));
        }
        while !self.finished {
            match self.picker.next(finder).await {
                Ok(Some(picked)) => {
                    let same = batch.first().is_none_or(|first| first.goes_with(&picked));
                    if !same || batch.len() >= BATCH_SHOTS {
                        self.held = Some(picked);
                        return Some(Ok(batch));
                    }
                    batch.push(picked);
                }
                Ok(None) => self.finished = true,
                Err(error) if batch.is_empty() => return Some(Err(self.end_with(error))),
                Err(error) => {
                    self.failed = Some(error);
                    return Some(Ok(batch));
                }
            }
        }
        (!batch.is_empty()).then_some(Ok(batch))
    }

    /// Takes note that nothing follows an error that is of all pictures.
    fn end_with(&mut self, missing: Missing) -> Missing {
        self.finished |= !missing.error.is_of_one();
        missing
    }
}

/// Shots that one task makes pictures of.
pub(super) struct Part {
    pub batch: Batch,
    pub run: Arc<Run>,
    /// The picture of the run for each of the batch.
    pub indices: Vec<usize>,
    /// It goes on in the run of the part before it.
    pub follows: bool,
}

impl Part {
    pub fn task(&self, asker: Asker, output: Output) -> Task {
        let mut wanted = self.indices.clone();
        wanted.sort_unstable();
        wanted.dedup();
        Task { asker, run: self.run.clone(), wanted, output, follows: self.follows }
    }

    /// Bytes to reckon with for its pictures.
    pub fn bytes(&self, output: Output) -> u64 {
        self.batch.first().map_or(0, |first| bytes_of_one(first, output) * self.batch.len() as u64)
    }
}

/// The parts of a batch, of whose run `last_run` says whether the parts before them are of it, too.
///
/// # Errors
/// When what the shots depend on is not there or too much.
pub(super) async fn parts(
    finder: Finder<'_>,
    batch: Batch,
    output: Output,
    last_run: Option<RunId>,
) -> Result<VecDeque<Part>, FramesError> {
    let Some(newest) = batch.last() else { return Ok(VecDeque::new()) };
    // The open fragment may have grown while the batch was made: the last one's reel has all of it.
    let reel = newest.reel.clone();
    let shots = || batch.iter().map(|picked| picked.shot);
    let last = shots().max().unwrap_or(0);
    let with_leading = shots().any(|shot| reel.shots[shot].is_leading);
    let built = build(finder, &reel, last, with_leading).await?;
    let most =
        PART_PICTURES.min(usize::try_from(PART_BYTES / bytes_of_one(newest, output).max(1)).unwrap_or(usize::MAX));
    let mut parts: VecDeque<Part> = VecDeque::new();
    for picked in batch {
        let index = built.index(&reel, picked.shot);
        match parts.back_mut() {
            // The same picture again is in the same part: it is made once.
            Some(part) if part.batch.len() < most || part.indices.last() == Some(&index) => {
                part.batch.push(picked);
                part.indices.push(index);
            }
            back => {
                let follows = back.is_some() || last_run == Some(built.run.id);
                parts.push_back(Part { batch: vec![picked], run: built.run.clone(), indices: vec![index], follows });
            }
        }
    }
    Ok(parts)
}

/// Bytes to reckon with for one picture like this.
fn bytes_of_one(picked: &Picked, output: Output) -> u64 {
    let setup = &picked.reel.setup;
    let placed = output.place(setup.width, setup.height);
    let (width, height) = placed.map_or((1, 1), |placed| (placed.width, placed.height));
    match output.format {
        Format::I420 => output.format.bytes_max(width, height),
        // A byte a pixel is much for a picture that was coded.
        Format::Jpeg | Format::Png | Format::Webp => u64::from(width) * u64::from(height),
    }
}
