//! Opus (RFC 6716) in ISO BMFF ("Encapsulation of Opus in ISO Base Media File Format", version 0.8.1).

use bytes::{BufMut, BytesMut};

use super::{CodecError, entry};
use crate::{Codec, Timescale, Track, TrackId};

/// The only clock of Opus, in hertz (RFC 7587 section 4.1).
pub const CLOCK: u32 = 48_000;

/// A track of 1 or 2 channels.
///
/// # Errors
/// For any other count: RTP carries no mapping table for more.
pub fn track(id: TrackId, channels: u16) -> Result<Track, CodecError> {
    if !(1..=2).contains(&channels) {
        return Err(CodecError::Unsupported("Opus with other than 1 or 2 channels"));
    }
    let mut body = BytesMut::new();
    body.put_u8(0); // version
    body.put_u8(channels as u8);
    body.put_u16(0); // pre-skip: a joined transmission has no known start, and samples are never cut by edit lists
    body.put_u32(CLOCK);
    body.put_i16(0); // gain
    body.put_u8(0); // mapping family
    let children = entry::boxed(b"dOps", &body);
    Ok(describe(id, channels, entry::audio(b"Opus", channels, CLOCK, &children)))
}

fn describe(id: TrackId, channels: u16, sample_entry: bytes::Bytes) -> Track {
    Track {
        id,
        codec: Codec::Opus,
        timescale: Timescale::new(CLOCK).expect("not zero"),
        sample_entry,
        codec_string: Some("opus".to_owned()),
        width: 0,
        height: 0,
        frame_rate_millis: None,
        reorder_depth: None,
        channels,
    }
}

pub(super) fn read_entry(id: TrackId, entry: &entry::Entry<'_>) -> Result<Track, CodecError> {
    Ok(describe(id, config_channels(entry.child(entry::AUDIO_HEAD, b"dOps")?)?, bytes::Bytes::new()))
}

/// Channels as a `dOps` body says.
///
/// # Errors
/// When it is cut or says none.
pub fn config_channels(dops: &[u8]) -> Result<u16, CodecError> {
    match dops {
        [_, 0, ..] => Err(CodecError::Malformed("Opus without channels")),
        [0, channels, rest @ ..] if rest.len() >= 9 => Ok((*channels).into()),
        [version, ..] if *version != 0 => Err(CodecError::Unsupported("dOps version")),
        _ => Err(CodecError::Truncated),
    }
}

/// Samples at 48 kHz in a packet (RFC 6716 section 3.1); none when the packet is malformed.
pub fn packet_samples(packet: &[u8]) -> Option<u32> {
    let toc = *packet.first()?;
    let frame = match toc >> 3 {
        config @ 0..=11 => [480, 960, 1920, 2880][usize::from(config & 3)],
        config @ 12..=15 => [480, 960][usize::from(config & 1)],
        config => [120, 240, 480, 960][usize::from(config & 3)],
    };
    let count = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(*packet.get(1)? & 0x3f),
    };
    // A packet holds at most 120 ms.
    Some(frame * count).filter(|samples| (1..=5760).contains(samples))
}
