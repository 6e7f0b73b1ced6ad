//! The API as a client sees it: a stream with two sessions and a hole, its events, and what the log keeps to itself.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::clips::clip;
use crate::raw::{Rtsp, SDP, connect, talk};
use crate::server::{Server, wait_for};

fn publish(server: &Server, secret: &str, stream: &str) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kinora"));
    command.arg("publish").arg(clip("video-only.mp4")).arg(server.push_url(secret, stream));
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.spawn().expect("start kinora publish")
}

#[test]
fn two_sessions_are_two_spans_and_a_gap_and_pages_stay_right_while_fragments_come() {
    let server = Server::start();
    let secret = server.publish_secret();
    let mut ear = connect(&server.http);
    let request = format!("GET /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n", server.admin);
    ear.write_all(request.as_bytes()).expect("send");
    let mut heard = [0; 4096];
    let count = ear.read(&mut heard).expect("the head of the answer");
    assert!(heard[..count].starts_with(b"HTTP/1.1 200"), "events are heard from here on");
    // The watch looks at streams five times a second: what a new listener is not told of is that short.
    std::thread::sleep(Duration::from_millis(500));
    assert!(publish(&server, &secret, "gate").wait().expect("the first session").success());
    server.wait_idle("gate");
    std::thread::sleep(Duration::from_millis(2_500));
    let mut second = publish(&server, &secret, "gate");
    wait_for("the second session", Duration::from_secs(10), || {
        (server.json("/v1/streams/gate")["state"] == "live").then_some(())
    });
    // Page by page, more slowly than fragments come.
    let (mut paged, mut cursor): (Vec<Value>, _) = (Vec::new(), String::new());
    loop {
        let page = server.json(&format!("/v1/streams/gate/fragments?limit=1{cursor}"));
        let found = page["fragments"].as_array().expect("a list");
        assert!(found.len() <= 1);
        paged.extend(found.iter().cloned());
        match page["cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
        std::thread::sleep(Duration::from_millis(900));
    }
    assert!(second.wait().expect("the second session").success());
    server.wait_idle("gate");
    let all = server.fragments("gate");
    assert_eq!(paged, all[..paged.len()], "no fragment twice, none left out");
    assert!(paged.len() >= 4 && all.windows(2).all(|pair| pair[0]["number"].as_str() < pair[1]["number"].as_str()));

    for clock in ["producer", "server"] {
        let timeline = server.json(&format!("/v1/streams/gate/timeline?clock={clock}"));
        let (spans, gaps) = (timeline["spans"].as_array().expect("spans"), timeline["gaps"].as_array().expect("gaps"));
        assert_eq!((spans.len(), gaps.len()), (2, 1), "{timeline}");
        assert_eq!((&gaps[0]["from"], &gaps[0]["to"]), (&spans[0]["to"], &spans[1]["from"]), "{timeline}");
        assert_eq!(gaps[0]["reason"], "publisher_left");
        let counted: u64 = spans.iter().filter_map(|span| span["fragments"].as_u64()).sum();
        assert_eq!(counted as usize, all.len());
        let coarse = server.json(&format!("/v1/streams/gate/timeline?clock={clock}&resolution=1m"));
        assert_eq!(coarse["spans"].as_array().map(Vec::len), Some(1), "{coarse}");
        // Only the second session.
        let from = spans[1]["from"].as_str().expect("a time");
        let page = server.json(&format!("/v1/streams/gate/fragments?clock={clock}&from={from}"));
        assert_eq!(page["fragments"].as_array().map(Vec::len), spans[1]["fragments"].as_u64().map(|n| n as usize));
    }

    let seconds: f64 = all.iter().filter_map(|one| one["duration"].as_f64()).sum();
    assert!((seconds - 16.0).abs() < 0.5, "two clips of 8 s: {seconds}");
    let changed = server.call("PATCH", "/v1/streams/gate", Some(json!({"retention": {"max_age": "30d"}}))).json();
    assert_eq!((&changed["retention"]["max_age"], &changed["retention"]["max_bytes"]), (&json!("30d"), &Value::Null));
    let id = server.json("/v1/streams/gate")["id"].clone();
    assert_eq!(server.call("DELETE", "/v1/streams/gate", None).status, 204);
    for path in ["/v1/streams/gate", "/v1/streams/gate/fragments", "/hls/gate/index.m3u8"] {
        assert_eq!(server.get(path).status, 404, "{path}");
    }
    let again = server.call("POST", "/v1/streams", Some(json!({"name": "gate"})));
    assert_eq!((again.status, again.json()["bytes"].as_u64()), (201, Some(0)));
    assert_ne!(again.json()["id"], id, "another stream of the same name");
    let wanted = ["publisher_came", "fragment_persisted", "publisher_left", "stream_deleted", "stream_created"];
    let mut heard = String::new();
    let mut buffer = [0; 4096];
    while !heard.contains("event: stream_created") {
        let count = ear.read(&mut buffer).expect("more events");
        assert!(count > 0, "the server closed the stream of events: {heard}");
        heard.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    for kind in wanted {
        assert!(heard.contains(&format!("event: {kind}\n")), "{kind} in {heard}");
    }
    assert_eq!(heard.matches("event: publisher_came\n").count(), 2, "{heard}");
}

#[test]
fn viewers_the_forecast_and_recent_events_are_told_to_who_asks_later() {
    let server = Server::start();
    assert_eq!(server.call("POST", "/v1/streams", Some(json!({"name": "gate"}))).status, 201);
    let mut camera = publish(&server, &server.publish_secret(), "gate");
    wait_for("a fragment", Duration::from_secs(20), || (!server.fragments("gate").is_empty()).then_some(()));
    assert_eq!(server.json("/v1/streams/gate")["viewers"], 0, "who only looks at lists is no viewer");
    for token in [server.play_token(), server.play_token()] {
        for _ in 0..2 {
            assert_eq!(server.request("GET", "/hls/gate/index.m3u8", Some(&token), None).status, 200);
        }
    }
    assert_eq!(server.json("/v1/streams/gate")["viewers"], 2);
    let space = server.json("/v1/server")["space"].clone();
    assert!(space["write_rate"].as_u64() > Some(10_000) && space["seconds_left"].is_u64(), "{space}");
    assert!(camera.wait().expect("the session").success());
    server.wait_idle("gate");
    let events = wait_for("the events", Duration::from_secs(5), || {
        let events = server.json("/v1/events/recent")["events"].as_array().cloned().expect("a list");
        (events.first()?["type"] == "publisher_left").then_some(events)
    });
    assert_eq!((&events[1]["type"], &events[1]["stream"]), (&json!("publisher_came"), &json!("gate")));
    let space = server.json("/v1/server")["space"].clone();
    assert_eq!((&space["write_rate"], &space["seconds_left"]), (&json!(0), &Value::Null));
}

#[test]
fn no_secret_gets_into_the_log_or_the_metrics() {
    let server = Server::start_with("[log]\nfilter = 'debug'\n[metrics]\nper_stream = false\n");
    let secret = server.publish_secret();
    let token = server.play_token();
    let wrong = "kin_canaryCANARYcanaryCANARYcanaryCANARY0123456";
    for path in ["/hls/gate/index.m3u8", "/v1/streams", "/nothing", "/hls/a/b/c/d"] {
        for token in [&token, wrong, &server.admin] {
            server.request("GET", &format!("{path}?token={token}"), None, None);
            server.request("GET", path, Some(token), None);
        }
    }
    let body = json!({"label": wrong, "streams": "a b"});
    server.call("POST", "/v1/tokens", Some(body));
    // Clients that write user and password into what they ask for, right and wrong.
    for path in ["gate", "a/b", ""] {
        let uri = format!("rtsp://camera:{secret}@{}/{path}", server.rtsp);
        for method in ["OPTIONS", "ANNOUNCE", "SETUP", "EXPLODE"] {
            let text = format!("{method} {uri} RTSP/1.0\r\nCSeq: 1\r\n\r\n");
            talk(&server.rtsp, text.as_bytes(), Duration::from_millis(150));
        }
    }
    let mut client = Rtsp::new(&server.rtsp, Some(&secret));
    assert_eq!(client.announce("gate", SDP.as_bytes()).status, 200);
    Rtsp::new(&server.rtsp, Some(wrong)).announce("gate", SDP.as_bytes());
    publish(&server, &secret, "seen").kill().expect("killed");
    publish(&server, &secret, "seen").wait().expect("ended");
    let (log, metrics) = (server.log(), server.get("/metrics").text());
    assert!(log.contains("rtsp: refused") && log.contains("DEBUG"), "the log says something: {log}");
    let canaries =
        [("publish secret", &*secret), ("token", &*token), ("wrong token", wrong), ("admin", &*server.admin)];
    for (what, canary) in canaries {
        let line = log.lines().find(|line| line.contains(canary));
        assert!(line.is_none(), "a {what} is in the log: {line:?}");
        assert!(!metrics.contains(canary), "a {what} is in the metrics");
    }
    assert!(!metrics.contains("stream=\""), "labels per stream were switched off");
    check_metrics(&metrics);
}

/// Every family has a help text and a name with its unit.
fn check_metrics(metrics: &str) {
    let families = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect::<Vec<_>>();
    assert!(families.len() > 15, "{families:?}");
    for family in families {
        let (name, kind) = family.split_once(' ').expect("a name and a type");
        // Those of the process have the names that every exporter gives them.
        assert!(name.starts_with("kinora_") || name.starts_with("process_"), "{name}");
        assert!(metrics.contains(&format!("# HELP {name} ")), "{name} has no help text");
        match kind {
            "counter" => assert!(name.ends_with("_total"), "{name}"),
            "histogram" => assert!(name.ends_with("_seconds") || name.ends_with("_bytes"), "{name}"),
            _ => {}
        }
    }
}
