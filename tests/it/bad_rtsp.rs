//! Wrong and hostile RTSP, RTP and RTCP: a clear answer each time, and nothing leaks or stops.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::raw::{Rtsp, SDP, connect, read_until, talk};
use crate::server::{Server, wait_for};
use crate::witness::Witness;

/// The status of the first answer to `bytes`; 0 when the connection was closed without one.
fn status(server: &Server, bytes: &[u8]) -> u16 {
    let mut socket = connect(&server.rtsp);
    let mut answer = Vec::new();
    let mut writer = socket.try_clone().expect("a second handle");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let _ = writer.write_all(bytes);
        });
        let deadline = Instant::now() + Duration::from_secs(5);
        read_until(&mut socket, &mut answer, deadline, |seen| seen.windows(4).any(|four| four == b"\r\n\r\n"));
        let _ = socket.shutdown(std::net::Shutdown::Both);
    });
    let text = String::from_utf8_lossy(&answer);
    text.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
}

#[test]
fn rtsp_requests_that_are_none_get_their_status() {
    let server = Server::start();
    let host = &server.rtsp;
    let head = |method: &str, path: &str, rest: &str| {
        format!("{method} rtsp://{host}/{path} RTSP/1.0\r\nCSeq: 1\r\n{rest}\r\n").into_bytes()
    };
    let announce = |length: &str| head("ANNOUNCE", "gate", &format!("Content-Length: {length}\r\n"));
    let cases: Vec<(&str, Vec<u8>, &[u16])> = vec![
        ("no credential", announce("0"), &[401]),
        ("a stream name with /", head("ANNOUNCE", "a/b", ""), &[400]),
        ("no stream name", head("ANNOUNCE", "", ""), &[400]),
        ("a name of 257", head("ANNOUNCE", &"x".repeat(257), ""), &[400]),
        ("a way out of the folder", head("ANNOUNCE", "../../etc/passwd", ""), &[400]),
        ("4 GiB announced", announce("4294967296"), &[413]),
        ("10 MB announced and sent", [announce("10000000"), b"v=0\r\n".repeat(2_000_000)].concat(), &[413]),
        ("a negative length", announce("-1"), &[400]),
        ("two lengths", head("ANNOUNCE", "gate", "Content-Length: 1\r\nContent-Length: 2\r\n"), &[400]),
        ("a folded header", head("OPTIONS", "gate", "X: a\r\n b\r\n"), &[400]),
        ("no CSeq", format!("OPTIONS rtsp://{host}/gate RTSP/1.0\r\n\r\n").into_bytes(), &[400]),
        ("bare line feeds", b"OPTIONS * RTSP/1.0\nCSeq: 1\n\n".to_vec(), &[400]),
        ("bare carriage returns", b"OPTIONS * RTSP/1.0\rCSeq: 1\r\r".to_vec(), &[400]),
        ("a NUL", b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nX: a\0b\r\n\r\n".to_vec(), &[400]),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), &[400]),
        ("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), &[400]),
        ("endless headers", head("OPTIONS", "gate", &"X-Header: filler\r\n".repeat(100_000)), &[431]),
        ("an endless line", head("OPTIONS", "gate", &format!("X: {}\r\n", "x".repeat(1_000_000))), &[431]),
        ("an unknown method", head("EXPLODE", "gate", ""), &[501]),
        ("PLAY with a guessed session", head("PLAY", "gate", "Session: 12345678\r\n"), &[454]),
        ("PLAY", head("PLAY", "gate", ""), &[405]),
        ("SETUP first", head("SETUP", "gate", "Transport: RTP/AVP;unicast\r\n"), &[455]),
        ("an option we lack", head("OPTIONS", "gate", "Require: implicit-play\r\n"), &[551]),
        ("garbage", (0..200_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect(), &[400, 0]),
        ("only line ends", b"\r\n".repeat(100_000), &[431, 0]),
    ];
    std::thread::scope(|scope| {
        for (what, bytes, wanted) in &cases {
            let server = &server;
            scope.spawn(move || {
                let seen = status(server, bytes);
                assert!(wanted.contains(&seen), "{what}: {seen}, not one of {wanted:?}");
            });
        }
    });
    assert_eq!(status(&server, &head("OPTIONS", "gate", "")), 200, "after all that it still works");
    assert!(!server.log().contains("panicked"));
}

#[test]
fn publishing_makes_no_more_streams_than_the_server_holds() {
    let server = Server::start_with("[limits]\nstreams = 1\n");
    let secret = server.publish_secret();
    Rtsp::new(&server.rtsp, Some(&secret)).record("gate");
    let mut client = Rtsp::new(&server.rtsp, Some(&secret));
    assert_eq!(client.announce("yard", SDP.as_bytes()).status, 200);
    let transport = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1;mode=record\r\n";
    let session = client.ask("SETUP", "yard/streamid=0", transport, b"").session();
    let said = client.ask("RECORD", "yard", &format!("Session: {session}\r\n"), b"");
    assert!(said.head.starts_with("RTSP/1.0 403 this server holds 1 streams at most (limits.streams)"), "{said:?}");
    assert_eq!(server.json("/v1/streams")["streams"].as_array().map(Vec::len), Some(1));
    Rtsp::new(&server.rtsp, Some(&secret)).record("gate");
    assert!(server.log().contains("rtsp: refused"));
}

#[test]
fn a_bad_description_gets_a_reason_at_once() {
    let server = Server::start();
    let secret = server.publish_secret();
    let video = |lines: &str| format!("v=0\r\ns=-\r\nt=0 0\r\n{lines}");
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("nothing", b"hello".to_vec(), 400),
        ("no media", video("").into_bytes(), 415),
        ("10,000 media sections", video(&"m=a 0 R 0\r\n".repeat(5_000)).into_bytes(), 400),
        ("a line of 60 KB", video(&format!("a={}\r\n", "x".repeat(60_000))).into_bytes(), 400),
        ("NULs", video("m=video 0 RTP/AVP 96\r\na=rtpmap:96 H2\x0064/90000\r\n").into_bytes(), 400),
        ("no UTF-8", [video("").into_bytes(), vec![0xff, 0xfe, b'=', 0xc3, 0x28], b"\r\n".to_vec()].concat(), 400),
        ("a codec nobody has", video("m=video 0 RTP/AVP 96\r\na=rtpmap:96 VP99/90000\r\n").into_bytes(), 415),
        ("a clock rate of 0", video("m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/0\r\n").into_bytes(), 415),
        ("a clock rate beyond 32 bits", video("m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/99999999999\r\n").into(), 415),
        (
            "parameter sets that are none",
            SDP.replace("mode=1", "mode=1;sprop-parameter-sets=////,====,Zw==").into_bytes(),
            200,
        ),
        ("line feeds alone", SDP.replace("\r\n", "\n").into_bytes(), 200),
    ];
    for (what, sdp, wanted) in cases {
        let mut client = Rtsp::new(&server.rtsp, Some(&secret));
        let started = Instant::now();
        let said = client.announce("gate", &sdp);
        println!("{what}: {}", said.head.lines().next().unwrap_or_default());
        // What of it cannot be read is left out; what is left decides.
        let refused = matches!(wanted, 400 | 415) && matches!(said.status, 400 | 413 | 415);
        assert!(said.status == wanted || refused, "{what}: {said:?}");
        assert!(started.elapsed() < Duration::from_secs(1), "{what} took {:?}", started.elapsed());
    }
    assert_eq!(server.get("/v1/streams/gate").status, 404, "a description makes no stream");
    assert!(!server.log().contains("panicked"));
}

#[test]
fn a_session_belongs_to_its_connection() {
    let server = Server::start();
    let secret = server.publish_secret();
    let mut victim = Rtsp::new(&server.rtsp, Some(&secret));
    let session = victim.record("gate");
    let header = format!("Session: {session}\r\n");
    for method in ["PLAY", "TEARDOWN", "SET_PARAMETER", "GET_PARAMETER", "PAUSE", "RECORD", "SETUP"] {
        let mut thief = Rtsp::new(&server.rtsp, Some(&secret));
        assert_eq!(thief.ask(method, "gate", &header, b"").status, 454, "{method}");
        thief.announce("yard", SDP.as_bytes());
        assert_eq!(thief.ask(method, "gate", &header, b"").status, 454, "{method} with a session of its own");
    }
    assert_eq!(victim.ask("GET_PARAMETER", "gate", &header, b"").status, 200);
    assert_eq!(victim.ask("TEARDOWN", "gate", &header, b"").status, 200);
}

/// `realm`, `nonce` and the answer of RFC 7616 in MD5.
fn digest(said: &crate::raw::Said, user: &str, secret: &str, uri: &str, extra: &str) -> String {
    use md5::{Digest, Md5};
    let hex = |text: String| Md5::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let nonce = said.head.split("nonce=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a nonce");
    let response =
        hex(format!("{}:{nonce}:{}", hex(format!("{user}:kinora:{secret}")), hex(format!("ANNOUNCE:{uri}"))));
    format!(
        "Authorization: Digest username=\"{user}\", realm=\"kinora\", nonce=\"{nonce}\", uri=\"{uri}\", \
         response=\"{response}\"{extra}\r\nContent-Type: application/sdp\r\n"
    )
}

#[test]
fn a_digest_answer_is_good_for_its_connection_method_and_address_only() {
    let server = Server::start();
    let secret = server.publish_secret();
    let gate = format!("rtsp://{}/gate", server.rtsp);
    let check = |what: &str, stream: &str, uri: &str, user: &str, password: &str, extra: &str, wanted: u16| {
        let mut client = Rtsp::new(&server.rtsp, None);
        let challenge = client.announce(stream, SDP.as_bytes());
        assert_eq!(challenge.status, 401);
        let header = digest(&challenge, user, password, uri, extra);
        let said = client.ask("ANNOUNCE", stream, &header, SDP.as_bytes());
        assert_eq!(said.status, wanted, "{what}: {said:?}");
        header
    };
    let good = check("a right answer", "gate", &gate, "camera", &secret, "", 200);
    check("a wrong password", "gate", &gate, "camera", "wrong", "", 401);
    check("the address of another stream", "yard", &gate, "camera", &secret, "", 401);
    check("another algorithm than ours", "gate", &gate, "camera", &secret, ", algorithm=MD5-sess", 401);
    check("a quote in the name", "gate", &gate, "a\\\"b", &secret, "", 401);
    // The same answer on another connection: its nonce is not of that one.
    let mut replay = Rtsp::new(&server.rtsp, None);
    assert_eq!(replay.ask("ANNOUNCE", "gate", &good, SDP.as_bytes()).status, 401, "replayed");
    let lines = server.log();
    assert!(!lines.contains(&secret) && !lines.contains("panicked"));
}

/// RTP and RTCP that lie about their lengths, and more of the like.
fn lying_packets() -> Vec<(u8, Vec<u8>)> {
    let rtp =
        |first: u8, kind: u8, rest: &[u8]| [&[first, kind, 0, 1, 0, 0, 0, 1, 0xde, 0xad, 0xbe, 0xef], rest].concat();
    let mut packets = vec![
        (0, vec![]),
        (0, vec![0x80]),
        (0, vec![0xff; 11]),
        (0, rtp(0x80, 96, b"")),
        (0, rtp(0x8f, 96, b"1234")),                   // 15 sources in four bytes
        (0, rtp(0x90, 96, &[0xbe, 0xde, 0xff, 0xff])), // an extension of 256 KiB
        (0, rtp(0xa0, 96, &[0xff])),                   // more padding than packet
        (0, rtp(0xa0, 96, &[0])),                      // padding of nothing
        (0, rtp(0x40, 96, b"version 1")),
        (0, rtp(0x80, 111, b"another payload type")),
        (0, rtp(0x80, 0x80 | 96, &[24, 0xff, 0xff, 1])), // STAP-A: a unit of 64 KiB
        (0, rtp(0x80, 96, &[24, 0, 0, 0, 0, 0, 0])),     // STAP-A: empty units
        (0, rtp(0x80, 96, &[28])),                       // FU-A without its header
        (0, rtp(0x80, 96, &[28, 0x85])),                 // FU-A: a start and nothing
        (0, rtp(0x80, 96, &[28, 0x45, 1])),              // FU-A: an end without a start
        (0, rtp(0x80, 0x80 | 96, &[0x67, 0xff, 0xff, 0xff, 0xff])), // a parameter set of ones
        (0, rtp(0x80, 0x80 | 96, &[0x67; 400])),
        (0, rtp(0x80, 96, &[0x7f; 60_000])),
        (1, vec![]),
        (1, vec![0x80, 200]),
        (1, vec![0x80, 200, 0xff, 0xff]),       // a report of 256 KiB
        (1, vec![0x80, 200, 0, 6, 1, 2, 3, 4]), // a sender report cut off
        (1, vec![0x9f, 201, 0, 1, 0, 0, 0, 1]), // 31 blocks that are not there
        (1, [&[0x9f, 201, 0, 187, 0, 0, 0, 1][..], &[0xee; 744]].concat()),
        (1, vec![0x81, 203, 0, 1, 1, 2, 3, 4]), // somebody else leaves
        (1, vec![0x81, 202, 0, 2, 0, 0, 0, 1, 1, 255, b'x', b'y']), // a name longer than its packet
        (1, vec![0xff; 1_500]),
        (7, b"a channel that nobody set up".to_vec()),
        (255, vec![0; 65_535]),
    ];
    packets.extend((0..200_u8).map(|n| (n % 2, (0..=n).map(|at| at.wrapping_mul(37) ^ n).collect())));
    packets
}

#[test]
fn lying_packets_are_dropped_and_counted() {
    let server = Server::start();
    let mut witness = Witness::start(&server);
    let secret = server.publish_secret();
    let mut client = Rtsp::new(&server.rtsp, Some(&secret));
    let session = client.record("liar");
    for _ in 0..20 {
        for (channel, bytes) in lying_packets() {
            client.packet(channel, &bytes);
        }
    }
    let header = format!("Session: {session}\r\n");
    let said = client.ask("GET_PARAMETER", "liar", &header, b"");
    assert_eq!(said.status, 200, "the session goes on: {said:?}");
    assert_eq!(client.ask("TEARDOWN", "liar", &header, b"").status, 200);
    // A packet that says it is longer than what comes, and then the end.
    let mut client = Rtsp::new(&server.rtsp, Some(&secret));
    client.record("liar");
    let _ = client.socket.write_all(b"$\x00\xff\xffshort");
    drop(client);
    wait_for("the second liar to be gone", Duration::from_secs(10), || {
        (server.get("/v1/streams/liar").json()["state"] == "idle").then_some(())
    });
    assert!(server.fragments("liar").is_empty(), "nothing of it is media");
    let line = wait_for("the log's account", Duration::from_secs(5), || {
        let log = server.log();
        log.lines().find(|line| line.contains("publishing ends") && line.contains("stream=liar")).map(str::to_owned)
    });
    assert!(!line.contains("malformed=0") && !line.contains("wrong_type=0"), "{line}");
    witness.check(&server);
}

#[test]
fn rtsp_clients_that_flood_or_dawdle_are_closed_and_others_served() {
    let server = Server::start_with("[limits]\nunauthenticated_lifetime = '2s'\nunauthenticated_per_ip = 150\n");
    let mut witness = Witness::start(&server);
    let started = Instant::now();
    std::thread::scope(|scope| {
        let server = &server;
        scope.spawn(|| {
            // 10,000 requests at once, answers never read; then the same and read.
            let flood = "OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n".repeat(10_000);
            let (answer, closed) = talk(&server.rtsp, flood.as_bytes(), Duration::from_secs(8));
            let text = String::from_utf8_lossy(&answer);
            let (answered, refused) = (text.matches(" 200 OK").count(), text.matches(" 503 ").count());
            assert!(answered == 10_000 || (refused == 1 && closed), "{answered} answered, {refused} refused");
            let mut deaf = connect(&server.rtsp);
            let _ = deaf.set_write_timeout(Some(Duration::from_secs(1)));
            let _ = deaf.write_all(flood.repeat(20).as_bytes());
        });
        for kind in 0..3 {
            scope.spawn(move || {
                // Many sockets that say a byte now and then, or nothing, or half of a packet.
                let mut sockets: Vec<_> = (0..45).map(|_| connect(&server.rtsp)).collect();
                let says: &[u8] = [b"O".as_slice(), b"", b"$\x00\xff\xff"][kind];
                for _ in 0..3 {
                    for socket in &mut sockets {
                        let _ = socket.write_all(says);
                    }
                    std::thread::sleep(Duration::from_millis(500));
                }
                for mut socket in sockets {
                    let mut answer = Vec::new();
                    let deadline = Instant::now() + Duration::from_secs(8);
                    assert!(read_until(&mut socket, &mut answer, deadline, |_| false), "kind {kind} is closed");
                }
            });
        }
    });
    assert!(started.elapsed() < Duration::from_secs(15));
    assert_eq!(Rtsp::new(&server.rtsp, None).ask("OPTIONS", "gate", "", b"").status, 200, "others are served");
    witness.check(&server);
}

#[test]
fn a_reload_gives_the_door_its_limits() {
    let server = Server::start_with("[limits]\nunauthenticated_lifetime = '30s'\n");
    let lasts = |longest: Duration| {
        let mut socket = connect(&server.rtsp);
        read_until(&mut socket, &mut Vec::new(), Instant::now() + longest, |_| false)
    };
    assert!(!lasts(Duration::from_secs(2)), "30 s are not over");
    std::fs::write(server.data().with_extension("toml"), "[limits]\nunauthenticated_lifetime = '1s'\n").expect("write");
    let reload = server.call("POST", "/v1/server/reload", None);
    assert_eq!(reload.status, 200, "{}", reload.text());
    assert!(lasts(Duration::from_secs(4)), "closed after 1 s");
}
