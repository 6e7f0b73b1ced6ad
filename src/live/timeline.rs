//! What is there in a range: one snapshot over store and tail.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use media::fragmenter::OpenPictures;
use media::{Fragment, FragmentInfo, FragmentNumber, Position, ServerTime, StreamId, TrackSet, TrackSetId};
use store::{Place, Select, Store, StoreError, Stored};

use super::hub::Hub;
use super::tail::{Entry, Fate};

/// A fragment of a timeline, wherever its bytes are.
#[derive(Clone, Debug)]
pub(crate) struct Descriptor {
    pub info: FragmentInfo,
    pub source: Source,
}

/// Where a fragment's bytes are.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// In memory; `persisted` when it is on disk too.
    Tail { fragment: Arc<Fragment>, persisted: bool },
    /// On disk only.
    Store(Stored),
}

impl Descriptor {
    /// Whether the fragment is on stable storage.
    pub(crate) fn is_persisted(&self) -> bool {
        match &self.source {
            Source::Tail { persisted, .. } => *persisted,
            Source::Store(_) => true,
        }
    }

    /// What finds the fragment's bytes later, without holding them.
    pub(crate) fn handle(&self) -> Handle {
        let place = match &self.source {
            Source::Tail { .. } => None,
            Source::Store(stored) => Some(stored.place),
        };
        Handle { position: self.info.position, place }
    }

    pub(super) fn of_tail(entry: &Entry) -> Descriptor {
        let persisted = entry.fate == Fate::Persisted;
        let fragment = entry.fragment.clone();
        Descriptor { info: fragment.info.clone(), source: Source::Tail { fragment, persisted } }
    }

    fn of_store(stored: Stored) -> Descriptor {
        Descriptor { info: stored.info.clone(), source: Source::Store(stored) }
    }
}

/// What finds the bytes of a fragment of a known stream, wherever they are by then; small, and holds nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Handle {
    pub position: Position,
    /// Where the store has it, when it had it already.
    place: Option<Place>,
}

/// A snapshot of a part of a stream, over store and tail.
#[derive(Clone, Debug)]
pub(crate) struct Timeline {
    /// In stream order.
    pub fragments: Vec<Descriptor>,
    /// Whether `limit` cut it.
    pub more: bool,
}

impl Hub {
    /// Fragments over store and tail in one snapshot, at most `limit`. Unpersisted ones are included and marked;
    /// those that the disk refused are not, since nobody would find them again.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) async fn timeline(
        &self,
        stream: StreamId,
        select: Select,
        limit: usize,
    ) -> Result<Timeline, StoreError> {
        // The tail first: what leaves it later is in the store already, and what is closed later is newer
        // than everything here, so that neither order of events makes a hole.
        let tail = match self.existing(stream) {
            Some(state) => state.shared().tail.select(select),
            None => Vec::new(),
        };
        let (store, most) = (self.store.clone(), limit.saturating_add(1));
        let stored = self.pool.run(move || store.select(stream, select, most)).await?;
        Ok(merge(&tail, stored, limit))
    }

    /// The fragment at `position`, from memory without asking the store; none when it is not there.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) async fn fragment(
        &self,
        stream: StreamId,
        position: Position,
    ) -> Result<Option<Descriptor>, StoreError> {
        if let Some(state) = self.existing(stream)
            && let Some(entry) = state.shared().tail.at(position)
        {
            return Ok(Some(Descriptor::of_tail(entry)));
        }
        let store = self.store.clone();
        let stored = self.pool.run(move || store.fragment(stream, position)).await?;
        Ok(stored.map(Descriptor::of_store))
    }

    /// Bytes `range` of a fragment's body, from memory or by one read on the blocking pool.
    ///
    /// # Errors
    /// `Gone` when retention took it meanwhile; `Disk` for a range outside of the body.
    pub(crate) async fn read(&self, descriptor: &Descriptor, range: Range<u32>) -> Result<Bytes, StoreError> {
        self.read_by(descriptor, range, Store::read).await
    }

    /// As [`Hub::read`], of a body of which every byte is what was written: all of it is read for that.
    ///
    /// # Errors
    /// As [`Hub::read`], and `Damaged`.
    pub(crate) async fn read_checked(&self, descriptor: &Descriptor, range: Range<u32>) -> Result<Bytes, StoreError> {
        self.read_by(descriptor, range, Store::read_checked).await
    }

    async fn read_by(
        &self,
        descriptor: &Descriptor,
        range: Range<u32>,
        read: fn(&Store, &Place, Range<u32>) -> Result<Bytes, StoreError>,
    ) -> Result<Bytes, StoreError> {
        if range.start > range.end || range.end > descriptor.info.body_len {
            let source = std::io::Error::from(std::io::ErrorKind::InvalidInput);
            return Err(StoreError::Disk { what: format!("read bytes {range:?} of a fragment"), source });
        }
        match &descriptor.source {
            Source::Tail { fragment, .. } => Ok(fragment.body.slice(range.start as usize..range.end as usize)),
            Source::Store(stored) => {
                let (store, place) = (self.store.clone(), stored.place);
                self.pool.run(move || read(&store, &place, range)).await
            }
        }
    }

    /// The bytes of each range of each fragment's body, in one go on the blocking pool.
    ///
    /// # Errors
    /// `Gone` when a fragment is neither in memory nor in the store any more.
    pub(crate) async fn read_parts(
        &self,
        stream: StreamId,
        parts: Vec<(Handle, Range<u32>)>,
    ) -> Result<Vec<Bytes>, StoreError> {
        // What is in memory is taken before the store is asked: what leaves the tail is in the store.
        let state = self.existing(stream);
        let held = parts.iter().map(|(handle, _)| {
            let shared = state.as_ref().filter(|_| handle.place.is_none())?.shared();
            Some(shared.tail.at(handle.position)?.fragment.clone())
        });
        let held: Vec<Option<Arc<Fragment>>> = held.collect();
        let store = self.store.clone();
        let read = move || {
            let read_one = |((handle, range), held): ((Handle, Range<u32>), Option<Arc<Fragment>>)| {
                if let Some(fragment) = held {
                    let end = range.end.min(fragment.info.body_len);
                    return Ok(fragment.body.slice(range.start.min(end) as usize..end as usize));
                }
                let place = match handle.place {
                    Some(place) => place,
                    None => store.fragment(stream, handle.position)?.ok_or(StoreError::Gone)?.place,
                };
                store.read(&place, range)
            };
            parts.into_iter().zip(held).map(read_one).collect()
        };
        self.pool.run(read).await
    }

    /// A track set of the stream, from memory or from the store.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) async fn track_set(
        &self,
        stream: StreamId,
        id: TrackSetId,
    ) -> Result<Option<Arc<TrackSet>>, StoreError> {
        if let Some(state) = self.existing(stream) {
            let shared = state.shared();
            let newest = shared.newest_set.as_ref().filter(|(newest, _)| *newest == id);
            if let Some(tracks) = newest.map(|(_, tracks)| tracks.clone()).or_else(|| shared.tail.track_set(id)) {
                return Ok(Some(tracks));
            }
        }
        let store = self.store.clone();
        self.pool.run(move || store.track_set(stream, id)).await
    }

    /// The newest pictures of a stream that are in no closed fragment yet.
    pub(crate) fn open_pictures(&self, stream: StreamId) -> Option<OpenPictures> {
        self.existing(stream)?.open_pictures()
    }

    /// The public number of the fragment at `position`, closed or still open.
    pub(crate) fn number_at(&self, stream: StreamId, position: Position, server_time: ServerTime) -> FragmentNumber {
        self.store.number(stream, position, server_time)
    }

    /// The public number of a fragment.
    pub(crate) fn number(&self, stream: StreamId, info: &FragmentInfo) -> FragmentNumber {
        self.store.number(stream, info.position, info.server_time)
    }
}

/// Both halves in stream order, each fragment once: from memory where it is there.
///
/// `stored` holds the first of what is asked for, up to one more than `limit`, so that the first `limit`
/// of both together are complete.
pub(super) fn merge(tail: &[Entry], stored: Vec<Stored>, limit: usize) -> Timeline {
    let mut fragments: Vec<Descriptor> = Vec::with_capacity(limit.min(stored.len() + tail.len()) + 1);
    let mut tail = tail.iter().peekable();
    let position = |entry: &&Entry| entry.fragment.info.position;
    for stored in stored {
        let at: Position = stored.info.position;
        while let Some(entry) = tail.next_if(|entry| position(entry) < at) {
            fragments.push(Descriptor::of_tail(entry));
        }
        match tail.next_if(|entry| position(entry) == at) {
            // It may have been persisted after the tail was looked at.
            Some(entry) => fragments.push(Descriptor::of_tail(&Entry { fate: Fate::Persisted, ..entry.clone() })),
            None => fragments.push(Descriptor::of_store(stored)),
        }
    }
    fragments.extend(tail.map(Descriptor::of_tail));
    let more = fragments.len() > limit;
    fragments.truncate(limit);
    Timeline { fragments, more }
}
