//! Media sections of an RTSP session's description, read leniently.
//!
//! Only the lines that we use are read: `m=`, and the attributes behind it. What stands in the others (`o=`, `s=`, `c=`, `t=`
//! and more) refuses nothing, however a camera writes it. Offers of WebRTC are read strictly, by `sdp-types`.

use super::{MAX_ATTRIBUTES, MAX_BYTES, MAX_MEDIA, SdpError};

/// A media section's lines.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Section {
    /// `video`, `audio`, ...
    pub kind: String,
    /// Payload types in the order of preference; what is no number below 128 is left out.
    pub payload_types: Vec<u8>,
    attributes: Vec<(String, String)>,
}

impl Section {
    /// Values of the attributes of this name.
    pub fn attributes<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.attributes.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// `rtpmap:96 H264/90000`, `fmtp:96 ...`: the first that is about this payload type.
    pub fn about<'a>(&'a self, name: &'a str, payload_type: u8) -> Option<&'a str> {
        self.attributes(name).find_map(|value| {
            let (number, rest) = value.trim().split_once([' ', '\t'])?;
            (number.parse() == Ok(payload_type)).then_some(rest.trim())
        })
    }
}

/// Reads a description.
///
/// # Errors
/// When it is beyond the limits, or no description at all.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<Section>, SdpError> {
    if bytes.len() > MAX_BYTES {
        return Err(SdpError::Long);
    }
    let mut sections: Vec<Section> = Vec::new();
    let mut attributes = 0;
    // Some end their lines with a lone carriage return, and the whole with a zero byte.
    for line in bytes.split(|byte| matches!(byte, b'\n' | b'\r' | 0)) {
        let line = line.trim_ascii();
        if let Some(value) = line.strip_prefix(b"m=") {
            if sections.len() == MAX_MEDIA {
                return Err(SdpError::Media);
            }
            sections.push(section(&text(value))?);
        } else if let Some(value) = line.strip_prefix(b"a=") {
            attributes += 1;
            if attributes > MAX_ATTRIBUTES {
                return Err(SdpError::Attributes);
            }
            let value = text(value);
            let (name, value) = value.split_once(':').unwrap_or((&value, ""));
            if let Some(section) = sections.last_mut() {
                section.attributes.push((name.trim().to_owned(), value.trim().to_owned()));
            }
        }
    }
    if sections.is_empty() && !bytes.trim_ascii_start().starts_with(b"v=0") {
        return Err(SdpError::Malformed("it has neither v=0 nor a media section".into()));
    }
    Ok(sections)
}

/// `video 0 RTP/AVP 96`.
fn section(line: &str) -> Result<Section, SdpError> {
    let mut words = line.split_ascii_whitespace();
    let (Some(kind), Some(_port), Some(_transport)) = (words.next(), words.next(), words.next()) else {
        return Err(SdpError::Malformed("a line m= needs a kind, a port, a transport and payload types".into()));
    };
    let payload_types = words.filter_map(|word| word.parse::<u8>().ok()).filter(|number| *number < 128).collect();
    Ok(Section { kind: kind.to_owned(), payload_types, attributes: Vec::new() })
}

/// Names of devices stand in any encoding; what we read is ASCII.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
