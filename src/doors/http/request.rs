//! What every request gets, whatever its route: an id, its origin, cross-origin rules, security headers, the body of
//! its error, a line in the log and a count in the metrics.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version, header};
use uuid::Uuid;

use super::App;
use super::error::{ApiError, Code};

/// The connection that a request came on; the listener puts it into the request's extensions.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) tls: bool,
    /// Raised by the first right credential: from then on the connection is not counted among strangers.
    pub(crate) trusted: Arc<AtomicBool>,
}

/// Where a request came from and how the world reaches us.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// Minted here, unique, in the log and in the header `x-request-id`.
    pub(crate) request_id: Arc<str>,
    pub(crate) peer: SocketAddr,
    /// `server.public_url`, or the name that the client used with the listener's port; no slash at the end.
    pub(crate) base_url: Arc<str>,
}

const REQUEST_ID: header::HeaderName = header::HeaderName::from_static("x-request-id");

/// The outermost layer.
pub(super) async fn outermost(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let request_id: Arc<str> = Uuid::new_v4().simple().to_string().into();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let connection = request.extensions().get::<Connection>().cloned();
    let matched = request.extensions().get::<MatchedPath>();
    let route = matched.map_or("none", MatchedPath::as_str).to_owned();
    let mut response = match enter(&app, connection.as_ref(), &request_id, &mut request) {
        Ok(()) if method == Method::OPTIONS => StatusCode::NO_CONTENT.into_response(),
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    };
    let error = response.extensions_mut().remove::<ApiError>();
    if let Some(error) = &error {
        let mut rendered = error.render(&request_id);
        let headers = std::mem::take(rendered.headers_mut());
        response.headers_mut().remove(header::CONTENT_LENGTH);
        response.headers_mut().extend(headers);
        *response.body_mut() = rendered.into_body();
    }
    finish_headers(&app, &path, &request_id, connection.as_ref().is_some_and(|on| on.tls), &mut response);
    let peer = connection.map(|connection| connection.peer);
    report(&method, &route, &path, peer, &request_id, started, &response, error.as_ref());
    response
}

fn enter(
    app: &App,
    connection: Option<&Connection>,
    request_id: &Arc<str>,
    request: &mut Request,
) -> Result<(), ApiError> {
    let &Connection { peer, local, tls, .. } =
        connection.ok_or_else(|| ApiError::hidden(Code::Internal, "internal error", "request without a connection"))?;
    let config = app.config();
    if request.headers().get_all(header::HOST).iter().nth(1).is_some() {
        // Two servers in a row could each believe another one (RFC 9112 section 3.2).
        return Err(ApiError::bad_request("more than one Host header"));
    }
    if request.version() == Version::HTTP_11 && !request.headers().contains_key(header::HOST) {
        return Err(ApiError::bad_request("HTTP/1.1 requests need a Host header (RFC 9112 section 3.2)"));
    }
    let host = host_of(request.uri(), request.headers());
    if !app.host_allowed(&config, host.as_deref()) {
        let message = "this server does not answer to that host name; add it to http.allowed_hosts";
        return Err(ApiError::new(Code::UnknownHost, message));
    }
    let has_credential = request.headers().contains_key(header::AUTHORIZATION)
        || request.uri().query().is_some_and(|query| query.contains("token="));
    if config.http.require_tls && !tls && !peer.ip().is_loopback() && has_credential {
        let message = "this server takes credentials over TLS only (http.require_tls); use its https address, and make \
                       a new token, since this one was sent in the clear";
        return Err(ApiError::new(Code::TlsRequired, message));
    }
    let base_url = match &config.server.public_url {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => {
            let scheme = if tls { "https" } else { "http" };
            let name = host.as_deref().map(host_name).filter(|name| !name.is_empty());
            let name = name.map_or_else(|| bracketed(local), str::to_owned);
            format!("{scheme}://{name}:{}", local.port())
        }
    };
    let origin = Origin { request_id: request_id.clone(), peer, base_url: base_url.into() };
    request.extensions_mut().insert(origin);
    Ok(())
}

/// The authority the client asked for: `:authority` of HTTP/2, else the Host header.
fn host_of(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    let host = match uri.authority() {
        Some(authority) => authority.as_str(),
        None => headers.get(header::HOST)?.to_str().ok()?,
    };
    let host = host.rsplit('@').next().unwrap_or_default();
    let harmless = host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b));
    Some(if harmless { host.to_owned() } else { String::new() })
}

/// The host without its port; an IPv6 address keeps its brackets.
pub(super) fn host_name(host: &str) -> &str {
    match host.rfind(']') {
        Some(end) => &host[..=end],
        None => host.split(':').next().unwrap_or_default(),
    }
}

fn bracketed(local: SocketAddr) -> String {
    match local {
        SocketAddr::V4(v4) => v4.ip().to_string(),
        SocketAddr::V6(v6) => format!("[{}]", v6.ip()),
    }
}

/// Whether pages of other origins may call this path. They bring their own token; no cookie is ever looked at,
/// so there is nothing that a foreign page could ride on.
fn cross_origin(path: &str) -> bool {
    ["/v1/", "/hls/", "/whip/", "/whep/"].iter().any(|root| path.starts_with(root)) || path == "/openapi.json"
}

fn finish_headers(app: &App, path: &str, request_id: &str, tls: bool, response: &mut Response) {
    let headers = response.headers_mut();
    let id = HeaderValue::from_str(request_id).expect("hexadecimal digits");
    headers.insert(REQUEST_ID, id);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if !headers.contains_key(header::CONTENT_SECURITY_POLICY) {
        let nothing = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
        headers.insert(header::CONTENT_SECURITY_POLICY, nothing);
    }
    if tls && app.config().tls.hsts {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
    if path.starts_with("/whip/") || path.starts_with("/whep/") {
        // RFC 9725 section 4.2: what a POST takes, for those who ask by OPTIONS.
        headers.insert(header::HeaderName::from_static("accept-post"), HeaderValue::from_static("application/sdp"));
    }
    if cross_origin(path) {
        const ALLOW: [(header::HeaderName, &str); 5] = [
            (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
            (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, POST, PATCH, DELETE, OPTIONS"),
            (
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                "Authorization, Content-Type, Range, If-Match, If-None-Match, Last-Event-ID",
            ),
            (
                header::ACCESS_CONTROL_EXPOSE_HEADERS,
                concat!(
                    "Content-Length, Content-Range, ETag, Link, Location, Retry-After, X-Request-Id, ",
                    "Kinora-Time, Kinora-Asked, Kinora-Clock-Source, Kinora-Clock-Error, Kinora-Pts, Kinora-Fragment, ",
                    "Kinora-Key, Kinora-Exact, Kinora-Damaged, Kinora-Width, Kinora-Height"
                ),
            ),
            (header::ACCESS_CONTROL_MAX_AGE, "600"),
        ];
        for (name, value) in ALLOW {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
}

/// One line and one count for the request. The query is left out: it may hold a token.
#[expect(clippy::too_many_arguments, reason = "the fields of one log line")]
fn report(
    method: &Method,
    route: &str,
    path: &str,
    peer: Option<SocketAddr>,
    request_id: &str,
    started: Instant,
    response: &Response,
    error: Option<&ApiError>,
) {
    let status = response.status().as_u16();
    let seconds = started.elapsed().as_secs_f64();
    let labels = [("route", route.to_owned()), ("status", status.to_string())];
    metrics::counter!("kinora_http_requests_total", &labels).increment(1);
    metrics::histogram!("kinora_http_request_seconds", "route" => route.to_owned()).record(seconds);
    let peer = peer.map(|peer| peer.to_string()).unwrap_or_default();
    let milliseconds = seconds * 1000.0;
    match error {
        Some(error) if status >= 500 => {
            let cause = error.cause.as_deref().unwrap_or(&error.message);
            tracing::warn!(request_id, %method, path, peer, status, milliseconds, cause, "request failed");
        }
        Some(error) => {
            let code = error.code;
            tracing::debug!(request_id, %method, path, peer, status, milliseconds, ?code, "request refused");
        }
        None => tracing::debug!(request_id, %method, path, peer, status, milliseconds, "request"),
    }
}
