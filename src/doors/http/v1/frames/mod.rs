//! Pictures at instants and of ranges.
//!
//! Here: parameters, headers and the three forms of answer. Which picture an instant means is `frames`.

mod answer;
mod ask;
mod kind;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, Method, StatusCode};
use media::{ProducerTime, StreamId};
use store::StoreError;

use crate::auth::{Action, Principal};
use crate::doors::http::App;
use crate::doors::http::error::{ApiError, Code};
use crate::doors::http::route::{Caller, Needs, On, Route};
use crate::frames::{FramesError, Given};
use crate::workers::{Asker, WorkError};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(
            Method::GET,
            "/v1/streams/{stream}/frames",
            Needs::Action(Action::Play, On::PathStream),
            "Pictures at instants, or of a range. One instant: the picture. Several, or a range: multipart/mixed in time \
             order, or a line of JSON each with Accept: application/x-ndjson. Every picture says in headers what it is: \
             Kinora-Time, Kinora-Asked, Kinora-Clock-Source, Kinora-Clock-Error, Kinora-Pts, Kinora-Fragment, Kinora-Key, \
             Kinora-Exact, Kinora-Damaged, Kinora-Width, Kinora-Height. Among several, one that cannot be had is a part, or a \
             line, with {\"error\": {code, message}} and Kinora-Time, and Kinora-Until where all pictures up to then are missing; \
             the others follow.",
            frames,
        )
        .with_query(&[
            ("at", "an instant, several with commas or repeated, or `latest`: RFC 3339 or epoch milliseconds, producer's clock"),
            ("from", "start of a range, in place of `at`"),
            ("to", "end of the range, exclusive"),
            ("every", "of a range: one picture every such duration (`1s`, `200ms`), or `key` for its key frames; default: all"),
            (
                "pick",
                "which picture an instant means: shown (default: the one on screen), previous, next, nearest, key (the nearest \
                 key frame, several times cheaper)",
            ),
            ("format", "jpeg (default), png, webp, rgb, i420 or npy"),
            ("width", "width in pixels; alone, the height follows"),
            ("height", "height in pixels; alone, the width follows"),
            ("fit", "with both: contain (default: as large as fits), cover (filled, the rest cut off) or stretch"),
            ("crop", "x,y,width,height: the part of the picture that is used, in its pixels, before it is scaled"),
            ("quality", "of jpeg and webp, 1 to 100, by default 85"),
        ])
        .gives_other(StatusCode::OK, "image/jpeg")
        .with_query_token(),
    ]
}

/// Decoders are shared evenly between credentials.
fn asker(principal: &Principal) -> Asker {
    let mut hasher = DefaultHasher::new();
    principal.id.hash(&mut hasher);
    Asker(hasher.finish())
}

async fn frames(
    State(app): State<Arc<App>>,
    caller: Caller,
    axum::extract::Query(query): axum::extract::Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let asked = ask::read(&query)?;
    let stream = app.stream(caller.stream()?)?;
    let allowed = app.access.media_range(&caller.principal);
    let asking = Asking { stream: stream.id, was_trimmed: stream.retained_from.is_some(), allowed };
    let (is_single, is_latest) = (asked.is_single(), asked.is_latest());
    let kind = asked.kind();
    let ask = asked.of(asker(&caller.principal), stream.id, allowed);
    if is_single {
        let frame = match app.frames.one(&ask).await {
            Ok(frame) => frame,
            Err(error) => return Err(refuse(&app, &asking, error).await),
        };
        return Ok(answer::single(frame, kind, is_latest));
    }
    let mut frames = app.frames.many(ask);
    // Whatever is wrong with all of it is said with a status of its own.
    let first = match frames.next().await {
        Some(Err(error)) => return Err(refuse(&app, &asking, error).await),
        Some(Ok(Given::Missing(missing))) if is_likely_of_all(&missing.error) => return Err(api_error(missing.error)),
        Some(Ok(first)) => first,
        None => {
            let nothing = FramesError::NoMedia { asked: None, before: None, after: None };
            return Err(refuse(&app, &asking, nothing).await);
        }
    };
    Ok(answer::several(first, frames, kind, answer::wants_lines(&headers)))
}

/// Whether what the first picture fails for will hold for the others, too: the answer then says nothing else.
fn is_likely_of_all(error: &FramesError) -> bool {
    use media::decoding::FailureKind;
    match error {
        FramesError::NoPictures { .. } => true,
        FramesError::Work(WorkError::Refused { kind, .. }) => {
            matches!(kind, FailureKind::Size | FailureKind::NoDecoder)
        }
        _ => false,
    }
}

/// Who asks, as far as an error depends on it.
#[derive(Clone, Copy)]
struct Asking {
    stream: StreamId,
    /// Retention has dropped some of it.
    was_trimmed: bool,
    allowed: Option<(ProducerTime, ProducerTime)>,
}

/// The answer for what cannot be had. Media that is not there may have been there once.
async fn refuse(app: &App, ask: &Asking, error: FramesError) -> ApiError {
    let Asking { stream, was_trimmed, allowed } = *ask;
    let first = match &error {
        FramesError::NoMedia { before: None, .. } | FramesError::Gone { .. } if was_trimmed => {
            let first = app.hub.status(stream).await.ok().and_then(|status| status.first);
            // Of what the credential may not see, no time is told.
            let is_seen = |time: &ProducerTime| allowed.is_none_or(|(from, to)| from <= *time && *time < to);
            first.map(|first| first.producer_time).filter(is_seen)
        }
        _ => None,
    };
    match error {
        FramesError::NoMedia { asked, before: None, after: Some(after) }
            if was_trimmed && asked.is_some_and(|asked| first.is_some_and(|first| asked < first)) =>
        {
            api_error(FramesError::Gone { earliest: Some(after) })
        }
        FramesError::Gone { earliest: None } => api_error(FramesError::Gone { earliest: first }),
        other => api_error(other),
    }
}

/// The error in the shape of all errors.
fn api_error(error: FramesError) -> ApiError {
    let text = error.to_string();
    match error {
        FramesError::NoMedia { before, after, .. } => {
            ApiError { previous: before, next: after, ..ApiError::new(Code::NoMedia, text) }
        }
        FramesError::Gone { earliest } => {
            let earliest = earliest.map(|time| media::ServerTime::from_micros(time.micros()));
            ApiError::gone(text, earliest)
        }
        FramesError::OutsideRange => ApiError::new(Code::Forbidden, text),
        FramesError::NoPictures { .. } | FramesError::TooLong => ApiError::new(Code::NotPlayable, text),
        FramesError::Work(work) => match work {
            WorkError::Busy => ApiError::new(Code::Busy, text),
            WorkError::Stopping => ApiError::new(Code::Stopping, text),
            WorkError::NoProgram(why) => ApiError::hidden(
                Code::NoDecoder,
                "pictures cannot be made: the program kinora-decoder does not start; the server's log says why",
                why,
            ),
            WorkError::Died(_) => ApiError::new(Code::DecoderFailed, text),
            WorkError::Refused { kind, text } => refused(kind, text),
        },
        FramesError::Store(error) if matches!(*error, StoreError::Damaged { .. }) => {
            ApiError::hidden(Code::MediaDamaged, "these stored bytes are damaged and are not served", error)
        }
        FramesError::Store(error) => ApiError::hidden(Code::StorageFailed, "the store refused", error),
    }
}

fn refused(kind: media::decoding::FailureKind, text: String) -> ApiError {
    use media::decoding::FailureKind;
    match kind {
        FailureKind::Size => ApiError::bad_request(text),
        FailureKind::NoDecoder => ApiError::new(Code::NoDecoder, text),
        FailureKind::Damaged => ApiError::new(Code::DecoderFailed, text),
        FailureKind::Job | FailureKind::Cancelled => ApiError::hidden(Code::Internal, "internal error", text),
    }
}
