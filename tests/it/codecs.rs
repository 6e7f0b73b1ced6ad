//! VP8, VP9 and AV1 all the way: real encoders, real publishers, and what comes out as pictures, clips and playlists.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::frames::{ALL, Part, by_ffmpeg, digest, frames, parts};
use crate::media_files::{decoded_frames, pictures};
use crate::push::{Client, run_to_end};
use crate::server::{Server, later};

/// Pictures of each clip, 25 a second.
const PICTURES: usize = 75;

/// A stream: its name, which is also the file's, how it is encoded, and who pushes it.
type Case = (&'static str, &'static [&'static str], Client);

const REAL_TIME: &[&str] = &["-deadline", "realtime", "-cpu-used", "8", "-g", "25", "-b:v", "400k"];

/// Three temporal layers.
const LAYERS: &str = "ts_number_layers=3:ts_target_bitrate=200,300,400:ts_rate_decimator=4,2,1:ts_periodicity=4:\
    ts_layer_id=0,2,1,2:ts_layering_mode=3";

const CASES: [Case; 11] = [
    ("vp8-ffmpeg.webm", &["-c:v", "libvpx"], Client::FFmpeg),
    ("vp8-gstreamer.webm", &["-c:v", "libvpx"], Client::GStreamer),
    ("vp9-ffmpeg.webm", &["-c:v", "libvpx-vp9"], Client::FFmpeg),
    ("vp9-gstreamer.webm", &["-c:v", "libvpx-vp9"], Client::GStreamer),
    ("vp9-kinora.mp4", &["-c:v", "libvpx-vp9"], Client::Kinora),
    // Hidden frames, in superframes: libvpx makes them when it has looked ahead.
    ("vp9-hidden.mp4", &["-c:v", "libvpx-vp9", "-deadline", "good", "-auto-alt-ref", "1", "-g", "50"], Client::Kinora),
    ("vp8-hidden.webm", &["-c:v", "libvpx", "-deadline", "good", "-auto-alt-ref", "1", "-g", "50"], Client::FFmpeg),
    // Pictures that no other needs, which are left out when they are not asked for.
    ("vp8-layers.webm", &["-c:v", "libvpx", "-error-resilient", "1", "-ts-parameters", LAYERS], Client::FFmpeg),
    ("vp9-layers.mp4", &["-c:v", "libvpx-vp9", "-error-resilient", "1", "-ts-parameters", LAYERS], Client::Kinora),
    ("av1-kinora.mp4", &["-c:v", "libaom-av1", "-usage", "realtime", "-lag-in-frames", "0"], Client::Kinora),
    // Hidden frames, and units that show them.
    (
        "av1-hidden.mp4",
        &["-c:v", "libaom-av1", "-cpu-used", "8", "-lag-in-frames", "19", "-g", "50", "-b:v", "400k"],
        Client::Kinora,
    ),
];

/// Encodes a moving picture into `folder`, where something is to be hidden in two passes.
fn encode(folder: &Path, (name, arguments, _): &Case) -> PathBuf {
    let path = folder.join(name);
    let log = folder.join(format!("{name}.log"));
    let passes: &[&str] = if name.starts_with("vp") && name.contains("hidden") { &["1", "2"] } else { &["0"] };
    for pass in passes {
        let mut command = Command::new("ffmpeg");
        command.args(["-nostdin", "-y", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=322x182:r=25"]);
        command.args(["-frames:v", &PICTURES.to_string(), "-pix_fmt", "yuv420p"]).args(REAL_TIME).args(*arguments);
        if *pass != "0" {
            command.args(["-pass", pass, "-passlogfile"]).arg(&log);
        }
        let output = command.arg(&path).stdin(Stdio::null()).output().expect("run ffmpeg");
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
    path
}

fn push(client: Client, file: &Path, url: &str, secret: &str) {
    let file = file.to_str().expect("a UTF-8 path");
    let mut command;
    match client {
        Client::FFmpeg => {
            command = Command::new("ffmpeg");
            command.args(["-nostdin", "-hide_banner", "-v", "error", "-re", "-i", file, "-c", "copy"]);
            // FFmpeg 5.1 calls its VP9 packets experimental.
            command.args(["-strict", "experimental", "-f", "rtsp", "-rtsp_transport", "tcp", url]);
        }
        Client::GStreamer => {
            command = Command::new("gst-launch-1.0");
            let pipeline = format!(
                "rtspclientsink name=sink protocols=tcp location={url} user-id=camera user-pw={secret} \
                 filesrc location={file} ! matroskademux ! queue ! sink."
            );
            command.arg("-q").args(pipeline.split_whitespace());
        }
        Client::Kinora => {
            command = Command::new(env!("CARGO_BIN_EXE_kinora"));
            command.args(["publish", file, url, "--tcp"]);
        }
    }
    let output = run_to_end(command);
    let said = String::from_utf8_lossy(&output.stderr);
    let closed_itself = matches!(client, Client::GStreamer) && said.contains("Received end-of-file");
    assert!(output.status.success() || closed_itself, "{client:?} {file}: {said}");
}

fn stream_of(file: &Path) -> &str {
    file.file_stem().and_then(|stem| stem.to_str()).expect("a name")
}

/// Digests of the pictures of a file as FFmpeg decodes them.
fn sent(file: &Path) -> Vec<String> {
    pictures(file.to_str().expect("a path")).into_iter().map(|(_, digest)| digest).collect()
}

#[test]
fn vp8_vp9_and_av1_are_recorded_and_come_out_as_they_were() {
    let server = Server::start();
    let folder = tempfile::tempdir().expect("a folder");
    let files: Vec<PathBuf> = CASES.iter().map(|case| encode(folder.path(), case)).collect();
    let secret = server.publish_secret();
    std::thread::scope(|scope| {
        for ((_, _, client), file) in CASES.iter().zip(&files) {
            let (url, secret) = (server.push_url(&secret, stream_of(file)), &secret);
            scope.spawn(move || push(*client, file, &url, secret));
        }
    });
    for file in &files {
        let stream = stream_of(file);
        server.wait_idle(stream);
        let expected = sent(file);
        assert_eq!(expected.len(), PICTURES, "{stream}");
        assert_eq!(by_ffmpeg(&server, stream), expected, "{stream}: FFmpeg plays the blocks");
        check_frames(&server, stream, &expected);
        check_clips(&server, folder.path(), stream, &expected);
        check_playlist(&server, stream);
    }
    republish(&server, folder.path(), &secret);
}

fn check_frames(server: &Server, stream: &str, expected: &[String]) {
    let all = parts(&frames(server, stream, &format!("{ALL}&format=i420")));
    let given: Vec<String> = all.iter().map(Part::digest).collect();
    assert_eq!(given.len(), expected.len(), "{stream}");
    assert!(given == expected, "{stream}: the pictures that were sent");
    for at in [0, 40, 1, 2, 24, 25, 26, 3, 47, all.len() - 1] {
        let one = frames(server, stream, &format!("format=i420&at={}", all[at].time()));
        assert_eq!(one.status, 200, "{stream} picture {at}: {}", one.text());
        assert_eq!(digest(&one.body), expected[at], "{stream} picture {at}");
    }
}

fn check_clips(server: &Server, folder: &Path, stream: &str, expected: &[String]) {
    let all = parts(&frames(server, stream, &format!("{ALL}&width=16")));
    for form in ["mp4", "fmp4"] {
        let range = format!("from={}&to={}", all[30].time(), all[60].time());
        let answer = server.get(&format!("/v1/streams/{stream}/clip.mp4?{range}&format={form}"));
        assert_eq!(answer.status, 200, "{stream}: {}", answer.text());
        let path = folder.join(format!("{stream}-{form}-clip.mp4"));
        std::fs::write(&path, &answer.body).expect("written");
        // FFmpeg 5.1 does not tell dav1d what an edit list hides: those pictures have times before 0.
        let shown = pictures(path.to_str().expect("a path")).into_iter().filter(|(at, _)| *at >= 0.0);
        assert!(shown.map(|(_, digest)| digest).eq(expected[30..60].iter().cloned()), "{stream}: a clip as {form}");
    }
}

fn check_playlist(server: &Server, stream: &str) {
    let token = server.play_token();
    let answer = server.get(&format!("/hls/{stream}/index.m3u8"));
    let notes = server.json(&format!("/v1/streams/{stream}"))["notes"].clone();
    if stream.starts_with("vp8") {
        assert_eq!(answer.status, 415, "{}", answer.text());
        assert!(answer.text().contains("it has Vp8"), "{}", answer.text());
        assert!(notes.to_string().contains("VP8 track 1 is stored and is not playable over HLS"), "{notes}");
        return;
    }
    let codec = if stream.starts_with("vp9") { "CODECS=\"vp09.00." } else { "CODECS=\"av01.0." };
    assert!(answer.status == 200 && answer.text().contains(codec), "{stream}: {}", answer.text());
    let url = format!("{}/hls/{stream}/index.m3u8?from=0&to=4102444800000&token={token}", server.http);
    assert_eq!(decoded_frames(&url), PICTURES as u64, "{stream}");
}

/// Encodes two sizes and puts their frames into one file, as an encoder that is told another size sends them: an IVF file is a head
/// of 32 bytes, and a size of 4 bytes and a time of 8 before each frame.
fn two_sizes(folder: &Path, name: &str, arguments: &[&str]) -> (PathBuf, [PathBuf; 2]) {
    let parts = ["320x180", "176x144"].map(|size| {
        let path = folder.join(format!("{name}-{size}.ivf"));
        let mut command = Command::new("ffmpeg");
        let source = format!("testsrc2=s={size}:r=25");
        command.args(["-nostdin", "-v", "error", "-f", "lavfi", "-i", &source, "-frames:v", "50"]);
        command.args(["-pix_fmt", "yuv420p"]).args(REAL_TIME).args(arguments).arg(&path);
        assert!(command.stdin(Stdio::null()).status().expect("run ffmpeg").success(), "{name}");
        path
    });
    let mut joined = std::fs::read(&parts[0]).expect("a file")[..32].to_vec();
    let mut count = 0u64;
    for part in &parts {
        let bytes = std::fs::read(part).expect("a file");
        let mut rest = &bytes[32..];
        while let Some((head, after)) = rest.split_first_chunk::<12>() {
            let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
            joined.extend([&head[..4], &count.to_le_bytes(), &after[..length]].concat());
            rest = &after[length..];
            count += 1;
        }
    }
    assert_eq!(count, 100, "{name}");
    let path = folder.join(format!("{name}-sizes.ivf"));
    std::fs::write(&path, joined).expect("written");
    (path, parts)
}

#[test]
fn another_size_in_band_is_a_new_track_set_and_loses_no_picture() {
    let server = Server::start();
    let folder = tempfile::tempdir().expect("a folder");
    let secret = server.publish_secret();
    let encoders: [(&str, &[&str]); 3] = [
        ("vp8", &["-c:v", "libvpx"]),
        ("vp9", &["-c:v", "libvpx-vp9"]),
        ("av1", &["-c:v", "libaom-av1", "-usage", "realtime", "-lag-in-frames", "0"]),
    ];
    let files = encoders.map(|(name, arguments)| two_sizes(folder.path(), name, arguments));
    std::thread::scope(|scope| {
        for ((name, _), (file, _)) in encoders.iter().zip(&files) {
            let (url, secret, file) = (server.push_url(&secret, name), &secret, file.clone());
            scope.spawn(move || match *name {
                // FFmpeg 5.1 has no RTP for AV1.
                "av1" => {
                    let boxed = file.with_extension("mp4");
                    let copy = ["-nostdin", "-v", "error", "-i", file.to_str().expect("a path"), "-c", "copy"];
                    let status = Command::new("ffmpeg").args(copy).arg(&boxed).stdin(Stdio::null()).status();
                    assert!(status.expect("run ffmpeg").success());
                    push(Client::Kinora, &boxed, &url, secret);
                }
                _ => push(Client::FFmpeg, &file, &url, secret),
            });
        }
    });
    for ((name, _), (_, parts_of)) in encoders.iter().zip(&files) {
        server.wait_idle(name);
        assert_eq!(server.blocks_of(name).len(), 2, "{name}: a new size seals the block");
        let expected: Vec<String> = parts_of.iter().flat_map(|part| sent(part)).collect();
        assert_eq!(by_ffmpeg(&server, name), expected, "{name}: FFmpeg plays the blocks");
        check_frames(&server, name, &expected);
        let all = parts(&frames(&server, name, &format!("{ALL}&width=16")));
        let range = format!("from={}&to={}", all[0].time(), later(all[99].time(), 1));
        let answer = server.get(&format!("/v1/streams/{name}/clip.mp4?{range}"));
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        let path = folder.path().join(format!("{name}-clip.mp4"));
        std::fs::write(&path, &answer.body).expect("written");
        let sizes = Command::new("ffprobe")
            .args(["-v", "error", "-select_streams", "v", "-show_entries", "frame=width", "-of", "csv=p=0"])
            .arg(&path)
            .output()
            .expect("run ffprobe");
        let sizes = String::from_utf8(sizes.stdout).expect("UTF-8");
        let count = |size: &str| sizes.lines().filter(|line| line.trim_end_matches(',') == size).count();
        assert_eq!((count("320"), count("176")), (50, 50), "{name}: {sizes}");
    }
}

/// Chromium starts with the lowest layer and adds the next when the way is wide enough, without a key frame.
#[test]
fn layers_of_vp9_make_pictures_larger_than_their_track() {
    let server = Server::start();
    let folder = tempfile::tempdir().expect("a folder");
    let secret = server.publish_secret();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/codecs/chromium-vp9-l3t3.ivf");
    let boxed = folder.path().join("layers.mp4");
    let copy = ["-nostdin", "-v", "error", "-i", file.to_str().expect("a path"), "-c", "copy"];
    let status = Command::new("ffmpeg").args(copy).arg(&boxed).stdin(Stdio::null()).status();
    assert!(status.expect("run ffmpeg").success());
    push(Client::Kinora, &boxed, &server.push_url(&secret, "layers"), &secret);
    server.wait_idle("layers");
    let given = parts(&frames(&server, "layers", &format!("{ALL}&format=i420")));
    let widths: Vec<&str> = given.iter().map(|part| part.headers["kinora-width"].as_str()).collect();
    assert_eq!(widths, [&["320"; 8][..], &["640"; 12]].concat(), "one picture a unit, of its highest layer");
    assert_eq!(given[19].body.len(), 640 * 360 * 3 / 2);
    let one = frames(&server, "layers", &format!("format=i420&at={}", given[12].time()));
    assert_eq!(digest(&one.body), given[12].digest());
}

/// A clip of VP8, which FFmpeg 5.1 does not write, is read by `kinora publish`.
fn republish(server: &Server, folder: &Path, secret: &str) {
    let answer = server.get(&format!("/v1/streams/vp8-ffmpeg/clip.mp4?{ALL}"));
    let path = folder.join("again.mp4");
    std::fs::write(&path, &answer.body).expect("written");
    push(Client::Kinora, &path, &server.push_url(secret, "again"), secret);
    server.wait_idle("again");
    assert_eq!(by_ffmpeg(server, "again"), by_ffmpeg(server, "vp8-ffmpeg"));
}
