//! Which tracks a viewer gets, as which codecs of its offer.

use media::{Codec, Track, TrackId, TrackSet};

use crate::protocol::webrtc::{Kind, Offer, Offered};

/// A track and what it is sent as.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Chosen {
    pub track: TrackId,
    pub kind: Kind,
    pub codec: Offered,
}

/// Why a viewer cannot be shown the stream over WebRTC.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Unplayable {
    #[error("WebRTC has no way to send {0}")]
    Codec(String),
    #[error("the viewer's offer takes {offered}, and the stream is {wanted}")]
    NotOffered { offered: String, wanted: String },
    #[error(
        "its pictures are coded in another order than they are shown, and others refer to them (B pictures as references); WebRTC shows pictures as they come"
    )]
    Reordered,
    #[error("the offer wants to receive neither video nor audio that the stream has")]
    Nothing,
}

/// The tracks of `tracks` that the offer takes.
///
/// # Errors
/// When that is none, or the pictures are wanted and cannot be sent. Sound that cannot be sent is left out.
pub(crate) fn choose(tracks: &TrackSet, offer: &Offer) -> Result<Vec<Chosen>, Unplayable> {
    let mut chosen = Vec::new();
    let video = tracks.tracks().iter().find(|track| track.codec.is_video());
    let audio = tracks.tracks().iter().find(|track| !track.codec.is_video());
    if let (Some(track), Some(section)) = (video, offer.receiving(Kind::Video)) {
        let name = rtp_name(track.codec).ok_or_else(|| Unplayable::Codec(named(track)))?;
        if track.reorder_depth.is_some_and(|depth| depth > 1) {
            return Err(Unplayable::Reordered);
        }
        let best = section.codecs.iter().filter(|codec| codec.name().eq_ignore_ascii_case(name));
        let best = best.filter_map(|codec| Some((fitness(track, codec)?, codec))).max_by_key(|(fit, _)| *fit);
        let (_, codec) =
            best.ok_or_else(|| Unplayable::NotOffered { offered: section.names(), wanted: named(track) })?;
        chosen.push(Chosen { track: track.id, kind: Kind::Video, codec: codec.clone() });
    }
    if let (Some(track), Some(section)) = (audio, offer.receiving(Kind::Audio))
        && let Some(name) = rtp_name(track.codec)
        && let Some(codec) = section.codecs.iter().find(|codec| codec.name().eq_ignore_ascii_case(name))
    {
        chosen.push(Chosen { track: track.id, kind: Kind::Audio, codec: codec.clone() });
    }
    if chosen.is_empty() {
        return Err(Unplayable::Nothing);
    }
    Ok(chosen)
}

/// The codec's name in SDP; none when WebRTC does not carry it.
fn rtp_name(codec: Codec) -> Option<&'static str> {
    match codec {
        Codec::H264 => Some("H264"),
        Codec::H265 => Some("H265"),
        Codec::Vp8 => Some("VP8"),
        Codec::Vp9 => Some("VP9"),
        Codec::Av1 => Some("AV1"),
        Codec::Opus => Some("opus"),
        Codec::Pcmu => Some("PCMU"),
        Codec::Pcma => Some("PCMA"),
        Codec::Aac | Codec::Opaque => None,
    }
}

fn named(track: &Track) -> String {
    track.codec_string.clone().unwrap_or_else(|| format!("{:?}", track.codec))
}

/// How well an offered codec of the same name fits; none when the track may not be sent as it.
fn fitness(track: &Track, codec: &Offered) -> Option<u8> {
    match track.codec {
        Codec::H264 => {
            // Pictures are cut into packets (RFC 6184 section 6.3), which mode 0 does not take.
            if codec.parameter("packetization-mode") != Some("1") {
                return None;
            }
            // `avc1.PPCCLL` and `profile-level-id=PPCCLL`. Browsers decode higher profiles than they list (Firefox lists
            // constrained baseline alone), so another profile is a worse fit and no refusal.
            let ours = track.codec_string.as_deref().and_then(|name| name.get(5..7));
            let theirs = codec.parameter("profile-level-id").and_then(|id| id.get(..2));
            Some(match (ours, theirs) {
                (Some(ours), Some(theirs)) if ours.eq_ignore_ascii_case(theirs) => 2,
                _ => 1,
            })
        }
        // `vp09.PP.LL.DD` and `av01.P.LLT.DD`: 4:2:0 with 8 bits is profile 0, and what is not said (RFC 9628 section 6).
        Codec::Vp9 | Codec::Av1 => {
            let name = if track.codec == Codec::Vp9 { "profile-id" } else { "profile" };
            let ours = track.codec_string.as_deref()?.split('.').nth(1)?.parse::<u8>().ok()?;
            let theirs = codec.parameter(name).map_or(Ok(0), str::parse).ok()?;
            (ours == theirs).then_some(1)
        }
        _ => Some(1),
    }
}
