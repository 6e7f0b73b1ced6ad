use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// A block of `count` fragments of one second: 30 pictures, 47 AAC frames.
fn ordinary_block(count: u64) -> Vec<Entry> {
    let mut body_offset = 1_900;
    (0..count)
        .map(|n| {
            let video_len = 250_000 + (n * 7_919 % 40_000) as u32;
            let audio_len = 12_500 + (n * 131 % 900) as u32;
            let part = |track, offset, len, samples, first_dts: u64, duration| FragmentTrack {
                track: TrackId(track),
                offset,
                moof_len: 340,
                len,
                samples,
                first_dts: first_dts as i64,
                first_pts: first_dts as i64 + 6_000,
                duration,
            };
            let info = FragmentInfo {
                position: Position { epoch: Epoch(7), sequence: Sequence(1_000 + n) },
                ordinal: Ordinal(5_000 + n),
                discontinuities: 3 + u64::from(n > 0),
                track_set: TrackSetId(4),
                start: if n % 5 == 0 { StartKind::Open } else { StartKind::Closed },
                break_before: (n == 1).then_some(GapReason::TimeJumped),
                end_of_session: n + 1 == count,
                damaged: n % 50 == 49,
                producer_time: ProducerTime::from_micros(1_790_000_000_000_000 + (n * 1_000_000) as i64),
                clock_source: ClockSource::SenderReport,
                clock_error_us: 900,
                server_time: ServerTime::from_micros(1_790_000_000_130_000 + (n * 1_000_000 + n * 37 % 3_000) as i64),
                duration_us: 1_000_000,
                tracks: vec![
                    part(1, 0, video_len, 30, 900_000 + n * 90_000, 90_000),
                    part(2, video_len, audio_len, 47, 480_000 + n * 48_128, 48_128),
                ],
                body_len: video_len + audio_len,
            };
            let entry = Entry { info, body_offset };
            body_offset += u64::from(video_len + audio_len) + 220;
            entry
        })
        .collect()
}

#[test]
fn ordinary_block_comes_back_in_under_30_bytes_a_fragment() {
    let entries = ordinary_block(300);
    let packed = encode(&entries);
    assert_eq!(decode(&packed).expect("just packed"), entries);
    let each = packed.len() / entries.len();
    assert!(each < 30, "{each} bytes a fragment");
}

#[test]
fn empty_block_comes_back() {
    assert_eq!(decode(&encode(&[])), Ok(vec![]));
}

#[test]
fn only_the_wanted_fragments_are_unpacked() {
    let entries = ordinary_block(100);
    let wanted = |entry: &Entry| (5_020..5_030).contains(&entry.info.ordinal.0);
    assert_eq!(decode_where(&encode(&entries), wanted).expect("just packed"), &entries[20..30]);
}

#[test]
fn every_single_bit_flip_and_every_cut_is_refused() {
    let packed = encode(&ordinary_block(12));
    for cut in 0..packed.len() {
        assert!(decode(&packed[..cut]).is_err(), "cut at {cut}");
    }
    for bit in 0..packed.len() * 8 {
        let mut damaged = packed.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(decode(&damaged).is_err(), "bit {bit}");
    }
}

#[test]
fn newer_version_is_named() {
    let mut packed = encode(&ordinary_block(2)).to_vec();
    packed[0] = 9;
    assert_eq!(decode(&packed), Err(PackedError::Version(9)));
}

#[test]
fn lying_count_reserves_nothing() {
    let sealed = |mut bytes: Vec<u8>| {
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    };
    let mut huge = vec![VERSION];
    put_varint(&mut huge, u64::MAX / 2);
    assert_eq!(decode(&sealed(huge)), Err(PackedError::Length));
    let endless = [vec![VERSION], vec![0xff; 40]].concat();
    assert_eq!(decode(&sealed(endless)), Err(PackedError::Range("number")));
}

#[test]
fn repeated_position_is_refused() {
    let one = ordinary_block(1);
    let mut twice = vec![VERSION, 2];
    let mut last = Last::default();
    encode_entry(&mut twice, &last, &one[0]);
    last.follow(&one[0]);
    encode_entry(&mut twice, &last, &one[0]);
    let checksum = crc32c::crc32c(&twice);
    twice.extend_from_slice(&checksum.to_le_bytes());
    assert_eq!(decode(&twice), Err(PackedError::Order));
}

/// Prints how long a block takes: `cargo test --release -p kinora-store packed_speed -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn packed_speed() {
    let packed = encode(&ordinary_block(150));
    let start = std::time::Instant::now();
    for _ in 0..10_000 {
        assert_eq!(decode(std::hint::black_box(&packed)).map(|entries| entries.len()), Ok(150));
    }
    println!("150 fragments, {} bytes: {:?}", packed.len(), start.elapsed() / 10_000);
}

prop_compose! {
    fn any_part()(
        track in any::<u32>(), offset in any::<u32>(), moof_len in any::<u32>(), len in any::<u32>(),
        samples in any::<u32>(), first_dts in any::<i64>(), first_pts in any::<i64>(), duration in any::<u64>(),
    ) -> FragmentTrack {
        FragmentTrack { track: TrackId(track), offset, moof_len, len, samples, first_dts, first_pts, duration }
    }
}

prop_compose! {
    fn any_entry()(
        numbers in (any::<u32>(), any::<u64>(), any::<u64>(), any::<u64>(), any::<u32>()),
        kinds in (0u8..4, 0u8..11, any::<bool>(), any::<bool>(), 0u8..4),
        times in (any::<i64>(), any::<u32>(), any::<i64>(), any::<u64>()),
        tracks in vec(any_part(), 0..=MAX_TRACKS),
        body in (any::<u32>(), any::<u64>()),
    ) -> Entry {
        Entry {
            info: FragmentInfo {
                position: Position { epoch: Epoch(numbers.0), sequence: Sequence(numbers.1) },
                ordinal: Ordinal(numbers.2),
                discontinuities: numbers.3,
                track_set: TrackSetId(numbers.4),
                start: StartKind::from_u8(kinds.0).unwrap_or(StartKind::Closed),
                break_before: GapReason::from_u8(kinds.1),
                end_of_session: kinds.2,
                damaged: kinds.3,
                producer_time: ProducerTime::from_micros(times.0),
                clock_source: ClockSource::from_u8(kinds.4).expect("0 to 3 are known"),
                clock_error_us: times.1,
                server_time: ServerTime::from_micros(times.2),
                duration_us: times.3,
                tracks,
                body_len: body.0,
            },
            body_offset: body.1,
        }
    }
}

proptest! {
    #[test]
    fn any_fragments_come_back(mut entries in vec(any_entry(), 0..20)) {
        entries.sort_by_key(|entry| entry.info.position);
        entries.dedup_by_key(|entry| entry.info.position);
        prop_assert_eq!(decode(&encode(&entries)), Ok(entries));
    }

    #[test]
    fn hostile_bytes_behind_a_right_checksum_never_panic(mut bytes in vec(any::<u8>(), 0..400), fix in any::<bool>()) {
        if fix && !bytes.is_empty() {
            bytes[0] = VERSION;
        }
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        if let Ok(entries) = decode(&bytes) {
            prop_assert!(entries.windows(2).all(|pair| pair[0].info.position < pair[1].info.position));
            prop_assert_eq!(decode(&encode(&entries)), Ok(entries));
        }
    }
}
