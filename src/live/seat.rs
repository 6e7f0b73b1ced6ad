//! The publisher's seat of a stream: who may sit, what happens to who sat there before, and the
//! fragmenter that goes with the seat.
//!
//! The fragmenter stays here and not in the [`super::Publisher`], so that a takeover, a deletion or a
//! stop closes the open fragment at once, whatever the connection behind the publisher is doing.

use std::sync::MutexGuard;
use std::time::{Duration, Instant};

use media::fragmenter::{Continuation, Fragmenter, OpenPictures};
use media::{AccessUnit, DropReason, Dropped, GapReason, ProducerTime, RandomAccess, ServerTime, TrackId, TrackSet};
use tokio::sync::watch;

use super::account::{Account, Ledger, NotStored};
use super::meters::Meters;
use super::publisher::Ended;
use super::state::StreamState;
use crate::catalog::SecondPublisher;

/// Who holds the stream's one writing end.
pub(super) enum Seat {
    /// The store was not asked yet where the stream continues.
    Unknown,
    /// Nobody; the next publisher continues here.
    Vacant(Box<Continuation>),
    /// Somebody.
    Taken(Box<Session>),
    /// Nobody ever again.
    Deleted,
    /// The fragmenter failed in the middle of a change: its numbers cannot be trusted, so nobody until the
    /// next start of the server, which takes a new epoch.
    Broken,
}

/// One publisher's time in the seat.
pub(super) struct Session {
    /// Tells a publisher whether it is still the one.
    pub id: u64,
    pub fragmenter: Fragmenter,
    pub credential: String,
    pub can_wait: bool,
    pub ended: watch::Sender<Option<Ended>>,
    pub meters: Meters,
    /// Track that leads: after a drop, recording goes on where it can be decoded from.
    pub lead: Option<TrackId>,
    /// The disk is too far behind a source that cannot wait: units are dropped until there is room.
    pub discarding: bool,
    /// When its last unit came; none while it is held back, which is no silence of its own.
    pub heard: Option<Instant>,
    /// What came and is not stored.
    pub ledger: Ledger,
    /// Units that were dropped because the disk was behind.
    pub behind: u64,
}

/// What became of a unit.
pub(super) enum Accepted {
    /// It was taken, or counted as dropped.
    Done,
    /// The disk is behind: try again when something is settled.
    Full(AccessUnit),
    /// The session is over.
    Over,
}

impl Session {
    /// All that was dropped behind the door.
    fn dropped(&self) -> Dropped {
        let mut dropped = self.fragmenter.dropped();
        dropped.count(DropReason::DiskBehind, self.behind);
        dropped
    }

    /// Whether recording can resume at `unit` after a drop.
    fn resumes_at(&self, unit: &AccessUnit) -> bool {
        unit.random_access != RandomAccess::No && self.lead.is_none_or(|lead| lead == unit.track)
    }
}

/// Whether a newcomer with `credential` takes the seat from who holds it with `holder`.
pub(super) fn takes_over(rule: SecondPublisher, holder: &str, credential: &str) -> bool {
    match rule {
        SecondPublisher::SameCredential => holder == credential,
        SecondPublisher::Refuse => false,
        SecondPublisher::Takeover => true,
    }
}

/// An open fragment may have so many bytes however little there is for a stream.
const OPEN_BYTES_MIN: u64 = 2 << 20;

impl StreamState {
    /// The seat. A panic while it was held can only have come from the fragmenter, and ends the stream it broke.
    pub fn seat(&self) -> MutexGuard<'_, Seat> {
        match self.seat.lock() {
            Ok(seat) => seat,
            Err(poisoned) => {
                self.seat.clear_poison();
                let mut seat = poisoned.into_inner();
                tracing::error!(stream = %self.id, "the fragmenter failed; the stream takes no publisher until restart");
                if let Seat::Taken(session) = &*seat {
                    session.meters.publishers.decrement(1.0);
                    session.ended.send_replace(Some(Ended::Stopping));
                }
                if self.shared().publisher.is_some() {
                    self.left(GapReason::PublisherLeft);
                    self.work.notify_one();
                }
                *seat = Seat::Broken;
                seat
            }
        }
    }

    /// Ends the session in the seat, if there is one: closes its open fragment, says `ended` to its
    /// publisher and `gap` to the next fragment.
    pub fn vacate(&self, seat: &mut Seat, ended: Ended, gap: GapReason) {
        if !matches!(seat, Seat::Taken(_)) {
            return;
        }
        let Seat::Taken(session) = std::mem::replace(seat, Seat::Broken) else { return };
        let Session { mut fragmenter, ended: said, meters, .. } = *session;
        self.deliver(fragmenter.close(true), &meters);
        *seat = Seat::Vacant(Box::new(fragmenter.into_continuation(gap)));
        meters.publishers.decrement(1.0);
        self.left(gap);
        said.send_replace(Some(ended));
        // The recorder may be asleep with nothing to do: it is to seal the block in a while.
        self.work.notify_one();
    }

    fn left(&self, gap: GapReason) {
        self.end_of_units();
        let mut shared = self.shared();
        shared.publisher = None;
        shared.left = Some(gap);
        self.edge.send_modify(|edge| edge.live = false);
    }

    /// The newest pictures that are in no closed fragment.
    pub fn open_pictures(&self) -> Option<OpenPictures> {
        match &*self.seat() {
            Seat::Taken(session) => session.fragmenter.open_pictures(),
            _ => None,
        }
    }

    /// Ends the session in the seat, if it is `session`.
    pub fn vacate_session(&self, session: u64, ended: Ended, gap: GapReason) {
        let mut seat = self.seat();
        if matches!(&*seat, Seat::Taken(held) if held.id == session) {
            self.vacate(&mut seat, ended, gap);
        }
    }

    /// Ends whichever session is in the seat.
    pub fn vacate_any(&self, ended: Ended, gap: GapReason) {
        self.vacate(&mut self.seat(), ended, gap);
    }

    /// The next fragment to start does not continue what was recorded, because of `gap`.
    pub fn break_recording(&self, gap: GapReason) {
        match &mut *self.seat() {
            Seat::Taken(session) => session.fragmenter.break_with(gap),
            Seat::Vacant(continuation) => continuation.reason = gap,
            Seat::Unknown | Seat::Deleted | Seat::Broken => {}
        }
    }

    /// See [`super::Publisher::set_tracks`].
    pub fn set_tracks(&self, session: u64, tracks: TrackSet) {
        let mut seat = self.seat();
        let Some(held) = session_of(&mut seat, session) else { return };
        held.lead = Some(tracks.lead().id);
        self.deliver(held.fragmenter.set_tracks(tracks), &held.meters);
        if let Some((id, tracks)) = held.fragmenter.tracks() {
            self.shared().newest_set = Some((id, tracks.clone()));
        }
    }

    /// See [`super::Publisher::sender_report`].
    pub fn sender_report(&self, session: u64, track: TrackId, ticks: i64, producer: ProducerTime, arrival: ServerTime) {
        if let Some(held) = session_of(&mut self.seat(), session) {
            held.fragmenter.sender_report(track, ticks, producer, arrival);
        }
    }

    /// See [`super::Publisher::push_rest`].
    pub fn accept_rest(&self, session: u64, track: TrackId, data: &[u8]) {
        let mut seat = self.seat();
        let Some(held) = session_of(&mut seat, session) else { return };
        if !held.discarding && !held.fragmenter.push_rest(track, data) {
            held.meters.dropped_units.increment(1);
        }
    }

    /// See [`super::Publisher::clock_was_set`].
    pub fn clock_was_set(&self, session: u64, by_us: i64) {
        if let Some(held) = session_of(&mut self.seat(), session) {
            tracing::warn!(stream = %self.id, by_seconds = by_us / 1_000_000, "this server's clock was set while the stream was recorded");
            self.deliver(held.fragmenter.clock_was_set(by_us), &held.meters);
        }
    }

    /// See [`super::Publisher::account`].
    pub fn account(&self, session: u64, account: Account) {
        let mut seat = self.seat();
        let Some(held) = session_of(&mut seat, session) else { return };
        let now = Instant::now();
        let news = held.ledger.account(account, now);
        held.meters.packets.increment(news.packets);
        held.meters.lost_packets.increment(news.lost);
        held.meters.dropped(&news.dropped);
        let (dropped, notes) = (held.ledger.dropped(), held.ledger.notes(now));
        if let Some(presence) = &mut self.shared().publisher {
            (presence.dropped, presence.notes) = (dropped, notes);
        }
        if let Some(warning) = news.warning {
            let NotStored { nothing, dropped, notes } = &warning;
            let what = if *nothing {
                "media arrives and nothing of it is stored"
            } else {
                "some of what arrives is not stored"
            };
            tracing::warn!(stream = %self.id, %dropped, notes = notes.join("; "), "{what}");
            self.notices.put(self.id, warning);
        }
    }

    /// Closes the open fragment of a publisher that has sent nothing for `limit`: what came before is not to wait in
    /// memory for what may never come. The session goes on.
    pub fn close_silent(&self, limit: Duration) {
        if let Seat::Taken(held) = &mut *self.seat()
            && held.fragmenter.open_bytes() > 0
            && held.heard.is_some_and(|heard| heard.elapsed() >= limit)
        {
            tracing::debug!(stream = %self.id, "the publisher is silent: its open fragment is closed");
            self.deliver(held.fragmenter.close(false), &held.meters);
        }
    }

    /// Gives a unit to the fragmenter, within a `budget` of bytes that are not on disk.
    pub fn accept(&self, session: u64, unit: AccessUnit, budget: u64) -> Accepted {
        let mut seat = self.seat();
        let Some(held) = session_of(&mut seat, session) else { return Accepted::Over };
        held.heard = Some(Instant::now());
        let backlog = self.shared().tail.waiting_bytes();
        // With nothing on its way to the disk, waiting would be for nothing; the fragmenter has its own bound.
        let behind = backlog > 0 && backlog + held.fragmenter.open_bytes() as u64 > budget;
        if behind && held.can_wait {
            held.heard = None;
            return Accepted::Full(unit);
        }
        // Those who watch see it whatever the disk does.
        if let Some(shown_us) = held.fragmenter.shown_us(&unit)
            && let Some((_, tracks)) = held.fragmenter.tracks()
        {
            self.show(session, tracks.clone(), shown_us, unit.clone(), budget);
        }
        if held.fragmenter.open_bytes() as u64 > budget.max(OPEN_BYTES_MIN) {
            // Many streams, or little memory: what is closed can go to the disk.
            self.deliver(held.fragmenter.close(false), &held.meters);
        }
        if behind && !held.discarding {
            held.discarding = true;
            self.deliver(held.fragmenter.close(false), &held.meters);
        }
        let mut lost = u64::from(unit.loss_before);
        held.meters.lost_units.increment(lost);
        // Half of the budget, so that recording does not stutter at its edge.
        if held.discarding && (backlog > budget / 2 || !held.resumes_at(&unit)) {
            held.meters.dropped_units.increment(1);
            held.behind += 1;
            lost += 1;
            let dropped = held.dropped();
            held.ledger.unit(false, dropped);
        } else {
            if std::mem::take(&mut held.discarding) {
                held.fragmenter.break_with(GapReason::Overload);
            }
            let pushed = held.fragmenter.push(unit);
            let dropped = held.dropped();
            held.ledger.unit(pushed.dropped.is_none(), dropped);
            self.deliver(pushed.closed, &held.meters);
        }
        if lost > 0
            && let Some(presence) = &mut self.shared().publisher
        {
            presence.lost += lost;
        }
        Accepted::Done
    }
}

/// The session in the seat, if it is `session`.
fn session_of(seat: &mut Seat, session: u64) -> Option<&mut Session> {
    match seat {
        Seat::Taken(held) if held.id == session => Some(held),
        _ => None,
    }
}
