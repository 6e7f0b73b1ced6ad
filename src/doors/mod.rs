//! Listeners and routes.

pub(crate) mod http;
pub(crate) mod rtsp;
