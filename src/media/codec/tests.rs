//! Real parameter sets in, tracks out, and back. Sets are of x264 core 164 and x265 3.5, driven by ffmpeg 5.1
//! (`testsrc` of the size and rate that each test names).

#![expect(clippy::unusual_byte_groupings, reason = "groups are fields of the codec")]

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

#[path = "vp_tests.rs"]
mod vp;

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
}

// 322x242 at 30000/1001, -preset fast.
const A_SPS: &str = "6764000dacd94150878888c04400000fa40003a9803c50a658";
const A_PPS: &str = "68eae3cb22c0";
// 640x360 at 25, -profile:v baseline.
const B_SPS: &str = "6742c01ed900a02ff97011000003000100000300320f162e48";
const B_PPS: &str = "68cb83cb20";
// 1920x1080 at 50, -profile:v high10.
const D_SPS: &str = "676e002aa6ce401e0089f97011000003000100000300640f183112";
const D_PPS: &str = "68ebe3cb22c0";
// 322x242 at 25, libx265.
const C_VPS: &str = "40010c01ffff01600000030090000003000003003c959809";
const C_SPS: &str = "42010101600000030090000003000003003ca00a480f9c9265959a4932bc05a02000000300200000030321";
const C_PPS: &str = "4401c172b46240";

fn h264_track(sps: &str, pps: &[&str]) -> Track {
    let pps: Vec<Vec<u8>> = pps.iter().map(|text| hex(text)).collect();
    h264::track(TrackId(1), &hex(sps), &pps.iter().map(Vec::as_slice).collect::<Vec<_>>()).expect("a real set")
}

fn h265_track(pps: &str) -> Track {
    h265::track(TrackId(1), &hex(C_VPS), &hex(C_SPS), &[&hex(pps)]).expect("a real set")
}

fn all_tracks() -> Vec<Track> {
    let mut tracks = vec![
        h264_track(A_SPS, &[A_PPS]),
        h264_track(B_SPS, &[B_PPS, "68cb83cb21"]),
        h264_track(D_SPS, &[D_PPS]),
        h265_track(C_PPS),
        aac::track(TrackId(2), &[0x12, 0x10]).expect("LC"),
        opus::track(TrackId(2), 2).expect("stereo"),
        g711::track(TrackId(2), g711::Law::Mu),
        g711::track(TrackId(2), g711::Law::A),
        opaque::track(TrackId(3), Timescale::MILLIS, "V_VP9", b"private").expect("short"),
    ];
    tracks.extend(vp::tracks());
    tracks
}

#[test]
fn h264_sets_tell_size_rate_and_reordering() {
    let track = h264_track(A_SPS, &[A_PPS]);
    assert_eq!((track.width, track.height), (322, 242));
    assert_eq!(track.frame_rate_millis, Some(29_970));
    assert_eq!(track.reorder_depth, Some(2));
    assert_eq!(track.codec_string.as_deref(), Some("avc1.64000d"));
    let track = h264_track(B_SPS, &[B_PPS]);
    assert_eq!((track.width, track.height, track.frame_rate_millis), (640, 360, Some(25_000)));
    assert_eq!(track.reorder_depth, Some(0));
    assert_eq!(track.codec_string.as_deref(), Some("avc1.42c01e"));
    let track = h264_track(D_SPS, &[D_PPS]);
    assert_eq!((track.width, track.height, track.frame_rate_millis), (1920, 1080, Some(50_000)));
    let config = h264::Config::of_entry(&track.sample_entry).expect("our own");
    assert_eq!((config.sps[0], config.pps[0]), (&hex(D_SPS)[..], &hex(D_PPS)[..]));
    assert!(track.sample_entry.windows(4).any(|bytes| bytes == [0xfd, 0xfa, 0xfa, 0]), "4:2:0 at 10 bits");
}

#[test]
fn h265_sets_tell_size_rate_and_reordering() {
    let track = h265_track(C_PPS);
    assert_eq!((track.width, track.height), (322, 242));
    assert_eq!(track.frame_rate_millis, Some(25_000));
    assert_eq!(track.codec_string.as_deref(), Some("hvc1.1.6.L60.90"));
    assert_eq!(track.reorder_depth, Some(2));
}

#[test]
fn stored_entry_reads_back_as_the_same_track() {
    for track in all_tracks() {
        let read = track_from_sample_entry(track.id, track.timescale, track.sample_entry.clone());
        assert_eq!(read, Ok(track));
    }
}

#[test]
fn picture_parameter_sets_alone_do_not_make_a_new_track() {
    let ours = h264_track(B_SPS, &[B_PPS]);
    assert!(ours.continues(&h264_track(B_SPS, &[B_PPS, "68cb83cb21"])));
    assert!(!ours.continues(&h264_track(A_SPS, &[B_PPS])));
    let ours = h265_track(C_PPS);
    assert!(ours.continues(&h265_track("4401c172b46241")));
    let other =
        h265::track(TrackId(1), &hex("40010c01ffff01600000030090000003000003003c95980a"), &hex(C_SPS), &[&hex(C_PPS)]);
    assert!(!ours.continues(&other.expect("another VPS")));
    let aac = aac::track(TrackId(2), &[0x12, 0x10]).expect("LC");
    assert!(!aac.continues(&aac::track(TrackId(2), &[0x12, 0x08]).expect("mono")));
}

#[test]
fn aac_signals_sbr_and_ps_in_three_ways() {
    let check = |config: &[u8], object_type, sample_rate, channels, frame_samples| {
        let parsed = aac::Config::parse(config).expect("a known configuration");
        assert_eq!(
            (parsed.object_type, parsed.sample_rate, parsed.channels, parsed.frame_samples),
            (object_type, sample_rate, channels, frame_samples)
        );
    };
    check(&[0x12, 0x10], 2, 44_100, 2, 1024);
    check(&[0x11, 0x88], 2, 48_000, 1, 1024);
    check(&[0x2b, 0x11, 0x88, 0x00], 5, 48_000, 2, 2048); // explicit: SBR 24 -> 48 kHz
    check(&[0xeb, 0x09, 0x88, 0x00], 29, 48_000, 2, 2048); // explicit: PS makes mono stereo
    check(&[0x13, 0x10, 0x56, 0xe5, 0x98], 5, 48_000, 2, 2048); // behind sync extension 0x2b7
    assert_eq!(aac::Config::parse(&[0x12, 0x00]), Err(CodecError::Unsupported("AAC without a channel configuration")));
    assert_eq!(aac::Config::parse(&[0x12]), Err(CodecError::Truncated));
    let track = aac::track(TrackId(1), &[0x2b, 0x11, 0x88, 0x00]).expect("HE-AAC");
    assert_eq!((track.timescale.hz(), track.codec_string.as_deref()), (48_000, Some("mp4a.40.5")));
    assert_eq!(aac::config_of_entry(&track.sample_entry), Ok(&[0x2b, 0x11, 0x88, 0x00][..]));
}

/// Writes bits, for sets that no encoder makes.
#[derive(Default)]
struct Bits(Vec<bool>);

impl Bits {
    fn put(&mut self, value: u64, count: u32) -> &mut Bits {
        self.0.extend((0..count).rev().map(|at| value >> at & 1 == 1));
        self
    }
    fn ue(&mut self, value: u64) -> &mut Bits {
        let length = 64 - (value + 1).leading_zeros();
        self.put(0, length - 1).put(value + 1, length)
    }
    fn nal(&mut self, head: &[u8]) -> Vec<u8> {
        self.put(1, 1);
        let mut out = head.to_vec();
        for byte in self.0.chunks(8) {
            let byte = byte.iter().enumerate().fold(0, |sum, (at, bit)| sum | u8::from(*bit) << (7 - at));
            if byte <= 3 && out.ends_with(&[0, 0]) {
                out.push(3);
            }
            out.push(byte);
        }
        out
    }
}

/// A Main profile set of `columns` x `rows` macroblocks with POC type `order`, cropped at the right by `crop` units.
fn main_sps(columns: u64, rows: u64, order: u64, crop: u64, timing: Option<(u64, u64, bool)>) -> Vec<u8> {
    let mut bits = Bits::default();
    bits.put(77, 8).put(0, 8).put(40, 8).ue(0).ue(0).ue(order);
    if order == 0 {
        bits.ue(0);
    }
    bits.ue(1).put(0, 1).ue(columns - 1).ue(rows - 1).put(0b11, 2);
    bits.put(1, 1).ue(0).ue(crop).ue(0).ue(0);
    match timing {
        None => bits.put(0, 1),
        Some((tick, scale, fixed)) => {
            bits.put(0b1_0000_1, 6).put(tick, 32).put(scale, 32).put(fixed.into(), 1).put(0, 4)
        }
    };
    bits.nal(&[0x67])
}

#[test]
fn pictures_and_rates_beyond_the_limits_are_refused() {
    let parse = |columns, rows, crop, timing| h264::Sps::parse(&main_sps(columns, rows, 0, crop, timing));
    assert!(parse(512, 256, 0, None).is_ok());
    assert_eq!(parse(513, 16, 0, None), Err(CodecError::TooLarge { width: 8208, height: 256 }));
    assert!(matches!(parse(512, 512, 0, None), Err(CodecError::TooLarge { .. })), "67 megapixels");
    assert!(matches!(parse(4096, 4096, 0, None), Err(CodecError::TooLarge { .. })), "65536 a side");
    assert!(matches!(parse(1 << 31, 1 << 31, 0, None), Err(CodecError::TooLarge { .. })));
    assert_eq!(parse(1, 1, 7, None).map(|sps| sps.width), Ok(2));
    assert!(matches!(parse(1, 1, 8, None), Err(CodecError::Malformed(_))));
    assert!(matches!(parse(1, 1, u32::MAX as u64 - 1, None), Err(CodecError::Malformed(_))));
    assert_eq!(parse(1, 1, 0, Some((1, 480, true))).map(|sps| sps.frame_rate_millis), Ok(Some(240_000)));
    assert_eq!(parse(1, 1, 0, Some((1, 482, true))).map(|sps| sps.frame_rate_millis), Ok(None));
    assert_eq!(parse(1, 1, 0, Some((1, 180_000, true))).map(|sps| sps.frame_rate_millis), Ok(None));
    assert_eq!(parse(1, 1, 0, Some((1, 180_000, false))).map(|sps| sps.frame_rate_millis), Ok(None));
    assert_eq!(parse(1, 1, 0, Some((0, 50, true))).map(|sps| sps.frame_rate_millis), Ok(None));
}

#[test]
fn reordering_without_a_word_is_unknown_unless_the_order_type_forbids_it() {
    assert_eq!(h264::Sps::parse(&main_sps(4, 4, 0, 0, None)).map(|sps| sps.reorder_depth), Ok(None));
    assert_eq!(h264::Sps::parse(&main_sps(4, 4, 2, 0, None)).map(|sps| sps.reorder_depth), Ok(Some(0)));
}

#[test]
fn h264_access_units_are_told_apart() {
    use crate::RandomAccess::*;
    let sei = [0x06, 6, 1, 0b1_1_0_00_1_00, 0x80];
    let sei_behind_another = [0x06, 5, 2, 9, 9, 6, 1, 0b1_1_0_00_1_00, 0x80];
    let sei_later = [0x06, 6, 1, 0b010_1_0_00_1, 0x80];
    let (idr, intra, inter, unreferred) =
        ([0x65, 0b1_00010_00], [0x41, 0b1_0001000], [0x41, 0b1_00110_00], [0x01, 0b1_1_000000]);
    let check = |nals: &[&[u8]], random_access, disposable| {
        let unit = h264::classify(nals.iter().copied());
        assert_eq!((unit.random_access, unit.disposable), (random_access, disposable), "{nals:x?}");
    };
    check(&[&idr], Closed, false);
    check(&[&sei, &intra], Open, false);
    check(&[&sei_behind_another, &intra], Open, false);
    check(&[&sei_later, &intra], Gradual, false);
    check(&[&intra], No, false);
    check(&[&sei, &inter], Gradual, false);
    check(&[&sei, &intra, &inter], Gradual, false);
    check(&[&unreferred], No, true);
    check(&[&sei], No, false);
    let (sps, pps) = (hex(A_SPS), hex(A_PPS));
    let unit = h264::classify([&sps[..], &pps, &idr, &[]].into_iter());
    assert_eq!((unit.sps, unit.pps), (vec![&sps[..]], vec![&pps[..]]));
    assert_eq!(h264::boundary(&idr), h264::Boundary::FirstSlice);
    assert_eq!(h264::boundary(&[0x41, 0b010_00000]), h264::Boundary::NextSlice);
    assert_eq!(h264::boundary(&sps), h264::Boundary::Before);
}

#[test]
fn h265_access_units_are_told_apart() {
    use crate::RandomAccess::*;
    let nal = |kind: u8, temporal_id: u8| [kind << 1, temporal_id + 1, 0x80];
    let check = |kind, temporal_id, top, random_access, disposable| {
        let slice = nal(kind, temporal_id);
        let unit = h265::classify([&slice[..]].into_iter(), top);
        assert_eq!((unit.random_access, unit.disposable), (random_access, disposable), "{kind}");
    };
    check(19, 0, 0, Closed, false);
    check(20, 0, 0, Closed, false);
    check(21, 0, 0, Open, false);
    check(16, 0, 0, Open, false);
    check(1, 0, 0, No, false);
    check(0, 0, 0, No, true);
    check(8, 0, 0, No, true);
    check(0, 0, 1, No, false);
    check(2, 1, 1, No, true);
    assert_eq!(h265::boundary(&nal(1, 0)), h264::Boundary::FirstSlice);
    assert_eq!(h265::boundary(&[2, 1, 0x40]), h264::Boundary::NextSlice);
    assert_eq!(h265::boundary(&hex(C_VPS)), h264::Boundary::Before);
    assert_eq!(h265::boundary(&[40 << 1, 1, 0]), h264::Boundary::Within);
}

#[test]
fn opus_packets_tell_their_length() {
    assert_eq!(opus::packet_samples(&[0xfc]), Some(960));
    assert_eq!(opus::packet_samples(&[0xfd, 0]), Some(1920));
    assert_eq!(opus::packet_samples(&[0xff, 3]), Some(2880));
    assert_eq!(opus::packet_samples(&[0xff, 0]), None);
    assert_eq!(opus::packet_samples(&[0x1b, 3]), None, "180 ms");
    assert_eq!(opus::packet_samples(&[]), None);
    assert!(opus::track(TrackId(1), 0).is_err());
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(data in prop::collection::vec(any::<u8>(), 0..300)) {
        let with = |head: &[u8]| [head, &data].concat();
        let _ = h264::Sps::parse(&with(&[0x67, 100]));
        let _ = h265::Sps::parse(&with(&hex(&C_SPS[..30])));
        let _ = aac::Config::parse(&data);
        let _ = h264::classify([&data[..], &with(&[6]), &with(&[0x65])].into_iter());
        let _ = h265::classify([&data[..], &with(&[2])].into_iter(), 0);
        let _ = (h264::boundary(&data), h265::boundary(&data), opus::packet_samples(&data));
        let _ = (vp8::Header::read(&data), vp8::Header::read(&with(&[0x11, 0, 0])));
        let _ = (vp9::Unit::read(&data), vp9::Unit::read(&with(&[0x86])), av1::Sequence::parse(&with(&[0])));
        let _ = (av1::classify(&data, None), av1::classify(&with(&[0x32, 40]), Some(&vp::av1_sequence())));
        let _ = (h264::Config::parse(&data), h265::Config::parse(&data), aac::config_of_esds(&data));
        for kind in [b"avc1", b"hvc1", b"vp08", b"vp09", b"av01", b"mp4a", b"Opus", b"ulaw", b"kino"] {
            let entry = entry::boxed(kind, &data).freeze();
            let _ = track_from_sample_entry(TrackId(1), Timescale::VIDEO, entry);
        }
    }

    #[test]
    fn damaged_sample_entries_never_panic(which in 0usize..12, at in any::<prop::sample::Index>(), byte: u8, cut in any::<prop::sample::Index>()) {
        let track = all_tracks().swap_remove(which);
        let mut bytes = track.sample_entry.to_vec();
        let place = at.index(bytes.len());
        bytes[place] = byte;
        bytes.truncate(cut.index(bytes.len() * 2) + 1);
        let damaged = Bytes::from(bytes);
        let other = Track { sample_entry: damaged.clone(), ..track.clone() };
        let _ = (track.continues(&other), other.continues(&track));
        if let Ok(read) = track_from_sample_entry(track.id, track.timescale, damaged) {
            prop_assert!(read.width <= MAX_SIDE && read.height <= MAX_SIDE);
        }
    }

    #[test]
    fn damaged_sets_never_panic(at in any::<prop::sample::Index>(), byte: u8) {
        for text in [A_SPS, B_SPS, D_SPS, C_SPS] {
            let mut set = hex(text);
            let place = at.index(set.len());
            set[place] = byte;
            for end in 0..set.len() {
                let _ = (h264::Sps::parse(&set[..end]), h265::Sps::parse(&set[..end]));
            }
        }
    }
}
