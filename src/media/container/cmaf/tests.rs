use mp4_atom::{Atom, Decode, DecodeMaybe, Ftyp, Moof, Moov};
use proptest::prelude::*;

use super::*;
use crate::{FragmentTrack, TrackId, TrackSet, codec};

// x264 -preset fast, 322x242 at 30000/1001.
const SPS: &[u8] = &[
    0x67, 0x64, 0x00, 0x0d, 0xac, 0xd9, 0x41, 0x50, 0x87, 0x88, 0x88, 0xc0, 0x44, 0x00, 0x00, 0x0f, 0xa4, 0x00, 0x03,
    0xa9, 0x80, 0x3c, 0x50, 0xa6, 0x58,
];
const PPS: &[u8] = &[0x68, 0xea, 0xe3, 0xcb, 0x22, 0xc0];

fn tracks() -> TrackSet {
    let video = codec::h264::track(TrackId(1), SPS, &[PPS]).expect("a real set");
    let audio = codec::aac::track(TrackId(2), &[0x11, 0x90]).expect("LC, 48 kHz, stereo");
    TrackSet::new(vec![video, audio]).expect("a good set")
}

fn write(entries: &[Entry], payload: &[u8]) -> (Vec<u8>, FragmentTrack) {
    let mut rest = payload;
    let payloads = entries.iter().map(|entry| {
        let (first, after) = rest.split_at(entry.size as usize);
        rest = after;
        first
    });
    let mut out = b"before".to_vec();
    let part = append(&mut out, 6, TrackId(1), 41, 900_000, entries, payloads).expect("small");
    (out.split_off(6), part)
}

fn sample(duration: u32, offset: u32, size: u32, sync: bool) -> Entry {
    Entry { duration, offset, size, sync }
}

#[test]
fn heads_are_read_back() {
    let set = tracks();
    let head = block_head(&set);
    let mut with_more = head.to_vec();
    with_more.extend_from_slice(b"\0\0\0\x10uuid fragment");
    assert_eq!(read_head(&with_more), Ok((set.clone(), head.len())));
    let audio = &set.tracks()[1];
    let init = init_segment(audio);
    let alone = TrackSet::new(vec![audio.clone()]).expect("a good set");
    assert_eq!(read_head(&init), Ok((alone, init.len())));
    assert_eq!(&init[8..12], b"cmfc");
    assert_eq!(&head[8..12], b"iso6");
    assert!(!head.windows(4).any(|four| four == b"cmfc" || four == b"edts" || four == b"mehd"));
}

#[test]
fn another_parser_reads_our_head() {
    let head = block_head(&tracks());
    let mut rest = &head[..];
    let ftyp = Ftyp::decode(&mut rest).expect("an ftyp");
    assert_eq!(ftyp.major_brand, b"iso6".into());
    let moov = Moov::decode_maybe(&mut rest).expect("a moov").expect("whole");
    assert!(rest.is_empty());
    let described: Vec<_> = moov.trak.iter().map(|trak| (trak.tkhd.track_id, trak.mdia.mdhd.timescale)).collect();
    assert_eq!(described, [(1, 90_000), (2, 48_000)]);
    let extends: Vec<_> = moov.mvex.expect("an mvex").trex.iter().map(|trex| trex.track_id).collect();
    assert_eq!(extends, [1, 2]);
}

#[test]
fn another_parser_reads_our_moof() {
    let entries = [sample(3_000, 6_000, 5, true), sample(3_001, 0, 3, false), sample(2_999, 3_000, 4, false)];
    let (bytes, part) = write(&entries, b"keyPPbbb....");
    let mut rest = &bytes[..];
    let moof = Moof::decode(&mut rest).expect("a moof");
    assert_eq!(bytes.len() - rest.len(), part.moof_len as usize);
    assert_eq!(moof.mfhd.sequence_number, 41);
    let traf = &moof.traf[0];
    assert_eq!(traf.tfhd.track_id, 1);
    assert_eq!(traf.tfdt.as_ref().expect("a tfdt").base_media_decode_time, 900_000);
    let trun = &traf.trun[0];
    assert_eq!(trun.data_offset, Some(part.moof_len as i32 + 8));
    let sizes = trun.samples.iter().map(|entry| entry.size).collect::<Vec<_>>();
    assert_eq!(sizes, [Some(5), Some(3), Some(4)]);
    assert_eq!(trun.samples.get(0).and_then(|entry| entry.cts), Some(6_000));
    assert_eq!(Moof::KIND, b"moof".into());
}

#[test]
fn fields_that_say_nothing_are_left_out() {
    // moof 8, mfhd 16, traf 8, tfhd 24, tfdt 20, trun 20.
    let sound = [sample(1_024, 0, 1, true); 10];
    assert_eq!(moof_len(&sound), 96 + 10 * 4);
    let mut pictures = [sample(3_000, 0, 1, false); 10];
    assert_eq!(moof_len(&pictures), 96 + 10 * 4);
    pictures[0].sync = true;
    assert_eq!(moof_len(&pictures), 96 + 4 + 10 * 4);
    pictures[5].sync = true;
    assert_eq!(moof_len(&pictures), 96 + 10 * 8);
    pictures[9].duration = 3_001;
    assert_eq!(moof_len(&pictures), 96 + 10 * 12);
    pictures[1].offset = 1;
    assert_eq!(moof_len(&pictures), 96 + 10 * 16);
}

#[test]
fn nothing_is_allocated_when_the_buffer_has_the_room() {
    let entries = [sample(3_000, 0, 4, true); 50];
    let mut out = Vec::with_capacity(moof_len(&entries) + 8 + 200);
    let before = (out.as_ptr(), out.capacity());
    append(&mut out, 0, TrackId(1), 1, 0, &entries, entries.iter().map(|_| &b"four"[..])).expect("small");
    assert_eq!((out.as_ptr(), out.capacity(), out.len()), (before.0, before.1, before.1));
}

#[test]
fn rebased_moof_has_other_times_and_the_same_samples() {
    let entries = [sample(3_000, 6_000, 5, true), sample(3_000, 0, 3, false)];
    let (mut bytes, part) = write(&entries, b"keyPPbbb");
    let before = samples(&bytes, &part).expect("our own bytes");
    rebase(&mut bytes, 5, 9).expect("our own bytes");
    let after = part_samples(&bytes).expect("still good");
    assert_eq!((after[0].dts, after[1].dts), (5, 3_005));
    assert_eq!(after[1].range, before[1].range);
    assert_eq!(&bytes[20..24], &[0, 0, 0, 9]);
}

#[test]
fn lying_lengths_are_refused() {
    let (bytes, part) = write(&[sample(1, 0, 4, true), sample(1, 0, 4, true)], b"fourfour");
    let trun_count = part.moof_len as usize - 16;
    for (at, value) in [(0, u32::MAX), (0, 7), (0, 0), (trun_count, 3), (trun_count, u32::MAX), (trun_count + 4, 0)] {
        let mut bad = bytes.clone();
        bad[at..at + 4].copy_from_slice(&value.to_be_bytes());
        assert!(part_samples(&bad).is_err(), "{at} {value}");
        assert!(samples(&bad, &part).is_err(), "{at} {value}");
    }
    let mut big = bytes.clone();
    let last_size = part.moof_len as usize - 4;
    big[last_size..last_size + 4].copy_from_slice(&5u32.to_be_bytes());
    assert!(part_samples(&big).is_err());
    let beyond = FragmentTrack { offset: u32::MAX, len: u32::MAX, ..part.clone() };
    assert!(samples(&bytes, &beyond).is_err());
    assert!(samples(&bytes, &FragmentTrack { samples: 1, ..part }).is_err());
}

#[test]
fn head_cut_anywhere_is_refused() {
    let head = block_head(&tracks());
    for len in 0..head.len() {
        assert!(read_head(&head[..len]).is_err(), "{len}");
    }
}

proptest! {
    #[test]
    fn samples_are_read_back_as_written(
        entries in prop::collection::vec((0u32..100_000, 0u32..100_000, 0u32..50, any::<bool>()), 1..200),
        uniform in any::<bool>(),
    ) {
        let entries = entries.into_iter().map(|(duration, offset, size, sync)| {
            if uniform { sample(1_024, 0, size, sync) } else { sample(duration, offset, size, sync) }
        });
        let entries = entries.collect::<Vec<_>>();
        let payload = (0..entries.iter().map(|entry| entry.size).sum::<u32>()).map(|n| n as u8).collect::<Vec<_>>();
        let (bytes, part) = write(&entries, &payload);
        prop_assert_eq!(part.moof_len as usize, moof_len(&entries));
        prop_assert_eq!(part.len as usize, bytes.len());
        let read = samples(&bytes, &part).expect("our own bytes");
        let mut dts = 900_000;
        let mut bytes_read = Vec::new();
        for (sample, entry) in read.iter().zip(&entries) {
            prop_assert_eq!((sample.dts, sample.pts), (dts, dts + i64::from(entry.offset)));
            prop_assert_eq!((sample.duration, sample.sync), (entry.duration, entry.sync));
            dts += i64::from(entry.duration);
            bytes_read.extend_from_slice(&bytes[sample.range.clone()]);
        }
        prop_assert_eq!(bytes_read, payload);
        prop_assert_eq!(part.duration as i64, dts - part.first_dts);
    }

    #[test]
    fn damaged_bytes_never_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in any::<prop::sample::Index>(),
    ) {
        let entries = [sample(3_000, 6_000, 5, true), sample(3_001, 0, 3, false), sample(2_999, 3_000, 4, true)];
        let (mut bytes, part) = write(&entries, b"keyPPbbb....");
        let mut head = block_head(&tracks()).to_vec();
        for (at, value) in flips {
            let (in_bytes, in_head) = (at.index(bytes.len()), at.index(head.len()));
            bytes[in_bytes] = value;
            head[in_head] = value;
        }
        let _ = samples(&bytes, &part);
        let _ = rebase(&mut bytes.clone(), 1, 1);
        if let Ok(samples) = part_samples(&bytes[..cut.index(bytes.len() + 1)]) {
            prop_assert!(samples.iter().all(|sample| sample.range.end <= bytes.len()));
        }
        let _ = read_head(&head);
        let _ = read_head(&head[..cut.index(head.len() + 1)]);
    }

    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = part_samples(&bytes);
        let _ = read_head(&bytes);
    }
}

#[test]
fn samples_are_listed_without_their_payload() {
    let entries = [sample(3_000, 6_000, 5, true), sample(3_001, 0, 3, false), sample(2_999, 3_000, 4, false)];
    let (bytes, part) = write(&entries, b"keyPPbbb....");
    let moof = &bytes[..part.moof_len as usize];
    assert_eq!(moof_samples(moof, part.len), part_samples(&bytes));
    assert!(moof_samples(moof, part.len - 1).is_err(), "more samples than there is data");
    for end in 0..moof.len() {
        assert!(moof_samples(&moof[..end], part.len).is_err());
    }
}
