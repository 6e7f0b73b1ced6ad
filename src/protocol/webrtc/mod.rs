//! WebRTC without sockets: offers read and answered, peers driven, STUN requests judged before anything else sees them.
//!
//! ```text
//! offer (SDP) -> Offer -> Peer::publisher, Peer::viewer -> answer (SDP)
//! datagram -> stun (whose is it, is it genuine) -> Peer -> RTP packets and reports in; datagrams out
//! ```
//!
//! ICE, DTLS, SRTP and repair are `rtc`'s; this module keeps its types to itself, bounds what it is given, and hears what
//! it would swallow (requests for key pictures, sender reports). We are ICE-lite (RFC 8445 section 2.5): nothing is sent
//! to an address that has not proven to know the session's password, whatever an offer lists.
//!
//! Not here: the socket and the table of sessions (`doors/webrtc`), depacketising ([`super::rtp`]), what viewers are sent
//! (`playback/whep`).

mod hears;
mod identity;
mod offer;
mod peer;
pub(crate) mod stun;
#[cfg(test)]
mod tests;

pub(crate) use hears::Report;
pub(crate) use identity::Identity;
pub(crate) use offer::{Kind, Offer, OfferError, Offered, Section};
pub(crate) use peer::{Answer, Credentials, Peer, PeerError, State};
