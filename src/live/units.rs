//! The newest units of a stream as they come, before their fragment is closed: what viewers with less than a second
//! of delay read.
//!
//! A ring holds what was pushed since the last picture that decoding can start at, and a moment before it, so that a
//! newcomer can start with a picture and a reader that is a little late loses nothing. It shares its bytes with the
//! fragmenter. Readers hold nobody back: what has left the ring is skipped, and said.
//!
//! Not here: closed fragments ([`super::Timeline`], [`super::Cursor`]), how units are sent (`playback`).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use media::{AccessUnit, ServerTime, StreamId, TrackSet};
use store::StoreError;
use tokio::sync::watch;

use super::hub::Hub;
use super::publisher::Ended;
use super::state::StreamState;

/// Units from this long before the newest are kept although a later one can be started at.
const KEEP: Duration = Duration::from_secs(1);
/// Most bytes in the ring; what is beyond goes, and nobody can start before the next key picture.
const MAX_BYTES: u64 = 32 << 20;
/// The same where memory is short: room for a group of pictures all the same.
const MIN_BYTES: u64 = 2 << 20;
/// Most units in the ring.
const MAX_UNITS: usize = 1 << 14;

/// A unit as it was pushed, and what is needed to show it.
#[derive(Debug)]
pub(crate) struct LiveUnit {
    /// Counts the units of the stream since it is in memory.
    pub number: u64,
    /// The session that it is from: times of different sessions have nothing to do with each other.
    pub session: u64,
    /// What its track is.
    pub tracks: Arc<TrackSet>,
    /// When it is shown, by a clock that all tracks of the session share, in microseconds: the producer's as far as it
    /// is known, else that of arrival.
    pub shown_us: i64,
    /// Decoding can start at it: a key picture of the leading track, or any unit of a stream without pictures.
    pub starts: bool,
    /// The unit itself.
    pub unit: AccessUnit,
}

/// The ring.
#[derive(Debug, Default)]
pub(super) struct Units {
    ring: VecDeque<Arc<LiveUnit>>,
    bytes: usize,
    /// Number of the next unit.
    next: u64,
    /// Number of the newest unit that decoding can start at, if it is here.
    start: Option<u64>,
}

impl Units {
    /// Appends a unit; gives its number.
    fn push(&mut self, session: u64, tracks: Arc<TrackSet>, shown_us: i64, unit: AccessUnit, most: u64) -> u64 {
        let number = self.next;
        self.next += 1;
        let starts = unit.track == tracks.lead().id && unit.random_access != media::RandomAccess::No;
        if starts {
            self.start = Some(number);
        }
        let newest = unit.arrival;
        self.bytes += unit.data.len();
        self.ring.push_back(Arc::new(LiveUnit { number, session, tracks, shown_us, starts, unit }));
        while self.ring.len() > 1 && self.may_go(newest, most) {
            let gone = self.ring.pop_front().expect("it has two");
            self.bytes -= gone.unit.data.len();
            if self.start == Some(gone.number) {
                self.start = None;
            }
        }
        number
    }

    /// The publisher left: those who read go on to the end, and nobody starts with what it showed.
    fn end(&mut self) {
        self.start = None;
    }

    fn may_go(&self, newest: ServerTime, most: u64) -> bool {
        let Some(oldest) = self.ring.front() else { return false };
        let recent = newest.micros_since(oldest.unit.arrival) < KEEP.as_micros() as i64;
        let needed = self.start.is_some_and(|start| oldest.number >= start);
        self.bytes as u64 > most || self.ring.len() > MAX_UNITS || !recent && !needed
    }

    fn at(&self, number: u64) -> Option<&Arc<LiveUnit>> {
        let first = self.ring.front()?.number;
        self.ring.get(usize::try_from(number.checked_sub(first)?).ok()?)
    }
}

/// What a reader meets.
#[derive(Clone, Debug)]
pub(crate) enum Next {
    /// The next unit.
    Unit(Arc<LiveUnit>),
    /// Units between were gone before they were read; what comes next does not continue what was given.
    Skipped,
    /// The publisher left; another may come.
    Idle,
    /// The stream was deleted.
    Deleted,
}

/// Reads a stream's units from its newest picture that decoding can start at.
pub(crate) struct UnitReader {
    state: Arc<StreamState>,
    came: watch::Receiver<u64>,
    edge: watch::Receiver<super::Edge>,
    /// Number of the next unit to give.
    at: u64,
    /// `Idle` was given since the last unit.
    idle_said: bool,
}

impl Hub {
    /// A reader of the stream's units: from the newest that decoding can start at, if there is one, else from the next.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) async fn units(self: &Arc<Self>, stream: StreamId) -> Result<UnitReader, StoreError> {
        let state = self.loaded(stream).await?;
        let (came, edge) = (state.units_came.subscribe(), state.edge.subscribe());
        let units = state.units();
        let at = units.start.unwrap_or(units.next);
        drop(units);
        Ok(UnitReader { state, came, edge, at, idle_said: false })
    }

    /// Asks the stream's publisher for a key picture, if there is one that can be asked.
    pub(crate) fn ask_for_key_picture(&self, stream: StreamId) {
        if let Some(state) = self.existing(stream) {
            state.key_picture_wanted.notify_one();
        }
    }
}

impl UnitReader {
    /// The next unit; waits for it. Cancelling it loses nothing.
    pub(crate) async fn next(&mut self) -> Next {
        loop {
            self.came.mark_unchanged();
            let edge = *self.edge.borrow_and_update();
            if let Some(next) = self.look() {
                self.idle_said = false;
                return next;
            }
            if edge.deleted {
                return Next::Deleted;
            }
            if !edge.live && !self.idle_said {
                self.idle_said = true;
                return Next::Idle;
            }
            // The state holds both senders.
            tokio::select! {
                _ = self.came.changed() => {}
                _ = self.edge.changed() => {}
            }
        }
    }

    /// What is next, as far as the ring knows.
    fn look(&mut self) -> Option<Next> {
        let units = self.state.units();
        if let Some(unit) = units.at(self.at) {
            self.at += 1;
            return Some(Next::Unit(unit.clone()));
        }
        if self.at >= units.next {
            return None;
        }
        self.at = units.start.or_else(|| units.ring.front().map(|unit| unit.number)).unwrap_or(units.next);
        Some(Next::Skipped)
    }

    /// Whether the publisher sends key pictures when asked.
    pub(crate) fn sends_on_request(&self) -> bool {
        self.state.shared().publisher.as_ref().is_some_and(|presence| presence.who.sends_on_request)
    }
}

impl StreamState {
    /// The ring of units. Taken alone or under the seat, for moments.
    pub(super) fn units(&self) -> MutexGuard<'_, Units> {
        self.units.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows a unit to those who follow, within a `budget` of bytes. The caller holds the seat.
    pub(super) fn show(&self, session: u64, tracks: Arc<TrackSet>, shown_us: i64, unit: AccessUnit, budget: u64) {
        let number = self.units().push(session, tracks, shown_us, unit, budget.clamp(MIN_BYTES, MAX_BYTES));
        self.units_came.send_replace(number);
    }

    /// Nothing more comes of who was shown.
    pub(super) fn end_of_units(&self) {
        self.units().end();
    }
}

/// What the state has for readers of units.
pub(super) fn ring() -> (Mutex<Units>, watch::Sender<u64>) {
    (Mutex::new(Units::default()), watch::Sender::new(0))
}

/// What a publisher is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Told {
    /// It must stop.
    Ended(Ended),
    /// Somebody who watches needs a key picture. Asking again before this is taken counts once.
    KeyPictureWanted,
}

impl super::Publisher {
    /// The next thing that this publisher is told; waits for it. Cancelling it loses nothing.
    pub(crate) async fn told(&mut self) -> Told {
        let state = self.state.clone();
        tokio::select! {
            ended = self.ended() => Told::Ended(ended),
            () = state.key_picture_wanted.notified() => Told::KeyPictureWanted,
        }
    }
}
