//! One track's packets in, its access units and descriptions out: what RTSP and WebRTC share.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use media::{AccessUnit, DropReason, Dropped, ProducerTime, ServerTime, Timescale, Track, TrackId};

use super::depacketise::{Depacketiser, Piece, Unit};
use super::describe::Describe;
use super::foreign::Foreign;
use super::packet::{self, Packet};
use super::reorder::{Placed, Reorder};
use super::rtcp::{self, Report};
use super::sequence::{Arrival, Sequence, Timestamp};
use super::statistics::Statistics;
use crate::protocol::sdp::Media;

/// Packets in a row of the source before the present one after which it is believed to be back, and not late.
const OLD_SOURCE_AFTER: u32 = 16;

/// When bytes came, by both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// For spans.
    pub now: Instant,
    /// For records.
    pub wall: ServerTime,
}

/// What a track gives.
#[derive(Clone, Debug)]
pub(crate) enum Received {
    /// The track is described, or described differently from here on.
    Track(Track),
    /// The next unit in decode order.
    Unit(AccessUnit),
    /// More bytes of the newest unit of the track: its sender marked the end too early, or sent something of it behind.
    Rest { track: TrackId, data: Bytes },
    /// At `ticks` of the track the producer's clock showed `producer`.
    SenderReport { track: TrackId, ticks: i64, producer: ProducerTime, arrival: ServerTime },
}

/// What was counted, for status and logs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counters {
    /// RTP packets taken.
    pub packets: u64,
    /// Packets that never came.
    pub lost: u64,
    /// Packets that came twice, or later than we waited.
    pub late: u64,
    /// Bytes that are no RTP packet, or far outside the sequence.
    pub malformed: u64,
    /// Packets of a payload type that the description does not name.
    pub wrong_payload_type: u64,
    /// Packets of a source other than the one we listen to.
    pub wrong_source: u64,
    /// Units given out.
    pub units: u64,
    /// What came of the payloads and was left out.
    pub payloads: Dropped,
}

impl Counters {
    /// What came and was not given out.
    pub(crate) fn dropped(&self) -> Dropped {
        let mut dropped = self.payloads;
        dropped.count(DropReason::WrongSource, self.wrong_source);
        dropped.count(DropReason::MalformedPacket, self.malformed);
        dropped.count(DropReason::WrongPayloadType, self.wrong_payload_type);
        dropped.count(DropReason::LatePacket, self.late);
        dropped
    }
}

/// Receives one track.
#[derive(Debug)]
pub(crate) struct Receiver {
    id: TrackId,
    payload_type: u8,
    clock: Timescale,
    datagrams: bool,
    own_ssrc: u32,
    ssrc: Option<u32>,
    /// The source before it, and its packets in a row since.
    old_source: Option<(u32, u32)>,
    /// What arrival is counted from, for jitter: a wall clock may be set meanwhile.
    origin: Option<Instant>,
    /// The source that the present order is of.
    started: Option<u32>,
    sequence: Sequence,
    timestamp: Timestamp,
    reorder: Reorder,
    last_sequence: Option<i64>,
    /// Packets of other payload types from our source: comfort noise, telephone events, what a maker adds.
    foreign: Foreign,
    lost: u32,
    depacketiser: Depacketiser,
    units: VecDeque<Unit>,
    describe: Describe,
    statistics: Statistics,
    /// A sender report that came before the first packet.
    early_report: Option<(u32, u64, ServerTime)>,
    counters: Counters,
}

impl Receiver {
    /// For `media` as track `id`; `datagrams` may be swapped on the way, other transports keep order. `own_ssrc` is
    /// the source that our reports come from. None when the format is not one of ours.
    pub(crate) fn new(id: TrackId, media: &Media, datagrams: bool, own_ssrc: u32) -> Option<Receiver> {
        Some(Receiver {
            id,
            payload_type: media.payload_type,
            clock: Timescale::new(media.clock_rate)?,
            datagrams,
            own_ssrc,
            ssrc: None,
            old_source: None,
            origin: None,
            started: None,
            sequence: Sequence::default(),
            timestamp: Timestamp::default(),
            reorder: Reorder::default(),
            last_sequence: None,
            foreign: Foreign::default(),
            lost: 0,
            depacketiser: Depacketiser::new(&media.format)?,
            units: VecDeque::new(),
            describe: Describe::new(id, &media.format),
            statistics: Statistics::default(),
            early_report: None,
            counters: Counters::default(),
        })
    }

    /// Of a peer of WebRTC: missing packets are sent again when asked (RFC 4588) and waited for longer, and random access
    /// points bring their parameter sets.
    pub(crate) fn of_webrtc(self) -> Receiver {
        let (reorder, sequence) = (Reorder::repaired(), Sequence::repaired());
        Receiver { reorder, sequence, describe: self.describe.in_band(), ..self }
    }

    /// The track, once described: by the SDP, or by parameter sets or a key frame in band.
    pub(crate) fn track(&self) -> Option<&Track> {
        self.describe.track()
    }

    /// Why the track is not described, where more is known than that nothing came.
    pub(crate) fn problem(&self) -> Option<String> {
        self.describe.problem()
    }

    /// What it takes in band to describe the track, when the SDP says nothing of it.
    pub(crate) fn needs(&self) -> &'static str {
        self.describe.needs()
    }

    /// What was counted.
    pub(crate) fn counters(&self) -> Counters {
        Counters { payloads: self.depacketiser.dropped(), ..self.counters }
    }

    /// Takes a packet.
    pub(crate) fn rtp(&mut self, bytes: &[u8], at: Moment, out: &mut VecDeque<Received>) {
        let Ok(packet) = packet::parse(bytes) else {
            self.counters.malformed += 1;
            return;
        };
        if packet.payload_type != self.payload_type {
            self.counters.wrong_payload_type += 1;
            if self.ssrc == Some(packet.ssrc) {
                self.foreign.note(packet.sequence);
                self.tick(at, out);
            }
            return;
        }
        if !self.is_source(packet.ssrc, packet.sequence) {
            self.counters.wrong_source += 1;
            return;
        }
        let mut arrival = self.sequence.extend(packet.sequence);
        if arrival == Arrival::Doubtful && !self.datagrams {
            // Nothing strays over a connection: the sender counts from somewhere else.
            self.sequence.reset();
            arrival = self.sequence.extend(packet.sequence);
        }
        let sequence = match arrival {
            Arrival::At(sequence) => sequence,
            Arrival::Start(sequence) => {
                self.start(sequence, at, out);
                sequence
            }
            Arrival::Doubtful => {
                self.counters.malformed += 1;
                return;
            }
        };
        self.counters.packets += 1;
        let origin = *self.origin.get_or_insert(at.now);
        let since = at.now.saturating_duration_since(origin).as_micros();
        let arrival_units = self.clock.from_micros(i64::try_from(since).unwrap_or(i64::MAX));
        self.statistics.packet(sequence, packet.timestamp, arrival_units);
        if !self.datagrams {
            return match self.last_sequence {
                Some(last) if sequence <= last => self.counters.late += 1,
                _ => self.deliver(sequence, &packet, at.wall, out),
            };
        }
        match self.reorder.place(sequence, bytes, at.now) {
            Placed::Next => self.deliver(sequence, &packet, at.wall, out),
            Placed::Late => self.counters.late += 1,
            Placed::Held => {}
        }
        self.tick(at, out);
    }

    /// Gives up packets that have been missing for too long. To be called at least each [`super::reorder::MAX_WAIT`]
    /// while [`Receiver::is_waiting`].
    pub(crate) fn tick(&mut self, at: Moment, out: &mut VecDeque<Received>) {
        while let Some((sequence, bytes)) = self.reorder.pop(at.now, |sequence| self.foreign.has(sequence)) {
            let packet = packet::parse(&bytes).expect("it was parsed when it came");
            self.deliver(sequence, &packet, at.wall, out);
        }
    }

    /// Whether packets wait for missing ones.
    pub(crate) fn is_waiting(&self) -> bool {
        self.reorder.is_waiting()
    }

    /// Takes an RTCP packet.
    pub(crate) fn rtcp(&mut self, bytes: &[u8], at: Moment, out: &mut VecDeque<Received>) {
        for report in rtcp::parse(bytes) {
            match report {
                Report::Sender { ssrc, ntp, timestamp } => self.clock(ssrc, timestamp, ntp, at, out),
                // Its end is told by the session; a forged one must not end anything.
                Report::Bye { .. } => {}
            }
        }
    }

    /// At `timestamp` of the source `ssrc` its clock showed `ntp`: what a sender report says.
    pub(crate) fn clock(&mut self, ssrc: u32, timestamp: u32, ntp: u64, at: Moment, out: &mut VecDeque<Received>) {
        // Over a connection who sends on the channel is the sender, whatever it calls itself.
        if self.datagrams && self.ssrc.is_some_and(|ours| ours != ssrc) {
            self.counters.wrong_source += 1;
            return;
        }
        self.statistics.sender_report(ntp, at.now);
        if !self.sender_report(timestamp, ntp, at.wall, out) {
            self.early_report = Some((timestamp, ntp, at.wall));
        }
    }

    /// A receiver report to send to the source.
    pub(crate) fn report(&mut self, now: Instant) -> Vec<u8> {
        let block = self.ssrc.and_then(|ssrc| self.statistics.report(ssrc, now));
        rtcp::receiver_report(self.own_ssrc, block)
    }

    /// The source has ended: what is held or nearly complete comes out.
    pub(crate) fn flush(&mut self, at: Moment, out: &mut VecDeque<Received>) {
        let later = Moment { now: at.now + self.reorder.wait(), wall: at.wall };
        self.tick(later, out);
        self.depacketiser.finish(&mut self.units);
        self.give(out);
    }

    /// Whether this source is listened to: the present one, or a new one, which ends the sequence of the one before.
    ///
    /// A camera may choose a new source with every keyframe (Uniview), and the new one begins with what the keyframe needs.
    fn is_source(&mut self, ssrc: u32, sequence: u16) -> bool {
        if self.ssrc.is_none_or(|ours| ours == ssrc) {
            self.ssrc = Some(ssrc);
            if let Some((_, in_a_row)) = &mut self.old_source {
                *in_a_row = 0;
            }
            return true;
        }
        if let Some((old, in_a_row)) = &mut self.old_source
            && *old == ssrc
            && self.datagrams
        {
            *in_a_row += 1;
            if *in_a_row < OLD_SOURCE_AFTER {
                return false;
            }
        }
        self.old_source = self.ssrc.replace(ssrc).map(|ssrc| (ssrc, 0));
        if self.datagrams || !self.sequence.is_next(sequence) {
            self.sequence.reset();
        }
        true
    }

    /// Order begins anew with `sequence`: what was held of the old one comes out first, then the unit in the making is over.
    fn start(&mut self, sequence: i64, at: Moment, out: &mut VecDeque<Received>) {
        let same_source = self.started == self.ssrc;
        self.started = self.ssrc;
        self.flush(at, out);
        self.reorder.start(sequence);
        self.statistics.reset();
        // How much of the same source is missing is not known; a new source has lost nothing yet.
        self.lost = self.lost.saturating_add(u32::from(same_source && self.last_sequence.is_some()));
        self.last_sequence = None;
    }

    fn deliver(&mut self, sequence: i64, packet: &Packet<'_>, arrival: ServerTime, out: &mut VecDeque<Received>) {
        if let Some(last) = self.last_sequence {
            let missing = sequence - last - 1 - self.foreign.take_between(last, sequence);
            self.counters.lost += u64::try_from(missing).unwrap_or(0);
            self.lost = self.lost.saturating_add(u32::try_from(missing).unwrap_or(0));
        }
        self.last_sequence = Some(sequence);
        let timestamp = self.timestamp.extend(packet.timestamp);
        if let Some((timestamp, ntp, wall)) = self.early_report.take() {
            self.sender_report(timestamp, ntp, wall, out);
        }
        let lost = std::mem::take(&mut self.lost);
        let piece = Piece { marker: packet.marker, timestamp, lost, arrival, payload: packet.payload };
        self.depacketiser.push(piece, &mut self.units);
        self.give(out);
    }

    fn give(&mut self, out: &mut VecDeque<Received>) {
        while let Some(unit) = self.units.pop_front() {
            if unit.rest {
                out.push_back(Received::Rest { track: self.id, data: unit.data });
                continue;
            }
            let look = self.describe.look(&unit.data);
            if let Some(track) = look.changed {
                out.push_back(Received::Track(track));
            }
            let timescale = self.describe.timescale();
            let ticks = |units: i64| media::time::rescale(units, self.clock, timescale);
            let duration = unit.duration.and_then(|duration| u32::try_from(ticks(i64::from(duration))).ok());
            self.counters.units += 1;
            out.push_back(Received::Unit(AccessUnit {
                track: self.id,
                pts: ticks(unit.timestamp),
                duration,
                random_access: look.random_access,
                disposable: look.disposable,
                loss_before: unit.loss_before,
                arrival: unit.arrival,
                data: unit.data,
            }));
        }
    }

    /// False before the first packet.
    fn sender_report(&mut self, timestamp: u32, ntp: u64, arrival: ServerTime, out: &mut VecDeque<Received>) -> bool {
        let Some(extended) = self.timestamp.near(timestamp) else { return false };
        let Some(micros) = rtcp::ntp_to_unix_micros(ntp) else { return true };
        let ticks = media::time::rescale(extended, self.clock, self.describe.timescale());
        let producer = ProducerTime::from_micros(micros);
        out.push_back(Received::SenderReport { track: self.id, ticks, producer, arrival });
        true
    }
}
