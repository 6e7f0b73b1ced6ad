//! Which tracks a stream had: read from block heads, and kept for a while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use media::{Ordinal, StreamId, TrackSet, TrackSetId};

use crate::StoreError;
use crate::blobs::BlockKey;
use crate::block::head;
use crate::core::{Core, entries_of};
use crate::index::{BlockRow, BlockState};
use crate::layout::disk_error;

/// Most track sets kept.
const MAX_KEPT: usize = 1024;

/// Track sets that were asked for lately.
#[derive(Default)]
pub(crate) struct TrackSets(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    sets: HashMap<(StreamId, TrackSetId), (Arc<TrackSet>, u64)>,
    uses: u64,
}

impl TrackSets {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, key: (StreamId, TrackSetId)) -> Option<Arc<TrackSet>> {
        let mut kept = self.lock();
        kept.uses += 1;
        let now = kept.uses;
        let (set, used) = kept.sets.get_mut(&key)?;
        *used = now;
        Some(set.clone())
    }

    fn keep(&self, key: (StreamId, TrackSetId), set: Arc<TrackSet>) {
        let mut kept = self.lock();
        kept.uses += 1;
        let now = kept.uses;
        kept.sets.insert(key, (set, now));
        if kept.sets.len() > MAX_KEPT {
            let oldest = kept.sets.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| *key);
            oldest.and_then(|key| kept.sets.remove(&key));
        }
    }

    /// Forgets a deleted stream's.
    pub(crate) fn forget(&self, stream: StreamId) {
        self.lock().sets.retain(|(of, _), _| *of != stream);
    }
}

impl Core {
    /// A track set of the stream; none when no block that is left has it.
    pub(crate) fn track_set(&self, stream: StreamId, id: TrackSetId) -> Result<Option<Arc<TrackSet>>, StoreError> {
        if !self.exists(stream) {
            return Ok(None);
        }
        if let Some(set) = self.track_sets.get((stream, id)) {
            return Ok(Some(set));
        }
        let shown = self.memory().get(&stream).and_then(|blocks| {
            blocks.values().map(|block| &block.track_set).find(|(of, _)| *of == id).map(|(_, set)| set.clone())
        });
        let set = match shown {
            Some(set) => set,
            None => match self.find_track_set(stream, id)? {
                Some(set) => Arc::new(set),
                None => return Ok(None),
            },
        };
        self.track_sets.keep((stream, id), set.clone());
        Ok(Some(set))
    }

    /// Ids of track sets rise with ordinals, and a block has one: halving finds a block that has it.
    fn find_track_set(&self, stream: StreamId, id: TrackSetId) -> Result<Option<TrackSet>, StoreError> {
        let index = &self.ground.index;
        let (Some(oldest), Some(newest)) = (index.oldest(stream)?, index.newest(stream)?) else { return Ok(None) };
        let (mut from, mut to) = (oldest.first_ordinal.0, newest.first_ordinal.0 + u64::from(newest.count));
        while from < to {
            let middle = from + (to - from) / 2;
            let Some((row, of)) = self.first_served(stream, middle, to)? else {
                to = middle;
                continue;
            };
            match of.cmp(&id) {
                std::cmp::Ordering::Equal => return self.tracks_of(&row),
                std::cmp::Ordering::Less => from = row.first_ordinal.0 + u64::from(row.count),
                std::cmp::Ordering::Greater => to = middle.min(row.first_ordinal.0),
            }
        }
        Ok(None)
    }

    /// The first readable block that has an ordinal of `[from, to)`, with its track set's id.
    fn first_served(
        &self,
        stream: StreamId,
        mut from: u64,
        to: u64,
    ) -> Result<Option<(BlockRow, TrackSetId)>, StoreError> {
        while from < to {
            let rows = self.ground.index.by_ordinal(stream, Ordinal(from), Ordinal(to), 1)?;
            let Some(row) = rows.into_iter().next() else { return Ok(None) };
            let served = matches!(row.state, BlockState::Sealed | BlockState::Quarantined);
            if served && let Some(entry) = entries_of(&row)?.first() {
                let of = entry.info.track_set;
                return Ok(Some((row, of)));
            }
            from = (from + 1).max(row.first_ordinal.0 + u64::from(row.count));
        }
        Ok(None)
    }

    fn tracks_of(&self, row: &BlockRow) -> Result<Option<TrackSet>, StoreError> {
        let blob = self.blob(BlockKey { stream: row.stream, first: row.first })?;
        let read = head::read(&*blob).map_err(|error| disk_error("read block head", error))?;
        Ok(read.map(|(set, _)| set))
    }
}
