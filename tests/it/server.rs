//! The program under test: starts it, talks to it, kills it.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A running `kinora serve` with a data folder of its own.
pub(crate) struct Server {
    child: Child,
    data: PathBuf,
    /// Owns the folder unless the caller does.
    _temporary: Option<tempfile::TempDir>,
    /// `http://127.0.0.1:port`.
    pub http: String,
    /// `127.0.0.1:port`, TLS.
    pub https: String,
    /// `127.0.0.1:port`.
    pub rtsp: String,
    /// `127.0.0.1:port`, TLS.
    pub rtsps: String,
    /// `127.0.0.1:port`, UDP.
    pub webrtc: String,
    /// The admin token.
    pub admin: String,
    /// How long it took from start to the ready line.
    pub ready_after: Duration,
}

/// An answer: status, headers and body.
pub(crate) struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in: {}", self.text()))
    }
}

impl Server {
    /// Starts with an empty data folder and default settings on free ports.
    pub(crate) fn start() -> Server {
        Server::start_with("")
    }

    /// Starts with an empty data folder and these lines as its `kinora.toml`.
    pub(crate) fn start_with(config: &str) -> Server {
        let temporary = tempfile::tempdir().expect("make a temporary folder");
        let data = temporary.path().join("data");
        let mut server = Server::start_in(&data, config);
        server._temporary = Some(temporary);
        server
    }

    /// Starts on this data folder.
    pub(crate) fn start_in(data: &Path, config: &str) -> Server {
        std::fs::create_dir_all(data).expect("make the data folder");
        let mut command = Command::new(env!("CARGO_BIN_EXE_kinora"));
        command.arg("serve");
        Server::launch(command, data, config)
    }

    /// Starts with `command` (which ends in `serve`), for tests that put a tracer in front.
    pub(crate) fn launch(mut command: Command, data: &Path, config: &str) -> Server {
        let file = data.with_extension("toml");
        std::fs::write(&file, config).expect("write the configuration");
        let started = Instant::now();
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(data.with_extension("log"))
            .expect("open the log file");
        let mut child = command
            .arg("--config")
            .arg(&file)
            .arg("--data-dir")
            .arg(data)
            .args(["--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--rtsp", "127.0.0.1:0"])
            // How full the disk of the machine is must not decide what a test finds.
            .env("KINORA_STORAGE_SOFT_FREE_PERMILLE", "2")
            .env("KINORA_STORAGE_HARD_FREE_PERMILLE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("start kinora");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("read the ready line");
        let ready_after = started.elapsed();
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|_| {
            let log = std::fs::read_to_string(data.with_extension("log")).unwrap_or_default();
            panic!("no ready line, but: {line:?}; log:\n{log}")
        });
        assert_eq!(ready["ready"], true);
        let admin = std::fs::read_to_string(data.join("admin-token")).expect("the admin token is in its file");
        Server {
            child,
            data: data.to_owned(),
            _temporary: None,
            http: format!("http://{}", ready["http"].as_str().expect("an HTTP address")),
            https: ready["https"].as_str().expect("an HTTPS address").to_owned(),
            rtsps: ready["rtsps"].as_str().expect("an RTSPS address").to_owned(),
            webrtc: ready["webrtc"].as_str().expect("a WebRTC address").to_owned(),
            rtsp: ready["rtsp"].as_str().expect("an RTSP address").to_owned(),
            admin: admin.trim().to_owned(),
            ready_after,
        }
    }

    /// Its data folder.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to standard error so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.data.with_extension("log")).unwrap_or_default()
    }

    /// `kill -9`, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("kill kinora");
        self.child.wait().expect("wait for kinora");
    }

    /// SIGTERM, and waits until it is gone; true when it ended by itself with success within 20 s.
    pub(crate) fn stop(&mut self) -> bool {
        signal(self.pid(), "TERM");
        wait_for("the server to stop", Duration::from_secs(20), || self.child.try_wait().expect("wait for kinora"))
            .success()
    }

    /// A request with the admin token.
    pub(crate) fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.request(method, path, Some(&self.admin), body)
    }

    /// GET with the admin token.
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.call("GET", path, None)
    }

    /// GET with the admin token, as JSON.
    ///
    /// # Panics
    /// When the answer is not 200.
    pub(crate) fn json(&self, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "GET {path}: {}", answer.text());
        answer.json()
    }

    /// A request with this token or none.
    pub(crate) fn request(&self, method: &str, path: &str, token: Option<&str>, body: Option<Value>) -> Answer {
        match body {
            Some(body) => self.send(method, path, token, "application/json", body.to_string().as_bytes()),
            None => self.send(method, path, token, "", b""),
        }
    }

    /// A request with a body of any type; of none when that is empty.
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        content_type: &str,
        body: &[u8],
    ) -> Answer {
        self.send_with(method, path, token, &[("content-type", content_type)], body)
    }

    /// A request with these headers, as far as they have a value.
    pub(crate) fn send_with(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut request = http::Request::builder().method(method).uri(format!("{}{path}", self.http));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
            request = request.header(*name, *value);
        }
        let request = request.body(body).expect("a request");
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            .timeout_global(Some(Duration::from_secs(30)))
            .build()
            .into();
        let mut response = agent.run(request).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let mut bytes = Vec::new();
        response.body_mut().as_reader().read_to_end(&mut bytes).expect("read the body");
        Answer { status: response.status().as_u16(), headers: response.headers().clone(), body: bytes }
    }

    /// Mints a publish secret for every stream.
    pub(crate) fn publish_secret(&self) -> String {
        let answer = self.call("POST", "/v1/keys", Some(serde_json::json!({"kind": "publish_secret", "streams": "*"})));
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["secret"].as_str().expect("a secret, shown once").to_owned()
    }

    /// Mints a token for playback of every stream.
    pub(crate) fn play_token(&self) -> String {
        let body = serde_json::json!({"label": "test", "streams": "*", "actions": ["play"], "playback": true});
        let answer = self.call("POST", "/v1/tokens", Some(body));
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["token"].as_str().expect("a token, shown once").to_owned()
    }

    /// Where a client with this publish secret pushes a stream.
    pub(crate) fn push_url(&self, secret: &str, stream: &str) -> String {
        format!("rtsp://camera:{secret}@{}/{stream}", self.rtsp)
    }

    /// Waits until a stream has no publisher and everything it sent is persisted.
    pub(crate) fn wait_idle(&self, stream: &str) {
        wait_for(&format!("stream {stream} to be idle"), Duration::from_secs(30), || {
            let answer = self.get(&format!("/v1/streams/{stream}"));
            let info = (answer.status == 200).then(|| answer.json())?;
            // The newest media may still be on its way to the disk.
            let micros = |value: &Value| value.as_str()?.parse::<jiff::Timestamp>().ok().map(|at| at.as_microsecond());
            let persisted = self.fragments(stream).last().map_or(Some(0), |last| {
                let seconds = last["duration"].as_f64()?;
                Some(micros(&last["producer_time"])? + (seconds * 1e6) as i64)
            })?;
            let behind = micros(&info["last_time"]).unwrap_or(0) - persisted;
            (info["state"] == "idle" && behind < 1_000).then_some(())
        });
    }

    /// Every persisted fragment of a stream, in order.
    pub(crate) fn fragments(&self, stream: &str) -> Vec<Value> {
        let mut all = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.json(&format!("/v1/streams/{stream}/fragments?limit=1000{cursor}"));
            all.extend(page["fragments"].as_array().expect("a list").iter().cloned());
            match page["cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return all,
            }
        }
    }

    /// The block files of a stream, oldest first.
    pub(crate) fn blocks_of(&self, stream: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for folder in std::fs::read_dir(self.data.join("streams")).expect("list streams") {
            let folder = folder.expect("an entry").path();
            let identity = std::fs::read_to_string(folder.join("stream.json")).unwrap_or_default();
            if serde_json::from_str::<Value>(&identity).is_ok_and(|identity| identity["name"] == stream) {
                let files =
                    std::fs::read_dir(folder).expect("list blocks").map(|entry| entry.expect("an entry").path());
                found.extend(files.filter(|path| path.extension().is_some_and(|extension| extension == "mp4")));
            }
        }
        found.sort();
        found
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of the server ---\n{}", self.log());
        }
    }
}

/// Sends a signal by name.
pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status().expect("run kill");
    assert!(status.success(), "kill -{name} {pid}");
}

/// Asks again and again until there is an answer.
///
/// # Panics
/// When there is none within `limit`.
pub(crate) fn wait_for<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < limit, "waited {limit:?} for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// An RFC 3339 time moved by `seconds`, written as the server writes times.
pub(crate) fn later(time: &str, seconds: i64) -> String {
    let time: jiff::Timestamp = time.parse().expect("an RFC 3339 time");
    format!("{:.6}", time + jiff::SignedDuration::from_secs(seconds))
}
