//! The door as a whole, on a real data folder: every row of the table against every kind of wrong credential, and the
//! calls of `/v1` as a client makes them.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use axum::body::Body;
use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use http_body_util::BodyExt;
use media::ServerTime;
use serde_json::{Value, json};
use store::clock::ManualClock;
use store::{Clock, Store};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tower::ServiceExt;

use super::Pieces;
use super::audience::Audience;
use super::request::Connection;
use super::route::{Needs, On};
use super::v1::server::Listeners;
use super::watch::Events;
use super::{App, RunStatus, router, routes};
use crate::auth::{Access, Action, Scope};
use crate::catalog::{Catalog, StreamSettings};
use crate::config::Config;
use crate::doors::crowd::Crowd;
use crate::frames::Frames;
use crate::live::{self, Hub};
use crate::playback::clip::Clips;
use crate::playback::hls::Playlists;
use crate::telemetry::pulse::Part;
use crate::workers::{Pool, PoolSettings};

const ADMIN: &str = "kin_admin_token_of_these_tests_0000000000000000";
const START: i64 = 1_800_000_000_000_000;

struct Door {
    app: Arc<App>,
    router: axum::Router,
    clock: Arc<ManualClock>,
    _folder: TempDir,
}

/// Decoders that cannot be started: what needs them is tested on the built program.
fn no_decoders(folder: &std::path::Path) -> PoolSettings {
    let program = folder.join("no-decoder");
    PoolSettings { program, registry: folder.join("registry"), processes: 1, queue: 1, idle: Duration::from_secs(1) }
}

impl Door {
    fn open(config: Config) -> Door {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Arc::new(ManualClock::new(ServerTime::from_micros(START)));
        let shared: Arc<dyn Clock> = clock.clone();
        let catalog = Catalog::open(&folder.path().join("control.db")).expect("a catalog");
        let epoch = catalog.next_epoch().expect("an epoch");
        let settings = store::Settings::new(folder.path().to_owned());
        let (store, _) = Store::open(settings, epoch, shared.clone()).expect("a store");
        let access = Access::open(catalog.clone(), shared.clone(), folder.path(), Some(ADMIN)).expect("access");
        let hub = Hub::new(store.clone(), shared.clone(), live::Settings::default());
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let app = Arc::new(App {
            playlists: Arc::new(Playlists::new(hub.clone(), shared.clone())),
            frames: Arc::new(Frames::new(hub.clone(), Pool::new(no_decoders(folder.path())), 0)),
            clips: Clips::new(hub.clone()),
            webrtc: None,
            catalog,
            access,
            hub,
            store,
            events: Events::new(shared.clone()),
            audience: Audience::default(),
            clock: shared,
            crowd: Crowd::new(u32::MAX),
            pieces: Pieces::default(),
            certificate: None,
            status: RunStatus { started: ServerTime::from_micros(START), listeners: Listeners::default() },
            metrics: recorder.handle(),
            reloads: mpsc::channel(1).0,
            config: RwLock::new(Arc::new(config)),
        });
        for name in ["gate", "other"] {
            let name = media::StreamName::new(name).expect("a name");
            app.create_stream(&name, StreamSettings::default(), 100).expect("created");
        }
        Door { router: router(&app), app, clock, _folder: folder }
    }

    fn token(&self, streams: &str, actions: &[Action], playback: bool, expires_us: Option<i64>) -> (String, String) {
        let scope =
            Scope { streams: streams.into(), actions: actions.to_vec(), media_from: None, media_to: None, playback };
        let expires = expires_us.map(|after| ServerTime::from_micros(START + after));
        self.app.access.mint_token("test", scope, expires).expect("minted")
    }

    async fn send(&self, mut request: Request<Body>) -> Response<Body> {
        request.headers_mut().entry(header::HOST).or_insert(HeaderValue::from_static("192.0.2.1:8080"));
        self.send_as_it_is(request).await
    }

    async fn send_as_it_is(&self, mut request: Request<Body>) -> Response<Body> {
        request.extensions_mut().insert(Connection {
            peer: "192.0.2.7:1000".parse().expect("an address"),
            local: "192.0.2.1:8080".parse().expect("an address"),
            tls: false,
            trusted: Arc::new(AtomicBool::new(false)),
        });
        match self.router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    async fn call(&self, method: &str, path: &str, token: Option<&str>, body: Value) -> (StatusCode, Value) {
        let mut request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let response = self.send(request.body(body).expect("a request")).await;
        let status = response.status();
        let bytes = response.into_body().collect().await.expect("a body").to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    async fn admin(&self, method: &str, path: &str, body: Value) -> (StatusCode, Value) {
        self.call(method, path, Some(ADMIN), body).await
    }
}

/// The path of a row with every parameter filled in.
fn path_of(pattern: &str) -> String {
    let fill = |part: &str| match part {
        "{stream}" => "gate".to_owned(),
        part if part.starts_with('{') => "1".to_owned(),
        part => part.to_owned(),
    };
    pattern.split('/').map(fill).collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn no_route_lets_anybody_in_without_the_right_credential() {
    let door = Door::open(Config::default());
    let every = [
        Action::CreateStream,
        Action::ReadStream,
        Action::UpdateStream,
        Action::DeleteStream,
        Action::Publish,
        Action::Play,
        Action::ManageAccess,
        Action::ReadServer,
        Action::ManageServer,
    ];
    let (_, expired) = door.token("*", &[], false, Some(1_000_000));
    let (id, revoked) = door.token("*", &[], false, None);
    door.app.access.revoke(&id).expect("revoked");
    door.clock.advance(2_000_000);
    let mut walked = 0;
    for route in routes() {
        let path = path_of(route.path);
        let method = route.method.as_str();
        let Needs::Action(action, on) = route.needs else {
            assert!(path == "/healthz" || super::console::routes().iter().any(|row| row.path == path), "{route:?}");
            continue;
        };
        walked += 1;
        let refused = |what: &'static str, (status, body): (StatusCode, Value), wanted: &[u16]| {
            assert!(wanted.contains(&status.as_u16()), "{route:?} with {what}: {status} {body}");
            assert!(body["error"]["code"].is_string(), "{route:?} with {what}: {body}");
        };
        refused("no credential", door.call(method, &path, None, Value::Null).await, &[401]);
        // Another address than the throttle would count: one wrong guess more or less is not this test's matter.
        refused("a wrong one", door.call(method, &path, Some("kin_wrong"), Value::Null).await, &[401, 429]);
        refused("an expired one", door.call(method, &path, Some(&expired), Value::Null).await, &[401, 429]);
        refused("a revoked one", door.call(method, &path, Some(&revoked), Value::Null).await, &[401, 429]);
        let others: Vec<Action> = every.iter().copied().filter(|other| *other != action).collect();
        let (_, other_action) = door.token("*", &others, false, None);
        let (_, other_stream) = door.token("other", &[action], false, None);
        if on != On::NamedStreams {
            refused("another action", door.call(method, &path, Some(&other_action), Value::Null).await, &[403]);
            refused("another stream", door.call(method, &path, Some(&other_stream), Value::Null).await, &[403]);
        }
        // Refusing everybody would pass all that.
        let (_, fitting) = door.token("*", &[action], false, None);
        let request = Request::builder().method(method).uri(&path).header("authorization", format!("Bearer {fitting}"));
        // Its body is not awaited: events never end.
        let status = door.send(request.body(Body::empty()).expect("a request")).await.status();
        assert!(!matches!(status.as_u16(), 401 | 403 | 421), "{route:?} with the right one: {status}");
        // In the query it counts only where the row says so, and then only a playback token.
        let (_, right) = door.token("*", &[action], false, None);
        let in_query = format!("{path}?token={right}");
        refused("a token in the query", door.call(method, &in_query, None, Value::Null).await, &[401, 403, 429]);
        let differing = format!("{path}?token=kin_other");
        refused("two credentials", door.call(method, &differing, Some(&right), Value::Null).await, &[400]);
    }
    assert!(walked >= 20, "{walked} rows with a credential");
}

#[tokio::test]
async fn what_a_credential_may_not_see_is_not_there_for_it() {
    let door = Door::open(Config::default());
    let (_, token) = door.token("ga*", &[Action::ReadStream, Action::CreateStream], false, None);
    let (status, page) = door.call("GET", "/v1/streams", Some(&token), Value::Null).await;
    let names: Vec<&str> =
        page["streams"].as_array().expect("a list").iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!((status, names), (StatusCode::OK, vec!["gate"]));
    let (status, _) = door.call("POST", "/v1/streams", Some(&token), json!({"name": "north"})).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let (status, _) = door.call("POST", "/v1/streams", Some(&token), json!({"name": "garage"})).await;
    assert_eq!(status, StatusCode::CREATED);
}

#[tokio::test]
async fn metrics_have_every_stream_and_the_process() {
    let door = Door::open(Config::default());
    let request = Request::builder().uri("/metrics").header("authorization", format!("Bearer {ADMIN}"));
    let response = door.send(request.body(Body::empty()).expect("a request")).await;
    let text = response.into_body().collect().await.expect("a body").to_bytes();
    let text = String::from_utf8_lossy(&text);
    for line in [
        "kinora_stream_live{stream=\"gate\"} 0\n",
        "kinora_stream_live{stream=\"other\"} 0\n",
        "kinora_stream_stored_bytes{stream=\"gate\"} 0\n",
        "kinora_stream_viewers{stream=\"gate\"} 0\n",
        "process_open_fds ",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
}

#[tokio::test]
async fn refused_credentials_are_told_by_door_and_reason() {
    let door = Door::open(Config::default());
    let (_, viewer) = door.token("gate", &[Action::Play], true, None);
    let wrong = "kin_wrong_token_of_these_tests_0000000000000000";
    for (method, path, token) in [
        ("GET", "/v1/streams/gate", wrong),
        ("POST", "/whip/gate", viewer.as_str()),
        ("POST", "/whep/gate", wrong),
        ("POST", "/whep/gate", wrong),
    ] {
        door.call(method, path, Some(token), Value::Null).await;
    }
    let told: Vec<_> =
        door.app.access.refusals.take().into_iter().map(|one| (one.door, one.reason, one.asked)).collect();
    let expected =
        [("http", "wrong", "/v1/streams/gate"), ("whip", "forbidden", "/whip/gate"), ("whep", "wrong", "/whep/gate")];
    assert_eq!(told, expected.map(|(door, reason, asked)| (door, reason, asked.to_owned())));
}

#[tokio::test]
async fn a_stream_is_created_changed_listed_and_deleted() {
    let door = Door::open(Config::default());
    let body = json!({"name": "north", "retention": {"max_age": "24h"}, "tags": {"site": "n"}});
    let (status, made) = door.admin("POST", "/v1/streams", body.clone()).await;
    assert_eq!((status, &made["retention"]["max_age"]), (StatusCode::CREATED, &json!("1d")));
    let (status, again) = door.admin("POST", "/v1/streams", body).await;
    assert_eq!((status, &again["error"]["code"]), (StatusCode::CONFLICT, &json!("stream_exists")));
    let change = json!({"retention": {"max_age": null, "max_bytes": "10GB"}});
    let (_, changed) = door.admin("PATCH", "/v1/streams/north", change).await;
    assert_eq!(changed["retention"], json!({"max_age": null, "max_bytes": 10_000_000_000_u64}));
    assert_eq!(changed["tags"], json!({"site": "n"}));
    let (_, first) = door.admin("GET", "/v1/streams?limit=2", Value::Null).await;
    let cursor = first["cursor"].as_str().expect("more to come");
    let (_, second) = door.admin("GET", &format!("/v1/streams?limit=2&cursor={cursor}"), Value::Null).await;
    assert_eq!((second["streams"][0]["name"].as_str(), second.get("cursor")), (Some("other"), None));
    assert_eq!(door.admin("DELETE", "/v1/streams/north", Value::Null).await.0, StatusCode::NO_CONTENT);
    let (status, gone) = door.admin("GET", "/v1/streams/north", Value::Null).await;
    assert_eq!((status, &gone["error"]["code"]), (StatusCode::NOT_FOUND, &json!("stream_not_found")));
}

#[tokio::test]
async fn a_change_is_made_only_to_the_settings_that_if_match_names() {
    let door = Door::open(Config::default());
    let ask = async |method: &str, field: (&str, &str), body: Value| {
        let request =
            Request::builder().method(method).uri("/v1/streams/gate").header("content-type", "application/json");
        let request = request.header("authorization", format!("Bearer {ADMIN}")).header(field.0, field.1);
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let response = door.send(request.body(body).expect("a request")).await;
        let tag = response.headers().get("etag").map(|tag| tag.to_str().expect("text").to_owned());
        (response.status().as_u16(), tag.unwrap_or_default())
    };
    let north = || json!({"tags": {"site": "north"}});
    let (status, first) = ask("GET", ("accept", "*/*"), Value::Null).await;
    assert_eq!((status, first.is_empty()), (200, false));
    assert_eq!(ask("GET", ("if-none-match", &first), Value::Null).await, (304, first.clone()));
    assert_eq!(ask("PATCH", ("if-match", "\"other-tag\""), north()).await.0, 412);
    assert_eq!(ask("PATCH", ("if-match", &format!("W/{first}")), north()).await.0, 412);
    assert_eq!(ask("PATCH", ("if-match", ""), north()).await.0, 412);
    let (status, second) = ask("PATCH", ("if-match", &format!("\"x\", {first}")), north()).await;
    assert_eq!((status, second == first), (200, false));
    assert_eq!(ask("GET", ("if-none-match", &first), Value::Null).await.0, 200);
    assert_eq!(ask("PATCH", ("if-match", &first), json!({"tags": {}})).await.0, 412);
    assert_eq!(ask("DELETE", ("if-match", &first), Value::Null).await.0, 412);
    assert_eq!(ask("PATCH", ("if-match", "*"), json!({"producer_clock": "trust"})).await.0, 200);
    let (_, stream) = door.admin("GET", "/v1/streams/gate", Value::Null).await;
    assert_eq!((&stream["tags"], &stream["producer_clock"]), (&json!({"site": "north"}), &json!("trust")));
    assert_eq!(ask("DELETE", ("if-match", &second), Value::Null).await.0, 412);
    let (_, last) = ask("GET", ("accept", "*/*"), Value::Null).await;
    assert_eq!(ask("DELETE", ("if-match", &last), Value::Null).await.0, 204);
}

#[tokio::test]
async fn changes_at_once_are_all_made() {
    let door = Door::open(Config::default());
    let (tags, retention) = tokio::join!(
        door.admin("PATCH", "/v1/streams/gate", json!({"tags": {"site": "north"}})),
        door.admin("PATCH", "/v1/streams/gate", json!({"retention": {"max_bytes": 9}})),
    );
    assert_eq!((tags.0, retention.0), (StatusCode::OK, StatusCode::OK));
    let (_, stream) = door.admin("GET", "/v1/streams/gate", Value::Null).await;
    assert_eq!((&stream["tags"], &stream["retention"]["max_bytes"]), (&json!({"site": "north"}), &json!(9)));
}

#[tokio::test]
async fn bad_input_gets_a_clear_error() {
    let door = Door::open(Config::default());
    let check = async |method: &str, path: &str, body: Value, status: u16, code: &str| {
        let (found, answer) = door.admin(method, path, body).await;
        assert_eq!(
            (found.as_u16(), answer["error"]["code"].as_str()),
            (status, Some(code)),
            "{method} {path} {answer}"
        );
    };
    check("POST", "/v1/streams", json!({"name": "a/b"}), 400, "bad_stream_name").await;
    check("GET", "/v1/streams/a%2Fb", Value::Null, 400, "bad_stream_name").await;
    check("GET", "/v1/streams/a/b", Value::Null, 400, "bad_stream_name").await;
    check("GET", "/v1/streams/none", Value::Null, 404, "stream_not_found").await;
    check("GET", "/v1/streams/gate/fragments?from=2&to=1", Value::Null, 400, "bad_time").await;
    check("GET", "/v1/streams/gate/timeline?from=soon", Value::Null, 400, "bad_time").await;
    check("GET", "/v1/streams/gate/timeline?resolution=fast", Value::Null, 400, "bad_time").await;
    check("GET", "/v1/streams/gate/fragments?limit=0", Value::Null, 400, "bad_request").await;
    check("GET", "/v1/streams/gate/fragments?cursor=x", Value::Null, 400, "bad_request").await;
    check("PATCH", "/v1/streams/gate", json!({"retention": {"max_bytes": 0}}), 400, "bad_request").await;
    check("POST", "/v1/streams", json!({"name": "c", "retention": {"max_age": "1ms"}}), 400, "bad_request").await;
    check("POST", "/v1/streams", json!({"name": "c", "colour": "red"}), 400, "bad_request").await;
    check("POST", "/v1/streams", json!({"name": "x".repeat(300 << 10)}), 413, "too_large").await;
    check("POST", "/v1/tokens", json!({"streams": "a b"}), 400, "bad_request").await;
    check("DELETE", "/v1/tokens/none", Value::Null, 404, "credential_not_found").await;
    check("PUT", "/v1/streams", Value::Null, 405, "method_not_allowed").await;
    check("GET", "/nothing", Value::Null, 404, "not_found").await;
}

#[tokio::test]
async fn a_token_works_until_it_is_revoked_and_is_shown_once() {
    let door = Door::open(Config::default());
    let (status, made) = door.admin("POST", "/v1/tokens", json!({"label": "tv", "expires_in": "1h"})).await;
    assert_eq!(status, StatusCode::CREATED);
    let (id, token) = (made["id"].as_str().expect("an id"), made["token"].as_str().expect("a token"));
    assert_eq!(door.call("GET", "/v1/streams/gate", Some(token), Value::Null).await.0, StatusCode::OK);
    let (_, listed) = door.admin("GET", "/v1/tokens", Value::Null).await;
    assert!(listed.to_string().contains(id) && !listed.to_string().contains(token));
    assert_eq!(door.admin("DELETE", &format!("/v1/keys/{id}"), Value::Null).await.0, StatusCode::NOT_FOUND);
    assert_eq!(door.admin("DELETE", &format!("/v1/tokens/{id}"), Value::Null).await.0, StatusCode::NO_CONTENT);
    assert_eq!(door.call("GET", "/v1/streams/gate", Some(token), Value::Null).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn pages_of_other_origins_may_ask_and_bring_no_credentials_of_the_browser() {
    let door = Door::open(Config::default());
    let request = Request::builder().method("OPTIONS").uri("/v1/streams").header("origin", "https://a.example");
    let response = door.send(request.body(Body::empty()).expect("a request")).await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    let headers = response.headers();
    assert_eq!(headers["access-control-allow-origin"], "*");
    assert!(headers["access-control-allow-headers"].to_str().expect("text").contains("Authorization"));
    assert!(!headers.contains_key("access-control-allow-credentials"));
    assert!(headers.contains_key("x-request-id"));
    let request = Request::builder().method("POST").uri("/v1/streams").header("content-type", "text/plain");
    let request = request.header("authorization", format!("Bearer {ADMIN}"));
    let response = door.send(request.body(Body::from(r#"{"name": "x"}"#)).expect("a request")).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST, "a form of another origin sends no JSON");
}

#[tokio::test]
async fn requests_without_a_host_or_with_several_are_refused() {
    let door = Door::open(Config::default());
    let check = async |version: Version, hosts: &[&str], expected: u16| {
        let mut request = Request::builder().version(version).uri("/healthz");
        for host in hosts {
            request = request.header(header::HOST, *host);
        }
        let response = door.send_as_it_is(request.body(Body::empty()).expect("a request")).await;
        assert_eq!(response.status().as_u16(), expected, "{version:?} {hosts:?}");
    };
    check(Version::HTTP_11, &[], 400).await;
    check(Version::HTTP_11, &["a"], 200).await;
    check(Version::HTTP_11, &["a", "a"], 400).await;
    check(Version::HTTP_10, &[], 200).await;
    // What HTTP/2 calls :authority is part of the address.
    check(Version::HTTP_2, &[], 200).await;
}

#[tokio::test]
async fn plain_http_and_unknown_hosts_are_refused_when_that_was_asked_for() {
    let mut config = Config::default();
    config.http.require_tls = true;
    config.http.allowed_hosts = vec!["video.example.org".into()];
    let door = Door::open(config);
    let (status, body) = door.admin("GET", "/v1/streams", Value::Null).await;
    assert_eq!((status, &body["error"]["code"]), (StatusCode::FORBIDDEN, &json!("tls_required")));
    let ask = async |host: &str| {
        let request = Request::builder().uri("/healthz").header("host", host).body(Body::empty());
        door.send(request.expect("a request")).await.status().as_u16()
    };
    assert_eq!(ask("evil.example").await, 421);
    assert_eq!(ask("video.example.org:8080").await, 200);
    assert_eq!(ask("localhost").await, 200);
    assert_eq!(ask("[::1]:8080").await, 200);
    assert_eq!(ask("192.0.2.1").await, 200);
}

#[tokio::test]
async fn health_names_what_is_not_well_and_fails_when_nothing_can_be_recorded() {
    let door = Door::open(Config::default());
    let health = async || door.call("GET", "/healthz", None, Value::Null).await;
    // Several tests share the process: only parts of ours are looked at, and others' never stop recording.
    assert_eq!(health().await.0, StatusCode::OK);
    let part = Part::new("a test's part", Duration::ZERO, false);
    part.beat();
    let (status, body) = health().await;
    assert_eq!((status, &body["status"]), (StatusCode::OK, &json!("degraded")));
    let found = body["parts"].as_array().expect("parts").iter().find(|found| found["part"] == "a test's part");
    assert!(found.is_some_and(|found| found["since"].is_string() && found["stops_recording"] == false), "{body}");
    part.rest();

    std::fs::rename(door._folder.path(), door._folder.path().with_extension("away")).expect("moved");
    let gone = json!("data_folder");
    let body = loop {
        let (status, body) = health().await;
        if status == StatusCode::SERVICE_UNAVAILABLE {
            break body;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    std::fs::rename(door._folder.path().with_extension("away"), door._folder.path()).expect("moved back");
    assert_eq!(body["status"], "failing");
    assert!(body["parts"].as_array().expect("parts").iter().any(|found| found["part"] == gone), "{body}");
    while health().await.0 != StatusCode::OK {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
