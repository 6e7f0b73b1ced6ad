//! Clips of real recordings, judged by players that share no code with us: the first picture is the one that was asked for, no
//! picture is missing or too many, sound and picture stay in step, and parts of a file are parts of the whole.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use crate::clips::clip;
use crate::media_files::{packets, pictures};
use crate::push::{Client, push};
use crate::server::{Answer, Server};
use crate::sync::{ffmpeg, gstreamer};

/// One picture of the clips, in microseconds.
const PICTURE_US: i64 = 40_000;

/// Pushes each clip into the stream of its name, all at once.
fn record(server: &Server, names: &[&str]) {
    let secret = server.publish_secret();
    std::thread::scope(|scope| {
        for name in names {
            let (server, secret) = (server, &secret);
            scope.spawn(move || {
                let file = clip(&format!("{name}.mp4"));
                push(Client::Kinora, "tcp", &file, &server.push_url(secret, name), secret);
                server.wait_idle(name);
            });
        }
    });
}

fn micros(value: &Value) -> i64 {
    value.as_str().expect("a time").parse::<jiff::Timestamp>().expect("RFC 3339").as_microsecond()
}

fn time(micros: i64) -> String {
    jiff::Timestamp::from_microsecond(micros).expect("a time").to_string()
}

/// When the stream's first picture was taken.
fn start_of(server: &Server, stream: &str) -> i64 {
    micros(&server.fragments(stream)[0]["producer_time"])
}

/// The address of the clip from a little before picture `from` to a little before picture `to` of the stream's first session.
fn address(server: &Server, stream: &str, from: i64, to: i64, more: &str) -> String {
    let start = start_of(server, stream);
    let before = |picture: i64| time(start + picture * PICTURE_US - 5_000);
    format!("/v1/streams/{stream}/clip.mp4?from={}&to={}{more}", before(from), before(to))
}

fn get(server: &Server, path: &str) -> Answer {
    let answer = server.get(path);
    assert_eq!(answer.status, 200, "GET {path}: {}", answer.text());
    answer
}

/// A GET with more headers.
fn get_with(server: &Server, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = http::Request::builder().method(method).uri(format!("{}{path}", server.http));
    request = request.header("authorization", format!("Bearer {}", server.admin));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut response = agent.run(request.body(()).expect("a request")).expect("an answer");
    let mut body = Vec::new();
    response.body_mut().as_reader().read_to_end(&mut body).expect("read the body");
    Answer { status: response.status().as_u16(), headers: response.headers().clone(), body }
}

/// A folder for files that players open.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Files {
        Files(tempfile::tempdir().expect("a folder"))
    }

    fn keep(&self, name: &str, body: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, body).expect("write a file");
        path
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a UTF-8 path")
}

fn hashes(pictures: &[(f64, String)]) -> Vec<&str> {
    pictures.iter().map(|(_, hash)| hash.as_str()).collect()
}

#[test]
fn clip_has_exactly_the_pictures_that_were_asked_for() {
    let server = Server::start();
    let names = ["plain", "bframes", "opengop", "hevc", "gop10"];
    record(&server, &names);
    let files = Files::new();
    for name in names {
        let sent = pictures(text(&clip(&format!("{name}.mp4"))));
        // At a key picture, in the middle of a group, just before and behind its border, one picture alone, and everything.
        for (from, to) in [(25, 75), (37, 97), (74, 94), (75, 78), (77, 78), (99, 100), (101, 143), (0, 200)] {
            let body = get(&server, &address(&server, name, from, to, "")).body;
            let path = files.keep(&format!("{name}-{from}-{to}.mp4"), &body);
            let got = pictures(text(&path));
            let expected = &sent[from as usize..to as usize];
            assert_eq!(hashes(&got), hashes(expected), "{name}: pictures {from} to {to}");
            for ((at, _), number) in got.iter().zip(0..) {
                let due = f64::from(number) * 0.04;
                assert!((at - due).abs() < 0.002, "{name}: picture {number} of {from} to {to} at {at}");
            }
            let body = get(&server, &address(&server, name, from, to, "&format=fmp4")).body;
            assert!(body.windows(4).any(|four| four == b"mvex"), "{name}: fragments");
            let path = files.keep(&format!("{name}-{from}-{to}-fragmented.mp4"), &body);
            let got = pictures(text(&path));
            // What the last pictures refer to is shown too: fragments have no edit at their end.
            let asked: Vec<&str> = hashes(&got).into_iter().filter(|hash| hashes(expected).contains(hash)).collect();
            assert_eq!(asked, hashes(expected), "{name}: fragments of {from} to {to}");
            assert_eq!(got[0].1, expected[0].1, "{name}: fragments of {from} to {to} begin on the picture");
            assert!(got.len() - expected.len() <= 3, "{name}: {} pictures for {from} to {to}", got.len());
        }
    }
}

#[test]
fn clip_is_a_file_with_a_length_a_name_and_parts() {
    let server = Server::start();
    record(&server, &["bframes"]);
    let path = address(&server, "bframes", 30, 160, "");
    let whole = get(&server, &path);
    let len = whole.body.len();
    assert_eq!(&whole.body[4..8], b"ftyp");
    let moov = whole.body.windows(4).position(|four| four == b"moov").expect("a moov");
    assert!(moov < 100, "the tables come first");
    let header = |answer: &Answer, name: &str| answer.headers[name].to_str().expect("text").to_owned();
    assert_eq!(header(&whole, "content-type"), "video/mp4");
    let etag = header(&whole, "etag");
    let expected = format!("bframes-{}", &time(start_of(&server, "bframes") + 30 * PICTURE_US)[..10]);
    assert!(header(&whole, "content-disposition").contains(&expected), "{}", header(&whole, "content-disposition"));
    let head = get_with(&server, "HEAD", &path, &[]);
    assert_eq!((head.status, head.body.len(), header(&head, "content-length")), (200, 0, len.to_string()));
    assert_eq!(header(&head, "etag"), etag);
    // Borders of the head and of fragments lie somewhere among these.
    for start in (0..len).step_by(len / 23) {
        for size in [1, 700, 90_000, len] {
            let end = (start + size).min(len);
            let range = format!("bytes={start}-{}", end - 1);
            let part = get_with(&server, "GET", &path, &[("range", &range), ("if-range", &etag)]);
            assert_eq!(part.status, 206, "{range}");
            assert_eq!(header(&part, "content-range"), format!("bytes {start}-{}/{len}", end - 1));
            assert!(part.body == whole.body[start..end], "{range} is not what the whole has there");
        }
    }
    let film = address(&server, "bframes", 30, 160, "&format=fmp4");
    let whole_film = get(&server, &film).body;
    for start in (0..whole_film.len()).step_by(whole_film.len() / 9) {
        let part = get_with(&server, "GET", &film, &[("range", &format!("bytes={start}-"))]);
        assert_eq!(part.status, 206);
        assert!(part.body == whole_film[start..], "from {start}");
    }
    let outside = get_with(&server, "GET", &path, &[("range", &format!("bytes={len}-"))]);
    assert_eq!((outside.status, header(&outside, "content-range")), (416, format!("bytes */{len}")));
    assert_eq!(get_with(&server, "GET", &path, &[("if-none-match", &etag)]).status, 304);
    let other = address(&server, "bframes", 31, 160, "");
    let changed = get_with(&server, "GET", &other, &[("range", "bytes=5-"), ("if-range", &etag)]);
    assert_eq!(changed.status, 200, "another file is sent from its start");
}

#[test]
fn sound_and_picture_of_clips_are_in_step() {
    let server = Server::start();
    // Twice, with nothing between: what is closed must not move them apart.
    record(&server, &["flash-beep"]);
    record(&server, &["flash-beep"]);
    let files = Files::new();
    let sent = ffmpeg(text(&clip("flash-beep.mp4"))).beeps_after_flashes("sent");
    let middle = files.keep("middle.mp4", &get(&server, &address(&server, "flash-beep", 63, 213, "")).body);
    let film = files.keep("film.mp4", &get(&server, &address(&server, "flash-beep", 13, 3_000, "&format=fmp4")).body);
    let both = files.keep("both.mp4", &get(&server, &address(&server, "flash-beep", 0, 3_000, "")).body);
    let kept = files.keep("kept.mp4", &get(&server, &address(&server, "flash-beep", 0, 3_000, "&gaps=keep")).body);
    for (path, count) in [(&middle, 6), (&both, 20), (&kept, 20), (&film, 19)] {
        let mut players = vec![("FFmpeg", ffmpeg(text(path)))];
        if path != &film {
            // GStreamer's `level` counts samples, and so does not notice where fragments begin.
            players.push(("GStreamer", gstreamer(text(path))));
        }
        for (player, played) in players {
            let what = format!("{} in {player}", text(path));
            let offsets = played.beeps_after(count, &what);
            // The clip hides the encoder's first frame, and a player may let it be heard: as where it was sent.
            let off = offsets.iter().map(|offset| (offset - sent[1]).abs());
            assert!(off.clone().all(|off| off <= 0.04), "{what}: sent {sent:.3?}, got {offsets:.3?}");
            // Who counts samples is half a unit of AAC off behind a gap that was kept, 10.7 ms, and measures in pieces of 5 ms.
            let most = if path == &kept && player == "GStreamer" { 0.016 } else { 0.01 };
            let exact = off.filter(|off| *off <= most).count();
            assert!(exact + 2 >= count, "{what}: sent {sent:.3?}, got {offsets:.3?}");
        }
    }
}

#[test]
fn gaps_are_closed_or_kept() {
    let server = Server::start();
    record(&server, &["bframes"]);
    record(&server, &["bframes"]);
    let fragments = server.fragments("bframes");
    let second = fragments.iter().skip(1).find(|one| !one["break_before"].is_null()).expect("a second session");
    let apart = (micros(&second["producer_time"]) - start_of(&server, "bframes")) as f64 / 1e6;
    assert!(apart > 8.1, "there is a gap");
    let sent = pictures(text(&clip("bframes.mp4")));
    let twice = [&sent[50..], &sent[..]].concat();
    let files = Files::new();
    for (gaps, begins) in [("close", 6.0), ("keep", apart - 2.0)] {
        let body = get(&server, &address(&server, "bframes", 50, 3_000, &format!("&gaps={gaps}"))).body;
        let path = files.keep(&format!("{gaps}.mp4"), &body);
        let got = pictures(text(&path));
        assert_eq!(hashes(&got), hashes(&twice), "gaps={gaps}");
        let off = got[150].0 - begins;
        assert!((-0.002..0.06).contains(&off), "gaps={gaps}: the second session begins {off} s off");
        let sound = packets(text(&path), 'a');
        assert!(sound.windows(2).all(|pair| pair[0].pts < pair[1].pts), "gaps={gaps}: sound goes on");
    }
}

#[test]
fn pictures_that_change_their_size_stay_one_file() {
    let server = Server::start();
    let secret = server.publish_secret();
    push(Client::FFmpeg, "tcp", &clip("resize.ts"), &server.push_url(&secret, "resize"), &secret);
    server.wait_idle("resize");
    let files = Files::new();
    let body = get(&server, &address(&server, "resize", 0, 3_000, "")).body;
    let path = files.keep("resize.mp4", &body);
    let entries = body.windows(4).filter(|four| *four == b"avc1").count();
    assert_eq!(entries, 2, "each size is described");
    let sizes = std::process::Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "v", "-show_entries", "frame=width", "-of", "csv=p=0", text(&path)])
        .output()
        .expect("run ffprobe");
    let sizes = String::from_utf8(sizes.stdout).expect("UTF-8");
    let count = |size: &str| sizes.lines().filter(|line| line.trim_end_matches(',') == size).count();
    assert_eq!((count("320"), count("640")), (100, 100), "{sizes}");
}

#[test]
fn sound_and_pictures_can_be_had_alone() {
    let server = Server::start();
    record(&server, &["bframes", "audio-only"]);
    let files = Files::new();
    let check = |stream: &str, audio: &str, content_type: &str, kinds: &str| {
        let answer = get(&server, &address(&server, stream, 30, 130, &format!("&audio={audio}")));
        assert_eq!(answer.headers["content-type"], content_type);
        let path = files.keep(&format!("{stream}-{audio}.mp4"), &answer.body);
        for kind in ['v', 'a'] {
            let seconds: f64 = packets(text(&path), kind).iter().map(|packet| packet.pts).fold(-1.0, f64::max);
            let expected = if kinds.contains(kind) { 3.9..4.05 } else { -1.0..0.0 };
            assert!(expected.contains(&seconds), "{stream} {audio}: kind {kind} ends at {seconds}");
        }
    };
    check("bframes", "keep", "video/mp4", "va");
    check("bframes", "none", "video/mp4", "v");
    check("bframes", "only", "audio/mp4", "a");
    check("audio-only", "keep", "audio/mp4", "a");
    let nothing = server.get(&address(&server, "audio-only", 30, 130, "&audio=none"));
    assert_eq!((nothing.status, nothing.json()["error"]["code"].clone()), (415, "not_playable".into()));
}

#[test]
fn what_is_no_clip_is_refused_with_its_reason() {
    let server = Server::start();
    record(&server, &["plain"]);
    let refused = |path: &str| {
        let answer = server.get(path);
        (answer.status, answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned())
    };
    let check = |path: &str, status: u16, code: &str| assert_eq!(refused(path), (status, code.to_owned()), "{path}");
    check(&address(&server, "plain", 300, 400, ""), 404, "no_media");
    check(&address(&server, "plain", 100, 50, ""), 400, "bad_time");
    check("/v1/streams/plain/clip.mp4", 400, "bad_time");
    check("/v1/streams/plain/clip.mp4?from=0", 400, "bad_time");
    check("/v1/streams/none/clip.mp4?from=0&to=1", 404, "stream_not_found");
    check(&address(&server, "plain", 0, 50, "&gaps=fill"), 400, "bad_request");
    let path = address(&server, "plain", 0, 50, "");
    let token = server.play_token();
    assert_eq!(server.request("GET", &format!("{path}&token={token}"), None, None).status, 200);
    assert_eq!(server.request("GET", &format!("{path}&token={}", server.admin), None, None).status, 403);
    assert_eq!(server.request("GET", &path, None, None).status, 401);
}

/// Passes HTTP on to `address`: of its n-th connection so many bytes, and then nothing more, though it stays open.
fn silent_line(address: &str, limit: fn(usize) -> usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("known"));
    let address = address.trim_start_matches("http://").to_owned();
    std::thread::spawn(move || {
        for (number, client) in listener.incoming().enumerate() {
            let (Ok(mut client), Ok(server)) = (client, TcpStream::connect(&address)) else { return };
            let (mut from, mut to) = (client.try_clone().expect("a handle"), server.try_clone().expect("a handle"));
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut (&server).take(limit(number) as u64), &mut client);
                // Both stay open until the test is over.
                std::thread::park();
                drop((client, server));
            });
        }
    });
    url
}

#[test]
fn command_goes_on_when_the_server_falls_silent() {
    let server = Server::start();
    record(&server, &["bframes"]);
    let folder = tempfile::tempdir().expect("a folder");
    let start = start_of(&server, "bframes");
    let (from, to) = (time(start + 1_475_000), time(start + 6_000_000));
    let take = |url: &str, file: &str| -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kinora"));
        command.args(["clip", "bframes", "--from", &from, "--to", &to, "--silence", "1s", "-o", file]);
        let command = command.env("KINORA_URL", url).env("KINORA_TOKEN", &server.admin).current_dir(folder.path());
        command.output().expect("run kinora clip")
    };
    let whole = get(&server, &format!("/v1/streams/bframes/clip.mp4?from={from}&to={to}")).body;
    let said = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let output = take(&silent_line(&server.http, |number| if number < 2 { 100_000 } else { usize::MAX }), "a.mp4");
    assert!(output.status.success(), "{}", said(&output));
    let stalls = said(&output).matches(" came, then: the server sends nothing; asking for the rest").count();
    assert_eq!(stalls, 2, "{}", said(&output));
    assert!(std::fs::read(folder.path().join("a.mp4")).expect("a file") == whole);
    // It stays silent: what has come is kept, and how to go on is said.
    let output = take(&silent_line(&server.http, |number| if number == 0 { 100_000 } else { 0 }), "b.mp4");
    assert!(!output.status.success());
    let last = said(&output).lines().last().unwrap_or_default().to_owned();
    assert!(last.contains(" came, then: the server sends nothing; the same command goes on with b.mp4.part"), "{last}");
    let kept = std::fs::read(folder.path().join("b.mp4.part")).expect("a part");
    assert!(kept.len() > 90_000 && whole.starts_with(&kept), "{} bytes are kept", kept.len());
    let output = take(&server.http, "b.mp4");
    assert!(output.status.success() && said(&output).is_empty(), "{}", said(&output));
    assert!(std::fs::read(folder.path().join("b.mp4")).expect("a file") == whole);
}

/// Passes HTTP on to `address`, and breaks off the first `breaks` connections that have brought 100,000 bytes.
fn bad_line(address: &str, breaks: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("known"));
    let address = address.trim_start_matches("http://").to_owned();
    static BROKEN: AtomicUsize = AtomicUsize::new(0);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(mut client), Ok(mut server)) = (client, TcpStream::connect(&address)) else { return };
            let (mut from, mut to) = (client.try_clone().expect("a handle"), server.try_clone().expect("a handle"));
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            std::thread::spawn(move || {
                let (mut passed, mut buffer) = (0, [0; 10_000]);
                while let Ok(count @ 1..) = server.read(&mut buffer) {
                    passed += count;
                    let is_enough = passed > 100_000;
                    if is_enough && BROKEN.fetch_add(1, Ordering::Relaxed) < breaks {
                        break;
                    }
                    if client.write_all(&buffer[..count]).is_err() {
                        break;
                    }
                }
                let _ = client.shutdown(std::net::Shutdown::Both);
                let _ = server.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    url
}

#[test]
fn command_takes_a_clip_away_over_a_bad_line_and_goes_on_where_it_was() {
    let server = Server::start();
    record(&server, &["bframes"]);
    let folder = tempfile::tempdir().expect("a folder");
    let start = start_of(&server, "bframes");
    let (from, to) = (time(start + 1_475_000), time(start + 6_000_000));
    let take = |url: &str, more: &[&str]| -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kinora"));
        command.args(["clip", "bframes", "--from", &from, "--to", &to, "--json"]).args(more);
        let command = command.env("KINORA_URL", url).env("KINORA_TOKEN", &server.admin).current_dir(folder.path());
        command.output().expect("run kinora clip")
    };
    let whole = get(&server, &format!("/v1/streams/bframes/clip.mp4?from={from}&to={to}"));
    let said = |output: &Output| -> Value {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let first = said(&take(&bad_line(&server.http, 3), &[]));
    let name = first["file"].as_str().expect("a name").to_owned();
    assert!(name.starts_with("bframes-2") && name.ends_with(".mp4"), "{name}");
    assert!(std::fs::read(folder.path().join(&name)).expect("a file") == whole.body);
    let again = take(&server.http, &[]);
    assert!(!again.status.success() && String::from_utf8_lossy(&again.stderr).contains("--force"));
    assert!(take(&server.http, &["--force"]).status.success());
    // What an earlier call left.
    let half = whole.body.len() / 2;
    std::fs::write(folder.path().join("a.mp4.part"), &whole.body[..half]).expect("written");
    std::fs::write(folder.path().join("a.mp4.part.tag"), whole.headers["etag"].as_bytes()).expect("written");
    let resumed = said(&take(&server.http, &["-o", "a.mp4"]));
    assert_eq!(
        (resumed["resumed_at"].as_u64(), resumed["bytes"].as_u64()),
        (Some(half as u64), Some(2 * half as u64 + whole.body.len() as u64 % 2))
    );
    assert!(std::fs::read(folder.path().join("a.mp4")).expect("a file") == whole.body);
    let mut files: Vec<_> =
        std::fs::read_dir(folder.path()).expect("a folder").map(|one| one.expect("an entry").file_name()).collect();
    files.sort();
    assert_eq!(files, ["a.mp4", name.as_str()], "nothing else is left");
    let nothing = take(&server.http, &["--gaps", "keep", "--audio", "none", "-o", "/nonexistent/a.mp4"]);
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("failed to write"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_kinora"));
    let command = command.args(["clip", "none", "--last", "5m"]).env("KINORA_URL", &server.http);
    let refused = command.env("KINORA_TOKEN", &server.admin).output().expect("run kinora clip");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("stream_not_found"), "{refused:?}");
}
