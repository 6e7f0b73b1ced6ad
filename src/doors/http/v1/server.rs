//! The server itself: what it is, where it listens, how much room it has; and reload.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use http::{Method, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::blocking;
use crate::auth::Action;
use crate::config::tree::Storage;
use crate::doors::http::App;
use crate::doors::http::error::{ApiError, Code};
use crate::doors::http::route::{Needs, On, Route};
use crate::doors::http::time::format_server;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(
            Method::GET,
            "/v1/server",
            Needs::Action(Action::ReadServer, On::Server),
            "Version, uptime, space, listeners, limits.",
            show,
        )
        .gives::<ServerInfo>(StatusCode::OK),
        Route::new(
            Method::POST,
            "/v1/server/reload",
            Needs::Action(Action::ManageServer, On::Server),
            "Takes certificates, limits and streams from the configuration again, without dropping anyone.",
            reload,
        )
        .gives::<Reloaded>(StatusCode::OK),
    ]
}

/// Addresses that are listened on; absent when that door is shut.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Listeners {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) http: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) https: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rtsp: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rtsps: Option<String>,
    /// UDP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) webrtc: Option<String>,
}

/// The server.
#[derive(Serialize, ToSchema)]
pub(crate) struct ServerInfo {
    version: &'static str,
    started: String,
    uptime_seconds: u64,
    data_dir: String,
    /// This life's number: taken anew at every start.
    epoch: u32,
    space: SpaceInfo,
    listeners: Listeners,
    /// Publishers that are connected.
    publishers: u64,
    /// Fragments that are closed and not on disk yet, ...
    unpersisted_fragments: u64,
    /// ... and their bytes.
    unpersisted_bytes: u64,
    /// HTTP connections now.
    connections: u32,
    /// SHA-256 of the certificate; absent when nothing speaks TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
    /// The keys of `[limits]`, as configured.
    #[schema(value_type = Object)]
    limits: serde_json::Value,
}

/// Room on the volume of the data folder.
#[derive(Serialize, ToSchema)]
pub(crate) struct SpaceInfo {
    free_bytes: u64,
    total_bytes: u64,
    /// `ok`; `low`: the oldest media is dropped; `full`: nothing is recorded.
    state: SpaceState,
    /// Free bytes under which the oldest media is dropped: `storage.soft_free_permille`.
    low_bytes: u64,
    /// The volume is short and nothing more is dropped: each stream is down to `storage.min_retention`. What else is on the volume are other
    /// files, which dropping media does not help against.
    minimum_kept: bool,
    /// Bytes a second that publishers send now.
    write_rate: u64,
    /// Until the volume is `low`, when nothing is deleted before and the rate stays; absent when nothing is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds_left: Option<u64>,
}

impl SpaceInfo {
    fn of(free: u64, total: u64, storage: &Storage, write_rate: u64) -> SpaceInfo {
        let low = u128::from(total) * u128::from(storage.soft_free_permille) / 1000;
        let low_bytes = u64::try_from(low).unwrap_or(u64::MAX);
        SpaceInfo {
            free_bytes: free,
            total_bytes: total,
            state: SpaceState::of(free, total, storage.soft_free_permille, storage.hard_free_permille),
            low_bytes,
            minimum_kept: false,
            write_rate,
            seconds_left: free.saturating_sub(low_bytes).checked_div(write_rate),
        }
    }
}

/// How full the volume is, by the watermarks of `[storage]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SpaceState {
    Ok,
    Low,
    Full,
}

impl SpaceState {
    pub(crate) fn of(free: u64, total: u64, soft_permille: u32, hard_permille: u32) -> SpaceState {
        let permille = (u128::from(free) * 1000).checked_div(u128::from(total)).unwrap_or(1000);
        if permille < u128::from(hard_permille) {
            SpaceState::Full
        } else if permille < u128::from(soft_permille) {
            SpaceState::Low
        } else {
            SpaceState::Ok
        }
    }
}

/// What a reload took.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(crate) struct Reloaded {
    /// Streams of the configuration that were created.
    pub(crate) streams_created: u32,
    /// Streams of the configuration whose settings changed.
    pub(crate) streams_updated: u32,
    /// Keys that changed and take a restart.
    pub(crate) needs_restart: Vec<String>,
    /// What was odd about the configuration.
    pub(crate) warnings: Vec<String>,
}

async fn show(State(app): State<Arc<App>>) -> Result<Answer<ServerInfo>, ApiError> {
    let config = app.config();
    let store = app.store.clone();
    let (free_bytes, total_bytes) = blocking(move || store.space()).await?;
    let totals = app.hub.totals();
    let uptime_us = app.clock.now().micros_since(app.status.started).max(0);
    Ok(Answer(ServerInfo {
        version: env!("CARGO_PKG_VERSION"),
        started: format_server(app.status.started),
        uptime_seconds: u64::try_from(uptime_us).unwrap_or(0) / 1_000_000,
        data_dir: config.server.data_dir.display().to_string(),
        epoch: app.store.epoch().0,
        space: SpaceInfo {
            minimum_kept: app.hub.space().minimum_kept,
            ..SpaceInfo::of(free_bytes, total_bytes, &config.storage, totals.bitrate / 8)
        },
        listeners: app.status.listeners.clone(),
        publishers: totals.publishers,
        unpersisted_fragments: totals.unpersisted,
        unpersisted_bytes: totals.unpersisted_bytes,
        connections: app.crowd.count(),
        certificate: app.certificate.as_ref().map(|certificate| certificate.fingerprint()),
        limits: serde_json::to_value(&config.limits)
            .map_err(|error| ApiError::hidden(Code::Internal, "internal error", error))?,
    }))
}

async fn reload(State(app): State<Arc<App>>) -> Result<Answer<Reloaded>, ApiError> {
    let stopping = || ApiError::new(Code::Stopping, "the server is stopping");
    let (answer, outcome) = tokio::sync::oneshot::channel();
    app.reloads.send(answer).await.map_err(|_| stopping())?;
    match outcome.await.map_err(|_| stopping())? {
        Ok(reloaded) => Ok(Answer(reloaded)),
        Err(message) => Err(ApiError::bad_request(message)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_is_judged_by_the_watermarks() {
        assert_eq!(SpaceState::of(151, 1000, 150, 50), SpaceState::Ok);
        assert_eq!(SpaceState::of(150, 1000, 150, 50), SpaceState::Ok);
        assert_eq!(SpaceState::of(149, 1000, 150, 50), SpaceState::Low);
        assert_eq!(SpaceState::of(49, 1000, 150, 50), SpaceState::Full);
        assert_eq!(SpaceState::of(0, 0, 150, 50), SpaceState::Ok, "a volume that says nothing");
        assert_eq!(SpaceState::of(u64::MAX, u64::MAX, 150, 50), SpaceState::Ok);
    }

    #[test]
    fn the_forecast_reaches_to_where_the_oldest_media_goes() {
        let storage = Storage { soft_free_permille: 150, ..Storage::default() };
        let forecast = |free, rate| {
            let space = SpaceInfo::of(free, 1_000, &storage, rate);
            (space.low_bytes, space.seconds_left)
        };
        assert_eq!(forecast(650, 5), (150, Some(100)));
        assert_eq!(forecast(150, 5), (150, Some(0)));
        assert_eq!(forecast(100, 5), (150, Some(0)), "already dropping");
        assert_eq!(forecast(650, 0), (150, None), "nothing is written");
        assert!(SpaceInfo::of(u64::MAX, u64::MAX, &storage, 1).seconds_left > Some(1 << 62), "no size is too large");
    }
}
