//! Search by time, where times may be in any order.
//!
//! A B-tree on the end of each span finds all that end after a range begins, which may be a year of them; where to stop
//! is not known, since a long span that ends late may begin early. So spans are kept in classes of like length: a span
//! of class `c` is shorter than `16^c` microseconds, hence one that meets `[from, to)` ends before `to + 16^c`. Each
//! class is one short scan, and a stream's blocks are in one or two of the 17.

use std::ops::ControlFlow;

use media::{Position, StreamId};
use rusqlite::{Connection, params};

use super::row::{Walk, first, read_row, saturated, stream_key};
use crate::index::{BlockRow, IndexError, meets};

/// Classes 0 to 16: no span is longer than 64 bits can say.
const CLASSES: u32 = 17;
/// Blocks in a row outside the range after which walking on is given up for a search.
const MISSES_MAX: u32 = 32;

/// One of a block's two clocks.
pub(super) struct Clock {
    /// Keys of a class (?2) whose span meets the range [?3, ?4) and ends by ?5, from the key (?6, ?7) on.
    /// `INDEXED BY`: left alone, the planner prefers the primary key, which is a scan of the whole stream.
    pub(super) keys: &'static str,
    /// Where whole rows have the span.
    columns: [usize; 2],
}

/// By producer time.
pub(super) const PRODUCER: Clock = Clock {
    keys: "SELECT first_epoch, first_seq FROM block INDEXED BY block_by_producer
           WHERE stream = ?1 AND producer_class = ?2 AND producer_to >= ?3 AND producer_to <= ?5 AND producer_from < ?4
             AND (producer_to > ?3 OR producer_from >= ?3) AND (first_epoch, first_seq) >= (?6, ?7) AND state <> 2",
    columns: [8, 9],
};

/// By server time.
pub(super) const SERVER: Clock = Clock {
    keys: "SELECT first_epoch, first_seq FROM block INDEXED BY block_by_server
           WHERE stream = ?1 AND server_class = ?2 AND server_to >= ?3 AND server_to <= ?5 AND server_from < ?4
             AND (server_to > ?3 OR server_from >= ?3) AND (first_epoch, first_seq) >= (?6, ?7) AND state <> 2",
    columns: [10, 11],
};

/// The class of a span: the least `c` with a length below `16^c`.
pub(super) fn span_class(from: i64, to: i64) -> u32 {
    let length = if to > from { to.wrapping_sub(from) as u64 } else { 0 };
    (u64::BITS - length.leading_zeros()).div_ceil(4)
}

/// The latest end of a span of `class` that begins before `to`.
fn latest_end(class: u32, to: i64) -> i64 {
    match 1i64.checked_shl(4 * class) {
        Some(longest) if longest > 0 => to.saturating_add(longest),
        _ => i64::MAX,
    }
}

/// Blocks whose span meets the range, in stream order.
pub(super) fn search(
    db: &Connection,
    clock: &Clock,
    stream: StreamId,
    (from, to): (i64, i64),
    after: Option<Position>,
    limit: usize,
) -> Result<Vec<BlockRow>, IndexError> {
    if from >= to {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    let mut start = after.map_or((0, 0), |after| following(saturated(after)));
    let mut walk = Walk::prepare(db, stream)?;

    // Most questions go on where the last one ended, or are about most of a short stream: walk a little.
    let mut misses = 0;
    let ended = walk.from(start, |row| {
        if found.len() == limit || misses == MISSES_MAX {
            return Ok(ControlFlow::Break(()));
        }
        if meets(row.get(clock.columns[0])?, row.get(clock.columns[1])?, from, to) {
            found.push(read_row(row)?);
            misses = 0;
        } else {
            misses += 1;
        }
        start = following(first(row)?);
        Ok(ControlFlow::Continue(()))
    })?;
    if ended || found.len() == limit {
        return Ok(found);
    }

    let mut keys = keys(db, clock, stream, (from, to), start)?;
    keys.truncate(limit - found.len());
    let mut keys = keys.into_iter().peekable();
    // Neighbours in the answer are mostly neighbours in the stream: one walk reads them all.
    while let Some(wanted) = keys.peek().copied() {
        walk.from(wanted, |row| {
            if keys.next_if_eq(&first(row)?).is_none() {
                return Ok(ControlFlow::Break(()));
            }
            found.push(read_row(row)?);
            Ok(ControlFlow::Continue(()))
        })?;
        if keys.peek() == Some(&wanted) {
            return Err(IndexError::Corrupt("a time index names a block that is not there".into()));
        }
    }
    Ok(found)
}

/// Keys of the blocks from `start` on whose span meets the range, in stream order. Looks at the time index alone.
fn keys(
    db: &Connection,
    clock: &Clock,
    stream: StreamId,
    (from, to): (i64, i64),
    start: (i64, i64),
) -> Result<Vec<(i64, i64)>, IndexError> {
    let mut statement = db.prepare_cached(clock.keys)?;
    let mut keys = Vec::new();
    for class in 0..CLASSES {
        let values = params![stream_key(stream), class, from, to, latest_end(class, to), start.0, start.1];
        let mut rows = statement.query(values)?;
        while let Some(row) = rows.next()? {
            keys.push((row.get(0)?, row.get(1)?));
        }
    }
    keys.sort_unstable();
    Ok(keys)
}

/// The least key after `key`.
fn following((epoch, sequence): (i64, i64)) -> (i64, i64) {
    match sequence.checked_add(1) {
        Some(sequence) => (epoch, sequence),
        None => (epoch.saturating_add(1), 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn span_is_shorter_than_its_class_allows() {
        let minute = 60_000_000;
        for (from, to, class) in [(0, 0, 0), (0, 1, 1), (0, 15, 1), (0, 16, 2), (-5, 5 * minute, 8), (9, 0, 0)] {
            assert_eq!(span_class(from, to), class, "[{from}, {to})");
        }
        assert_eq!(span_class(i64::MIN, i64::MAX), 16);
        assert_eq!(latest_end(8, 0), 1 << 32);
        assert_eq!(latest_end(15, 0), 1 << 60);
        assert_eq!(latest_end(16, -9), i64::MAX);
        assert_eq!(latest_end(8, i64::MAX - 1), i64::MAX);
    }
}
