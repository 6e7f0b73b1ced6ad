//! Session descriptions (RFC 8866) of RTP sessions: what is sent, in which format, under which control URL.
//!
//! Not here: the offer and answer of WebRTC (`protocol/webrtc`), whose lines `sdp-types` parses within our limits.

pub(super) mod format;
mod sections;

use sdp_types::Session;
use sections::Section;

pub(crate) use format::Format;

/// Most bytes of a description.
pub(crate) const MAX_BYTES: usize = 64 << 10;
/// Most media sections.
const MAX_MEDIA: usize = 16;
/// Most attributes in all.
const MAX_ATTRIBUTES: usize = 1_000;

/// What an SDP describes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Description {
    /// Its media sections, in order.
    pub media: Vec<Media>,
}

/// A media section.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Media {
    /// `video`, `audio`, ...
    pub kind: String,
    /// The first payload type whose format we know, else the first.
    pub payload_type: u8,
    /// Ticks of the RTP clock per second; never 0.
    pub clock_rate: u32,
    /// How payloads are made.
    pub format: Format,
    /// Its control URL as given: absolute, relative or `*`.
    pub control: Option<String>,
}

/// Why an SDP is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum SdpError {
    #[error("sdp is longer than 64 KiB")]
    Long,
    #[error("sdp has more than 16 media sections")]
    Media,
    #[error("sdp has more than 1000 attributes")]
    Attributes,
    #[error("sdp is malformed: {0}")]
    Malformed(String),
}

/// Reads a description.
///
/// # Errors
/// When it is beyond the limits, or no description at all. A format we do not know is no error.
pub(crate) fn parse(bytes: &[u8]) -> Result<Description, SdpError> {
    Ok(Description { media: sections::read(bytes)?.iter().map(media).collect() })
}

/// The lines of a description within our limits.
///
/// # Errors
/// When it is beyond the limits or no SDP (RFC 8866).
pub(super) fn session(bytes: &[u8]) -> Result<Session, SdpError> {
    if bytes.len() > MAX_BYTES {
        return Err(SdpError::Long);
    }
    // Counted before parsing, so that the parser's work and memory are bounded too.
    let lines_of = |key: &[u8]| bytes.split(|byte| *byte == b'\n').filter(|line| line.starts_with(key)).count();
    if lines_of(b"m=") > MAX_MEDIA {
        return Err(SdpError::Media);
    }
    if lines_of(b"a=") > MAX_ATTRIBUTES {
        return Err(SdpError::Attributes);
    }
    if bytes.contains(&0) {
        return Err(SdpError::Malformed("a zero byte".into()));
    }
    // `sdp-types` 0.1 panics when a line without a key follows another such line; with this check none gets there.
    let keyed = |line: &[u8]| line.is_empty() || line == b"\r" || line.get(1) == Some(&b'=') && line[0] != b'=';
    if !bytes.split(|byte| *byte == b'\n').all(keyed) {
        return Err(SdpError::Malformed("a line that is not key=value".into()));
    }
    Session::parse(bytes).map_err(|error| SdpError::Malformed(error.to_string()))
}

fn media(section: &Section) -> Media {
    let read = |payload_type: Option<u8>| {
        let about = |name| payload_type.and_then(|number| section.about(name, number));
        let (format, clock_rate) = format::read(payload_type, about("rtpmap"), about("fmtp").unwrap_or_default());
        let control = section.attributes("control").next().map(str::to_owned);
        Media { kind: section.kind.clone(), payload_type: payload_type.unwrap_or(0), clock_rate, format, control }
    };
    // The first that we know; of none the first.
    let mut all = section.payload_types.iter().map(|number| read(Some(*number)));
    let known = all.find(|media| !matches!(media.format, Format::Unknown { .. }));
    known.unwrap_or_else(|| read(section.payload_types.first().copied()))
}

/// Values of the attributes of this name.
pub(super) fn attributes<'a>(media: &'a sdp_types::Media, name: &'static str) -> impl Iterator<Item = &'a str> {
    let named = media.attributes.iter().filter(move |attribute| attribute.attribute.eq_ignore_ascii_case(name));
    named.filter_map(|attribute| attribute.value.as_deref())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    use crate::protocol::rtp::depacketise::Layout;

    /// What `ffmpeg` 5.1.9 announces: `-f lavfi -i testsrc=s=128x96:r=25 -f lavfi -i sine=440:r=48000 -c:v libx264 -pix_fmt yuv420p -bf 2 -c:a aac -f rtsp`.
    pub(crate) const FFMPEG: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=No Name\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
        a=tool:libavformat LIBAVFORMAT_VERSION\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n\
        a=fmtp:96 packetization-mode=1; sprop-parameter-sets=Z2QACqzZQg2wEQAAAwABAAADADIPEiWW,aO+Pyw==; profile-level-id=64000A\r\n\
        a=control:streamid=0\r\nm=audio 0 RTP/AVP 97\r\nb=AS:69\r\na=rtpmap:97 MPEG4-GENERIC/48000/1\r\n\
        a=fmtp:97 profile-level-id=1;mode=AAC-hbr;sizelength=13;indexlength=3;indexdeltalength=3; config=118856E500\r\n\
        a=control:streamid=1\r\n";

    /// What `rtspclientsink` of GStreamer 1.22.0 announces for `x264enc` and `voaacenc ! aacparse`.
    pub(crate) const GSTREAMER: &str = "v=0\r\no=- 3343502995 1 IN IP4 127.0.0.1\r\ns=Session streamed with GStreamer\r\ni=rtspclientsink\r\n\
        t=0 0\r\na=tool:GStreamer\r\nm=audio 0 RTP/AVP 96\r\nc=IN IP4 0.0.0.0\r\na=rtpmap:96 MP4A-LATM/48000\r\n\
        a=fmtp:96 cpresent=0;config=40002320\r\na=control:stream=1\r\na=ts-refclk:local\r\na=mediaclk:sender\r\n\
        a=ssrc:3475558642 cname:user2619841828@host-4393fd8b\r\nm=video 0 RTP/AVP 99\r\nc=IN IP4 0.0.0.0\r\nb=AS:2097\r\n\
        a=rtpmap:99 H264/90000\r\na=framerate:25\r\n\
        a=fmtp:99 packetization-mode=1;sprop-parameter-sets=Z/QADZDZsoQbYC1BgYGQAAADABAAAAMDKPFCmWA=,aOvsRIRA\r\n\
        a=control:stream=0\r\na=ts-refclk:local\r\na=mediaclk:sender\r\n\
        a=ssrc:2322401930 cname:user2619841828@host-4393fd8b\r\n";

    #[test]
    fn ffmpeg_h264_and_aac() {
        let media = parse(FFMPEG.as_bytes()).expect("an SDP").media;
        assert_eq!((media[0].kind.as_str(), media[0].payload_type, media[0].clock_rate), ("video", 96, 90_000));
        assert_eq!(media[0].control.as_deref(), Some("streamid=0"));
        let Format::H264 { sps, pps } = &media[0].format else { panic!("{:?}", media[0].format) };
        assert_eq!((sps.len(), sps[0][0], pps.len(), pps[0][0]), (1, 0x67, 1, 0x68));
        assert_eq!(
            media[1].format,
            Format::Aac {
                config: Bytes::from_static(&[0x11, 0x88, 0x56, 0xe5, 0]),
                layout: Layout { size_bits: 13, index_bits: 3, delta_bits: 3 },
                samples: 1024
            }
        );
    }

    #[test]
    fn gstreamer_sends_aac_as_latm() {
        let media = parse(GSTREAMER.as_bytes()).expect("an SDP").media;
        assert_eq!(
            media[0].format,
            Format::Latm { config: Bytes::from_static(&[0x11, 0x90]), samples: 1024 },
            "AAC LC, 48 kHz, two channels"
        );
        assert!(matches!(media[1].format, Format::H264 { .. }));
        assert_eq!(media[1].payload_type, 99);
    }

    #[test]
    fn beyond_the_limits_is_refused() {
        let head = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n";
        let sdp = |line: &str, count: usize| format!("{head}{}", line.repeat(count));
        assert_eq!(parse(sdp("m=video 0 RTP/AVP 96\r\n", 16).as_bytes()).map(|sdp| sdp.media.len()), Ok(16));
        assert_eq!(parse(sdp("m=video 0 RTP/AVP 96\r\n", 17).as_bytes()), Err(SdpError::Media));
        assert_eq!(parse(sdp("a=x\r\n", 1_001).as_bytes()), Err(SdpError::Attributes));
        assert_eq!(parse(&vec![b'a'; 10 << 20]), Err(SdpError::Long));
        for garbage in ["", "\0", "hello", "v=1\r\n", "v=0\r\nm=\r\n", "v=0\r\nm=video 0\r\n"] {
            assert!(matches!(parse(garbage.as_bytes()), Err(SdpError::Malformed(_))), "{garbage:?}");
            assert!(matches!(session(garbage.as_bytes()), Err(SdpError::Malformed(_))), "{garbage:?}");
        }
    }

    #[test]
    fn lines_that_are_never_read_refuse_nothing() {
        let expected = parse(FFMPEG.as_bytes()).expect("an SDP");
        let changes: [(&str, &[u8]); 8] = [
            ("o=- 0 0 IN IP4 127.0.0.1", b"o=camera"),
            ("o=- 0 0 IN IP4 127.0.0.1", b"o=- 18446744073709551616 -1 IN IP4"),
            ("s=No Name", b"s="),
            ("s=No Name", b"s=\xc7\xb0\xc3\xc5 \xff"),
            ("c=IN IP4 127.0.0.1", b"c=IN IP4"),
            ("t=0 0", b"t=0 forever"),
            ("t=0 0", b"hello"),
            ("a=tool:libavformat LIBAVFORMAT_VERSION", b"a=range:npt=now-\r\nx"),
        ];
        for (line, other) in changes {
            let (before, after) = FFMPEG.split_once(line).expect("it has this line");
            let changed = [before.as_bytes(), other, after.as_bytes()].concat();
            assert_eq!(parse(&changed), Ok(expected.clone()), "{:?}", String::from_utf8_lossy(other));
        }
        assert_eq!(parse(&[FFMPEG.as_bytes(), b"\0"].concat()), Ok(expected.clone()));
        assert_eq!(parse(FFMPEG.replace("\r\n", "\r").as_bytes()), Ok(expected.clone()));
        assert_eq!(parse(FFMPEG.replace("a=fmtp:96 ", "a=fmtp: 96\t").as_bytes()), Ok(expected));
    }

    #[test]
    fn of_several_payload_types_the_first_known_is_taken() {
        let sdp = "v=0\r\nm=video 0 RTP/AVP 97 96\r\na=rtpmap:97 rtx/90000\r\na=rtpmap:96 H265/90000\r\n";
        let media = &parse(sdp.as_bytes()).expect("an SDP").media[0];
        assert_eq!(media.payload_type, 96);
        assert!(matches!(media.format, Format::H265 { .. }));
    }

    proptest! {
        #[test]
        fn no_change_of_bytes_panics(changes in prop::collection::vec((0usize..900, any::<u8>()), 1..20)) {
            for sample in [FFMPEG, GSTREAMER] {
                let mut bytes = sample.as_bytes().to_vec();
                for (at, value) in &changes {
                    let length = bytes.len();
                    bytes[at % length] = *value;
                }
                let _ = parse(&bytes);
            }
        }
    }
}
