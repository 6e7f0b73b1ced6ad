//! The tail: the newest closed fragments of one stream, in memory.
//!
//! Plain data without locks: [`super::state::StreamState`] guards it. Three invariants:
//!
//! 1. Entries are in stream order, without a fragment between two neighbours that was closed and is in neither.
//! 2. What leaves is settled: persisted, so that the store can serve it, or lost, so that nobody can.
//! 3. Every fragment that was closed after [`Tail::before`] is here.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use media::{Fragment, FragmentInfo, Position, TrackSet, TrackSetId};
use store::Select;

/// So many of the newest fragments stay in memory whatever they weigh, while somebody publishes.
const KEEP_NEWEST: usize = 3;

/// What has become of a fragment in the tail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// Not on disk yet.
    Waiting,
    /// On disk, and the store serves it.
    Persisted,
    /// The disk refused it: it is seen here and nowhere else.
    Lost,
}

/// A fragment in the tail.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub fragment: Arc<Fragment>,
    pub fate: Fate,
    /// When it was closed, for the latency of its acknowledgement.
    pub closed: Instant,
}

impl Entry {
    fn bytes(&self) -> u64 {
        self.fragment.body.len() as u64
    }
}

/// The newest closed fragments.
#[derive(Debug)]
pub(super) struct Tail {
    entries: VecDeque<Entry>,
    /// Count of entries, from the oldest, that the recorder has taken.
    handed: usize,
    waiting_bytes: u64,
    settled_bytes: u64,
    before: Position,
}

impl Tail {
    /// An empty tail of a stream whose newest fragment so far is at `before`.
    pub fn new(before: Position) -> Tail {
        Tail { entries: VecDeque::new(), handed: 0, waiting_bytes: 0, settled_bytes: 0, before }
    }

    /// Position of the newest fragment that is not here: everything after it is.
    pub fn before(&self) -> Position {
        self.before
    }

    /// Position of the newest closed fragment.
    pub fn newest(&self) -> Position {
        self.entries.back().map_or(self.before, |entry| entry.fragment.info.position)
    }

    /// Bytes not settled yet.
    pub fn waiting_bytes(&self) -> u64 {
        self.waiting_bytes
    }

    /// Whether everything is settled.
    pub fn is_settled(&self) -> bool {
        self.waiting_bytes == 0 && self.entries.iter().all(|entry| entry.fate != Fate::Waiting)
    }

    /// Whether everything up to `position` is settled.
    pub fn is_settled_to(&self, position: Position) -> bool {
        self.entries
            .iter()
            .take_while(|entry| entry.fragment.info.position <= position)
            .all(|entry| entry.fate != Fate::Waiting)
    }

    /// The entries, oldest first.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Count of fragments not settled yet.
    pub fn waiting(&self) -> u64 {
        self.entries.iter().filter(|entry| entry.fate == Fate::Waiting).count() as u64
    }

    /// Appends a closed fragment, which is newer than all before it.
    pub fn push(&mut self, fragment: Arc<Fragment>, closed: Instant) {
        debug_assert!(fragment.info.position > self.newest(), "fragments come in stream order");
        let entry = Entry { fragment, fate: Fate::Waiting, closed };
        self.waiting_bytes += entry.bytes();
        self.entries.push_back(entry);
    }

    /// The oldest fragment that the recorder has not taken yet, now taken.
    pub fn take_next(&mut self) -> Option<Entry> {
        let entry = self.entries.get(self.handed)?;
        self.handed += 1;
        Some(entry.clone())
    }

    /// The fragments that the recorder has taken and said nothing of.
    pub fn taken(&self) -> Vec<Entry> {
        let taken = self.entries.iter().take(self.handed);
        taken.filter(|entry| entry.fate == Fate::Waiting).cloned().collect()
    }

    /// Says what became of the waiting fragment at `position`, and lets go of what may go: beyond the newest few,
    /// `budget` settled bytes are kept.
    pub fn settle(&mut self, position: Position, fate: Fate, budget: u64) {
        let Ok(at) = self.entries.binary_search_by_key(&position, |entry| entry.fragment.info.position) else {
            return;
        };
        let entry = &mut self.entries[at];
        if entry.fate == Fate::Waiting && fate != Fate::Waiting {
            entry.fate = fate;
            self.waiting_bytes -= entry.bytes();
            self.settled_bytes += entry.bytes();
        }
        self.release(KEEP_NEWEST, |tail| tail.settled_bytes > budget);
    }

    /// Lets go of all that is settled: nobody publishes.
    pub fn release_settled(&mut self) {
        self.release(0, |_| true);
    }

    /// Lets go of settled fragments up to `through`, so that what the store deletes does not live on here.
    pub fn release_through(&mut self, through: Position) {
        self.release(0, |tail| tail.entries.front().is_some_and(|entry| entry.fragment.info.position <= through));
    }

    fn release(&mut self, keep: usize, mut more: impl FnMut(&Tail) -> bool) {
        while self.entries.len() > keep
            && self.entries.front().is_some_and(|entry| entry.fate != Fate::Waiting)
            && more(self)
        {
            let Some(entry) = self.entries.pop_front() else { return };
            self.settled_bytes -= entry.bytes();
            self.handed = self.handed.saturating_sub(1);
            self.before = entry.fragment.info.position;
        }
    }

    /// The fragment at `position`, unless it is lost or not here.
    pub fn at(&self, position: Position) -> Option<&Entry> {
        let at = self.entries.binary_search_by_key(&position, |entry| entry.fragment.info.position).ok()?;
        Some(&self.entries[at]).filter(|entry| entry.fate != Fate::Lost)
    }

    /// The first entry after `position`. Meaningful when `position` is not older than [`Tail::before`].
    pub fn after(&self, position: Position) -> Option<&Entry> {
        let at = self.entries.partition_point(|entry| entry.fragment.info.position <= position);
        self.entries.get(at)
    }

    /// Entries that `select` asks for and that somebody may still find later: not the lost ones.
    pub fn select(&self, select: Select) -> Vec<Entry> {
        let wanted = |entry: &&Entry| entry.fate != Fate::Lost && meets(&entry.fragment.info, select);
        self.entries.iter().filter(wanted).cloned().collect()
    }

    /// The tracks of set `id`, if a fragment here belongs to it.
    pub fn track_set(&self, id: TrackSetId) -> Option<Arc<TrackSet>> {
        let entry = self.entries.iter().rev().find(|entry| entry.fragment.info.track_set == id)?;
        Some(entry.fragment.tracks.clone())
    }
}

/// Whether `select` asks for the fragment.
pub(super) fn meets(info: &FragmentInfo, select: Select) -> bool {
    match select {
        Select::Producer(from, to) => info.producer_time < to && info.producer_end() > from,
        Select::Server(from, to) => info.server_time < to && info.server_end() > from,
        Select::After(position) => info.position > position,
        Select::Ordinals(from, to) => from <= info.ordinal && info.ordinal < to,
    }
}
