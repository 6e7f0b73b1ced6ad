//! Which codecs of an offer are published.

use std::time::Instant;

use media::TrackId;

use crate::ingest::Feed;
use crate::protocol::rtp::receive::Receiver;
use crate::protocol::sdp::{Format, Media};
use crate::protocol::webrtc::{Kind, Offer, OfferError, Offered, Section};

/// The codec of each section that sends, pictures first: one of them, since what is not agreed on is not sent, and a
/// recording is not to change its codec in the middle.
///
/// The publisher's order of preference counts, but for VP8, which comes last: browsers list it first, and no player takes
/// it from HLS. Who wants it offers nothing else.
///
/// # Errors
/// When there is nothing to record.
pub(crate) fn choose(offer: &Offer) -> Result<Vec<(Kind, Offered)>, OfferError> {
    let mut chosen = Vec::new();
    let (mut offered, mut sections) = (Vec::new(), 0);
    for kind in [Kind::Video, Kind::Audio] {
        let Some(section) = offer.sending(kind)? else { continue };
        sections += 1;
        offered.push(section.names());
        chosen.extend(best(section).map(|codec| (kind, codec.clone())));
    }
    if sections == 0 {
        return Err(OfferError::Nothing("publish: no section of video or audio that sends"));
    }
    if chosen.is_empty() {
        let wanted = "H264, VP9, AV1, H265 and VP8, opus, PCMU and PCMA are recorded".into();
        return Err(OfferError::Codecs { offered: offered.join(", "), wanted });
    }
    Ok(chosen)
}

fn best(section: &Section) -> Option<&Offered> {
    let last = |codec: &Offered| codec.name().eq_ignore_ascii_case("VP8");
    // RFC 6184: mode 0 has no fragments, so a picture would have to fit a packet.
    let poor = |codec: &Offered| {
        matches!(codec.format, Format::H264 { .. }) && codec.parameter("packetization-mode") != Some("1")
    };
    section.codecs.iter().min_by_key(|codec| (last(codec), poor(codec)))
}

/// The feed of these tracks: its `n`-th track is the `n`-th of `chosen`.
pub(crate) fn receivers(chosen: &[(Kind, Offered)], now: Instant) -> Feed {
    let receivers = chosen.iter().zip(1..).filter_map(|((kind, codec), id)| {
        let media = Media {
            kind: kind.name().to_owned(),
            payload_type: codec.payload_type,
            clock_rate: codec.clock_rate,
            format: codec.format.clone(),
            control: None,
        };
        // Formats that are not ours were not chosen.
        Some(Receiver::new(TrackId(id), &media, true, 1)?.of_webrtc())
    });
    Feed::new(receivers.collect(), now)
}
