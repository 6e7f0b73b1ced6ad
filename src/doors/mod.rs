//! Listeners and routes.

pub(crate) mod crowd;
pub(crate) mod http;
pub(crate) mod publishing;
pub(crate) mod rtsp;
pub(crate) mod webrtc;
