//! Runs the shell samples as a reader of them would.

use std::process::Command;

use crate::clips::clip;
use crate::media_files::packets;
use crate::push::run_to_end;
use crate::server::{Server, later};

fn run(server: &Server, secret: &str, token: &str, sample: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(format!("{}/samples/{sample}", env!("CARGO_MANIFEST_DIR")));
    command
        .args(arguments)
        .env("KINORA_URL", &server.http)
        .env("KINORA_TOKEN", token)
        .env("KINORA_RTSP", &server.rtsp)
        .env("KINORA_SECRET", secret);
    let output = run_to_end(command);
    assert!(output.status.success(), "{sample}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn samples_do_what_they_say() {
    let server = Server::start();
    let (secret, token) = (server.publish_secret(), server.play_token());
    let file = clip("plain.mp4");
    let file = file.to_str().expect("UTF-8");
    for (sample, stream) in [("push-ffmpeg.sh", "by-ffmpeg"), ("push-gstreamer.sh", "by-gstreamer")] {
        run(&server, &secret, &token, sample, &[file, stream]);
        server.wait_idle(stream);
        let block = server.blocks_of(stream).remove(0);
        let block = block.to_str().expect("UTF-8");
        assert_eq!(packets(block, 'v').len(), 200, "{sample}");
        assert!(packets(block, 'a').len() >= 370, "{sample}: sound as well");
    }
    let spans = run(&server, &secret, &server.admin, "timeline.sh", &["by-ffmpeg"]);
    assert_eq!(spans.lines().filter(|line| line.starts_with("recorded")).count(), 1, "{spans}");
    let fragments = server.fragments("by-ffmpeg");
    let from = fragments[2]["producer_time"].as_str().expect("a time");
    let copy = server.data().join("copy.mp4");
    let copy = copy.to_str().expect("UTF-8");
    run(&server, &secret, &token, "range.sh", &["by-ffmpeg", from, &later(from, 3), copy]);
    let copied = packets(copy, 'v').len();
    assert!((75..=100).contains(&copied), "three seconds and what their fragments hold: {copied} pictures");
}
