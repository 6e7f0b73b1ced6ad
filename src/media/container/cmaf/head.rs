//! `ftyp` and `moov`: the head of a block and the init segment of a track.

use bytes::Bytes;

use super::CmafError;
use super::boxes::{Boxes, Found, boxed, child, full_box, put16, put32, u32_at};
use crate::{Codec, Timescale, Track, TrackId, TrackSet, codec};

/// Longest head that is read: sample entries hold parameter sets, which are small.
const HEAD_MAX: usize = 1 << 20;

/// The unity matrix of `mvhd` and `tkhd` (ISO/IEC 14496-12 section 8.2.2.3).
const MATRIX: [u32; 9] = [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000];

/// The head of a block: `ftyp` and `moov` with every track of the set.
///
/// The brands leave out `cmfc`: a block with two tracks is no CMAF track file.
pub fn block_head(tracks: &TrackSet) -> Bytes {
    head(b"iso6", &[b"iso6", b"mp41"], tracks.tracks())
}

/// The init segment of one track: `ftyp` and `moov`, with the track id that its fragments have.
pub fn init_segment(track: &Track) -> Bytes {
    head(b"cmfc", &[b"iso6", b"mp41"], std::slice::from_ref(track))
}

fn head(major: &[u8; 4], compatible: &[&[u8; 4]], tracks: &[Track]) -> Bytes {
    let mut out = Vec::with_capacity(1024 + tracks.iter().map(|track| 512 + track.sample_entry.len()).sum::<usize>());
    ftyp(&mut out, major, compatible);
    boxed(&mut out, b"moov", |out| {
        // Duration: not known, and no edit list or `mehd` says otherwise.
        mvhd(out, Timescale::MILLIS, 0, tracks);
        for track in tracks {
            trak(out, track, &Form::FRAGMENTED);
        }
        mvex(out, tracks);
    });
    out.into()
}

pub(in crate::container) fn ftyp(out: &mut Vec<u8>, major: &[u8; 4], compatible: &[&[u8; 4]]) {
    boxed(out, b"ftyp", |out| {
        out.extend_from_slice(major);
        put32(out, 0);
        for brand in compatible {
            out.extend_from_slice(*brand);
        }
    });
}

pub(in crate::container) fn mvhd(out: &mut Vec<u8>, timescale: Timescale, duration: u32, tracks: &[Track]) {
    full_box(out, b"mvhd", 0, 0, |out| {
        put32(out, 0); // creation time: a head depends on its tracks and samples alone
        put32(out, 0);
        put32(out, timescale.hz());
        put32(out, duration);
        put32(out, 0x1_0000);
        put16(out, 0x100);
        out.extend_from_slice(&[0; 10]);
        MATRIX.iter().for_each(|value| put32(out, *value));
        out.extend_from_slice(&[0; 24]);
        put32(out, tracks.iter().map(|track| track.id.0).max().unwrap_or(0).saturating_add(1));
    });
}

pub(in crate::container) fn mvex(out: &mut Vec<u8>, tracks: &[Track]) {
    boxed(out, b"mvex", |out| {
        for track in tracks {
            full_box(out, b"trex", 0, 0, |out| {
                put32(out, track.id.0);
                put32(out, 1); // sample description
                [0; 3].iter().for_each(|value| put32(out, *value));
            });
        }
    });
}

/// What of a `trak` depends on where and when its samples are.
pub(in crate::container) struct Form<'a> {
    /// In ticks of the movie.
    pub movie_duration: u32,
    /// In ticks of the track.
    pub media_duration: u32,
    /// Sample descriptions that follow the track's own.
    pub more_entries: &'a [Bytes],
    /// Writes the `edts`, if any.
    pub edits: &'a dyn Fn(&mut Vec<u8>),
    /// Writes the boxes of the `stbl` behind the `stsd`.
    pub tables: &'a dyn Fn(&mut Vec<u8>),
}

impl Form<'_> {
    /// Of a track whose samples are in fragments.
    pub const FRAGMENTED: Form<'static> = Form {
        movie_duration: 0,
        media_duration: 0,
        more_entries: &[],
        edits: &|_| {},
        tables: &|out| {
            full_box(out, b"stts", 0, 0, |out| put32(out, 0));
            full_box(out, b"stsc", 0, 0, |out| put32(out, 0));
            full_box(out, b"stsz", 0, 0, |out| out.extend_from_slice(&[0; 8]));
            full_box(out, b"stco", 0, 0, |out| put32(out, 0));
        },
    };
}

pub(in crate::container) fn trak(out: &mut Vec<u8>, track: &Track, form: &Form<'_>) {
    let picture = track.codec.is_video();
    let sound = matches!(track.codec, Codec::Aac | Codec::Opus | Codec::Pcmu | Codec::Pcma);
    boxed(out, b"trak", |out| {
        // Enabled and in the movie.
        full_box(out, b"tkhd", 0, 3, |out| {
            put32(out, 0);
            put32(out, 0);
            put32(out, track.id.0);
            put32(out, 0);
            put32(out, form.movie_duration);
            out.extend_from_slice(&[0; 8]);
            put16(out, 0);
            put16(out, 0);
            put16(out, if sound { 0x100 } else { 0 });
            put16(out, 0);
            MATRIX.iter().for_each(|value| put32(out, *value));
            put32(out, track.width.min(0xffff) << 16);
            put32(out, track.height.min(0xffff) << 16);
        });
        (form.edits)(out);
        boxed(out, b"mdia", |out| {
            full_box(out, b"mdhd", 0, 0, |out| {
                put32(out, 0);
                put32(out, 0);
                put32(out, track.timescale.hz());
                put32(out, form.media_duration);
                put16(out, 0x55c4); // "und"
                put16(out, 0);
            });
            full_box(out, b"hdlr", 0, 0, |out| {
                put32(out, 0);
                out.extend_from_slice(if picture {
                    b"vide"
                } else if sound {
                    b"soun"
                } else {
                    b"meta"
                });
                out.extend_from_slice(&[0; 12]);
                out.push(0); // name
            });
            boxed(out, b"minf", |out| {
                if picture {
                    full_box(out, b"vmhd", 0, 1, |out| out.extend_from_slice(&[0; 8]));
                } else if sound {
                    full_box(out, b"smhd", 0, 0, |out| out.extend_from_slice(&[0; 4]));
                } else {
                    full_box(out, b"nmhd", 0, 0, |_| {});
                }
                boxed(out, b"dinf", |out| {
                    full_box(out, b"dref", 0, 0, |out| {
                        put32(out, 1);
                        full_box(out, b"url ", 0, 1, |_| {}); // the data is in this file
                    });
                });
                boxed(out, b"stbl", |out| {
                    full_box(out, b"stsd", 0, 0, |out| {
                        put32(out, u32::try_from(1 + form.more_entries.len()).unwrap_or(1));
                        out.extend_from_slice(&track.sample_entry);
                        form.more_entries.iter().for_each(|entry| out.extend_from_slice(entry));
                    });
                    (form.tables)(out);
                });
            });
        });
    });
}

/// Reads the tracks of a head that [`block_head`] or [`init_segment`] wrote, and its length in bytes.
///
/// `bytes` may go on after the head.
///
/// # Errors
/// When the bytes are no such head.
pub fn read_head(bytes: &[u8]) -> Result<(TrackSet, usize), CmafError> {
    let bytes = &bytes[..bytes.len().min(HEAD_MAX)];
    let mut boxes = Boxes::new(bytes, 0);
    let first = boxes.next().ok_or(CmafError::Missing { name: "ftyp" })??;
    if &first.kind != b"ftyp" {
        return Err(CmafError::Missing { name: "ftyp" });
    }
    let moov = boxes.next().ok_or(CmafError::Missing { name: "moov" })??;
    if &moov.kind != b"moov" {
        return Err(CmafError::Missing { name: "moov" });
    }
    let mut tracks = Vec::new();
    for found in Boxes::new(moov.content, moov.at + 8) {
        let found = found?;
        if &found.kind != b"trak" {
            continue;
        }
        if tracks.len() == crate::track::MAX_TRACKS {
            return Err(CmafError::Tracks);
        }
        tracks.push(read_trak(&found)?);
    }
    let tracks = TrackSet::new(tracks).ok_or(CmafError::Tracks)?;
    Ok((tracks, moov.at + moov.whole.len()))
}

fn read_trak(trak: &Found<'_>) -> Result<Track, CmafError> {
    let version_0 = |content: &[u8], name| match content.first() {
        Some(0) => Ok(()),
        _ => Err(CmafError::Unknown { name, what: "version that we do not write" }),
    };
    let short = |name| CmafError::Unknown { name, what: "too short" };
    let tkhd = child(trak, "tkhd")?.content;
    version_0(tkhd, "tkhd")?;
    let id = TrackId(u32_at(tkhd, 12).ok_or(short("tkhd"))?);
    let mdia = child(trak, "mdia")?;
    let mdhd = child(&mdia, "mdhd")?.content;
    version_0(mdhd, "mdhd")?;
    let timescale = Timescale::new(u32_at(mdhd, 12).ok_or(short("mdhd"))?);
    let timescale = timescale.ok_or(CmafError::Unknown { name: "mdhd", what: "timescale of zero" })?;
    let minf = child(&mdia, "minf")?;
    let stbl = child(&minf, "stbl")?;
    let stsd = child(&stbl, "stsd")?;
    let entries = stsd.content.get(8..).ok_or(short("stsd"))?;
    let entry = Boxes::new(entries, stsd.at + 16).next().ok_or(CmafError::Missing { name: "sample entry" })??;
    codec::track_from_sample_entry(id, timescale, Bytes::copy_from_slice(entry.whole))
        .map_err(|source| CmafError::SampleEntry { track: id, source })
}
