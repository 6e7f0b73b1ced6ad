//! A range of a stream as one file.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use futures_util::StreamExt;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use media::ServerTime;
use serde::Deserialize;

use crate::auth::Action;
use crate::doors::http::App;
use crate::doors::http::byte_range::{Answer, header_value};
use crate::doors::http::error::{ApiError, Code, RangeOut};
use crate::doors::http::extract::Query;
use crate::doors::http::route::{Caller, Needs, On, Route};
use crate::doors::http::time::{format_micros, parse_micros};
use crate::playback::clip::{Asker, Audio, ClipError, Gaps, PROGRESSIVE_MAX_US, Request};
use crate::playback::hls::SpanClock;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(
            Method::GET,
            "/v1/streams/{stream}/clip.mp4",
            Needs::Action(Action::Play, On::PathStream),
            "A range of the stream as one MP4 file: its first picture is the first one taken at `from` or later, its last the \
             last one taken before `to`.",
            clip,
        )
        .with_query_token()
        .with_query(&[
            ("from", "start of the range: RFC 3339 or epoch milliseconds"),
            ("to", "end of the range, exclusive"),
            ("clock", "what from and to mean: producer (default) or server"),
            ("format", "mp4 (default, at most an hour) or fmp4 (default for more): fragments that are sent at once"),
            ("gaps", "time without media: close (default) leaves it out, keep keeps it: the last picture stays and sound is silent"),
            ("audio", "keep (default), only or none"),
        ])
        .gives_other(StatusCode::OK, "video/mp4"),
    ]
}

#[derive(Deserialize)]
struct ClipQuery {
    from: Option<String>,
    to: Option<String>,
    clock: Option<String>,
    format: Option<String>,
    gaps: Option<String>,
    audio: Option<String>,
}

impl ClipQuery {
    fn request(&self) -> Result<Request, ApiError> {
        let time = |name: &str, text: &Option<String>| match text {
            Some(text) => parse_micros(name, text),
            None => Err(ApiError::new(Code::BadTime, format!("a clip needs from and to; {name} is missing"))),
        };
        let (from_us, to_us) = (time("from", &self.from)?, time("to", &self.to)?);
        if from_us >= to_us {
            return Err(ApiError::new(Code::BadTime, "from must be before to; a range is [from, to)"));
        }
        let clock = match self.clock.as_deref() {
            None | Some("producer") => SpanClock::Producer,
            Some("server") => SpanClock::Server,
            Some(_) => return Err(ApiError::bad_request("clock is producer or server")),
        };
        let gaps = match self.gaps.as_deref() {
            None | Some("close") => Gaps::Close,
            Some("keep") => Gaps::Keep,
            Some(_) => return Err(ApiError::bad_request("gaps is close or keep")),
        };
        let audio = match self.audio.as_deref() {
            None | Some("keep") => Audio::Keep,
            Some("only") => Audio::Only,
            Some("none") => Audio::None,
            Some(_) => return Err(ApiError::bad_request("audio is keep, only or none")),
        };
        Ok(Request { from_us, to_us, clock, gaps, audio })
    }

    fn format(&self, request: Request) -> Result<Format, ApiError> {
        let is_long = request.to_us - request.from_us > PROGRESSIVE_MAX_US;
        match self.format.as_deref() {
            Some("mp4") if is_long => {
                let message =
                    "a range of more than an hour comes as fragmented MP4 only: leave format out, or give format=fmp4";
                Err(ApiError::bad_request(message))
            }
            Some("fmp4") => Ok(Format::Fragmented),
            None if is_long => Ok(Format::Fragmented),
            None | Some("mp4") => Ok(Format::Progressive),
            Some(_) => Err(ApiError::bad_request("format is mp4 or fmp4")),
        }
    }
}

/// How the file is laid out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Format {
    Progressive,
    Fragmented,
}

async fn clip(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(query): Query<ClipQuery>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let request = query.request()?;
    let format = query.format(request)?;
    let stream = app.stream(caller.stream()?)?;
    let asker = Asker {
        stream: stream.id,
        was_trimmed: stream.retained_from.is_some(),
        allowed: app.access.media_range(&caller.principal),
    };
    let clip = match format {
        Format::Progressive => app.clips.progressive(asker, request).await,
        Format::Fragmented => app.clips.fragmented(asker, request).await,
    };
    let clip = clip.map_err(|error| refuse(error, request.clock))?;
    let content_type = if clip.has_video() { "video/mp4" } else { "audio/mp4" };
    let answer = Answer { etag: clip.etag().to_owned(), content_type, len: clip.len() };
    let body = answer.part(&headers).filter(|_| method != Method::HEAD).map(|part| {
        let bytes = app.clips.body(&clip, part);
        // A clip may be sent for hours: a credential that is revoked meanwhile ends it.
        let bytes = bytes.map(move |part| match caller.still_valid() {
            true => part,
            false => Err(std::io::Error::from(std::io::ErrorKind::PermissionDenied)),
        });
        Body::from_stream(bytes)
    });
    let mut response = answer.response(&headers, &method, body);
    let fields = response.headers_mut();
    // The same address may give more later, when `to` is still to come.
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    if matches!(response.status(), StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
        let name = file_name(stream.name.as_str(), clip.start_us());
        let value = header_value(&format!("attachment; filename=\"{name}\""));
        response.headers_mut().insert(header::CONTENT_DISPOSITION, value);
    }
    Ok(response)
}

/// `gate-2026-05-01T08-00-00.040Z.mp4`: colons are not for file names everywhere.
fn file_name(stream: &str, start_us: i64) -> String {
    let time = format_micros(start_us).replace(':', "-");
    let millis = time.strip_suffix("000Z").map(|head| format!("{head}Z"));
    format!("{stream}-{}.mp4", millis.unwrap_or(time))
}

/// The answer for what cannot be a clip; `clock` is the one that the request spoke of.
fn refuse(error: ClipError, clock: SpanClock) -> ApiError {
    match error {
        ClipError::NoMedia => ApiError::new(Code::NoMedia, "nothing is recorded there"),
        ClipError::NotPlayable { .. } => ApiError::new(Code::NotPlayable, error.to_string()),
        ClipError::OutsideRange => {
            ApiError::new(Code::Forbidden, "the credential does not reach the times of this media")
        }
        ClipError::TooLong => ApiError::new(Code::BadTime, format!("{error}; ask for a shorter range")),
        ClipError::TracksChange { ranges } => {
            let message =
                "the tracks change in this range, and one file cannot have them all: ask for its parts one by one";
            let ranges = ranges.into_iter().map(|part| RangeOut {
                from: format_micros(part.from_us),
                to: format_micros(part.to_us),
                tracks: part.tracks,
            });
            ApiError { ranges: ranges.collect(), ..ApiError::new(Code::TracksChange, message) }
        }
        ClipError::Gone { earliest: None } => ApiError::gone("this media was deleted, and nothing is left", None),
        ClipError::Gone { earliest: Some(earliest) } => {
            let micros = match clock {
                SpanClock::Producer => earliest.producer_time.micros(),
                SpanClock::Server => earliest.server_time.micros(),
            };
            let message = format!("this media was deleted; the earliest that is left is {}", format_micros(micros));
            // A number of microseconds from here on: it is only written down, as the clock that was asked for.
            ApiError::gone(message, Some(ServerTime::from_micros(micros)))
        }
        ClipError::Store(error) => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_or_refused_by_name() {
        let ask = |from: &str, to: &str, clock: &str, gaps: &str, audio: &str| {
            let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            let (from, to, clock, gaps, audio) = (some(from), some(to), some(clock), some(gaps), some(audio));
            let query = ClipQuery { from, to, clock, format: None, gaps, audio };
            query.request().map_err(|error| error.code)
        };
        let whole =
            Request { from_us: 1_000, to_us: 2_000, clock: SpanClock::Producer, gaps: Gaps::Close, audio: Audio::Keep };
        assert_eq!(ask("1", "2", "", "", ""), Ok(whole));
        let other = Request { clock: SpanClock::Server, gaps: Gaps::Keep, audio: Audio::Only, ..whole };
        assert_eq!(ask("1", "2", "server", "keep", "only"), Ok(other));
        for (from, to) in [("", ""), ("1", ""), ("", "2"), ("2", "1"), ("1", "1"), ("x", "2")] {
            assert_eq!(ask(from, to, "", "", ""), Err(Code::BadTime), "{from} {to}");
        }
        assert_eq!(ask("1", "2", "wall", "", ""), Err(Code::BadRequest));
        assert_eq!(ask("1", "2", "", "fill", ""), Err(Code::BadRequest));
        assert_eq!(ask("1", "2", "", "", "yes"), Err(Code::BadRequest));
    }

    #[test]
    fn more_than_an_hour_is_fragmented() {
        let ask = |format: Option<&str>, seconds: i64| {
            let (from, to) = (Some("0".to_owned()), Some((seconds * 1000).to_string()));
            let format = format.map(str::to_owned);
            let query = ClipQuery { from, to, clock: None, format, gaps: None, audio: None };
            query.format(query.request().expect("a range")).map_err(|error| error.message)
        };
        assert_eq!(ask(None, 3600), Ok(Format::Progressive));
        assert_eq!(ask(None, 3601), Ok(Format::Fragmented));
        assert_eq!(ask(Some("fmp4"), 5), Ok(Format::Fragmented));
        assert_eq!(ask(Some("mp4"), 3600), Ok(Format::Progressive));
        assert!(ask(Some("mp4"), 3601).expect_err("too long").contains("format=fmp4"));
        assert!(ask(Some("mov"), 5).is_err());
    }

    #[test]
    fn file_names_say_stream_and_start() {
        assert_eq!(file_name("gate", 1_785_585_600_040_000), "gate-2026-08-01T12-00-00.040Z.mp4");
        assert_eq!(file_name("gate", 1_785_585_600_040_011), "gate-2026-08-01T12-00-00.040011Z.mp4");
    }
}
