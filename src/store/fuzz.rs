//! Fuzz targets: damaged files through every parser of this crate, with what must hold of the outcome.
//!
//! Each is run by `tests/fuzz`, and over the stored inputs by the test below. Checksums are mended where a target says
//! so: a random change would never get past them, and whoever can write the file can write the checksum too.

use std::path::Path;
use std::sync::Arc;

use media::{Epoch, Position, Sequence, StreamId};
use uuid::Uuid;

use crate::blobs::{Blob, Blobs, BlockKey, MemoryBlobs};
use crate::block::footer::Footer;
use crate::block::head;
use crate::block::record::{MAGIC_LEN, Record};
use crate::block::scan::{Options, body_crc, scan};
use crate::disk::{Disk, SimulatedDisk};
use crate::layout::Layout;
use crate::packed::{self, Entry};
use crate::recover::{Verdict, judge, write_sidecar};

/// A target's name and what it does with bytes from outside.
pub type Target = (&'static str, fn(&[u8]));

/// Every target by name: its inputs are in `tests/fuzz/corpus/<name>`.
pub const TARGETS: [Target; 4] =
    [("store_packed_index", packed_index), ("store_record", record), ("store_footer", footer), ("store_block", block)];

/// `data` with the checksum that its first bytes have instead of its last four.
fn mended(data: &[u8], covered: usize, bytes: fn(u32) -> [u8; 4]) -> Option<Vec<u8>> {
    let mut out = data.to_vec();
    let (before, rest) = out.split_at_mut_checked(covered)?;
    rest.get_mut(..4)?.copy_from_slice(&bytes(crc32c::crc32c(before)));
    Some(out)
}

fn check_order(entries: &[Entry]) {
    assert!(entries.windows(2).all(|pair| pair[0].info.position < pair[1].info.position), "in stream order");
}

/// The packed fragment index; its checksum is mended.
pub fn packed_index(data: &[u8]) {
    let _ = packed::decode(data);
    let Some(data) = data.len().checked_sub(4).and_then(|covered| mended(data, covered, u32::to_le_bytes)) else {
        return;
    };
    if let Ok(entries) = packed::decode(&data) {
        check_order(&entries);
        assert_eq!(packed::decode(&packed::encode(&entries)).as_ref(), Ok(&entries), "entries come back as they were");
    }
}

/// A record header; its checksum is mended.
pub fn record(data: &[u8]) {
    let _ = Record::decode(data);
    let _ = Record::decode_before(data);
    let Some(len) = data.first_chunk::<4>().map(|len| u32::from_be_bytes(*len) as usize) else { return };
    let Some(data) = len.checked_sub(4).and_then(|covered| mended(data, covered, u32::to_be_bytes)) else { return };
    if let Ok(record) = Record::decode(&data) {
        let bytes = record.encode();
        assert_eq!(bytes.len(), record.header_len());
        assert_eq!(Record::decode(&bytes).as_ref(), Ok(&record), "a record comes back as it was");
        assert_eq!(Record::decode_before(&bytes).as_ref(), Ok(&record), "from its end too");
        for part in &record.info.tracks {
            assert!(part.offset.checked_add(part.len).is_some_and(|end| end <= record.info.body_len));
        }
    }
}

/// The footer of a block and the sidecar beside one; its checksum is mended.
pub fn footer(data: &[u8]) {
    let _ = Footer::decode(data);
    let Some(len) = data.first_chunk::<4>().map(|len| u32::from_be_bytes(*len) as usize) else { return };
    let Some(data) = len.checked_sub(4).and_then(|covered| mended(data, covered, u32::to_be_bytes)) else { return };
    if let Some(footer) = Footer::decode(&data) {
        check_order(&footer.entries);
        let bytes = footer.encode();
        assert_eq!(Footer::decode(&bytes).as_ref(), Some(&footer), "a footer comes back as it was");
    }
}

fn key() -> BlockKey {
    let first = Position { epoch: Epoch(1), sequence: Sequence(1) };
    BlockKey { stream: StreamId(Uuid::from_u128(1)), first }
}

fn blob(data: &[u8]) -> Arc<dyn Blob> {
    let blobs = MemoryBlobs::default();
    blobs.put(key(), data).expect("there is none");
    blobs.open(key()).expect("there is one")
}

/// A block file as a crash, or a bad disk, may leave it: nothing wrong is served, and what is made of it stays.
pub fn block(data: &[u8]) {
    let file = blob(data);
    let head_len = head::read(&*file).expect("memory reads").map_or(0, |(_, len)| len);
    assert!(head_len <= data.len() as u64);
    let options = Options { stream: key().stream, head_len, trust_bodies_before: 0 };
    let found = scan(&*file, options).expect("memory reads");
    check_order(&found.entries);
    assert!(found.bad.iter().all(|bad| bad.start < bad.end && bad.end <= data.len() as u64));
    for entry in &found.entries {
        check_entry(&*file, data, entry);
    }
    for synced in [0, data.len() as u64 / 2, data.len() as u64, data.len() as u64 + 1] {
        recover(data, synced);
    }
}

/// A found fragment has a right header before its body, and a right body.
fn check_entry(file: &dyn Blob, data: &[u8], entry: &Entry) {
    let (start, end) = (entry.body_offset, entry.body_offset + u64::from(entry.info.body_len));
    assert!(end <= data.len() as u64);
    let record = Record::decode_before(&data[..start as usize]).expect("its header is right");
    assert_eq!(record.info, entry.info);
    assert!(start as usize >= record.header_len() && record.header_len() > MAGIC_LEN);
    assert_eq!(body_crc(file, start, end).expect("memory reads"), record.body_crc, "its body is right");
}

/// Recovery of a block whose index row says that `synced` bytes are on disk; the second time changes nothing.
fn recover(data: &[u8], synced: u64) {
    let disk = SimulatedDisk::new(1);
    let layout = Layout::new(Path::new("/"));
    disk.create_dir(&layout.stream(key().stream)).expect("simulated");
    let verdict = judge(&disk, &layout, &*blob(data), key(), synced, None).expect("memory reads");
    let Verdict::Close { footer, len } = verdict else { return };
    assert_eq!(len, data.len() as u64);
    assert!(footer.data_len <= len && footer.data_len >= synced.min(len), "what was synced is not cut");
    check_order(&footer.entries);
    write_sidecar(&disk, &layout, key().stream, key().first, &footer).expect("simulated");
    let left = blob(&data[..footer.data_len as usize]);
    let again = judge(&disk, &layout, &*left, key(), footer.data_len, None).expect("memory reads");
    let synced_bytes = footer.data_len;
    assert_eq!(again, Verdict::Complete { footer, synced_bytes }, "recovering twice is recovering once");
}

#[cfg(test)]
#[path = "../../tests/fuzz/walk.rs"]
mod walk;

#[cfg(test)]
mod tests {
    #[test]
    fn targets_survive_the_stored_inputs_and_damages_of_them() {
        super::walk::walk(&super::TARGETS);
    }
}
