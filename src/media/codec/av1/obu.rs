//! Open bitstream units (section 5.3) and their sizes (`leb128`, section 4.10.5).

use bytes::{BufMut, BytesMut};

use crate::codec::CodecError;

/// One OBU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Obu<'a> {
    /// `obu_type`.
    pub kind: u8,
    /// The extension byte: three bits of temporal id, two of spatial id.
    pub extension: Option<u8>,
    /// What follows header and size.
    pub payload: &'a [u8],
}

impl<'a> Obu<'a> {
    /// Takes the OBU at the start of `data` off; one without a size goes to the end.
    ///
    /// # Errors
    /// When it is cut or has its forbidden bit set.
    pub fn take(data: &mut &'a [u8]) -> Result<Obu<'a>, CodecError> {
        let (&header, mut rest) = data.split_first().ok_or(CodecError::Truncated)?;
        if header & 0x80 != 0 {
            return Err(CodecError::Malformed("OBU with its forbidden bit set"));
        }
        let mut extension = None;
        if header & 4 != 0 {
            let (&byte, after) = rest.split_first().ok_or(CodecError::Truncated)?;
            (extension, rest) = (Some(byte), after);
        }
        let size = if header & 2 != 0 { take_size(&mut rest)? } else { rest.len() };
        let (payload, after) = rest.split_at_checked(size).ok_or(CodecError::Truncated)?;
        *data = after;
        Ok(Obu { kind: header >> 3 & 15, extension, payload })
    }

    /// The layer it is of; 0 without an extension.
    pub fn spatial_id(&self) -> u8 {
        self.extension.map_or(0, |byte| byte >> 3 & 3)
    }
}

/// The OBUs that follow each other in `data`. A cut one yields one error and ends the run.
pub fn obus(data: &[u8]) -> impl Iterator<Item = Result<Obu<'_>, CodecError>> {
    let mut rest = data;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let obu = Obu::take(&mut rest);
        if obu.is_err() {
            rest = &[];
        }
        Some(obu)
    })
}

/// Takes a `leb128` number off the start of `data`.
///
/// # Errors
/// When it is cut, or larger than 32 bits.
pub fn take_size(data: &mut &[u8]) -> Result<usize, CodecError> {
    let mut value = 0u64;
    for at in 0..8 {
        let (&byte, rest) = data.split_first().ok_or(CodecError::Truncated)?;
        *data = rest;
        value |= u64::from(byte & 0x7f) << (at * 7);
        if byte & 0x80 == 0 {
            let value = u32::try_from(value).map_err(|_| CodecError::Malformed("OBU size"))?;
            return Ok(value as usize);
        }
    }
    Err(CodecError::Malformed("OBU size"))
}

/// Writes `size` as `leb128`, in as few bytes as it takes.
pub fn put_size(out: &mut impl BufMut, mut size: usize) {
    while size >= 0x80 {
        out.put_u8(size as u8 | 0x80);
        size >>= 7;
    }
    out.put_u8(size as u8);
}

/// Writes an OBU with its size.
pub fn put_obu(out: &mut BytesMut, kind: u8, extension: Option<u8>, payload: &[u8]) {
    out.put_u8(kind << 3 | u8::from(extension.is_some()) << 2 | 2);
    out.extend(extension);
    put_size(out, payload.len());
    out.put_slice(payload);
}
