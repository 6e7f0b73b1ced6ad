//! Listeners and routes.

pub(crate) mod rtsp;
