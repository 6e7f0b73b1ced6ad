//! What our packetiser cuts, our depacketisers make whole again: at every size, under every limit.

use std::collections::VecDeque;

use media::codec::av1;
use media::{Codec, ServerTime};
use proptest::prelude::*;

use super::*;
use crate::protocol::rtp::depacketise::{Depacketiser, Piece, Unit};
use crate::protocol::sdp::Format;

/// Units through both; packets of `dropped` (counted over all) do not arrive.
fn through(codec: Codec, format: &Format, units: &[Vec<u8>], max: usize, dropped: Option<usize>) -> Vec<Unit> {
    let mut packetiser =
        Packetiser { codec, nal_length_size: 4, sets: vec![], payload_type: 96, max, picture_id: 0x7ffe };
    let mut machine = Depacketiser::new(format).expect("a format that we know");
    let (mut out, mut count, mut lost) = (VecDeque::new(), 0, 0);
    for (at, unit) in units.iter().enumerate() {
        let mut payloads = Vec::new();
        packetiser.cut(unit, at == 0, |payload| payloads.push([payload.head, payload.body].concat())).expect("whole");
        assert!(!payloads.is_empty() && payloads.iter().all(|payload| payload.len() <= max));
        let last = payloads.len() - 1;
        for (number, payload) in payloads.iter().enumerate() {
            if dropped == Some(count) {
                lost += 1;
            } else {
                let (marker, timestamp) = (number == last, at as i64 * 3000);
                let lost = std::mem::take(&mut lost);
                machine.push(Piece { marker, timestamp, lost, arrival: ServerTime::default(), payload }, &mut out);
            }
            count += 1;
        }
    }
    machine.finish(&mut out);
    out.into()
}

fn bytes(length: usize) -> Vec<u8> {
    // No superframe index at the end, and no forbidden bit.
    (0..length).map(|at| (at % 96) as u8).collect()
}

/// A temporal unit of OBUs with payloads of these lengths, some with an extension.
fn temporal_unit(lengths: &[usize]) -> Vec<u8> {
    let mut unit = bytes::BytesMut::new();
    for (at, length) in lengths.iter().enumerate() {
        let kind = if at == 0 && lengths.len() > 1 { av1::SEQUENCE_HEADER } else { av1::FRAME };
        av1::put_obu(&mut unit, kind, (length % 3 == 0).then_some(0x20), &bytes(*length));
    }
    unit.to_vec()
}

fn check(codec: Codec, format: &Format, units: &[Vec<u8>], max: usize) {
    let whole = through(codec, format, units, max, None);
    let data: Vec<_> = whole.iter().map(|unit| unit.data.to_vec()).collect();
    assert_eq!(data, units);
    assert!(whole.iter().all(|unit| unit.loss_before == 0));
}

#[test]
fn units_of_every_length_arrive_whole() {
    for max in [MIN_PAYLOAD, 65, 100] {
        for length in 1..3 * max {
            check(Codec::Vp8, &Format::Vp8, &[bytes(length), bytes(1)], max);
            check(Codec::Vp9, &Format::Vp9, &[bytes(length), bytes(1)], max);
            let shapes =
                [vec![length], vec![10, length], vec![length, 1], vec![11, 5, length], vec![9, length, 60, 2, 3]];
            let units: Vec<_> = shapes.iter().map(|lengths| temporal_unit(lengths)).collect();
            check(Codec::Av1, &Format::Av1, &units, max);
        }
    }
}

#[test]
fn temporal_delimiters_stay_behind() {
    let mut unit = bytes::BytesMut::new();
    av1::put_obu(&mut unit, av1::TEMPORAL_DELIMITER, None, &[]);
    let rest = temporal_unit(&[10, 20]);
    unit.extend_from_slice(&rest);
    // The last OBU of a sample may be without a size.
    unit.extend_from_slice(&[av1::FRAME << 3, 1, 2]);
    let out = through(Codec::Av1, &Format::Av1, &[unit.to_vec()], MAX_PAYLOAD, None);
    assert_eq!(out[0].data, [&rest[..], &[av1::FRAME << 3 | 2, 2, 1, 2]].concat());
}

#[test]
fn sequence_header_goes_before_a_key_frame_that_has_none() {
    let unit = temporal_unit(&[20]);
    let mut packetiser = Packetiser {
        codec: Codec::Av1,
        nal_length_size: 0,
        sets: vec![vec![7; 9]],
        payload_type: 96,
        max: MIN_PAYLOAD,
        picture_id: 0,
    };
    let mut heads = |unit: &[u8], sync| {
        let mut heads = Vec::new();
        packetiser.cut(unit, sync, |payload| heads.push(payload.head.to_vec())).expect("whole");
        heads
    };
    let header = [&[0x28, 10, av1::SEQUENCE_HEADER << 3][..], &[7; 9], &[av1::FRAME << 3]].concat();
    assert_eq!(heads(&unit, true), [header]);
    assert_eq!(heads(&unit, false), [[0x10, av1::FRAME << 3]]);
    assert_eq!(heads(&temporal_unit(&[4, 20]), true)[0][..3], [0x28, 5, av1::SEQUENCE_HEADER << 3], "it has its own");
}

proptest! {
    #[test]
    fn a_lost_packet_costs_its_unit_and_is_told(
        lengths in prop::collection::vec(1usize..900, 2..6), max in MIN_PAYLOAD..400, which: prop::sample::Index,
    ) {
        for (codec, format) in [(Codec::Vp8, Format::Vp8), (Codec::Vp9, Format::Vp9), (Codec::Av1, Format::Av1)] {
            let units: Vec<Vec<u8>> = lengths.iter().map(|length| match codec {
                Codec::Av1 => temporal_unit(&[*length]),
                _ => bytes(*length),
            }).collect();
            check(codec, &format, &units, max);
            let mut packetiser =
                Packetiser { codec, nal_length_size: 4, sets: vec![], payload_type: 96, max, picture_id: 0 };
            let counts: Vec<usize> = units.iter().map(|unit| {
                let mut count = 0;
                packetiser.cut(unit, false, |_| count += 1).expect("whole");
                count
            }).collect();
            let dropped = which.index(counts.iter().sum());
            let hit = (0..units.len()).find(|at| dropped < counts[..=*at].iter().sum()).expect("one of them");
            let out = through(codec, &format, &units, max, Some(dropped));
            let mut expected = units.clone();
            expected.remove(hit);
            prop_assert_eq!(out.iter().map(|unit| unit.data.to_vec()).collect::<Vec<_>>(), expected);
            let told: u32 = out.iter().map(|unit| unit.loss_before).sum();
            prop_assert_eq!(told, u32::from(hit + 1 < units.len()));
        }
    }
}
