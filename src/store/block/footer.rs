//! What ends a sealed block: our `uuid` index box, then `mfra`. The same bytes make the sidecar of a block that may not be
//! appended to.

use std::io;

use bytes::Bytes;
use media::{FragmentInfo, GapReason};

use super::record::Fields;
use crate::blobs::Blob;
use crate::packed::{self, Entry};

/// The extended type of the index box.
pub(crate) const USER_TYPE: [u8; 16] = *b"kinora.blk.index";
/// Version of the layout.
const VERSION: u8 = 1;
/// Length of the index box without its packed fragments.
const FIXED_LEN: usize = 24 + 4 + 4 + 8 + 8 + 4 + 4 + 4 + 4;
/// The longest footer that is read: some 400,000 fragments.
const MAX_FOOTER: u64 = 64 << 20;

/// What a footer says of its block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Footer {
    /// Fragments that are served, in order.
    pub entries: Vec<Entry>,
    /// Why the stream paused after the block; none when it went on, or nobody knew.
    pub ended: Option<GapReason>,
    /// Bytes before a synced offset were found damaged: only `entries` are right.
    pub quarantined: bool,
    /// Bytes of the file that this speaks of: all before the footer, or, in a sidecar, all that is known to be on disk.
    pub data_len: u64,
    /// CRC-32C of those bytes; 0 in a sidecar, whose file may have holes.
    pub data_crc: u32,
}

impl Footer {
    /// The bytes: index box, `mfra`.
    pub(crate) fn encode(&self) -> Bytes {
        let packed = packed::encode(&self.entries);
        let mut out = Vec::with_capacity(FIXED_LEN + packed.len() + 64 + 64 * self.entries.len());
        let len = u32::try_from(FIXED_LEN + packed.len()).expect("a block has too few fragments for 4 GiB of index");
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(b"uuid");
        out.extend_from_slice(&USER_TYPE);
        out.extend_from_slice(&[VERSION, self.ended.map_or(0, |why| why as u8), u8::from(self.quarantined), 0]);
        out.extend_from_slice(&(self.entries.len() as u32).to_be_bytes());
        out.extend_from_slice(&self.data_len.to_be_bytes());
        // Reserved for encryption at rest.
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&self.data_crc.to_be_bytes());
        out.extend_from_slice(&(packed.len() as u32).to_be_bytes());
        out.extend_from_slice(&packed);
        out.extend_from_slice(&len.to_be_bytes());
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_be_bytes());
        random_access(&mut out, &self.entries);
        out.into()
    }

    /// Reads the index box at the start of `bytes`; none when it is not one, or damaged.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Footer> {
        let magic = bytes.get(..24)?;
        if &magic[4..8] != b"uuid" || magic[8..] != USER_TYPE {
            return None;
        }
        let len = u32::from_be_bytes(magic[..4].try_into().expect("four bytes")) as usize;
        if len < FIXED_LEN {
            return None;
        }
        let (covered, crc) = bytes.get(..len)?.split_at(len - 4);
        if crc32c::crc32c(covered).to_be_bytes() != crc {
            return None;
        }
        let mut fields = Fields(&covered[24..covered.len() - 4]);
        let [version, ended, flags, _] = fields.take::<4>()?;
        let count = fields.u32()?;
        let data_len = fields.u64()?;
        let _encryption: [u8; 8] = fields.take()?;
        let data_crc = fields.u32()?;
        let packed_len = fields.u32()? as usize;
        if version != VERSION || fields.0.len() != packed_len {
            return None;
        }
        let entries = packed::decode(fields.0).ok()?;
        let ended = match ended {
            0 => None,
            why => Some(GapReason::from_u8(why)?),
        };
        let right = entries.len() == count as usize
            && entries.iter().all(|entry| {
                entry.body_offset.checked_add(entry.info.body_len.into()).is_some_and(|end| end <= data_len)
            });
        right.then_some(Footer { entries, ended, quarantined: flags & 1 != 0, data_len, data_crc })
    }

    /// Reads the footer at the end of a block, found by its `mfro`; none when there is none that is right.
    ///
    /// # Errors
    /// What the disk refused.
    pub(crate) fn read(blob: &dyn Blob) -> io::Result<Option<Footer>> {
        let len = blob.len()?;
        let Some(mfra_len) = read_u32(blob, len, 4)? else { return Ok(None) };
        let Some(box_len) = read_u32(blob, len, u64::from(mfra_len) + 8)? else { return Ok(None) };
        let footer_len = u64::from(mfra_len) + u64::from(box_len);
        if footer_len > MAX_FOOTER.min(len) {
            return Ok(None);
        }
        let mut bytes = vec![0; box_len as usize];
        blob.read_at(&mut bytes, len - footer_len)?;
        Ok(Footer::decode(&bytes).filter(|footer| footer.data_len == len - footer_len))
    }
}

/// The number that starts `before_end` bytes before the end; none when the file is shorter.
fn read_u32(blob: &dyn Blob, len: u64, before_end: u64) -> io::Result<Option<u32>> {
    let Some(at) = len.checked_sub(before_end) else { return Ok(None) };
    let mut bytes = [0; 4];
    blob.read_at(&mut bytes, at)?;
    Ok(Some(u32::from_be_bytes(bytes)))
}

/// `mfra` with one `tfra` per track and `mfro` last (ISO/IEC 14496-12 sections 8.8.9 to 8.8.11).
fn random_access(out: &mut Vec<u8>, entries: &[Entry]) {
    let mut tracks: Vec<_> = entries.iter().flat_map(|entry| entry.info.tracks.iter().map(|part| part.track)).collect();
    tracks.sort_unstable();
    tracks.dedup();
    let start = out.len();
    out.extend_from_slice(&[0, 0, 0, 0]);
    out.extend_from_slice(b"mfra");
    for track in tracks {
        let place = |info: &FragmentInfo, body: u64| {
            info.track(track).map(|part| (part.first_pts.max(0) as u64, body + u64::from(part.offset)))
        };
        let points: Vec<(u64, u64)> =
            entries.iter().filter_map(|entry| place(&entry.info, entry.body_offset)).collect();
        out.extend_from_slice(&(24 + 19 * points.len() as u32).to_be_bytes());
        out.extend_from_slice(b"tfra");
        out.extend_from_slice(&[1, 0, 0, 0]);
        out.extend_from_slice(&track.0.to_be_bytes());
        // traf, trun and sample numbers of one byte each.
        out.extend_from_slice(&0u32.to_be_bytes());
        out.extend_from_slice(&(points.len() as u32).to_be_bytes());
        for (time, moof) in points {
            out.extend_from_slice(&time.to_be_bytes());
            out.extend_from_slice(&moof.to_be_bytes());
            out.extend_from_slice(&[1, 1, 1]);
        }
    }
    let len = (out.len() - start + 16) as u32;
    out.extend_from_slice(&16u32.to_be_bytes());
    out.extend_from_slice(b"mfro");
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&len.to_be_bytes());
    out[start..start + 4].copy_from_slice(&len.to_be_bytes());
}
