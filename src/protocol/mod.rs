//! Sans-I/O wire dialects: bytes and time in, messages and access units out.
//!
//! Not here: sockets and listeners (`doors`), who may do what (`auth`), where units go (`ingest`, `live`).

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub(crate) mod rtp;
pub(crate) mod rtsp;
pub(crate) mod rtsp_client;
pub(crate) mod sdp;
pub(crate) mod webrtc;
