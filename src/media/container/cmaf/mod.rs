//! Fragmented MP4 as we store and serve it (ISO/IEC 14496-12, ISO/IEC 23000-19).
//!
//! Here: the head of a block ([`block_head`]), the init segment of one track ([`init_segment`]), the
//! `moof` and `mdat` of one track's samples ([`append`]), and the readers of all three
//! ([`read_head`], [`samples`]). Decode times never lie after presentation times, so `trun` is version 0
//! with unsigned offsets and there is no edit list: the one form that every player shows at the right time.
//!
//! Not here: the record header between fragments and a block's footer (`store`), which samples make a
//! fragment ([`crate::fragmenter`]), what a sample entry says ([`crate::codec`]).

pub(super) mod boxes;
pub(super) mod head;
mod read;
mod write;

#[cfg(test)]
mod tests;

pub use head::{block_head, init_segment, read_head};
pub use read::{Sample, moof_samples, part_samples, rebase, samples};
pub use write::{Entry, TooLarge, append, moof_len};

/// Why bytes are not fragmented MP4 of our kind.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CmafError {
    /// A box says that it is longer than what holds it, or shorter than its own header.
    #[error("box at byte {at}: length does not fit")]
    Length {
        /// Where the box starts, in bytes from the start of what was given.
        at: usize,
    },
    /// A box that must be there is not.
    #[error("no {name} box where one must be")]
    Missing {
        /// Its four-character code.
        name: &'static str,
    },
    /// A box says something that we do not write.
    #[error("{name} box: {what}")]
    Unknown {
        /// Its four-character code.
        name: &'static str,
        /// What is unknown about it.
        what: &'static str,
    },
    /// The tracks do not make a set.
    #[error("moov box: no tracks, too many, or an id twice")]
    Tracks,
    /// A sample entry that says nothing we understand.
    #[error("sample entry of track {track}: {source}")]
    SampleEntry {
        /// The track.
        track: crate::TrackId,
        /// Why.
        source: crate::codec::CodecError,
    },
}
