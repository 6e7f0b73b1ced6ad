//! WebRTC from those who mean no good or do it badly: offers, datagrams, credentials and crowds.

use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ring::hmac;
use serde_json::json;

use crate::peer::{Make, Peer, offer_text, post};
use crate::raw::talk;
use crate::server::{Answer, Server, wait_for};
use crate::witness::{Witness, memory_mib};

/// So many as a long run has (`KINORA_CROWD=1` of `make faults`), or so few that any run has the time.
fn crowd(long: usize, short: usize) -> usize {
    if std::env::var_os("KINORA_CROWD").is_some() { long } else { short }
}

/// The value of the first attribute of this name.
fn attribute<'a>(sdp: &'a str, name: &str) -> &'a str {
    let line = sdp.lines().find_map(|line| line.strip_prefix("a=")?.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {sdp}")).trim()
}

/// Status and body of what a POST gets, which may be refused before it was sent to its end.
fn answer_to_post(server: &Server, path: &str, body: &[u8]) -> (u16, String) {
    let head = format!(
        "POST /{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/sdp\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        server.admin,
        body.len()
    );
    let (answer, _) = talk(&server.http, &[head.as_bytes(), body].concat(), Duration::from_secs(3));
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    (status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

#[test]
fn offers_beyond_the_limits_are_refused_and_cost_nothing() {
    let server = Server::start();
    let mut witness = Witness::start(&server);
    let good = offer_text(true);
    let section = &good[good.find("m=video").expect("a section")..];
    let line = |name: &str| good.lines().find(|line| line.starts_with(name)).expect("a line").to_owned() + "\r\n";
    let without = |name: &str| good.replace(&line(name), "");
    let candidates = |count: u32| {
        let one = |n: u32| format!("a=candidate:{n} 1 udp {n} 192.0.2.{} 9 typ host\r\n", n % 250);
        good.clone() + &(0..count).map(one).collect::<String>()
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", vec![]),
        ("10 MB", good.clone().into_bytes().into_iter().chain(vec![b'a'; 10 << 20]).collect()),
        ("10,000 sections", (good.clone() + &section.repeat(10_000)).into_bytes()),
        ("17 sections", (good.clone() + &section.repeat(17)).into_bytes()),
        ("10,000 sections of few bytes", (good.clone() + &"m=a 0 b 0\n".repeat(6_000)).into_bytes()),
        ("10,000 candidates", candidates(10_000).into_bytes()),
        ("51 candidates", candidates(51).into_bytes()),
        ("10,000 attributes", (good.clone() + &"a=b\r\n".repeat(10_000)).into_bytes()),
        ("a line of 1 MB", (good.clone() + "a=" + &"x".repeat(1 << 20)).into_bytes()),
        ("NULs", good.replace("v=0", "v=0\0").into_bytes()),
        ("nothing but NULs", vec![0; 1_000]),
        ("no UTF-8", [good.as_bytes(), b"a=\xff\xfe\x80:\xc3\x28\r\n"].concat()),
        ("no SDP", b"{\"type\": \"offer\"}".to_vec()),
        ("a line without a key", (good.clone() + "=\r\n\r\na\r\n").into_bytes()),
        ("no ufrag", without("a=ice-ufrag").into_bytes()),
        ("no password", without("a=ice-pwd").into_bytes()),
        ("no fingerprint", without("a=fingerprint").into_bytes()),
        ("no mid", without("a=mid").into_bytes()),
        ("no payload type that is one", good.replace(" 102", " 4294967396").into_bytes()),
        ("a section on a port of its own", good.replace("m=video 9", "m=video 99999999999").into_bytes()),
    ];
    for (what, bytes) in &cases {
        for way in ["whip/gate", "whep/witness"] {
            let (status, body) = answer_to_post(&server, way, bytes);
            assert!([400, 406, 413, 415].contains(&status), "{what} to {way}: {status} {body}");
            assert!(body.len() < 1_000, "{what} is not told at length: {body}");
        }
    }
    // Bare line feeds are taken: some write them, and nothing hangs on it.
    let bare = post(&server, "/whip/gate", &server.admin, &good.replace("\r\n", "\n"));
    assert_eq!(bare.status, 201, "{}", bare.text());
    let twice = format!("{good}{}", line("a=ice-pwd"));
    assert_eq!(post(&server, "/whip/gate", &server.admin, &twice).status, 201);
    let long = server.send_with(
        "PATCH",
        bare.headers["location"].to_str().expect("text"),
        Some(&server.admin),
        &[
            ("content-type", "application/trickle-ice-sdpfrag"),
            ("if-match", bare.headers["etag"].to_str().expect("text")),
        ],
        &vec![b'a'; 17 << 10],
    );
    assert_eq!(long.status, 413, "{}", long.text());
    witness.check(&server);
}

#[test]
fn who_may_not_is_told_so() {
    let server = Server::start();
    let _witness = Witness::start(&server);
    let mint = |body: serde_json::Value| -> String {
        let answer = server.call("POST", "/v1/tokens", Some(body));
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["token"].as_str().expect("shown once").to_owned()
    };
    let publish = mint(json!({"streams": "gate", "actions": ["publish", "create_stream"]}));
    let play = mint(json!({"streams": "witness", "actions": ["play"]}));
    let elsewhere = mint(json!({"streams": "yard", "actions": ["play", "publish", "create_stream"]}));
    let past = json!({"streams": "witness", "actions": ["play"], "playback": true,
        "from": "2001-01-01T00:00:00Z", "to": "2002-01-01T00:00:00Z"});
    let past = mint(past);
    let (sends, receives) = (offer_text(true), offer_text(false));
    let status = |path: &str, token: Option<&str>, offer: &str| {
        server.send("POST", path, token, "application/sdp", offer.as_bytes()).status
    };
    assert_eq!(status("/whip/gate", Some(&publish), &sends), 201);
    assert_eq!(status("/whep/witness", Some(&play), &receives), 201);
    assert_eq!(status("/whip/gate", None, &sends), 401);
    assert_eq!(status("/whep/witness", None, &receives), 401);
    assert_eq!(status("/whip/gate", Some(&publish[..publish.len() - 1]), &sends), 401);
    assert_eq!(status("/whip/gate", Some(&"k".repeat(4_000)), &sends), 401);
    assert_eq!(status("/whip/gate", Some(&elsewhere), &sends), 403, "a token of another stream");
    assert_eq!(status("/whep/witness", Some(&elsewhere), &receives), 403, "a token of another stream");
    assert_eq!(status("/whip/witness", Some(&play), &sends), 403, "a viewer's token");
    assert_eq!(status("/whep/gate", Some(&publish), &receives), 403, "a publisher's token");
    assert_eq!(status("/whep/witness", Some(&past), &receives), 403, "a token of last year");
    assert_eq!(
        status(&format!("/whip/gate?token={publish}"), None, &sends),
        401,
        "publishing tokens are no part of addresses"
    );
    assert_eq!(status("/whip/..%2f..%2fetc", Some(&server.admin), &sends), 400);
    assert_eq!(status("/whip/gate", Some(&server.admin), &receives), 406, "an offer that sends nothing");
    assert!(!server.log().contains(&publish) && !server.log().contains(&play), "no token in the log");
}

#[test]
fn whoever_has_another_certificate_than_the_offer_says_gets_nothing() {
    let server = Server::start();
    let mut witness = Witness::start(&server);
    let changes: [fn(&str) -> String; 4] = [
        |print| print.replace(|c: char| c.is_ascii_digit(), "0"),
        |print| print[..20].to_owned(),
        |print| print.replace("sha-256", "rot13"),
        |print| print.replace("sha-256", "sha-1"),
    ];
    std::thread::scope(|scope| {
        for change in changes {
            let server = &server;
            scope.spawn(move || {
                // The offer may be refused as well.
                let Some(mut peer) = Peer::impostor(server, &server.admin, "witness", change) else { return };
                peer.drive(Duration::from_secs(3), |_| false);
                assert_eq!(peer.packets, 0);
            });
        }
    });
    assert_eq!(server.json("/v1/streams/witness")["viewers"], 0, "none of them is connected");
    witness.check(&server);
}

#[test]
fn candidates_are_no_places_that_we_send_to() {
    let folder = tempfile::tempdir().expect("make a temporary folder");
    let (data, trace) = (folder.path().join("data"), folder.path().join("trace"));
    std::fs::create_dir_all(&data).expect("make the data folder");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-e", "trace=sendto,sendmsg,sendmmsg,connect", "-o"]).arg(&trace);
    command.arg(env!("CARGO_BIN_EXE_kinora")).arg("serve");
    let server = Server::launch(command, &data, "");
    let victim = UdpSocket::bind("127.0.0.1:0").expect("a port");
    victim.set_read_timeout(Some(Duration::from_secs(3))).expect("set a timeout");
    let port = victim.local_addr().expect("bound").port();
    let mut offer = offer_text(true);
    for address in ["169.254.169.254 80", "192.0.2.1 53", &format!("127.0.0.1 {port}")] {
        offer += &format!("a=candidate:1 1 udp 2130706431 {address} typ host\r\n");
    }
    let answer = post(&server, "/whip/gate", &server.admin, &offer);
    assert_eq!(answer.status, 201, "{}", answer.text());
    let fragment = "a=candidate:1 1 udp 2130706431 169.254.169.254 80 typ host\r\n";
    let patched = server.send_with(
        "PATCH",
        answer.headers["location"].to_str().expect("text"),
        Some(&server.admin),
        &[
            ("content-type", "application/trickle-ice-sdpfrag"),
            ("if-match", answer.headers["etag"].to_str().expect("text")),
        ],
        fragment.as_bytes(),
    );
    assert_eq!(patched.status, 204, "{}", patched.text());
    assert!(victim.recv(&mut [0; 100]).is_err(), "the address in the offer gets nothing");
    // One that does know the password, so that sending is seen at all.
    let peer = Peer::publisher(&server, &server.admin, "yard", Make::default());
    peer.close();
    let calls = read(&trace);
    assert!(!calls.contains(&format!("sin_port=htons({port})")), "{calls}");
    assert!(!calls.contains("169.254.169.254") && !calls.contains("192.0.2.1"), "{calls}");
    assert!(calls.contains("sendmsg"), "the trace shows sendings: {calls}");
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).expect("a file")
}

/// A binding request for `to`, whose half of the user name comes first, with this password.
fn binding_request(username: &str, password: &str) -> Vec<u8> {
    let mut message = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    let put = |message: &mut Vec<u8>, kind: u16, value: &[u8]| {
        message.extend(kind.to_be_bytes());
        message.extend((value.len() as u16).to_be_bytes());
        message.extend(value);
        message.resize(message.len().next_multiple_of(4), 0);
    };
    put(&mut message, 0x0006, username.as_bytes());
    put(&mut message, 0x0024, &0x6e00_01ff_u32.to_be_bytes());
    put(&mut message, 0x802a, &[7; 8]);
    let length = (message.len() - 20 + 24) as u16;
    message[2..4].copy_from_slice(&length.to_be_bytes());
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
    let tag = hmac::sign(&key, &message);
    put(&mut message, 0x0008, tag.as_ref());
    message
}

/// Half a second is long for loopback; what comes within it, if anything.
fn answer_to(server: &Server, datagram: &[u8]) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.set_read_timeout(Some(Duration::from_millis(500))).expect("set a timeout");
    // More than a datagram may have is not sent, and gets no answer either.
    let _ = socket.send_to(datagram, &server.webrtc);
    let mut buffer = [0; 2_048];
    let (length, _) = socket.recv_from(&mut buffer).ok()?;
    Some(buffer[..length].to_vec())
}

/// The first flight of a DTLS 1.2 client (RFC 6347 section 4.2.1), as short as it may be.
fn client_hello() -> Vec<u8> {
    let mut body = vec![0xfe, 0xfd];
    body.extend([9; 32]);
    // No session, no cookie, one suite, no compression.
    body.extend([0, 0, 0, 2, 0xc0, 0x2b, 1, 0]);
    let length = body.len() as u8;
    let mut record = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, length + 12];
    record.extend([1, 0, 0, length, 0, 0, 0, 0, 0, 0, 0, length]);
    record.extend(body);
    record
}

#[test]
fn datagrams_of_strangers_are_not_answered() {
    let server = Server::start();
    let offer = offer_text(true);
    let answer = post(&server, "/whip/gate", &server.admin, &offer);
    assert_eq!(answer.status, 201, "{}", answer.text());
    let sdp = answer.text();
    let (ours, password, theirs) =
        (attribute(&sdp, "ice-ufrag"), attribute(&sdp, "ice-pwd"), attribute(&offer, "ice-ufrag"));
    let good = binding_request(&format!("{ours}:{theirs}"), password);
    let changed = |at: usize, to: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + to.len()].copy_from_slice(to);
        bytes
    };
    let before_integrity = good.len() - 24;
    let mut bare = good[..before_integrity].to_vec();
    bare[2..4].copy_from_slice(&((before_integrity - 20) as u16).to_be_bytes());
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("a wrong password", binding_request(&format!("{ours}:{theirs}"), "another")),
        ("the peer's own password", binding_request(&format!("{ours}:{theirs}"), attribute(&offer, "ice-pwd"))),
        ("no session of that name", binding_request(&format!("nobody:{theirs}"), password)),
        ("names the wrong way round", binding_request(&format!("{theirs}:{ours}"), password)),
        ("no integrity", bare),
        ("no attribute at all", vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
        ("another transaction", changed(8, &[0xff; 12])),
        ("a length that is too long", changed(2, &[0xff, 0xff])),
        ("a length that is too short", changed(2, &[0, 4])),
        ("an attribute that is longer than the message", changed(22, &[0xff, 0xff])),
        ("an answer", changed(0, &[1, 1])),
        ("an error", changed(0, &[1, 0x11])),
        ("an indication", changed(0, &[0, 0x11])),
        ("another cookie", changed(4, &[0; 4])),
        ("a ClientHello", client_hello()),
        ("RTP", vec![0x80; 200]),
        ("RTCP", vec![0x80, 200, 0, 6, 1, 2, 3, 4]),
        ("a TURN allocation", changed(0, &[0, 3])),
        ("one byte", vec![0]),
        ("nothing", vec![]),
        ("much", vec![22; 60_000]),
    ];
    std::thread::scope(|scope| {
        for (what, datagram) in &cases {
            let server = &server;
            scope.spawn(move || assert_eq!(answer_to(server, datagram), None, "{what}"));
        }
    });
    let answered = answer_to(&server, &good).expect("who knows the password is answered");
    assert_eq!((&answered[..2], &answered[8..20]), (&[1, 1][..], &good[8..20]), "it is the answer");
    // What did not come from there is still a stranger's.
    assert_eq!(answer_to(&server, &client_hello()), None);
}

#[test]
fn a_flood_of_datagrams_holds_nobody_up_and_is_not_answered() {
    let server = Server::start();
    let mut witness = Witness::start(&server);
    let offer = offer_text(true);
    let sdp = post(&server, "/whip/gate", &server.admin, &offer).text();
    let user = format!("{}:{}", attribute(&sdp, "ice-ufrag"), attribute(&offer, "ice-ufrag"));
    let floods =
        [binding_request(&user, "wrong"), binding_request("nobody:x", "wrong"), client_hello(), vec![0x80; 1_000]];
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flooding = scope.spawn(|| {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
            socket.set_nonblocking(true).expect("no waiting");
            let (mut sent, mut answers) = (0_u64, 0);
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                for datagram in &floods {
                    sent += u64::from(socket.send_to(datagram, &server.webrtc).is_ok());
                }
                while socket.recv(&mut [0; 10]).is_ok() {
                    answers += 1;
                }
                // Some ten thousand a second: more, and the machine of the test is what is tested.
                std::thread::sleep(Duration::from_micros(300));
            }
            (sent, answers)
        });
        // The real one is set up all the same, and watched.
        let mut peer = Peer::viewer(&server, &server.admin, "witness", Make::default());
        assert!(peer.drive(Duration::from_secs(10), |peer| peer.pictures > 75), "{} pictures", peer.pictures);
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        let (sent, answers) = flooding.join().expect("it floods to the end");
        println!("{sent} datagrams of strangers, {answers} answers");
        assert!(sent > 1_000, "{sent} were sent");
        assert_eq!(answers, 0);
    });
    witness.check(&server);
}

/// Posts offers from several connections until `end`; the count of each status.
fn posts(server: &Server, offer: &str, per_second: u32, span: Duration) -> (Vec<Answer>, usize) {
    const CONNECTIONS: u32 = 8;
    let (taken, refused) = (Mutex::new(Vec::new()), std::sync::atomic::AtomicUsize::new(0));
    let end = Instant::now() + span;
    std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| {
                let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
                let mut next = Instant::now();
                while next < end {
                    let post = agent.post(format!("{}/whip/gate", server.http)).content_type("application/sdp");
                    let answer = post.header("authorization", format!("Bearer {}", server.admin)).send(offer);
                    let mut answer = answer.expect("an answer");
                    let status = answer.status().as_u16();
                    let body = answer.body_mut().read_to_vec().expect("the answer's body");
                    assert!([201, 429].contains(&status), "{status} {}", String::from_utf8_lossy(&body));
                    if status == 429 {
                        assert!(answer.headers().contains_key("retry-after"), "when to try again is said");
                        refused.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    } else {
                        let answer = Answer { status, headers: answer.headers().clone(), body };
                        taken.lock().expect("nobody failed").push(answer);
                    }
                    next += Duration::from_secs(1) * CONNECTIONS / per_second;
                    std::thread::sleep(next.saturating_duration_since(Instant::now()));
                }
            });
        }
    });
    (taken.into_inner().expect("nobody failed"), refused.into_inner())
}

#[test]
fn offers_that_nobody_follows_up_are_turned_away_and_forgotten() {
    let server = Server::start();
    let mut witness = Witness::start(&server);
    let offer = offer_text(true);
    let span = Duration::from_secs(crowd(10, 2) as u64);
    let mut memory = Vec::new();
    for round in 0..2 {
        let (taken, refused) = posts(&server, &offer, 1_000, span);
        println!("round {round}: {} offers taken, {refused} refused", taken.len());
        assert!(refused > taken.len() / 2 && !taken.is_empty(), "{} taken, {refused} refused", taken.len());
        assert!(taken.len() <= 300 + 50 * (span.as_secs() as usize + 2), "{} taken", taken.len());
        let last = taken.last().expect("one").headers["location"].to_str().expect("text").to_owned();
        // 404: it is over. 428: it is there, and the request lacks its ETag. It may be asked 20 times.
        wait_for("sessions that came to nothing to be forgotten", Duration::from_secs(20), || {
            std::thread::sleep(Duration::from_millis(900));
            let answer = server.send("PATCH", &last, Some(&server.admin), "application/trickle-ice-sdpfrag", b"");
            (answer.status == 404).then_some(())
        });
        memory.push(memory_mib(&server));
    }
    println!("memory after each round: {memory:?} MiB");
    assert!(memory[1] <= memory[0] + 16, "memory after each round: {memory:?} MiB");
    witness.check(&server);
}

#[test]
fn viewers_that_come_and_go_leave_nothing_behind() {
    let viewers = crowd(1_000, 40);
    let server = Server::start();
    let mut witness = Witness::start(&server);
    let mut memory = Vec::new();
    for _ in 0..2 {
        let left = Mutex::new((0..viewers / 2).collect::<Vec<_>>());
        let slowest = Mutex::new(Duration::ZERO);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while let Some(n) = left.lock().expect("nobody failed").pop() {
                        let started = Instant::now();
                        let mut peer = Peer::viewer(&server, &server.admin, "witness", Make::default());
                        assert!(
                            peer.drive(Duration::from_secs(10), |peer| peer.pictures > 3),
                            "viewer {n} sees something"
                        );
                        let took = started.elapsed();
                        let mut slowest = slowest.lock().expect("nobody failed");
                        *slowest = took.max(*slowest);
                        drop(slowest);
                        match n % 3 {
                            0 => peer.close(),
                            1 => assert_eq!(server.call("DELETE", &peer.location, None).status, 200),
                            // Gone without a word.
                            _ => drop(peer),
                        }
                    }
                });
            }
        });
        println!("{} viewers, the slowest saw something after {:?}", viewers / 2, slowest.into_inner());
        wait_for("the last viewers to be forgotten", Duration::from_secs(20), || {
            (server.json("/v1/streams/witness")["viewers"] == 0).then_some(())
        });
        memory.push(memory_mib(&server));
    }
    println!("memory after each half: {memory:?} MiB");
    assert!(memory[1] <= memory[0] + 16, "memory after each half: {memory:?} MiB");
    witness.check(&server);
}

#[test]
fn viewers_that_never_read_hold_nobody_up() {
    let server = Server::start();
    let mut witness = Witness::start(&server);
    let deaf = crowd(200, 40);
    let deaf: Vec<Peer> = (0..deaf).map(|_| Peer::viewer(&server, &server.admin, "witness", Make::default())).collect();
    let mut other = Peer::viewer(&server, &server.admin, "witness", Make::default());
    other.drive(Duration::from_secs(2), |_| false);
    let before = other.pictures;
    other.drive(Duration::from_secs(4), |_| false);
    let seen = other.pictures - before;
    assert!(seen >= 95 && other.missing() == 0, "{seen} pictures, {} packets missing", other.missing());
    other.drive(Duration::from_secs(8), |_| false);
    let log = server.log();
    let silent = log.lines().filter(|line| line.contains("the peer fell silent")).count();
    assert_eq!(silent, deaf.len(), "who says nothing is not sent to for long");
    assert!(!other.over);
    witness.check(&server);
}
