//! The HLS routes: addresses, headers and byte ranges. What the playlists say is `playback::hls`.
//!
//! ```text
//! /hls/{stream}/index.m3u8           multivariant   ?window= | ?from=&to= | ?from=   &clock=server
//! /hls/{stream}/{rendition}.m3u8     media          the same parameters; video, audio, audio-2 or a track number
//! /hls/{stream}/{fragment}/{track}.m4s
//! /hls/{stream}/init/{track set}-{track}-{life}.mp4
//! ```
//!
//! Segments and initialisation segments never change under their address, and are kept by the client alone
//! (`private`): everything here needs a credential, and what retention deletes must not live on in a shared cache.

use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use media::{ServerTime, TrackId, TrackSetId};
use serde::Deserialize;

use super::App;
use super::byte_range::{Answer, header_value, is_known};
use super::error::{ApiError, Code};
use super::route::{Caller, Needs, On, Route};
use super::time::{format_micros, parse_micros};
use crate::auth::Action;
use crate::catalog::Stream;
use crate::config::units;
use crate::playback::hls::{
    BadSpan, FragmentName, HlsError, RenditionName, Settings, Span, SpanClock, Viewer, plain_number,
};

/// The rows of this folder.
pub(super) fn routes() -> Vec<Route> {
    let play = Needs::Action(Action::Play, On::PathStream);
    vec![
        Route::new(Method::GET, "/hls/{stream}/index.m3u8", play, "The playlist that a player opens.", index),
        Route::new(Method::GET, "/hls/{stream}/{file}", play, "The playlist of one rendition.", rendition),
        Route::new(Method::GET, "/hls/{stream}/init/{file}", play, "The initialisation segment of a track.", init),
        Route::new(
            Method::GET,
            "/hls/{stream}/{fragment}/{file}",
            play,
            "A segment: one track of a fragment.",
            segment,
        ),
    ]
    .into_iter()
    .map(Route::with_query_token)
    .collect()
}

/// The parameters of a playlist; others are let pass, players add their own.
#[derive(Deserialize, Default, Debug)]
struct Params {
    window: Option<String>,
    from: Option<String>,
    to: Option<String>,
    clock: Option<String>,
}

impl Params {
    fn span(&self, settings: &Settings) -> Result<Span, ApiError> {
        let micros = |name, text: &Option<String>| text.as_deref().map(|text| parse_micros(name, text)).transpose();
        let window = self.window.as_deref().map(|text| {
            let length: Result<units::Span, _> = text.parse();
            length.map_err(|error| ApiError::new(Code::BadTime, format!("window: {error}")))
        });
        let clock = match self.clock.as_deref() {
            None | Some("producer") => SpanClock::Producer,
            Some("server") => SpanClock::Server,
            Some(_) => return Err(ApiError::bad_request("clock is producer or server")),
        };
        let window = window.transpose()?.map(|length| length.0);
        let bad = |error: BadSpan| ApiError::new(Code::BadTime, error.to_string());
        Span::new(window, micros("from", &self.from)?, micros("to", &self.to)?, clock, settings).map_err(bad)
    }
}

type Asked<T> = Result<Query<T>, QueryRejection>;
type Named<T> = Result<Path<T>, PathRejection>;

async fn index(
    State(app): State<Arc<App>>,
    caller: Caller,
    params: Asked<Params>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let request = Request::new(&app, &caller)?;
    let span = query(params)?.span(&request.settings)?;
    let text =
        app.playlists.multivariant(request.viewer(), span).await.map_err(|error| refuse(error, span_clock(span)))?;
    Ok(playlist(text, &headers))
}

async fn rendition(
    State(app): State<Arc<App>>,
    caller: Caller,
    names: Named<(String, String)>,
    params: Asked<Params>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Path((_, file)) = names.map_err(|error| ApiError::bad_request(error.to_string()))?;
    let rendition: RenditionName =
        file.strip_suffix(".m3u8").and_then(|name| name.parse().ok()).ok_or_else(no_such_path)?;
    let request = Request::new(&app, &caller)?;
    let span = query(params)?.span(&request.settings)?;
    let text = app.playlists.media(request.viewer(), span, rendition).await;
    Ok(playlist(text.map_err(|error| refuse(error, span_clock(span)))?, &headers))
}

async fn init(
    State(app): State<Arc<App>>,
    caller: Caller,
    names: Named<(String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Path((_, file)) = names.map_err(|error| ApiError::bad_request(error.to_string()))?;
    let (set, track, tag) = init_name(&file).ok_or_else(no_such_path)?;
    let request = Request::new(&app, &caller)?;
    let init = app.playlists.init(request.viewer(), set, track, tag).await;
    let (bytes, is_video) = init.map_err(|error| refuse(error, SpanClock::Producer))?;
    let etag = content_tag(&bytes);
    let answer = Answer { etag, content_type: content_type(is_video), len: bytes.len() as u64 };
    let part = answer.part(&headers);
    let body = part.map(|part| Body::from(bytes.slice(part.start as usize..part.end as usize)));
    Ok(answer.response(&headers, &method, body))
}

async fn segment(
    State(app): State<Arc<App>>,
    caller: Caller,
    names: Named<(String, String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Path((_, fragment, file)) = names.map_err(|error| ApiError::bad_request(error.to_string()))?;
    let name: FragmentName = fragment.parse().map_err(|()| no_such_path())?;
    let track = file.strip_suffix(".m4s").and_then(plain_number).map(TrackId).ok_or_else(no_such_path)?;
    let request = Request::new(&app, &caller)?;
    let failed = |error| refuse(error, SpanClock::Producer);
    let segment = app.playlists.segment(request.viewer(), &name, track).await.map_err(failed)?;
    let etag = format!("\"{fragment}-{}\"", track.0);
    let answer = Answer { etag, content_type: content_type(segment.is_video), len: segment.len().into() };
    let body = match answer.part(&headers) {
        Some(part) if method != Method::HEAD => {
            let budget = app.config().limits.response_bytes.0;
            let (playlists, pieces) = (app.playlists.clone(), app.pieces.clone());
            // A part of a segment, whose length is a u32.
            Some(pieces.body(part, budget, move |piece| playlists.read(&segment, piece.start as u32..piece.end as u32)))
        }
        _ => None,
    };
    Ok(answer.response(&headers, &method, body))
}

fn content_type(is_video: bool) -> &'static str {
    if is_video { "video/mp4" } else { "audio/mp4" }
}

/// `<track set>-<track>-<life>.mp4`
fn init_name(file: &str) -> Option<(TrackSetId, TrackId, &str)> {
    let mut parts = file.strip_suffix(".mp4")?.splitn(3, '-');
    let set = plain_number(parts.next()?)?;
    let track = plain_number(parts.next()?)?;
    Some((TrackSetId(set), TrackId(track), parts.next()?))
}

/// What every one of these requests needs to know first.
struct Request<'a> {
    stream: Stream,
    allowed: Option<(media::ProducerTime, media::ProducerTime)>,
    token: Option<&'a str>,
    settings: Settings,
}

impl<'a> Request<'a> {
    fn new(app: &App, caller: &'a Caller) -> Result<Request<'a>, ApiError> {
        let stream = app.stream(caller.stream()?)?;
        app.audience.note(stream.id, &caller.principal.id, caller.origin.peer.ip(), Instant::now());
        let config = app.config();
        let settings = Settings {
            window: config.hls.live_window.0,
            fragments_max: usize::try_from(config.hls.segments_max).unwrap_or(usize::MAX),
            ..Settings::default()
        };
        Ok(Request {
            stream,
            allowed: app.access.media_range(&caller.principal),
            token: caller.query_token.as_deref(),
            settings,
        })
    }

    fn viewer(&self) -> Viewer<'_> {
        Viewer {
            stream: self.stream.id,
            was_trimmed: self.stream.retained_from.is_some(),
            allowed: self.allowed,
            token: self.token,
            settings: self.settings,
        }
    }
}

fn query(params: Asked<Params>) -> Result<Params, ApiError> {
    params.map(|Query(params)| params).map_err(|error| ApiError::bad_request(error.body_text()))
}

fn no_such_path() -> ApiError {
    ApiError::new(Code::NotFound, "there is no such playlist or segment; start at index.m3u8")
}

fn span_clock(span: Span) -> SpanClock {
    match span {
        Span::Live { .. } => SpanClock::Producer,
        Span::Past { clock, .. } | Span::Since { clock, .. } => clock,
    }
}

/// The answer for what cannot be played; `clock` is the one that the request spoke of.
fn refuse(error: HlsError, clock: SpanClock) -> ApiError {
    match error {
        HlsError::NoMedia => ApiError::new(Code::NoMedia, "nothing is recorded there"),
        HlsError::NoTrack => ApiError::new(Code::NotFound, "the stream has no such track there"),
        HlsError::NotPlayable { .. } => ApiError::new(Code::NotPlayable, error.to_string()),
        HlsError::OutsideRange => {
            ApiError::new(Code::Forbidden, "the credential does not reach the times of this media")
        }
        HlsError::TooLong { .. } => ApiError::new(Code::BadTime, error.to_string()),
        HlsError::Gone { earliest: None } => ApiError::gone("this media was deleted, and nothing is left", None),
        HlsError::Gone { earliest: Some(earliest) } => {
            let micros = match clock {
                SpanClock::Producer => earliest.producer_time.micros(),
                SpanClock::Server => earliest.server_time.micros(),
            };
            let message = format!("this media was deleted; the earliest that is left is {}", format_micros(micros));
            // A number of microseconds from here on: it is only written down, as the clock that was asked for.
            ApiError::gone(message, Some(ServerTime::from_micros(micros)))
        }
        HlsError::Store(error) => error.into(),
    }
}

/// A playlist: always asked for again, and not sent again when it is the same.
fn playlist(text: String, headers: &HeaderMap) -> Response {
    let etag = content_tag(text.as_bytes());
    let unchanged = is_known(headers, &etag);
    let mut response = match unchanged {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => Body::from(text).into_response(),
    };
    let fields = response.headers_mut();
    if !unchanged {
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/vnd.apple.mpegurl"));
    }
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    fields.insert(header::ETAG, header_value(&etag));
    response
}

/// A strong entity tag of these bytes. The hash is keyed with nothing and so the same in every life of the server.
fn content_tag(bytes: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    format!("\"{:016x}-{:x}\"", hasher.finish(), bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(params: Params) -> Result<Span, Code> {
        params.span(&Settings::default()).map_err(|error| error.code)
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn parameters_are_read_or_refused_by_name() {
        let window = |text: &str| span(Params { window: some(text), ..Params::default() });
        assert!(matches!(window("90s"), Ok(Span::Live { window }) if window.as_secs() == 90));
        for text in ["", "90", "-1s", "0s", "2h", "x"] {
            assert_eq!(window(text), Err(Code::BadTime), "{text}");
        }
        let range = |from: &str, to: &str| span(Params { from: some(from), to: some(to), ..Params::default() });
        let noon = 1_785_585_600_000_000;
        let expected = Span::Past { from_us: noon, to_us: noon + 1_500_000, clock: SpanClock::Producer };
        assert_eq!(range("2026-08-01T12:00:00Z", "1785585601500"), Ok(expected));
        assert_eq!(range("2", "1"), Err(Code::BadTime));
        assert_eq!(range("1", ""), Err(Code::BadTime));
        assert_eq!(span(Params { to: some("1"), ..Params::default() }), Err(Code::BadTime));
        assert_eq!(span(Params { clock: some("wall"), ..Params::default() }), Err(Code::BadRequest));
    }

    #[test]
    fn names_of_initialisation_segments_are_read() {
        assert_eq!(init_name("3-1-9f3ac2d1.mp4"), Some((TrackSetId(3), TrackId(1), "9f3ac2d1")));
        for name in ["", ".mp4", "3.mp4", "3-1.mp4", "03-1-a.mp4", "3--1-a.mp4", "3-1-a", "4294967296-1-a.mp4"] {
            assert_eq!(init_name(name), None, "{name}");
        }
    }

    #[test]
    fn playlist_that_is_the_same_is_not_sent_again() {
        let first = playlist("#EXTM3U\n".to_owned(), &HeaderMap::new());
        assert_eq!(first.status(), StatusCode::OK);
        let tag = first.headers()[header::ETAG].clone();
        let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, tag)]);
        assert_eq!(playlist("#EXTM3U\n".to_owned(), &headers).status(), StatusCode::NOT_MODIFIED);
        assert_eq!(playlist("#EXTM3U\n\n".to_owned(), &headers).status(), StatusCode::OK);
    }
}
