//! Runs the shell and Python samples as a reader of them would.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::clips::clip;
use crate::media_files::{decoded_frames, packets};
use crate::push::run_to_end;
use crate::server::{Server, later, wait_for};

/// What samples find programs by: first of all the Python with NumPy that `scripts/python` made.
fn search_path() -> String {
    let made = std::env::var_os("KINORA_PYTHON")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".cache/python"), PathBuf::from)
        .join("samples/bin");
    assert!(made.join("python3").exists(), "{} has no python3: run `make python`", made.display());
    format!("{}:{}", made.display(), std::env::var("PATH").expect("a PATH"))
}

fn run(server: &Server, secret: &str, token: &str, sample: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(format!("{}/samples/{sample}", env!("CARGO_MANIFEST_DIR")));
    command
        .args(arguments)
        .env("PATH", search_path())
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
    pictures(&server, &secret, &token);
    webrtc(&server, &secret, file);
}

/// Samples that publish and watch over WebRTC, by aiortc.
fn webrtc(server: &Server, secret: &str, file: &str) {
    std::thread::scope(|scope| {
        for (codec, stream) in [("H264", "by-aiortc"), ("VP8", "by-aiortc-as-vp8")] {
            scope.spawn(move || {
                run(server, secret, &server.admin, "whip-publish.py", &[file, stream, codec]);
                server.wait_idle(stream);
                let info = server.json(&format!("/v1/streams/{stream}"));
                assert_eq!(info["tracks"][0]["codec"], codec.to_lowercase(), "{info}");
                let blocks = server.blocks_of(stream);
                let stored = |kind| -> usize {
                    blocks.iter().map(|block| packets(block.to_str().expect("UTF-8"), kind).len()).sum()
                };
                // Frames of 20 ms; the first ones may be sent before the peer is connected.
                assert!(stored('v') >= 195 && stored('a') >= 380, "{stream}: {} and {}", stored('v'), stored('a'));
                let picture = server.get(&format!("/v1/streams/{stream}/frames?at=latest&width=16"));
                assert_eq!(picture.status, 200, "{}", picture.text());
            });
        }
        scope.spawn(|| {
            let _camera = camera(server, secret, "watched");
            let told = run(server, secret, &server.admin, "whep-view.py", &["watched", "60"]);
            let times: Vec<f64> = told.lines().filter_map(|line| line.split(' ').next()?.parse().ok()).collect();
            assert_eq!(times.len(), 60, "{told}");
            assert!(times.windows(2).all(|pair| pair[0] <= pair[1]), "{told}");
            assert!(told.lines().all(|line| line.contains(" (360, 640, 3) brightness ")), "{told}");
        });
    });
}

/// A camera that films until it is dropped, once it is watched.
struct Camera(std::process::Child);

impl Drop for Camera {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn camera(server: &Server, secret: &str, stream: &str) -> Camera {
    let camera = Command::new(env!("CARGO_BIN_EXE_kinora"))
        .args(["publish", clip("plain.mp4").to_str().expect("UTF-8"), &server.push_url(secret, stream), "--loop"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let camera = Camera(camera.expect("start a camera"));
    wait_for("a first picture", Duration::from_secs(20), || {
        (server.get(&format!("/v1/streams/{stream}/frames?at=latest&width=16")).status == 200).then_some(())
    });
    camera
}

/// Samples that take pictures, of the eight seconds that FFmpeg has pushed and of a camera that goes on.
fn pictures(server: &Server, secret: &str, token: &str) {
    let run = |sample: &str, arguments: &[&str]| run(server, secret, token, sample, arguments);
    let fragments = server.fragments("by-ffmpeg");
    let from = fragments[0]["producer_time"].as_str().expect("a time");
    let path = |name: &str| server.data().join(name).to_str().expect("UTF-8").to_owned();

    run("picture.sh", &["by-ffmpeg", &later(from, 2), &path("then.jpg")]);
    let jpeg = std::fs::read(path("then.jpg")).expect("a file");
    assert_eq!((&jpeg[..3], &jpeg[jpeg.len() - 2..]), (&[0xff, 0xd8, 0xff][..], &[0xff, 0xd9][..]), "a whole JPEG");

    // From a picture amid a fragment: what the file shows begins with it.
    let picture = server.get(&format!("/v1/streams/by-ffmpeg/frames?at={}&width=16", later(from, 2)));
    let start = picture.headers["kinora-time"].to_str().expect("text").to_owned();
    run("clip.sh", &["by-ffmpeg", &start, &later(&start, 3), &path("clip.mp4")]);
    assert_eq!(decoded_frames(&path("clip.mp4")), 75, "three seconds of pictures, exactly");

    let told = run("frames-to-numpy.py", &["by-ffmpeg", from, &later(from, 3), "1s"]);
    assert!(told.starts_with("(3, 360, 640, 3) uint8 from "), "{told}");

    let told = run("every-nth-second.py", &["by-ffmpeg", from, "2", &path("day")]);
    let files = std::fs::read_dir(path("day")).expect("listed");
    let files: Vec<String> =
        files.map(|file| file.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    assert_eq!((told.lines().count(), files.len()), (4, 4), "0, 2, 4 and 6 of 8 seconds: {files:?}");
    assert!(files.iter().all(|name| name.starts_with("by-ffmpeg-2") && name.ends_with("Z.jpg")), "{files:?}");

    let _camera = camera(server, secret, "live");
    let told = run("newest.py", &["live", "3"]);
    let times: Vec<&str> = told.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(times.len() == 3 && times.windows(2).all(|pair| pair[0] < pair[1]), "each newer than the last: {told}");
    assert!(told.lines().all(|line| line.contains("(360, 640, 3) brightness ")), "{told}");
}
