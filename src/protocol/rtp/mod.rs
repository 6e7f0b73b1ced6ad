//! RTP and RTCP (RFC 3550): packets, order, loss, reports, and the machines that turn payloads into access units.
//!
//! [`receive::Receiver`] is the front: one per track, fed with the packets of RTSP or WebRTC alike. What belongs to one of
//! those only (transport headers, ICE, SRTP) is not here.
//!
//! ```text
//! bytes -> packet -> sequence (wraps, loss) -> [reorder, UDP only] -> depacketise -> receive -> AccessUnit, Track
//!                                                          rtcp <- statistics <-+
//! ```

pub(crate) mod depacketise;
mod describe;
mod foreign;
pub(crate) mod packet;
pub(crate) mod receive;
pub(crate) mod reorder;
pub(crate) mod rtcp;
pub(crate) mod send;
pub(crate) mod sequence;
pub(crate) mod statistics;
