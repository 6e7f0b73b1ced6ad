//! Who may publish, and who comes second: real clients with right, wrong and foreign secrets.

use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use crate::clips::clip;
use crate::media_files::{decoded_frames, packets};
use crate::raw::{Rtsp, SDP};
use crate::server::{Server, wait_for};

const CLIENTS: [&str; 3] = ["ffmpeg", "gstreamer", "kinora"];

/// A client on its way, which pushes without an end.
struct Push(Child);

impl Push {
    fn start(client: &str, url: &str) -> Push {
        Push::start_with(client, url, &["--loop"])
    }

    /// `kinora` with these options; others have none.
    fn start_with(client: &str, url: &str, options: &[&str]) -> Push {
        let file = clip("plain.mp4");
        let file = file.to_str().expect("a UTF-8 path");
        let mut command = match client {
            "ffmpeg" => {
                let mut command = Command::new("ffmpeg");
                command.args(["-nostdin", "-v", "error", "-stream_loop", "-1", "-re", "-i", file, "-c", "copy"]);
                command.args(["-f", "rtsp", "-rtsp_transport", "tcp", url]);
                command
            }
            "gstreamer" => {
                let pipeline = format!(
                    "filesrc location={file} ! qtdemux ! h264parse ! rtspclientsink protocols=tcp location={url}"
                );
                let mut command = Command::new("gst-launch-1.0");
                command.arg("-q").args(pipeline.split_whitespace());
                command
            }
            _ => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_kinora"));
                command.args(["publish", file, url]).args(options);
                command
            }
        };
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        Push(command.spawn().expect("run the client"))
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    /// When it does not within a few seconds.
    fn ended(mut self) -> Output {
        wait_for("the client to end", Duration::from_secs(15), || self.0.try_wait().expect("wait for the client"));
        let mut said = Vec::new();
        let mut pipe = self.0.stderr.take().expect("piped");
        std::io::Read::read_to_end(&mut pipe, &mut said).expect("read what it said");
        let status = self.0.wait().expect("wait for the client");
        Output { status, stdout: Vec::new(), stderr: said }
    }

    /// The next line that it prints.
    fn says(&mut self) -> String {
        let mut line = Vec::new();
        let pipe = self.0.stderr.as_mut().expect("piped");
        let mut byte = [0];
        while line.last() != Some(&b'\n') && std::io::Read::read(pipe, &mut byte).expect("read what it says") > 0 {
            line.push(byte[0]);
        }
        String::from_utf8(line).expect("UTF-8")
    }

    fn is_running(&mut self) -> bool {
        self.0.try_wait().expect("wait for the client").is_none()
    }
}

impl Drop for Push {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The client fails, and says why: one of `words` stands in what it prints.
fn check_refused(client: &str, url: &str, words: &[&str]) {
    // One that loops would wait until it is let in.
    let output = Push::start_with(client, url, &[]).ended();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{client} takes {url} for a success");
    assert!(words.iter().any(|word| said.contains(word)), "{client} {url}: {said}");
}

/// Makes a publish secret for streams of this pattern.
fn secret(server: &Server, streams: &str) -> String {
    let body = serde_json::json!({"kind": "publish_secret", "streams": streams});
    let answer = server.call("POST", "/v1/keys", Some(body));
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()["secret"].as_str().expect("a secret, shown once").to_owned()
}

/// Makes a publish secret for every stream, which ends after `seconds`, and its id.
fn ending_secret(server: &Server, seconds: Option<u32>) -> (String, String) {
    let expires_in = seconds.map(|seconds| format!("{seconds}s"));
    let body = serde_json::json!({"kind": "publish_secret", "streams": "*", "expires_in": expires_in});
    let answer = server.call("POST", "/v1/keys", Some(body));
    assert_eq!(answer.status, 201, "{}", answer.text());
    let text = |name: &str| answer.json()[name].as_str().expect("a text").to_owned();
    (text("secret"), text("id"))
}

/// Address of the stream's publisher and the credential that it came with; none when nobody publishes.
fn publisher(server: &Server, stream: &str) -> Option<(String, String)> {
    let answer = server.get(&format!("/v1/streams/{stream}"));
    let json = (answer.status == 200).then(|| answer.json())?;
    let text = |name: &str| json["publisher"][name].as_str().map(str::to_owned);
    Some((text("peer")?, text("credential")?))
}

fn wait_publisher(server: &Server, stream: &str, not: Option<&str>) -> (String, String) {
    wait_for(&format!("a publisher of {stream}"), Duration::from_secs(15), || {
        publisher(server, stream).filter(|(peer, _)| Some(peer.as_str()) != not)
    })
}

#[test]
fn wrong_and_foreign_secrets_are_refused_and_create_nothing() {
    let server = Server::start();
    let yard = secret(&server, "yard*");
    std::thread::scope(|scope| {
        for client in CLIENTS {
            let (server, yard) = (&server, &yard);
            scope.spawn(move || {
                let wrong = server.push_url("not-the-secret", &format!("yard-{client}"));
                check_refused(client, &wrong, &["401", "Unauthorized"]);
                let foreign = server.push_url(yard, &format!("gate-{client}"));
                check_refused(client, &foreign, &["403", "Forbidden"]);
                let nobody = format!("rtsp://{}/yard-{client}", server.rtsp);
                check_refused(client, &nobody, &["401", "Unauthorized"]);
            });
        }
    });
    assert_eq!(server.json("/v1/streams")["streams"].as_array().map(Vec::len), Some(0));
    assert!(!server.log().contains("not-the-secret") && !server.log().contains(&yard), "no secret in the log");
}

#[test]
fn a_second_publisher_needs_the_first_ones_credential() {
    let server = Server::start();
    let (ours, theirs) = (secret(&server, "*"), secret(&server, "*"));
    std::thread::scope(|scope| {
        for client in CLIENTS {
            let (server, ours, theirs) = (&server, &ours, &theirs);
            scope.spawn(move || {
                let stream = format!("gate-{client}");
                let mut first = Push::start("ffmpeg", &server.push_url(ours, &stream));
                let (peer, credential) = wait_publisher(server, &stream, None);
                check_refused(client, &server.push_url(theirs, &stream), &["409", "Conflict", "may not take over"]);
                assert!(first.is_running(), "{client}: the first publisher goes on");
                assert_eq!(publisher(server, &stream), Some((peer.clone(), credential.clone())));
                let _second = Push::start(client, &server.push_url(ours, &stream));
                let (_, now) = wait_publisher(server, &stream, Some(&peer));
                assert_eq!(now, credential, "{client}");
                assert!(!first.ended().status.success(), "{client}: the first publisher is told");
            });
        }
    });
}

#[test]
fn who_comes_second_is_a_setting() {
    let server = Server::start();
    let (ours, theirs) = (secret(&server, "*"), secret(&server, "*"));
    for rule in ["refuse", "takeover"] {
        let body = serde_json::json!({"name": rule, "on_second_publisher": rule});
        assert_eq!(server.call("POST", "/v1/streams", Some(body)).status, 201);
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut first = Push::start("ffmpeg", &server.push_url(&ours, "refuse"));
            let (peer, _) = wait_publisher(&server, "refuse", None);
            for secret in [&ours, &theirs] {
                check_refused("kinora", &server.push_url(secret, "refuse"), &["409"]);
            }
            assert!(first.is_running());
            assert_eq!(publisher(&server, "refuse").map(|(peer, _)| peer), Some(peer.clone()));
            // One that loops says so, and comes when the first has gone.
            let mut patient = Push::start("kinora", &server.push_url(&theirs, "refuse"));
            for _ in 0..2 {
                let said = patient.says();
                assert!(said.contains(" 409 ") && said.contains("; trying again in "), "{said}");
            }
            assert!(patient.is_running() && first.is_running());
            drop(first);
            wait_publisher(&server, "refuse", Some(&peer));
            assert!(patient.is_running());
        });
        scope.spawn(|| {
            let first = Push::start("kinora", &server.push_url(&ours, "takeover"));
            let (peer, credential) = wait_publisher(&server, "takeover", None);
            let _second = Push::start("ffmpeg", &server.push_url(&theirs, "takeover"));
            let (_, now) = wait_publisher(&server, "takeover", Some(&peer));
            assert_ne!(now, credential);
            drop(first);
        });
    });
}

#[test]
fn a_secret_that_ends_ends_its_sessions_and_what_they_sent_is_stored() {
    let server = Server::start();
    let (revoked, id) = ending_secret(&server, None);
    let (expiring, _) = ending_secret(&server, Some(10));
    let (other, _) = ending_secret(&server, None);
    let mut unharmed = Push::start("kinora", &server.push_url(&other, "other"));
    let by_revocation = Push::start("kinora", &server.push_url(&revoked, "revoked"));
    let by_expiry = Push::start("ffmpeg", &server.push_url(&expiring, "expired"));
    // Nobody may start a recording with a credential that ended after it was shown.
    let mut waiting = Rtsp::new(&server.rtsp, Some(&revoked));
    assert_eq!(waiting.announce("waiting", SDP.as_bytes()).status, 200);
    let transport = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1;mode=record\r\n";
    let session = waiting.ask("SETUP", "waiting/streamid=0", transport, b"").session();
    for stream in ["revoked", "expired", "other"] {
        wait_publisher(&server, stream, None);
    }
    assert_eq!(server.call("DELETE", &format!("/v1/keys/{id}"), None).status, 204);
    let said = waiting.ask("RECORD", "waiting", &format!("Session: {session}\r\n"), b"");
    assert_eq!((said.status, said.head.contains("revoked or has expired")), (403, true), "{said:?}");
    let gone = |stream: &str| publisher(&server, stream).is_none().then_some(());
    wait_for("the revoked session to end", Duration::from_secs(5), || gone("revoked"));
    assert!(!by_revocation.ended().status.success(), "the publisher is told");
    assert!(!by_expiry.ended().status.success(), "the publisher is told");
    assert!(unharmed.is_running() && publisher(&server, "other").is_some());
    for stream in ["revoked", "expired"] {
        server.wait_idle(stream);
        let log = server.log();
        let end =
            log.lines().find(|line| line.contains("publishing ends") && line.contains(&format!("stream={stream} ")));
        let end = end.unwrap_or_else(|| panic!("{stream}: {log}"));
        assert!(end.contains("its credential was revoked or has expired"), "{end}");
        // Every unit of the session, those of its open fragment too.
        let units = end.split_once(" units=").and_then(|(_, rest)| rest.split(' ').next()?.parse::<u64>().ok());
        let blocks = server.blocks_of(stream);
        let samples = blocks.iter().map(|block| {
            let block = block.to_str().expect("a UTF-8 path");
            (packets(block, 'v').len() + packets(block, 'a').len()) as u64
        });
        assert_eq!(units, Some(samples.sum()), "{end}");
    }
}

#[test]
fn a_stream_with_two_publishers_one_after_the_other_has_one_gap() {
    let server = Server::start();
    let secret = secret(&server, "*");
    let url = server.push_url(&secret, "gate");
    let recorded = |count: usize| {
        wait_for("fragments", Duration::from_secs(20), || {
            let there = publisher(&server, "gate").is_some();
            (there && server.fragments("gate").len() >= count).then_some(())
        });
    };
    let first = Push::start("ffmpeg", &url);
    recorded(1);
    let (peer, _) = wait_publisher(&server, "gate", None);
    let second = Push::start("ffmpeg", &url);
    wait_publisher(&server, "gate", Some(&peer));
    let before = server.fragments("gate").len();
    recorded(before + 2);
    drop((first, second));
    server.wait_idle("gate");
    let fragments = server.fragments("gate");
    let breaks: Vec<_> = fragments.iter().filter_map(|fragment| fragment["break_before"].as_str()).collect();
    assert_eq!(breaks, ["started", "publisher_left"], "{fragments:?}");
    for block in server.blocks_of("gate") {
        assert!(decoded_frames(block.to_str().expect("a UTF-8 path")) > 0);
    }
}
