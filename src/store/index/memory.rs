//! The index in memory: the model of the others, and what simulations run on.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use media::{Ordinal, Position, ProducerTime, ServerTime, StreamId};

use super::{BlockRow, BlockState, Index, IndexError, meets};

/// An index that is lost with its process. It looks at every row of a stream: it is plain, not quick.
#[derive(Debug, Default)]
pub struct MemoryIndex {
    rows: RwLock<BTreeMap<StreamId, BTreeMap<Position, BlockRow>>>,
}

impl MemoryIndex {
    /// An empty index.
    pub fn new() -> MemoryIndex {
        MemoryIndex::default()
    }

    // Each change below is complete before anything in it could panic, so a poisoned lock guards whole rows.
    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<StreamId, BTreeMap<Position, BlockRow>>> {
        self.rows.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<StreamId, BTreeMap<Position, BlockRow>>> {
        self.rows.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn of_stream(&self, stream: StreamId, limit: usize, wanted: impl Fn(&BlockRow) -> bool) -> Vec<BlockRow> {
        let rows = self.read();
        let blocks = rows.get(&stream).into_iter().flat_map(BTreeMap::values);
        blocks.filter(|row| visible(row) && wanted(row)).take(limit).cloned().collect()
    }

    fn of_all(&self, state: BlockState) -> Vec<BlockRow> {
        let rows = self.read();
        rows.values().flat_map(BTreeMap::values).filter(|row| row.state == state).cloned().collect()
    }
}

fn visible(row: &BlockRow) -> bool {
    row.state != BlockState::Deleting
}

impl Index for MemoryIndex {
    fn put(&self, rows: &[BlockRow]) -> Result<(), IndexError> {
        let mut all = self.write();
        for row in rows {
            all.entry(row.stream).or_default().insert(row.first, row.clone());
        }
        Ok(())
    }

    fn block(&self, stream: StreamId, first: Position) -> Result<Option<BlockRow>, IndexError> {
        Ok(self.of_stream(stream, 1, |row| row.first == first).pop())
    }

    fn newest(&self, stream: StreamId) -> Result<Option<BlockRow>, IndexError> {
        let rows = self.read();
        Ok(rows.get(&stream).and_then(|blocks| blocks.values().rev().find(|row| visible(row)).cloned()))
    }

    fn oldest(&self, stream: StreamId) -> Result<Option<BlockRow>, IndexError> {
        Ok(self.of_stream(stream, 1, |_| true).pop())
    }

    fn by_producer(
        &self,
        stream: StreamId,
        from: ProducerTime,
        to: ProducerTime,
        after: Option<Position>,
        limit: usize,
    ) -> Result<Vec<BlockRow>, IndexError> {
        Ok(self.of_stream(stream, limit, |row| {
            after.is_none_or(|after| row.first > after)
                && from < to
                && meets(row.producer_from.micros(), row.producer_to.micros(), from.micros(), to.micros())
        }))
    }

    fn by_server(
        &self,
        stream: StreamId,
        from: ServerTime,
        to: ServerTime,
        after: Option<Position>,
        limit: usize,
    ) -> Result<Vec<BlockRow>, IndexError> {
        Ok(self.of_stream(stream, limit, |row| {
            after.is_none_or(|after| row.first > after)
                && from < to
                && meets(row.server_from.micros(), row.server_to.micros(), from.micros(), to.micros())
        }))
    }

    fn after(&self, stream: StreamId, position: Position, limit: usize) -> Result<Vec<BlockRow>, IndexError> {
        Ok(self.of_stream(stream, limit, |row| row.last > position))
    }

    fn by_ordinal(
        &self,
        stream: StreamId,
        from: Ordinal,
        to: Ordinal,
        limit: usize,
    ) -> Result<Vec<BlockRow>, IndexError> {
        Ok(self.of_stream(stream, limit, |row| {
            let end = row.first_ordinal.0.saturating_add(u64::from(row.count));
            from < to && row.first_ordinal < to && end > from.0
        }))
    }

    fn streams(&self) -> Result<Vec<StreamId>, IndexError> {
        let rows = self.read();
        Ok(rows.iter().filter(|(_, blocks)| blocks.values().any(visible)).map(|(stream, _)| *stream).collect())
    }

    fn usage(&self, stream: StreamId) -> Result<(u64, u64), IndexError> {
        let rows = self.read();
        let blocks = rows.get(&stream).into_iter().flat_map(BTreeMap::values).filter(|row| visible(row));
        Ok(blocks.fold((0, 0), |(bytes, count), row| (bytes + row.synced_bytes, count + 1)))
    }

    fn open_blocks(&self) -> Result<Vec<BlockRow>, IndexError> {
        Ok(self.of_all(BlockState::Open))
    }

    fn mark_deleting(&self, stream: StreamId, blocks: &[Position]) -> Result<(), IndexError> {
        let mut rows = self.write();
        let Some(rows) = rows.get_mut(&stream) else { return Ok(()) };
        for first in blocks {
            if let Some(row) = rows.get_mut(first) {
                row.state = BlockState::Deleting;
            }
        }
        Ok(())
    }

    fn deleting(&self) -> Result<Vec<BlockRow>, IndexError> {
        Ok(self.of_all(BlockState::Deleting))
    }

    fn forget(&self, stream: StreamId, blocks: &[Position]) -> Result<(), IndexError> {
        let mut rows = self.write();
        let Some(of_stream) = rows.get_mut(&stream) else { return Ok(()) };
        for first in blocks {
            of_stream.remove(first);
        }
        if of_stream.is_empty() {
            rows.remove(&stream);
        }
        Ok(())
    }

    fn clear(&self) -> Result<(), IndexError> {
        self.write().clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_index_conforms() {
        super::super::conformance::suite(|check| check(&MemoryIndex::new()));
    }
}
