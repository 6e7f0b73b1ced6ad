//! `/healthz` and `/metrics`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Method, StatusCode, header};
use serde_json::json;

use super::App;
use super::route::{Needs, On, Route};
use crate::auth::Action;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(
            Method::GET,
            "/healthz",
            Needs::Public("says that we are up and nothing else: load balancers have no credential"),
            "Whether the server is up.",
            health,
        )
        .gives_other(StatusCode::OK, "application/json"),
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

async fn health() -> Response {
    let mut response = Json(json!({"status": "ok"})).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    let content_type = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (content_type, app.metrics.render()).into_response()
}
