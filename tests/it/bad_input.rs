//! Wrong parameters and credentials over HTTP: a clear answer each time. Hostile bytes are in `bad_http` and `bad_rtsp`.

use std::time::Duration;

use crate::server::Server;

fn code(server: &Server, path: &str, token: Option<&str>) -> (u16, String) {
    let answer = server.request("GET", path, token, None);
    let json = answer.json();
    assert!(json["error"]["message"].as_str().is_some_and(|text| !text.is_empty()), "{path}: {json}");
    assert!(json["error"]["request_id"].is_string(), "{path}: {json}");
    (answer.status, json["error"]["code"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn http_errors_have_the_status_and_code_that_the_document_lists() {
    let server = Server::start();
    let admin = Some(server.admin.as_str());
    server.call("POST", "/v1/streams", Some(serde_json::json!({"name": "gate"})));
    let check = |path: &str, token: Option<&str>, status: u16| {
        let (seen, code) = code(&server, path, token);
        assert_eq!(seen, status, "{path}: {code}");
        assert!(!code.is_empty(), "{path} has a code");
    };
    check("/v1/streams/nobody", admin, 404);
    check("/hls/nobody/index.m3u8", admin, 404);
    check("/v1/streams/gate", None, 401);
    check("/v1/streams/gate", Some("kin_wrong"), 401);
    check("/v1/streams/gate", Some(&"x".repeat(8000)), 401);
    check("/v1/streams/gate/fragments?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", admin, 400);
    check("/v1/streams/gate/fragments?from=yesterday", admin, 400);
    check("/hls/gate/index.m3u8?from=2&to=1", admin, 400);
    check("/v1/streams/gate/fragments?limit=-1", admin, 400);
    check("/v1/streams/a%2Fb", admin, 400);
    let slash = server.call("POST", "/v1/streams", Some(serde_json::json!({"name": "site/gate"})));
    assert_eq!(slash.status, 400);
    assert!(slash.text().contains("'-'"), "the answer hints at what to use instead: {}", slash.text());
}

#[test]
fn tokens_open_only_what_they_are_for() {
    let server = Server::start();
    for name in ["gate", "yard"] {
        server.call("POST", "/v1/streams", Some(serde_json::json!({"name": name})));
    }
    let mint = |body: serde_json::Value| {
        let answer = server.call("POST", "/v1/tokens", Some(body));
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()
    };
    let gate = mint(serde_json::json!({"label": "gate", "streams": "gate", "actions": ["read_stream", "play"]}));
    let token = gate["token"].as_str().expect("shown once").to_owned();
    let get = |path: &str| server.request("GET", path, Some(&token), None).status;
    assert_eq!(get("/v1/streams/gate"), 200);
    assert_eq!(get("/v1/streams/yard"), 403);
    assert_eq!(get("/v1/server"), 403);
    assert_eq!(server.request("DELETE", "/v1/streams/gate", Some(&token), None).status, 403);
    let query = server.request("GET", &format!("/hls/gate/index.m3u8?token={token}"), None, None);
    assert_eq!(query.status, 403, "a token that is not for playback is not taken from an address");

    let short = mint(serde_json::json!({"label": "short", "streams": "*", "actions": [], "expires_in": "1s"}));
    std::thread::sleep(Duration::from_millis(1500));
    let expired = short["token"].as_str().expect("shown once");
    assert_eq!(server.request("GET", "/v1/streams", Some(expired), None).status, 401);

    let id = gate["id"].as_str().expect("an id");
    assert!(server.call("DELETE", &format!("/v1/tokens/{id}"), None).status < 300);
    assert_eq!(get("/v1/streams/gate"), 401, "revoked at once");
}
