//! AAC in MPEG-4 generic payloads (RFC 3640), high and low bitrate modes: several units a packet, or a unit in several packets.
//!
//! Not here: interleaving (AU-Index-delta above 0), CTS, DTS and auxiliary sections: no known sender uses them for AAC.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::{MAX_ACCESS_UNIT_BYTES, Piece, Unit};
use media::{DropReason, Dropped};

/// Bits of the fields of an AU header (section 3.2.1), from `sizelength`, `indexlength`, `indexdeltalength`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Layout {
    /// Of a unit's size: 1 to 16.
    pub size_bits: u8,
    /// Of the first unit's index.
    pub index_bits: u8,
    /// Of a further unit's index.
    pub delta_bits: u8,
}

/// The machine.
#[derive(Debug)]
pub(crate) struct Aac {
    layout: Layout,
    /// RTP clock ticks a unit.
    samples: u32,
    lost: u32,
    /// Units without bytes.
    dropped: Dropped,
    /// A unit whose further fragments are to come: its timestamp, whole size, and bytes so far.
    open: Option<(i64, usize, BytesMut)>,
}

impl Aac {
    /// For headers of this layout; a unit lasts `samples` ticks.
    pub(super) fn new(layout: Layout, samples: u32) -> Aac {
        Aac { layout, samples, lost: 0, dropped: Dropped::default(), open: None }
    }

    /// Takes the next payload.
    pub(super) fn push(&mut self, piece: Piece<'_>, out: &mut VecDeque<Unit>) {
        self.lost = self.lost.saturating_add(piece.lost);
        let other_time = self.open.as_ref().is_some_and(|(timestamp, ..)| *timestamp != piece.timestamp);
        if piece.lost > 0 || other_time {
            self.drop_open();
        }
        if piece.payload.is_empty() {
            return;
        }
        let taken = match adts_frames(piece.payload) {
            // Frames of ADTS (ISO 14496-3 1.A.2) where AU headers and units should be.
            Some(frames) => self.frames(frames, &piece, out),
            None => self.units(&piece, out),
        };
        if taken.is_none() {
            self.drop_open();
            self.dropped.count(DropReason::BrokenUnit, 1);
            self.lost = self.lost.saturating_add(1);
        }
    }

    /// None when the payload is not what it should be.
    fn units(&mut self, piece: &Piece<'_>, out: &mut VecDeque<Unit>) -> Option<()> {
        let (headers_bits, rest) = piece.payload.split_first_chunk::<2>()?;
        let headers_bits = usize::from(u16::from_be_bytes(*headers_bits));
        let (headers, mut data) = rest.split_at_checked(headers_bits.div_ceil(8))?;
        let mut timestamp = piece.timestamp;
        let mut at = 0;
        while at < headers_bits {
            let first = at == 0;
            let index_bits = if first { self.layout.index_bits } else { self.layout.delta_bits };
            let size = bits(headers, headers_bits, &mut at, self.layout.size_bits)?;
            let index = bits(headers, headers_bits, &mut at, index_bits)?;
            if index != 0 {
                return None;
            }
            if size == 0 {
                // Some senders put an empty unit between; it has no time of its own.
                self.dropped.count(DropReason::UnusedPayload, 1);
                continue;
            }
            if size > data.len() {
                // A fragment (section 3.2.3): alone in its packet, every one with the whole size.
                let alone = first && at == headers_bits;
                return alone.then(|| self.fragment(piece, size, data, out)).flatten();
            }
            let (unit, next) = data.split_at(size);
            let done = match self.open.take() {
                // The last fragment may be as long as the rest of the unit only, so this is a unit that repeats the time.
                Some((_, whole, bytes)) if first && whole == size && bytes.len() + unit.len() > whole => unit,
                Some(_) => return None,
                None => unit,
            };
            self.give(timestamp, Bytes::copy_from_slice(done), piece, out);
            timestamp += i64::from(self.samples);
            data = next;
        }
        (at > 0).then_some(())
    }

    fn fragment(&mut self, piece: &Piece<'_>, size: usize, data: &[u8], out: &mut VecDeque<Unit>) -> Option<()> {
        if size > MAX_ACCESS_UNIT_BYTES || data.is_empty() {
            return None;
        }
        let (timestamp, whole, mut bytes) =
            self.open.take().unwrap_or_else(|| (piece.timestamp, size, BytesMut::with_capacity(size)));
        if whole != size || bytes.len() + data.len() > whole {
            return None;
        }
        bytes.extend_from_slice(data);
        if bytes.len() == whole {
            self.give(timestamp, bytes.freeze(), piece, out);
        } else if piece.marker {
            return None;
        } else {
            self.open = Some((timestamp, whole, bytes));
        }
        Some(())
    }

    /// Gives frames without their headers.
    fn frames(&mut self, frames: Vec<&[u8]>, piece: &Piece<'_>, out: &mut VecDeque<Unit>) -> Option<()> {
        self.drop_open();
        let mut timestamp = piece.timestamp;
        for frame in frames {
            self.give(timestamp, Bytes::copy_from_slice(frame), piece, out);
            timestamp += i64::from(self.samples);
        }
        Some(())
    }

    /// What was left out so far.
    pub(super) fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// A unit; some encoders leave its ADTS header before it.
    fn give(&mut self, timestamp: i64, data: Bytes, piece: &Piece<'_>, out: &mut VecDeque<Unit>) {
        let loss_before = std::mem::take(&mut self.lost);
        let data = match adts_frames(&data).as_deref() {
            Some([frame]) => data.slice_ref(frame),
            _ => data,
        };
        out.push_back(Unit {
            timestamp,
            duration: Some(self.samples),
            loss_before,
            arrival: piece.arrival,
            data,
            rest: false,
        });
    }

    fn drop_open(&mut self) {
        if self.open.take().is_some() {
            self.dropped.count(DropReason::BrokenUnit, 1);
            self.lost = self.lost.max(1);
        }
    }
}

/// The frames of `bytes` without their headers, when ADTS frames (ISO 14496-3 1.A.2.2) fill it exactly.
fn adts_frames(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let (mut rest, mut frames) = (bytes, Vec::new());
    while !rest.is_empty() {
        let header = rest.first_chunk::<7>()?;
        // The sync word, and a layer of 0; behind it whether there is no checksum.
        if header[0] != 0xff || header[1] & 0xf6 != 0xf0 {
            return None;
        }
        let head = if header[1] & 1 == 1 { 7 } else { 9 };
        let length = usize::from(header[3] & 3) << 11 | usize::from(header[4]) << 3 | usize::from(header[5] >> 5);
        let (frame, after) = rest.split_at_checked(length)?;
        frames.push(frame.get(head..).filter(|frame| !frame.is_empty())?);
        rest = after;
    }
    (!frames.is_empty()).then_some(frames)
}

/// The next `count` bits (at most 16) of the first `end` bits; moves `at`.
fn bits(bytes: &[u8], end: usize, at: &mut usize, count: u8) -> Option<usize> {
    let mut value = 0;
    for _ in 0..count {
        if *at >= end {
            return None;
        }
        let bit = bytes.get(*at / 8)? >> (7 - *at % 8) & 1;
        value = value << 1 | usize::from(bit);
        *at += 1;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use media::ServerTime;

    /// A frame of ADTS with these bytes, without a checksum.
    fn adts(bytes: &[u8]) -> Vec<u8> {
        let length = bytes.len() + 7;
        let head =
            [0xff, 0xf1, 0x4c, 0x80 | (length >> 11) as u8, (length >> 3) as u8, (length << 5) as u8 | 0x1f, 0xfc];
        [&head[..], bytes].concat()
    }

    #[test]
    fn adts_headers_in_units_and_instead_of_au_headers_are_taken_off() {
        let frame = adts(&[1, 2, 3]);
        let in_unit = [&[0, 16, 0, (frame.len() << 3) as u8][..], &frame].concat();
        let instead = [adts(&[4, 5]), adts(&[6])].concat();
        check(
            &[(true, 0, 0, &in_unit), (true, 1024, 0, &instead), (true, 3072, 0, &[0, 16, 0, 8, 7])],
            &[(0, 0, &[1, 2, 3]), (1024, 0, &[4, 5]), (2048, 0, &[6]), (3072, 0, &[7])],
        );
    }

    #[test]
    fn an_empty_unit_is_no_loss() {
        check(
            &[(true, 0, 0, &[0, 16, 0, 8, 7]), (true, 1024, 0, &[0, 16, 0, 0]), (true, 1024, 0, &[0, 16, 0, 8, 9])],
            &[(0, 0, &[7]), (1024, 0, &[9])],
        );
    }

    const HBR: Layout = Layout { size_bits: 13, index_bits: 3, delta_bits: 3 };

    fn check(packets: &[(bool, i64, u32, &[u8])], expected: &[(i64, u32, &[u8])]) {
        let mut machine = Aac::new(HBR, 1024);
        let mut out = VecDeque::new();
        for &(marker, timestamp, lost, payload) in packets {
            machine.push(Piece { marker, timestamp, lost, arrival: ServerTime::default(), payload }, &mut out);
        }
        let units: Vec<_> = out.iter().map(|unit| (unit.timestamp, unit.loss_before, &unit.data[..])).collect();
        assert_eq!(units, expected);
    }

    #[test]
    fn one_and_several_units_in_a_packet() {
        check(
            &[(true, 0, 0, &[0, 16, 0, 3 << 3, 1, 2, 3]), (true, 1024, 0, &[0, 32, 0, 1 << 3, 0, 2 << 3, 9, 7, 8])],
            &[(0, 0, &[1, 2, 3]), (1024, 0, &[9]), (2048, 0, &[7, 8])],
        );
    }

    #[test]
    fn a_unit_in_three_packets() {
        check(
            &[
                (false, 0, 0, &[0, 16, 0, 5 << 3, 1, 2]),
                (false, 0, 0, &[0, 16, 0, 5 << 3, 3, 4]),
                (true, 0, 0, &[0, 16, 0, 5 << 3, 5]),
                (true, 1024, 0, &[0, 16, 0, 1 << 3, 6]),
            ],
            &[(0, 0, &[1, 2, 3, 4, 5]), (1024, 0, &[6])],
        );
    }

    #[test]
    fn a_lost_fragment_drops_its_unit() {
        check(
            &[
                (false, 0, 0, &[0, 16, 0, 5 << 3, 1, 2]),
                (true, 0, 1, &[0, 16, 0, 5 << 3, 5]),
                (true, 1024, 0, &[0, 16, 0, 1 << 3, 6]),
            ],
            &[(1024, 2, &[6])],
        );
    }

    #[test]
    fn hostile_headers_cost_their_packet_only() {
        let hostile: [&[u8]; 7] = [
            &[0],
            &[0, 0],
            &[0, 0, 1, 2],
            &[0xff, 0xff, 0, 8],
            &[0, 16, 0, 1 << 3 | 1, 1],
            &[0, 15, 0, 8, 1],
            &[0, 32, 0, 1 << 3, 0xff, 0xf8, 1, 2],
        ];
        for payload in hostile {
            let mut machine = Aac::new(HBR, 1024);
            let mut out = VecDeque::new();
            let piece = |timestamp, payload| Piece {
                marker: true,
                timestamp,
                lost: 0,
                arrival: ServerTime::default(),
                payload,
            };
            machine.push(piece(0, payload), &mut out);
            out.clear();
            machine.push(piece(4096, &[0, 16, 0, 1 << 3, 6]), &mut out);
            assert_eq!(out.len(), 1, "{payload:?}");
            assert_eq!(out[0].loss_before, 1, "{payload:?}");
        }
    }
}
