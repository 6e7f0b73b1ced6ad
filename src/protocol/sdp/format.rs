//! Payload formats: from `rtpmap`, `fmtp` and the static payload types.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use media::Timescale;
use media::codec::bits::BitReader;
use media::codec::{aac, nal};

use crate::protocol::rtp::depacketise::Layout;

/// How the payloads of a media section are made, with what the SDP says of the codec.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Format {
    /// RFC 6184, packetization mode 0 or 1; parameter sets if given.
    H264 { sps: Vec<Bytes>, pps: Vec<Bytes> },
    /// RFC 7798 without decoding order numbers; parameter sets if given.
    H265 { vps: Vec<Bytes>, sps: Vec<Bytes>, pps: Vec<Bytes> },
    /// RFC 7741.
    Vp8,
    /// RFC 9628.
    Vp9,
    /// AOM RTP payload format, version 1.0.
    Av1,
    /// RFC 3640 with AAC: AudioSpecificConfig, AU headers, and RTP ticks a unit.
    Aac { config: Bytes, layout: Layout, samples: u32 },
    /// RFC 6416 with AAC, configuration out of band: AudioSpecificConfig and RTP ticks a unit.
    Latm { config: Bytes, samples: u32 },
    /// RFC 7587.
    Opus { channels: u16 },
    /// RFC 3551, mono at 8 kHz.
    Pcmu,
    /// RFC 3551, mono at 8 kHz.
    Pcma,
    /// Any other, or one with parameters that we cannot follow.
    Unknown {
        /// What it is, for people.
        what: String,
    },
}

/// Cameras pad as they like.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The format of a payload type and the rate of its RTP clock.
pub(in crate::protocol) fn read(payload_type: Option<u8>, rtpmap: Option<&str>, fmtp: &str) -> (Format, u32) {
    // Static payload types need no rtpmap (RFC 3551 section 6).
    let rtpmap = match (rtpmap, payload_type) {
        (Some(rtpmap), _) => rtpmap,
        (None, Some(0)) => "PCMU/8000",
        (None, Some(8)) => "PCMA/8000",
        (None, Some(number)) => return (Format::Unknown { what: unmapped(number) }, 90_000),
        (None, None) => return (Format::Unknown { what: "a section without a payload type".into() }, 90_000),
    };
    let mut parts = rtpmap.split('/');
    let encoding = parts.next().unwrap_or_default().trim();
    let rate = parts.next().and_then(|rate| rate.trim().parse::<u32>().ok()).filter(|rate| *rate > 0);
    let channels = parts.next().and_then(|count| count.trim().parse::<u16>().ok()).unwrap_or(1);
    let Some(rate) = rate else {
        return (Format::Unknown { what: format!("{} without a clock rate", shown(encoding)) }, 90_000);
    };
    let parameters = Parameters(fmtp);
    let format = match encoding.to_ascii_uppercase().as_str() {
        "H264" => h264(&parameters),
        "H265" => h265(&parameters),
        "VP8" if rate == 90_000 => Ok(Format::Vp8),
        "VP9" if rate == 90_000 => Ok(Format::Vp9),
        "AV1" if rate == 90_000 => Ok(Format::Av1),
        "MPEG4-GENERIC" => mpeg4_generic(&parameters, rate, channels),
        "MP4A-LATM" => latm(&parameters, rate),
        // The rtpmap always says two channels (RFC 7587 section 7); two decode a mono source rightly as well.
        "OPUS" if rate == 48_000 => {
            Ok(Format::Opus { channels: 2 - u16::from(parameters.get("sprop-stereo") == Some("0")) })
        }
        "PCMU" if rate == 8_000 && channels == 1 => Ok(Format::Pcmu),
        "PCMA" if rate == 8_000 && channels == 1 => Ok(Format::Pcma),
        _ => Err(format!("{}/{rate}/{channels}", shown(encoding))),
    };
    (format.unwrap_or_else(|what| Format::Unknown { what }), rate)
}

/// A payload type without an `a=rtpmap` line, for people: what it means by itself (RFC 3551 section 6), or what is missing.
fn unmapped(number: u8) -> String {
    let name = match number {
        3 => "GSM audio",
        4 => "G.723 audio",
        5 | 6 | 16 | 17 => "DVI4 audio",
        7 => "LPC audio",
        9 => "G.722 audio",
        10 | 11 => "L16 audio",
        12 => "QCELP audio",
        13 => "comfort noise",
        14 => "MPEG audio (MP3)",
        15 => "G.728 audio",
        18 => "G.729 audio",
        25 => "CelB video",
        26 => "JPEG video",
        28 => "nv video",
        31 => "H.261 video",
        32 => "MPEG-1 or MPEG-2 video",
        33 => "MPEG-TS",
        34 => "H.263 video",
        _ => return format!("payload type {number} without a line a=rtpmap:{number} that names its codec"),
    };
    format!("{name} (payload type {number})")
}

/// A name from the wire, cut and cleaned for messages.
fn shown(text: &str) -> String {
    text.chars().take(32).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
}

/// `name=value; name=value`.
struct Parameters<'a>(&'a str);

impl<'a> Parameters<'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        self.0.split(';').find_map(|part| {
            let (key, value) = part.split_once('=')?;
            key.trim().eq_ignore_ascii_case(name).then_some(value.trim().trim_matches('"'))
        })
    }

    fn number(&self, name: &str) -> Option<u32> {
        self.get(name)?.parse().ok()
    }

    /// Comma-separated NAL units in base64; what is none is left out, the sets may come in band. Some have start codes
    /// (ITU-T H.264 annex B) before them, behind them (GW Security), or between several.
    fn nals(&self, name: &str) -> Vec<Bytes> {
        let Some(value) = self.get(name) else { return Vec::new() };
        let decoded = value.split(',').filter_map(|part| BASE64.decode(part.trim()).ok());
        decoded.flat_map(|bytes| nal::parted(&bytes).map(Bytes::copy_from_slice).collect::<Vec<_>>()).collect()
    }
}

fn h264(parameters: &Parameters<'_>) -> Result<Format, String> {
    if parameters.number("packetization-mode").unwrap_or(0) > 1 {
        return Err("H264 with packetization-mode 2 (interleaved)".into());
    }
    let (mut sps, mut pps) = (Vec::new(), Vec::new());
    for nal in parameters.nals("sprop-parameter-sets") {
        match nal[0] & 0x1f {
            media::codec::h264::SPS => sps.push(nal),
            media::codec::h264::PPS => pps.push(nal),
            _ => {}
        }
    }
    Ok(Format::H264 { sps, pps })
}

fn h265(parameters: &Parameters<'_>) -> Result<Format, String> {
    if parameters.number("sprop-max-don-diff").unwrap_or(0) > 0 || parameters.get("tx-mode") == Some("MRST") {
        return Err("H265 with decoding order numbers".into());
    }
    let nals = |name| parameters.nals(name);
    Ok(Format::H265 { vps: nals("sprop-vps"), sps: nals("sprop-sps"), pps: nals("sprop-pps") })
}

/// Without a `config` it is taken for AAC-LC as its `rtpmap` describes it; Hikvision's recorders leave it out.
fn mpeg4_generic(parameters: &Parameters<'_>, rate: u32, channels: u16) -> Result<Format, String> {
    // The mode only names sizes that are given as well (RFC 3640 section 3.3): encoders leave it out, and write AAC_hbr.
    let mode = parameters.get("mode").unwrap_or_default();
    if !mode.is_empty() && !mode.to_ascii_uppercase().starts_with("AAC") {
        return Err(format!("MPEG4-GENERIC with mode {}", shown(mode)));
    }
    let bits = |name| parameters.number(name).unwrap_or(0);
    let (size, index, delta) = (bits("sizelength"), bits("indexlength"), bits("indexdeltalength"));
    if !(1..=16).contains(&size) || index > 16 || delta > 16 {
        return Err("MPEG4-GENERIC without AU sizes".into());
    }
    // CTS, DTS, random access flags and auxiliary sections lengthen the headers: absent for AAC (section 3.3.6).
    let others = [
        "ctsdeltalength",
        "dtsdeltalength",
        "randomaccessindication",
        "streamstateindication",
        "auxiliarydatasizelength",
    ];
    if others.iter().any(|name| bits(name) != 0) {
        return Err("MPEG4-GENERIC with further AU header fields".into());
    }
    let config = match parameters.get("config") {
        Some(config) => hex(config).ok_or("MPEG4-GENERIC with a config that is not hexadecimal")?,
        None => aac::lc_config(rate, channels).ok_or("MPEG4-GENERIC without a config")?,
    };
    let samples = samples(&config, rate)?;
    let layout = Layout { size_bits: size as u8, index_bits: index as u8, delta_bits: delta as u8 };
    Ok(Format::Aac { config, layout, samples })
}

fn latm(parameters: &Parameters<'_>, rate: u32) -> Result<Format, String> {
    if parameters.get("cpresent") != Some("0") {
        return Err("MP4A-LATM with its configuration in band".into());
    }
    let mux = hex(parameters.get("config").unwrap_or_default()).ok_or("MP4A-LATM without a config")?;
    let config = latm_config(&mux).ok_or("MP4A-LATM with several programs, layers or subframes")?;
    let samples = samples(&config, rate)?;
    Ok(Format::Latm { config, samples })
}

/// The AudioSpecificConfig of a StreamMuxConfig (ISO 14496-3 section 1.7.3.1) with one program and one layer.
fn latm_config(mux: &[u8]) -> Option<Bytes> {
    let mut bits = BitReader::plain(mux);
    // audioMuxVersion 0, allStreamsSameTimeFraming 1, numSubFrames any (each has its length), numProgram 0, numLayer 0.
    let (version, same) = (bits.bit().ok()?, bits.bit().ok()?);
    bits.skip(6).ok()?;
    if version || !same || bits.bits(7).ok()? != 0 {
        return None;
    }
    // The rest is the configuration, then frameLengthType and more. The configuration has no length of its own, so
    // it is measured: object type, rate, channels, the same again for SBR, and three flags.
    let rest = bits.remaining();
    let mut measure = BitReader::plain(mux);
    measure.skip(15).ok()?;
    let rate = |measure: &mut BitReader<'_>| if measure.bits(4).ok()? == 15 { measure.skip(24).ok() } else { Some(()) };
    let object_type = measure.bits(5).ok()?;
    rate(&mut measure)?;
    measure.skip(4).ok()?;
    if object_type == 5 || object_type == 29 {
        rate(&mut measure)?;
        measure.skip(5).ok()?;
    }
    measure.skip(3).ok()?;
    let length = rest - measure.remaining();
    let mut config = vec![0u8; length.div_ceil(8)];
    for at in 0..length {
        config[at / 8] |= u8::from(bits.bit().ok()?) << (7 - at % 8);
    }
    Some(config.into())
}

/// RTP ticks of a unit.
fn samples(config: &[u8], rate: u32) -> Result<u32, String> {
    let config = aac::Config::parse(config).map_err(|error| error.to_string())?;
    let rate_of = |hz| Timescale::new(hz).ok_or("no sample rate");
    let ticks = media::time::rescale(i64::from(config.frame_samples), rate_of(config.sample_rate)?, rate_of(rate)?);
    u32::try_from(ticks).ok().filter(|ticks| *ticks > 0).ok_or_else(|| "AAC with a clock slower than its units".into())
}

fn hex(text: &str) -> Option<Bytes> {
    let digits = text.as_bytes();
    if digits.is_empty() || !digits.len().is_multiple_of(2) || digits.len() > 256 {
        return None;
    }
    let digit = |byte: u8| (byte as char).to_digit(16);
    digits.chunks_exact(2).map(|pair| Some((digit(pair[0])? << 4 | digit(pair[1])?) as u8)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown(rtpmap: &str, fmtp: &str) -> String {
        match read(Some(96), Some(rtpmap), fmtp).0 {
            Format::Unknown { what } => what,
            known => panic!("{known:?}"),
        }
    }

    #[test]
    fn static_types_need_no_rtpmap() {
        assert_eq!(read(Some(0), None, ""), (Format::Pcmu, 8_000));
        assert_eq!(read(Some(8), None, ""), (Format::Pcma, 8_000));
        assert_eq!(read(Some(8), Some("PCMA/8000/1"), ""), (Format::Pcma, 8_000));
        assert!(matches!(read(Some(26), None, ""), (Format::Unknown { .. }, _)));
    }

    #[test]
    fn static_types_that_we_do_not_take_are_named() {
        let named = |number| match read(Some(number), None, "").0 {
            Format::Unknown { what } => what,
            known => panic!("{known:?}"),
        };
        assert_eq!(named(14), "MPEG audio (MP3) (payload type 14)");
        assert_eq!(named(26), "JPEG video (payload type 26)");
        assert_eq!(named(33), "MPEG-TS (payload type 33)");
        assert_eq!(named(96), "payload type 96 without a line a=rtpmap:96 that names its codec");
    }

    #[test]
    fn aac_is_taken_however_its_mode_is_spelt() {
        let sizes = "sizeLength=13; indexLength=3; indexDeltaLength=3";
        let layout = Layout { size_bits: 13, index_bits: 3, delta_bits: 3 };
        let expected = Format::Aac { config: Bytes::from_static(&[0x11, 0x90]), layout, samples: 1024 };
        for rest in
            ["; mode=AAC-hbr; config=1190", "; mode=AAC_hbr; config=1190", "; config=\"1190\"", "; mode=AAC-hbr", ""]
        {
            let fmtp = format!("streamtype=5; {sizes}{rest}");
            assert_eq!(read(Some(97), Some("MPEG4-GENERIC/48000/2"), &fmtp).0, expected, "{rest}");
        }
        let fmtp = "streamtype=3;profile-level-id=14;mode=AAC-hbr;config=1190;sizeLength=13";
        let layout = Layout { size_bits: 13, index_bits: 0, delta_bits: 0 };
        let expected = Format::Aac { config: Bytes::from_static(&[0x11, 0x90]), layout, samples: 1024 };
        assert_eq!(read(Some(97), Some("MPEG4-GENERIC/48000/2"), fmtp).0, expected);
    }

    #[test]
    fn parameter_sets_with_start_codes_are_parted() {
        let (sps, pps) = (&[0x67, 0x42, 9][..], &[0x68, 7][..]);
        let code = &[0, 0, 0, 1][..];
        let base64 = |parts: &[&[u8]]| BASE64.encode(parts.concat());
        let forms = [
            format!("{},{}", base64(&[sps]), base64(&[pps])),
            format!("{},{}", base64(&[code, sps]), base64(&[code, pps])),
            format!("{},{}", base64(&[sps, code]), base64(&[pps, code])),
            base64(&[code, sps, code, pps]),
            base64(&[sps, &code[1..], pps]),
            format!("\"{},{}\"", base64(&[sps]), base64(&[pps])),
        ];
        for form in forms {
            let fmtp = format!("packetization-mode=1;sprop-parameter-sets={form}");
            let expected = Format::H264 { sps: vec![Bytes::from_static(sps)], pps: vec![Bytes::from_static(pps)] };
            assert_eq!(read(Some(96), Some("H264/90000"), &fmtp).0, expected, "{form}");
        }
    }

    #[test]
    fn names_in_any_case() {
        assert_eq!(read(Some(96), Some("opus/48000/2"), "sprop-stereo=1"), (Format::Opus { channels: 2 }, 48_000));
        assert_eq!(read(Some(96), Some("opus/48000/2"), "sprop-stereo=0"), (Format::Opus { channels: 1 }, 48_000));
        assert!(matches!(read(Some(96), Some("h265/90000"), "").0, Format::H265 { .. }));
        assert_eq!(read(Some(96), Some("vp8/90000"), ""), (Format::Vp8, 90_000));
        assert_eq!(read(Some(96), Some("VP9/90000"), "profile-id=2"), (Format::Vp9, 90_000));
        assert_eq!(read(Some(96), Some("AV1/90000"), "profile=0;level-idx=8;tier=0"), (Format::Av1, 90_000));
    }

    #[test]
    fn what_we_cannot_follow_is_named() {
        assert_eq!(unknown("VP9/48000", ""), "VP9/48000/1");
        assert_eq!(unknown("H263/90000", ""), "H263/90000/1");
        assert_eq!(unknown("H264/90000", "packetization-mode=2"), "H264 with packetization-mode 2 (interleaved)");
        assert_eq!(unknown("MPEG4-GENERIC/48000", "mode=AAC-hbr;config=1190"), "MPEG4-GENERIC without AU sizes");
        assert_eq!(unknown("MPEG4-GENERIC/47999", "mode=AAC-hbr;sizelength=13"), "MPEG4-GENERIC without a config");
        assert_eq!(unknown("MPEG4-GENERIC/48000", "mode=CELP-cbr;config=1190"), "MPEG4-GENERIC with mode CELP-cbr");
        assert_eq!(unknown("MPEG4-GENERIC/0", ""), "MPEG4-GENERIC without a clock rate");
        assert_eq!(unknown("PCMU/16000", ""), "PCMU/16000/1");
        assert_eq!(unknown("MP4A-LATM/48000", ""), "MP4A-LATM with its configuration in band");
        assert_eq!(unknown("\u{1b}[2J/90000", ""), "?[2J/90000/1");
    }
}
