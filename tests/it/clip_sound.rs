//! Sound that cameras send besides AAC, in clips: G.711 and Opus, encoded and pushed by FFmpeg, and played by it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::media_files::{Packet, decoded_frames, packets};
use crate::push::run_to_end;
use crate::server::Server;

/// How sound is encoded, and its samples of a second.
const CASES: [(&str, u32); 3] = [("pcm_mulaw", 8_000), ("pcm_alaw", 8_000), ("libopus", 48_000)];
const SECONDS: usize = 6;

/// Noise: no two parts of it are alike.
fn noise(rate: u32) -> String {
    format!("anoisesrc=seed=7:sample_rate={rate}:amplitude=0.5")
}

/// Pushes moving pictures and noise.
fn push(server: &Server, secret: &str, codec: &str, rate: u32) {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-hide_banner", "-v", "error", "-re", "-f", "lavfi", "-i", "testsrc2=s=320x180:r=25"]);
    command.args(["-re", "-f", "lavfi", "-i", &noise(rate), "-t", &SECONDS.to_string(), "-ac", "1", "-c:v", "libx264"]);
    command.args(["-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "25", "-c:a", codec]);
    command.args(["-f", "rtsp", "-rtsp_transport", "tcp", &server.push_url(secret, codec)]);
    let output = run_to_end(command);
    assert!(output.status.success(), "{codec}: {}", String::from_utf8_lossy(&output.stderr));
}

/// All samples of a file's sound.
fn samples(input: &[&str]) -> Vec<i16> {
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-xerror"])
        .args(input)
        .args(["-map", "a:0", "-ac", "1", "-f", "s16le", "-"])
        .stdin(Stdio::null())
        .output()
        .expect("run ffmpeg");
    assert!(output.status.success(), "{input:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout.chunks_exact(2).map(|two| i16::from_le_bytes([two[0], two[1]])).collect()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn g711_and_opus_are_in_both_kinds_of_clip() {
    let server = Server::start();
    let secret = server.publish_secret();
    std::thread::scope(|scope| {
        for (codec, rate) in CASES {
            let (server, secret) = (&server, &secret);
            scope.spawn(move || push(server, secret, codec, rate));
        }
    });
    let folder = tempfile::tempdir().expect("a folder");
    for (codec, rate) in CASES {
        server.wait_idle(codec);
        let blocks = server.blocks_of(codec);
        assert_eq!(blocks.len(), 1);
        let stored = samples(&["-i", text(&blocks[0])]);
        let start = server.fragments(codec)[0]["producer_time"].as_str().expect("a time").to_owned();
        let start: jiff::Timestamp = start.parse().expect("RFC 3339");
        let at = |ms: i64| (start + jiff::SignedDuration::from_millis(ms)).to_string();
        let clip = |from: i64, to: i64, format: &str| -> PathBuf {
            let path = format!("/v1/streams/{codec}/clip.mp4?from={}&to={}&format={format}", at(from), at(to));
            let answer = server.get(&path);
            assert_eq!(answer.status, 200, "{codec}: {}", answer.text());
            let file = folder.path().join(format!("{codec}-{from}-{format}.mp4"));
            std::fs::write(&file, &answer.body).expect("written");
            file
        };
        if codec != "libopus" {
            let file = folder.path().join(format!("{codec}.wav"));
            encode(codec, rate, &file);
            assert!(stored == samples(&["-i", text(&file)]), "{codec}: what was sent is stored");
            assert_eq!(stored.len(), SECONDS * rate as usize);
        }
        for format in ["mp4", "fmp4"] {
            let what = format!("{codec} as {format}");
            let whole = clip(-5, 60_000, format);
            let got = samples(&["-i", text(&whole)]);
            // The encoder of Opus is 6.5 ms late: what comes before the first picture is hidden where there is an edit list.
            let hidden = if codec == "libopus" && format == "mp4" { 310..=313 } else { 0..=0 };
            assert!(hidden.contains(&(stored.len() - got.len())), "{what}: {} of {}", got.len(), stored.len());
            assert!(stored.ends_with(&got[got.len() - 100..]), "{what}: to the end");
            assert_eq!(decoded_frames(text(&whole)), 25 * SECONDS as u64, "{what}");
            let sound = packets(text(&whole), 'a');
            let is_even = |pair: &[Packet], step: f64| (pair[1].pts - pair[0].pts - step).abs() < 0.001;
            let steps: Vec<f64> =
                packets(text(&blocks[0]), 'a').windows(2).map(|pair| pair[1].pts - pair[0].pts).collect();
            let is_in_step = sound.windows(2).zip(&steps).all(|(pair, step)| is_even(pair, *step));
            assert!(is_in_step || format == "mp4", "{what}: sound goes on as it was sent: {sound:?}");

            let part = clip(1_995, 4_995, format);
            assert_eq!(decoded_frames(text(&part)), 75, "{what}");
            let got = samples(&["-i", text(&part)]);
            let seconds = got.len() as f64 / f64::from(rate);
            // Sound ends with the frame in which the last picture ends; one of G.711 is 128 ms.
            assert!((2.9..3.13).contains(&seconds), "{what}: {seconds} s of sound");
            let begins = packets(text(&part), 'a')[0].pts.max(0.0);
            // The same samples, where they were beside the pictures; Opus must be decoded for a while to be the same.
            let skipped = got.len() / 2;
            let some = &got[skipped..skipped + 500];
            let found = stored.windows(some.len()).position(|window| window == some);
            let found = found.unwrap_or_else(|| panic!("{what}: they are others")) - skipped;
            let lead = if codec == "libopus" { 0.0065 } else { 0.0 };
            let off = found as f64 / f64::from(rate) - lead - 2.0 - begins;
            assert!(off.abs() < 0.002, "{what}: sound is {off} s off");
        }
    }
}

/// Encodes what is pushed into a file.
fn encode(codec: &str, rate: u32, file: &Path) {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "error", "-f", "lavfi", "-i", &noise(rate), "-t", &SECONDS.to_string()]);
    let output = command.args(["-ac", "1", "-c:a", codec]).arg(file).stdin(Stdio::null()).output();
    let output = output.expect("run ffmpeg");
    assert!(output.status.success(), "{codec}: {}", String::from_utf8_lossy(&output.stderr));
}
