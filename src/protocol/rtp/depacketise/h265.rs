//! H.265 payloads (RFC 7798): single NAL units, aggregation packets, fragmentation units.
//!
//! Not here: decoding order numbers (`sprop-max-don-diff` above 0 is refused in the SDP) and PACI packets.

use std::collections::VecDeque;

use super::nal::{Assembly, Kind};
use super::{Piece, Unit};
use media::Dropped;

/// The machine.
#[derive(Debug)]
pub(crate) struct H265 {
    unit: Assembly,
}

/// What a NAL unit is; types by ISO 23008-2 table 7-1. A slice segment begins with `first_slice_segment_in_pic_flag`
/// (section 7.3.6.1). FFmpeg sends the units of Dolby Vision (62) as they are.
fn kind(nal: &[u8]) -> Kind {
    let Some(([first, second], rest)) = nal.split_first_chunk::<2>() else { return Kind::Unreadable };
    let base_layer = first & 1 == 0 && second >> 3 == 0;
    match first >> 1 {
        0..=31 if base_layer => Kind::Slice { first: rest.first().is_some_and(|byte| byte & 0x80 != 0) },
        32..=35 if base_layer => Kind::Before,
        0..=47 => Kind::Other,
        // Packets inside of packets, and PACI, which may carry a slice.
        48..=50 => Kind::Unreadable,
        51..=63 => Kind::Unknown,
        // The forbidden bit: a gateway found it damaged.
        _ => Kind::Unreadable,
    }
}

impl H265 {
    /// A machine at the start of a stream.
    pub(super) fn new() -> H265 {
        H265 { unit: Assembly::new(kind) }
    }

    /// Takes the next payload.
    pub(super) fn push(&mut self, piece: Piece<'_>, out: &mut VecDeque<Unit>) {
        self.unit.begin(&piece, out);
        self.payload(piece.payload, out);
        self.unit.packet_ends(piece.marker, out);
    }

    /// Gives out the last unit.
    pub(super) fn finish(&mut self, out: &mut VecDeque<Unit>) {
        self.unit.finish(out);
    }

    /// What was left out so far.
    pub(super) fn dropped(&self) -> Dropped {
        self.unit.dropped()
    }

    fn payload(&mut self, payload: &[u8], out: &mut VecDeque<Unit>) {
        // With the forbidden bit, which makes it none of these.
        match payload {
            [] => {}
            [first, _, rest @ ..] if first >> 1 == 48 => self.unit.aggregate(rest, out),
            [first, second, fu, bytes @ ..] if first >> 1 == 49 => {
                self.unit.fragment(*fu, &[first & 0x81 | (fu & 0x3f) << 1, *second], bytes, out);
            }
            _ => self.unit.nal(payload, out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use media::ServerTime;

    fn check(packets: &[(bool, i64, u32, &[u8])], expected: &[(i64, u32, &[u8])]) {
        let mut machine = H265::new();
        let mut out = VecDeque::new();
        for &(marker, timestamp, lost, payload) in packets {
            machine.push(Piece { marker, timestamp, lost, arrival: ServerTime::default(), payload }, &mut out);
        }
        machine.finish(&mut out);
        let units: Vec<_> = out.iter().map(|unit| (unit.timestamp, unit.loss_before, &unit.data[..])).collect();
        assert_eq!(units, expected);
    }

    #[test]
    fn single_aggregated_and_fragmented_units() {
        check(
            &[
                (false, 0, 0, &[48 << 1, 1, 0, 3, 32 << 1, 1, 9, 0, 3, 33 << 1, 1, 8]),
                (false, 0, 0, &[49 << 1, 1, 0x80 | 19, 0x88, 1]),
                (true, 0, 0, &[49 << 1, 1, 0x40 | 19, 2]),
                (true, 3000, 0, &[1 << 1, 1, 0x80]),
            ],
            &[
                (0, 0, &[0, 0, 0, 3, 64, 1, 9, 0, 0, 0, 3, 66, 1, 8, 0, 0, 0, 5, 38, 1, 0x88, 1, 2]),
                (3000, 0, &[0, 0, 0, 3, 2, 1, 0x80]),
            ],
        );
    }

    #[test]
    fn hostile_payloads_cost_their_unit_only() {
        let hostile: [&[u8]; 8] = [
            &[96],
            &[96, 1, 0, 1, 9],
            &[96, 1, 0, 9, 2],
            &[96, 1, 7],
            &[98, 1],
            &[98, 1, 0x80 | 49, 1],
            &[100, 1, 2],
            &[0x82, 1, 0x80],
        ];
        for payload in hostile {
            check(
                &[(true, 0, 0, &[38, 1, 0x88]), (true, 3000, 0, payload), (true, 6000, 0, &[2, 1, 0x80])],
                &[(0, 0, &[0, 0, 0, 3, 38, 1, 0x88]), (6000, 1, &[0, 0, 0, 3, 2, 1, 0x80])],
            );
        }
    }

    #[test]
    fn what_no_decoder_reads_is_left_out_and_no_loss() {
        // Dolby Vision (62) behind the slice, type 63 in an aggregation packet, padding behind its last unit.
        check(
            &[
                (false, 0, 0, &[96, 1, 0, 3, 64, 1, 9, 0, 3, 126, 1, 7, 0, 3, 66, 1, 8, 0, 0]),
                (false, 0, 0, &[38, 1, 0x88]),
                (true, 0, 0, &[124, 1, 25, 8]),
                (true, 3000, 0, &[2, 1, 0x80]),
            ],
            &[
                (0, 0, &[0, 0, 0, 3, 64, 1, 9, 0, 0, 0, 3, 66, 1, 8, 0, 0, 0, 3, 38, 1, 0x88]),
                (3000, 0, &[0, 0, 0, 3, 2, 1, 0x80]),
            ],
        );
    }

    #[test]
    fn a_suffix_sei_behind_the_marked_end_is_the_rest_of_its_frame() {
        let (mut machine, mut out) = (H265::new(), VecDeque::new());
        for (marker, timestamp, payload) in
            [(true, 0, &[38, 1, 0x88][..]), (true, 0, &[80, 1, 5]), (true, 3000, &[2, 1, 0x80])]
        {
            machine.push(Piece { marker, timestamp, lost: 0, arrival: ServerTime::default(), payload }, &mut out);
        }
        let rest: Vec<_> = out.iter().map(|unit| (unit.timestamp, unit.rest, unit.data.len())).collect();
        assert_eq!(rest, [(0, false, 7), (0, true, 7), (3000, false, 7)]);
    }

    #[test]
    fn loss_drops_the_incomplete_picture() {
        check(
            &[
                (false, 0, 0, &[49 << 1, 1, 0x80 | 19, 0x88]),
                (true, 0, 1, &[49 << 1, 1, 0x40 | 19, 2]),
                (true, 3000, 0, &[2, 1, 0x80]),
            ],
            &[(3000, 1, &[0, 0, 0, 3, 2, 1, 0x80])],
        );
    }
}
