//! Access units to RTP payloads, once for all viewers of a stream.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use media::{AccessUnit, Codec, TrackId, TrackSet};

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

/// How a track is packed.
#[derive(Debug)]
struct Line {
    track: TrackId,
    kind: Kind,
    codec: Codec,
    clock_rate: u32,
    timescale: media::Timescale,
    packetiser: Packetiser,
    /// Pictures are not shown in the order in which they are decoded.
    reorders: bool,
    newest: Option<i64>,
}

/// Packs the units of one track set.
#[derive(Debug)]
pub(crate) struct Packer {
    tracks: Arc<TrackSet>,
    lines: Vec<Line>,
    /// Pictures that others refer to come in another order than they are shown.
    pub(crate) is_reordered: bool,
}

impl Packer {
    /// For the units of `tracks`; those of tracks that WebRTC does not carry are left out.
    pub(crate) fn new(tracks: Arc<TrackSet>) -> Packer {
        let lines = tracks.tracks().iter().filter_map(|track| {
            let (kind, clock_rate) = match track.codec {
                Codec::Opus => (Kind::Audio, 48_000),
                Codec::Pcmu | Codec::Pcma => (Kind::Audio, 8_000),
                Codec::Aac | Codec::Opaque => return None,
                _ => (Kind::Video, 90_000),
            };
            Some(Line {
                track: track.id,
                kind,
                codec: track.codec,
                clock_rate,
                timescale: track.timescale,
                packetiser: Packetiser::new(track, 4, 0, PAYLOAD).ok()?,
                reorders: track.reorder_depth != Some(0),
                newest: None,
            })
        });
        let lines = lines.collect();
        Packer { tracks, lines, is_reordered: false }
    }

    /// Whether it is for these tracks.
    pub(crate) fn is_for(&self, tracks: &Arc<TrackSet>) -> bool {
        Arc::ptr_eq(&self.tracks, tracks) || self.tracks == *tracks
    }

    /// The unit as payloads; none when it is not sent.
    pub(crate) fn pack(&mut self, session: u64, shown_us: i64, starts: bool, unit: &AccessUnit) -> Option<Packed> {
        let line = self.lines.iter_mut().find(|line| line.track == unit.track)?;
        let rtp = media::Timescale::new(line.clock_rate).expect("none of them is zero");
        let ticks = media::time::rescale(unit.pts, line.timescale, rtp);
        if line.kind == Kind::Video && line.reorders {
            if starts {
                line.newest = None;
            }
            if line.newest.is_some_and(|newest| ticks < newest) {
                // Shown before a picture that was sent already: the decoder of a viewer would show it too late.
                self.is_reordered |= !unit.disposable;
                return None;
            }
            if !unit.disposable {
                line.newest = Some(ticks);
            }
        }
        let sync = unit.random_access != media::RandomAccess::No && line.kind == Kind::Video;
        let mut buffer = BytesMut::with_capacity(unit.data.len() + (unit.data.len() / PAYLOAD + 4) * HEAD);
        let (mut payloads, mut bytes) = (Vec::with_capacity(unit.data.len() / PAYLOAD + 4), 0);
        let cut = line.packetiser.cut(&unit.data, sync, |Payload { head, body }| {
            buffer.extend_from_slice(head);
            buffer.extend_from_slice(body);
            bytes += head.len() + body.len();
            payloads.push(buffer.split().freeze());
        });
        if cut.is_err() || payloads.is_empty() {
            return None;
        }
        Some(Packed {
            session,
            kind: line.kind,
            codec: line.codec,
            ticks,
            clock_rate: line.clock_rate,
            shown_us,
            arrival_us: unit.arrival.micros(),
            starts,
            marks_end: line.packetiser.marks_ends(),
            payloads,
            bytes,
        })
    }
}
