//! Fuzz targets: every parser of this room, see `crate::fuzz`.

mod rtp;
mod rtsp;
mod webrtc;

pub(crate) use rtp::{
    rtp_aac, rtp_av1, rtp_g711, rtp_h264, rtp_h265, rtp_latm, rtp_opus, rtp_packet, rtp_vp8, rtp_vp9, sdp,
};
pub(crate) use rtsp::{rtsp_client, rtsp_transport, rtsp_wire};
pub(crate) use webrtc::{webrtc_datagrams, webrtc_offer, webrtc_stun};
