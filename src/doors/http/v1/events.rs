//! What happens: as it happens, as server-sent events, and what happened lately.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json as Answer;
use axum::extract::State;
use axum::response::sse::{Event as Line, KeepAlive, Sse};
use futures_util::Stream as Lines;
use futures_util::stream::unfold;
use http::{Method, StatusCode};
use media::StreamName;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, timeout_at};
use utoipa::ToSchema;

use crate::auth::Action;
use crate::doors::http::App;
use crate::doors::http::error::{ApiError, Code};
use crate::doors::http::route::{Caller, Needs, On, Route};
use crate::doors::http::watch::{Event, Listening, STOPPING};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(
            Method::GET,
            "/v1/events",
            Needs::Action(Action::ReadServer, On::Server),
            "Events of the server and of every stream, from now on.",
            of_server,
        )
        .gives_other(StatusCode::OK, "text/event-stream"),
        Route::new(
            Method::GET,
            "/v1/events/recent",
            Needs::Action(Action::ReadServer, On::Server),
            "The newest events since the start, newest first; fragments are left out.",
            recent,
        )
        .gives::<RecentEvents>(StatusCode::OK),
        Route::new(
            Method::GET,
            "/v1/streams/{stream}/events",
            Needs::Action(Action::ReadStream, On::PathStream),
            "Events of one stream, from now on.",
            of_stream,
        )
        .gives_other(StatusCode::OK, "text/event-stream"),
    ]
}

/// What happened lately.
#[derive(Serialize, ToSchema)]
pub(crate) struct RecentEvents {
    /// At most 200, each as `/v1/events` tells it: `id`, `type`, `at`, `stream`, and what the type brings along.
    #[schema(value_type = Vec<Object>)]
    events: Vec<Value>,
}

async fn recent(State(app): State<Arc<App>>) -> Answer<RecentEvents> {
    Answer(RecentEvents { events: app.events.recent() })
}

/// How soon a revoked credential stops hearing.
const RECHECK: Duration = Duration::from_secs(4);

async fn of_server(State(app): State<Arc<App>>, caller: Caller) -> Result<impl axum::response::IntoResponse, ApiError> {
    listen(&app, caller, None)
}

async fn of_stream(State(app): State<Arc<App>>, caller: Caller) -> Result<impl axum::response::IntoResponse, ApiError> {
    let name = app.stream(caller.stream()?)?.name;
    listen(&app, caller, Some(name))
}

fn listen(
    app: &App,
    caller: Caller,
    only: Option<StreamName>,
) -> Result<Sse<impl Lines<Item = Result<Line, Infallible>> + use<>>, ApiError> {
    let listening = app.events.listen(app.config().limits.event_listeners as usize);
    let listening = listening.ok_or_else(|| ApiError::new(Code::TooManyRequests, "too many listen to events"))?;
    let ear = Ear { listening, caller, only, next_check: Instant::now() + RECHECK, over: false };
    let lines = unfold(ear, |mut ear| async move { ear.next().await.map(|line| (Ok(line), ear)) });
    Ok(Sse::new(lines).keep_alive(KeepAlive::new().interval(Duration::from_secs(10))))
}

/// One client that listens.
struct Ear {
    listening: Listening,
    caller: Caller,
    only: Option<StreamName>,
    next_check: Instant,
    over: bool,
}

impl Ear {
    /// The next line; none when the client may no longer listen, or the server stops.
    async fn next(&mut self) -> Option<Line> {
        while !self.over {
            let heard = match timeout_at(self.next_check, self.listening.next()).await {
                Err(_) => {
                    self.next_check = Instant::now() + RECHECK;
                    if !self.caller.still_valid() {
                        return None;
                    }
                    continue;
                }
                Ok(heard) => heard,
            };
            match heard {
                Ok(event) if self.wants(&event) => {
                    self.over = event.kind == STOPPING;
                    return Some(line(&event));
                }
                Ok(_) => {}
                // It was too slow: what it missed is counted and said, and nobody waited for it.
                Err(RecvError::Lagged(missed)) => {
                    return Some(Line::default().event("missed").data(format!("{{\"missed\":{missed}}}")));
                }
                Err(RecvError::Closed) => return None,
            }
        }
        None
    }

    fn wants(&self, event: &Event) -> bool {
        self.only.is_none() || self.only == event.stream || event.stream.is_none()
    }
}

fn line(event: &Event) -> Line {
    Line::default().event(event.kind).data(event.value().to_string())
}
