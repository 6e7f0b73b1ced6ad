//! Streams in memory: readers of the catalog get them here, so that no reader waits for SQLite or its disk.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use media::{StreamId, StreamName};

use super::{Catalog, Stream};

/// Every stream of `control.db`, as of the last commit.
#[derive(Default)]
pub(super) struct KnownStreams {
    by_id: HashMap<StreamId, Arc<Stream>>,
    by_name: BTreeMap<StreamName, Arc<Stream>>,
}

impl KnownStreams {
    pub fn of(rows: Vec<Stream>) -> KnownStreams {
        let mut known = KnownStreams::default();
        for row in rows {
            known.set(row.id, Some(row));
        }
        known
    }

    /// Takes the row of `id` as it is now; none: the stream is gone.
    pub fn set(&mut self, id: StreamId, row: Option<Stream>) {
        if let Some(before) = self.by_id.remove(&id) {
            self.by_name.remove(&before.name);
        }
        if let Some(row) = row.map(Arc::new) {
            self.by_name.insert(row.name.clone(), row.clone());
            self.by_id.insert(id, row);
        }
    }
}

impl Catalog {
    /// The stream with this name.
    pub(crate) fn stream(&self, name: &StreamName) -> Option<Stream> {
        self.known().by_name.get(name).map(|stream| Stream::clone(stream))
    }

    /// The stream with this id.
    pub(crate) fn stream_by_id(&self, id: StreamId) -> Option<Stream> {
        self.known().by_id.get(&id).map(|stream| Stream::clone(stream))
    }

    /// In name order, names that start with `prefix`, after `after`, at most `limit`.
    pub(crate) fn streams(&self, prefix: &str, after: Option<&StreamName>, limit: usize) -> Vec<Arc<Stream>> {
        let known = self.known();
        // A prefix that is no name starts no name either.
        let first = StreamName::new(prefix).ok();
        if first.is_none() && !matches!(prefix, "" | "." | "..") {
            return Vec::new();
        }
        let start = match (after, &first) {
            (Some(after), Some(first)) if after < first => Bound::Included(first),
            (Some(after), _) => Bound::Excluded(after),
            (None, Some(first)) => Bound::Included(first),
            (None, None) => Bound::Unbounded,
        };
        let found = known.by_name.range::<StreamName, _>((start, Bound::Unbounded)).map(|(_, stream)| stream);
        let found = found.skip_while(|stream| stream.name.as_str() < prefix);
        found.take_while(|stream| stream.name.as_str().starts_with(prefix)).take(limit).cloned().collect()
    }

    /// Every stream, in name order.
    pub(crate) fn all_streams(&self) -> Vec<Arc<Stream>> {
        self.known().by_name.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use media::ServerTime;

    use crate::catalog::tests::fresh;
    use crate::catalog::{StreamSettings, lock};

    use super::*;

    fn name(text: &str) -> StreamName {
        StreamName::new(text).unwrap()
    }

    #[test]
    fn streams_are_listed_by_prefix_in_pages() {
        let (_folder, catalog) = fresh();
        for text in ["gate", "gate-2", "gate.1", "Gate", "gatf", "yard", "gate_z", "gatezz", ".gate"] {
            catalog.create_stream(&name(text), StreamSettings::default(), ServerTime::default(), 99).unwrap();
        }
        let list = |prefix: &str, after: Option<&str>, limit| {
            let streams = catalog.streams(prefix, after.map(name).as_ref(), limit);
            streams.iter().map(|stream| stream.name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(list("gate", None, 99), ["gate", "gate-2", "gate.1", "gate_z", "gatezz"]);
        assert_eq!(list("gate", Some("gate-2"), 2), ["gate.1", "gate_z"]);
        assert_eq!(list("gate", Some("Gate"), 1), ["gate"]);
        assert_eq!(list("gate", Some("yard"), 9), [] as [&str; 0]);
        assert_eq!(list("", None, 2), [".gate", "Gate"]);
        assert_eq!(list(".", None, 9), [".gate"]);
        assert_eq!(list("..", None, 9), [] as [&str; 0]);
        assert_eq!(list("", Some("yard"), 2), [] as [&str; 0]);
        assert_eq!(list("%' OR 1=1 --", None, 9), [] as [&str; 0]);
        assert_eq!(list("", None, usize::MAX).len(), 9);
        assert_eq!(catalog.all_streams().len(), 9);
    }

    #[test]
    fn no_reader_waits_for_the_database() {
        let (_folder, catalog) = fresh();
        let gate = catalog.create_stream(&name("gate"), StreamSettings::default(), ServerTime::default(), 99).unwrap();
        // As if a write and a copy were under way on a disk that is stuck: a reader that needs a connection hangs here.
        let (_writer, _reader) = (lock(&catalog.writer), lock(&catalog.reader));
        assert_eq!(catalog.stream(&gate.name), Some(gate.clone()));
        assert_eq!(catalog.stream_by_id(gate.id), Some(gate.clone()));
        assert_eq!(catalog.streams("g", None, 9), [Arc::new(gate.clone())]);
        assert_eq!(catalog.all_streams(), [Arc::new(gate)]);
    }

    #[test]
    fn the_backup_takes_no_connection_from_anybody() {
        let (folder, catalog) = fresh();
        let (_writer, _reader) = (lock(&catalog.writer), lock(&catalog.reader));
        catalog.back_up(&folder.path().join("copy.db")).unwrap();
    }

    #[test]
    fn a_change_that_fails_is_seen_by_nobody() {
        let (_folder, catalog) = fresh();
        let make = |text: &str, most| {
            catalog.create_stream(&name(text), StreamSettings::default(), ServerTime::default(), most)
        };
        make("gate", 1).unwrap();
        assert!(make("yard", 1).is_err());
        assert_eq!(catalog.stream(&name("yard")), None);
        assert_eq!(catalog.all_streams().len(), 1);
    }
}
