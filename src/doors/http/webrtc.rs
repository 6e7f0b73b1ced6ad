//! WHIP and WHEP: sessions of WebRTC made, changed and ended over HTTP (RFC 9725, draft-ietf-wish-whep).

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use media::ProducerTime;
use serde::Deserialize;
use tokio::time::timeout;

use super::App;
use super::error::{ApiError, Code};
use super::extract::Query;
use super::request::Connection;
use super::route::{Caller, Needs, On, Route};
use super::time::parse_micros;
use crate::auth::Action;
use crate::doors::publishing;
use crate::doors::webrtc::{Answered, Asker, ChangeError, Error, Restarted, Way, Webrtc};
use crate::protocol::webrtc::OfferError;

const OFFER: &str = "application/sdp";
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
/// Longest offer: a browser's has 10 kB.
const MAX_OFFER: usize = 64 << 10;
/// Longest part of an offer, of a PATCH.
const MAX_FRAGMENT: usize = 16 << 10;

pub(super) fn routes() -> Vec<Route> {
    let publish = Needs::Action(Action::Publish, On::PathStream);
    let play = Needs::Action(Action::Play, On::PathStream);
    vec![
        Route::new(
            Method::POST,
            "/whip/{stream}",
            publish,
            "Publishes over WebRTC (WHIP, RFC 9725): takes an SDP offer, answers with ours; the session's URL is in Location.",
            whip,
        )
        .gives_other(StatusCode::CREATED, "application/sdp"),
        Route::new(
            Method::PATCH,
            "/whip/{stream}/{session}",
            publish,
            "Adds candidates to a session (trickle ICE), or restarts its ICE with new credentials; its ETag is to be in If-Match, or * for a restart.",
            |a, b, c, d, e| change(Way::In, a, b, c, d, e),
        ),
        Route::new(Method::DELETE, "/whip/{stream}/{session}", publish, "Ends a session.", |a, b, c| end(Way::In, a, b, c)),
        Route::new(
            Method::POST,
            "/whep/{stream}",
            play,
            "Watches over WebRTC (WHEP): takes an SDP offer, answers with ours; the session's URL is in Location.",
            whep,
        )
        .with_query_token()
        .with_query(&[("from", "shows the past from there on, at its own pace: RFC 3339 or epoch milliseconds; default: live")])
        .gives_other(StatusCode::CREATED, "application/sdp"),
        Route::new(
            Method::PATCH,
            "/whep/{stream}/{session}",
            play,
            "Adds candidates to a session (trickle ICE), or restarts its ICE with new credentials; its ETag is to be in If-Match, or * for a restart.",
            |a, b, c, d, e| change(Way::Out, a, b, c, d, e),
        )
        .with_query_token(),
        Route::new(Method::DELETE, "/whep/{stream}/{session}", play, "Ends a session.", |a, b, c| end(Way::Out, a, b, c))
            .with_query_token(),
    ]
}

async fn whip(
    State(app): State<Arc<App>>,
    caller: Caller,
    Extension(connection): Extension<Connection>,
    request: Request,
) -> Result<Response, ApiError> {
    let door = door(&app)?;
    let body = read(&app, request, OFFER, MAX_OFFER).await?;
    let asker = asker(&caller, &connection)?;
    let hls = hls(&caller)?;
    let answered = Box::pin(door.publish(asker, &body)).await.map_err(|error| refuse(error, &hls))?;
    created(&app, Way::In, &caller, answered)
}

#[derive(Deserialize)]
struct Watch {
    from: Option<String>,
}

async fn whep(
    State(app): State<Arc<App>>,
    caller: Caller,
    Extension(connection): Extension<Connection>,
    Query(query): Query<Watch>,
    request: Request,
) -> Result<Response, ApiError> {
    let door = door(&app)?;
    let body = read(&app, request, OFFER, MAX_OFFER).await?;
    let stream = app.stream(caller.stream()?)?;
    let from = query.from.as_deref().map(|text| parse_micros("from", text)).transpose()?;
    let from = within(&app, &caller, from.map(ProducerTime::from_micros))?;
    let asker = asker(&caller, &connection)?;
    let hls = hls(&caller)?;
    let answered = Box::pin(door.view(asker, stream.id, from, &body)).await.map_err(|error| refuse(error, &hls))?;
    created(&app, Way::Out, &caller, answered)
}

/// What of the stream is shown, within the times that the credential may see.
fn within(app: &App, caller: &Caller, from: Option<ProducerTime>) -> Result<Option<ProducerTime>, ApiError> {
    let Some((first, end)) = app.access.media_range(&caller.principal) else { return Ok(from) };
    let start = from.map_or(app.clock.now().micros(), ProducerTime::micros);
    if start >= end.micros() {
        return Err(ApiError::new(Code::Forbidden, "the credential may not see what the stream shows then"));
    }
    match from {
        None if start < first.micros() => {
            Err(ApiError::new(Code::Forbidden, "the credential may not see what the stream shows now"))
        }
        None => Ok(None),
        Some(from) => Ok(Some(from.max(first))),
    }
}

fn asker(caller: &Caller, connection: &Connection) -> Result<Asker, ApiError> {
    Ok(Asker {
        principal: caller.principal.clone(),
        stream: caller.stream()?.clone(),
        peer: connection.peer,
        reached: connection.local.ip(),
    })
}

/// Where the stream can be watched when this does not work.
fn hls(caller: &Caller) -> Result<String, ApiError> {
    Ok(format!("{}/hls/{}/index.m3u8", caller.base_url(), caller.stream()?))
}

fn created(app: &App, way: Way, caller: &Caller, answered: Answered) -> Result<Response, ApiError> {
    let name = caller.stream()?;
    let path = match way {
        Way::In => "whip",
        Way::Out => "whep",
    };
    let token = caller.query_token.as_ref().map(|token| format!("?token={token}")).unwrap_or_default();
    let location = format!("/{path}/{name}/{}{token}", answered.id);
    let mut response = (StatusCode::CREATED, Body::from(answered.sdp)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/sdp"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(location) = HeaderValue::from_str(&location) {
        headers.insert(header::LOCATION, location);
    }
    if let Ok(etag) = HeaderValue::from_str(&answered.etag) {
        headers.insert(header::ETAG, etag);
    }
    // RFC 9725 section 4.6.
    for server in &app.config().webrtc.ice_servers {
        let mut link = format!("<{}>; rel=\"ice-server\"", server.url);
        if let (Some(username), Some(credential)) = (&server.username, &server.credential) {
            link += &format!("; username=\"{username}\"; credential=\"{credential}\"; credential-type=\"password\"");
        }
        if let Ok(link) = HeaderValue::from_str(&link) {
            headers.append(header::LINK, link);
        }
    }
    Ok(response)
}

type Named = Result<Path<(String, String)>, PathRejection>;

async fn change(
    way: Way,
    State(app): State<Arc<App>>,
    caller: Caller,
    Extension(connection): Extension<Connection>,
    names: Named,
    request: Request,
) -> Result<Response, ApiError> {
    let door = door(&app)?;
    let session = session_of(names)?;
    let if_match = request.headers().get(header::IF_MATCH).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let body = read(&app, request, FRAGMENT, MAX_FRAGMENT).await?;
    let fragment = std::str::from_utf8(&body).map_err(|_| ApiError::bad_request("the body is not UTF-8"))?;
    let asker = asker(&caller, &connection)?;
    // A tag that was not given matches none, so that whose session it is comes first.
    let changed = door.change(way, &asker, &session, if_match.as_deref().unwrap_or_default(), fragment).await;
    let restarted = changed.map_err(|error| {
        let text = error.to_string();
        match error {
            ChangeError::None => no_session(),
            ChangeError::Often => ApiError::new(Code::TooManyRequests, text),
            ChangeError::Tag if if_match.is_none() => {
                ApiError::new(Code::PreconditionRequired, "send the session's ETag in If-Match")
            }
            ChangeError::Tag => ApiError::new(Code::PreconditionFailed, text),
            ChangeError::Peer(_) => ApiError::new(Code::NotAcceptable, text),
        }
    })?;
    let Some(Restarted { fragment, etag }) = restarted else { return Ok(StatusCode::NO_CONTENT.into_response()) };
    let mut response = fragment.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(FRAGMENT));
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    Ok(response)
}

async fn end(way: Way, State(app): State<Arc<App>>, caller: Caller, names: Named) -> Result<Response, ApiError> {
    let session = session_of(names)?;
    match door(&app)?.end(way, caller.stream()?, &session, &caller.principal).await {
        true => Ok(StatusCode::OK.into_response()),
        false => Err(no_session()),
    }
}

fn door(app: &App) -> Result<&Arc<Webrtc>, ApiError> {
    let off = || ApiError::new(Code::NotFound, "WebRTC is off on this server (webrtc.udp_listen)");
    app.webrtc.as_ref().ok_or_else(off)
}

fn session_of(names: Named) -> Result<String, ApiError> {
    let Path((_, session)) = names.map_err(|error| ApiError::bad_request(error.to_string()))?;
    Ok(session)
}

fn no_session() -> ApiError {
    ApiError::new(Code::NotFound, "there is no such session")
}

/// The body, when it is of this type and no longer.
async fn read(app: &App, request: Request, content_type: &'static str, most: usize) -> Result<Vec<u8>, ApiError> {
    let given = content_type_of(request.headers());
    if !given.eq_ignore_ascii_case(content_type) {
        let message = format!("send Content-Type: {content_type}");
        return Err(ApiError::new(Code::UnsupportedType, message));
    }
    let reading = Limited::new(request.into_body(), most).collect();
    match timeout(app.config().limits.body_timeout.0, reading).await {
        Err(_) => Err(ApiError::bad_request("the body took too long to arrive")),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(ApiError::new(Code::TooLarge, format!("the body is longer than {} KiB", most >> 10)))
        }
        Ok(Err(error)) => Err(ApiError::bad_request(format!("the body did not arrive whole: {error}"))),
        Ok(Ok(body)) => Ok(body.to_bytes().to_vec()),
    }
}

fn content_type_of(headers: &HeaderMap) -> &str {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

fn refuse(error: Error, hls: &str) -> ApiError {
    let text = error.to_string();
    match error {
        Error::Offer(
            OfferError::Codecs { .. } | OfferError::Many(_) | OfferError::Sources | OfferError::Nothing(_),
        ) => ApiError::new(Code::NotAcceptable, text),
        Error::Offer(_) => ApiError::bad_request(text),
        Error::Refused(_) => ApiError::new(Code::TooManyRequests, text),
        Error::Publishing(refused) => refused.into(),
        Error::Unplayable(_) => ApiError::new(Code::NotPlayable, format!("{text}; it can be watched at {hls}")),
        Error::NoMedia(_) => ApiError::new(Code::NoMedia, text),
        Error::Store(error) => error.into(),
        Error::NotLive(_) => ApiError::new(Code::NoMedia, format!("{text}; what was recorded is at {hls}")),
        Error::Peer(_) => ApiError::new(Code::NotAcceptable, text),
        Error::Stopping => ApiError::new(Code::Stopping, text),
        Error::Random => ApiError::hidden(Code::Internal, "internal error", text),
    }
}

impl From<publishing::Refused> for ApiError {
    fn from(refused: publishing::Refused) -> ApiError {
        use publishing::Refused;
        let code = match &refused {
            Refused::Forbidden(_) => Code::Forbidden,
            Refused::NoStream(_) => Code::StreamNotFound,
            Refused::Busy(_) => Code::StreamBusy,
            Refused::DiskFull(_) => Code::DiskFull,
            Refused::Unavailable(_) => Code::Stopping,
            Refused::Broken => Code::StorageFailed,
        };
        ApiError::new(code, refused.to_string())
    }
}
