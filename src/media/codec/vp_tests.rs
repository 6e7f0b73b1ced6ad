//! Real beginnings of frames in, tracks and facts out. Frames are of libvpx 1.12, libaom 3.6, SVT-AV1 1.4 and rav1e 0.5, driven by
//! ffmpeg 5.1 (`testsrc2` of 176x144 at 25), cut after their headers.

#![expect(clippy::unusual_byte_groupings, reason = "groups are fields of the codec")]

use super::super::*;
use super::{Bits, hex};
use crate::RandomAccess::{Closed, No};

const VP8_KEY: &str = "d04a009d012ab00090000007088585889984880202031cb50bf80fe2af421ccb";
const VP8_NEXT: &str = "3113000d1100001ea777ba807df09a71b9c23d685d11bf296d4767f9def00d29";
// Three temporal layers, -ts-parameters ts_layering_mode=3: the highest, then the middle one.
const VP8_TOP: &str = "d10a00261c240c2c2c44cc2441e400000ca99013ed83b977368c01ce42caef02";
const VP8_MIDDLE: &str = "b11300171c240c2c2c44cc244118101a7ad3682dc730b75bcf3d4fca5931e2b6";

const VP9_KEY: &str = "82498342000af008f60638241c184a0009b05fcdf7f7fcdf43f0bfe2fdfd3f9b";
const VP9_NEXT: &str = "86004092f1214000006c7f91e46ec953360c6ddc160d02493bf86b3b88993bf0";
// -pix_fmt yuv420p10le and yuv444p.
const VP9_TEN_BITS: &str = "92498342000578047b031c120e0c2c0004f05fcdf7f3fc9f45f87ee6bdfadefa";
const VP9_444: &str = "a249834200015e011ec0c7048383094001885fcdf7f7fcdf43f0bfe2fdfd3f9b";
// -error-resilient 1, three temporal layers: one that refreshes nothing, and one that does.
const VP9_TOP: &str = "8700024b0c1c120e0c5c0001907f90d8d35f23f5fc5f99fb3d3dd691369bbebb";
const VP9_MIDDLE: &str = "8702024b001c120e0c000007507d8fe27ffcfee73ff17ec7eff7f7f9faaf51f8";

// The first temporal unit and a later one, their sizes cut to what is here.
const AV1_KEY: &str = "0a0b00000003bd7c79b5f20080321610008400020820880000dd4ac9ea66ca21a9d0675089";
const AV1_NEXT: &str = "321030038080fdf83a400059659628104a00";
// -usage good: a unit that shows a frame that was hidden before.
const AV1_SHOWN_AGAIN: &str = "1a01c8";
const SVT_TEN_BITS: &str = "00000003bd7c79f7f28080";
const SVT_TOP: &str = "32103203000db6b695230000008fbc6000de";
const RAV1E_BT709: &str = "000000f9debe3c42151010101140";

pub(super) fn av1_sequence() -> av1::Sequence {
    av1::Sequence::parse(&hex(SVT_TEN_BITS)).expect("a real one")
}

/// A track of each codec.
pub(super) fn tracks() -> Vec<Track> {
    vec![
        vp8::track(TrackId(1), &hex(VP8_KEY)).expect("a key frame"),
        vp9::track(TrackId(1), &hex(VP9_TEN_BITS)).expect("a key frame"),
        av1::track(TrackId(1), &hex(RAV1E_BT709)).expect("a real one"),
    ]
}

#[test]
fn vp8_frames_tell_size_start_and_what_needs_them() {
    let read = |text: &str| vp8::Header::read(&hex(text)).expect("a real frame");
    let key = read(VP8_KEY);
    assert_eq!((key.size, key.random_access(), key.is_shown), (Some((176, 144)), Closed, true));
    let next = read(VP8_NEXT);
    assert_eq!((next.size, next.random_access(), next.disposable), (None, No, false));
    assert!(read(VP8_TOP).disposable && !read(VP8_MIDDLE).disposable);
    // What is cut before the end of the header is needed, for all we know.
    assert!(!vp8::Header::read(&hex(VP8_TOP)[..8]).expect("the tag is whole").disposable);
    let track = vp8::track(TrackId(1), &hex(VP8_KEY)).expect("a key frame");
    assert_eq!((track.width, track.height, track.codec_string), (176, 144, None));
    assert!(track.sample_entry.ends_with(&[b'v', b'p', b'c', b'C', 1, 0, 0, 0, 0, 10, 0x80, 2, 2, 2, 0, 0]));
    assert_eq!(vp8::track(TrackId(1), &hex(VP8_NEXT)), Err(CodecError::Missing("key frame")));
}

#[test]
fn vp8_sizes_beyond_the_limits_are_refused() {
    let sized = |width: u16, height: u16| {
        let mut frame = hex(VP8_KEY);
        frame[6..8].copy_from_slice(&width.to_le_bytes());
        frame[8..10].copy_from_slice(&height.to_le_bytes());
        vp8::track(TrackId(1), &frame).map(|track| (track.width, track.height))
    };
    assert_eq!(sized(8192, 4608), Ok((8192, 4608)));
    assert_eq!(sized(0x4000 | 640, 0xc000 | 480), Ok((640, 480)), "scaling is a wish");
    assert!(matches!(sized(8193, 16), Err(CodecError::TooLarge { .. })));
    assert!(matches!(sized(8192, 8192), Err(CodecError::TooLarge { .. })));
    assert_eq!(sized(0, 16), Err(CodecError::Malformed("picture without pixels")));
}

#[test]
fn vp9_frames_tell_size_start_and_what_needs_them() {
    let read = |text: &str| vp9::Unit::read(&hex(text)).expect("a real frame");
    let key = read(VP9_KEY);
    assert_eq!((key.size, key.random_access(), key.disposable), (Some((176, 144)), Closed, false));
    let next = read(VP9_NEXT);
    assert_eq!((next.random_access(), next.disposable), (No, false));
    assert!(read(VP9_TOP).disposable && !read(VP9_MIDDLE).disposable);
    let string = |text: &str| vp9::track(TrackId(1), &hex(text)).expect("a key frame").codec_string;
    assert_eq!(string(VP9_KEY).as_deref(), Some("vp09.00.10.08"));
    assert_eq!(string(VP9_TEN_BITS).as_deref(), Some("vp09.02.10.10"));
    assert_eq!(string(VP9_444).as_deref(), Some("vp09.01.10.08"));
    assert_eq!(vp9::track(TrackId(1), &hex(VP9_NEXT)), Err(CodecError::Missing("key frame")));
}

#[test]
fn vp9_superframes_are_taken_apart_and_made() {
    let (key, next) = (hex(VP9_KEY), hex(VP9_NEXT));
    let index = vp9::superframe_index(&[key.len(), next.len()]).expect("two frames");
    let sample = [&key[..], &next, &index].concat();
    assert_eq!(vp9::frames(&sample).collect::<Vec<_>>(), [&key[..], &next]);
    let unit = vp9::Unit::read(&sample).expect("real frames");
    // The second takes its size from what the first leaves in all references.
    assert_eq!((unit.size, unit.random_access()), (Some((176, 144)), Closed));
    assert_eq!(vp9::frames(&next).collect::<Vec<_>>(), [&next[..]], "no index: one frame");
    assert_eq!((vp9::superframe_index(&[9]), vp9::superframe_index(&[9; 9])), (None, None));
    let libvpx = [&[0x86, 1, 0x86][..], &[0xc1, 1, 2, 0xc1]].concat();
    assert_eq!(vp9::frames(&libvpx).map(<[u8]>::len).collect::<Vec<_>>(), [1, 2], "sizes of one byte");
    let short = [&[0x86][..], &[0xc1, 1, 2, 0xc1]].concat();
    assert_eq!(vp9::frames(&short).map(<[u8]>::len).collect::<Vec<_>>(), [1], "sizes beyond the data");
}

#[test]
fn vp9_spatial_layers_have_the_size_of_the_last() {
    // A key frame of 176x144, then a frame that finds no reference of its size and says 352x288:
    // marker, profile 0, inter, shown, resilient; refresh 2; references 1, 1, 1; not found three times; size.
    let mut bits = Bits::default();
    bits.put(0b10_00_0_1_1_1, 8).put(2, 8).put(0b0010_0010_0010, 12).put(0, 3).put(351, 16).put(287, 16).put(0, 9);
    let upper = bits.nal(&[]);
    let key = hex(VP9_KEY);
    let index = vp9::superframe_index(&[key.len(), upper.len()]).expect("two frames");
    let track = vp9::track(TrackId(1), &[&key[..], &upper, &index].concat()).expect("a key frame");
    assert_eq!((track.width, track.height), (352, 288));
}

#[test]
fn av1_units_tell_size_start_and_what_needs_them() {
    let key = hex(AV1_KEY);
    let found = av1::classify(&key, None);
    assert_eq!((found.random_access, found.disposable), (Closed, false));
    let header = found.sequence_header.expect("it has one");
    let sequence = av1::Sequence::parse(header).expect("a real one");
    assert_eq!((sequence.width, sequence.height, sequence.bit_depth), (176, 144, 8));
    assert_eq!(av1::classify(&hex(AV1_NEXT), Some(&sequence)).random_access, No);
    assert!(!av1::classify(&hex(AV1_NEXT), Some(&sequence)).disposable);
    assert!(!av1::classify(&hex(AV1_SHOWN_AGAIN), Some(&sequence)).disposable);
    let svt = av1_sequence();
    assert!(av1::classify(&hex(SVT_TOP), Some(&svt)).disposable);
    assert!(!av1::classify(&hex(SVT_TOP), None).disposable, "nothing is known of it");
    // Without its sequence header a key frame is no start.
    assert_eq!(av1::classify(&key[13..], Some(&sequence)).random_access, No);
    let track = av1::track(TrackId(1), header).expect("a real one");
    assert_eq!((track.width, track.height, track.codec_string.as_deref()), (176, 144, Some("av01.0.00M.08")));
    assert_eq!(av1::sequence_of_entry(&track.sample_entry), Ok(header));
    let string = |text: &str| av1::track(TrackId(1), &hex(text)).expect("a real one").codec_string;
    assert_eq!(string(SVT_TEN_BITS).as_deref(), Some("av01.0.00M.10"));
    let track = av1::track(TrackId(1), &hex(RAV1E_BT709)).expect("a real one");
    assert_eq!((track.width, track.height), (176, 144));
    assert!(track.sample_entry.ends_with(b"colrnclx\0\x01\0\x01\0\x01\0"));
}
