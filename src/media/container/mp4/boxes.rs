//! Boxes of a file, and the fields in them.

use super::Mp4Error;

/// A box found in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// Its four-character code.
    pub kind: [u8; 4],
    /// What is behind its header.
    pub body: &'a [u8],
    /// Where its header starts in the bytes that were searched.
    pub start: usize,
}

/// The boxes that follow each other in `data`. A cut one yields one error and ends the run; up to 7 bytes of zeros
/// at the end, as some writers leave them, are passed over.
pub fn iter(data: &[u8]) -> impl Iterator<Item = Result<Found<'_>, Mp4Error>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = &data[at..];
        if rest.is_empty() || (rest.len() < 8 && rest.iter().all(|byte| *byte == 0)) {
            return None;
        }
        let found = first(rest, at);
        at = match &found {
            Ok((_, next)) => *next,
            Err(_) => data.len(),
        };
        Some(found.map(|(found, _)| found))
    })
}

fn first(rest: &[u8], start: usize) -> Result<(Found<'_>, usize), Mp4Error> {
    let mut fields = Fields::new(rest, "box");
    let size = fields.u32()?;
    let kind = fields.array::<4>()?;
    let (head, size) = match size {
        0 => (8, rest.len()),
        1 => (16, usize::try_from(fields.u64()?).map_err(|_| Mp4Error::Truncated("box"))?),
        size => (8, size as usize),
    };
    let body = rest.get(head..size).ok_or(Mp4Error::Truncated("box"))?;
    Ok((Found { kind, body, start }, start + size))
}

/// The body of the first box `kind` in `data`.
///
/// # Errors
/// When a box before it is cut.
pub fn find<'a>(data: &'a [u8], kind: &[u8; 4]) -> Result<Option<&'a [u8]>, Mp4Error> {
    for found in iter(data) {
        let found = found?;
        if found.kind == *kind {
            return Ok(Some(found.body));
        }
    }
    Ok(None)
}

/// Big-endian fields, read one after another; the error of each is that the box `name` is cut off.
#[derive(Clone)]
pub struct Fields<'a> {
    rest: &'a [u8],
    name: &'static str,
}

impl<'a> Fields<'a> {
    pub fn new(rest: &'a [u8], name: &'static str) -> Fields<'a> {
        Fields { rest, name }
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Mp4Error> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(Mp4Error::Truncated(self.name))?;
        self.rest = rest;
        Ok(*head)
    }

    pub fn skip(&mut self, count: usize) -> Result<(), Mp4Error> {
        self.rest = self.rest.get(count..).ok_or(Mp4Error::Truncated(self.name))?;
        Ok(())
    }

    pub fn u32(&mut self) -> Result<u32, Mp4Error> {
        self.array().map(u32::from_be_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, Mp4Error> {
        self.array().map(u64::from_be_bytes)
    }

    /// Version and flags of a full box.
    pub fn full(&mut self) -> Result<(u8, u32), Mp4Error> {
        let word = self.u32()?;
        Ok(((word >> 24) as u8, word & 0xff_ffff))
    }

    /// A count of entries of `size` bytes that follow; refused when they do not fit.
    pub fn count(&mut self, size: usize) -> Result<usize, Mp4Error> {
        let count = self.u32()? as usize;
        if self.rest.len() / size < count {
            return Err(Mp4Error::Truncated(self.name));
        }
        Ok(count)
    }
}
