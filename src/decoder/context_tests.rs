//! What a decoder still has after a job.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::process::Command;

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
    /// Times and widths of the pictures of a job of units at `shown`, and its end.
    fn run(&mut self, start: bool, shown: &[u64], wanted: &[u64], width: u32) -> (Vec<(u64, u32)>, Option<Reply>) {
        let setup = Setup { codec: PictureCodec::Mjpeg, config: Vec::new(), width: 64, height: 48, has_holes: false };
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
        self.theirs.set_nonblocking(true).expect("set");
        let mut bytes = Vec::new();
        // Ends with an error: nothing more is there.
        let _ = self.theirs.read_to_end(&mut bytes);
        let mut rest = &bytes[..];
        let mut pictures = Vec::new();
        while let Some((head, after)) = rest.split_first_chunk::<4>() {
            let (message, after) = after.split_at(u32::from_le_bytes(*head) as usize);
            if let Ok(Reply::Picture(picture)) = Reply::decode(message) {
                pictures.push((picture.shown_ns, picture.width));
            }
            rest = after;
        }
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
