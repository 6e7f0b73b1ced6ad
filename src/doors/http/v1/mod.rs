//! The native API under `/v1`.
//!
//! Not here: what a stream or a fragment is (`catalog`, `live`, `store`): these files translate, and decide nothing.

use super::route::Route;

pub(crate) mod access;
pub(crate) mod clip;
pub(crate) mod events;
pub(crate) mod fragments;
pub(crate) mod frames;
pub(crate) mod server;
pub(crate) mod streams;
pub(crate) mod timeline;

pub(crate) fn routes() -> Vec<Route> {
    [
        access::routes(),
        streams::routes(),
        fragments::routes(),
        frames::routes(),
        timeline::routes(),
        clip::routes(),
        server::routes(),
        events::routes(),
    ]
    .concat()
}

/// Runs a short call that may wait for the disk where waiting harms nobody.
async fn blocking<T, E>(call: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, super::error::ApiError>
where
    T: Send + 'static,
    E: Into<super::error::ApiError> + Send + 'static,
{
    let wrong = |error| super::error::ApiError::hidden(super::error::Code::Internal, "internal error", error);
    tokio::task::spawn_blocking(call).await.map_err(wrong)?.map_err(Into::into)
}
