//! Bytes and blocks of each stream, kept by every change in its own transaction.

use std::collections::BTreeMap;

use media::{Position, StreamId};
use rusqlite::{Connection, OptionalExtension, params};

use super::row::{saturated, stream_key};
use crate::index::IndexError;

/// Adds up what a change does to the sums of streams.
#[derive(Default)]
pub(super) struct UsageChange(BTreeMap<StreamId, (i64, i64)>);

impl UsageChange {
    /// Notes that the block at `first` goes, or is replaced: what it counted for so far is taken off.
    pub(super) fn without(&mut self, db: &Connection, stream: StreamId, first: Position) -> Result<(), IndexError> {
        let (epoch, sequence) = saturated(first);
        let bytes: Option<i64> = db
            .prepare_cached(
                "SELECT bytes FROM block WHERE stream = ?1 AND first_epoch = ?2 AND first_seq = ?3 AND state <> 2",
            )?
            .query_row(params![stream_key(stream), epoch, sequence], |row| row.get(0))
            .optional()?;
        if let Some(bytes) = bytes {
            self.add(stream, -bytes, -1);
        }
        Ok(())
    }

    pub(super) fn add(&mut self, stream: StreamId, bytes: i64, blocks: i64) {
        let sums = self.0.entry(stream).or_default();
        sums.0 = sums.0.saturating_add(bytes);
        sums.1 = sums.1.saturating_add(blocks);
    }

    pub(super) fn apply(self, db: &Connection) -> Result<(), IndexError> {
        let mut change = db.prepare_cached(
            "INSERT INTO stream_usage (stream, bytes, blocks) VALUES (?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes, blocks = blocks + excluded.blocks",
        )?;
        for (stream, (bytes, blocks)) in self.0 {
            change.execute(params![stream_key(stream), bytes, blocks])?;
        }
        Ok(())
    }
}
