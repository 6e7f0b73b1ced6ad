//! A push over datagrams that the way or the sender spoils: swapped, doubled, lost, wrapping, with wrong clocks.

use std::process::{Command, Stdio};

use crate::clips::clip;
use crate::dice::Dice;
use crate::media_files::{decoded_frames, packets};
use crate::server::Server;
use crate::sync;
use crate::wire::{self, Recording, Tap};

/// What FFmpeg sends for the clip with flashes and beeps, as fast as it is taken.
fn record(server: &Server) -> Recording {
    let tap = Tap::start(server);
    let secret = server.publish_secret();
    let file = clip("flash-beep.mp4");
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-i", file.to_str().expect("a UTF-8 path"), "-c", "copy", "-f", "rtsp"])
        .args(["-rtsp_transport", "tcp", &format!("rtsp://camera:{secret}@{}/source", tap.address)])
        .stdin(Stdio::null())
        .output()
        .expect("run ffmpeg");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    server.wait_idle("source");
    tap.recording()
}

struct Bench {
    server: Server,
    token: String,
    recording: Recording,
}

impl Bench {
    fn new() -> Bench {
        let server = Server::start();
        let body = serde_json::json!({"streams": "*", "actions": ["publish", "create_stream"]});
        let answer = server.call("POST", "/v1/tokens", Some(body));
        assert_eq!(answer.status, 201, "{}", answer.text());
        let token = answer.json()["token"].as_str().expect("a token, shown once").to_owned();
        let recording = record(&server);
        Bench { server, token, recording }
    }

    /// Sends packets and gives the block that they became.
    fn send(&self, stream: &str, recording: &Recording) -> String {
        wire::send_datagrams(&self.server, &self.token, stream, &recording.sdp, &recording.packets);
        self.server.wait_idle(stream);
        let blocks = self.server.blocks_of(stream);
        assert_eq!(blocks.len(), 1, "{stream}");
        blocks[0].to_str().expect("a UTF-8 path").to_owned()
    }

    /// The block holds every frame that was sent, and plays.
    fn check_whole(&self, stream: &str, block: &str) {
        for kind in ['v', 'a'] {
            assert_eq!(packets(block, kind).len(), self.recording.frames(kind), "{stream}: kind {kind}");
        }
        assert_eq!(decoded_frames(block), self.recording.frames('v') as u64, "{stream}");
        let fragments = self.server.fragments(stream);
        assert!(fragments.iter().all(|fragment| fragment["damaged"] == false), "{stream}: {fragments:?}");
    }
}

#[test]
fn datagrams_may_be_swapped_doubled_or_lost_and_clocks_may_be_wrong() {
    let bench = Bench::new();
    assert_eq!(bench.recording.frames('v'), 250);
    std::thread::scope(|scope| {
        scope.spawn(|| bench.check_whole("source", bench.server.blocks_of("source")[0].to_str().expect("UTF-8")));
        scope.spawn(|| swapped_and_doubled(&bench));
        scope.spawn(|| lost(&bench));
        scope.spawn(|| wrapping(&bench));
        scope.spawn(|| without_reports(&bench));
        scope.spawn(|| hours_off(&bench));
    });
}

fn swapped_and_doubled(bench: &Bench) {
    let mut dice = Dice(0x5eed);
    let mut recording = bench.recording.clone();
    // The first packets say where order begins.
    let first = |channel| recording.packets.iter().position(|(other, _)| *other == channel).expect("a packet");
    let head = 1 + first(0).max(first(2));
    let tail = &mut recording.packets[head..];
    for window in tail.chunks_mut(6) {
        for at in (1..window.len()).rev() {
            window.swap(at, dice.roll(at + 1));
        }
    }
    let doubled = recording.packets.into_iter().flat_map(|packet| {
        let times = if dice.roll(10) == 0 { 2 } else { 1 };
        std::iter::repeat_n(packet, times)
    });
    recording.packets = doubled.collect();
    let block = bench.send("swapped", &recording);
    bench.check_whole("swapped", &block);
}

fn lost(bench: &Bench) {
    let mut dice = Dice(0xbad);
    let (mut recording, mut spoilt) = (bench.recording.clone(), Vec::new());
    let channel = recording.channel('v');
    let (whole, mut at) = (recording.packets.len(), 0);
    recording.packets.retain(|(other, bytes)| {
        at += 1;
        // The start, which needs its key picture, and the end, after which nothing tells of a loss, come through.
        let is_dropped = *other == channel && at > whole / 4 && at < whole - 50 && dice.roll(50) == 0;
        if is_dropped {
            spoilt.push(wire::timestamp(bytes));
        }
        !is_dropped
    });
    spoilt.dedup();
    assert!(spoilt.len() >= 3, "{spoilt:?}");
    let block = bench.send("lost", &recording);
    let sent = bench.recording.frames('v');
    assert_eq!(packets(&block, 'v').len(), sent - spoilt.len(), "each loss costs its picture");
    assert_eq!(packets(&block, 'a').len(), bench.recording.frames('a'));
    let fragments = bench.server.fragments("lost");
    assert_eq!(fragments[0]["damaged"], false, "nothing was lost at the start");
    assert!(fragments.iter().any(|fragment| fragment["damaged"] == true), "{fragments:?}");
    let breaks = fragments.iter().filter(|fragment| fragment["break_before"].is_string()).count();
    assert_eq!(breaks, 1, "recording goes on without a break: {fragments:?}");
}

fn wrapping(bench: &Bench) {
    let mut recording = bench.recording.clone();
    wire::wrap(&mut recording, (100, 200_000));
    let block = bench.send("wrapping", &recording);
    bench.check_whole("wrapping", &block);
}

fn without_reports(bench: &Bench) {
    let mut recording = bench.recording.clone();
    recording.packets.retain(|(channel, _)| channel % 2 == 0);
    let block = bench.send("without-reports", &recording);
    bench.check_whole("without-reports", &block);
}

fn hours_off(bench: &Bench) {
    const HOURS: u32 = 7 * 3_600;
    let mut recording = bench.recording.clone();
    let mut reports = 0;
    for (_, bytes) in recording.packets.iter_mut().filter(|(channel, bytes)| channel % 2 == 1 && bytes[1] == 200) {
        let seconds = u32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]) - HOURS;
        bytes[8..12].copy_from_slice(&seconds.to_be_bytes());
        reports += 1;
    }
    assert!(reports >= 2, "each track has a report");
    let block = bench.send("hours-off", &recording);
    bench.check_whole("hours-off", &block);
    let offsets = sync::ffmpeg(&block).beeps_after_flashes("hours off");
    assert!(offsets.iter().all(|offset| offset.abs() < 0.04), "wrong reports still relate the tracks: {offsets:?}");
    for fragment in bench.server.fragments("hours-off") {
        let time = |name: &str| fragment[name].as_str().expect("a time").parse::<jiff::Timestamp>().expect("RFC 3339");
        let off = time("producer_time").duration_since(time("server_time")).as_secs().abs();
        assert!(off < 60, "the time of arrival is believed: {fragment}");
    }
}
