//! AAC in LATM (RFC 6416 with ISO 14496-3 1.7.3), as GStreamer's `rtspclientsink` sends it: configuration out of band, one
//! program, one layer, lengths in front.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::{MAX_ACCESS_UNIT_BYTES, Piece, Unit};
use media::{DropReason, Dropped};

/// The machine.
#[derive(Debug)]
pub(crate) struct Latm {
    /// RTP clock ticks a unit.
    samples: u32,
    lost: u32,
    dropped: Dropped,
    timestamp: Option<i64>,
    /// The audioMuxElement so far; one may span packets, the last has the marker.
    open: BytesMut,
    broken: bool,
}

impl Latm {
    /// A unit lasts `samples` ticks.
    pub(super) fn new(samples: u32) -> Latm {
        Latm { samples, lost: 0, dropped: Dropped::default(), timestamp: None, open: BytesMut::new(), broken: false }
    }

    /// Takes the next payload.
    pub(super) fn push(&mut self, piece: Piece<'_>, out: &mut VecDeque<Unit>) {
        self.lost = self.lost.saturating_add(piece.lost);
        if self.timestamp.is_some_and(|timestamp| timestamp != piece.timestamp) {
            // The marker never came: what is there is not whole.
            self.lost_element();
            self.reset();
        } else if piece.lost > 0 {
            // The first part of this element may be among the missing. If the element before was ended by its marker and
            // this payload parses to its very end, nothing of it is missing.
            self.broken = self.timestamp.is_some();
        }
        self.timestamp = Some(piece.timestamp);
        if self.open.len() + piece.payload.len() > MAX_ACCESS_UNIT_BYTES {
            self.broken = true;
            self.open = BytesMut::new();
        }
        if !self.broken {
            self.open.extend_from_slice(piece.payload);
        }
        if piece.marker {
            let element = std::mem::take(&mut self.open).freeze();
            match (!self.broken).then(|| split(&element)).flatten() {
                Some(units) => self.give(units, &piece, out),
                None => self.lost_element(),
            }
            self.reset();
        }
    }

    /// What was left out so far.
    pub(super) fn dropped(&self) -> Dropped {
        self.dropped
    }

    fn lost_element(&mut self) {
        self.dropped.count(DropReason::BrokenUnit, 1);
        self.lost = self.lost.max(1);
    }

    fn give(&mut self, units: Vec<Bytes>, piece: &Piece<'_>, out: &mut VecDeque<Unit>) {
        let mut timestamp = piece.timestamp;
        for data in units {
            let loss_before = std::mem::take(&mut self.lost);
            out.push_back(Unit {
                timestamp,
                duration: Some(self.samples),
                loss_before,
                arrival: piece.arrival,
                data,
                rest: false,
            });
            timestamp += i64::from(self.samples);
        }
    }

    fn reset(&mut self) {
        self.timestamp = None;
        self.broken = false;
        self.open.clear();
    }
}

/// Units of an element: each a length in bytes of 255 and a last below, then that many bytes (PayloadLengthInfo with
/// frameLengthType 0). None unless they fill it exactly.
fn split(element: &Bytes) -> Option<Vec<Bytes>> {
    let mut units = Vec::new();
    let mut at = 0;
    while at < element.len() {
        let mut size = 0;
        loop {
            let byte = *element.get(at)?;
            at += 1;
            size += usize::from(byte);
            if byte != 255 {
                break;
            }
        }
        if size == 0 || size > element.len() - at {
            return None;
        }
        units.push(element.slice(at..at + size));
        at += size;
    }
    (!units.is_empty()).then_some(units)
}

#[cfg(test)]
mod tests {
    use super::*;
    use media::ServerTime;

    fn check(packets: &[(bool, i64, u32, &[u8])], expected: &[(i64, u32, &[u8])]) {
        let mut machine = Latm::new(1024);
        let mut out = VecDeque::new();
        for &(marker, timestamp, lost, payload) in packets {
            machine.push(Piece { marker, timestamp, lost, arrival: ServerTime::default(), payload }, &mut out);
        }
        let units: Vec<_> = out.iter().map(|unit| (unit.timestamp, unit.loss_before, &unit.data[..])).collect();
        assert_eq!(units, expected);
    }

    #[test]
    fn units_alone_together_and_in_parts() {
        let long = [&[255, 45][..], &[7; 300]].concat();
        check(
            &[
                (true, 0, 0, &[2, 8, 9]),
                (true, 1024, 0, &[1, 4, 2, 5, 6]),
                (false, 3072, 0, &long[..100]),
                (true, 3072, 0, &long[100..]),
            ],
            &[(0, 0, &[8, 9]), (1024, 0, &[4]), (2048, 0, &[5, 6]), (3072, 0, &[7; 300])],
        );
    }

    #[test]
    fn lost_and_lying_elements_are_dropped() {
        check(&[(true, 0, 0, &[9, 1]), (true, 1024, 0, &[1, 4])], &[(1024, 1, &[4])]);
        check(&[(true, 0, 0, &[0]), (true, 1024, 0, &[1, 4])], &[(1024, 1, &[4])]);
        check(&[(true, 0, 0, &[255]), (true, 1024, 0, &[1, 4])], &[(1024, 1, &[4])]);
        check(&[(false, 0, 0, &[3, 1]), (true, 0, 1, &[1]), (true, 1024, 0, &[1, 4])], &[(1024, 1, &[4])]);
        check(&[(true, 0, 0, &[1, 3]), (true, 2048, 1, &[1, 4])], &[(0, 0, &[3]), (2048, 1, &[4])]);
    }
}
