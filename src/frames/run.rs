//! From shots to what a decoder is given: the coded pictures from where decoding can start.

use std::sync::Arc;

use media::StartKind;
use media::codec::vp9;
use media::decoding::{PictureCodec, Setup};

use super::FramesError;
use super::find::Finder;
use super::reel::{Reel, is_disposable};
use crate::workers::{CodedPicture, Run, RunId};

/// Most fragments that a picture may depend on.
const CHAIN_MAX: usize = 64;
/// Most bytes of coded pictures of a run.
const BYTES_MAX: usize = 192 << 20;
/// Pictures after the last wanted one: a decoder may want them before it lets that out.
const AFTER: usize = 16;

/// A run and where the shots of its last reel are in it: the index of the reel's first shot, leading ones that the run
/// leaves out not counted.
pub(super) struct Built {
    pub run: Arc<Run>,
    offset: usize,
    left_out: usize,
}

impl Built {
    /// The run's picture for a shot of the reel.
    pub fn index(&self, reel: &Reel, shot: usize) -> usize {
        // Leading pictures follow the key frame they lead, so all of them come before any shot after them.
        let leading = match self.left_out {
            0 => 0,
            _ => reel.shots[..shot].iter().filter(|shot| shot.is_leading).count(),
        };
        self.offset + shot - leading
    }
}

/// The run for the shots of `reel` up to `last`.
///
/// # Errors
/// When what they depend on is not there or too much.
pub(super) async fn build(
    finder: Finder<'_>,
    reel: &Reel,
    last: usize,
    with_leading: bool,
) -> Result<Built, FramesError> {
    // Backwards until decoding can start.
    let mut before: Vec<Reel> = Vec::new();
    let mut needs_more = reel.start == StartKind::Dependent || with_leading;
    while needs_more {
        if before.len() >= CHAIN_MAX {
            return Err(FramesError::TooLong);
        }
        let youngest = before.last().unwrap_or(reel);
        let found = if youngest.continues { finder.before(youngest).await? } else { None };
        // Parts of it will be missing; the decoder makes the best of it and says so.
        let Some(found) = found.filter(|found| found.setup == reel.setup) else { break };
        needs_more = found.start == StartKind::Dependent;
        before.push(found);
    }
    let first = before.last().unwrap_or(reel);
    let id = RunId { leads: with_leading && before.is_empty(), ..first.run_id() };
    let chain = before.iter().rev().chain(std::iter::once(reel));
    let mut pictures: Vec<CodedPicture> = Vec::new();
    let (mut bytes, mut offset, mut left_out) = (0, 0, 0);
    let mut sizes =
        Sizes { references: vp9::References::default(), width: reel.setup.width, height: reel.setup.height };
    for (at, one) in chain.enumerate() {
        let is_last = at == before.len();
        let end = if is_last { (last + 1 + AFTER).min(one.shots.len()) } else { one.shots.len() };
        offset = pictures.len();
        let data = one.read(finder.hub, 0..end).await?;
        bytes += data.iter().map(bytes::Bytes::len).sum::<usize>();
        if bytes > BYTES_MAX {
            return Err(FramesError::TooLong);
        }
        for (shot, data) in one.shots.iter().zip(data) {
            // Wanted ones stay even where what they refer to is gone: the decoder makes what it can of them.
            if at == 0 && shot.is_leading && !(is_last && with_leading) {
                left_out += usize::from(is_last);
                continue;
            }
            // Units of the stream's timeline are never negative, but the open fragment's are only guessed.
            let shown_ns = u64::try_from(i128::from(shot.pts) * 1_000_000_000 / i128::from(one.timescale.hz()));
            if one.setup.codec == PictureCodec::Vp9 {
                sizes.take(&data);
            }
            let disposable = is_disposable(&one.setup, &data);
            pictures.push(CodedPicture { shown_ns: shown_ns.unwrap_or(0), disposable, data });
        }
    }
    let has_holes = first.start != StartKind::Closed || before.iter().any(|one| one.is_damaged) || reel.is_damaged;
    let Sizes { width, height, .. } = sizes;
    let is_larger = (width, height) != (reel.setup.width, reel.setup.height);
    let setup = match has_holes || is_larger {
        true => Arc::new(Setup { has_holes, width, height, ..Setup::clone(&reel.setup) }),
        false => reel.setup.clone(),
    };
    let run = Arc::new(Run { id, setup, pictures });
    Ok(Built { run, offset, left_out })
}

/// The largest sides of a run's pictures. Senders of VP9 with spatial layers start with the lowest, and add others without a key
/// frame when the way is wide enough: a track is described by the first, and room must be made for the others.
struct Sizes {
    references: vp9::References,
    width: u32,
    height: u32,
}

impl Sizes {
    fn take(&mut self, data: &[u8]) {
        let unit = vp9::Unit::read_after(data, &mut self.references).ok();
        if let Some((width, height)) = unit.and_then(|unit| unit.size) {
            (self.width, self.height) = (self.width.max(width), self.height.max(height));
        }
    }
}
