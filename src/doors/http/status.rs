//! `/healthz` and `/metrics`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use super::route::{Needs, On, Route};
use super::time::format_server;
use super::{App, stream_metrics};
use crate::auth::Action;
use crate::telemetry::{process, pulse};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(
            Method::GET,
            "/healthz",
            Needs::Public("says how the server is and nothing of what it holds: load balancers have no credential"),
            "Whether the server is up and records: 200 with `ok` or `degraded`, 503 with `failing` when nothing can be recorded. What \
             is not well is named, with since when.",
            health,
        )
        .gives::<Health>(StatusCode::OK),
        Route::new(
            Method::GET,
            "/metrics",
            Needs::Action(Action::ReadServer, On::Server),
            "Metrics in the text format of Prometheus.",
            metrics,
        )
        .gives_other(StatusCode::OK, "text/plain; version=0.0.4"),
    ]
}

/// How the server is.
#[derive(Serialize, ToSchema)]
struct Health {
    status: HealthStatus,
    /// What is not well; absent when all is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<UnwellPart>,
}

/// `ok`; `degraded`: something is not well, and recording goes on; `failing`: nothing can be recorded, or nobody can come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum HealthStatus {
    Ok,
    Degraded,
    Failing,
}

/// A part that is not well.
#[derive(Serialize, ToSchema)]
struct UnwellPart {
    /// `runtime`, `http`, `rtsp`, `webrtc`: no sign of life. `volume`: full. `data_folder`: gone, or another. `writers`: calls to the disk
    /// that do not return. Others degrade only: `index`, `watch`, `removal`, `sweeper`, `events`, `backup`, `last_used`, `metrics`.
    part: &'static str,
    /// Absent when that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    stops_recording: bool,
}

impl Health {
    fn of(app: &App) -> Health {
        let now = app.clock.now();
        let at = |since: Duration| {
            let micros = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
            Some(format_server(now.plus_micros(-micros)))
        };
        let unwell = |part, since, stops_recording| UnwellPart { part, since: at(since), stops_recording };
        let mut parts: Vec<UnwellPart> = pulse::stuck()
            .into_iter()
            .map(|stuck| unwell(stuck.part, stuck.since, stuck.stops_recording))
            .chain(app.store.stuck().into_iter().map(|stuck| unwell(stuck.part, stuck.since, stuck.stops_recording)))
            .collect();
        if app.hub.space().full {
            parts.push(UnwellPart { part: "volume", since: None, stops_recording: true });
        }
        let status = if parts.iter().any(|part| part.stops_recording) {
            HealthStatus::Failing
        } else if parts.is_empty() {
            HealthStatus::Ok
        } else {
            HealthStatus::Degraded
        };
        Health { status, parts }
    }
}

async fn health(State(app): State<Arc<App>>) -> Response {
    let health = Health::of(&app);
    let failing = health.status == HealthStatus::Failing;
    let status = if failing { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (status, [(header::CACHE_CONTROL, "no-store")], Json(health)).into_response()
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    let content_type = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    let mut text = app.metrics.render();
    text.push_str(&process::render(app.status.started));
    match stream_metrics::render(&app).await {
        Ok(streams) => text.push_str(&streams),
        // The others are worth the more then.
        Err(error) => tracing::warn!(%error, "metrics of streams are left out"),
    }
    (content_type, text).into_response()
}
