//! The head of a progressive file: everything before the payload, so that a player starts with the first bytes.
//!
//! ```text
//! ftyp | moov | mdat header, payload ...
//! ```
//!
//! Movie fragments may follow (ISO/IEC 14496-12 section 8.8): so a file that is fragmented can begin between two random access
//! points, with an edit list over the samples of its head.
//!
//! Samples are described, never held: whoever sends the file appends the payload in the order of the chunks.

use bytes::Bytes;

use crate::container::cmaf::Entry;
use crate::container::cmaf::boxes::{boxed, full_box, put16, put32, put64};
use crate::container::cmaf::head::{Form, ftyp, mvex, mvhd, trak};
use crate::{Codec, Timescale, Track};

/// Ticks of the movie: those of pictures, so that their edits are exact.
pub const MOVIE_TIMESCALE: Timescale = Timescale::VIDEO;

/// A progressive file.
#[derive(Clone, Debug)]
pub struct Movie {
    /// Its tracks, in id order.
    pub tracks: Vec<MovieTrack>,
    /// Bytes of all samples together.
    pub payload_len: u64,
    /// Movie fragments with more samples follow the payload; a track may have all of its samples there.
    pub fragments_follow: bool,
}

/// A track of a [`Movie`].
#[derive(Clone, Debug)]
pub struct MovieTrack {
    /// What it is; its sample entry is the first description.
    pub track: Track,
    /// Descriptions of samples that the first does not fit.
    pub more_entries: Vec<Bytes>,
    /// In decode order; decode times start at zero. Of G.711 each is a run of samples, one byte each.
    pub samples: Vec<Entry>,
    /// Where the samples lie, in decode order.
    pub chunks: Vec<Chunk>,
    /// What of it is presented.
    pub edit: Edit,
}

/// Samples that lie behind each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chunk {
    /// Bytes from the start of the payload.
    pub offset: u64,
    /// How many of [`MovieTrack::samples`].
    pub samples: u32,
    /// Which description: 0 is the track's own sample entry.
    pub description: u32,
}

/// The part of a track that is presented (ISO/IEC 14496-12 section 8.6.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Edit {
    /// Ticks of the movie before its first sample is presented.
    pub wait: u32,
    /// Presentation time, in ticks of the track, at which the movie comes into it.
    pub start: u32,
    /// Ticks of the movie that are presented.
    pub duration: u32,
}

impl Movie {
    /// `ftyp`, `moov` and the header of the `mdat`.
    pub fn head(&self) -> Vec<u8> {
        // The length of the head does not depend on the offsets in it but for their width.
        let mut head = self.write(0, false);
        let is_wide = head.len() as u64 + self.payload_len > u64::from(u32::MAX) - 64;
        if is_wide {
            head = self.write(0, true);
        }
        let base = head.len() as u64;
        self.write(base, is_wide)
    }

    fn write(&self, base: u64, is_wide: bool) -> Vec<u8> {
        let count: usize = self.tracks.iter().map(|track| track.samples.len() + track.chunks.len()).sum();
        let mut out = Vec::with_capacity(4096 + count * 16);
        ftyp(&mut out, b"isom", &[b"isom", b"iso2", b"mp41"]);
        boxed(&mut out, b"moov", |out| {
            let ends = self.tracks.iter().map(|track| track.edit.wait.saturating_add(track.edit.duration));
            let tracks: Vec<Track> = self.tracks.iter().map(|track| track.track.clone()).collect();
            mvhd(out, MOVIE_TIMESCALE, ends.max().unwrap_or(0), &tracks);
            for track in &self.tracks {
                track.write(out, base, is_wide);
            }
            if self.fragments_follow {
                mvex(out, &tracks);
            }
        });
        if is_wide {
            put32(&mut out, 1);
            out.extend_from_slice(b"mdat");
            put64(&mut out, self.payload_len + 16);
        } else {
            put32(&mut out, u32::try_from(self.payload_len + 8).unwrap_or(u32::MAX));
            out.extend_from_slice(b"mdat");
        }
        out
    }
}

impl MovieTrack {
    fn write(&self, out: &mut Vec<u8>, base: u64, is_wide: bool) {
        let media_duration: u64 = self.samples.iter().map(|sample| u64::from(sample.duration)).sum();
        let form = Form {
            movie_duration: self.edit.wait.saturating_add(self.edit.duration),
            media_duration: u32::try_from(media_duration).unwrap_or(u32::MAX),
            more_entries: &self.more_entries,
            edits: &|out| self.edits(out),
            tables: &|out| {
                self.times(out);
                self.sizes(out);
                self.places(out, base, is_wide);
            },
        };
        trak(out, &self.track, &form);
    }

    /// Whether a sample of the file is one byte of ours (QuickTime File Format, "Uncompressed audio").
    fn is_bytewise(&self) -> bool {
        matches!(self.track.codec, Codec::Pcmu | Codec::Pcma)
    }

    fn edits(&self, out: &mut Vec<u8>) {
        let Edit { wait, start, duration } = self.edit;
        if self.samples.is_empty() {
            return;
        }
        boxed(out, b"edts", |out| {
            full_box(out, b"elst", 0, 0, |out| {
                put32(out, if wait > 0 { 2 } else { 1 });
                let mut edit = |duration, start| {
                    put32(out, duration);
                    put32(out, start);
                    put16(out, 1); // rate
                    put16(out, 0);
                };
                if wait > 0 {
                    edit(wait, u32::MAX);
                }
                edit(duration, start);
            });
        });
    }

    fn times(&self, out: &mut Vec<u8>) {
        let mut durations = Runs::default();
        // Bytes that came before the time of those ahead of them was over.
        let mut early = 0u32;
        for sample in &self.samples {
            if self.is_bytewise() && sample.size > 0 {
                durations.push(1, sample.size - 1);
                let longer = (i64::from(sample.duration) - i64::from(sample.size) - i64::from(early)).max(0);
                early = early.saturating_add(sample.size).saturating_sub(sample.duration);
                durations.push(u32::try_from(longer + 1).unwrap_or(u32::MAX), 1);
            } else {
                durations.push(sample.duration, 1);
            }
        }
        durations.write(out, b"stts");
        if self.samples.iter().any(|sample| sample.offset != 0) {
            let mut offsets = Runs::default();
            self.samples.iter().for_each(|sample| offsets.push(sample.offset, 1));
            offsets.write(out, b"ctts");
        }
        if self.samples.iter().any(|sample| !sample.sync) {
            let syncs = self.samples.iter().zip(1u32..).filter(|(sample, _)| sample.sync).map(|(_, number)| number);
            counted(out, b"stss", |out| {
                let mut count = 0;
                syncs.for_each(|number| {
                    put32(out, number);
                    count += 1;
                });
                count
            });
        }
    }

    fn sizes(&self, out: &mut Vec<u8>) {
        full_box(out, b"stsz", 0, 0, |out| {
            let count = u32::try_from(self.samples.len()).unwrap_or(u32::MAX);
            if self.is_bytewise() {
                let bytes: u64 = self.samples.iter().map(|sample| u64::from(sample.size)).sum();
                put32(out, 1);
                put32(out, u32::try_from(bytes).unwrap_or(u32::MAX));
                return;
            }
            put32(out, 0);
            put32(out, count);
            self.samples.iter().for_each(|sample| put32(out, sample.size));
        });
    }

    fn places(&self, out: &mut Vec<u8>, base: u64, is_wide: bool) {
        counted(out, b"stsc", |out| {
            let (mut count, mut before) = (0, None);
            let mut samples = self.samples.iter();
            for (chunk, number) in self.chunks.iter().zip(1u32..) {
                let held = samples.by_ref().take(chunk.samples as usize);
                let held = match self.is_bytewise() {
                    true => held.map(|sample| sample.size).fold(0, u32::saturating_add),
                    false => held.count() as u32,
                };
                if before != Some((held, chunk.description)) {
                    put32(out, number);
                    put32(out, held);
                    put32(out, chunk.description + 1);
                    before = Some((held, chunk.description));
                    count += 1;
                }
            }
            count
        });
        full_box(out, if is_wide { b"co64" } else { b"stco" }, 0, 0, |out| {
            put32(out, u32::try_from(self.chunks.len()).unwrap_or(u32::MAX));
            for chunk in &self.chunks {
                let offset = base + chunk.offset;
                match u32::try_from(offset) {
                    Ok(offset) if !is_wide => put32(out, offset),
                    _ => put64(out, offset),
                }
            }
        });
    }
}

/// Equal values that follow each other, as `stts` and `ctts` count them.
#[derive(Default)]
struct Runs(Vec<(u32, u32)>);

impl Runs {
    fn push(&mut self, value: u32, count: u32) {
        match self.0.last_mut() {
            _ if count == 0 => {}
            Some((held, last)) if *last == value => *held += count,
            _ => self.0.push((count, value)),
        }
    }

    fn write(&self, out: &mut Vec<u8>, kind: &[u8; 4]) {
        counted(out, kind, |out| {
            for (count, value) in &self.0 {
                put32(out, *count);
                put32(out, *value);
            }
            self.0.len() as u32
        });
    }
}

/// A table: the count of its entries, then the entries that `fill` writes and counts.
fn counted(out: &mut Vec<u8>, kind: &[u8; 4], fill: impl FnOnce(&mut Vec<u8>) -> u32) {
    full_box(out, kind, 0, 0, |out| {
        let at = out.len();
        put32(out, 0);
        let count = fill(out);
        out[at..at + 4].copy_from_slice(&count.to_be_bytes());
    });
}
