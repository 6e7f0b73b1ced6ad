//! Whole pushes against a recorder of a few lines: it challenges, counts what arrives, and can refuse.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::clip::Clip;
use super::{Target, Trust, push, report};

const FILE: &[u8] = include_bytes!("../../../tests/data/mp4/progressive.mp4");

/// What the recorder heard.
#[derive(Debug, Default)]
struct Heard {
    methods: Vec<String>,
    transports: Vec<String>,
    authorizations: Vec<String>,
    announced: String,
    /// Marked RTP packets by payload type.
    units: HashMap<u8, u64>,
    /// RTCP packets by type of their first report.
    reports: u64,
    goodbyes: u64,
}

impl Heard {
    fn take_rtp(&mut self, packet: &[u8]) {
        *self.units.entry(packet[1] & 0x7f).or_default() += u64::from(packet[1] >> 7);
    }

    fn take_rtcp(&mut self, packet: &[u8]) {
        self.reports += u64::from(packet[1] == 200);
        self.goodbyes += u64::from(packet[packet.len() - 7] == 203);
    }
}

/// What the recorder does besides recording.
#[derive(Clone, Copy, Default)]
struct Manners {
    challenge: Option<&'static str>,
    /// Answers ANNOUNCE so.
    announce: Option<&'static str>,
    /// Hangs up after so many bytes of the first connection.
    hang_up: bool,
}

/// Serves one connection to its end.
fn record(stream: TcpStream, manners: Manners, heard: &mut Heard) {
    let mut writer = stream.try_clone().expect("a handle");
    let mut reader = BufReader::new(stream);
    let mut sockets: Vec<UdpSocket> = Vec::new();
    let mut frames = 0;
    loop {
        let mut first = [0];
        if reader.read_exact(&mut first).is_err() {
            return;
        }
        if first[0] == b'$' {
            let mut head = [0; 3];
            reader.read_exact(&mut head).expect("a frame's head");
            let mut packet = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
            reader.read_exact(&mut packet).expect("a frame");
            if head[0] % 2 == 0 {
                heard.take_rtp(&packet)
            } else {
                heard.take_rtcp(&packet)
            }
            frames += 1;
            if manners.hang_up && frames == 20 {
                return;
            }
            continue;
        }
        let mut head = String::from_utf8(first.to_vec()).expect("text");
        while !head.ends_with("\r\n\r\n") {
            reader.read_line(&mut head).expect("a line");
        }
        let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let mut body = vec![0; header("Content-Length:").map_or(0, |text| text.parse().expect("a number"))];
        reader.read_exact(&mut body).expect("a body");
        let method = head.split(' ').next().expect("a method").to_owned();
        let cseq = header("CSeq:").expect("a number").to_owned();
        let mut answer = |status: &str, headers: &str| {
            write!(writer, "RTSP/1.0 {status}\r\nCSeq: {cseq}\r\n{headers}\r\n").expect("a reader");
        };
        if let Some(challenge) = manners.challenge
            && header("Authorization:").is_none()
        {
            answer("401 Unauthorized", challenge);
            continue;
        }
        heard.methods.push(method.clone());
        heard.authorizations.extend(header("Authorization:").map(str::to_owned));
        match (method.as_str(), manners.announce) {
            ("ANNOUNCE", Some(status)) => answer(status, ""),
            ("ANNOUNCE", None) => {
                heard.announced = String::from_utf8(body).expect("text");
                answer("200 OK", "");
            }
            ("SETUP", _) => {
                let transport = header("Transport:").expect("a transport").to_owned();
                heard.transports.push(transport.clone());
                let mut reply = transport.clone();
                if transport.contains("UDP") {
                    let pair = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").expect("a port"));
                    let ports = pair.each_ref().map(|socket| socket.local_addr().expect("bound").port());
                    reply += &format!(";server_port={}-{}", ports[0], ports[1]);
                    sockets.extend(pair);
                }
                answer("200 OK", &format!("Session: 12;timeout=60\r\nTransport: {reply}\r\n"));
            }
            ("TEARDOWN", _) => {
                for (at, socket) in sockets.iter().enumerate() {
                    socket.set_nonblocking(true).expect("a socket");
                    let mut packet = [0; 2048];
                    while let Ok(length) = socket.recv(&mut packet) {
                        let packet = &packet[..length];
                        if at % 2 == 0 { heard.take_rtp(packet) } else { heard.take_rtcp(packet) }
                    }
                }
                answer("200 OK", "");
                return;
            }
            _ => answer("200 OK", "Public: ANNOUNCE, SETUP, RECORD, TEARDOWN\r\n"),
        }
    }
}

/// Pushes the file at five times its speed to a recorder that serves `connections`, one after another.
fn push(udp: bool, count: Option<u64>, connections: Vec<Manners>) -> (Vec<report::StreamResult>, Vec<Heard>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let recorder = thread::spawn(move || {
        let serve = |manners| {
            let mut heard = Heard::default();
            record(listener.accept().expect("a publisher").0, manners, &mut heard);
            heard
        };
        connections.into_iter().map(serve).collect::<Vec<_>>()
    });
    let target =
        Target::parse(&format!("rtsp://me:secret@127.0.0.1:{port}/gate"), &Trust::Authorities).expect("an address");
    let clip = Arc::new(Clip::build(FILE).expect("our own file"));
    let options = push::Options { clip, count, streams: 1, udp, speed: 5.0 };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let results = runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(30), push::all(&options, &target)).await.expect("an end")
    });
    (results, recorder.join().expect("a recorder without complaints"))
}

fn check_whole(results: &[report::StreamResult], heard: &Heard, rounds: u64) {
    assert!(results[0].lost.is_none(), "{:?}", results[0].lost);
    let sent: Vec<u64> =
        results[0].counters.frames.iter().map(|it| it.load(std::sync::atomic::Ordering::Relaxed)).collect();
    assert_eq!(sent[0], 12 * rounds);
    assert_eq!((heard.units[&96], heard.units[&97]), (sent[0], sent[1]), "{heard:?}");
    assert_eq!((heard.reports, heard.goodbyes), (4, 2), "one report at the start and one at the end of each track");
    assert!(heard.announced.contains("a=rtpmap:96 H264/90000\r\n"));
    assert!(heard.announced.contains("a=rtpmap:97 mpeg4-generic/44100/1\r\n"));
}

#[test]
fn everything_arrives_inside_the_connection() {
    let (results, heard) = push(false, Some(2), vec![Manners::default()]);
    check_whole(&results, &heard[0], 2);
    assert_eq!(heard[0].methods, ["OPTIONS", "ANNOUNCE", "SETUP", "SETUP", "RECORD", "TEARDOWN"]);
    assert!(heard[0].authorizations.is_empty(), "no secret is given unasked");
}

#[test]
fn everything_arrives_over_udp() {
    let (results, heard) = push(true, Some(1), vec![Manners::default()]);
    check_whole(&results, &heard[0], 1);
    assert!(heard[0].transports.iter().all(|transport| transport.starts_with("RTP/AVP/UDP;unicast;client_port=")));
}

#[test]
fn challenges_are_answered() {
    let digest = "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\", algorithm=SHA-256, qop=\"auth\"\r\nWWW-Authenticate: Digest realm=\"r\", nonce=\"n\"\r\n";
    for (challenge, expected) in
        [(digest, "algorithm=SHA-256"), ("WWW-Authenticate: Basic realm=\"r\"\r\n", "Basic bWU6c2VjcmV0")]
    {
        let manners = Manners { challenge: Some(challenge), ..Manners::default() };
        let (results, heard) = push(false, Some(1), vec![manners]);
        check_whole(&results, &heard[0], 1);
        assert_eq!(heard[0].authorizations.len(), 6);
        assert!(heard[0].authorizations.iter().all(|text| text.contains(expected)), "{:?}", heard[0].authorizations);
    }
}

#[test]
fn who_loops_tries_again_while_somebody_else_publishes_and_others_end() {
    let busy = Manners { announce: Some("409 Conflict"), ..Manners::default() };
    let full = Manners { announce: Some("453 Not Enough Bandwidth"), ..Manners::default() };
    let hang_up = Manners { hang_up: true, ..Manners::default() };
    let refuse = Manners { announce: Some("403 Forbidden"), ..Manners::default() };
    let (results, heard) = push(false, None, vec![busy, full, hang_up, busy, refuse]);
    assert_eq!(heard.iter().filter(|heard| heard.methods.last().is_some_and(|last| last == "RECORD")).count(), 1);
    assert_eq!(results[0].counters.reconnects.load(std::sync::atomic::Ordering::Relaxed), 4);
    let lost = |results: &[report::StreamResult]| results[0].lost.as_ref().map(ToString::to_string);
    assert_eq!(lost(&results).as_deref(), Some("the server refused ANNOUNCE: 403 Forbidden"));
    let (results, _) = push(false, Some(3), vec![busy]);
    assert_eq!(lost(&results).as_deref(), Some("the server refused ANNOUNCE: 409 Conflict"));
    let (results, _) = push(false, Some(100), vec![hang_up]);
    assert!(lost(&results).is_some(), "nor is it connected again");
}

#[test]
fn lost_connection_is_made_again_until_the_server_says_no() {
    let hang_up = Manners { hang_up: true, ..Manners::default() };
    let refuse = Manners { announce: Some("403 Forbidden"), ..Manners::default() };
    let (results, heard) = push(false, None, vec![hang_up, refuse]);
    assert_eq!(
        results[0].lost.as_ref().map(ToString::to_string).as_deref(),
        Some("the server refused ANNOUNCE: 403 Forbidden")
    );
    assert_eq!(heard[0].methods.last().map(String::as_str), Some("RECORD"));
    assert_eq!(results[0].counters.reconnects.load(std::sync::atomic::Ordering::Relaxed), 1);
}
