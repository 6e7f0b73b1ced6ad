//! What an offer says (RFC 8829, RFC 8866): its sections, their codecs by payload type, and a copy of it without what we
//! do not take up.

use crate::protocol::sdp::{self, Format, SdpError};

/// Most candidates of an offer that are looked at; they are not used, and more of them is no honest client's offer.
pub(crate) const MAX_CANDIDATES: usize = 50;
/// Most payload types of a section.
const MAX_PAYLOAD_TYPES: usize = 128;

/// Why an offer is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum OfferError {
    #[error(transparent)]
    Sdp(#[from] SdpError),
    #[error("the offer has more than {MAX_CANDIDATES} candidates")]
    Candidates,
    #[error("the offer has no {0}")]
    Missing(&'static str),
    #[error("the offer has sections on transports of their own: bundle them (BUNDLE, RFC 9143)")]
    Unbundled,
    #[error("the offer sends {0}; one of video and one of audio can be published at a time")]
    Many(String),
    #[error("the offer does not say which packets are of which section (a=ssrc, or a=rid)")]
    Sources,
    #[error("the offer has nothing to {0}")]
    Nothing(&'static str),
    #[error("the offer's codecs are {offered}; {wanted}")]
    Codecs { offered: String, wanted: String },
}

/// Sound or pictures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Audio,
    Video,
}

/// A codec of a section, under the payload type that the peer gave it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Offered {
    pub payload_type: u8,
    /// As in `rtpmap`: `H264/90000`.
    pub mapping: String,
    /// As in `fmtp`; may be empty.
    pub parameters: String,
    pub clock_rate: u32,
    pub channels: u16,
    /// How payloads are made.
    pub format: Format,
    /// Payload type of its retransmissions (RFC 4588).
    pub repair: Option<u8>,
}

impl Offered {
    /// The codec's name: `H264`.
    pub(crate) fn name(&self) -> &str {
        self.mapping.split('/').next().unwrap_or_default()
    }

    /// The value of a parameter of `fmtp`.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.split(';').find_map(|part| {
            let (key, value) = part.split_once('=')?;
            key.trim().eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

/// A section of sound or pictures.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Section {
    pub kind: Kind,
    /// The peer wants to send, to receive.
    pub sends: bool,
    pub receives: bool,
    /// Its codecs that we have a name for, in the peer's order of preference.
    pub codecs: Vec<Offered>,
    /// Names of those that we have none for.
    pub unknown: Vec<String>,
    /// Its packets can be told: it names their source (RFC 5576), or they name the layer of simulcast that they are of (RFC 8852).
    names_source: bool,
    /// Header extensions by their URI (RFC 8285).
    extensions: Vec<(u8, String)>,
}

impl Section {
    /// Number of the header extension with this URI.
    pub(crate) fn extension(&self, uri: &str) -> Option<u8> {
        self.extensions.iter().find(|(_, named)| named == uri).map(|(id, _)| *id)
    }

    /// Its codecs, for people.
    pub(crate) fn names(&self) -> String {
        let known = self.codecs.iter().map(|codec| codec.name().to_owned());
        let mut names: Vec<String> = known.chain(self.unknown.iter().cloned()).collect();
        names.dedup();
        names.truncate(16);
        if names.is_empty() { "none".into() } else { names.join(", ") }
    }
}

/// An offer that can be answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Offer {
    /// Sound and pictures, in order.
    pub sections: Vec<Section>,
    /// The offer without candidates (we are ICE-lite and need none), with one layer of simulcast (one encoding is what is
    /// recorded), for those who answer it.
    pub plain: String,
    /// The peer's ICE user fragment and password.
    pub ice: (String, String),
}

impl Offer {
    /// Reads an offer.
    ///
    /// # Errors
    /// When it is beyond the limits, no SDP, or not of WebRTC.
    pub(crate) fn read(bytes: &[u8]) -> Result<Offer, OfferError> {
        sdp::session(bytes)?;
        let text = std::str::from_utf8(bytes).map_err(|_| SdpError::Malformed("it is not UTF-8".into()))?;
        if text.lines().filter(|line| line.starts_with("a=candidate:")).count() > MAX_CANDIDATES {
            return Err(OfferError::Candidates);
        }
        // What we read is what those who answer will read.
        let plain = plain(text);
        let session = sdp::session(plain.as_bytes())?;
        let first = |name: &'static str| {
            let of_session =
                session.attributes.iter().filter(|a| a.attribute == name).filter_map(|a| a.value.as_deref());
            let of_media = session.medias.iter().flat_map(|media| sdp::attributes(media, name));
            of_session.chain(of_media).map(str::trim).find(|value| !value.is_empty())
        };
        let ufrag = first("ice-ufrag").ok_or(OfferError::Missing("a=ice-ufrag"))?;
        let password = first("ice-pwd").ok_or(OfferError::Missing("a=ice-pwd"))?;
        first("fingerprint").ok_or(OfferError::Missing("a=fingerprint: its media is not encrypted"))?;
        let mut ufrags: Vec<&str> =
            session.medias.iter().flat_map(|media| sdp::attributes(media, "ice-ufrag")).map(str::trim).collect();
        ufrags.dedup();
        if ufrags.len() > 1 {
            return Err(OfferError::Unbundled);
        }
        if session.medias.iter().any(|media| sdp::attributes(media, "mid").next().is_none()) {
            return Err(OfferError::Missing("a=mid in each section"));
        }
        Ok(Offer {
            sections: session.medias.iter().filter_map(section).collect(),
            ice: (ufrag.to_owned(), password.to_owned()),
            plain,
        })
    }

    /// The one section of `kind` that sends, if there is one.
    ///
    /// # Errors
    /// When there are more, or its packets cannot be told from those of another section.
    pub(crate) fn sending(&self, kind: Kind) -> Result<Option<&Section>, OfferError> {
        let all = self.sections.iter().filter(|section| section.sends);
        if all.clone().count() > 1 && !all.clone().all(|section| section.names_source) {
            return Err(OfferError::Sources);
        }
        let sending: Vec<&Section> =
            self.sections.iter().filter(|section| section.kind == kind && section.sends).collect();
        match sending[..] {
            [] => Ok(None),
            [one] => Ok(Some(one)),
            [..] => Err(OfferError::Many(format!("{} sections of {}", sending.len(), kind.name()))),
        }
    }

    /// The first section of `kind` that wants to receive.
    pub(crate) fn receiving(&self, kind: Kind) -> Option<&Section> {
        self.sections.iter().find(|section| section.kind == kind && section.receives)
    }
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Audio => "audio",
            Kind::Video => "video",
        }
    }
}

fn section(media: &sdp_types::Media) -> Option<Section> {
    let kind = match media.media.as_str() {
        "audio" => Kind::Audio,
        "video" => Kind::Video,
        _ => return None,
    };
    let has = |name: &str| media.attributes.iter().any(|attribute| attribute.attribute == name);
    let rejected = media.port == 0 && !has("bundle-only") || has("inactive");
    let mut section = Section {
        kind,
        sends: !rejected && !has("recvonly"),
        receives: !rejected && !has("sendonly"),
        codecs: Vec::new(),
        unknown: Vec::new(),
        names_source: has("ssrc") || has("rid"),
        extensions: sdp::attributes(media, "extmap").filter_map(extension).collect(),
    };
    let about = |name: &'static str, payload_type: u8| {
        sdp::attributes(media, name).find_map(|value| {
            let (number, rest) = value.trim().split_once(' ')?;
            (number.parse::<u8>().ok() == Some(payload_type)).then_some(rest.trim())
        })
    };
    let numbers = media.fmt.split_ascii_whitespace().take(MAX_PAYLOAD_TYPES);
    let numbers: Vec<u8> =
        numbers.filter_map(|number| number.parse::<u8>().ok()).filter(|number| *number < 128).collect();
    let mut repairs = Vec::new();
    for payload_type in numbers {
        let parameters = about("fmtp", payload_type).unwrap_or_default();
        let mapping = match (about("rtpmap", payload_type), payload_type) {
            (Some(mapping), _) => mapping,
            (None, 0) => "PCMU/8000",
            (None, 8) => "PCMA/8000",
            (None, _) => continue,
        };
        let mut parts = mapping.split('/');
        let name = parts.next().unwrap_or_default();
        if name.eq_ignore_ascii_case("rtx") {
            let repaired = parameters.split(';').find_map(|part| part.trim().strip_prefix("apt=")?.parse::<u8>().ok());
            repairs.extend(repaired.map(|repaired| (repaired, payload_type)));
            continue;
        }
        let (format, clock_rate) = sdp::format::read(Some(payload_type), Some(mapping), parameters);
        if matches!(format, Format::Unknown { .. }) {
            if !["red", "ulpfec", "flexfec-03", "CN", "telephone-event"]
                .iter()
                .any(|other| name.eq_ignore_ascii_case(other))
            {
                section.unknown.push(name.chars().take(32).filter(char::is_ascii_graphic).collect());
            }
            continue;
        }
        let channels = parts.nth(1).and_then(|count| count.parse().ok()).unwrap_or(0);
        section.codecs.push(Offered {
            payload_type,
            mapping: mapping.to_owned(),
            parameters: parameters.to_owned(),
            clock_rate,
            channels,
            format,
            repair: None,
        });
    }
    if has("rid") && !has("ssrc") {
        // `rtc` 0.21 does not find out what a source repairs that only the packets name: without one, lost packets come again as
        // they were.
        repairs.clear();
    }
    for codec in &mut section.codecs {
        codec.repair = repairs.iter().find(|(repaired, _)| *repaired == codec.payload_type).map(|(_, number)| *number);
    }
    Some(section)
}

/// `3 urn:ietf:...`, `3/sendonly urn:ietf:...`.
fn extension(value: &str) -> Option<(u8, String)> {
    let mut parts = value.split_ascii_whitespace();
    let id = parts.next()?.split('/').next()?.parse().ok()?;
    Some((id, parts.next()?.to_owned()))
}

/// The offer without what we do not take up: candidates, and of the layers of simulcast (RFC 8853) all but the first.
fn plain(text: &str) -> String {
    let (mut out, mut layer) = (String::with_capacity(text.len()), None);
    for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
        if line.starts_with("m=") {
            layer = None;
        }
        if line.starts_with("a=candidate:") || line == "a=end-of-candidates" {
            continue;
        }
        if let Some(rid) = line.strip_prefix("a=rid:") {
            let id = rid.split(' ').next().unwrap_or_default();
            if *layer.get_or_insert(id) != id {
                continue;
            }
        }
        match line.strip_prefix("a=simulcast:") {
            // The layers are listed before they are said to belong together.
            Some(_) => out.extend(layer.iter().flat_map(|id| ["a=simulcast:send ", *id, "\r\n"])),
            None => out.extend([line, "\r\n"]),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_layer_of_simulcast_is_taken_up_and_no_candidate() {
        let section = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\n";
        let layers = "a=rid:h send\r\na=rid:m send\r\na=rid:l send\r\na=simulcast:send h;m;l\r\n";
        let candidate = "a=candidate:1 1 udp 1 169.254.169.254 80 typ host\r\na=end-of-candidates\r\n";
        assert_eq!(
            plain(&format!("v=0\r\n{section}{layers}{candidate}")),
            format!("v=0\r\n{section}a=rid:h send\r\na=simulcast:send h\r\n")
        );
    }
}
