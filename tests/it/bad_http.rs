//! Wrong and hostile HTTP/1.1, HTTP/2 and TLS: a clear answer each time, and nothing leaks or stops.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::raw::{connect, read_until, talk};
use crate::server::{Server, wait_for};
use crate::witness::Witness;

/// Statuses of every answer to these bytes, and whether the connection was closed.
fn statuses(server: &Server, bytes: &[u8]) -> (Vec<u16>, bool) {
    let (answer, closed) = talk(&server.http, bytes, Duration::from_secs(3));
    let text = String::from_utf8_lossy(&answer);
    let lines = text.split("HTTP/1.").skip(1);
    (lines.filter_map(|line| line.split(' ').nth(1)?.parse().ok()).collect(), closed)
}

#[test]
fn requests_that_two_servers_could_read_differently_are_refused_and_closed() {
    let server = Server::start();
    let admin = &server.admin;
    let head = |lines: &str| {
        format!(
            "POST /v1/streams HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {admin}\r\nContent-Type: application/json\r\n{lines}\r\n"
        )
    };
    // What a smuggler hides in the body of the first request.
    let hidden = format!("DELETE /v1/streams/gate HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {admin}\r\n\r\n");
    server.call("POST", "/v1/streams", Some(json!({"name": "gate"})));
    let cases: Vec<(&str, String)> = vec![
        ("two lengths", head("Content-Length: 5\r\nContent-Length: 6\r\n") + "hello" + &hidden),
        ("a negative length", head("Content-Length: -5\r\n") + &hidden),
        ("a length with a plus", head("Content-Length: +5\r\n") + "hello" + &hidden),
        ("a length beyond 64 bits", head("Content-Length: 99999999999999999999\r\n") + &hidden),
        ("chunks of a kind of its own", head("Transfer-Encoding: xchunked\r\n") + "0\r\n\r\n" + &hidden),
        ("chunked twice", head("Transfer-Encoding: chunked, identity\r\n") + "0\r\n\r\n" + &hidden),
        ("a folded header", head("X: a\r\n Transfer-Encoding: chunked\r\nContent-Length: 0\r\n") + &hidden),
        ("a space before the colon", head("Content-Length : 5\r\n") + "hello" + &hidden),
        ("a NUL in a header", head("X: a\0b\r\n")),
        ("a chunk of 2^64", head("Transfer-Encoding: chunked\r\n") + "fffffffffffffffff\r\n" + &hidden),
        (
            "chunk extensions without end",
            head("Transfer-Encoding: chunked\r\n") + "5;" + &"x=y;".repeat(250_000) + "\r\nhello\r\n0\r\n\r\n",
        ),
        ("a chunk that is no number", head("Transfer-Encoding: chunked\r\n") + "five\r\nhello\r\n0\r\n\r\n" + &hidden),
        ("headers without end", head(&"X-Filler: yyyyyyyyyyyyyyyyyyyyyyyy\r\n".repeat(2_000))),
        ("a line of 1 MB", head(&format!("X: {}\r\n", "y".repeat(1 << 20)))),
        (
            "a token of 1 MB",
            format!("GET /v1/streams HTTP/1.1\r\nAuthorization: Bearer {}\r\n\r\n", "k".repeat(1 << 20)),
        ),
        ("a target of 1 MB", format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(1 << 20))),
        ("no HTTP", "\u{1}\u{2}\u{3}\u{4}\r\n\r\n".to_owned()),
        ("RTSP", "OPTIONS rtsp://x/gate RTSP/1.0\r\nCSeq: 1\r\n\r\n".to_owned()),
    ];
    std::thread::scope(|scope| {
        for (what, bytes) in &cases {
            let server = &server;
            scope.spawn(move || {
                let (seen, closed) = statuses(server, bytes.as_bytes());
                assert!(seen.iter().all(|status| (400..500).contains(status)), "{what}: {seen:?}");
                assert!(seen.len() <= 1 && closed, "{what}: {seen:?}, closed: {closed}");
            });
        }
    });
    // Both lengths given, RFC 9112 section 6.3: chunked counts, or it is refused; never the other one.
    let both = head("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n") + "0\r\n\r\n" + &hidden;
    let (seen, _) = statuses(&server, both.as_bytes());
    assert!(seen[0] == 400, "{seen:?}");
    assert_eq!(server.get("/v1/streams/gate").status, 200, "nothing that was hidden has been done");
    assert!(!server.log().contains("panicked"));
}

#[test]
fn names_and_tags_that_mean_something_elsewhere_mean_nothing_here() {
    let server = Server::start();
    let long = "x".repeat(257);
    let names = [
        "",
        " ",
        "/",
        "a/b",
        "../../etc/passwd",
        "..\\..\\windows",
        "<img src=x onerror=alert(1)>",
        "a\0b",
        "\u{202e}gpj",
        "'; DROP TABLE streams; --",
        "a b",
        "a%2fb",
        "\u{1f3a5}",
        "a\r\nSet-Cookie: x=y",
        long.as_str(),
        "*",
        "gate*",
    ];
    for name in names {
        let answer = server.call("POST", "/v1/streams", Some(json!({"name": name})));
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (400, &json!("bad_stream_name")), "{name:?}");
    }
    for name in ["CON", "nul", "x".repeat(256).as_str(), "-", "a.b_c-d"] {
        let answer = server.call("POST", "/v1/streams", Some(json!({"name": name})));
        assert_eq!(answer.status, 201, "{name:?}: {}", answer.text());
    }
    for name in [".", ".."] {
        let answer = server.call("POST", "/v1/streams", Some(json!({"name": name})));
        assert_eq!(answer.status, 400, "{name:?} cannot be asked for in a path: {}", answer.text());
    }
    for path in
        ["/v1/streams/..%2f..%2fetc", "/v1/streams/%00", "/hls/..%2f..%2fcontrol.db/index.m3u8", "/hls/%ff/index.m3u8"]
    {
        assert_eq!(server.get(path).status, 400, "{path}");
    }
    for path in ["/../../etc/passwd", "/assets/..%2f..%2fCargo.toml", "/assets/%2e%2e/control.db", "//etc/passwd"] {
        let answer = server.get(path);
        assert_eq!(answer.status, 404, "{path}: {}", answer.text());
    }
    let tags = json!({"<img onerror>": "'; DROP TABLE streams; --", "bidi": "\u{202e}gpj"});
    let answer = server.call("POST", "/v1/streams", Some(json!({"name": "tagged", "tags": tags})));
    assert_eq!(answer.json()["tags"], tags, "kept as text");
    let control = json!({"name": "evil", "tags": {"a": "b\r\nc"}});
    assert_eq!(server.call("POST", "/v1/streams", Some(control)).status, 400);
    for folder in std::fs::read_dir(server.data().join("streams")).expect("folders of streams") {
        let name = folder.expect("an entry").file_name().into_string().expect("UTF-8");
        assert!(name.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-'), "{name} is an id");
    }
}

#[test]
fn tokens_that_are_nearly_right_are_wrong() {
    let (server, elsewhere) = (Server::start(), Server::start());
    let admin = server.admin.clone();
    let flipped: String = admin
        .chars()
        .rev()
        .enumerate()
        .map(|(at, c)| if at == 3 { if c == 'a' { 'b' } else { 'a' } } else { c })
        .collect();
    let flipped: String = flipped.chars().rev().collect();
    let cases = [
        ("cut off", &admin[..admin.len() - 1]),
        ("longer", &format!("{admin}x")),
        ("one character changed", &flipped),
        ("of another server", &elsewhere.admin),
        ("a publish secret", &server.publish_secret()),
        ("in other letters", &admin.to_uppercase()),
        ("nothing", ""),
    ];
    for (what, token) in cases {
        for path in ["/v1/streams", "/hls/gate/index.m3u8", "/metrics", "/openapi.json", "/v1/events"] {
            let answer = server.request("GET", path, Some(token), None);
            assert_eq!(answer.status, 401, "{what} on {path}: {}", answer.text());
            assert!(answer.headers.contains_key("www-authenticate"), "{what} on {path}");
        }
    }
    let answer = server.request("GET", &format!("/v1/streams?token={admin}"), None, None);
    assert_eq!(answer.status, 401, "not in an address");
}

/// A frame of HTTP/2 (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW: u8 = 8;
const CONTINUATION: u8 = 9;

/// GET /healthz, from the static table of HPACK but for the path and the host.
fn get() -> Vec<u8> {
    [&[0x82, 0x86, 0x04, 8][..], b"/healthz", &[0x01, 1], b"x"].concat()
}

/// How many frames of each kind came back, and whether the connection was closed.
fn h2(server: &Server, frames: &[u8]) -> ([usize; 256], bool) {
    let bytes = [PREFACE, &frame(SETTINGS, 0, 0, &[]), frames].concat();
    let (answer, closed) = talk(&server.http, &bytes, Duration::from_secs(4));
    let (mut kinds, mut rest) = ([0; 256], &answer[..]);
    while let [a, b, c, kind, ..] = *rest {
        kinds[usize::from(kind)] += 1;
        let length = 9 + (usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c));
        rest = rest.get(length..).unwrap_or_default();
    }
    (kinds, closed)
}

#[test]
fn abuse_of_http2_ends_the_connection_and_costs_little() {
    let server = Server::start();
    let mut witness = Witness::start(&server);
    let cpu = cpu_seconds(&server);
    let (kinds, _) = h2(&server, &frame(HEADERS, 5, 1, &get()));
    assert_eq!((kinds[usize::from(HEADERS)], kinds[usize::from(GOAWAY)]), (1, 0), "an honest request is answered");

    let rapid: Vec<u8> = (0..20_000_u32)
        .flat_map(|n| [frame(HEADERS, 5, 2 * n + 1, &get()), frame(RESET, 0, 2 * n + 1, &[0, 0, 0, 8])].concat())
        .collect();
    // Frames that make the server itself reset the stream, again and again.
    let made: Vec<u8> = (0..20_000_u32)
        .flat_map(|n| [frame(HEADERS, 5, 2 * n + 1, &get()), frame(WINDOW, 0, 2 * n + 1, &[0, 0, 0, 0])].concat())
        .collect();
    let endless_head: Vec<u8> = frame(HEADERS, 1, 1, &get())
        .into_iter()
        .chain((0..2_000).flat_map(|_| frame(CONTINUATION, 0, 1, &[0x00, 1, b'a', 0x7f, 0x81, 1].repeat(100))))
        .collect();
    // One header of 4,000 bytes put in the table, then named ten thousand times.
    let long = [&[0x40, 1, b'a', 0x7f, 0xa1, 0x1e][..], &[b'x'; 4_000]].concat();
    let bomb: Vec<u8> = [frame(HEADERS, 5, 1, &[get(), long, vec![0xbe; 10_000]].concat())].concat();
    let window = [frame(HEADERS, 5, 1, &get()), frame(WINDOW, 0, 0, &[0x7f, 0xff, 0xff, 0xff]).repeat(2)].concat();
    let long_frame = frame(HEADERS, 5, 1, &[0; 20_000]);
    let backwards = [frame(HEADERS, 5, 5, &get()), frame(HEADERS, 5, 3, &get())].concat();
    let cases: [(&str, Vec<u8>); 7] = [
        ("streams opened and reset at once", rapid),
        ("streams that the server must reset", made),
        ("a head without end", endless_head),
        ("a window of more than 2^31", window),
        ("a frame beyond the limit", long_frame),
        ("streams that go back", backwards),
        ("a length that lies", [frame(PING, 0, 0, &[1, 2, 3])].concat()),
    ];
    std::thread::scope(|scope| {
        for (what, frames) in &cases {
            let server = &server;
            scope.spawn(move || {
                let (kinds, closed) = h2(server, frames);
                assert!(closed, "{what}: the connection is closed");
                assert!(kinds[usize::from(GOAWAY)] <= 2, "{what}");
                let answered = kinds[usize::from(HEADERS)];
                assert!(answered <= 200, "{what}: {answered} were answered");
            });
        }
        let server = &server;
        scope.spawn(move || {
            let (kinds, _) = h2(server, &bomb);
            assert!(kinds[usize::from(HEADERS)] <= 1 && kinds[0] <= 1, "a bomb in the table is not unfolded");
        });
        scope.spawn(move || {
            let pings = frame(PING, 0, 0, &[0; 8]).repeat(20_000);
            let settings = frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 9]).repeat(20_000);
            h2(server, &pings);
            h2(server, &settings);
        });
    });
    let spent = cpu_seconds(&server) - cpu;
    assert!(spent < 12.0, "{spent} s of CPU for all of it");
    witness.check(&server);
}

fn cpu_seconds(server: &Server) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).expect("its times");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<f64>().expect("a number");
    (ticks(11) + ticks(12)) / 100.0
}

/// Connects from another address of this machine than everybody else.
fn from(address: [u8; 4], to: &str) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&std::net::SocketAddr::from((address, 0)).into()).expect("an address of loopback");
    let to: std::net::SocketAddr = to.parse().expect("an address");
    socket.connect(&to.into()).expect("connect");
    socket.into()
}

#[test]
fn clients_that_dawdle_are_closed_and_others_served() {
    let limits =
        "head_timeout = '1s'\nunauthenticated_lifetime = '2s'\nbody_timeout = '2s'\nunauthenticated_per_ip = 250\n";
    let server = Server::start_with(&format!("[limits]\n{limits}"));
    let mut witness = Witness::start(&server);
    let plain = server.http.trim_start_matches("http://").to_owned();
    let tls = server.https.clone();
    let body = format!(
        "POST /v1/streams HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: 1000\r\n\r\n{{",
        server.admin
    );
    let kinds: [(&str, &str, &[u8], u64); 6] = [
        ("half a head", &plain, b"GET / HTTP/1.1\r\nX: ", 5),
        ("nothing", &plain, b"", 5),
        ("half a preface", &plain, b"PRI * HTTP/2.0\r\n", 5),
        ("half a body", &plain, body.as_bytes(), 6),
        ("half a TLS hello", &tls, b"\x16\x03\x01\x02\x00\x01", 5),
        ("no TLS", &tls, b"", 5),
    ];
    std::thread::scope(|scope| {
        for (what, address, says, patience) in kinds {
            scope.spawn(move || {
                let mut sockets: Vec<TcpStream> = (0..40).map(|_| connect(address)).collect();
                let started = Instant::now();
                for socket in &mut sockets {
                    let _ = socket.write_all(says);
                }
                for mut socket in sockets {
                    let deadline = started + Duration::from_secs(patience);
                    let mut answer = Vec::new();
                    let closed = read_until(&mut socket, &mut answer, deadline, |_| false);
                    assert!(closed, "{what}: still open after {:?}", started.elapsed());
                }
            });
        }
        // Somebody else meanwhile.
        let plain = &plain;
        scope.spawn(move || {
            for _ in 0..10 {
                let started = Instant::now();
                let mut socket = from([127, 0, 0, 2], plain);
                socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("send");
                let mut answer = String::new();
                socket.read_to_string(&mut answer).expect("an answer");
                assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
                assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
                std::thread::sleep(Duration::from_millis(200));
            }
        });
    });
    // A crowd from one address beyond its share: its oldest make room, and others are served.
    let crowd: Vec<TcpStream> = (0..400).filter_map(|_| TcpStream::connect(plain.as_str()).ok()).collect();
    let mut other = from([127, 0, 0, 3], &plain);
    other.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("send");
    let mut answer = String::new();
    other.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(crowd);
    witness.check(&server);
}

#[test]
fn viewers_that_never_read_hold_nobody_up() {
    let server = Server::start();
    let mut witness = Witness::start(&server);
    let playlist = server.get("/hls/witness/1.m3u8").text();
    let segment = playlist.lines().find(|line| line.ends_with(".m4s")).expect("a segment");
    let token = server.play_token();
    let deaf: Vec<TcpStream> = (0..200)
        .map(|n| {
            let mut socket = connect(&server.http);
            let request = match n % 4 {
                // Many answers asked for at once, none read.
                0..3 => format!("GET /hls/witness/{segment}?token={token} HTTP/1.1\r\nHost: x\r\n\r\n").repeat(50),
                _ => format!("GET /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n", server.admin),
            };
            socket.set_write_timeout(Some(Duration::from_millis(200))).expect("set a timeout");
            let _ = socket.write_all(request.as_bytes());
            socket
        })
        .collect();
    std::thread::sleep(Duration::from_secs(2));
    let started = Instant::now();
    assert_eq!(server.get("/v1/streams/witness").json()["state"], "live");
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    drop(deaf);
    witness.check(&server);
}

/// An RFC 3339 time moved by `milliseconds`.
fn moved(time: &str, milliseconds: i64) -> String {
    let time: jiff::Timestamp = time.parse().expect("an RFC 3339 time");
    (time + jiff::SignedDuration::from_millis(milliseconds)).to_string()
}

#[test]
fn a_token_of_a_range_shows_that_range_and_nothing_else() {
    let server = Server::start();
    let _witness = Witness::start(&server);
    let fragments = wait_for("six fragments", Duration::from_secs(20), || {
        let all = server.fragments("witness");
        (all.len() >= 6).then_some(all)
    });
    let time = |at: usize| fragments[at]["producer_time"].as_str().expect("a time").to_owned();
    let (from, to) = (moved(&time(2), -100), moved(&time(4), 100));
    let body =
        json!({"streams": "witness", "actions": ["play", "read_stream"], "playback": true, "from": from, "to": to});
    let made = server.call("POST", "/v1/tokens", Some(body));
    assert_eq!(made.status, 201, "{}", made.text());
    let token = made.json()["token"].as_str().expect("shown once").to_owned();
    let get = |path: &str| server.request("GET", path, Some(&token), None);
    let listed = get("/v1/streams/witness/fragments").json();
    let seen: Vec<&str> = listed["fragments"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|one| one["producer_time"].as_str())
        .collect();
    assert_eq!(seen, [time(2), time(3)], "the API lists what the token may see");
    let listed = get("/v1/streams/witness/fragments?clock=server").json();
    assert_eq!(listed["fragments"].as_array().map(Vec::len), Some(2), "by the other clock too");
    let timeline = get("/v1/streams/witness/timeline").json();
    assert_eq!((&timeline["spans"][0]["fragments"], &timeline["spans"][1]), (&json!(2), &json!(null)), "{timeline}");
    let wide = format!("/hls/witness/1.m3u8?from={}&to={}", moved(&time(0), 100), moved(&time(5), -100));
    let whole = server.get(&wide).text();
    let clipped = get(&wide);
    assert_eq!(clipped.status, 200, "{}", clipped.text());
    let segments =
        |text: &str| text.lines().filter(|line| line.ends_with(".m4s")).map(str::to_owned).collect::<Vec<_>>();
    let (whole, clipped) = (segments(&whole), segments(&clipped.text()));
    assert_eq!(clipped, whole[2..4], "the playlist is clipped");
    for (at, segment) in whole.iter().enumerate() {
        let wanted = if (2..4).contains(&at) { 200 } else { 403 };
        assert_eq!(get(&format!("/hls/witness/{segment}")).status, wanted, "segment {at}");
        assert_eq!(get(&format!("/hls/witness/{segment}?from={from}")).status, wanted, "segment {at}, asked otherwise");
    }
    let (from_after, to_after) = (moved(&time(4), 100), moved(&time(5), 0));
    let outside = get(&format!("/hls/witness/index.m3u8?from={from_after}&to={to_after}"));
    assert_eq!((outside.status, &outside.json()["error"]["code"]), (403, &json!("forbidden")));
    let in_query =
        server.request("GET", &format!("/hls/witness/index.m3u8?from={from}&to={to}&token={token}"), None, None);
    assert_eq!(in_query.status, 200, "{}", in_query.text());
}
