//! The fuzz targets of this crate; those of `media` and `store` are in theirs.
//!
//! A target takes any bytes and panics only at a mistake of ours: beyond "no panic" each says what must hold of the
//! outcome. It lies beside the parser, in the `fuzz.rs` of its room. `tests/fuzz` runs them all; the test below runs
//! them over the stored inputs.

use crate::{auth, config, doors, ingest, playback, protocol};

/// A target's name and what it does with bytes from outside.
pub type Target = (&'static str, fn(&[u8]));

/// Every target by name: its inputs are in `tests/fuzz/corpus/<name>`.
pub const TARGETS: [Target; 24] = [
    ("rtsp_wire", protocol::fuzz::rtsp_wire),
    ("rtsp_transport", protocol::fuzz::rtsp_transport),
    ("rtsp_client", protocol::fuzz::rtsp_client),
    ("rtsp_authorization", auth::fuzz::authorization),
    ("rtsp_push", ingest::fuzz::rtsp_push),
    ("sdp", protocol::fuzz::sdp),
    ("rtp_packet", protocol::fuzz::rtp_packet),
    ("rtp_h264", protocol::fuzz::rtp_h264),
    ("rtp_h265", protocol::fuzz::rtp_h265),
    ("rtp_vp8", protocol::fuzz::rtp_vp8),
    ("rtp_vp9", protocol::fuzz::rtp_vp9),
    ("rtp_av1", protocol::fuzz::rtp_av1),
    ("rtp_aac", protocol::fuzz::rtp_aac),
    ("rtp_latm", protocol::fuzz::rtp_latm),
    ("rtp_opus", protocol::fuzz::rtp_opus),
    ("rtp_g711", protocol::fuzz::rtp_g711),
    ("webrtc_offer", protocol::fuzz::webrtc_offer),
    ("webrtc_stun", protocol::fuzz::webrtc_stun),
    ("webrtc_datagrams", protocol::fuzz::webrtc_datagrams),
    ("http_byte_ranges", doors::http::fuzz::byte_ranges),
    ("http_times", doors::http::fuzz::times),
    ("clip_plan", playback::clip::fuzz::plan),
    ("config_file", config::fuzz::file),
    ("config_units", config::fuzz::units),
];

#[cfg(test)]
#[path = "../tests/fuzz/walk.rs"]
mod walk;

#[cfg(test)]
mod tests {
    #[test]
    fn targets_survive_the_stored_inputs_and_damages_of_them() {
        super::walk::walk(&super::TARGETS);
    }
}
