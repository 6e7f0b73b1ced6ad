//! WHEP: what a viewer over WebRTC is sent, and when.
//!
//! ```text
//! live::UnitReader -> Relay (Packer; workers, where another codec is needed) -> Packed, once per stream --+
//! live::Cursor -> Past, at the pace of then -> the same, for one viewer ----------------------------------+--> Viewer
//! ```
//!
//! 1. A viewer starts with a picture: the pictures since the last key picture go out at once, paced, with timestamps that
//!    follow each other as quickly as they are sent, so that the decoder runs through them to the live edge and stays there.
//!    Where the publisher makes key pictures when asked (WebRTC), it is asked instead.
//! 2. A viewer never waits for another, and nobody for a viewer: one that cannot follow is left out until the next key picture.
//! 3. Pictures are sent in the order in which they are decoded, and WebRTC shows them as they come: pictures that no
//!    other refers to and that are shown before an earlier one (B pictures) are left out; where others refer to such, there
//!    is no WebRTC for the stream and HLS is named.
//!
//! Not here: sessions, encryption and sockets (`protocol/webrtc`, `doors/webrtc`).

mod choose;
mod pack;
mod past;
#[cfg(test)]
mod past_tests;
mod relay;
mod viewer;

pub(crate) use choose::{Plan, Unplayable, choose};
pub(crate) use pack::Packed;
pub(crate) use past::Past;
pub(crate) use relay::{Fed, Relay, Units};
pub(crate) use viewer::{Catchup, Sending, Viewer};
