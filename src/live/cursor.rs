//! A timeline that moves. A cursor holds nobody back: it reads the past from the store at its own pace
//! and the newest from the tail, and what is gone by the time it comes is skipped and said.

use std::collections::VecDeque;
use std::sync::Arc;

use media::{GapReason, Ordinal, Position, ProducerTime, Sequence, ServerTime, StreamId};
use store::{Select, StoreError};
use tokio::sync::watch;

use super::hub::Hub;
use super::state::{Edge, StreamState};
use super::tail::meets;
use super::timeline::Descriptor;

/// Descriptors fetched from the store at once.
const BATCH: usize = 64;

/// Where a cursor starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "WebRTC starts at a producer time; what else follows a stream starts elsewhere")
)]
pub(crate) enum Start {
    /// The oldest fragment.
    Earliest,
    /// The newest fragment that can be decoded without the one before it.
    Latest,
    /// The fragment after this position.
    After(Position),
    /// The first fragment whose producer span ends after this time; one to come when there is none yet.
    Producer(ProducerTime),
    /// The first fragment whose server span ends after this time, likewise.
    Server(ServerTime),
}

impl Start {
    /// What the first fragment must meet.
    fn select(self) -> Option<Select> {
        match self {
            Start::Producer(from) => Some(Select::Producer(from, ProducerTime::from_micros(i64::MAX))),
            Start::Server(from) => Some(Select::Server(from, ServerTime::from_micros(i64::MAX))),
            Start::Earliest | Start::Latest | Start::After(_) => None,
        }
    }
}

/// A timeline that moves: every fragment from its start on, store first, then tail, then as they come.
pub(crate) struct Cursor {
    hub: Arc<Hub>,
    state: Arc<StreamState>,
    edge: watch::Receiver<Edge>,
    /// Everything up to here was given, or lies before the start.
    at: Position,
    /// Ordinal of the next fragment if nothing is missing; none before the first.
    expected: Option<Ordinal>,
    /// What the first fragment must meet, until one did.
    first: Option<Select>,
    /// The caller knows the fragment at `at`, so that something missing after it is to be said.
    knows_at: bool,
    /// Fetched from the store and not given yet.
    fetched: VecDeque<Descriptor>,
    /// `Idle` was given since the last fragment.
    idle_said: bool,
}

/// What a cursor meets.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "it is a fragment nearly always")]
pub(crate) enum Step {
    Fragment(Descriptor),
    /// Fragments between were dropped because this reader was too slow, or were deleted.
    Skipped {
        /// The fragment that comes next.
        #[cfg_attr(not(test), expect(dead_code, reason = "WebRTC goes on from wherever that is"))]
        to: Position,
    },
    /// The publisher left; more may come.
    Idle(#[cfg_attr(not(test), expect(dead_code, reason = "a viewer of WebRTC cannot be told why"))] GapReason),
    /// The stream was deleted.
    Deleted,
}

/// The position just before `position`: no fragment lies between the two.
fn just_before(position: Position) -> Position {
    Position { sequence: Sequence(position.sequence.0.saturating_sub(1)), ..position }
}

impl Hub {
    /// A reader of `stream` from `start` on.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) async fn cursor(self: &Arc<Self>, stream: StreamId, start: Start) -> Result<Cursor, StoreError> {
        let state = self.loaded(stream).await?;
        let edge = state.edge.subscribe();
        let newest = edge.borrow().closed;
        let (at, first) = match start {
            Start::Earliest => (Position::default(), None),
            Start::After(position) => (position, None),
            Start::Latest => (just_before(self.latest(&state).unwrap_or(newest)), None),
            Start::Producer(_) | Start::Server(_) => {
                let select = start.select().expect("both name a time");
                match self.timeline(stream, select, 1).await?.fragments.first() {
                    Some(found) => (just_before(found.info.position), None),
                    None => (newest, Some(select)),
                }
            }
        };
        let knows_at = matches!(start, Start::After(position) if position != Position::default());
        let fetched = VecDeque::new();
        let hub = self.clone();
        Ok(Cursor { hub, state, edge, at, expected: None, first, knows_at, fetched, idle_said: false })
    }

    /// Position of the newest fragment in memory at which decoding can start.
    fn latest(&self, state: &StreamState) -> Option<Position> {
        let shared = state.shared();
        let independent = |start| start != media::StartKind::Dependent;
        let newest = shared.tail.entries().rev().find(|entry| independent(entry.fragment.info.start))?;
        Some(newest.fragment.info.position)
    }
}

/// What is next, as far as memory knows.
#[expect(clippy::large_enum_variant, reason = "it is a fragment nearly always")]
enum Look {
    /// In the tail.
    Here(Descriptor),
    /// Older than the tail: the store has it, or it is gone.
    Older,
    /// Nothing after the cursor.
    Nothing,
}

impl Cursor {
    /// The next step; waits for it at the end of the stream.
    ///
    /// Cancelling it loses nothing.
    ///
    /// # Errors
    /// When the store cannot be read; the cursor stays where it is.
    pub(crate) async fn next(&mut self) -> Result<Step, StoreError> {
        loop {
            let edge = *self.edge.borrow_and_update();
            if edge.deleted {
                return Ok(Step::Deleted);
            }
            if self.fetched.is_empty() && matches!(self.look(), Look::Older) {
                self.fetch().await?;
            }
            let next = match (self.fetched.front(), self.look()) {
                (Some(fetched), _) => fetched.clone(),
                (None, Look::Here(descriptor)) => descriptor,
                (None, Look::Older | Look::Nothing) => {
                    if !edge.live && !self.idle_said {
                        self.idle_said = true;
                        let left = self.state.shared().left;
                        return Ok(Step::Idle(left.unwrap_or(GapReason::Started)));
                    }
                    // The hub keeps the sender as long as anybody listens, so an error cannot be met.
                    if self.edge.changed().await.is_err() {
                        return Ok(Step::Deleted);
                    }
                    continue;
                }
            };
            if let Some(step) = self.take(next) {
                return Ok(step);
            }
        }
    }

    fn look(&self) -> Look {
        let shared = self.state.shared();
        if self.at < shared.tail.before() {
            return Look::Older;
        }
        match shared.tail.after(self.at) {
            Some(entry) => Look::Here(Descriptor::of_tail(entry)),
            None => Look::Nothing,
        }
    }

    /// Takes the next batch from the store. When it has none, what lay between us and the tail is gone.
    async fn fetch(&mut self) -> Result<(), StoreError> {
        // Looked at before the store is: what has left the tail by then is found there.
        let before = self.state.shared().tail.before();
        let timeline = self.hub.timeline(self.state.id, Select::After(self.at), BATCH).await?;
        // What the tail still has is taken from there, the lost fragments among it.
        let older = timeline.fragments.into_iter().filter(|found| found.info.position <= before);
        self.fetched.extend(older);
        if self.fetched.is_empty() {
            self.at = self.at.max(before);
            // A hole is noticed by the ordinal of what follows; a reader that has none yet is told by this.
        }
        Ok(())
    }

    /// Moves on to `next`; none when it is before the start.
    fn take(&mut self, next: Descriptor) -> Option<Step> {
        let info = &next.info;
        if let Some(select) = self.first
            && !meets(info, select)
        {
            self.advance(info.position, info.ordinal);
            self.expected = None;
            return None;
        }
        self.first = None;
        if self.misses_before(&next) {
            // Said once: the next call finds nothing missing.
            self.expected = Some(info.ordinal);
            self.knows_at = false;
            return Some(Step::Skipped { to: info.position });
        }
        self.advance(info.position, info.ordinal);
        Some(Step::Fragment(next))
    }

    fn advance(&mut self, position: Position, ordinal: Ordinal) {
        self.fetched.pop_front();
        self.at = position;
        self.expected = Some(Ordinal(ordinal.0.saturating_add(1)));
        self.knows_at = false;
        self.idle_said = false;
    }

    /// Whether fragments between the cursor and `next` are missing.
    fn misses_before(&self, next: &Descriptor) -> bool {
        let info = &next.info;
        match self.expected {
            Some(expected) => info.ordinal != expected,
            // A position tells of a hole inside of its epoch only.
            None => {
                self.knows_at
                    && info.position.epoch == self.at.epoch
                    && info.position.sequence.0 != self.at.sequence.0.saturating_add(1)
            }
        }
    }
}
