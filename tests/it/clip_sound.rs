//! Sound in clips, encoded and pushed by FFmpeg, and played by it: what cameras send besides AAC, and silence where nothing was
//! recorded.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::clips;
use crate::media_files::{Packet, decoded_frames, packets};
use crate::push::run_to_end;
use crate::server::Server;
use crate::sync;

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
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{input:?}: {said}");
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

/// A kind of sound, and how FFmpeg is told to make it.
struct Kind {
    name: &'static str,
    options: &'static [&'static str],
    rate: usize,
    /// Samples of a unit of silence.
    unit: usize,
}

const fn kind(name: &'static str, options: &'static [&'static str], rate: usize, unit: usize) -> Kind {
    Kind { name, options, rate, unit }
}

/// Every kind whose silence is known.
const SILENT: [Kind; 10] = [
    kind("aac-1", &["-c:a", "aac", "-ac", "1"], 48_000, 1_024),
    kind("aac-2", &["-c:a", "aac", "-ac", "2"], 48_000, 1_024),
    kind("aac-3", &["-c:a", "aac", "-channel_layout", "3.0"], 48_000, 1_024),
    kind("aac-4", &["-c:a", "aac", "-channel_layout", "4.0"], 48_000, 1_024),
    kind("aac-5", &["-c:a", "aac", "-ac", "5"], 48_000, 1_024),
    kind("aac-6", &["-c:a", "aac", "-ac", "6"], 48_000, 1_024),
    kind("aac-16k", &["-c:a", "aac", "-ac", "1", "-ar", "16000"], 16_000, 1_024),
    kind("opus", &["-c:a", "libopus", "-ac", "2"], 48_000, 960),
    kind("pcmu", &["-c:a", "pcm_mulaw", "-ac", "1", "-ar", "8000"], 8_000, 160),
    kind("pcma", &["-c:a", "pcm_alaw", "-ac", "1", "-ar", "8000"], 8_000, 160),
];
/// Flashes of a session, one a second.
const FLASHES: usize = 3;
/// The smallest sample that A-law has is 8; what a decoder holds of the last unit dies away below that.
const QUIET: u16 = 8;

/// Pushes flashes with beeps, over noise that is never quiet for long.
fn push_beeps(server: &Server, secret: &str, kind: &Kind) {
    let file = clips::clip("flash-beep.mp4");
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-hide_banner", "-v", "error", "-re", "-i", text(&file)]);
    command.args(["-f", "lavfi", "-i", "anoisesrc=seed=7:sample_rate=48000:amplitude=0.02"]);
    command.args(["-filter_complex", "[0:a][1:a]amix=inputs=2:duration=first:normalize=0[sound]"]);
    command.args(["-map", "0:v", "-map", "[sound]", "-t", &FLASHES.to_string(), "-c:v", "copy"]).args(kind.options);
    command.args(["-f", "rtsp", "-rtsp_transport", "tcp", &server.push_url(secret, kind.name)]);
    let output = run_to_end(command);
    assert!(output.status.success(), "{}: {}", kind.name, String::from_utf8_lossy(&output.stderr));
}

/// When each beep begins, in seconds by the count of samples.
fn beeps(samples: &[i16], rate: usize) -> Vec<f64> {
    let piece = rate / 200;
    let loud: Vec<bool> = samples.chunks(piece).map(|some| some.iter().any(|one| one.unsigned_abs() > 3_000)).collect();
    let begins = |at: &usize| loud[*at] && (*at == 0 || !loud[*at - 1]);
    (0..loud.len()).filter(begins).map(|at| (at * piece) as f64 / rate as f64).collect()
}

/// The longest run of quiet samples.
fn quiet(samples: &[i16]) -> std::ops::Range<usize> {
    let (mut longest, mut start) = (0..0, 0);
    for (at, sample) in samples.iter().enumerate() {
        if sample.unsigned_abs() > QUIET {
            start = at + 1;
        } else if at + 1 - start > longest.len() {
            longest = start..at + 1;
        }
    }
    longest
}

#[test]
fn kept_gap_is_silent_for_players_that_count_and_for_those_that_look_at_times() {
    let server = Server::start();
    let secret = server.publish_secret();
    let push_all = || {
        std::thread::scope(|scope| {
            for kind in &SILENT {
                let (server, secret) = (&server, &secret);
                scope.spawn(move || push_beeps(server, secret, kind));
            }
        });
    };
    push_all();
    // The gap: as long as another stream takes.
    push(&server, &secret, "pcm_alaw", 8_000);
    push_all();
    let folder = tempfile::tempdir().expect("a folder");
    for kind in &SILENT {
        server.wait_idle(kind.name);
        let start = server.fragments(kind.name)[0]["producer_time"].as_str().expect("a time").to_owned();
        let start: jiff::Timestamp = start.parse().expect("RFC 3339");
        let at = |ms: i64| (start + jiff::SignedDuration::from_millis(ms)).to_string();
        for format in ["mp4", "fmp4"] {
            let what = format!("{} as {format}", kind.name);
            let query = format!("from={}&to={}&gaps=keep&format={format}", at(-5), at(60_000));
            let answer = server.get(&format!("/v1/streams/{}/clip.mp4?{query}", kind.name));
            assert_eq!(answer.status, 200, "{what}: {}", answer.text());
            let file = folder.path().join(format!("{}.{format}.mp4", kind.name));
            std::fs::write(&file, &answer.body).expect("written");
            let played = sync::ffmpeg(text(&file));
            let flashes = played.flashes();
            let gap = flashes[FLASHES] - flashes[FLASHES - 1];
            assert!(gap > 6.0, "{what}: {flashes:?}");
            let by_time = played.beeps_after(2 * FLASHES, &what);
            let sound = samples(&["-i", text(&file)]);
            let begins = packets(text(&file), 'a')[0].pts.max(0.0);
            let beeps = beeps(&sound, kind.rate);
            assert_eq!(beeps.len(), 2 * FLASHES, "{what}: {beeps:?}");
            let by_count = beeps.iter().zip(&flashes).map(|(beep, flash)| begins + beep - flash).collect::<Vec<_>>();
            // Beeps are looked for in pieces, by time of 240 samples and by count of 5 ms; and half a unit that the count may be off.
            let seconds = |samples: usize| samples as f64 / kind.rate as f64;
            let (time_most, count_most) = (seconds(480) + 0.001, seconds(kind.unit / 2) + 0.011);
            for (offsets, most) in [(&by_time, time_most), (&by_count, count_most)] {
                let off = offsets[FLASHES + 1] - offsets[1];
                assert!(off.abs() <= most, "{what}: {off} s off behind the gap: {by_time:.3?} {by_count:.3?}");
            }

            let quiet = quiet(&sound);
            // From the last beep to the end of the session, and from the beginning of the next to its first.
            let recorded = 1.0 - 0.04;
            let (silent, expected) = (seconds(quiet.len()), gap - recorded);
            assert!((silent - expected).abs() < 0.13, "{what}: {silent} s of silence, expected {expected}");
        }
    }
}
