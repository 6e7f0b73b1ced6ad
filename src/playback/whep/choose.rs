//! Which tracks a viewer gets, as which codecs of its offer.

use media::{Codec, Track, TrackSet};

use crate::protocol::webrtc::{Kind, Offer, Offered, Section};
use crate::workers::Target;

/// What a stream's media is made into on the way to a viewer; none where it is sent as it came.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Plan {
    pub pictures: Option<Target>,
    pub sound: Option<Target>,
}

impl Plan {
    /// Whether what is sent of `tracks` has this codec.
    pub(crate) fn sends(self, tracks: &TrackSet, codec: Codec) -> bool {
        tracks.tracks().iter().any(|track| match self.of(track.codec) {
            Some(Target::H264) => codec == Codec::H264,
            Some(Target::Opus) => codec == Codec::Opus,
            None => codec == track.codec,
        })
    }

    /// What units of a track of this codec are made into.
    pub(super) fn of(self, codec: Codec) -> Option<Target> {
        if codec.is_video() { self.pictures } else { self.sound }
    }
}

/// A kind of media, and what it is sent as.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Chosen {
    pub kind: Kind,
    /// As it is sent.
    pub codec: Codec,
    /// As the viewer offered it.
    pub offered: Offered,
}

/// Why a viewer cannot be shown the stream over WebRTC.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Unplayable {
    #[error("WebRTC has no way to send {0}")]
    Codec(String),
    #[error("the viewer's offer takes {offered}, and the stream is {wanted}")]
    NotOffered { offered: String, wanted: String },
    #[error(
        "its pictures are coded in another order than they are shown, and others refer to them (B pictures as references); \
         WebRTC shows pictures as they come"
    )]
    Reordered,
    #[error("the offer wants to receive neither video nor audio that the stream has")]
    Nothing,
}

/// How the offer is answered for a stream of `tracks`; pictures are made into H.264 where they must be and `transcode` allows it.
///
/// # Errors
/// When nothing can be sent, or the pictures are wanted and cannot. Sound that cannot be sent is left out.
pub(crate) fn choose(tracks: &TrackSet, offer: &Offer, transcode: bool) -> Result<(Plan, Vec<Chosen>), Unplayable> {
    let (mut plan, mut chosen) = (Plan::default(), Vec::new());
    let video = tracks.tracks().iter().find(|track| track.codec.is_video());
    let audio = tracks.tracks().iter().find(|track| !track.codec.is_video());
    if let (Some(track), Some(section)) = (video, offer.receiving(Kind::Video)) {
        let (codec, offered) = match (as_it_is(track, section), h264(section).filter(|_| transcode)) {
            (Ok(offered), _) => (track.codec, offered),
            (Err(_), Some(offered)) if matches!(track.codec, Codec::H264 | Codec::H265) => {
                plan.pictures = Some(Target::H264);
                (Codec::H264, offered)
            }
            (Err(unplayable), _) => return Err(unplayable),
        };
        chosen.push(Chosen { kind: Kind::Video, codec, offered: offered.clone() });
    }
    if let (Some(track), Some(section)) = (audio, offer.receiving(Kind::Audio)) {
        let codec = if track.codec == Codec::Aac { Codec::Opus } else { track.codec };
        let named = |name| section.codecs.iter().find(|offered| offered.name().eq_ignore_ascii_case(name));
        if let Some(offered) = rtp_name(codec).and_then(named) {
            plan.sound = (codec != track.codec).then_some(Target::Opus);
            chosen.push(Chosen { kind: Kind::Audio, codec, offered: offered.clone() });
        }
    }
    if chosen.is_empty() {
        return Err(Unplayable::Nothing);
    }
    Ok((plan, chosen))
}

/// The best of the section's codecs for pictures that are sent as they came.
fn as_it_is<'a>(track: &Track, section: &'a Section) -> Result<&'a Offered, Unplayable> {
    let name = rtp_name(track.codec).ok_or_else(|| Unplayable::Codec(named(track)))?;
    if track.reorder_depth.is_some_and(|depth| depth > 1) {
        return Err(Unplayable::Reordered);
    }
    let of_name = section.codecs.iter().filter(|codec| codec.name().eq_ignore_ascii_case(name));
    // Of those that fit as well, the one that the viewer likes best: it comes first, and the last of the largest is taken.
    let best = of_name.rev().filter_map(|codec| Some((fitness(track, codec)?, codec))).max_by_key(|(fit, _)| *fit);
    let missing = || Unplayable::NotOffered { offered: section.names(), wanted: named(track) };
    best.map(|(_, codec)| codec).ok_or_else(missing)
}

/// H.264 in packets that fit the path.
fn h264(section: &Section) -> Option<&Offered> {
    let of_name = section.codecs.iter().filter(|codec| codec.name().eq_ignore_ascii_case("H264"));
    // What is made is constrained baseline, which every decoder of H.264 takes.
    of_name
        .filter(|codec| codec.parameter("packetization-mode") == Some("1"))
        .min_by_key(|codec| codec.parameter("profile-level-id").and_then(|id| id.get(..2)) != Some("42"))
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
