//! What a decoder still has after a job.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::process::Command;

use media::TrackId;
use media::codec::{entry, h264, h265, nal};
use media::decoding::{Format, Output, PictureCodec, Setup, Unit};

use super::*;

/// A picture of 64x48 as JPEG.
fn jpeg() -> Vec<u8> {
    let arguments = ["-nostdin", "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=64x48:rate=1:duration=1"];
    let made = Command::new("ffmpeg").args(arguments).args(["-pix_fmt", "yuvj420p", "-f", "mjpeg", "-"]).output();
    made.expect("run ffmpeg").stdout
}

struct Side {
    contexts: Contexts,
    link: Link,
    theirs: UnixStream,
    memory: Memory,
    len: u32,
}

impl Side {
    /// Decodes all units of a stream, from a start on: the planes of all pictures. What the decoder refuses ends it.
    fn planes(&mut self, setup: &Setup, units: &[Vec<u8>]) -> Vec<u8> {
        let bytes = units.concat();
        self.memory = Memory::with(&bytes);
        let shown = |at: usize| at as u64 * 40_000_000;
        let mut at = 0;
        let mut unit = |(number, data): (usize, &Vec<u8>)| {
            let unit = Unit { at, len: data.len() as u32, shown_ns: shown(number) };
            at += data.len() as u64;
            unit
        };
        let job = Job {
            context: 0,
            start: Some(setup.clone()),
            units: units.iter().enumerate().map(&mut unit).collect(),
            required: units.len() as u32,
            wanted: (0..units.len()).map(shown).collect(),
            output: Output { format: Format::I420, ..Output::default() },
            pictures_at: 8 << 20,
            pictures_end: 60 << 20,
        };
        let _ = self.contexts.run(job, &mut self.link, &self.memory);
        let pictures = self.replies();
        pictures.iter().flat_map(|picture| self.memory.read(picture.at, picture.len).expect("it is there")).collect()
    }

    /// The pictures that were sent since.
    fn replies(&mut self) -> Vec<Picture> {
        self.theirs.set_nonblocking(true).expect("set");
        let mut bytes = Vec::new();
        // Ends with an error: nothing more is there.
        let _ = self.theirs.read_to_end(&mut bytes);
        let mut rest = &bytes[..];
        let mut pictures = Vec::new();
        while let Some((head, after)) = rest.split_first_chunk::<4>() {
            let (message, after) = after.split_at(u32::from_le_bytes(*head) as usize);
            if let Ok(Reply::Picture(picture)) = Reply::decode(message) {
                pictures.push(picture);
            }
            rest = after;
        }
        pictures
    }

    /// Times and widths of the pictures of a job of units at `shown`, and its end.
    fn run(&mut self, start: bool, shown: &[u64], wanted: &[u64], width: u32) -> (Vec<(u64, u32)>, Option<Reply>) {
        let setup = Setup {
            stream: 7,
            codec: PictureCodec::Mjpeg,
            config: Vec::new(),
            width: 64,
            height: 48,
            has_holes: false,
        };
        let job = Job {
            context: 0,
            start: start.then_some(setup),
            units: shown.iter().map(|shown_ns| Unit { at: 0, len: self.len, shown_ns: *shown_ns }).collect(),
            required: shown.len() as u32,
            wanted: wanted.to_vec(),
            output: Output { width: Some(width), format: Format::I420, ..Output::default() },
            pictures_at: 1 << 20,
            pictures_end: 2 << 20,
        };
        let end = self.contexts.run(job, &mut self.link, &self.memory).ok();
        let pictures = self.replies().iter().map(|picture| (picture.shown_ns, picture.width)).collect();
        (pictures, end)
    }
}

#[test]
fn the_last_picture_is_had_again_in_another_size() {
    gstreamer::init().expect("GStreamer starts");
    let unit = jpeg();
    let (link, theirs) = Link::pair();
    let memory = Memory::with(&unit);
    let mut side = Side { contexts: Contexts::default(), link, theirs, memory, len: unit.len() as u32 };
    let done = |fed, gone_ns, drained| Some(Reply::Done { fed, gone_ns, drained });
    assert_eq!(side.run(true, &[10, 20], &[20], 64), (vec![(20, 64)], done(2, Some(10), false)));
    assert_eq!(side.run(false, &[], &[20], 32), (vec![(20, 32)], done(0, None, false)), "nothing is decoded for it");
    assert_eq!(side.run(false, &[30], &[20, 30], 16), (vec![(20, 16), (30, 16)], done(1, Some(20), false)));
    // It is gone: everything is let out in search of it, and what came after it is still there.
    assert_eq!(side.run(false, &[], &[20], 64), (vec![], done(0, None, true)));
    assert_eq!(side.run(false, &[], &[30], 64), (vec![(30, 64)], done(0, None, true)));
    assert_eq!(side.run(false, &[40], &[40], 64), (vec![], None), "nothing can follow the end");
}

/// Access units of length-prefixed NAL units, and the configuration, of an elementary stream with start codes.
fn of_annex_b(codec: PictureCodec, file: &[u8]) -> (Vec<u8>, Vec<Vec<Vec<u8>>>) {
    let is_h264 = codec == PictureCodec::H264;
    let boundary = if is_h264 { h264::boundary } else { h265::boundary };
    let mut units: Vec<Vec<Vec<u8>>> = vec![Vec::new()];
    let mut has_slice = false;
    for nal in nal::annex_b(file) {
        let kind = boundary(nal);
        if has_slice && matches!(kind, h264::Boundary::FirstSlice | h264::Boundary::Before) {
            units.push(Vec::new());
            has_slice = false;
        }
        has_slice |= matches!(kind, h264::Boundary::FirstSlice);
        units.last_mut().expect("there is one").push(nal.to_vec());
    }
    let set = |kind: u8| {
        let of = |nal: &&Vec<u8>| if is_h264 { nal[0] & 0x1f == kind } else { h265::nal_type(nal) == kind };
        units[0].iter().find(of).expect("it has this set").clone()
    };
    let (track, name) = match is_h264 {
        true => (h264::track(TrackId(1), &set(h264::SPS), &[&set(h264::PPS)]), b"avcC"),
        false => (h265::track(TrackId(1), &set(h265::VPS), &set(h265::SPS), &[&set(h265::PPS)]), b"hvcC"),
    };
    let entry = track.expect("a track").sample_entry;
    let config = entry::parse(&entry).expect("our own").child(entry::VISUAL_HEAD, name).expect("it is there").to_vec();
    (config, units)
}

/// The units of an IVF file: a head of 32 bytes, then length (u32), time (u64) and bytes of each.
fn of_ivf(file: &[u8]) -> Vec<Vec<u8>> {
    let (mut rest, mut units) = (&file[32..], Vec::new());
    while let Some((head, after)) = rest.split_first_chunk::<12>() {
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        units.push(after[..length].to_vec());
        rest = &after[length..];
    }
    units
}

fn encode(source: &str, arguments: &[&str]) -> Vec<u8> {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "error", "-f", "lavfi", "-i", source, "-frames:v", "6", "-pix_fmt", "yuv420p"]);
    let output = command.args(arguments).arg("-").output().expect("run ffmpeg");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Units with parts cut out, as somebody sends them who wants to see what a decoder has left: without all slices but the first,
/// and cut short at many places.
fn attacks(units: &[Vec<Vec<u8>>], tries: usize) -> Vec<Vec<Vec<u8>>> {
    let joined = |unit: &[Vec<u8>]| nal::join(unit.iter().map(Vec::as_slice)).to_vec();
    let is_single = units.iter().all(|unit| unit.len() == 1);
    let whole = |unit: &Vec<Vec<u8>>| if is_single { unit[0].clone() } else { joined(unit) };
    let cut = |seed: usize| {
        let mut cut: Vec<Vec<u8>> = Vec::new();
        for (at, unit) in units.iter().enumerate() {
            // The last NAL unit is cut, so that lengths stay right.
            let mut unit = unit.clone();
            let last = unit.last_mut().expect("it has one");
            let keep = last.len() * ((seed * 37 + at * 11) % 97 + 3) / 100;
            // Every other time the key frame is whole, so that decoders that refuse it go on.
            if at > 0 || seed.is_multiple_of(2) {
                last.truncate(keep.max(8));
            }
            cut.push(whole(&unit));
        }
        cut
    };
    let mut all: Vec<Vec<Vec<u8>>> = (0..tries).map(cut).collect();
    if !is_single {
        // Four slices a picture: one to three of them are left out, at the end or in the middle.
        for left_out in [1, 2, 3] {
            let end = |unit: &Vec<Vec<u8>>| joined(&unit[..unit.len() - left_out]);
            let middle = |unit: &Vec<Vec<u8>>| {
                joined(&[&unit[..unit.len() - 1 - left_out.min(2)], &unit[unit.len() - 1..]].concat())
            };
            all.push(units.iter().map(end).collect());
            all.push(units.iter().map(middle).collect());
        }
    }
    all
}

/// What comes out of a spoilt stream is the same whatever another stream has left in the decoder.
#[test]
fn a_frame_shows_nothing_of_another_stream() {
    gstreamer::init().expect("GStreamer starts");
    // All for them: KINORA_LEAK_TRIES=200 makes more than a thousand.
    let tries = std::env::var("KINORA_LEAK_TRIES").ok().and_then(|text| text.parse().ok()).unwrap_or(6);
    let codecs: [(PictureCodec, &[&str]); 5] = [
        (PictureCodec::H264, &["-c:v", "libx264", "-x264-params", "slices=4:threads=1", "-bf", "0", "-f", "h264"]),
        (PictureCodec::H265, &["-c:v", "libx265", "-x265-params", "slices=4:bframes=0:log-level=0", "-f", "hevc"]),
        (PictureCodec::Vp8, &["-c:v", "libvpx", "-deadline", "realtime", "-f", "ivf"]),
        (PictureCodec::Vp9, &["-c:v", "libvpx-vp9", "-deadline", "realtime", "-lag-in-frames", "0", "-f", "ivf"]),
        (
            PictureCodec::Av1,
            &["-c:v", "libaom-av1", "-cpu-used", "8", "-usage", "realtime", "-lag-in-frames", "0", "-f", "ivf"],
        ),
    ];
    for (codec, arguments) in codecs {
        let stream = |source: &str| {
            let file = encode(source, arguments);
            match codec {
                PictureCodec::H264 | PictureCodec::H265 => of_annex_b(codec, &file),
                _ => (Vec::new(), of_ivf(&file).into_iter().map(|unit| vec![unit]).collect()),
            }
        };
        let setup = |stream: u128, config: &[u8]| Setup {
            stream,
            codec,
            config: config.to_vec(),
            width: 320,
            height: 256,
            has_holes: false,
        };
        let whole = |units: &[Vec<Vec<u8>>]| {
            attacks(units, 0).into_iter().next().map_or_else(
                || units.iter().map(|unit| unit[0].clone()).collect::<Vec<_>>(),
                |_| units.iter().map(|unit| nal::join(unit.iter().map(Vec::as_slice)).to_vec()).collect(),
            )
        };
        let victims = ["testsrc2=size=320x256", "mandelbrot=size=320x256"].map(stream);
        let (config, attacker) = stream("testsrc=size=320x256");
        let mut shown = 0;
        for attack in attacks(&attacker, tries) {
            let (link, theirs) = Link::pair();
            let mut side = Side { contexts: Contexts::default(), link, theirs, memory: Memory::with(&[]), len: 0 };
            let seen = victims.each_ref().map(|(victim_config, victim)| {
                assert!(
                    !side.planes(&setup(1, victim_config), &whole(victim)).is_empty(),
                    "{codec:?}: the victim is seen"
                );
                side.planes(&setup(2, &config), &attack)
            });
            shown += usize::from(!seen[0].is_empty());
            assert!(seen[0] == seen[1], "{codec:?}: a frame depends on what another stream left");
        }
        assert!(shown > 0, "{codec:?}: no spoilt stream shows anything at all");
    }
}
