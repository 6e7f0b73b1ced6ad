//! Boxes: the bounded walker that all readers share, and the writer's length patching.

use super::CmafError;

/// One box: where it lies in what was given, and its content.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'a> {
    /// Four-character code.
    pub kind: [u8; 4],
    /// Where its header starts, in bytes from the start of the walked slice plus the walker's base.
    pub at: usize,
    /// Header and content.
    pub whole: &'a [u8],
    /// Content alone.
    pub content: &'a [u8],
}

/// Walks the boxes of a slice, each checked to lie inside it. Ends after the first error.
pub(super) struct Boxes<'a> {
    rest: &'a [u8],
    at: usize,
}

impl<'a> Boxes<'a> {
    /// The boxes of `bytes`, which start `base` bytes into what errors are to speak of.
    pub(super) fn new(bytes: &'a [u8], base: usize) -> Boxes<'a> {
        Boxes { rest: bytes, at: base }
    }

    fn split(&self) -> Option<(Found<'a>, &'a [u8])> {
        let size = u32_at(self.rest, 0)?;
        let kind = self.rest.get(4..8)?.try_into().ok()?;
        let (header, size) = match size {
            1 => (16, usize::try_from(u64_at(self.rest, 8)?).ok()?),
            // 0 means "to the end of the file" (ISO/IEC 14496-12 section 4.2), which nothing of ours says.
            size => (8, usize::try_from(size).ok()?),
        };
        if size < header {
            return None;
        }
        let whole = self.rest.get(..size)?;
        Some((Found { kind, at: self.at, whole, content: &whole[header..] }, &self.rest[size..]))
    }
}

impl<'a> Iterator for Boxes<'a> {
    type Item = Result<Found<'a>, CmafError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let Some((found, rest)) = self.split() else {
            self.rest = &[];
            return Some(Err(CmafError::Length { at: self.at }));
        };
        self.at += found.whole.len();
        self.rest = rest;
        Some(Ok(found))
    }
}

/// The first box of `kind` directly inside `parent`.
pub(super) fn child<'a>(parent: &Found<'a>, kind: &'static str) -> Result<Found<'a>, CmafError> {
    let base = parent.at + (parent.whole.len() - parent.content.len());
    for found in Boxes::new(parent.content, base) {
        let found = found?;
        if found.kind == kind.as_bytes() {
            return Ok(found);
        }
    }
    Err(CmafError::Missing { name: kind })
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let end = at.checked_add(4)?;
    Some(u32::from_be_bytes(bytes.get(at..end)?.try_into().ok()?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let end = at.checked_add(8)?;
    Some(u64::from_be_bytes(bytes.get(at..end)?.try_into().ok()?))
}

/// Writes a box of `kind` whose content `fill` appends; the length is set afterwards.
pub(in crate::container) fn boxed(out: &mut Vec<u8>, kind: &[u8; 4], fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(kind);
    fill(out);
    let size = u32::try_from(out.len() - start).expect("heads and moof boxes are far below 4 GiB: their inputs are");
    out[start..start + 4].copy_from_slice(&size.to_be_bytes());
}

/// Writes a full box: version and flags, then what `fill` appends (ISO/IEC 14496-12 section 4.2).
pub(in crate::container) fn full_box(
    out: &mut Vec<u8>,
    kind: &[u8; 4],
    version: u8,
    flags: u32,
    fill: impl FnOnce(&mut Vec<u8>),
) {
    boxed(out, kind, |out| {
        put32(out, u32::from(version) << 24 | flags);
        fill(out);
    });
}

pub(in crate::container) fn put16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

pub(in crate::container) fn put32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

pub(in crate::container) fn put64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_be_bytes());
}
