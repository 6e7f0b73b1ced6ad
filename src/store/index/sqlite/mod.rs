//! The index on SQLite: `index.db` in the data folder.
//!
//! One connection writes, behind a lock; readers have connections of their own and see whole transactions. WAL with
//! `synchronous=NORMAL`: a power cut may forget the newest rows, which recovery finds again in the blocks.

#[macro_use]
mod row;
mod time;
mod usage;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use media::{Ordinal, Position, ProducerTime, ServerTime, StreamId};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params};

use super::{BlockRow, BlockState, Index, IndexError};
use row::{Upsert, Walk, number, read_row, saturated, stream_key};
use usage::UsageChange;

/// The format written, kept in `user_version`.
const FORMAT: u32 = 1;
/// "Kino" in `application_id`: another program's database is never taken for ours.
const APPLICATION_ID: i32 = 0x4b69_6e6f;
/// Idle reader connections kept open.
const READERS_IDLE_MAX: usize = 4;
/// The WAL file is cut back to this size when a checkpoint has emptied it.
const WAL_BYTES: i64 = 32 << 20;

/// Behind the index's name: a file that says that damage of it was found.
const DAMAGED: &str = "-damaged";

fn marker(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(DAMAGED);
    PathBuf::from(name)
}

/// An index in one SQLite file.
#[derive(Debug)]
pub struct SqliteIndex {
    path: PathBuf,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
}

impl SqliteIndex {
    /// Opens the index at `path`, empty when there was none.
    ///
    /// # Errors
    /// [`IndexError::Newer`] for a newer format. Anything else means that the file is of no use: it may be
    /// [discarded](SqliteIndex::discard) and rebuilt.
    pub fn open(path: &Path) -> Result<SqliteIndex, IndexError> {
        let mut writer = Connection::open_with_flags(
            path,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        settle(&writer)?;
        make_schema(&mut writer)?;
        writer.pragma_update(None, "journal_mode", "WAL")?;
        writer.pragma_update(None, "synchronous", "NORMAL")?;
        writer.pragma_update(None, "journal_size_limit", WAL_BYTES)?;
        Ok(SqliteIndex { path: path.to_owned(), writer: Mutex::new(writer), readers: Mutex::new(Vec::new()) })
    }

    /// Removes the index at `path`, which must not be open.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn discard(path: &Path) -> std::io::Result<()> {
        for suffix in ["", "-wal", "-shm", "-journal", DAMAGED] {
            let mut file = path.as_os_str().to_owned();
            file.push(suffix);
            match std::fs::remove_file(PathBuf::from(file)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether damage of the index at `path` was found after it was opened.
    pub fn is_marked(path: &Path) -> bool {
        marker(path).exists()
    }

    /// Says and marks that the file is damaged, once: the next start makes it again.
    fn note_damage<T>(&self, done: Result<T, IndexError>) -> Result<T, IndexError> {
        if let Err(error @ (IndexError::Corrupt(_) | IndexError::Damaged { .. })) = &done
            && !SqliteIndex::is_marked(&self.path)
        {
            tracing::error!(%error, "index.db is damaged: some media cannot be found until the server is started again, which makes it anew");
            if let Err(error) = std::fs::write(marker(&self.path), error.to_string()) {
                tracing::error!(%error, "failed to mark index.db as damaged: run `kinora store rebuild` while the server is stopped");
            }
        }
        done
    }

    /// Does `work` in one transaction of the writer; nothing of it stays when it fails or panics.
    fn write<T>(&self, work: impl FnOnce(&Transaction<'_>) -> Result<T, IndexError>) -> Result<T, IndexError> {
        let mut writer = lock(&self.writer);
        let done = (|| {
            let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(done)
        })();
        self.note_damage(done)
    }

    /// Does `work` on a reader connection, which sees one moment of the index all through.
    fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T, IndexError>) -> Result<T, IndexError> {
        let done = self.read_once(work);
        self.note_damage(done)
    }

    fn read_once<T>(&self, work: impl FnOnce(&Connection) -> Result<T, IndexError>) -> Result<T, IndexError> {
        let idle = lock(&self.readers).pop();
        let reader = match idle {
            Some(reader) => reader,
            None => self.open_reader()?,
        };
        let moment = reader.unchecked_transaction()?;
        let done = work(&moment)?;
        drop(moment);
        let mut readers = lock(&self.readers);
        if readers.len() < READERS_IDLE_MAX {
            readers.push(reader);
        }
        Ok(done)
    }

    fn open_reader(&self) -> Result<Connection, IndexError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let reader = Connection::open_with_flags(&self.path, flags)?;
        settle(&reader)?;
        Ok(reader)
    }

    /// The rows of one prepared query, in its order.
    fn rows(&self, sql: &'static str, values: impl rusqlite::Params) -> Result<Vec<BlockRow>, IndexError> {
        self.read(|db| {
            let mut statement = db.prepare_cached(sql)?;
            let mut found = statement.query(values)?;
            let mut rows = Vec::new();
            while let Some(row) = found.next()? {
                rows.push(read_row(row)?);
            }
            Ok(rows)
        })
    }
}

/// A transaction that panicked was rolled back when it was dropped, so a poisoned connection is sound.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What writer and readers have in common.
fn settle(db: &Connection) -> Result<(), IndexError> {
    db.busy_timeout(Duration::from_secs(5))?;
    db.set_prepared_statement_cache_capacity(32);
    db.pragma_update(None, "cache_size", -8_000)?;
    db.pragma_update(None, "trusted_schema", false)?;
    Ok(())
}

fn make_schema(db: &mut Connection) -> Result<(), IndexError> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let pragma = |name| transaction.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (format, application) = (pragma("user_version")?, pragma("application_id")?);
    let tables: i64 = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables == 0 && format == 0 {
        transaction.execute_batch(include_str!("schema.sql"))?;
        transaction.pragma_update(None, "user_version", FORMAT)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.commit()?;
        return Ok(());
    }
    if application != i64::from(APPLICATION_ID) {
        return Err(IndexError::Corrupt("the file is a database of another program".into()));
    }
    match u32::try_from(format) {
        Ok(FORMAT) => Ok(()),
        Ok(found) if found > FORMAT => Err(IndexError::Newer { found, known: FORMAT }),
        _ => Err(IndexError::Corrupt(format!("format {format} was never written"))),
    }
}

impl From<rusqlite::Error> for IndexError {
    fn from(error: rusqlite::Error) -> IndexError {
        use rusqlite::ErrorCode::{
            CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, FileLockingProtocolFailed, OperationInterrupted,
            OutOfMemory, PermissionDenied, ReadOnly, SystemIoFailure,
        };
        let of_machine = |code: rusqlite::ErrorCode| {
            matches!(
                code,
                CannotOpen
                    | DatabaseBusy
                    | DatabaseLocked
                    | DiskFull
                    | FileLockingProtocolFailed
                    | OperationInterrupted
                    | OutOfMemory
                    | PermissionDenied
                    | ReadOnly
                    | SystemIoFailure
            )
        };
        // Our statements are right: what the file answers them wrongly, with other tables or columns or types, is damage.
        match error.sqlite_error_code() {
            Some(code) if of_machine(code) => IndexError::Database(error.to_string()),
            _ => IndexError::Corrupt(error.to_string()),
        }
    }
}

impl Index for SqliteIndex {
    fn put(&self, rows: &[BlockRow]) -> Result<(), IndexError> {
        self.write(|db| {
            let mut usage = UsageChange::default();
            let mut upsert = Upsert::prepare(db)?;
            for row in rows {
                usage.without(db, row.stream, row.first)?;
                upsert.execute(row)?;
                if row.state != BlockState::Deleting {
                    usage.add(row.stream, number(row.synced_bytes, "bytes")?, 1);
                }
            }
            usage.apply(db)
        })
    }

    fn block(&self, stream: StreamId, first: Position) -> Result<Option<BlockRow>, IndexError> {
        let (epoch, sequence) = saturated(first);
        let sql = select!("WHERE stream = ?1 AND first_epoch = ?2 AND first_seq = ?3 AND state <> 2");
        Ok(self.rows(sql, params![stream_key(stream), epoch, sequence])?.pop())
    }

    fn newest(&self, stream: StreamId) -> Result<Option<BlockRow>, IndexError> {
        let sql = select!("WHERE stream = ?1 AND state <> 2 ORDER BY first_epoch DESC, first_seq DESC LIMIT 1");
        Ok(self.rows(sql, params![stream_key(stream)])?.pop())
    }

    fn oldest(&self, stream: StreamId) -> Result<Option<BlockRow>, IndexError> {
        let sql = select!("WHERE stream = ?1 AND state <> 2 ORDER BY first_epoch, first_seq LIMIT 1");
        Ok(self.rows(sql, params![stream_key(stream)])?.pop())
    }

    fn by_producer(
        &self,
        stream: StreamId,
        from: ProducerTime,
        to: ProducerTime,
        after: Option<Position>,
        limit: usize,
    ) -> Result<Vec<BlockRow>, IndexError> {
        self.read(|db| time::search(db, &time::PRODUCER, stream, (from.micros(), to.micros()), after, limit))
    }

    fn by_server(
        &self,
        stream: StreamId,
        from: ServerTime,
        to: ServerTime,
        after: Option<Position>,
        limit: usize,
    ) -> Result<Vec<BlockRow>, IndexError> {
        self.read(|db| time::search(db, &time::SERVER, stream, (from.micros(), to.micros()), after, limit))
    }

    fn after(&self, stream: StreamId, position: Position, limit: usize) -> Result<Vec<BlockRow>, IndexError> {
        self.read(|db| {
            // The block that `position` lies in is the last that starts at or before it: blocks do not overlap.
            let start = db
                .prepare_cached(
                    "SELECT first_epoch, first_seq FROM block
                     WHERE stream = ?1 AND (first_epoch, first_seq) <= (?2, ?3)
                     ORDER BY first_epoch DESC, first_seq DESC LIMIT 1",
                )?
                .query_row(params![stream_key(stream), saturated(position).0, saturated(position).1], key)
                .optional()?
                .unwrap_or(saturated(position));
            let mut walk = Walk::prepare(db, stream)?;
            let mut found = Vec::new();
            walk.from(start, |row| {
                if found.len() == limit {
                    return Ok(ControlFlow::Break(()));
                }
                if row::last(row)? > saturated(position) {
                    found.push(read_row(row)?);
                }
                Ok(ControlFlow::Continue(()))
            })?;
            Ok(found)
        })
    }

    fn by_ordinal(
        &self,
        stream: StreamId,
        from: Ordinal,
        to: Ordinal,
        limit: usize,
    ) -> Result<Vec<BlockRow>, IndexError> {
        let bound = |ordinal: Ordinal| i64::try_from(ordinal.0).unwrap_or(i64::MAX);
        let (from, to) = (bound(from), bound(to));
        if from >= to {
            return Ok(Vec::new());
        }
        self.read(|db| {
            // Ordinals rise with positions, so the block that holds `from` is the last that starts at or before it.
            let start = db
                .prepare_cached(
                    "SELECT first_epoch, first_seq FROM block WHERE stream = ?1 AND first_ordinal <= ?2
                     ORDER BY first_ordinal DESC, first_epoch DESC, first_seq DESC LIMIT 1",
                )?
                .query_row(params![stream_key(stream), from], key)
                .optional()?
                .unwrap_or((0, 0));
            let mut walk = Walk::prepare(db, stream)?;
            let mut found = Vec::new();
            walk.from(start, |row| {
                let (first, end) = row::ordinals(row)?;
                if found.len() == limit || first >= to {
                    return Ok(ControlFlow::Break(()));
                }
                if end > from {
                    found.push(read_row(row)?);
                }
                Ok(ControlFlow::Continue(()))
            })?;
            Ok(found)
        })
    }

    fn streams(&self) -> Result<Vec<StreamId>, IndexError> {
        self.read(|db| {
            let mut statement =
                db.prepare_cached("SELECT stream FROM stream_usage WHERE blocks > 0 ORDER BY stream")?;
            let mut found = statement.query([])?;
            let mut streams = Vec::new();
            while let Some(row) = found.next()? {
                streams.push(row::stream(row)?);
            }
            Ok(streams)
        })
    }

    fn usage(&self, stream: StreamId) -> Result<(u64, u64), IndexError> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT bytes, blocks FROM stream_usage WHERE stream = ?1")?;
            let sums = statement
                .query_row(params![stream_key(stream)], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)));
            let (bytes, blocks) = sums.optional()?.unwrap_or((0, 0));
            Ok((u64::try_from(bytes).unwrap_or(0), u64::try_from(blocks).unwrap_or(0)))
        })
    }

    fn open_blocks(&self) -> Result<Vec<BlockRow>, IndexError> {
        self.rows(select!("WHERE state = 0 ORDER BY stream, first_epoch, first_seq"), [])
    }

    fn mark_deleting(&self, stream: StreamId, blocks: &[Position]) -> Result<(), IndexError> {
        self.write(|db| {
            let mut usage = UsageChange::default();
            let mut mark = db.prepare_cached(
                "UPDATE block SET state = 2 WHERE stream = ?1 AND first_epoch = ?2 AND first_seq = ?3",
            )?;
            for first in blocks {
                usage.without(db, stream, *first)?;
                mark.execute(params![stream_key(stream), saturated(*first).0, saturated(*first).1])?;
            }
            usage.apply(db)
        })
    }

    fn deleting(&self) -> Result<Vec<BlockRow>, IndexError> {
        self.rows(select!("WHERE state = 2 ORDER BY stream, first_epoch, first_seq"), [])
    }

    fn forget(&self, stream: StreamId, blocks: &[Position]) -> Result<(), IndexError> {
        self.write(|db| {
            let mut usage = UsageChange::default();
            let mut delete =
                db.prepare_cached("DELETE FROM block WHERE stream = ?1 AND first_epoch = ?2 AND first_seq = ?3")?;
            for first in blocks {
                usage.without(db, stream, *first)?;
                delete.execute(params![stream_key(stream), saturated(*first).0, saturated(*first).1])?;
            }
            usage.apply(db)
        })
    }

    fn clear(&self) -> Result<(), IndexError> {
        self.write(|db| {
            db.execute("DELETE FROM block", [])?;
            db.execute("DELETE FROM stream_usage", [])?;
            Ok(())
        })
    }
}

/// The key of a block within its stream.
fn key(row: &rusqlite::Row<'_>) -> rusqlite::Result<(i64, i64)> {
    Ok((row.get(0)?, row.get(1)?))
}

#[cfg(test)]
mod tests;
