//! The head of a block: `ftyp moov`, from which its track set is read.

use std::io;

use bytes::Bytes;
use media::TrackSet;
use media::container::cmaf;

use crate::blobs::Blob;

/// The longest head that is read.
const MAX_HEAD: u64 = 256 << 10;

/// The head of a block with these tracks.
pub(crate) fn encode(tracks: &TrackSet) -> Bytes {
    cmaf::block_head(tracks)
}

/// Reads the head of a block: its tracks and its length; none when it is damaged or not complete.
///
/// # Errors
/// What the disk refused.
pub(crate) fn read(blob: &dyn Blob) -> io::Result<Option<(TrackSet, u64)>> {
    let len = blob.len()?.min(MAX_HEAD);
    let mut bytes = vec![0; usize::try_from(len).expect("bounded")];
    blob.read_at(&mut bytes, 0)?;
    Ok(cmaf::read_head(&bytes).ok().map(|(tracks, len)| (tracks, len as u64)))
}
