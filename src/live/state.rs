//! What is shared about one stream while it is live: its seat, its tail, its edge.
//!
//! Locks, in the order in which they may be taken; none is held across an await, and no call into the
//! store or the catalog is made under any of them:
//!
//! 1. `Hub::streams`, the map;
//! 2. [`StreamState::seat`]: the publisher's fragmenter. Held while a fragment is closed, which copies its bytes;
//! 3. [`StreamState::shared`]: the tail and what readers see. Held for moments;
//! 4. [`StreamState::units`]: the newest units. Held for moments, with no other inside.
//!
//! The edge changes under the third lock alone, so what a reader finds after a wake is never older than the wake.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use media::{Dropped, Fragment, GapReason, Position, ServerTime, StreamId, TrackSet, TrackSetId};
use store::StreamHead;
use tokio::sync::{Notify, OnceCell, watch};

use super::account::Notices;
use super::displaced::Displaced;
use super::meters::Meters;
use super::publisher::PublisherInfo;
use super::seat::Seat;
use super::tail::{Entry, Fate, Tail};
use super::units::{self, Units};

/// A deleted stream refuses publishers for this long: none of them still acts on what the catalog said before.
const REMEMBER_DELETED: Duration = Duration::from_secs(60);

/// The newest points of a stream; changes wake its readers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Edge {
    /// Newest closed fragment.
    pub closed: Position,
    /// Newest persisted fragment.
    pub persisted: Position,
    /// A publisher is connected.
    pub live: bool,
    /// The stream was deleted.
    pub deleted: bool,
}

/// Who sits in the seat, as readers see it.
#[derive(Clone, Debug)]
pub(super) struct Presence {
    pub who: PublisherInfo,
    pub since: ServerTime,
    /// Access units lost since.
    pub lost: u64,
    /// What came since and is not stored.
    pub dropped: Dropped,
    /// What a person should know of it.
    pub notes: Vec<String>,
}

/// What the third lock guards.
pub(super) struct Shared {
    pub tail: Tail,
    pub publisher: Option<Presence>,
    /// Why nobody publishes, while nobody does; none when nobody ever did.
    pub left: Option<GapReason>,
    /// A recorder task runs.
    pub recording: bool,
    /// When the stream was deleted.
    pub deleted: Option<Instant>,
    /// Who lost the seat to another lately.
    pub displaced: Displaced,
    /// The newest track set, closed fragments' or not.
    pub newest_set: Option<(TrackSetId, Arc<TrackSet>)>,
}

/// One live stream.
pub(super) struct StreamState {
    pub id: StreamId,
    pub(super) notices: Arc<Notices>,
    pub edge: watch::Sender<Edge>,
    pub(super) seat: Mutex<Seat>,
    shared: Mutex<Shared>,
    /// Wakes whoever waits for fragments to be settled, or for room in the tail.
    pub settled: Notify,
    /// Wakes the recorder.
    pub work: Notify,
    /// The newest units, and the number of the newest: it wakes who reads them.
    pub(super) units: Mutex<Units>,
    pub(super) units_came: watch::Sender<u64>,
    /// Wakes the publisher when a viewer needs a key picture.
    pub key_picture_wanted: Notify,
    /// Set once the store was asked where the stream continues.
    pub loaded: OnceCell<()>,
}

impl StreamState {
    pub fn new(id: StreamId, notices: Arc<Notices>) -> StreamState {
        let (units, units_came) = units::ring();
        StreamState {
            units,
            units_came,
            key_picture_wanted: Notify::new(),
            id,
            notices,
            edge: watch::Sender::new(Edge::default()),
            seat: Mutex::new(Seat::Unknown),
            shared: Mutex::new(Shared {
                tail: Tail::new(Position::default()),
                publisher: None,
                left: None,
                recording: false,
                deleted: None,
                displaced: Displaced::default(),
                newest_set: None,
            }),
            settled: Notify::new(),
            work: Notify::new(),
            loaded: OnceCell::new(),
        }
    }

    /// Takes what the store knows of the stream, once, before anybody publishes.
    pub fn load(&self, head: Option<&StreamHead>) {
        let Some(head) = head else { return };
        let mut shared = self.shared();
        shared.tail = Tail::new(head.position);
        shared.left = Some(head.ended);
        shared.newest_set = Some(head.track_set.clone());
        self.edge.send_modify(|edge| {
            edge.closed = head.position;
            edge.persisted = head.position;
        });
    }

    /// The third lock. What it guards is changed by code that does not panic half-way, so a poisoned
    /// one is taken as it is: readers of a stream whose publisher's task died still get its past.
    pub fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody sits in the seat now. True when no recorder runs yet and the caller is to start one.
    pub fn seated(&self, presence: Presence) -> bool {
        let mut shared = self.shared();
        shared.publisher = Some(presence);
        self.edge.send_modify(|edge| edge.live = true);
        !std::mem::replace(&mut shared.recording, true)
    }

    /// Puts closed fragments into the tail and wakes the recorder and the readers. The caller holds the seat.
    pub fn deliver(&self, fragments: Vec<Fragment>, meters: &Meters) {
        let Some(last) = fragments.last() else { return };
        let closed = last.info.position;
        let mut shared = self.shared();
        for fragment in fragments {
            meters.closed(fragment.body.len() as u64);
            shared.newest_set = Some((fragment.info.track_set, fragment.tracks.clone()));
            shared.tail.push(Arc::new(fragment), Instant::now());
        }
        self.edge.send_modify(|edge| edge.closed = closed);
        drop(shared);
        self.work.notify_one();
    }

    /// Says what became of a fragment that the recorder had taken; the tail keeps `tail_bytes` of settled ones.
    pub fn settle(&self, position: Position, fate: Fate, tail_bytes: u64) {
        let mut shared = self.shared();
        shared.tail.settle(position, fate, tail_bytes);
        if fate == Fate::Persisted {
            self.edge.send_modify(|edge| edge.persisted = edge.persisted.max(position));
        }
        drop(shared);
        self.settled.notify_waiters();
    }

    /// The next fragment for the recorder.
    pub fn take_next(&self) -> Option<Entry> {
        self.shared().tail.take_next()
    }

    /// The fragments that the recorder has taken and said nothing of.
    pub fn taken(&self) -> Vec<Entry> {
        self.shared().tail.taken()
    }

    /// Resolves when every fragment up to `position` is on disk, or known not to be.
    pub async fn settled_to(&self, position: Position) {
        loop {
            let mut settled = std::pin::pin!(self.settled.notified());
            // Registers before looking, so that a settling between the look and the wait is not missed.
            settled.as_mut().enable();
            if self.shared().tail.is_settled_to(position) {
                return;
            }
            settled.await;
        }
    }

    /// Resolves when no recorder runs: everything is settled and the block is sealed.
    #[cfg(test)]
    pub async fn retired(&self) {
        loop {
            let mut settled = std::pin::pin!(self.settled.notified());
            settled.as_mut().enable();
            if !self.shared().recording {
                return;
            }
            settled.await;
        }
    }

    /// Takes note that the recorder stops, unless there is work for it again.
    pub fn retire(&self) -> bool {
        let mut shared = self.shared();
        if shared.publisher.is_some() || !shared.tail.is_settled() {
            return false;
        }
        shared.tail.release_settled();
        shared.recording = false;
        drop(shared);
        self.settled.notify_waiters();
        true
    }

    /// Whether the recorder has nothing left to do.
    pub fn is_done(&self) -> bool {
        let shared = self.shared();
        shared.publisher.is_none() && shared.tail.is_settled()
    }

    /// Ends the stream for its readers.
    pub fn mark_deleted(&self) {
        let mut shared = self.shared();
        shared.deleted.get_or_insert_with(Instant::now);
        self.edge.send_modify(|edge| edge.deleted = true);
        drop(shared);
        self.work.notify_one();
    }

    /// Whether nothing of the stream needs to stay in memory: nobody publishes, everything closed is in
    /// the store, the store knows every number given, and nobody listens. Or it was deleted a while ago.
    pub fn is_idle(&self) -> bool {
        let shared = self.shared();
        if let Some(deleted) = shared.deleted {
            return deleted.elapsed() >= REMEMBER_DELETED;
        }
        let edge = *self.edge.borrow();
        let published = shared.publisher.is_some() || shared.recording;
        !published && shared.tail.is_settled() && edge.closed == edge.persisted && self.edge.receiver_count() == 0
    }
}
