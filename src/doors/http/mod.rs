//! The HTTP door: listeners, the route table, and what every request passes.
//!
//! Not here: what playlists say (`playback::hls`), who may do what (`auth`).

use std::sync::{Arc, RwLock};

use axum::middleware::from_fn_with_state;
use http::Uri;
use media::ServerTime;
use metrics_exporter_prometheus::PrometheusHandle;
use store::{Clock, Store};
use tokio::sync::{mpsc, oneshot};

use crate::auth::Access;
use crate::catalog::{self, Catalog};
use crate::config::Config;
use crate::doors::webrtc::Webrtc;
use crate::frames::Frames;
use crate::live::Hub;
use crate::playback::clip::Clips;
use crate::playback::hls::Playlists;

pub(crate) mod audience;
mod byte_range;
pub(crate) mod console;
pub(crate) mod error;
pub(crate) mod extract;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod hls;
pub(crate) mod listener;
pub(crate) mod openapi;
mod pieces;
mod progress;
pub(crate) mod request;
pub(crate) mod route;
mod stall;
pub(crate) mod status;
mod stream_metrics;
#[cfg(test)]
mod tests;
pub(crate) mod time;
pub(crate) mod tls;
pub(crate) mod v1;
pub(crate) mod watch;
mod webrtc;

use crate::doors::crowd::Crowd;
use audience::Audience;
use error::{ApiError, Code};
pub(crate) use pieces::Pieces;
use route::Route;
use tls::Certificate;
use v1::server::{Listeners, Reloaded};
use watch::Events;

/// What handlers work with; each takes `State<Arc<App>>`.
pub(crate) struct App {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) access: Arc<Access>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) playlists: Arc<Playlists>,
    pub(crate) frames: Arc<Frames>,
    pub(crate) clips: Clips,
    /// None when that door is shut.
    pub(crate) webrtc: Option<Arc<Webrtc>>,
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) events: Events,
    pub(crate) audience: Audience,
    pub(crate) crowd: Arc<Crowd>,
    pub(crate) pieces: Pieces,
    pub(crate) certificate: Option<Arc<Certificate>>,
    pub(crate) status: RunStatus,
    pub(crate) metrics: PrometheusHandle,
    /// Asks the composition root to reload; it answers with what it took.
    pub(crate) reloads: mpsc::Sender<oneshot::Sender<Result<Reloaded, String>>>,
    pub(crate) config: RwLock<Arc<Config>>,
}

/// What is fixed for this run.
#[derive(Clone, Debug)]
pub(crate) struct RunStatus {
    pub(crate) started: ServerTime,
    pub(crate) listeners: Listeners,
}

impl App {
    /// The configuration in force; a reload changes it between two calls.
    pub(crate) fn config(&self) -> Arc<Config> {
        self.config.read().expect("nobody panics while setting it").clone()
    }

    /// Puts another configuration in force.
    pub(crate) fn set_config(&self, config: Arc<Config>) {
        *self.config.write().expect("nobody panics while setting it") = config;
    }

    /// Who watches the stream, over HLS and WebRTC.
    pub(crate) fn viewers(&self, stream: media::StreamId, now: std::time::Instant) -> u64 {
        self.audience.count(stream, now) + self.webrtc.as_ref().map_or(0, |door| door.viewers(stream))
    }

    /// The stream of this name.
    ///
    /// # Errors
    /// `stream_not_found`. Callers have been allowed the name before, so that this tells nothing to strangers.
    pub(crate) fn stream(&self, name: &media::StreamName) -> Result<catalog::Stream, ApiError> {
        let missing = || ApiError::new(Code::StreamNotFound, format!("there is no stream {name}"));
        self.catalog.stream(name).ok_or_else(missing)
    }

    fn host_allowed(&self, config: &Config, host: Option<&str>) -> bool {
        let Some(host) = host else { return true };
        let name = request::host_name(host);
        let is_address = name.starts_with('[') || name.parse::<std::net::Ipv4Addr>().is_ok();
        let allowed = &config.http.allowed_hosts;
        allowed.is_empty()
            || is_address
            || name.eq_ignore_ascii_case("localhost")
            || allowed.iter().any(|one| one.eq_ignore_ascii_case(name))
    }
}

/// Every route there is. The rows of a folder are listed by its own `routes()`.
pub(crate) fn routes() -> Vec<Route> {
    [api_routes(), console::routes()].concat()
}

/// Those of the API document.
fn api_routes() -> Vec<Route> {
    [v1::routes(), hls::routes(), webrtc::routes(), status::routes(), openapi::routes()].concat()
}

/// The whole door as a service.
pub(crate) fn router(app: &Arc<App>) -> axum::Router {
    route::router(app, routes())
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(from_fn_with_state(app.clone(), request::outermost))
        .with_state(app.clone())
}

async fn no_route(uri: Uri) -> ApiError {
    let path = uri.path();
    let streams = ["/v1/streams/", "/hls/", "/whip/", "/whep/"].iter().find_map(|root| path.strip_prefix(root));
    match streams {
        Some(rest) if rest.contains('/') => {
            let message = "there is no such call; if this was meant as a stream name: a stream name has no '/', use '-', \
                           '_' or '.' to group streams, as in site-gate";
            ApiError::new(Code::BadStreamName, message)
        }
        _ => ApiError::new(Code::NotFound, "there is nothing at this path; /openapi.json lists what is"),
    }
}

async fn no_method() -> ApiError {
    ApiError::new(Code::MethodNotAllowed, "this path is there, this method is not; /openapi.json lists what is")
}
