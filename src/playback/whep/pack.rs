//! Access units to RTP payloads, once for all viewers of a stream.

use bytes::{Bytes, BytesMut};
use media::{AccessUnit, Codec, RandomAccess, Timescale, Track};

use crate::protocol::rtp::send::{Packetiser, Payload};
use crate::protocol::webrtc::Kind;

/// Bytes that payload formats put before a part of a unit, at most.
const HEAD: usize = 16;
/// Bytes of payload in a packet: with RTP, SRTP, UDP and IPv6 around it within the 1280 bytes that every path takes.
const PAYLOAD: usize = 1_160;

/// An access unit as payloads.
#[derive(Debug)]
pub(crate) struct Packed {
    /// Times of different sessions have nothing to do with each other.
    pub session: u64,
    pub kind: Kind,
    pub codec: Codec,
    /// When it is shown, in ticks of the RTP clock on the session's timeline.
    pub ticks: i64,
    /// Ticks a second.
    pub clock_rate: u32,
    /// When it is shown, by a clock that the tracks of the session share, in microseconds.
    pub shown_us: i64,
    /// When it reached us, in microseconds.
    pub arrival_us: i64,
    /// Decoding can start at it.
    pub starts: bool,
    /// Whether the last packet has the marker bit: the unit is complete.
    pub marks_end: bool,
    pub payloads: Vec<Bytes>,
    /// Of all payloads.
    pub bytes: usize,
}

/// Packs the units of one track.
#[derive(Debug)]
pub(crate) struct Packer {
    kind: Kind,
    codec: Codec,
    clock_rate: u32,
    timescale: Timescale,
    packetiser: Packetiser,
    /// Pictures are not shown in the order in which they are decoded.
    reorders: bool,
    newest: Option<i64>,
}

/// What became of a unit.
#[derive(Debug)]
pub(crate) enum Made {
    Packed(Packed),
    /// It is not sent: shown before a picture that was sent, and no other refers to it; or it is none.
    LeftOut,
    /// It is shown before a picture that was sent, and others refer to it: there is no way to show them all.
    Reordered,
}

impl Packer {
    /// For `track`; none when WebRTC does not carry its codec.
    pub(crate) fn new(track: &Track) -> Option<Packer> {
        let (kind, clock_rate) = match track.codec {
            Codec::Opus => (Kind::Audio, 48_000),
            Codec::Pcmu | Codec::Pcma => (Kind::Audio, 8_000),
            Codec::Aac | Codec::Opaque => return None,
            Codec::H264 | Codec::H265 | Codec::Vp8 | Codec::Vp9 | Codec::Av1 => (Kind::Video, 90_000),
        };
        Some(Packer {
            kind,
            codec: track.codec,
            clock_rate,
            timescale: track.timescale,
            packetiser: Packetiser::new(track, 4, 0, PAYLOAD).ok()?,
            reorders: matches!(track.codec, Codec::H264 | Codec::H265) && track.reorder_depth != Some(0),
            newest: None,
        })
    }

    /// The unit, which is shown at `shown_us` of the clock that the session's tracks share, as payloads.
    pub(crate) fn pack(&mut self, session: u64, shown_us: i64, starts: bool, unit: &AccessUnit) -> Made {
        let rtp = Timescale::new(self.clock_rate).expect("none of them is zero");
        let ticks = media::time::rescale(unit.pts, self.timescale, rtp);
        if self.reorders {
            if starts {
                self.newest = None;
            }
            if self.newest.is_some_and(|newest| ticks < newest) {
                return if unit.disposable { Made::LeftOut } else { Made::Reordered };
            }
            if !unit.disposable {
                self.newest = Some(ticks);
            }
        }
        let sync = unit.random_access != RandomAccess::No && self.kind == Kind::Video;
        let most = unit.data.len() / PAYLOAD + 4;
        let (mut buffer, mut payloads) =
            (BytesMut::with_capacity(unit.data.len() + most * HEAD), Vec::with_capacity(most));
        let cut = self.packetiser.cut(&unit.data, sync, |Payload { head, body }| {
            buffer.extend_from_slice(head);
            buffer.extend_from_slice(body);
            payloads.push(buffer.split().freeze());
        });
        if cut.is_err() || payloads.is_empty() {
            return Made::LeftOut;
        }
        Made::Packed(Packed {
            session,
            kind: self.kind,
            codec: self.codec,
            ticks,
            clock_rate: self.clock_rate,
            shown_us,
            arrival_us: unit.arrival.micros(),
            starts,
            marks_end: self.packetiser.marks_ends(),
            bytes: payloads.iter().map(Bytes::len).sum(),
            payloads,
        })
    }
}
