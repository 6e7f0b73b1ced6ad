//! Files of ffmpeg 5.1: `testsrc` of 64x64 at 25 per second by x264 (two B-frames, 6 in a group) with 0.48 s of AAC
//! at 44.1 kHz; the same fragmented at key frames; and x265 with G.711 in QuickTime. What they hold is as ffprobe says.

use proptest::prelude::*;

use super::*;

const PROGRESSIVE: &[u8] = include_bytes!("../../../../tests/data/mp4/progressive.mp4");
const FRAGMENTED: &[u8] = include_bytes!("../../../../tests/data/mp4/fragmented.mp4");
const QUICKTIME: &[u8] = include_bytes!("../../../../tests/data/mp4/h265-pcmu.mov");

fn of_track(file: &Mp4, id: u32) -> Vec<Sample> {
    file.samples.iter().filter(|sample| sample.track == TrackId(id)).copied().collect()
}

fn check_h264(data: &[u8]) -> Mp4 {
    let file = read(data).expect("a whole file");
    assert_eq!(file.tracks.len(), 2);
    let (video, audio) = (of_track(&file, 1), of_track(&file, 2));
    let frame = 3600;
    let pts: Vec<i64> = video.iter().map(|sample| sample.pts / frame).collect();
    let dts: Vec<i64> = video.iter().map(|sample| sample.dts / frame).collect();
    assert_eq!(dts, (-2..10).collect::<Vec<_>>());
    let mut shown = pts.clone();
    shown.sort_unstable();
    assert_eq!(shown, (0..12).collect::<Vec<_>>());
    assert_ne!(pts, shown, "B-frames come out of order");
    let syncs: Vec<usize> = (0..video.len()).filter(|at| video[*at].sync).collect();
    assert_eq!(syncs.len(), 2);
    assert!(audio.iter().all(|sample| sample.sync));
    assert_eq!(audio[0].pts, -1024, "priming");
    assert!(audio.windows(2).all(|pair| pair[1].pts - pair[0].pts == 1024));
    for sample in &video {
        let nals: Result<Vec<&[u8]>, _> = codec::nal::length_prefixed(sample.bytes(data), 4).collect();
        let unit = h264::classify(nals.expect("whole NAL units").into_iter());
        assert!(unit.has_picture);
        assert_eq!(unit.random_access != crate::RandomAccess::No, sample.sync);
    }
    file
}

#[test]
fn progressive_file_reads_as_ffprobe_says() {
    let file = check_h264(PROGRESSIVE);
    assert_eq!(file.tracks[0].track.codec_string.as_deref().map(|text| &text[..5]), Some("avc1."));
    assert_eq!((file.tracks[0].track.width, file.tracks[1].track.timescale.hz()), (64, 44_100));
}

#[test]
fn fragmented_file_has_the_same_samples() {
    let (one, other) = (check_h264(PROGRESSIVE), check_h264(FRAGMENTED));
    for id in 1..=2 {
        let (ours, theirs) = (of_track(&one, id), of_track(&other, id));
        assert_eq!(ours.len(), theirs.len());
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!((ours.dts, ours.pts, ours.sync), (theirs.dts, theirs.pts, theirs.sync));
            assert_eq!(ours.bytes(PROGRESSIVE), theirs.bytes(FRAGMENTED));
        }
        assert_eq!(one.tracks[id as usize - 1].track, other.tracks[id as usize - 1].track);
    }
}

#[test]
fn quicktime_with_h265_and_single_samples_of_sound_is_read() {
    let file = read(QUICKTIME).expect("a whole file");
    let codecs: Vec<Codec> = file.tracks.iter().map(|track| track.track.codec).collect();
    assert_eq!(codecs, [Codec::H265, Codec::Pcmu]);
    let sound = of_track(&file, 2);
    assert_eq!(sound.iter().map(|sample| sample.len).sum::<u32>(), 1600);
    assert!(sound.iter().all(|sample| sample.len <= 160 && sample.duration == sample.len));
    assert_eq!(of_track(&file, 1).len(), 5);
}

#[test]
fn cut_file_is_an_error_and_never_a_panic() {
    for data in [PROGRESSIVE, FRAGMENTED, QUICKTIME] {
        for end in (0..data.len()).step_by(7) {
            if let Ok(file) = read(&data[..end]) {
                assert!(file.samples.iter().all(|sample| sample.bytes(data).len() == sample.len as usize));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn damaged_files_never_panic(which in 0usize..3, places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut data = [PROGRESSIVE, FRAGMENTED, QUICKTIME][which].to_vec();
        // Damage the structure, not the pictures.
        let moov = data.windows(4).position(|window| window == b"moov").expect("there");
        for (place, byte) in places {
            let at = moov + place.index(data.len() - moov);
            data[at] = byte;
        }
        if let Ok(file) = read(&data) {
            prop_assert!(file.samples.iter().all(|sample| sample.bytes(&data).len() == sample.len as usize));
        }
    }
}
