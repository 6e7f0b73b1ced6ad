//! The route table's row, and the one place where a request becomes a [`Caller`].
//!
//! A [`Route`] cannot be made without saying what it [`Needs`]; [`router`] wraps every handler in the check of
//! exactly that, so there is no way to a handler around it. A handler takes the [`Caller`] as an argument.
//!
//! Not here: what every request gets whatever its route (ids, logs, cross-origin rules: `request.rs`).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use axum::extract::{FromRequestParts, RawPathParams, Request, State};
use axum::handler::Handler;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, header};
use media::StreamName;
use utoipa::openapi::{RefOr, Schema};

use super::App;
use super::error::{ApiError, Code};
use super::request::{Connection, Origin};
use crate::auth::{Action, Principal, Refusal};

/// What a request must bring before its handler sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Needs {
    /// Nothing; the text says why that is safe.
    Public(&'static str),
    /// A credential that allows the action on a resource.
    Action(Action, On),
}

/// What an action is done upon.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum On {
    /// The server as a whole.
    Server,
    /// The stream that `{stream}` in the path names.
    PathStream,
    /// Streams that the body or the answer names: the handler asks [`Caller::check`] for each of them.
    NamedStreams,
}

/// A row of the route table.
#[derive(Clone)]
pub(crate) struct Route {
    pub(crate) method: Method,
    /// As axum writes it: `/v1/streams/{stream}`.
    pub(crate) path: &'static str,
    pub(crate) needs: Needs,
    /// Whether `?token=` is taken: only on what players and `<img>` fetch.
    pub(crate) token_in_query: bool,
    /// One line for people.
    pub(crate) doc: &'static str,
    /// What the OpenAPI document says of parameters, body and answer.
    pub(crate) shape: Shape,
    on: MethodRouter<Arc<App>>,
}

impl Route {
    /// A route whose handler runs only for those who bring what it needs.
    pub(crate) fn new<H, T>(method: Method, path: &'static str, needs: Needs, doc: &'static str, handler: H) -> Route
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        let filter = MethodFilter::try_from(method.clone()).expect("the table names standard methods");
        Route { method, path, needs, token_in_query: false, doc, shape: Shape::default(), on: on(filter, handler) }
    }

    /// Takes a playback token in `?token=` too.
    pub(crate) fn with_query_token(self) -> Route {
        Route { token_in_query: true, ..self }
    }

    /// Documents query parameters: name and meaning.
    pub(crate) fn with_query(mut self, parameters: &'static [(&'static str, &'static str)]) -> Route {
        self.shape.query = parameters;
        self
    }

    /// Documents the JSON body.
    pub(crate) fn takes<T: utoipa::ToSchema>(mut self) -> Route {
        self.shape.body = Some(Schemas::of::<T>());
        self
    }

    /// Documents the JSON answer.
    pub(crate) fn gives<T: utoipa::ToSchema>(mut self, status: StatusCode) -> Route {
        self.shape.answer = (status, Some(Schemas::of::<T>()), "application/json");
        self
    }

    /// Documents an answer that is not JSON.
    pub(crate) fn gives_other(mut self, status: StatusCode, content_type: &'static str) -> Route {
        self.shape.answer = (status, None, content_type);
        self
    }
}

/// What goes in and out of a route, for its document.
#[derive(Clone)]
pub(crate) struct Shape {
    pub(crate) query: &'static [(&'static str, &'static str)],
    pub(crate) body: Option<Schemas>,
    /// Status, schema when it is JSON, content type; empty for none.
    pub(crate) answer: (StatusCode, Option<Schemas>, &'static str),
}

impl Default for Shape {
    fn default() -> Shape {
        Shape { query: &[], body: None, answer: (StatusCode::OK, None, "") }
    }
}

/// A type's schema and those of the types inside it.
#[derive(Clone)]
pub(crate) struct Schemas {
    pub(crate) name: String,
    pub(crate) all: Vec<(String, RefOr<Schema>)>,
}

impl Schemas {
    pub(crate) fn of<T: utoipa::ToSchema>() -> Schemas {
        let name = T::name().into_owned();
        let mut all = vec![(name.clone(), T::schema())];
        T::schemas(&mut all);
        Schemas { name, all }
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {:?}", self.method, self.path, self.needs)
    }
}

/// The router of these routes, each behind its check.
pub(crate) fn router(app: &Arc<App>, routes: Vec<Route>) -> axum::Router<Arc<App>> {
    let mut paths: BTreeMap<&'static str, MethodRouter<Arc<App>>> = BTreeMap::new();
    for route in routes {
        let gate = Gate { app: app.clone(), needs: route.needs, token_in_query: route.token_in_query };
        let guarded = route.on.layer(from_fn_with_state(gate, admit));
        let merged = match paths.remove(route.path) {
            Some(before) => before.merge(guarded),
            None => guarded,
        };
        paths.insert(route.path, merged);
    }
    let mut router = axum::Router::new();
    for (path, on) in paths {
        router = router.route(path, on);
    }
    router
}

/// Who called, with what right: the argument by which a handler learns it.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) principal: Principal,
    /// Id, peer and public address of the request.
    pub(crate) origin: Origin,
    /// The token as `?token=` brought it: child URIs repeat it.
    pub(crate) query_token: Option<Arc<str>>,
    stream: Option<StreamName>,
    app: Arc<App>,
}

impl Caller {
    /// The stream in the path.
    ///
    /// # Errors
    /// Internal, when the route has none: a mistake in the route table.
    pub(crate) fn stream(&self) -> Result<&StreamName, ApiError> {
        self.stream.as_ref().ok_or_else(|| ApiError::hidden(Code::Internal, "internal error", "route without {stream}"))
    }

    /// Whether the caller may also do `action`, on `stream` if it has one.
    pub(crate) fn check(&self, action: Action, stream: Option<&StreamName>) -> Result<(), ApiError> {
        Ok(self.app.access.allow(&self.principal, action, stream)?)
    }

    /// Whether the credential still stands: for answers that outlive a revocation.
    pub(crate) fn still_valid(&self) -> bool {
        self.app.access.is_in_force(&self.principal)
    }

    /// `http[s]://name:port` by which the world reaches us, no slash at the end.
    pub(crate) fn base_url(&self) -> &str {
        &self.origin.base_url
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Caller, ApiError> {
        let missing = || ApiError::hidden(Code::Internal, "internal error", "a public route asked for its caller");
        parts.extensions.get::<Caller>().cloned().ok_or_else(missing)
    }
}

/// What one route's check knows.
#[derive(Clone)]
struct Gate {
    app: Arc<App>,
    needs: Needs,
    token_in_query: bool,
}

/// Lets a request through to its handler, or answers for it.
async fn admit(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let Needs::Action(action, on) = gate.needs else {
        return next.run(request).await;
    };
    let (mut parts, body) = request.into_parts();
    match identify(&gate, action, on, &mut parts).await {
        Ok(caller) => {
            parts.extensions.insert(caller);
            next.run(Request::from_parts(parts, body)).await
        }
        Err(error) => error.into_response(),
    }
}

async fn identify(gate: &Gate, action: Action, on: On, parts: &mut Parts) -> Result<Caller, ApiError> {
    let origin = parts.extensions.get::<Origin>().cloned();
    let origin = origin.ok_or_else(|| ApiError::hidden(Code::Internal, "internal error", "request without origin"))?;
    let access = &gate.app.access;
    let path = parts.uri.path().to_owned();
    let refused =
        |refusal: &Refusal| access.refusals.note(door(&path), *refusal, origin.peer.ip(), &path, Instant::now());
    let given = Given::read(&parts.headers, parts.uri.query())?;
    let token = given.token(gate.token_in_query)?;
    let in_query = given.header.is_none();
    let principal = access.token(token, in_query, origin.peer).inspect_err(refused)?;
    if let Some(connection) = parts.extensions.get::<Connection>() {
        connection.trusted.store(true, Ordering::Relaxed);
    }
    let stream = match on {
        On::Server | On::NamedStreams => None,
        On::PathStream => Some(path_stream(parts).await?),
    };
    if on != On::NamedStreams {
        access.allow(&principal, action, stream.as_ref()).inspect_err(refused)?;
    }
    let query_token = given.query.as_deref().map(Arc::from);
    Ok(Caller { principal, origin, query_token, stream, app: gate.app.clone() })
}

/// The door that a path belongs to, for what is said of refusals.
fn door(path: &str) -> &'static str {
    let is_below = |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'));
    match path {
        _ if is_below("/whip") => "whip",
        _ if is_below("/whep") => "whep",
        _ => "http",
    }
}

async fn path_stream(parts: &mut Parts) -> Result<StreamName, ApiError> {
    let params = RawPathParams::from_request_parts(parts, &()).await;
    let params = params.map_err(|error| ApiError::bad_request(error.to_string()))?;
    let (_, name) = params
        .iter()
        .find(|(key, _)| *key == "stream")
        .ok_or_else(|| ApiError::hidden(Code::Internal, "internal error", "route without {stream}"))?;
    Ok(StreamName::new(name)?)
}

/// Longest token looked at; ours have 47 characters.
const TOKEN_LEN_MAX: usize = 256;

/// The tokens of a request, as given.
#[derive(PartialEq, Eq, Debug)]
struct Given {
    header: Option<String>,
    query: Option<String>,
}

impl Given {
    /// Reads both places.
    ///
    /// # Errors
    /// When two different tokens were given: which of them was meant is not ours to guess.
    fn read(headers: &HeaderMap, query: Option<&str>) -> Result<Given, ApiError> {
        let mut lines = headers.get_all(header::AUTHORIZATION).iter();
        let header = lines.next().map(|value| bearer(value.to_str().unwrap_or_default())).transpose()?;
        let mut queries = query_tokens(query.unwrap_or_default());
        let query = queries.next();
        let same_again = query.as_ref().is_none_or(|first| queries.all(|other| other == *first));
        let agree = match (&header, &query) {
            (Some(header), Some(query)) => header == query,
            _ => true,
        };
        if lines.next().is_some() || !same_again || !agree {
            return Err(ApiError::new(Code::AmbiguousCredential, "more than one credential given; give one"));
        }
        Ok(Given { header, query })
    }

    fn token(&self, query_taken: bool) -> Result<&str, ApiError> {
        let token = match (&self.header, &self.query) {
            (Some(token), _) => token,
            (None, Some(token)) if query_taken => token,
            (None, Some(_)) => {
                let message = "this call takes its token in the header Authorization: Bearer, not in ?token=";
                return Err(ApiError::new(Code::MissingCredential, message));
            }
            (None, None) => {
                let message = "no credential given; send the header Authorization: Bearer <token>";
                return Err(ApiError::new(Code::MissingCredential, message));
            }
        };
        if token.len() > TOKEN_LEN_MAX {
            return Err(crate::auth::Refusal::Wrong.into());
        }
        Ok(token)
    }
}

/// The token of `Bearer <token>` (RFC 6750 section 2.1).
fn bearer(value: &str) -> Result<String, ApiError> {
    match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim().to_owned()),
        _ => Err(ApiError::new(Code::WrongCredential, "the credential must be: Authorization: Bearer <token>")),
    }
}

/// Every `token` parameter of a query string, percent-decoded once.
fn query_tokens(query: &str) -> impl Iterator<Item = String> {
    query.split('&').filter_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == "token").then(|| percent_encoding::percent_decode_str(value).decode_utf8_lossy().into_owned())
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn given(headers: &[&str], query: &str) -> Result<Given, Code> {
        let mut map = HeaderMap::new();
        for value in headers {
            map.append(header::AUTHORIZATION, HeaderValue::from_str(value).expect("a header value"));
        }
        Given::read(&map, Some(query)).map_err(|error| error.code)
    }

    #[test]
    fn a_credential_in_header_and_query_must_be_the_same_one() {
        let both = |header: &str, query: &str| given(&[&format!("Bearer {header}")], &format!("a=1&token={query}"));
        assert!(both("kin_a", "kin_a").is_ok());
        assert_eq!(both("kin_a", "kin_b"), Err(Code::AmbiguousCredential));
        assert_eq!(given(&[], "token=a&token=b"), Err(Code::AmbiguousCredential));
        assert_eq!(given(&["Bearer a", "Bearer a"], ""), Err(Code::AmbiguousCredential));
        assert_eq!(given(&["Basic YTpi"], ""), Err(Code::WrongCredential));
        assert_eq!(given(&["bearer  a "], "").expect("any case").header.as_deref(), Some("a"));
        assert_eq!(given(&[], "token=%6b").expect("decoded once").query.as_deref(), Some("k"));
        assert_eq!(given(&[], "tokens=a").expect("another key").query, None);
    }

    #[test]
    fn a_query_token_counts_only_where_it_is_taken() {
        let query = given(&[], "token=kin_a").expect("one");
        assert_eq!(query.token(true).expect("taken"), "kin_a");
        assert_eq!(query.token(false).expect_err("not taken").code, Code::MissingCredential);
        assert_eq!(given(&[], "").expect("none").token(true).expect_err("none").code, Code::MissingCredential);
        let long = given(&[&format!("Bearer {}", "x".repeat(10_000))], "").expect("read");
        assert_eq!(long.token(true).expect_err("too long").code, Code::WrongCredential);
    }
}
