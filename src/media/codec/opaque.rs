//! Tracks that we cannot describe: stored as sent, played by nobody.
//!
//! ```text
//! kino = SampleEntry (6 reserved bytes, data reference 1) | version 0 (8) | length (16) | codec id | private bytes
//! ```

use bytes::{BufMut, BytesMut};

use super::{CodecError, MAX_PARAMETER_SET_BYTES, entry};
use crate::{Codec, Timescale, Track, TrackId};

/// What a `kino` entry keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Description<'a> {
    /// The codec's name in the dialect of its producer, such as `V_VP9`.
    pub codec_id: &'a str,
    /// The private bytes that came with it.
    pub private: &'a [u8],
}

/// A track of `timescale` that keeps `codec_id` and `private`.
///
/// # Errors
/// When the name has more than 255 bytes or the private bytes are more than 64 KiB.
pub fn track(id: TrackId, timescale: Timescale, codec_id: &str, private: &[u8]) -> Result<Track, CodecError> {
    if codec_id.len() > 255 || private.len() > MAX_PARAMETER_SET_BYTES {
        return Err(CodecError::Unsupported("codec name or private bytes of this length"));
    }
    let mut body = BytesMut::new();
    body.put_slice(&[0, 0, 0, 0, 0, 0, 0, 1, 0]);
    body.put_u16(codec_id.len() as u16);
    body.put_slice(codec_id.as_bytes());
    body.put_slice(private);
    Ok(describe(id, timescale, entry::boxed(b"kino", &body).freeze()))
}

/// What the `kino` sample entry box `entry` keeps.
///
/// # Errors
/// When it is not such a box.
pub fn read(entry: &[u8]) -> Result<Description<'_>, CodecError> {
    let entry = entry::parse(entry)?;
    if &entry.kind != b"kino" {
        return Err(CodecError::Unsupported("sample entry of this type"));
    }
    read_body(entry.body)
}

fn read_body(body: &[u8]) -> Result<Description<'_>, CodecError> {
    let (head, rest) = body.split_first_chunk::<11>().ok_or(CodecError::Truncated)?;
    if head[8] != 0 {
        return Err(CodecError::Unsupported("kino version"));
    }
    let length = u16::from_be_bytes([head[9], head[10]]).into();
    let (codec_id, private) = rest.split_at_checked(length).ok_or(CodecError::Truncated)?;
    let codec_id = std::str::from_utf8(codec_id).map_err(|_| CodecError::Malformed("codec name is not UTF-8"))?;
    Ok(Description { codec_id, private })
}

fn describe(id: TrackId, timescale: Timescale, sample_entry: bytes::Bytes) -> Track {
    Track {
        id,
        codec: Codec::Opaque,
        timescale,
        sample_entry,
        codec_string: None,
        width: 0,
        height: 0,
        frame_rate_millis: None,
        reorder_depth: None,
        channels: 0,
    }
}

pub(super) fn read_entry(id: TrackId, timescale: Timescale, body: &[u8]) -> Result<Track, CodecError> {
    read_body(body)?;
    Ok(describe(id, timescale, bytes::Bytes::new()))
}
