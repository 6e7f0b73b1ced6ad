//! A block's row, to and from SQLite.

use std::ops::ControlFlow;

use bytes::Bytes;
use media::{Epoch, Ordinal, Position, ProducerTime, Sequence, ServerTime, StreamId};
use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Connection, Row, params};
use uuid::Uuid;

use super::time::span_class;
use crate::index::{BlockRow, BlockState, IndexError};

/// A query for whole rows: what follows the table's name.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT stream, first_epoch, first_seq, last_epoch, last_seq, first_ordinal, frag_count, discontinuities, ",
            "producer_from, producer_to, server_from, server_to, bytes, state, fragments FROM block ",
            $rest
        )
    };
}

/// The columns of [`select`] that are read alone.
const FIRST: [usize; 2] = [1, 2];
const LAST: [usize; 2] = [3, 4];
const FIRST_ORDINAL: usize = 5;
const COUNT: usize = 6;

/// A stream as a key.
pub(super) fn stream_key(stream: StreamId) -> [u8; 16] {
    *stream.0.as_bytes()
}

/// A position to look for: beyond what a row can hold, it is the greatest that one can.
pub(super) fn saturated(position: Position) -> (i64, i64) {
    (i64::from(position.epoch.0), i64::try_from(position.sequence.0).unwrap_or(i64::MAX))
}

/// A number to be stored.
pub(super) fn number(value: u64, what: &str) -> Result<i64, IndexError> {
    i64::try_from(value).map_err(|_| IndexError::Database(format!("{what} {value} is beyond what a row can hold")))
}

fn state_number(state: BlockState) -> i64 {
    match state {
        BlockState::Open => 0,
        BlockState::Sealed => 1,
        BlockState::Deleting => 2,
        BlockState::Quarantined => 3,
        BlockState::Lost => 4,
    }
}

/// Inserts or replaces rows.
pub(super) struct Upsert<'db>(CachedStatement<'db>);

impl<'db> Upsert<'db> {
    pub(super) fn prepare(db: &'db Connection) -> Result<Upsert<'db>, IndexError> {
        Ok(Upsert(db.prepare_cached(
            "INSERT INTO block (stream, first_epoch, first_seq, last_epoch, last_seq, first_ordinal, frag_count,
                 discontinuities, producer_from, producer_to, producer_class, server_from, server_to, server_class,
                 bytes, state, fragments)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)
             ON CONFLICT DO UPDATE SET last_epoch = ?4, last_seq = ?5, first_ordinal = ?6, frag_count = ?7,
                 discontinuities = ?8, producer_from = ?9, producer_to = ?10, producer_class = ?11, server_from = ?12,
                 server_to = ?13, server_class = ?14, bytes = ?15, state = ?16, fragments = ?17",
        )?))
    }

    pub(super) fn execute(&mut self, row: &BlockRow) -> Result<(), IndexError> {
        let (producer_from, producer_to) = (row.producer_from.micros(), row.producer_to.micros());
        let (server_from, server_to) = (row.server_from.micros(), row.server_to.micros());
        self.0.execute(params![
            stream_key(row.stream),
            row.first.epoch.0,
            number(row.first.sequence.0, "sequence")?,
            row.last.epoch.0,
            number(row.last.sequence.0, "sequence")?,
            number(row.first_ordinal.0, "ordinal")?,
            row.count,
            number(row.discontinuities, "count of discontinuities")?,
            producer_from,
            producer_to,
            span_class(producer_from, producer_to),
            server_from,
            server_to,
            span_class(server_from, server_to),
            number(row.synced_bytes, "bytes")?,
            state_number(row.state),
            row.fragments.as_deref(),
        ])?;
        Ok(())
    }
}

/// Goes over a stream's rows in stream order.
pub(super) struct Walk<'db> {
    statement: CachedStatement<'db>,
    stream: StreamId,
}

impl<'db> Walk<'db> {
    pub(super) fn prepare(db: &'db Connection, stream: StreamId) -> Result<Walk<'db>, IndexError> {
        let statement = db.prepare_cached(select!(
            "WHERE stream = ?1 AND (first_epoch, first_seq) >= (?2, ?3) AND state <> 2 ORDER BY first_epoch, first_seq"
        ))?;
        Ok(Walk { statement, stream })
    }

    /// Shows the rows from `start` on to `look`, until it breaks or they end; true when they ended.
    pub(super) fn from(
        &mut self,
        start: (i64, i64),
        mut look: impl FnMut(&Row<'_>) -> Result<ControlFlow<()>, IndexError>,
    ) -> Result<bool, IndexError> {
        let mut rows = self.statement.query(params![stream_key(self.stream), start.0, start.1])?;
        while let Some(row) = rows.next()? {
            if look(row)?.is_break() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The key of a row.
pub(super) fn first(row: &Row<'_>) -> Result<(i64, i64), IndexError> {
    Ok((row.get(FIRST[0])?, row.get(FIRST[1])?))
}

/// The position of its last fragment.
pub(super) fn last(row: &Row<'_>) -> Result<(i64, i64), IndexError> {
    Ok((row.get(LAST[0])?, row.get(LAST[1])?))
}

/// Its ordinals, the end exclusive.
pub(super) fn ordinals(row: &Row<'_>) -> Result<(i64, i64), IndexError> {
    let first: i64 = row.get(FIRST_ORDINAL)?;
    Ok((first, first.saturating_add(row.get(COUNT)?)))
}

/// The stream of a row that begins with it.
pub(super) fn stream(row: &Row<'_>) -> Result<StreamId, IndexError> {
    match row.get_ref(0)?.as_blob().ok().and_then(|blob| Uuid::from_slice(blob).ok()) {
        Some(uuid) => Ok(StreamId(uuid)),
        None => Err(IndexError::Corrupt("a stream's key is not 16 bytes".into())),
    }
}

/// A whole row.
pub(super) fn read_row(row: &Row<'_>) -> Result<BlockRow, IndexError> {
    let stream = stream(row)?;
    let place = |epoch: i64, sequence: i64| Position {
        epoch: Epoch(u32::try_from(epoch).unwrap_or(u32::MAX)),
        sequence: Sequence(u64::try_from(sequence).unwrap_or(u64::MAX)),
    };
    let (epoch, sequence) = first(row)?;
    let named = place(epoch, sequence);
    let damaged = |what: &str| IndexError::Damaged { stream, first: named, what: what.to_owned() };
    let count = |column: usize, what: &str| {
        let value: i64 = row.get(column)?;
        u64::try_from(value).map_err(|_| damaged(what))
    };
    let short = |column: usize, what: &str| {
        let value: i64 = row.get(column)?;
        u32::try_from(value).map_err(|_| damaged(what))
    };
    let position = |columns: [usize; 2]| {
        let epoch = Epoch(short(columns[0], "epoch out of range")?);
        Ok::<_, IndexError>(Position { epoch, sequence: Sequence(count(columns[1], "sequence out of range")?) })
    };
    let state = match row.get::<_, i64>(13)? {
        0 => BlockState::Open,
        1 => BlockState::Sealed,
        2 => BlockState::Deleting,
        3 => BlockState::Quarantined,
        4 => BlockState::Lost,
        _ => return Err(damaged("unknown state")),
    };
    let fragments = match row.get_ref(14)? {
        ValueRef::Null => None,
        ValueRef::Blob(blob) => Some(Bytes::copy_from_slice(blob)),
        _ => return Err(damaged("fragments are not bytes")),
    };
    Ok(BlockRow {
        stream,
        first: position(FIRST)?,
        last: position(LAST)?,
        first_ordinal: Ordinal(count(FIRST_ORDINAL, "ordinal out of range")?),
        count: short(COUNT, "count out of range")?,
        discontinuities: count(7, "discontinuities out of range")?,
        producer_from: ProducerTime::from_micros(row.get(8)?),
        producer_to: ProducerTime::from_micros(row.get(9)?),
        server_from: ServerTime::from_micros(row.get(10)?),
        server_to: ServerTime::from_micros(row.get(11)?),
        synced_bytes: count(12, "bytes out of range")?,
        state,
        fragments,
    })
}
