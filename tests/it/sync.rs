//! Sound and picture stay in step: a clip with a white flash and a beep at each full second, pushed by real clients
//! and measured in the block file by two players that share no code.

use std::process::{Command, Stdio};

use crate::clips::clip;
use crate::push::{Client, push};
use crate::server::Server;

/// One picture, in seconds.
const PICTURE: f64 = 0.04;
/// Sound is measured in pieces of 5 ms; two of them, in seconds.
const EXACT: f64 = 0.01;
/// A picture is a flash above this luma, of 1.
const BRIGHT: f64 = 0.5;
/// A beep is louder than this, in dB; between beeps there is next to nothing.
const LOUD: f64 = -20.0;

/// Plays a file.
type Play = fn(&str) -> Played;

/// What a player showed and played: luma of pictures and peaks of short pieces of sound, with their times.
#[derive(Debug, Default)]
pub(crate) struct Played {
    pictures: Vec<(f64, f64)>,
    sound: Vec<(f64, f64)>,
}

impl Played {
    /// When each flash, and each beep, begins.
    fn starts(samples: &[(f64, f64)], above: f64) -> Vec<f64> {
        let on = |at: usize| samples[at].1 > above;
        let begins = |at: &usize| on(*at) && (*at == 0 || !on(*at - 1));
        (0..samples.len()).filter(begins).map(|at| samples[at].0).collect()
    }

    /// When each flash begins, in seconds.
    pub(crate) fn flashes(&self) -> Vec<f64> {
        Self::starts(&self.pictures, BRIGHT)
    }

    /// For each of the ten flashes how many seconds later its beep was heard.
    pub(crate) fn beeps_after_flashes(&self, what: &str) -> Vec<f64> {
        self.beeps_after(10, what)
    }

    /// For each of `count` flashes how many seconds later its beep was heard.
    pub(crate) fn beeps_after(&self, count: usize, what: &str) -> Vec<f64> {
        let (flashes, beeps) = (Self::starts(&self.pictures, BRIGHT), Self::starts(&self.sound, LOUD));
        assert_eq!((flashes.len(), beeps.len()), (count, count), "{what}: flashes {flashes:?} and beeps {beeps:?}");
        flashes.iter().zip(&beeps).map(|(flash, beep)| beep - flash).collect()
    }
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().expect("run the player");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Pairs of `pts_time:…` and `key=…` that FFmpeg's metadata filter prints.
fn printed(text: &str) -> Vec<(f64, f64)> {
    let mut time = f64::NAN;
    let mut samples = Vec::new();
    for line in text.lines() {
        if let Some((_, at)) = line.split_once("pts_time:") {
            time = at.trim().parse().expect("a time");
        } else if let Some((_, value)) = line.split_once('=') {
            samples.push((time, value.trim().parse().expect("a number, or -inf")));
        }
    }
    samples
}

pub(crate) fn ffmpeg(file: &str) -> Played {
    let decode = |map: &str, option: &str, filter: &str| {
        let input = ["-nostdin", "-hide_banner", "-v", "error", "-copyts", "-i", file, "-map", map];
        printed(&run("ffmpeg", &[&input[..], &[option, filter, "-f", "null", "-"]].concat()))
    };
    let luma = decode("0:v", "-vf", "signalstats,metadata=print:key=lavfi.signalstats.YAVG:file=-");
    let peak =
        "asetnsamples=n=240,astats=metadata=1:reset=1,ametadata=print:key=lavfi.astats.Overall.Peak_level:file=-";
    Played {
        pictures: luma.into_iter().map(|(time, luma)| (time, luma / 255.0)).collect(),
        sound: decode("0:a", "-af", peak),
    }
}

pub(crate) fn gstreamer(file: &str) -> Played {
    let pipeline = format!(
        "filesrc location={file} ! decodebin name=file \
         file. ! queue ! videoconvert ! videoanalyse ! fakesink sync=false \
         file. ! queue ! audioconvert ! level interval=5000000 ! fakesink sync=false"
    );
    let arguments: Vec<_> = std::iter::once("-m").chain(pipeline.split_whitespace()).collect();
    let text = run("gst-launch-1.0", &arguments);
    let number = |line: &str, name: &str| -> f64 {
        let (_, rest) = line.split_once(name).unwrap_or_else(|| panic!("no {name} in {line}"));
        let rest = rest.split_once(')').map_or(rest, |(_, rest)| rest).trim_start_matches(['<', ' ']);
        let end = rest.find([',', ';', ' ']).unwrap_or(rest.len());
        rest[..end].parse().unwrap_or_else(|_| panic!("{name} in {line}"))
    };
    let seconds = |line: &str| number(line, "stream-time=") / 1e9;
    let mut played = Played::default();
    for line in text.lines() {
        if line.contains("GstVideoAnalyse,") {
            played.pictures.push((seconds(line), number(line, "luma-average=")));
        } else if line.contains(": level,") {
            played.sound.push((seconds(line), number(line, "peak=")));
        }
    }
    played
}

#[test]
fn beeps_stay_with_their_flashes_in_every_player() {
    let server = Server::start();
    let secret = server.publish_secret();
    let file = clip("flash-beep.mp4");
    let path = file.to_str().expect("a UTF-8 path");
    let players: [(&str, Play); 2] = [("FFmpeg", ffmpeg), ("GStreamer", gstreamer)];
    let sent = players.map(|(player, play)| play(path).beeps_after_flashes(&format!("sent, in {player}")));
    for (offsets, (player, _)) in sent.iter().zip(&players) {
        assert!(offsets.iter().all(|offset| offset.abs() < PICTURE), "the clip itself in {player}: {offsets:?}");
    }
    std::thread::scope(|scope| {
        for client in [Client::FFmpeg, Client::GStreamer, Client::Kinora] {
            for transport in ["tcp", "udp"] {
                let (server, secret, file, sent) = (&server, &secret, &file, &sent);
                scope.spawn(move || {
                    let stream = format!("{client:?}-{transport}");
                    push(client, transport, file, &server.push_url(secret, &stream), secret);
                    server.wait_idle(&stream);
                    let block = server.blocks_of(&stream).remove(0);
                    for ((player, play), sent) in players.iter().zip(sent) {
                        let what = format!("{stream}, in {player}");
                        let stored = play(block.to_str().expect("a UTF-8 path")).beeps_after_flashes(&what);
                        let off = sent.iter().zip(&stored).map(|(sent, stored)| (stored - sent).abs());
                        let off: Vec<f64> = off.collect();
                        let said = format!("{what}: sent {sent:.3?}, stored {stored:.3?}");
                        assert!(off.iter().all(|off| *off <= PICTURE), "{said}");
                        // The first beep may be heard a frame early: the clip hides the encoder's first frame.
                        assert!(off[1..].iter().all(|off| *off <= EXACT), "{said}");
                    }
                });
            }
        }
    });
}
