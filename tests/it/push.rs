//! Real clients push real clips; what is recorded is what was sent.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::clips::clip;
use crate::media_files::{Packet, decoded_frames, packets, shown_at};
use crate::server::{Server, signal};
use crate::wire::Tap;

/// Who pushes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Client {
    FFmpeg,
    GStreamer,
    Kinora,
}

/// Pushes `file` to `url` at its own pace and waits until the client has ended by itself.
///
/// # Panics
/// When the client reports failure.
pub(crate) fn push(client: Client, transport: &str, file: &Path, url: &str, secret: &str) {
    let file = file.to_str().expect("a UTF-8 path");
    let command = match client {
        Client::FFmpeg => {
            let mut command = Command::new("ffmpeg");
            command.args(["-nostdin", "-hide_banner", "-v", "error", "-re", "-i", file, "-c", "copy"]);
            if file.ends_with(".ts") {
                // AAC in a transport stream has its description in each frame. RTP wants it once, in front, where
                // FFmpeg 5.1 has it from an encoder alone.
                command.args(["-c:a", "aac"]);
            }
            command.args(["-f", "rtsp", "-rtsp_transport", transport, url]);
            command
        }
        Client::GStreamer => {
            let parse = if file.contains("hevc") { "h265parse" } else { "h264parse" };
            let pipeline = format!(
                "rtspclientsink name=sink protocols={transport} location={url} user-id=camera user-pw={secret} \
                 filesrc location={file} ! qtdemux name=file \
                 file.video_0 ! queue ! {parse} ! sink. file.audio_0 ! queue ! aacparse ! sink."
            );
            let mut command = Command::new("gst-launch-1.0");
            command.arg("-q").args(pipeline.split_whitespace());
            command
        }
        Client::Kinora => {
            let mut command = Command::new(env!("CARGO_BIN_EXE_kinora"));
            command.args(["publish", file, url, &format!("--{transport}")]);
            command
        }
    };
    let output = run_to_end(command);
    let said = String::from_utf8_lossy(&output.stderr);
    // `rtspclientsink` ends without a TEARDOWN: it closes its socket, and under load its own last send finds it closed.
    let closed_itself = matches!(client, Client::GStreamer) && said.contains("Received end-of-file");
    assert!(output.status.success() || closed_itself, "{client:?} {transport} {file}: {said}");
}

/// Runs a client until it has ended.
///
/// GStreamer 1.22's `rtspclientsink` now and then never says that its stream has ended: all packets are sent, and it waits.
/// Then it gets the Ctrl-C that a person would give it; the counts of what was recorded judge whether all was there.
pub(crate) fn run_to_end(mut command: Command) -> Output {
    const PATIENCE: Duration = Duration::from_secs(30);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("start the client");
    let started = Instant::now();
    while child.try_wait().expect("wait for the client").is_none() {
        if started.elapsed() > PATIENCE {
            signal(child.id(), "INT");
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    child.wait_with_output().expect("wait for the client")
}

/// How many packets at the end of a file never leave the client.
///
/// FFmpeg collects AAC frames until the next one would not fit into an RTP packet of 1,472 bytes (12 of them header,
/// and 102 kept for AU headers), or 0.7 s are in it, and its muxer has no flush: what is collected at the end of a file
/// is lost in FFmpeg (libavformat/rtpenc_aac.c).
///
/// GStreamer's `qtdemux` takes the edit list that skips the encoder's delay for the end of the track too, and does not
/// give out the last packet.
fn never_sent(client: Client, packets: &[Packet], kind: char) -> usize {
    const ROOM: u64 = 1_472 - 12;
    const HEADERS: u64 = 2 + 2 * 50;
    match (client, kind) {
        (Client::FFmpeg, 'a') => {}
        (Client::GStreamer, 'a') => return 1,
        _ => return 0,
    }
    let (mut first, mut collected, mut count) = (0.0, 0, 0);
    for packet in packets {
        if count > 0 && (HEADERS + collected + packet.size > ROOM || packet.pts - first >= 0.7) {
            (collected, count) = (0, 0);
        }
        if count == 0 {
            first = packet.pts;
        }
        (collected, count) = (collected + packet.size, count + 1);
    }
    count
}

/// What must hold of `stream` after `file` was pushed into it: all frames, at the times they were sent with, in one
/// piece, playable as a file and over HLS.
fn check_recorded(server: &Server, client: Client, stream: &str, file: &Path, hls_token: &str) {
    let file = file.to_str().expect("a UTF-8 path");
    let blocks = server.blocks_of(stream);
    assert_eq!(blocks.len(), 1, "{stream}: a few seconds are one block");
    let block = blocks[0].to_str().expect("a UTF-8 path");
    for kind in ['v', 'a'] {
        let (sent, stored) = (packets(file, kind), packets(block, kind));
        let sent = &sent[..sent.len() - never_sent(client, &sent, kind)];
        let sizes = |packets: &[Packet]| packets.iter().map(|packet| packet.size).collect::<Vec<_>>();
        assert_eq!(stored.len(), sent.len(), "{stream}: count of packets of kind {kind}");
        let strictly = stored.windows(2).all(|pair| pair[0].dts < pair[1].dts);
        assert!(strictly, "{stream}: decode times of kind {kind} increase strictly");
        assert!(
            stored.iter().all(|packet| packet.dts <= packet.pts),
            "{stream}: nothing is shown before it is decoded"
        );
        if kind == 'a' {
            assert_eq!(sizes(&stored), sizes(sent), "{stream}: sizes of packets of sound");
        }
        let (sent, stored) = (shown_at(sent), shown_at(&stored));
        let off = sent.iter().zip(&stored).map(|(sent, stored)| (sent - stored).abs()).max();
        assert!(off <= Some(1), "{stream}: presentation times of kind {kind} are {off:?} ms off those sent");
    }
    let frames = packets(file, 'v').len() as u64;
    assert_eq!(decoded_frames(block), frames, "{stream}: frames decoded from the block file");

    let fragments = server.fragments(stream);
    let (first, last) = (&fragments[0], &fragments[fragments.len() - 1]);
    let from = first["producer_time"].as_str().expect("a time");
    let to = crate::server::later(last["producer_time"].as_str().expect("a time"), 60);
    let vod = format!("{}/hls/{stream}/index.m3u8?from={from}&to={to}&token={hls_token}", server.http);
    assert_eq!(decoded_frames(&vod), frames, "{stream}: frames decoded over HLS");
}

#[test]
fn every_client_transport_and_codec_is_recorded_whole() {
    let server = Server::start();
    let secret = server.publish_secret();
    let token = server.play_token();
    let mut cases = Vec::new();
    for client in [Client::FFmpeg, Client::GStreamer, Client::Kinora] {
        for transport in ["tcp", "udp"] {
            for name in ["plain", "bframes", "hevc"] {
                cases.push((client, transport, name));
            }
        }
    }
    // All at once: each takes as long as its clip.
    std::thread::scope(|scope| {
        for &(client, transport, name) in &cases {
            let (server, secret, token) = (&server, &secret, &token);
            scope.spawn(move || {
                let stream = format!("{client:?}-{transport}-{name}");
                let file = clip(&format!("{name}.mp4"));
                // Over TCP, what passes is counted; over UDP the same client sends the same.
                let tap = (transport == "tcp").then(|| Tap::start(server));
                let url = match &tap {
                    Some(tap) => format!("rtsp://camera:{secret}@{}/{stream}", tap.address),
                    None => server.push_url(secret, &stream),
                };
                push(client, transport, &file, &url, secret);
                server.wait_idle(&stream);
                if let Some(tap) = tap {
                    let (passed, block) = (tap.recording(), server.blocks_of(&stream).remove(0));
                    for kind in ['v', 'a'] {
                        let stored = packets(block.to_str().expect("a UTF-8 path"), kind).len();
                        assert_eq!(stored, passed.frames(kind), "{stream}: frames of kind {kind} that passed");
                    }
                }
                check_recorded(server, client, &stream, &file, token);
            });
        }
    });
}

#[test]
fn edge_cases_are_recorded_whole() {
    let server = Server::start();
    let secret = server.publish_secret();
    std::thread::scope(|scope| {
        for (name, kinds) in
            [("opengop.mp4", "va"), ("gop10.mp4", "va"), ("video-only.mp4", "v"), ("audio-only.mp4", "a")]
        {
            let (server, secret) = (&server, &secret);
            scope.spawn(move || {
                let stream = name.trim_end_matches(".mp4");
                let file = clip(name);
                push(Client::FFmpeg, "tcp", &file, &server.push_url(secret, stream), secret);
                server.wait_idle(stream);
                let block = server.blocks_of(stream).remove(0);
                for kind in kinds.chars() {
                    let sent = packets(file.to_str().expect("UTF-8"), kind);
                    let sent = sent.len() - never_sent(Client::FFmpeg, &sent, kind);
                    let stored = packets(block.to_str().expect("UTF-8"), kind).len();
                    assert_eq!(stored, sent, "{name}: packets of kind {kind}");
                }
            });
        }
    });
}

#[test]
fn a_change_of_resolution_is_a_new_track_set_and_loses_no_frame() {
    let server = Server::start();
    let secret = server.publish_secret();
    let file = clip("resize.ts");
    push(Client::FFmpeg, "tcp", &file, &server.push_url(&secret, "resize"), &secret);
    server.wait_idle("resize");
    let blocks = server.blocks_of("resize");
    assert_eq!(blocks.len(), 2, "a new size seals the block");
    let frames: u64 = blocks.iter().map(|block| decoded_frames(block.to_str().expect("UTF-8"))).sum();
    assert_eq!(frames, 200);
    let playlist = server.get("/hls/resize/video.m3u8?from=0").text();
    assert_eq!(playlist.matches("#EXT-X-MAP").count(), 2, "{playlist}");
    assert_eq!(playlist.matches("#EXT-X-DISCONTINUITY\n").count(), 1, "{playlist}");
    let sound = server.get("/hls/resize/audio.m3u8?from=0").text();
    assert_eq!(sound.matches("#EXT-X-MAP").count(), 2, "{sound}");
}
