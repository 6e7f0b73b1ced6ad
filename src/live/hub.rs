//! The hub: every stream that is live, and the way to every stream's past.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use media::fragmenter::{ClockPolicy, Fragmenter};
use media::{Dropped, GapReason, StreamId, TrackSet};
use store::{Clock, Store, StoreError, StreamIdentity};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::account::{Ledger, NotStored, Notices};
use super::clock_watch::ClockWatch;
use super::faults::Faults;
use super::load::Loader;
use super::meters::Meters;
use super::pool::Pool;
use super::publisher::{Ended, PublishError, Publisher, PublisherInfo};
use super::recorder::record;
use super::seat::{Seat, Session, takes_over};
use super::settings::Settings;
use super::state::{Edge, Presence, StreamState};
use super::sweeper::Space;
use crate::catalog::{ProducerClock, Stream};

/// All streams that are live, and the way to every stream's past.
pub(crate) struct Hub {
    pub(super) store: Store,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) settings: Settings,
    pub(super) pool: Pool,
    /// Streams that somebody publishes or listens to. Bounded by the streams of the catalog; idle ones leave.
    streams: Mutex<HashMap<StreamId, Arc<StreamState>>>,
    sessions: AtomicU64,
    recorders: TaskTracker,
    /// Bytes that all recorders have handed to the store and that it has not answered for.
    pub(super) in_flight_bytes: AtomicU64,
    pub(super) stopping: CancellationToken,
    pub(super) space: watch::Sender<Space>,
    pub(super) clock_watch: Mutex<ClockWatch>,
    notices: Arc<Notices>,
    pub(super) faults: Faults,
}

impl Hub {
    /// A hub over an open store, with nobody publishing.
    pub(crate) fn new(store: Store, clock: Arc<dyn Clock>, settings: Settings) -> Arc<Hub> {
        Arc::new(Hub {
            store,
            clock,
            settings,
            pool: Pool::new(),
            streams: Mutex::default(),
            sessions: AtomicU64::new(1),
            recorders: TaskTracker::new(),
            in_flight_bytes: AtomicU64::new(0),
            stopping: CancellationToken::new(),
            space: watch::Sender::new(Space::default()),
            clock_watch: Mutex::default(),
            notices: Arc::default(),
            faults: Faults::new(),
        })
    }

    /// Takes the stream's publisher seat, by the stream's `on_second_publisher` rule.
    ///
    /// The stream's folder is made when the store has none yet, so whoever creates a stream does so in the catalog alone.
    /// A takeover closes the open fragment of who sat there, so that order and numbers go on without a hole.
    ///
    /// # Errors
    /// When the seat is not to be had, or the store cannot say where the stream continues.
    pub(crate) async fn publish(
        self: &Arc<Self>,
        stream: &Stream,
        who: PublisherInfo,
    ) -> Result<Publisher, PublishError> {
        let state = self.state(stream.id);
        if matches!(*state.seat(), Seat::Deleted) {
            return Err(PublishError::Store(StoreError::Gone));
        }
        self.make_folder(stream).await?;
        self.loader().load(&state).await?;
        let mut seat = state.seat();
        // Asked under the seat's lock: a stop goes through all seats after it is said.
        if let Some(refusal) = self.refusal_of(stream, &who, &state, &seat) {
            return Err(refusal);
        }
        if let Seat::Taken(_) = &*seat {
            let mut shared = state.shared();
            if let Some(held) = shared.publisher.as_ref().map(|held| held.who.clone()) {
                shared.displaced.note(&who, &held, Instant::now());
            }
            drop(shared);
            tracing::info!(stream = %stream.name, peer = who.peer, "another publisher takes over");
            state.vacate(&mut seat, Ended::TakenOver, GapReason::PublisherLeft);
        }
        let continuation = match std::mem::replace(&mut *seat, Seat::Broken) {
            Seat::Vacant(continuation) => *continuation,
            other => {
                *seat = other;
                return Err(PublishError::Store(unusable(&seat)));
            }
        };
        let policy = match stream.settings.producer_clock {
            ProducerClock::Auto => ClockPolicy::Auto,
            ProducerClock::Trust => ClockPolicy::Trust,
            ProducerClock::Arrival => ClockPolicy::Arrival,
        };
        let id = self.sessions.fetch_add(1, Ordering::Relaxed);
        let (said, ended) = watch::channel(None);
        let meters = Meters::new(self.settings.stream_labels.then_some(&stream.name));
        meters.publishers.increment(1.0);
        *seat = Seat::Taken(Box::new(Session {
            id,
            fragmenter: Fragmenter::new(self.settings.fragmenter(), policy, continuation),
            credential: who.credential.clone(),
            can_wait: who.can_wait,
            ended: said,
            meters: meters.clone(),
            lead: None,
            discarding: false,
            heard: None,
            ledger: Ledger::new(Instant::now()),
            behind: 0,
        }));
        tracing::info!(stream = %stream.name, peer = who.peer, protocol = who.protocol, "publisher came");
        if state.seated(Presence {
            who,
            since: self.clock.now(),
            lost: 0,
            dropped: Dropped::default(),
            notes: Vec::new(),
        }) {
            self.recorders.spawn(record(self.clone(), state.clone(), meters));
        }
        drop(seat);
        Ok(Publisher { state, session: id, ended, budget: self.unpersisted_share() })
    }

    /// Why the stream's seat is not to be had just now, if it is not.
    pub(crate) fn refusal(&self, stream: &Stream, who: &PublisherInfo) -> Option<PublishError> {
        match self.existing(stream.id) {
            Some(state) => self.refusal_of(stream, who, &state, &state.seat()),
            None => self.closed(),
        }
    }

    /// What is not stored of streams since the last call, with the reasons.
    pub(crate) fn take_notices(&self) -> Vec<(StreamId, NotStored)> {
        self.notices.take()
    }

    /// Why nobody may publish just now.
    fn closed(&self) -> Option<PublishError> {
        if self.is_stopping() {
            return Some(PublishError::Stopping);
        }
        self.space.borrow().full.then_some(PublishError::DiskFull)
    }

    fn refusal_of(
        &self,
        stream: &Stream,
        who: &PublisherInfo,
        state: &StreamState,
        seat: &Seat,
    ) -> Option<PublishError> {
        if let Some(closed) = self.closed() {
            return Some(closed);
        }
        let Seat::Taken(session) = seat else { return None };
        let mut shared = state.shared();
        let held = shared.publisher.as_ref();
        if !takes_over(stream.settings.on_second_publisher, &session.credential, &who.credential) {
            let (peer, since) =
                held.map_or_else(|| (String::new(), self.clock.now()), |held| (held.who.peer.clone(), held.since));
            return Some(PublishError::Busy { stream: stream.name.to_string(), peer, since });
        }
        let held = held?.who.clone();
        let kept_out = shared.displaced.keeps_out(who, &held, session.heard, Instant::now());
        kept_out.then(|| PublishError::Displaced { stream: stream.name.to_string(), peer: held.peer })
    }

    /// The tracks of who publishes the stream now.
    pub(crate) fn live_tracks(&self, stream: StreamId) -> Option<Arc<TrackSet>> {
        let state = self.existing(stream)?;
        let shared = state.shared();
        shared.publisher.as_ref()?;
        shared.newest_set.as_ref().map(|(_, tracks)| tracks.clone())
    }

    /// Wakes when a fragment closes or is persisted, a publisher comes or goes, or the stream is deleted.
    ///
    /// Of a stream that was not in memory the first value is empty, and the real one follows at once.
    pub(crate) fn edge(&self, stream: StreamId) -> watch::Receiver<Edge> {
        let state = self.state(stream);
        let edge = state.edge.subscribe();
        if !state.loaded.initialized() {
            let loader = self.loader();
            tokio::spawn(async move {
                if let Err(error) = loader.load(&state).await {
                    tracing::warn!(stream = %state.id, %error, "the newest fragment is not known");
                }
            });
        }
        edge
    }

    /// The streams that somebody publishes now.
    pub(crate) fn live_streams(&self) -> HashSet<StreamId> {
        self.streams().values().filter(|state| state.edge.borrow().live).map(|state| state.id).collect()
    }

    /// Ends the stream's publisher and readers and deletes its media. The catalog row is the caller's.
    ///
    /// # Errors
    /// When the store cannot delete; the stream then takes no publisher, and the call can be repeated.
    pub(crate) async fn delete(&self, stream: StreamId) -> Result<(), StoreError> {
        let state = self.state(stream);
        {
            let mut seat = state.seat();
            state.vacate(&mut seat, Ended::Deleted, GapReason::PublisherLeft);
            *seat = Seat::Deleted;
            state.mark_deleted();
        }
        let store = self.store.clone();
        // Its state stays for a while and refuses publishers who looked the stream up before.
        self.pool.run(move || store.delete_stream(stream)).await
    }

    /// Stops intake, closes open fragments, persists and seals everything, as far as `within` allows.
    /// Returns the fragments that are not on disk then: 0 unless the disk is stuck.
    pub(crate) async fn shutdown(&self, within: Duration) -> u64 {
        self.stopping.cancel();
        let states = self.states();
        for state in &states {
            state.vacate_any(Ended::Stopping, GapReason::ServerStopped);
        }
        // A recorder ends when all is on disk and its block is sealed.
        self.recorders.close();
        if tokio::time::timeout(within, self.recorders.wait()).await.is_ok() {
            return 0;
        }
        let unpersisted = states.iter().map(|state| state.shared().tail.waiting()).sum();
        tracing::error!(unpersisted, "stopping before everything is on disk");
        unpersisted
    }

    /// Persisted bytes that each stream may keep in memory.
    pub(super) fn tail_share(&self) -> Share {
        let Settings { tail_bytes: each, tail_bytes_total: total, .. } = self.settings;
        Share { each, total, recorders: self.recorders.clone() }
    }

    /// Bytes of each stream that may wait for the disk.
    pub(super) fn unpersisted_share(&self) -> Share {
        let Settings { unpersisted_bytes: each, unpersisted_bytes_total: total, .. } = self.settings;
        Share { each, total, recorders: self.recorders.clone() }
    }

    /// Whether the server stops and takes no publisher.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    pub(super) fn streams(&self) -> MutexGuard<'_, HashMap<StreamId, Arc<StreamState>>> {
        // A map of handles: whole whatever panicked beside it.
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The states of all streams that are in memory.
    pub(super) fn states(&self) -> Vec<Arc<StreamState>> {
        self.streams().values().cloned().collect()
    }

    /// The stream's state if it is in memory and not deleted.
    pub(super) fn existing(&self, stream: StreamId) -> Option<Arc<StreamState>> {
        let state = self.streams().get(&stream).cloned()?;
        let deleted = state.shared().deleted.is_some();
        (!deleted).then_some(state)
    }

    fn state(&self, stream: StreamId) -> Arc<StreamState> {
        self.streams().entry(stream).or_insert_with(|| Arc::new(StreamState::new(stream, self.notices.clone()))).clone()
    }

    /// The stream's state, knowing where the stream continues.
    pub(super) async fn loaded(&self, stream: StreamId) -> Result<Arc<StreamState>, StoreError> {
        let state = self.state(stream);
        self.loader().load(&state).await?;
        Ok(state)
    }

    /// Makes the stream's folder, when it is not there: after a crash between the catalog and the store too.
    async fn make_folder(&self, stream: &Stream) -> Result<(), StoreError> {
        let identity = StreamIdentity { id: stream.id, name: stream.name.clone(), created: stream.created };
        let store = self.store.clone();
        self.pool.run(move || store.create_stream(&identity)).await
    }

    fn loader(&self) -> Loader {
        Loader { store: self.store.clone(), pool: self.pool.clone() }
    }

    /// Lets go of the stream's state if nobody needs it.
    pub(super) fn forget_idle(&self, stream: StreamId) {
        let mut streams = self.streams();
        // Who has a handle got it under this lock and may be about to publish or to listen.
        if let Some(state) = streams.get(&stream)
            && Arc::strong_count(state) == 1
            && state.is_idle()
        {
            streams.remove(&stream);
        }
    }
}

/// A stream's share of the memory of all that are recorded. It does not hold the hub, and with it the store.
#[derive(Clone, Debug)]
pub(super) struct Share {
    each: u64,
    total: u64,
    recorders: TaskTracker,
}

impl Share {
    /// What it is now: so much for each stream, as far as that is within an even share of the total.
    pub fn bytes(&self) -> u64 {
        self.each.min(self.total / (self.recorders.len() as u64).max(1))
    }
}

/// Why a seat that is neither vacant nor taken cannot be had.
fn unusable(seat: &Seat) -> StoreError {
    match seat {
        Seat::Deleted => StoreError::Gone,
        _ => StoreError::Disk {
            what: "continue the stream".to_owned(),
            source: std::io::Error::other("its fragmenter failed; it can be published again after a restart"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_streams_share_what_few_have_for_themselves() {
        let share = Share { each: 8, total: 20, recorders: TaskTracker::new() };
        let mut live = Vec::new();
        for expected in [8, 8, 8, 6, 5, 4] {
            assert_eq!(share.bytes(), expected, "{} streams", live.len());
            live.push(share.recorders.token());
        }
        live.clear();
        assert_eq!(share.bytes(), 8);
    }
}
