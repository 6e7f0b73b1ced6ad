//! Packets in, orders to the publisher out. Pure: bytes and time come as arguments.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use media::{AccessUnit, DropReason, ProducerTime, ServerTime, Track, TrackId, TrackSet};

use super::steady::Steady;
use crate::live::Account;
use crate::protocol::rtp::receive::{Counters, Moment, Received, Receiver};

/// Longest wait until every announced track is described.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(5);
/// Most bytes of units kept meanwhile.
const MAX_HELD_BYTES: usize = 16 << 20;

/// What the publisher is to do next.
#[derive(Clone, Debug)]
pub(crate) enum Order {
    /// The tracks are these from here on.
    Tracks(TrackSet),
    /// Append this.
    Unit(AccessUnit),
    /// Append these bytes to the newest unit of the track.
    Rest { track: TrackId, data: Bytes },
    /// At `ticks` of the track the producer's clock showed `producer`.
    SenderReport { track: TrackId, ticks: i64, producer: ProducerTime, arrival: ServerTime },
    /// The clock that arrival is read from was set, by so much.
    ClockWasSet { by_us: i64 },
}

/// A session's tracks on their way to a publisher.
///
/// Nothing goes out before every track is described (parameter sets may come in band), or the wait is over; tracks
/// that are not described by then join later, as a new track set.
#[derive(Debug)]
pub(crate) struct Feed {
    receivers: Vec<Receiver>,
    steady: Steady,
    described: Vec<Track>,
    waiting: Option<Waiting>,
    received: VecDeque<Received>,
    orders: VecDeque<Order>,
    /// Units of tracks that are not described.
    undescribed_units: u64,
}

#[derive(Debug)]
struct Waiting {
    until: Instant,
    bytes: usize,
    held: VecDeque<Received>,
}

/// A track that goes missing, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Undescribed {
    pub track: usize,
    pub why: String,
}

impl Feed {
    /// A feed of these tracks, recording from `now` on.
    pub(crate) fn new(receivers: Vec<Receiver>, now: Instant) -> Feed {
        let described = receivers.iter().filter_map(|receiver| receiver.track().cloned()).collect();
        let waiting = Some(Waiting { until: now + MAX_WAIT, bytes: 0, held: VecDeque::new() });
        Feed {
            receivers,
            steady: Steady::default(),
            described,
            waiting,
            received: VecDeque::new(),
            orders: VecDeque::new(),
            undescribed_units: 0,
        }
    }

    /// Takes an RTP packet of the `track`-th track.
    pub(crate) fn rtp(&mut self, track: usize, bytes: &[u8], at: Moment) {
        let at = self.moment(at);
        let Some(receiver) = self.receivers.get_mut(track) else { return };
        receiver.rtp(bytes, at, &mut self.received);
        self.sort(at.now);
    }

    /// Takes an RTCP packet of the `track`-th track.
    pub(crate) fn rtcp(&mut self, track: usize, bytes: &[u8], at: Moment) {
        let at = self.moment(at);
        let Some(receiver) = self.receivers.get_mut(track) else { return };
        receiver.rtcp(bytes, at, &mut self.received);
        self.sort(at.now);
    }

    /// At `timestamp` of the source `ssrc` of the `track`-th track its clock showed `ntp`, as a report or a packet says.
    pub(crate) fn clock(&mut self, track: usize, ssrc: u32, timestamp: u32, ntp: u64, at: Moment) {
        let at = self.moment(at);
        let Some(receiver) = self.receivers.get_mut(track) else { return };
        receiver.clock(ssrc, timestamp, ntp, at, &mut self.received);
        self.sort(at.now);
    }

    /// Time went by.
    pub(crate) fn tick(&mut self, at: Moment) {
        let at = self.moment(at);
        for receiver in &mut self.receivers {
            receiver.tick(at, &mut self.received);
        }
        self.sort(at.now);
    }

    /// The session is over: what is nearly complete comes out.
    pub(crate) fn finish(&mut self, at: Moment) {
        let at = self.moment(at);
        for receiver in &mut self.receivers {
            receiver.flush(at, &mut self.received);
        }
        self.sort(at.now);
        if self.waiting.is_some() {
            self.start();
        }
    }

    /// The next order.
    pub(crate) fn pop(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    /// The receiver report of each track.
    pub(crate) fn reports(&mut self, now: Instant) -> Vec<Vec<u8>> {
        self.receivers.iter_mut().map(|receiver| receiver.report(now)).collect()
    }

    /// Whether packets wait for missing ones, so that [`Feed::tick`] is due soon.
    pub(crate) fn is_reordering(&self) -> bool {
        self.receivers.iter().any(Receiver::is_waiting)
    }

    /// Whether the wait for descriptions goes on.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Tracks without a description.
    pub(crate) fn undescribed(&self) -> Vec<Undescribed> {
        let tracks = self.receivers.iter().enumerate().filter(|(_, receiver)| receiver.track().is_none());
        tracks.map(|(track, receiver)| Undescribed { track, why: why(receiver) }).collect()
    }

    /// Whether anything can be recorded once the wait is over.
    pub(crate) fn is_described(&self) -> bool {
        !self.described.is_empty()
    }

    /// What came and did not become an order, so far; and what a person should know of it.
    pub(crate) fn account(&self) -> Account {
        let mut account = Account::default();
        for (track, receiver) in self.receivers.iter().enumerate() {
            let counters = receiver.counters();
            account.packets += counters.packets;
            account.lost += counters.lost;
            account.dropped.add(&counters.dropped());
            if counters.packets > 0 && counters.units == 0 {
                let packets = counters.packets;
                account.notes.push(format!("track {}: {packets} packets have come, and no whole frame", track + 1));
            }
        }
        account.dropped.count(DropReason::UndescribedTrack, self.undescribed_units);
        if self.waiting.is_none() {
            let missing = self.undescribed().into_iter();
            account.notes.extend(missing.map(|one| format!("track {} is not recorded: {}", one.track + 1, one.why)));
        }
        account
    }

    /// What was counted, for each track.
    pub(crate) fn counters(&self) -> impl Iterator<Item = Counters> + '_ {
        self.receivers.iter().map(Receiver::counters)
    }

    /// The moment with a wall time that goes on steadily. When the clock was set, what waits is told as if it had been set
    /// before, and what is out by an order.
    fn moment(&mut self, at: Moment) -> Moment {
        let (at, by_us) = self.steady.moment(at);
        if by_us == 0 {
            return at;
        }
        match &mut self.waiting {
            None => self.orders.push_back(Order::ClockWasSet { by_us }),
            Some(waiting) => {
                for held in &mut waiting.held {
                    match held {
                        Received::Unit(AccessUnit { arrival, .. }) | Received::SenderReport { arrival, .. } => {
                            *arrival = arrival.plus_micros(by_us);
                        }
                        Received::Track(_) | Received::Rest { .. } => {}
                    }
                }
            }
        }
        at
    }

    /// Puts what was received into orders, or aside while waiting.
    fn sort(&mut self, now: Instant) {
        while let Some(received) = self.received.pop_front() {
            if let Received::Track(track) = &received {
                self.described.retain(|before| before.id != track.id);
                self.described.push(track.clone());
            }
            match &mut self.waiting {
                None => self.order(received),
                Some(waiting) => {
                    if let Received::Unit(AccessUnit { data, .. }) | Received::Rest { data, .. } = &received {
                        waiting.bytes += data.len();
                    }
                    if !matches!(received, Received::Track(_)) {
                        waiting.held.push_back(received);
                    }
                }
            }
        }
        let Some(waiting) = &self.waiting else { return };
        let complete = self.described.len() == self.receivers.len();
        let over = now >= waiting.until || waiting.bytes > MAX_HELD_BYTES;
        if complete || over {
            self.start();
        }
    }

    /// The wait is over: the tracks as they are known, then what was held.
    fn start(&mut self) {
        let Some(waiting) = self.waiting.take() else { return };
        self.tracks();
        for received in waiting.held {
            self.order(received);
        }
    }

    fn tracks(&mut self) {
        if let Some(tracks) = TrackSet::new(self.described.clone()) {
            self.orders.push_back(Order::Tracks(tracks));
        }
    }

    fn order(&mut self, received: Received) {
        let is_described = |id: TrackId| self.described.iter().any(|track| track.id == id);
        match received {
            Received::Track(_) => self.tracks(),
            Received::Unit(unit) if is_described(unit.track) => self.orders.push_back(Order::Unit(unit)),
            Received::Unit(_) => self.undescribed_units += 1,
            Received::Rest { track, data } if is_described(track) => self.orders.push_back(Order::Rest { track, data }),
            Received::Rest { .. } => {}
            Received::SenderReport { track, ticks, producer, arrival } if is_described(track) => {
                self.orders.push_back(Order::SenderReport { track, ticks, producer, arrival });
            }
            Received::SenderReport { .. } => {}
        }
    }
}

fn why(receiver: &Receiver) -> String {
    let counters = receiver.counters();
    if let Some(problem) = receiver.problem() {
        return problem;
    }
    if counters.packets == 0 && counters.wrong_payload_type > 0 {
        return format!("{} packets, all of a payload type that was not announced", counters.wrong_payload_type);
    }
    if counters.packets == 0 {
        return "no packets came".into();
    }
    format!("no {} came", receiver.needs())
}

#[cfg(test)]
mod tests;
