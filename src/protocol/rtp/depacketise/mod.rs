//! From payloads in order to access units: one small machine per payload format.
//!
//! Fed in sequence order with the count of packets missing before each. Each machine keeps at most one unit in the
//! making, below [`MAX_ACCESS_UNIT_BYTES`]. A loss drops the incomplete unit and is told by the next.

mod aac;
mod audio;
mod av1;
mod frame;
mod h264;
mod h265;
mod latm;
mod nal;
mod vp8;
mod vp9;

use std::collections::VecDeque;

use bytes::Bytes;
use media::codec::MAX_ACCESS_UNIT_BYTES;
use media::{Dropped, ServerTime};

pub(crate) use aac::Layout;

use crate::protocol::sdp::Format;

/// The payload of one packet, in order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece<'a> {
    /// The RTP marker bit.
    pub marker: bool,
    /// Extended past wraps.
    pub timestamp: i64,
    /// Packets missing just before this one.
    pub lost: u32,
    /// When it came.
    pub arrival: ServerTime,
    /// The payload.
    pub payload: &'a [u8],
}

/// One access unit, still on the RTP clock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Unit {
    /// RTP timestamp, extended.
    pub timestamp: i64,
    /// How long it lasts on the RTP clock, where the codec says so.
    pub duration: Option<u32>,
    /// Packets and units lost since the unit before.
    pub loss_before: u32,
    /// When its last packet came.
    pub arrival: ServerTime,
    /// Its bytes.
    pub data: Bytes,
    /// More of the unit before: the sender marked that one's end too early, or sent something of it behind.
    pub rest: bool,
}

/// The machine of a track.
#[derive(Debug)]
pub(crate) enum Depacketiser {
    /// RFC 6184.
    H264(h264::H264),
    /// RFC 7798.
    H265(h265::H265),
    /// RFC 7741.
    Vp8(vp8::Vp8),
    /// RFC 9628.
    Vp9(vp9::Vp9),
    /// AOM RTP payload format, version 1.0.
    Av1(av1::Av1),
    /// RFC 3640.
    Aac(aac::Aac),
    /// RFC 6416.
    Latm(latm::Latm),
    /// RFC 7587, RFC 3551 section 4.5.14: a packet is a unit.
    Audio(audio::Audio),
}

impl Depacketiser {
    /// The machine for `format`; none when we have none.
    pub(crate) fn new(format: &Format) -> Option<Depacketiser> {
        Some(match format {
            Format::H264 { .. } => Depacketiser::H264(h264::H264::new()),
            Format::H265 { .. } => Depacketiser::H265(h265::H265::new()),
            Format::Vp8 => Depacketiser::Vp8(vp8::Vp8::default()),
            Format::Vp9 => Depacketiser::Vp9(vp9::Vp9::default()),
            Format::Av1 => Depacketiser::Av1(av1::Av1::default()),
            Format::Aac { layout, samples, .. } => Depacketiser::Aac(aac::Aac::new(*layout, *samples)),
            Format::Latm { samples, .. } => Depacketiser::Latm(latm::Latm::new(*samples)),
            Format::Opus { .. } => Depacketiser::Audio(audio::Audio::opus()),
            Format::Pcmu | Format::Pcma => Depacketiser::Audio(audio::Audio::g711()),
            Format::Unknown { .. } => return None,
        })
    }

    /// Takes the next payload; finished units go to `out`.
    pub(crate) fn push(&mut self, piece: Piece<'_>, out: &mut VecDeque<Unit>) {
        match self {
            Depacketiser::H264(machine) => machine.push(piece, out),
            Depacketiser::H265(machine) => machine.push(piece, out),
            Depacketiser::Vp8(machine) => machine.push(piece, out),
            Depacketiser::Vp9(machine) => machine.push(piece, out),
            Depacketiser::Av1(machine) => machine.push(piece, out),
            Depacketiser::Aac(machine) => machine.push(piece, out),
            Depacketiser::Latm(machine) => machine.push(piece, out),
            Depacketiser::Audio(machine) => machine.push(piece, out),
        }
    }

    /// What was left out so far: broken units, and what no decoder reads.
    pub(crate) fn dropped(&self) -> Dropped {
        match self {
            Depacketiser::H264(machine) => machine.dropped(),
            Depacketiser::H265(machine) => machine.dropped(),
            Depacketiser::Vp8(machine) => machine.dropped(),
            Depacketiser::Vp9(machine) => machine.dropped(),
            Depacketiser::Av1(machine) => machine.dropped(),
            Depacketiser::Aac(machine) => machine.dropped(),
            Depacketiser::Latm(machine) => machine.dropped(),
            Depacketiser::Audio(machine) => machine.dropped(),
        }
    }

    /// Gives out what is complete: the source has ended.
    pub(crate) fn finish(&mut self, out: &mut VecDeque<Unit>) {
        match self {
            Depacketiser::H264(machine) => machine.finish(out),
            Depacketiser::H265(machine) => machine.finish(out),
            Depacketiser::Vp8(machine) => machine.finish(out),
            Depacketiser::Vp9(machine) => machine.finish(out),
            Depacketiser::Av1(machine) => machine.finish(out),
            Depacketiser::Aac(_) | Depacketiser::Latm(_) | Depacketiser::Audio(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// (marker, timestamp, lost before, payload) of each packet, and (timestamp, loss before, bytes) of each unit.
    pub(super) fn check(
        mut machine: Depacketiser,
        packets: &[(bool, i64, u32, &[u8])],
        expected: &[(i64, u32, &[u8])],
    ) {
        let mut out = VecDeque::new();
        for &(marker, timestamp, lost, payload) in packets {
            machine.push(Piece { marker, timestamp, lost, arrival: ServerTime::default(), payload }, &mut out);
        }
        machine.finish(&mut out);
        let units: Vec<_> = out.iter().map(|unit| (unit.timestamp, unit.loss_before, &unit.data[..])).collect();
        assert_eq!(units, expected);
    }

    /// Every machine, with formats as SDP gives them.
    fn all() -> Vec<Depacketiser> {
        let layout = Layout { size_bits: 13, index_bits: 3, delta_bits: 3 };
        let config = Bytes::from_static(&[0x11, 0x90]);
        [
            Format::H264 { sps: vec![], pps: vec![] },
            Format::H265 { vps: vec![], sps: vec![], pps: vec![] },
            Format::Vp8,
            Format::Vp9,
            Format::Av1,
            Format::Aac { config: config.clone(), layout, samples: 1024 },
            Format::Latm { config, samples: 1024 },
            Format::Opus { channels: 2 },
            Format::Pcmu,
        ]
        .iter()
        .map(|format| Depacketiser::new(format).expect("named above"))
        .collect()
    }

    proptest! {
        #[test]
        fn no_payloads_panic_or_grow(
            pieces in prop::collection::vec(
                (any::<bool>(), 0i64..4, 0u32..3, prop::collection::vec(any::<u8>(), 0..64), 0u8..64),
                0..40,
            )
        ) {
            for mut machine in all() {
                let mut out = VecDeque::new();
                let mut bytes_in = 0;
                for (marker, timestamp, lost, payload, kind) in &pieces {
                    // Half of the payloads get a header of a kind that exists, so that machines get beyond it.
                    let mut payload = payload.clone();
                    if let (Some(first), true) = (payload.first_mut(), kind % 2 == 0) {
                        *first = [28, 24, 0x65, 49 << 1, 48 << 1, 0x26, 0x10, 0x90, 0x0c, 0xac][usize::from(kind / 2) % 10];
                    }
                    bytes_in += payload.len();
                    let piece = Piece {
                        marker: *marker,
                        timestamp: *timestamp,
                        lost: *lost,
                        arrival: ServerTime::default(),
                        payload: &payload,
                    };
                    machine.push(piece, &mut out);
                }
                machine.finish(&mut out);
                // Length prefixes cost at most 4 bytes for 3 (a size of 2 and a NAL unit of 1), headers at most 2 more; a
                // superframe's index 2, and 4 a frame.
                let bytes_out: usize = out.iter().map(|unit| unit.data.len()).sum();
                prop_assert!(bytes_out <= bytes_in * 2 + pieces.len() * 6);
            }
        }
    }
}
