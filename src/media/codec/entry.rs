//! Sample entry boxes (ISO/IEC 14496-12 section 8.5.2): written, and read back.

use bytes::{BufMut, Bytes, BytesMut};

use super::CodecError;

/// A box with `kind` around `body`.
pub fn boxed(kind: &[u8; 4], body: &[u8]) -> BytesMut {
    let mut out = BytesMut::with_capacity(body.len() + 8);
    out.put_u32(u32::try_from(body.len() + 8).expect("sample entries are below 4 GiB"));
    out.put_slice(kind);
    out.put_slice(body);
    out
}

/// A visual sample entry with `children` inside.
pub fn visual(kind: &[u8; 4], width: u32, height: u32, children: &[u8]) -> Bytes {
    let mut body = BytesMut::with_capacity(VISUAL_HEAD + children.len());
    body.put_slice(&[0, 0, 0, 0, 0, 0, 0, 1]); // reserved, data reference 1
    body.put_bytes(0, 16);
    body.put_u16(u16::try_from(width).expect("size is checked"));
    body.put_u16(u16::try_from(height).expect("size is checked"));
    body.put_u32(0x0048_0000); // 72 dots per inch, a template value
    body.put_u32(0x0048_0000);
    body.put_u32(0);
    body.put_u16(1); // frames per sample
    body.put_bytes(0, 32); // compressor name
    body.put_u16(0x18);
    body.put_i16(-1);
    body.put_slice(children);
    boxed(kind, &body).freeze()
}

/// An audio sample entry (version 0) with `children` inside.
pub fn audio(kind: &[u8; 4], channels: u16, sample_rate: u32, children: &[u8]) -> Bytes {
    let mut body = BytesMut::with_capacity(AUDIO_HEAD + children.len());
    body.put_slice(&[0, 0, 0, 0, 0, 0, 0, 1]);
    body.put_bytes(0, 8);
    body.put_u16(channels);
    body.put_u16(16);
    body.put_u32(0);
    // 16.16 fixed point: a rate that does not fit is written as 0, readers take the codec's own.
    body.put_u32(u16::try_from(sample_rate).map_or(0, |rate| u32::from(rate) << 16));
    body.put_slice(children);
    boxed(kind, &body).freeze()
}

/// Bytes of a visual sample entry before its children, box header excluded.
pub const VISUAL_HEAD: usize = 78;
/// Bytes of an audio sample entry (version 0) before its children, box header excluded.
pub const AUDIO_HEAD: usize = 28;

/// A sample entry, taken apart.
pub struct Entry<'a> {
    /// Its four-character code.
    pub kind: [u8; 4],
    /// Everything after the box header.
    pub body: &'a [u8],
}

/// Takes apart one sample entry box that fills `data` exactly.
///
/// # Errors
/// When the box's size is not that of `data`.
pub fn parse(data: &[u8]) -> Result<Entry<'_>, CodecError> {
    match boxes(data).next() {
        Some(Ok((kind, body))) if body.len() + 8 == data.len() => Ok(Entry { kind, body }),
        Some(Ok(_)) => Err(CodecError::Malformed("bytes after the sample entry")),
        _ => Err(CodecError::Truncated),
    }
}

impl<'a> Entry<'a> {
    /// Width and height in a visual sample entry.
    ///
    /// # Errors
    /// When it is cut.
    pub fn size(&self) -> Result<(u32, u32), CodecError> {
        let at = |from: usize| self.body.get(from..from + 2).map(|side| u32::from(side[0]) << 8 | u32::from(side[1]));
        at(24).zip(at(26)).ok_or(CodecError::Truncated)
    }

    /// The body of the first child `kind` behind `head` bytes.
    ///
    /// # Errors
    /// When it is not there or a child before it is cut.
    pub fn child(&self, head: usize, kind: &[u8; 4]) -> Result<&'a [u8], CodecError> {
        let children = self.body.get(head..).ok_or(CodecError::Truncated)?;
        for child in boxes(children) {
            let (found, body) = child?;
            if found == *kind {
                return Ok(body);
            }
        }
        Err(CodecError::Missing("codec configuration box"))
    }
}

/// The boxes that follow each other in `data`: kind and body. A cut one yields one error and ends the run.
pub fn boxes(data: &[u8]) -> impl Iterator<Item = Result<([u8; 4], &[u8]), CodecError>> {
    let mut rest = data;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some((head, after)) = rest.split_first_chunk::<8>() else {
            rest = &[];
            return Some(Err(CodecError::Truncated));
        };
        let size = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let Some((body, after)) = size.checked_sub(8).and_then(|length| after.split_at_checked(length)) else {
            rest = &[];
            return Some(Err(CodecError::Truncated));
        };
        rest = after;
        Some(Ok(([head[4], head[5], head[6], head[7]], body)))
    })
}

/// A sample entry of H.264 or H.265 without the parameter sets that may change in band.
#[derive(PartialEq, Eq)]
pub struct Stripped {
    parts: Vec<Vec<u8>>,
}

/// What `entry` says without the NAL units for which `drop` is true.
///
/// # Errors
/// When it is not a visual sample entry with readable children.
pub fn strip(entry: &[u8], drop: fn(&[u8]) -> bool) -> Result<Stripped, CodecError> {
    let entry = parse(entry)?;
    let (head, children) = entry.body.split_at_checked(VISUAL_HEAD).ok_or(CodecError::Truncated)?;
    let mut parts = vec![entry.kind.to_vec(), head.to_vec()];
    for child in boxes(children) {
        let (kind, body) = child?;
        let (facts, nals) = match &kind {
            b"avcC" => super::h264::take_apart(body)?,
            b"hvcC" => super::h265::take_apart(body)?,
            _ => (body.to_vec(), Vec::new()),
        };
        parts.push(kind.to_vec());
        parts.push(facts);
        parts.extend(nals.iter().filter(|nal| !drop(nal)).map(|nal| nal.to_vec()));
    }
    Ok(Stripped { parts })
}

/// How numbers become colours (ITU-T H.273).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Colour {
    /// Primaries, transfer, matrix.
    pub codes: [u8; 3],
    /// Whether luma goes from 0 to the maximum.
    pub full_range: bool,
}

/// Sample aspect ratios by `aspect_ratio_idc` 1 to 16 (H.264 table E-1, the same in H.265).
const ASPECTS: [(u16, u16); 16] = [
    (1, 1),
    (12, 11),
    (10, 11),
    (16, 11),
    (40, 33),
    (24, 11),
    (20, 11),
    (32, 11),
    (80, 33),
    (18, 11),
    (15, 11),
    (64, 33),
    (160, 99),
    (4, 3),
    (3, 2),
    (2, 1),
];

/// How the samples of a picture are shaped and coloured, where VUI parameters say it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Look {
    /// Width and height of a sample.
    pub aspect: Option<(u16, u16)>,
    /// Colours.
    pub colour: Option<Colour>,
}

impl Look {
    /// Reads the start of VUI parameters, which H.264 (E.1.1) and H.265 (E.2.1) share: aspect, overscan, signal
    /// type and chroma location.
    ///
    /// # Errors
    /// When the bits end.
    pub fn read(bits: &mut super::bits::BitReader<'_>) -> Result<Look, CodecError> {
        let mut look = Look::default();
        if bits.bit()? {
            look.aspect = match bits.bits(8)? {
                255 => Some((bits.bits(16)? as u16, bits.bits(16)? as u16)),
                idc => (idc as usize).checked_sub(1).and_then(|at| ASPECTS.get(at)).copied(),
            };
        }
        if bits.bit()? {
            bits.skip(1)?; // overscan appropriate
        }
        if bits.bit()? {
            bits.skip(3)?; // video format
            let full_range = bits.bit()?;
            if bits.bit()? {
                let codes = [bits.bits(8)? as u8, bits.bits(8)? as u8, bits.bits(8)? as u8];
                look.colour = Some(Colour { codes, full_range });
            }
        }
        if bits.bit()? {
            bits.ue()?;
            bits.ue()?;
        }
        Ok(look)
    }

    /// The `pasp` and `colr` boxes that say it.
    pub fn boxes(self) -> BytesMut {
        let mut out = BytesMut::new();
        if let Some((width, height)) =
            self.aspect.filter(|(width, height)| *width != 0 && *height != 0 && width != height)
        {
            let mut body = BytesMut::new();
            body.put_u32(width.into());
            body.put_u32(height.into());
            out.put(boxed(b"pasp", &body));
        }
        if let Some(colour) = self.colour {
            let mut body = BytesMut::new();
            body.put_slice(b"nclx");
            for code in colour.codes {
                body.put_u16(code.into());
            }
            body.put_u8(if colour.full_range { 0x80 } else { 0 });
            out.put(boxed(b"colr", &body));
        }
        out
    }
}
