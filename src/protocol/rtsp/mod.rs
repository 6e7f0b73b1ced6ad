//! RTSP 1.0 (RFC 2326): messages on the wire, and the server's side of a session that records.
//!
//! Bytes in, questions to the driver out: [`session::Session`] keeps order and ids, its driver (`doors/rtsp`) answers what
//! needs a credential, a socket or a stream. Not here: RTP ([`super::rtp`]), SDP ([`super::sdp`]), playing (it does not
//! exist yet and is refused by name).

pub(crate) mod session;
pub(crate) mod transport;
pub(crate) mod wire;
