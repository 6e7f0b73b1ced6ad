//! Pictures of the built program against FFmpeg's decode of the same blocks, byte for byte.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use md5::{Digest, Md5};
use serde_json::{Value, json};

use crate::clips::clip;
use crate::push::{Client, push};
use crate::server::{Answer, Server, later, signal, wait_for};

/// One part of a multipart answer.
pub(crate) struct Part {
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Part {
    pub(crate) fn time(&self) -> &str {
        &self.headers["kinora-time"]
    }

    pub(crate) fn digest(&self) -> String {
        digest(&self.body)
    }
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Takes apart a multipart body by the lengths that its parts say.
pub(crate) fn parts(answer: &Answer) -> Vec<Part> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let kind = answer.headers["content-type"].to_str().expect("text");
    let boundary = format!("--{}", kind.strip_prefix("multipart/mixed; boundary=").expect("parts"));
    let mut rest = &answer.body[..];
    let mut found = Vec::new();
    loop {
        rest = rest.strip_prefix(boundary.as_bytes()).expect("a boundary");
        if rest == b"--\r\n" {
            return found;
        }
        let end = rest.windows(4).position(|four| four == b"\r\n\r\n").expect("a blank line");
        let head = std::str::from_utf8(&rest[2..end]).expect("headers are text");
        let pair = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        let headers: BTreeMap<String, String> = head.split("\r\n").filter_map(pair).collect();
        let length: usize = headers["content-length"].parse().expect("a length");
        let body = &rest[end + 4..end + 4 + length];
        rest = rest[end + 4 + length..].strip_prefix(b"\r\n").expect("a line's end after the part");
        found.push(Part { headers, body: body.to_vec() });
    }
}

/// Digests of all pictures of a stream, by FFmpeg, in the order in which they are shown.
pub(crate) fn by_ffmpeg(server: &Server, stream: &str) -> Vec<String> {
    let digests = |block: &std::path::PathBuf| {
        let output = Command::new("ffmpeg")
            .args(["-nostdin", "-v", "error", "-i", block.to_str().expect("a path")])
            .args(["-map", "0:v", "-pix_fmt", "yuv420p", "-fps_mode", "passthrough", "-f", "framemd5", "-"])
            .stdin(Stdio::null())
            .output()
            .expect("run ffmpeg");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let rows = text.lines().filter(|line| !line.starts_with('#'));
        rows.filter_map(|row| Some(row.rsplit_once(',')?.1.trim().to_owned())).collect::<Vec<_>>()
    };
    server.blocks_of(stream).iter().flat_map(digests).collect()
}

pub(crate) const ALL: &str = "from=0&to=4102444800000";

pub(crate) fn frames(server: &Server, stream: &str, query: &str) -> Answer {
    server.get(&format!("/v1/streams/{stream}/frames?{query}"))
}

pub(crate) fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.headers.get(name).unwrap_or_else(|| panic!("no {name}: {}", answer.text())).to_str().expect("text")
}

/// Pushes clips at once, each as a stream of its name, and waits until all is stored.
pub(crate) fn record(server: &Server, clips: &[&str]) {
    let secret = server.publish_secret();
    std::thread::scope(|scope| {
        for name in clips {
            let (file, secret) = (clip(name), &secret);
            let client = if name.ends_with(".ts") { Client::FFmpeg } else { Client::Kinora };
            let url = server.push_url(secret, stream_of(name));
            scope.spawn(move || push(client, "tcp", &file, &url, secret));
        }
    });
    clips.iter().for_each(|name| server.wait_idle(stream_of(name)));
}

fn stream_of(clip: &str) -> &str {
    Path::new(clip).file_stem().and_then(|stem| stem.to_str()).expect("a name")
}

#[test]
fn pictures_are_those_that_ffmpeg_decodes() {
    let server = Server::start();
    // I, P and B pictures; GOPs of 1, 2 and 10 s; open ones with and without leading pictures; a size that is cropped out of
    // whole blocks; a size that changes.
    let clips = [
        "bframes.mp4",
        "gop10.mp4",
        "opengop.mp4",
        "leading.mp4",
        "hevc.mp4",
        "hevc-leading.mp4",
        "video-only.mp4",
        "resize.ts",
    ];
    record(&server, &clips);
    for name in clips {
        let stream = stream_of(name);
        let expected = by_ffmpeg(&server, stream);
        let all = parts(&frames(&server, stream, &format!("{ALL}&format=i420")));
        let given: Vec<String> = all.iter().map(Part::digest).collect();
        // FFmpeg sends this one with times that do not rise as its pictures do; ours are in the order of their times.
        let expected = match name {
            "resize.ts" => {
                let sorted = |mut list: Vec<String>| {
                    list.sort();
                    list
                };
                assert!(sorted(given.clone()) == sorted(expected), "{name}: the same pictures");
                given.clone()
            }
            _ => expected,
        };
        assert!(expected.len() >= 190, "{name} has {} pictures", expected.len());
        assert!(given == expected, "{name}: {} pictures, {} by FFmpeg", given.len(), expected.len());
        let rises = all.windows(2).all(|pair| pair[0].time() < pair[1].time());
        assert!(rises, "{name}: in time order");
        // By themselves and in no order: from the beginning, forward from where a decoder stands, and backwards.
        for at in [0, 1, 2, 24, 25, 26, 27, 3, 120, 121, 125, 60, 149, 151, 150, all.len() - 1] {
            let one = frames(&server, stream, &format!("format=i420&at={}", all[at].time()));
            assert_eq!(one.status, 200, "{name} picture {at}: {}", one.text());
            assert_eq!(header(&one, "kinora-time"), all[at].time(), "{name} picture {at}");
            assert_eq!(header(&one, "kinora-exact"), "true");
            assert_eq!(digest(&one.body), expected[at], "{name} picture {at}");
        }
    }
    check_picks(&server);
    check_forms(&server);
    check_refusals(&server);
}

/// An instant and the picture that is meant; `bframes` has 25 pictures a second and a key frame each second.
fn check_picks(server: &Server) {
    let all = parts(&frames(server, "bframes", &format!("{ALL}&width=64")));
    let shift = |time: &str, micros: i64| {
        let time: jiff::Timestamp = time.parse().expect("a time");
        (time + jiff::SignedDuration::from_micros(micros)).to_string()
    };
    let check = |pick: &str, at: &str, expected: usize, exact: &str| {
        let answer = frames(server, "bframes", &format!("width=64&pick={pick}&at={at}"));
        assert_eq!(answer.status, 200, "{pick} {at}: {}", answer.text());
        assert_eq!(header(&answer, "kinora-time"), all[expected].time(), "{pick} at {at}");
        assert_eq!(header(&answer, "kinora-exact"), exact, "{pick} at {at}");
    };
    let early = shift(all[30].time(), 10_000);
    let late = shift(all[30].time(), 35_000);
    check("shown", all[30].time(), 30, "true");
    check("shown", &early, 30, "true");
    check("shown", &late, 30, "true");
    check("previous", &late, 30, "true");
    check("next", &early, 31, "false");
    check("next", all[31].time(), 31, "true");
    check("nearest", &early, 30, "true");
    check("nearest", &late, 31, "false");
    check("key", &early, 25, "false");
    check("key", all[25].time(), 25, "true");
    check("key", all[45].time(), 50, "false");
    // The first picture's time, cut off to milliseconds as a browser does.
    let first: jiff::Timestamp = all[0].time().parse().expect("a time");
    check("shown", &first.as_millisecond().to_string(), 0, "true");
    // Before and after everything.
    let before = later(all[0].time(), -3600);
    let after = later(all[199].time(), 3600);
    check("next", &before, 0, "false");
    check("nearest", &before, 0, "false");
    check("previous", &after, 199, "false");
    check("nearest", &after, 199, "false");
    for (at, pick) in [(&before, "shown"), (&before, "previous"), (&after, "shown"), (&after, "key"), (&after, "next")]
    {
        let answer = frames(server, "bframes", &format!("pick={pick}&at={at}"));
        assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (404, Some("no_media")), "{pick} {at}");
    }
    let error = frames(server, "bframes", &format!("at={after}")).json();
    assert_eq!(error["error"]["previous"], all[199].time(), "the neighbour is named");
    assert_eq!(error["error"]["next"], Value::Null);
    let newest = frames(server, "bframes", "at=latest&width=64");
    assert_eq!(header(&newest, "kinora-time"), all[199].time());
    // Ranges.
    let (from, to) = (all[10].time(), all[109].time());
    let times = |query: &str| -> Vec<String> {
        let given = parts(&frames(server, "bframes", &format!("width=64&from={from}&to={to}&{query}")));
        given.iter().map(|part| part.time().to_owned()).collect()
    };
    let expected = |pictures: &mut dyn Iterator<Item = usize>| -> Vec<String> {
        pictures.map(|at| all[at].time().to_owned()).collect()
    };
    assert_eq!(times("every=key"), expected(&mut [25, 50, 75, 100].into_iter()));
    assert_eq!(times("every=1s"), expected(&mut [10, 35, 60, 85].into_iter()));
    assert_eq!(times("every=10ms"), expected(&mut (10..109)), "each picture once");
    assert_eq!(times("format=png"), expected(&mut (10..109)));
    // Several instants: one answer each, also where there is nothing.
    let asked = format!("at={},{after},{}&width=64", all[7].time(), all[7].time());
    let given = parts(&frames(server, "bframes", &asked));
    let named: Vec<Option<&str>> =
        given.iter().map(|part| part.headers.get("kinora-time").map(String::as_str)).collect();
    assert_eq!(named, [Some(all[7].time()), Some(all[7].time()), None]);
    assert_eq!(given[2].headers["content-type"], "application/json");
    assert_eq!(given[2].headers["kinora-asked"], after);
}

/// Every format is a file that FFmpeg or NumPy reads, with the size that was asked for and the picture that is meant.
fn check_forms(server: &Server) {
    let time = parts(&frames(server, "bframes", &format!("{ALL}&every=key&width=16")))[2].time().to_owned();
    let folder = tempfile::tempdir().expect("a folder");
    let get = |query: &str| frames(server, "bframes", &format!("at={time}&{query}"));
    let plain = get("format=rgb");
    assert_eq!(plain.body.len(), 640 * 360 * 3);
    let likeness = |file: &str| -> f64 {
        // The average difference of a sample to the plain picture.
        let output = Command::new("ffmpeg")
            .args(["-nostdin", "-v", "error", "-i", file, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"])
            .stdin(Stdio::null())
            .output()
            .expect("run ffmpeg");
        assert_eq!(output.stdout.len(), plain.body.len(), "{file}: {}", String::from_utf8_lossy(&output.stderr));
        let sum: u64 = output.stdout.iter().zip(&plain.body).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        sum as f64 / plain.body.len() as f64
    };
    for (format, kind, most) in [("jpeg", "image/jpeg", 4.0), ("png", "image/png", 0.0), ("webp", "image/webp", 5.0)] {
        let answer = get(&format!("format={format}&quality=95"));
        assert_eq!(header(&answer, "content-type"), kind);
        let file = folder.path().join(format!("picture.{format}"));
        std::fs::write(&file, &answer.body).expect("written");
        let off = likeness(file.to_str().expect("a path"));
        assert!(off <= most, "{format} is off by {off} on average");
    }
    let array = get("format=npy&width=320");
    assert_eq!(&array.body[..6], b"\x93NUMPY");
    let head = String::from_utf8_lossy(&array.body[10..128]).into_owned();
    assert!(head.contains("'shape': (180, 320, 3)"), "{head}");
    assert_eq!(array.body.len(), 128 + 180 * 320 * 3);
    // Sizes.
    let size = |query: &str| {
        let answer = get(query);
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        (header(&answer, "kinora-width").to_owned(), header(&answer, "kinora-height").to_owned(), answer.body.len())
    };
    let check = |query: &str, width: u32, height: u32| {
        let (given_width, given_height, bytes) = size(&format!("format=i420&{query}"));
        assert_eq!((given_width, given_height), (width.to_string(), height.to_string()), "{query}");
        let chroma = width.div_ceil(2) * height.div_ceil(2);
        assert_eq!(bytes as u32, width * height + 2 * chroma, "{query}");
    };
    check("width=321", 321, 181);
    check("height=90", 160, 90);
    check("width=200&height=200", 200, 113);
    check("width=200&height=200&fit=cover", 200, 200);
    check("width=200&height=50&fit=stretch", 200, 50);
    check("crop=10,20,101,33", 101, 33);
    check("crop=0,0,640,180&width=1280", 1280, 360);
    // A crop is that part of the plain picture.
    let crop = get("format=rgb&crop=64,32,16,8").body;
    let row = |line: usize| &plain.body[((32 + line) * 640 + 64) * 3..((32 + line) * 640 + 80) * 3];
    let off: u32 = (0..8)
        .flat_map(|line| crop[line * 48..line * 48 + 48].iter().zip(row(line)))
        .map(|(a, b)| u32::from(a.abs_diff(*b)))
        .sum();
    assert!(off < 8 * 48 * 4, "the crop is another part: off by {off}");
    // Lines of JSON.
    let request = format!("{}/v1/streams/bframes/frames?at={time},1&width=16", server.http);
    let mut answer = ureq::get(&request)
        .header("authorization", format!("Bearer {}", server.admin))
        .header("accept", "application/x-ndjson")
        .call()
        .expect("an answer");
    let text = answer.body_mut().read_to_string().expect("text");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["error"]["code"], "no_media");
    assert_eq!(lines[0]["error"]["next"].as_str().map(|next| next < time.as_str()), Some(true));
    assert_eq!((&lines[1]["time"], &lines[1]["width"], &lines[1]["exact"]), (&json!(time), &json!(16), &json!(true)));
    assert!(lines[1]["data"].as_str().is_some_and(|data| data.starts_with("/9j/")), "a JPEG in base64");
}

fn check_refusals(server: &Server) {
    let check = |stream: &str, query: &str, status: u16, code: &str| {
        let answer = frames(server, stream, query);
        assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (status, Some(code)), "{query}");
    };
    check("bframes", "", 400, "bad_time");
    check("bframes", "at=tomorrow", 400, "bad_time");
    check("bframes", "from=2&to=1", 400, "bad_time");
    check("bframes", "at=latest&format=bmp", 400, "bad_request");
    check("bframes", "at=latest&crop=600,0,100,100", 400, "bad_request");
    check("bframes", "from=1000&to=2000", 404, "no_media");
    check("nobody", "at=latest", 404, "stream_not_found");
    // A token for a part of the time sees no more of it.
    let all = parts(&frames(server, "bframes", &format!("{ALL}&width=16")));
    let scope = json!({
        "label": "part", "streams": "bframes", "actions": ["play"], "playback": true,
        "from": all[50].time(), "to": all[60].time(),
    });
    let answer = server.call("POST", "/v1/tokens", Some(scope));
    let token = answer.json()["token"].as_str().unwrap_or_else(|| panic!("{}", answer.text())).to_owned();
    let with_token = |query: &str| {
        let path = format!("/v1/streams/bframes/frames?width=16&{query}&token={token}");
        server.request("GET", &path, None, None)
    };
    assert_eq!(with_token(&format!("at={}", all[55].time())).status, 200);
    assert_eq!(with_token(&format!("at={}", all[49].time())).status, 403);
    assert_eq!(with_token(&format!("at={}", all[60].time())).status, 403);
    let times =
        |query: &str| -> Vec<String> { parts(&with_token(query)).iter().map(|part| part.time().to_owned()).collect() };
    let expected = |at: &[usize]| -> Vec<String> { at.iter().map(|at| all[*at].time().to_owned()).collect() };
    assert_eq!(times(ALL), expected(&[50, 51, 52, 53, 54, 55, 56, 57, 58, 59]));
    // An instant or a range outside is refused before anything is given, ...
    let after = |at: usize, micros: i64| {
        let time: jiff::Timestamp = all[at].time().parse().expect("an RFC 3339 time");
        format!("{:.6}", time + jiff::SignedDuration::from_micros(micros))
    };
    let refused = [
        format!("at={},{}", all[55].time(), all[70].time()),
        format!("at={},{}", all[49].time(), all[55].time()),
        format!("at={},{}&pick=previous", all[55].time(), all[60].time()),
        format!("from={}&to={}", all[0].time(), all[50].time()),
        format!("from={}&to={}&every=1s", all[60].time(), all[90].time()),
        "at=latest".to_owned(),
    ];
    for query in refused {
        let answer = with_token(&query);
        assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (403, Some("forbidden")), "{query}");
    }
    // ... a range gives what of it lies inside, ...
    let steps = format!("from={}&to={}&every=80ms", after(45, 1_000), all[90].time());
    assert_eq!(times(&steps), expected(&[51, 53, 55, 57, 59]));
    assert_eq!(times(&format!("{steps}&pick=next")), expected(&[52, 54, 56, 58]));
    // ... and where an instant inside means a picture outside, that one is missing, and nothing is told of it.
    let given = parts(&with_token(&format!("at={},{}&pick=next", all[55].time(), after(59, 1))));
    assert_eq!((given.len(), given[0].time()), (2, all[55].time()));
    let said: Value = serde_json::from_slice(&given[1].body).expect("JSON");
    assert_eq!(said["error"]["code"], "forbidden");
    assert_eq!((&said["error"]["next"], &said["error"]["previous"]), (&Value::Null, &Value::Null));
    assert_eq!(
        (given[1].headers["kinora-asked"].as_str(), given[1].headers.get("kinora-time")),
        (&*after(59, 1), None)
    );
    let nearest = with_token(&format!("at={}&pick=nearest", after(59, 39_000)));
    assert_eq!(header(&nearest, "kinora-time"), all[59].time(), "the nearest of those that it may see");
}

/// Process ids of the server's decoders.
fn decoders(server: &Server) -> Vec<u32> {
    let path = format!("/proc/{0}/task", server.pid());
    let tasks = std::fs::read_dir(path).expect("the server runs");
    let children = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok());
    children.collect::<String>().split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

#[test]
fn a_decoder_that_dies_or_hangs_is_replaced_and_the_picture_comes() {
    let server = Server::start_with("[pictures]\ndecoders = 1\nremembered_bytes = \"0B\"\n");
    record(&server, &["bframes.mp4"]);
    let picture = |query: &str| frames(&server, "bframes", query);
    let expected = picture("at=latest&format=i420");
    assert_eq!(expected.status, 200, "{}", expected.text());
    let before = decoders(&server);
    assert_eq!(before.len(), 1, "one decoder was started");
    signal(before[0], "KILL");
    let again = picture("at=latest&format=i420");
    assert_eq!((again.status, &again.body), (200, &expected.body), "the next one does it");
    let after = decoders(&server);
    assert!(after.len() == 1 && after != before, "it was replaced: {before:?} {after:?}");
    // One that is stopped does not answer: it is killed when its time is over, and the picture comes all the same.
    signal(after[0], "STOP");
    let again = picture("at=latest&format=i420");
    assert_eq!((again.status, &again.body), (200, &expected.body), "{}", server.log());
    wait_for("the stopped decoder to be gone", Duration::from_secs(5), || {
        (!decoders(&server).contains(&after[0])).then_some(())
    });
}

#[test]
fn without_the_decoder_everything_else_works_and_the_error_says_so() {
    let server = Server::start_with("[pictures]\ndecoder = \"/nowhere/kinora-decoder\"\n");
    record(&server, &["bframes.mp4"]);
    let answer = frames(&server, "bframes", "at=latest");
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (501, Some("no_decoder")));
    assert!(answer.text().contains("kinora-decoder"), "{}", answer.text());
    assert_eq!(server.get("/hls/bframes/index.m3u8?from=0&to=4102444800000").status, 200);
}

#[test]
fn the_newest_picture_is_of_the_open_fragment() {
    let server = Server::start();
    let secret = server.publish_secret();
    // A key frame each ten seconds: closed fragments alone would be ten seconds late.
    let mut camera = Command::new(env!("CARGO_BIN_EXE_kinora"))
        .args(["publish", clip("gop10.mp4").to_str().expect("a path"), &server.push_url(&secret, "gop10")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start a camera");
    let names = |answer: &Answer| (header(answer, "kinora-time").to_owned(), header(answer, "kinora-pts").to_owned());
    let newest = || {
        let answer = frames(&server, "gop10", "at=latest&width=64");
        (answer.status == 200).then(|| names(&answer))
    };
    let first = wait_for("a first picture", Duration::from_secs(20), newest);
    assert_eq!(server.fragments("gop10").len(), 0, "no fragment is closed yet");
    let (time, pts) = wait_for("a newer one", Duration::from_secs(20), || newest().filter(|newer| newer.0 > first.0));
    // It is there by its time, too, which may be told better by now.
    let by_time = frames(&server, "gop10", &format!("width=64&at={time}"));
    assert_eq!((by_time.status, names(&by_time).1), (200, pts));
    camera.kill().expect("stop the camera");
    camera.wait().expect("it ends");
}

#[test]
fn a_client_that_stops_reading_holds_no_decoder() {
    use std::io::{Read, Write};
    let server = Server::start_with("[pictures]\ndecoders = 1\n");
    record(&server, &["bframes.mp4"]);
    let mut lazy =
        std::net::TcpStream::connect(server.http.strip_prefix("http://").expect("an address")).expect("connected");
    let request = format!(
        "GET /v1/streams/bframes/frames?{ALL}&format=rgb HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\r\n",
        server.admin
    );
    lazy.write_all(request.as_bytes()).expect("asked");
    let mut first = [0; 1024];
    lazy.read_exact(&mut first).expect("it began");
    for width in 16..24 {
        assert_eq!(frames(&server, "bframes", &format!("at=latest&width={width}")).status, 200, "others are served");
    }
    // When it leaves, what was under way for it is cancelled, or done already.
    drop(lazy);
    let counted = |name: &str| -> f64 {
        let text = server.get("/metrics").text();
        let row = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
        row.trim().parse().unwrap_or_else(|_| panic!("{name}: {row}"))
    };
    assert!(counted("kinora_pictures_total ") >= 8.0);
    assert_eq!(counted("kinora_decoder_failures_total "), 0.0);
}

#[test]
fn what_nobody_waits_for_any_more_is_cancelled() {
    use std::io::Write;
    let server = Server::start_with("[pictures]\ndecoders = 1\nremembered_bytes = \"0B\"\n");
    record(&server, &["gop10.mp4"]);
    let counted = |name: &str| -> f64 {
        let text = server.get("/metrics").text();
        let row = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
        row.trim().parse().unwrap_or_else(|_| panic!("{name}: {row}"))
    };
    let times = parts(&frames(&server, "gop10", &format!("{ALL}&width=16&every=key")));
    let late = later(times[1].time(), 0);
    // Many want the last picture before a key frame, one decoder is to make it for each of them, and they all leave.
    let clients = (0..20).map(|width| {
        let address = server.http.strip_prefix("http://").expect("an address");
        let mut client = std::net::TcpStream::connect(address).expect("connected");
        let request = format!(
            "GET /v1/streams/gop10/frames?pick=previous&at={late}&format=png&width={} HTTP/1.1\r\nHost: localhost\r\n\
             Authorization: Bearer {}\r\n\r\n",
            600 + width,
            server.admin
        );
        client.write_all(request.as_bytes()).expect("asked");
        client
    });
    let clients = clients.collect::<Vec<_>>();
    wait_for("some of them to wait", Duration::from_secs(20), || {
        (counted("kinora_picture_tasks_waiting ") >= 3.0).then_some(())
    });
    drop(clients);
    wait_for("tasks to be cancelled", Duration::from_secs(20), || {
        (counted("kinora_picture_tasks_cancelled_total ") > 0.0).then_some(())
    });
    assert_eq!(frames(&server, "gop10", "at=latest&width=16").status, 200, "others are served");
}
