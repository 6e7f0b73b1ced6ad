//! One session in the loop: its peer, where it is, and what it does with what comes.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use media::{ProducerTime, StreamId};
use ring::hmac;
use store::Clock;
use tokio::sync::mpsc;

use super::directory::Key;
use super::socket::{Batch, Socket, Way};
use crate::auth::Principal;
use crate::ingest::whip::Incoming;
use crate::playback::whep::{Catchup, Packed, Plan, Sending, Viewer};
use crate::protocol::rtp::receive::Moment;
use crate::protocol::rtp::rtcp::unix_micros_to_ntp;
use crate::protocol::webrtc::{Answer, Credentials, Kind, Peer, PeerError, Report, State, stun};

/// Between an offer and a connection.
const SET_UP: Duration = Duration::from_secs(10);
/// A page that is closed says nothing. Peers that are there send a check or a report each 6 s at least, and one that comes
/// back later makes a new session.
const SILENCE: Duration = Duration::from_secs(10);
/// Addresses of a peer that have proven themselves: it may move from one network to another.
const MAX_ADDRESSES: usize = 4;
/// Between sender reports; the first follow the first picture quickly, so that sound and picture meet soon.
const REPORT_EVERY: Duration = Duration::from_secs(2);
const FIRST_REPORTS: Duration = Duration::from_millis(200);
/// Key pictures for a viewer that asks for them, at most.
const KEY_PICTURE_EVERY: Duration = Duration::from_millis(500);
/// Pictures are sent once more from the last key picture for a viewer that asks, at most.
const CATCH_UP_EVERY: Duration = Duration::from_secs(2);
/// Packets that a peer is given before what it made of them is taken: each of its many stages has room for as many.
const IN_A_ROW: usize = 16;
/// A viewer that loses this share of packets, in 1/256, has no room for what it is sent.
const CONGESTED: u8 = 64;

/// Which publisher's packet belongs where.
pub(super) struct Publishing {
    /// Payload type of each track, in order.
    pub payload_types: Vec<u8>,
    /// The newest source of each track.
    pub sources: Vec<Option<u32>>,
    /// The track of pictures.
    pub pictures: Option<usize>,
    /// Where packets go, once the seat is taken.
    pub incoming: Option<mpsc::Sender<Incoming>>,
    /// Takes the seat; called once, when the peer is connected.
    pub start: Option<Box<dyn FnOnce(mpsc::Receiver<Incoming>) + Send>>,
}

/// What is watched: by all who take the stream that way, or by one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Channel {
    Live {
        stream: StreamId,
        plan: Plan,
    },
    /// The past, from an instant on, as far as it may be seen.
    Past {
        stream: StreamId,
        plan: Plan,
        from: ProducerTime,
        allowed: Option<(ProducerTime, ProducerTime)>,
        viewer: Key,
    },
}

impl Channel {
    pub(super) fn stream(self) -> StreamId {
        match self {
            Channel::Live { stream, .. } | Channel::Past { stream, .. } => stream,
        }
    }

    pub(super) fn plan(self) -> Plan {
        match self {
            Channel::Live { plan, .. } | Channel::Past { plan, .. } => plan,
        }
    }
}

/// What a viewer is sent.
pub(super) struct Watching {
    pub channel: Channel,
    pub viewer: Viewer,
    /// What its tracks are, in the order of the peer's.
    pub kinds: Vec<Kind>,
    /// Codecs that were agreed on, in the same order.
    pub codecs: Vec<media::Codec>,
    pub asked: Option<Instant>,
    pub caught_up: Option<Instant>,
    pub report_at: Instant,
    pub reports: u32,
    pub congested: u32,
}

#[expect(clippy::large_enum_variant, reason = "a session stays where it is, in the loop's map")]
pub(super) enum Role {
    Publisher(Publishing),
    Viewer(Watching),
}

/// A session.
pub(super) struct Session {
    pub key: Key,
    pub id: String,
    /// Our user fragment, another one after a restart.
    pub ufrag: String,
    pub password: hmac::Key,
    pub peer: Peer,
    pub role: Role,
    pub principal: Principal,
    /// The producer time up to which its credential may see media.
    pub until: Option<ProducerTime>,
    pub stream_name: String,
    pub since: Instant,
    pub connected: Option<Instant>,
    /// When the newest datagram came from where the peer has proven to be.
    pub heard: Instant,
    pub due: Instant,
    /// Where the peer has proven to be, newest last, and which of our addresses it uses.
    pub addresses: Vec<Way>,
    /// The one that it chose, which it may change at any time: where media goes.
    pub nominated: Option<SocketAddr>,
    /// The one that it asks for just now. It is nominated when `rtc` agrees, which it does once a check of ours was answered from
    /// there: a request that somebody recorded and sends again from elsewhere moves nothing.
    pub nominating: Option<SocketAddr>,
}

/// The way out, and what is on it; all sessions share it, one after the other.
pub(super) struct Out {
    pub socket: Socket,
    pub batch: Batch,
    /// What a viewer is about to be sent.
    pub sendings: Vec<Sending>,
}

/// What the session needs of others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wish {
    /// A key picture of its stream.
    KeyPicture,
    /// To start from the last key picture.
    CatchUp,
}

impl Session {
    /// The peer has proven to be at `address`; the one that is forgotten for it, if there were too many.
    pub(super) fn proven(&mut self, address: SocketAddr, ours: Option<IpAddr>) -> Option<SocketAddr> {
        if let Some(known) = self.addresses.iter_mut().find(|(known, _)| *known == address) {
            known.1 = ours;
            return None;
        }
        self.addresses.push((address, ours));
        let spare = self.addresses.iter().position(|(known, _)| Some(*known) != self.nominated).unwrap_or(0);
        (self.addresses.len() > MAX_ADDRESSES).then(|| self.addresses.remove(spare).0)
    }

    /// The peer goes on with other ICE credentials; none when they are those it has.
    pub(super) fn restart(
        &mut self,
        theirs: &Credentials,
        here: &[SocketAddr],
        now: Instant,
    ) -> Result<Option<Answer>, PeerError> {
        if self.peer.has(theirs) {
            return Ok(None);
        }
        let answer = self.peer.restart(theirs, here, now)?;
        self.password = stun::key(&answer.credentials.password);
        self.ufrag = answer.credentials.ufrag.clone();
        self.nominated = None;
        self.due = now;
        Ok(Some(answer))
    }

    /// Another session's peer has proven to be at `address`.
    pub(super) fn forget(&mut self, address: SocketAddr) {
        self.addresses.retain(|(known, _)| *known != address);
        self.nominated = self.nominated.filter(|nominated| *nominated != address);
    }

    /// Takes a datagram of the peer's.
    pub(super) fn receive(
        &mut self,
        from: SocketAddr,
        bytes: BytesMut,
        clock: &dyn Clock,
        now: Instant,
    ) -> Option<Wish> {
        self.heard = now;
        self.peer.receive(from, bytes, now);
        self.take(clock, now)
    }

    /// Time went by.
    pub(super) fn tick(&mut self, clock: &dyn Clock, now: Instant) -> Option<Wish> {
        self.peer.tick(now);
        self.take(clock, now)
    }

    /// Takes what the peer has for us.
    fn take(&mut self, clock: &dyn Clock, now: Instant) -> Option<Wish> {
        self.due = self.peer.due().unwrap_or(now + Duration::from_secs(1));
        let at = Moment { now, wall: clock.now() };
        let mut wish = None;
        match &mut self.role {
            Role::Publisher(publishing) => {
                while let Some(arrived) = self.peer.next_arrived() {
                    let Some(track) = publishing.payload_types.iter().position(|ours| *ours == arrived.payload_type)
                    else {
                        continue;
                    };
                    publishing.sources[track] = Some(arrived.ssrc);
                    let Some(incoming) = &publishing.incoming else { continue };
                    if let Some((timestamp, ntp)) = arrived.captured {
                        give(incoming, Incoming::Clock { track, ssrc: arrived.ssrc, timestamp, ntp, at });
                    }
                    give(incoming, Incoming::Packet { track, bytes: arrived.bytes, at });
                }
                while let Some(report) = self.peer.next_report() {
                    let Report::Sender { ssrc, ntp, timestamp } = report else { continue };
                    // Of a source that has sent nothing yet nobody knows whose it is; it reports again.
                    let track = publishing.sources.iter().position(|source| *source == Some(ssrc));
                    if let (Some(incoming), Some(track)) = (&publishing.incoming, track) {
                        give(incoming, Incoming::Clock { track, ssrc, timestamp, ntp, at });
                    }
                }
            }
            Role::Viewer(watching) => {
                while self.peer.next_arrived().is_some() {}
                while let Some(report) = self.peer.next_report() {
                    wish = wish.or(watching.heard(report, now));
                }
            }
        }
        wish
    }

    /// Why the session is over, if it is.
    pub(super) fn over(&self, now: Instant) -> Option<&'static str> {
        match self.peer.state() {
            State::Over => Some("the peer left"),
            State::Connecting if now.saturating_duration_since(self.since) > SET_UP => {
                Some("no connection was made in time")
            }
            State::Connected if now.saturating_duration_since(self.heard) > SILENCE => Some("the peer fell silent"),
            State::Connecting | State::Connected => None,
        }
    }

    /// Sends a live unit, as far as this viewer gets it.
    pub(super) fn show(&mut self, unit: &std::sync::Arc<Packed>, out: &mut Out, now: Instant) {
        let Role::Viewer(watching) = &mut self.role else { return };
        if self.connected.is_some() {
            watching.viewer.take(unit, &mut out.sendings);
            self.send(out, now);
        }
    }

    /// Sends what is due of older pictures, and reports.
    pub(super) fn advance(&mut self, out: &mut Out, now: Instant) {
        let Role::Viewer(watching) = &mut self.role else { return };
        if self.connected.is_none() {
            return;
        }
        watching.viewer.tick(now, &mut out.sendings);
        self.send(out, now);
        let Role::Viewer(watching) = &mut self.role else { return };
        if now >= watching.report_at {
            watching.report(&mut self.peer, now);
        }
    }

    /// When [`Session::advance`] is due.
    pub(super) fn advance_due(&self) -> Option<Instant> {
        match &self.role {
            Role::Viewer(watching) if self.connected.is_some() => {
                Some(watching.viewer.due().map_or(watching.report_at, |due| due.min(watching.report_at)))
            }
            _ => None,
        }
    }

    /// Starts a viewer with the pictures since the last key picture, or waits for the next one.
    pub(super) fn start(&mut self, catchup: &Catchup, asks: bool, now: Instant) -> Option<Wish> {
        let Role::Viewer(watching) = &mut self.role else { return None };
        watching.report_at = now;
        if asks {
            watching.viewer.skip();
            watching.asked = Some(now);
            return Some(Wish::KeyPicture);
        }
        watching.caught_up = Some(now);
        watching.viewer.catch_up(catchup, now);
        None
    }

    /// Gives the peer what is to be sent, and puts most of it on the wire.
    fn send(&mut self, out: &mut Out, now: Instant) {
        let mut sendings = std::mem::take(&mut out.sendings);
        let mut in_a_row = 0;
        for Sending { unit, timestamp } in sendings.drain(..) {
            let Role::Viewer(watching) = &self.role else { break };
            let mut tracks = watching.kinds.iter().zip(&watching.codecs);
            let track = tracks.position(|(kind, codec)| *kind == unit.kind && *codec == unit.codec);
            let Some(track) = track else { continue };
            let last = unit.payloads.len() - 1;
            for (at, payload) in unit.payloads.iter().enumerate() {
                let payload: Bytes = payload.clone();
                // It fails when the peer is gone, which its state tells.
                let _ = self.peer.send(track, payload, timestamp, at == last && unit.marks_end, now);
                in_a_row += 1;
                if in_a_row == IN_A_ROW {
                    in_a_row = 0;
                    self.put(out);
                }
            }
        }
        out.sendings = sendings;
    }

    /// Puts what the peer has to send into the batch.
    fn put(&mut self, out: &mut Out) {
        let Session { peer, addresses, nominated, nominating, .. } = self;
        while let Some(outgoing) = peer.next_outgoing() {
            let is_stun = stun::is_stun(&outgoing.bytes);
            if is_stun && *nominating == Some(outgoing.to) && stun::is_response(&outgoing.bytes) {
                *nominated = nominating.take();
            }
            // `rtc` keeps to the first path that was nominated.
            let to = if is_stun { outgoing.to } else { nominated.unwrap_or(outgoing.to) };
            if let Some(way) = addresses.iter().find(|(known, _)| *known == to) {
                out.batch.push(&out.socket, *way, &outgoing.bytes);
            }
        }
    }

    /// Puts what the peer has to send on the wire; what the kernel has no room for is lost, and counted.
    pub(super) fn flush(&mut self, out: &mut Out) {
        self.put(out);
        let lost = out.batch.finish(&out.socket);
        if lost == 0 {
            return;
        }
        metrics::counter!("kinora_webrtc_dropped_packets_total", "way" => "out").increment(lost);
        if let Role::Viewer(watching) = &mut self.role {
            watching.viewer.skip();
        }
    }
}

fn give(incoming: &mpsc::Sender<Incoming>, item: Incoming) {
    if incoming.try_send(item).is_err() {
        metrics::counter!("kinora_webrtc_dropped_packets_total", "way" => "in").increment(1);
    }
}

impl Watching {
    fn heard(&mut self, report: Report, now: Instant) -> Option<Wish> {
        let lately = |then: Option<Instant>, span| then.is_some_and(|then| now.saturating_duration_since(then) < span);
        match report {
            Report::KeyPicture if lately(self.asked, KEY_PICTURE_EVERY) => None,
            Report::KeyPicture => {
                self.asked = Some(now);
                Some(if lately(self.caught_up, CATCH_UP_EVERY) { Wish::KeyPicture } else { Wish::CatchUp })
            }
            Report::Lost { fraction } => {
                self.congested = if fraction >= CONGESTED { self.congested + 1 } else { 0 };
                if self.congested >= 2 {
                    self.congested = 0;
                    self.viewer.skip();
                    return Some(Wish::KeyPicture);
                }
                None
            }
            Report::Sender { .. } => None,
        }
    }

    fn report(&mut self, peer: &mut Peer, now: Instant) {
        for (track, kind) in self.kinds.iter().enumerate() {
            if let Some((timestamp, micros)) = self.viewer.clock(*kind) {
                let _ = peer.report(track, timestamp, unix_micros_to_ntp(micros), now);
            }
        }
        self.reports = self.reports.saturating_add(1);
        self.report_at = now + if self.reports < 10 { FIRST_REPORTS } else { REPORT_EVERY };
    }
}
