//! MPEG-4 AAC: AudioSpecificConfig (ISO/IEC 14496-3 section 1.6.2.1) and the `mp4a` sample entry (14496-14).

use bytes::{BufMut, Bytes, BytesMut};

use super::bits::BitReader;
use super::{CodecError, entry};
use crate::{Codec, Timescale, Track, TrackId};

/// What an AudioSpecificConfig says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// The audio object type as named in codec strings: 2 is LC, 5 SBR, 29 SBR with PS.
    pub object_type: u8,
    /// Samples per second of the sound that comes out: the extension's rate when SBR is signalled.
    pub sample_rate: u32,
    /// Samples per second of the core.
    pub core_rate: u32,
    /// Channels of the sound that comes out.
    pub channels: u16,
    /// Length of every access unit in samples of `sample_rate`.
    pub frame_samples: u32,
}

const RATES: [u32; 13] = [96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350];
const LC: u8 = 2;
const SBR: u32 = 5;
const PS: u32 = 29;
const LOW_DELAY: u32 = 23;

/// The AudioSpecificConfig of AAC-LC with this rate and so many channels; none when the format has no such rate or layout.
pub fn lc_config(sample_rate: u32, channels: u16) -> Option<Bytes> {
    let index = RATES.iter().position(|rate| *rate == sample_rate)? as u16;
    let layout = if channels == 8 { 7 } else { Some(channels).filter(|count| (1..=6).contains(count))? };
    Some(Bytes::copy_from_slice(&(u16::from(LC) << 11 | index << 7 | layout << 3).to_be_bytes()))
}

impl Config {
    /// Reads an AudioSpecificConfig, with explicit and backward compatible signalling of SBR and PS.
    ///
    /// # Errors
    /// When it is cut, of an object type other than AAC's, or has no channels.
    pub fn parse(config: &[u8]) -> Result<Config, CodecError> {
        let mut bits = BitReader::plain(config);
        let mut object_type = read_object_type(&mut bits)?;
        let core_rate = read_rate(&mut bits)?;
        let channel_configuration = bits.bits(4)?;
        let mut extension = None;
        if object_type == SBR || object_type == PS {
            extension = Some((object_type, read_rate(&mut bits)?));
            object_type = read_object_type(&mut bits)?;
        }
        if !matches!(object_type, 1..=4 | 17 | LOW_DELAY) {
            return Err(CodecError::Unsupported("audio object type other than AAC"));
        }
        let short_frames = bits.bit()?;
        let mut channels = match channel_configuration {
            count @ 1..=6 => count as u16,
            7 | 12 | 14 => 8,
            11 => 7,
            0 => return Err(CodecError::Unsupported("AAC without a channel configuration")),
            _ => return Err(CodecError::Malformed("AAC channel configuration")),
        };
        if extension.is_none() && matches!(object_type, 1..=4) {
            extension = read_backward_compatible(&mut bits);
        }
        let frame = match (object_type == LOW_DELAY, short_frames) {
            (false, false) => 1024,
            (false, true) => 960,
            (true, false) => 512,
            (true, true) => 480,
        };
        let sample_rate = extension.map_or(core_rate, |(_, rate)| rate);
        // SBR at the rate of the core (downsampled SBR) keeps the frame's length, otherwise it doubles it.
        if sample_rate != core_rate && sample_rate != core_rate.saturating_mul(2) {
            return Err(CodecError::Malformed("SBR rate is neither that of the core nor its double"));
        }
        if extension.is_some_and(|(kind, _)| kind == PS) {
            channels = 2;
        }
        Ok(Config {
            object_type: extension.map_or(object_type, |(kind, _)| kind) as u8,
            sample_rate,
            core_rate,
            channels,
            frame_samples: frame * (sample_rate / core_rate),
        })
    }
}

fn read_object_type(bits: &mut BitReader<'_>) -> Result<u32, CodecError> {
    match bits.bits(5)? {
        31 => Ok(32 + bits.bits(6)?),
        object_type => Ok(object_type),
    }
}

fn read_rate(bits: &mut BitReader<'_>) -> Result<u32, CodecError> {
    let rate = match bits.bits(4)? {
        15 => bits.bits(24)?,
        index => *RATES.get(index as usize).ok_or(CodecError::Malformed("AAC sampling frequency index"))?,
    };
    match rate {
        7350..=192_000 => Ok(rate),
        _ => Err(CodecError::Malformed("AAC sampling frequency")),
    }
}

/// The sync extension 0x2b7 behind the GASpecificConfig, which old readers do not see.
fn read_backward_compatible(bits: &mut BitReader<'_>) -> Option<(u32, u32)> {
    if bits.bit().ok()? {
        bits.skip(14).ok()?; // core coder delay
    }
    bits.skip(1).ok()?; // extension flag: 0 for these object types
    if bits.remaining() < 16
        || bits.bits(11).ok()? != 0x2b7
        || read_object_type(bits).ok()? != SBR
        || !bits.bit().ok()?
    {
        return None;
    }
    let rate = read_rate(bits).ok()?;
    let ps = bits.remaining() >= 12 && bits.bits(11) == Ok(0x548) && bits.bit() == Ok(true);
    Some((if ps { PS } else { SBR }, rate))
}

/// A `raw_data_block` of silence (section 4.4.2.1) for AAC-LC of this configuration; none for other kinds, and for channels that the
/// configuration does not number.
///
/// Each channel has one long window without a scale factor band, so no section, no scale factor and no coefficient follows.
pub(super) fn silence(config: &[u8]) -> Option<Vec<u8>> {
    use Element::{Lfe, Pair, Single};
    let parsed = Config::parse(config).ok().filter(|parsed| parsed.object_type == LC)?;
    // By channel configuration (section 1.6.3.5).
    let elements: &[Element] = match parsed.channels {
        1 => &[Single],
        2 => &[Pair],
        3 => &[Single, Pair],
        4 => &[Single, Pair, Single],
        5 => &[Single, Pair, Pair],
        6 => &[Single, Pair, Pair, Lfe],
        // 8 channels are numbered in three ways, and of 7 nobody sends any.
        _ => return None,
    };
    let mut bits = Bits::default();
    for (at, element) in elements.iter().enumerate() {
        let tag = elements[..at].iter().filter(|before| *before == element).count() as u32;
        bits.put(*element as u32, 3);
        bits.put(tag, 4);
        if *element == Element::Pair {
            bits.put(1, 1); // common_window
            bits.put(0, 11); // ics_info: long window, max_sfb 0, no prediction
            bits.put(0, 2); // ms_mask_present
            bits.put(0, 2 * (8 + 3)); // of each channel: global_gain; no pulses, no TNS, no gain control
        } else {
            bits.put(0, 8 + 11 + 3); // the same of one channel: global_gain comes before its ics_info
        }
    }
    bits.put(7, 3); // ID_END
    Some(bits.bytes)
}

/// Syntactic elements by their ids (`id_syn_ele`).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Element {
    Single = 0,
    Pair = 1,
    Lfe = 3,
}

/// Bits, most significant first, filled up with zeros to a byte.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    fn put(&mut self, value: u32, count: u32) {
        for at in (0..count).rev() {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            let last = self.bytes.last_mut().expect("pushed above when there was none");
            *last |= ((value >> at & 1) as u8) << (7 - self.used % 8);
            self.used += 1;
        }
    }
}

/// A track whose timescale is its sample rate.
///
/// # Errors
/// As [`Config::parse`], or when the configuration is longer than 64 bytes.
pub fn track(id: TrackId, audio_specific_config: &[u8]) -> Result<Track, CodecError> {
    let config = Config::parse(audio_specific_config)?;
    if audio_specific_config.len() > 64 {
        return Err(CodecError::Unsupported("AudioSpecificConfig of more than 64 bytes"));
    }
    let mut decoder = BytesMut::new();
    decoder.put_slice(&[0x40, 0x15, 0, 0, 0]); // MPEG-4 audio, audio stream, buffer size not known
    decoder.put_u64(0); // bit rates not known
    put_descriptor(&mut decoder, 5, audio_specific_config);
    let mut stream = BytesMut::new();
    stream.put_slice(&[0, 0, 0]); // ES_ID 0, no flags
    put_descriptor(&mut stream, 4, &decoder);
    put_descriptor(&mut stream, 6, &[2]); // sync layer: predefined for MP4
    let mut body = BytesMut::new();
    body.put_u32(0);
    put_descriptor(&mut body, 3, &stream);
    let esds = entry::boxed(b"esds", &body);
    Ok(describe(id, config, entry::audio(b"mp4a", config.channels, config.sample_rate, &esds)))
}

fn describe(id: TrackId, config: Config, sample_entry: bytes::Bytes) -> Track {
    Track {
        id,
        codec: Codec::Aac,
        timescale: Timescale::new(config.sample_rate).expect("rates are at least 7350"),
        sample_entry,
        codec_string: Some(format!("mp4a.40.{}", config.object_type)),
        width: 0,
        height: 0,
        frame_rate_millis: None,
        reorder_depth: None,
        channels: config.channels,
    }
}

fn put_descriptor(out: &mut BytesMut, tag: u8, body: &[u8]) {
    debug_assert!(body.len() < 0x80);
    out.put_u8(tag);
    out.put_u8(body.len() as u8);
    out.put_slice(body);
}

pub(super) fn read_entry(id: TrackId, entry: &entry::Entry<'_>) -> Result<Track, CodecError> {
    let config = config_of_esds(entry.child(entry::AUDIO_HEAD, b"esds")?)?;
    Ok(describe(id, Config::parse(config)?, bytes::Bytes::new()))
}

/// The AudioSpecificConfig of the track whose sample entry box is `entry`.
///
/// # Errors
/// When it is not such a box.
pub fn config_of_entry(entry: &[u8]) -> Result<&[u8], CodecError> {
    config_of_esds(entry::parse(entry)?.child(entry::AUDIO_HEAD, b"esds")?)
}

/// The AudioSpecificConfig inside an `esds` box's body (ISO/IEC 14496-1 section 7.2.6).
///
/// # Errors
/// When a descriptor is cut, or the stream is not MPEG-4 audio.
pub fn config_of_esds(body: &[u8]) -> Result<&[u8], CodecError> {
    let stream = descriptor(body.get(4..).ok_or(CodecError::Truncated)?, 3)?;
    let (head, rest) = stream.split_first_chunk::<3>().ok_or(CodecError::Truncated)?;
    let flags = head[2];
    let mut skip = 0;
    if flags & 0x80 != 0 {
        skip += 2;
    }
    if flags & 0x40 != 0 {
        skip += 1 + usize::from(*rest.get(skip).ok_or(CodecError::Truncated)?);
    }
    if flags & 0x20 != 0 {
        skip += 2;
    }
    let decoder = descriptor(rest.get(skip..).ok_or(CodecError::Truncated)?, 4)?;
    if !matches!(decoder.first(), Some(0x40 | 0x66..=0x68)) {
        return Err(CodecError::Unsupported("mp4a that is not AAC"));
    }
    descriptor(decoder.get(13..).ok_or(CodecError::Truncated)?, 5)
}

/// The body of the descriptor `tag` that `data` starts with.
fn descriptor(data: &[u8], tag: u8) -> Result<&[u8], CodecError> {
    let (found, mut rest) = data.split_first().ok_or(CodecError::Truncated)?;
    if *found != tag {
        return Err(CodecError::Malformed("descriptor of another kind"));
    }
    let mut length = 0usize;
    for _ in 0..4 {
        let (byte, after) = rest.split_first().ok_or(CodecError::Truncated)?;
        rest = after;
        length = length << 7 | usize::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return rest.get(..length).ok_or(CodecError::Truncated);
        }
    }
    Err(CodecError::Malformed("descriptor length"))
}
