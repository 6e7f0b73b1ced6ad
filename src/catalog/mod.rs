//! `control.db`: streams and their settings, tokens, keys, publish secrets, how far retention dropped, the epoch.
//!
//! Every change is on stable storage before its call returns; this database is not a cache.
//!
//! Not here: what a credential allows and who is let in (`auth`), where media lies (`store`).

mod credentials;
mod known;
pub(crate) mod private_file;
mod schema;
mod seal;
mod streams;

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use media::{Epoch, Position, ServerTime, StreamId, StreamName};
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use serde::{Deserialize, Serialize};

pub(crate) use credentials::{Credential, CredentialKind, Proof};
use known::KnownStreams;
use seal::Seal;
pub(crate) use seal::random;

/// The one tenant.
const TENANT: i64 = 1;
/// Epochs are below this: a fragment number has 24 bits for them.
const EPOCHS: u32 = 1 << 24;

/// What happens when a second publisher comes to a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SecondPublisher {
    /// The same credential takes over; another is refused.
    #[default]
    SameCredential,
    /// Always refused.
    Refuse,
    /// Always takes over.
    Takeover,
}

/// Which clock is believed for producer times.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ProducerClock {
    /// The producer's when it is within 2 s of arrival, else arrival.
    #[default]
    Auto,
    /// The producer's.
    Trust,
    /// Arrival.
    Arrival,
}

/// What a stream keeps. Absent: no bound of that kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Retention {
    /// Media older than this is dropped.
    pub max_age: Option<Duration>,
    /// The oldest media beyond this many bytes is dropped.
    pub max_bytes: Option<u64>,
}

/// What people set on a stream.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct StreamSettings {
    pub retention: Retention,
    pub on_second_publisher: SecondPublisher,
    pub producer_clock: ProducerClock,
    pub tags: BTreeMap<String, String>,
}

/// Shortest age that may be set: a typing error below it loses media.
const AGE_MIN: Duration = Duration::from_secs(1);

impl StreamSettings {
    /// Refuses settings that are a mistake, wherever they come from.
    ///
    /// # Errors
    /// A sentence for the person who set them.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.retention.max_age.is_some_and(|age| age < AGE_MIN) {
            return Err("retention.max_age is at least 1s; without it media of any age is kept".into());
        }
        if self.retention.max_bytes == Some(0) {
            return Err("retention.max_bytes is at least 1; without it any number of bytes is kept".into());
        }
        if self.tags.len() > 50 {
            return Err("a stream has at most 50 tags".into());
        }
        for (key, value) in &self.tags {
            if key.is_empty() || key.chars().count() > 128 || value.chars().count() > 256 {
                return Err("a tag's key has 1 to 128 characters and its value at most 256".into());
            }
            if key.chars().chain(value.chars()).any(char::is_control) {
                return Err("a tag has no control characters".into());
            }
        }
        Ok(())
    }
}

/// A stream as the catalog knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Stream {
    pub id: StreamId,
    pub name: StreamName,
    pub created: ServerTime,
    pub settings: StreamSettings,
    /// Nothing before this is kept, or reported lost.
    pub retained_from: Option<ServerTime>,
    /// What lies in blocks that end at or before this was dropped, or is about to be.
    pub dropped: Option<Position>,
}

/// Why the catalog refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CatalogError {
    #[error("stream {0} exists")]
    Exists(StreamName),
    #[error("this server holds {0} streams at most (limits.streams)")]
    TooManyStreams(usize),
    #[error("no such stream")]
    NoStream,
    /// See [`StreamSettings::check`].
    #[error("{0}")]
    BadSettings(String),
    /// Somebody else changed the settings meanwhile.
    #[error("the settings of the stream changed meanwhile: read it again")]
    Changed,
    #[error("no such token or key")]
    NoCredential,
    #[error("control.db has format {found}, this version knows up to {known}")]
    Newer { found: u32, known: u32 },
    #[error("control.db: {0}")]
    Database(String),
    /// A file beside it: the server key, the admin token.
    #[error("{}: {what}", path.display())]
    File { path: PathBuf, what: String },
    #[error("the system gives no random bytes: {0}")]
    Random(String),
}

impl From<rusqlite::Error> for CatalogError {
    fn from(error: rusqlite::Error) -> CatalogError {
        CatalogError::Database(error.to_string())
    }
}

/// The catalog of one data folder. Streams are read from memory; every other call may block on a sync, and belongs where that is
/// allowed.
pub(crate) struct Catalog {
    path: PathBuf,
    writer: Mutex<Connection>,
    /// Lists of credentials do not wait for a write's sync.
    reader: Mutex<Connection>,
    /// The streams, as of the last commit. Changed under the lock of `writer` only, so that readers see the order of the commits.
    known: RwLock<KnownStreams>,
    seal: Seal,
}

impl Catalog {
    /// Opens `control.db` at `path`, makes it when there is none, brings it to today's format; `server-key` lies beside it.
    ///
    /// # Errors
    /// [`CatalogError::Newer`] for a newer format.
    pub(crate) fn open(path: &Path) -> Result<Arc<Catalog>, CatalogError> {
        // SQLite gives its own files the permissions of this one.
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let made = made.and_then(|file| file.sync_all()).and_then(|()| private_file::sync_folder(path));
        match made {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(private_file::failed(path, &error));
            }
            _ => {}
        }
        let mut writer = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        schema::upgrade(&mut writer)?;
        writer.pragma_update(None, "journal_mode", "WAL")?;
        writer.pragma_update(None, "synchronous", "FULL")?;
        let reader = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let known = RwLock::new(KnownStreams::of(streams::all(&reader)?));
        let seal = Seal::open(&path.with_file_name("server-key"))?;
        Ok(Arc::new(Catalog {
            path: path.to_owned(),
            writer: Mutex::new(writer),
            reader: Mutex::new(reader),
            known,
            seal,
        }))
    }

    /// Takes the next epoch: synced before it returns, never given twice.
    pub(crate) fn next_epoch(&self) -> Result<Epoch, CatalogError> {
        let epoch = self.write(|db| {
            let next = "UPDATE epoch SET epoch = epoch + 1 WHERE id = 1 RETURNING epoch";
            Ok(db.query_row(next, [], |row| row.get::<_, u32>(0))?)
        })?;
        if epoch < EPOCHS { Ok(Epoch(epoch)) } else { Err(CatalogError::Database("all epochs are used up".into())) }
    }

    /// Never gives out `seen` or an epoch before it: for a `control.db` that was lost while blocks of those epochs were not.
    pub(crate) fn raise_epoch(&self, seen: Epoch) -> Result<(), CatalogError> {
        self.write(|db| {
            db.execute("UPDATE epoch SET epoch = ?1 WHERE id = 1 AND epoch < ?1", [seen.0])?;
            Ok(())
        })
    }

    /// Copies the whole database to `to`, of one moment, private and on stable storage; a copy that is there is replaced
    /// when the new one is whole. Secrets in it stay sealed: it is of no use without `server-key`.
    pub(crate) fn back_up(&self, to: &Path) -> Result<(), CatalogError> {
        let mut temporary = to.as_os_str().to_owned();
        temporary.push(".new");
        let temporary = PathBuf::from(temporary);
        // SQLite fills an empty file that is there, and leaves it as private as it is.
        private_file::make_empty(&temporary)?;
        let name = temporary
            .to_str()
            .ok_or_else(|| CatalogError::File { path: temporary.clone(), what: "the path is not UTF-8".into() })?;
        // A connection of its own: the copy takes several syncs, and nobody is to wait for them.
        connect(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY)?.execute("VACUUM INTO ?1", [name])?;
        private_file::put_in_place(&temporary, to)
    }

    /// Does `work` in one transaction, on stable storage when this returns; nothing of it stays when it fails.
    fn write<T>(&self, work: impl FnOnce(&Connection) -> Result<T, CatalogError>) -> Result<T, CatalogError> {
        let mut writer = lock(&self.writer);
        let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = work(&transaction)?;
        transaction.commit()?;
        Ok(done)
    }

    /// Does `work` on the row of stream `id` in one transaction, then shows the row as it is now to readers.
    fn write_stream(
        &self,
        id: StreamId,
        work: impl FnOnce(&Connection) -> Result<(), CatalogError>,
    ) -> Result<Option<Stream>, CatalogError> {
        let mut writer = lock(&self.writer);
        let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
        work(&transaction)?;
        let row = streams::by_id(&transaction, id)?;
        transaction.commit()?;
        self.known.write().unwrap_or_else(PoisonError::into_inner).set(id, row.clone());
        Ok(row)
    }

    fn known(&self) -> RwLockReadGuard<'_, KnownStreams> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T, CatalogError>) -> Result<T, CatalogError> {
        work(&lock(&self.reader))
    }
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, CatalogError> {
    let db = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    db.busy_timeout(Duration::from_secs(5))?;
    db.pragma_update(None, "trusted_schema", false)?;
    Ok(db)
}

/// A transaction that panicked was rolled back when it was dropped, so a poisoned connection is sound.
fn lock(connection: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;

    /// A new catalog in a folder of its own.
    pub(crate) fn fresh() -> (TempDir, Arc<Catalog>) {
        let folder = TempDir::new().unwrap();
        let catalog = Catalog::open(&folder.path().join("control.db")).unwrap();
        (folder, catalog)
    }

    #[test]
    fn epochs_are_given_once_across_restarts() {
        let (folder, catalog) = fresh();
        assert_eq!(catalog.next_epoch().unwrap(), Epoch(1));
        assert_eq!(catalog.next_epoch().unwrap(), Epoch(2));
        drop(catalog);
        let catalog = Catalog::open(&folder.path().join("control.db")).unwrap();
        assert_eq!(catalog.next_epoch().unwrap(), Epoch(3));
        lock(&catalog.writer).execute("UPDATE epoch SET epoch = ?1", [EPOCHS - 1]).unwrap();
        assert!(catalog.next_epoch().is_err());
    }

    #[test]
    fn epochs_of_blocks_that_outlived_the_database_are_not_given_again() {
        let (_folder, catalog) = fresh();
        catalog.raise_epoch(Epoch(40)).unwrap();
        catalog.raise_epoch(Epoch(7)).unwrap();
        assert_eq!(catalog.next_epoch().unwrap(), Epoch(41));
    }

    #[test]
    fn backup_is_a_catalog_of_its_own() {
        let (folder, catalog) = fresh();
        let gate = StreamName::new("gate").unwrap();
        let copy = folder.path().join("control.db.backup");
        catalog.back_up(&copy).unwrap();
        let created = catalog.create_stream(&gate, StreamSettings::default(), ServerTime::from_micros(1), 99).unwrap();
        catalog.next_epoch().unwrap();
        catalog.back_up(&copy).unwrap();
        assert_eq!(copy.metadata().unwrap().permissions().mode() & 0o077, 0);
        let restored = Catalog::open(&copy).unwrap();
        assert_eq!(restored.stream(&gate), Some(created));
        assert_eq!(restored.next_epoch().unwrap(), Epoch(2));
    }

    #[test]
    fn files_are_private_and_every_commit_is_synced() {
        let (folder, catalog) = fresh();
        catalog.next_epoch().unwrap();
        for file in std::fs::read_dir(folder.path()).unwrap() {
            let file = file.unwrap();
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", file.path());
        }
        let full = 2;
        let level: i64 = lock(&catalog.writer).pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap();
        assert_eq!(level, full);
    }
}
