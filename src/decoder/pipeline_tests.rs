//! Every codec, as FFmpeg encodes it, decodes to the pictures that FFmpeg decodes.

use std::process::{Command, Stdio};

use media::decoding::{Output, PictureCodec, Setup};

use super::*;
use crate::picture::Scaler;

const WIDTH: u32 = 162;
const HEIGHT: u32 = 90;

fn ffmpeg(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut child = Command::new("ffmpeg")
        .args(["-nostdin", "-hide_banner", "-v", "error"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("run ffmpeg");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // An encoder reads no input and may be gone.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().expect("ffmpeg ends");
    writer.join().expect("written");
    assert!(output.status.success(), "ffmpeg {arguments:?}");
    output.stdout
}

/// The units of an IVF file: a head of 32 bytes, then length (u32), time (u64) and bytes of each.
fn of_ivf(file: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = &file[32..];
    let mut units = Vec::new();
    while let Some((head, after)) = rest.split_first_chunk::<12>() {
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        units.push(after[..length].to_vec());
        rest = &after[length..];
    }
    units
}

/// JPEG files one after another, each from its start marker on.
fn of_jpegs(bytes: &[u8]) -> Vec<Vec<u8>> {
    let starts: Vec<usize> = (0..bytes.len() - 2).filter(|at| bytes[*at..*at + 3] == [0xff, 0xd8, 0xff]).collect();
    let ends = starts.iter().skip(1).copied().chain([bytes.len()]);
    starts.iter().zip(ends).map(|(start, end)| bytes[*start..end].to_vec()).collect()
}

/// Decodes units, and gives the raw pictures one after another.
fn decode(codec: PictureCodec, units: &[Vec<u8>]) -> Vec<u8> {
    gst::init().expect("GStreamer starts");
    let setup = Setup { stream: 7, codec, config: Vec::new(), width: WIDTH, height: HEIGHT, has_holes: false };
    let mut pipeline = Pipeline::new(&setup).expect("a decoder");
    let mut pictures = Vec::new();
    for (at, unit) in units.iter().enumerate() {
        pictures.extend(pipeline.feed(unit.clone(), at as u64 * 40_000_000).expect("taken"));
    }
    pictures.extend(pipeline.drain().expect("drained"));
    let times: Vec<Option<u64>> = pictures.iter().map(Decoded::shown_ns).collect();
    assert_eq!(times, (0..units.len() as u64).map(|at| Some(at * 40_000_000)).collect::<Vec<_>>());
    let mut scaler = Scaler::default();
    let mut planes = |picture: &Decoded| {
        let (width, height) = (picture.width(), picture.height());
        let placement = Output::default().place(width, height).expect("as it is");
        scaler.draw(picture, placement).expect("drawn").planes().expect("planes").to_vec()
    };
    pictures.iter().flat_map(&mut planes).collect()
}

fn check(codec: PictureCodec, encoder: &[&str], off_max: u8) {
    let source = format!("testsrc2=size={WIDTH}x{HEIGHT}:rate=25:duration=1");
    let container = if codec == PictureCodec::Mjpeg { "mjpeg" } else { "ivf" };
    let encode = [&["-f", "lavfi", "-i", &source][..], encoder, &["-f", container, "-"]].concat();
    let file = ffmpeg(&encode, &[]);
    let units = match container {
        "mjpeg" => of_jpegs(&file),
        _ => of_ivf(&file),
    };
    // Not converted: a JPEG's planes use the full range.
    let planes = if codec == PictureCodec::Mjpeg { "yuvj420p" } else { "yuv420p" };
    let expected = ffmpeg(&["-f", container, "-i", "-", "-f", "rawvideo", "-pix_fmt", planes, "-"], &file);
    let given = decode(codec, &units);
    assert!(units.len() >= 25, "{codec:?} has {} units", units.len());
    assert_eq!(given.len(), expected.len(), "{codec:?}");
    let off = given.iter().zip(&expected).map(|(given, expected)| given.abs_diff(*expected)).max();
    assert!(off <= Some(off_max), "{codec:?} is off by {off:?}");
}

#[test]
fn codecs_decode_to_what_ffmpeg_decodes() {
    check(PictureCodec::Vp8, &["-c:v", "libvpx", "-deadline", "realtime", "-auto-alt-ref", "0"], 0);
    check(
        PictureCodec::Vp9,
        &["-c:v", "libvpx-vp9", "-deadline", "realtime", "-auto-alt-ref", "0", "-lag-in-frames", "0"],
        0,
    );
    check(PictureCodec::Av1, &["-c:v", "libaom-av1", "-cpu-used", "8", "-usage", "realtime", "-lag-in-frames", "0"], 0);
    // Standards allow inverse transforms of JPEG to differ by a little.
    check(PictureCodec::Mjpeg, &["-c:v", "mjpeg", "-q:v", "3", "-pix_fmt", "yuvj420p"], 4);
}

#[test]
fn pictures_of_av1_change_their_size_between_key_frames() {
    let camera =
        format!("videotestsrc num-buffers=25 ! video/x-raw,format=I420,width={WIDTH},height={HEIGHT},framerate=25/1");
    let encoder = "av1enc resize-mode=random cpu-used=8 usage-profile=realtime lag-in-frames=0 ! av1parse";
    let line = format!("-q {camera} ! {encoder} ! matroskamux ! fdsink fd=1");
    let output = Command::new("gst-launch-1.0").args(line.split(' ')).stdin(Stdio::null()).output();
    let file = output.expect("run gst-launch-1.0").stdout;
    let file = ffmpeg(&["-f", "matroska", "-i", "-", "-c", "copy", "-f", "ivf", "-"], &file);
    let raw = ["-f", "ivf", "-i", "-", "-autoscale", "0", "-f", "rawvideo", "-pix_fmt", "yuv420p", "-"];
    let expected = ffmpeg(&raw, &file);
    let whole = 25 * (WIDTH * HEIGHT + 2 * WIDTH.div_ceil(2) * HEIGHT.div_ceil(2)) as usize;
    assert!(!expected.is_empty() && expected.len() < whole, "some are smaller");
    assert!(decode(PictureCodec::Av1, &of_ivf(&file)) == expected);
}

#[test]
fn giants_are_refused_before_they_are_made() {
    gst::init().expect("GStreamer starts");
    let setup = Setup {
        stream: 7,
        codec: PictureCodec::H264,
        config: Vec::new(),
        width: 16_384,
        height: 16_384,
        has_holes: false,
    };
    let refused = Pipeline::new(&setup).err().expect("too large");
    assert_eq!(refused.kind, FailureKind::Size);
    // A stream whose pictures are larger than what was said of it: the decoder's own word counts.
    let source = "color=size=8192x8192:rate=1:duration=1";
    let file = ffmpeg(&["-f", "lavfi", "-i", source, "-c:v", "mjpeg", "-pix_fmt", "yuvj420p", "-f", "mjpeg", "-"], &[]);
    let small = Setup { stream: 7, codec: PictureCodec::Mjpeg, width: 16, height: 16, ..setup };
    let mut pipeline = Pipeline::new(&small).expect("a decoder");
    let refused = pipeline.feed(file, 0).and_then(|_| pipeline.drain()).err().expect("too large");
    assert_eq!(refused.kind, FailureKind::Size);
}
