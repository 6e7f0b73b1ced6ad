//! Where files lie in the data folder, and what the small ones say.

use std::io;
use std::path::{Path, PathBuf};

use media::{ServerTime, StreamId, StreamName};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::disk::{Disk, read_whole, write_whole};
use crate::{StoreError, StreamIdentity};

/// The newest format of the data folder that we know.
pub(crate) const FORMAT: u32 = 1;
/// The longest `.json` file that is read.
const MAX_JSON: u64 = 64 << 10;

/// The data folder's files, by name.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(crate) fn new(root: &Path) -> Layout {
        Layout { root: root.to_owned() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join("store.lock")
    }

    pub(crate) fn identity(&self) -> PathBuf {
        self.root.join("store.json")
    }

    pub(crate) fn index(&self) -> PathBuf {
        self.root.join("index.db")
    }

    /// Zeros that hold room for deletion.
    pub(crate) fn reserve(&self) -> PathBuf {
        self.root.join("reserve")
    }

    pub(crate) fn streams(&self) -> PathBuf {
        self.root.join("streams")
    }

    pub(crate) fn stream(&self, stream: StreamId) -> PathBuf {
        self.streams().join(stream.to_string())
    }

    pub(crate) fn stream_identity(&self, stream: StreamId) -> PathBuf {
        self.stream(stream).join("stream.json")
    }

    pub(crate) fn tombstone(&self, stream: StreamId) -> PathBuf {
        self.stream(stream).join("DELETED")
    }

    /// What is kept of the newest block when retention takes it: its head and the header of its last fragment.
    pub(crate) fn last(&self, stream: StreamId) -> PathBuf {
        self.stream(stream).join("last")
    }
}

/// `store.json`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct StoreFile {
    /// Version of everything under the data folder that is not a database.
    pub format: u32,
    /// Identity of the store, minted once.
    pub store: Uuid,
    /// Key of the hash in fragment numbers: 32 hexadecimal digits.
    pub number_key: Uuid,
}

#[derive(Serialize, Deserialize)]
struct StreamFile {
    format: u32,
    id: Uuid,
    name: String,
    created_us: i64,
}

/// Reads `store.json`, or makes it in a folder that has none.
pub(crate) fn open_store_file(disk: &dyn Disk, layout: &Layout) -> Result<StoreFile, StoreError> {
    match read_store_file(disk, layout) {
        Err(StoreError::Disk { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            let file = StoreFile { format: FORMAT, store: Uuid::new_v4(), number_key: Uuid::new_v4() };
            let text = serde_json::to_vec_pretty(&file).expect("numbers and ids are JSON");
            write_whole(disk, &layout.identity(), &[&text]).map_err(|error| disk_error("write store.json", error))?;
            Ok(file)
        }
        outcome => outcome,
    }
}

/// Reads `store.json`.
pub(crate) fn read_store_file(disk: &dyn Disk, layout: &Layout) -> Result<StoreFile, StoreError> {
    #[derive(Deserialize)]
    struct FormatOnly {
        format: u32,
    }
    let what = |error| disk_error("read store.json", error);
    let bad = |error: serde_json::Error| what(io::Error::new(io::ErrorKind::InvalidData, error));
    let bytes = read_whole(disk, &layout.identity(), MAX_JSON).map_err(what)?;
    let FormatOnly { format } = serde_json::from_slice(&bytes).map_err(bad)?;
    if format > FORMAT {
        return Err(StoreError::Newer { found: format, known: FORMAT });
    }
    serde_json::from_slice(&bytes).map_err(bad)
}

/// Writes a stream's `stream.json`.
pub(crate) fn write_stream(disk: &dyn Disk, layout: &Layout, identity: &StreamIdentity) -> io::Result<()> {
    let file = StreamFile {
        format: FORMAT,
        id: identity.id.0,
        name: identity.name.as_str().to_owned(),
        created_us: identity.created.micros(),
    };
    let text = serde_json::to_vec_pretty(&file).expect("numbers and texts are JSON");
    write_whole(disk, &layout.stream_identity(identity.id), &[&text])
}

/// Reads a stream's `stream.json`; none when there is none.
pub(crate) fn read_stream(disk: &dyn Disk, layout: &Layout, id: StreamId) -> io::Result<Option<StreamIdentity>> {
    let bytes = match read_whole(disk, &layout.stream_identity(id), MAX_JSON) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes?,
    };
    let bad = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let file: StreamFile = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
    if file.id != id.0 {
        return Err(bad(format!("it is of stream {}", StreamId(file.id))));
    }
    let name = StreamName::new(&file.name).map_err(|error| bad(error.to_string()))?;
    Ok(Some(StreamIdentity { id, name, created: ServerTime::from_micros(file.created_us) }))
}

/// Every stream folder, deleted ones too.
pub(crate) fn stream_folders(disk: &dyn Disk, layout: &Layout) -> io::Result<Vec<StreamId>> {
    let names = disk.list(&layout.streams())?;
    let folders = names.iter().filter(|listed| listed.len.is_none());
    let mut streams: Vec<StreamId> = folders
        .filter_map(|listed| listed.name.parse::<StreamId>().ok().filter(|id| id.to_string() == listed.name))
        .collect();
    streams.sort_unstable();
    Ok(streams)
}

/// An error of the disk, with what was tried.
pub(crate) fn disk_error(what: impl Into<String>, source: io::Error) -> StoreError {
    StoreError::Disk { what: what.into(), source }
}
