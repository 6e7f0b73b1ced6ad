//! Calling a server's API.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use ureq::Agent;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use super::{CommandError, Common};
use crate::server::READY_FILE;

/// Why a call gave no answer to work with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("cannot reach {url}: {message}; is the server running? Start it with `kinora serve`, or set KINORA_URL")]
    Unreachable { url: String, message: String },
    #[error("no token: set KINORA_TOKEN, or --data-dir to the folder of a server on this machine ({tried})")]
    NoToken { tried: String },
    #[error("{url:?} is no address of a server: write KINORA_URL or --url as http://host:8080")]
    NoUrl { url: String },
    #[error("{message} ({code}, HTTP {status}, request {request_id}){}", advice(code))]
    Refused { status: u16, code: String, message: String, request_id: String },
    #[error("the answer of {url} broke off: {message}")]
    BrokeOff { url: String, message: String },
    #[error("{url} answered with something that is not Kinora's: {message}")]
    Strange { url: String, message: String },
}

/// A long answer from which nothing comes for so long has ended.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(60);

/// What a person at a shell does about a refusal.
fn advice(code: &str) -> &'static str {
    match code {
        "wrong_credential" => "; is the token in KINORA_TOKEN or --token one of this server, in full?",
        "tls_required" => "; set KINORA_URL to the server's https address",
        "stream_not_found" => "; `kinora stream ls` lists those there are",
        "stream_exists" => "; `kinora stream update` changes its settings",
        "credential_not_found" => "; `kinora token ls` and `kinora key ls` list those there are",
        _ => "",
    }
}

/// A server and the right to call it.
pub(crate) struct Client {
    agent: Agent,
    url: String,
    token: String,
}

impl Client {
    /// The server and token that flags, environment and the data folder name.
    pub(crate) fn new(common: &Common) -> Result<Client, CommandError> {
        let (agent, url) = find_server(common)?;
        let token = match &common.token {
            Some(token) => token.trim().to_owned(),
            None => {
                let path = common.data_dir()?.join("admin-token");
                let read = std::fs::read_to_string(&path);
                let no_token = |error| ClientError::NoToken { tried: format!("{}: {error}", path.display()) };
                read.map_err(no_token)?.trim().to_owned()
            }
        };
        Ok(Client { agent, url, token })
    }

    pub(crate) fn get(&self, path: &str) -> Result<Value, ClientError> {
        let request = self.agent.get(self.url_of(path)).header("authorization", self.bearer());
        self.read(request.call())
    }

    /// The open answer to a GET or HEAD of a body of any length, read as it comes for as long as it goes on.
    ///
    /// # Errors
    /// When the server is not reached, or refuses.
    pub(crate) fn open(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, String)],
    ) -> Result<http::Response<ureq::Body>, ClientError> {
        self.open_within(SILENCE_MAX, method, path, headers)
    }

    /// The same, with the silence after which it has ended.
    ///
    /// # Errors
    /// When the server is not reached, or refuses.
    pub(crate) fn open_within(
        &self,
        silence: Duration,
        method: &str,
        path: &str,
        headers: &[(&str, String)],
    ) -> Result<http::Response<ureq::Body>, ClientError> {
        let request = http::Request::builder().method(method).uri(self.url_of(path));
        let request = headers.iter().fold(request.header("authorization", self.bearer()), |request, (name, value)| {
            request.header(*name, value)
        });
        let request = request.body(()).map_err(|_| ClientError::NoUrl { url: self.url.clone() })?;
        let request = self.agent.configure_request(request).timeout_global(None);
        let request = request.timeout_per_read(Some(silence)).build();
        let outcome = self.agent.run(request);
        match outcome {
            Ok(answer) if answer.status().is_success() => Ok(answer),
            outcome => match self.read(outcome) {
                Err(error) => Err(error),
                Ok(_) => Err(self.strange("a refusal without an error".to_owned())),
            },
        }
    }

    pub(crate) fn delete(&self, path: &str) -> Result<Value, ClientError> {
        let request = self.agent.delete(self.url_of(path)).header("authorization", self.bearer());
        self.read(request.call())
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        let request = self.agent.post(self.url_of(path)).header("authorization", self.bearer());
        self.read(request.send_json(body))
    }

    pub(crate) fn patch(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        let request = self.agent.patch(self.url_of(path)).header("authorization", self.bearer());
        self.read(request.send_json(body))
    }

    /// A body that ended before it was whole.
    pub(crate) fn broke_off(&self, message: &str) -> ClientError {
        ClientError::BrokeOff { url: self.url.clone(), message: message.to_owned() }
    }

    /// An answer that is not what this program understands.
    pub(crate) fn strange(&self, message: String) -> ClientError {
        ClientError::Strange { url: self.url.clone(), message }
    }

    /// Every item of a list that comes in pages.
    pub(crate) fn all(&self, path: &str, key: &str) -> Result<Vec<Value>, ClientError> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let join = if path.contains('?') { '&' } else { '?' };
            let page = match &cursor {
                None => self.get(path)?,
                Some(cursor) => self.get(&format!("{path}{join}cursor={}", encode(cursor)))?,
            };
            items.extend(page[key].as_array().cloned().unwrap_or_default());
            let next = page["cursor"].as_str().map(str::to_owned);
            if next.is_none() || next == cursor {
                return Ok(items);
            }
            cursor = next;
        }
    }

    /// The server's address, no slash at the end.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Host and port of its RTSP door, by the name that we use for the server.
    pub(crate) fn rtsp_host(&self) -> String {
        let host = self.url.split("://").nth(1).unwrap_or_default();
        let host = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let listens = self.get("/v1/server").ok().and_then(|server| {
            let address = server["listeners"]["rtsp"].as_str()?;
            Some(address.rsplit_once(':')?.1.to_owned())
        });
        format!("{host}:{}", listens.as_deref().unwrap_or("8554"))
    }

    fn url_of(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }

    fn read(&self, outcome: Result<http::Response<ureq::Body>, ureq::Error>) -> Result<Value, ClientError> {
        read(&self.url, outcome)
    }
}

/// Asks `/healthz`, which needs no token.
pub(crate) fn health(common: &Common) -> Result<(String, Value), CommandError> {
    let (agent, url) = find_server(common)?;
    let outcome = agent.get(format!("{url}/healthz")).call();
    let unreachable = |error| ClientError::Unreachable { url: url.clone(), message: reason(error) };
    let mut response = outcome.map_err(unreachable)?;
    if response.status() != http::StatusCode::SERVICE_UNAVAILABLE {
        let value = read(&url, Ok(response))?;
        return Ok((url, value));
    }
    // It answers, and says what is wrong.
    let text = response.body_mut().with_config().limit(1 << 20).read_to_string().map_err(unreachable)?;
    let value = serde_json::from_str(&text)
        .map_err(|error| ClientError::Strange { url: url.clone(), message: error.to_string() })?;
    Ok((url, value))
}

fn read(url: &str, outcome: Result<http::Response<ureq::Body>, ureq::Error>) -> Result<Value, ClientError> {
    let unreachable = |error: ureq::Error| ClientError::Unreachable { url: url.to_owned(), message: reason(error) };
    let mut response = outcome.map_err(unreachable)?;
    let status = response.status().as_u16();
    let text = response.body_mut().with_config().limit(64 << 20).read_to_string().map_err(unreachable)?;
    if status == 204 {
        return Ok(Value::Null);
    }
    let strange = |message: String| ClientError::Strange { url: url.to_owned(), message };
    let value: Value = serde_json::from_str(&text).map_err(|error| strange(error.to_string()))?;
    if (200..300).contains(&status) {
        return Ok(value);
    }
    let part = |name: &str| value["error"][name].as_str().map(str::to_owned);
    match (part("code"), part("message")) {
        (Some(code), Some(mut message)) => {
            // Where there is nothing, it helps to know where there is something.
            let neighbours = [
                ("the one before is of", "previous"),
                ("the one after of", "next"),
                ("there is some since", "earliest"),
            ];
            for (word, name) in neighbours {
                message.extend(part(name).map(|time| format!("; {word} {time}")));
            }
            Err(ClientError::Refused { status, code, message, request_id: part("request_id").unwrap_or_default() })
        }
        _ => Err(strange(format!("HTTP {status}"))),
    }
}

/// Why a body could not be read to its end, for people.
pub(crate) fn read_failed(error: std::io::Error) -> String {
    reason(error.into())
}

fn reason(error: ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(ureq::Timeout::PerRead) => "the server sends nothing".to_owned(),
        error => error.to_string(),
    }
}

/// One path segment or query value.
pub(crate) fn encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn find_server(common: &Common) -> Result<(Agent, String), CommandError> {
    let data_dir = common.data_dir();
    let url = match &common.url {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => match data_dir.as_deref().ok().and_then(running_at) {
            Some(url) => url,
            None => "http://127.0.0.1:8080".to_owned(),
        },
    };
    if !(url.starts_with("http://") || url.starts_with("https://")) {
        return Err(ClientError::NoUrl { url }.into());
    }
    // A server on this machine shows the certificate of its own data folder.
    let own = data_dir.ok().map(|folder| folder.join("tls/cert.pem")).filter(|_| is_loopback(&url));
    let roots = own.and_then(|path| std::fs::read(path).ok()).map_or(RootCerts::WebPki, |pem| {
        let items = parse_pem(&pem).filter_map(Result::ok);
        let certificates: Vec<Certificate<'static>> = items
            .filter_map(|item| match item {
                PemItem::Certificate(certificate) => Some(certificate),
                _ => None,
            })
            .collect();
        RootCerts::new_with_certs(&certificates)
    });
    let agent = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .timeout_connect(Some(Duration::from_secs(5)))
        .timeout_global(Some(Duration::from_secs(60)))
        .tls_config(TlsConfig::builder().root_certs(roots).build())
        .build()
        .new_agent();
    Ok((agent, url))
}

fn is_loopback(url: &str) -> bool {
    ["https://127.", "https://localhost:", "https://[::1]"].iter().any(|start| url.starts_with(start))
}

/// Where the server that runs on this data folder listens.
fn running_at(data_dir: &Path) -> Option<String> {
    let text = std::fs::read_to_string(data_dir.join(READY_FILE)).ok()?;
    let ready: Value = serde_json::from_str(&text).ok()?;
    let (scheme, address) = match (ready["http"].as_str(), ready["https"].as_str()) {
        (Some(address), _) => ("http", address),
        (None, Some(address)) => ("https", address),
        (None, None) => return None,
    };
    let address = address.replace("[::]:", "127.0.0.1:").replace("0.0.0.0:", "127.0.0.1:");
    Some(format!("{scheme}://{address}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_server_is_found_by_its_data_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(running_at(folder.path()), None);
        let ready = folder.path().join(READY_FILE);
        std::fs::write(&ready, r#"{"http": "[::]:43121", "https": null}"#).expect("written");
        assert_eq!(running_at(folder.path()).as_deref(), Some("http://127.0.0.1:43121"));
        std::fs::write(&ready, r#"{"http": null, "https": "127.0.0.1:8443"}"#).expect("written");
        assert_eq!(running_at(folder.path()).as_deref(), Some("https://127.0.0.1:8443"));
        std::fs::write(&ready, "garbage").expect("written");
        assert_eq!(running_at(folder.path()), None);
    }
}
