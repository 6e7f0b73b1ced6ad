//! MP4 files (ISO/IEC 14496-12): the reader of progressive and fragmented ones, which says what tracks they have, where each
//! sample lies and when it is due; and the writer of the head of a progressive one ([`Movie`]).
//!
//! The whole file that is read is given as bytes; a path through the boxes is fixed and at most seven deep, so nothing recurses.
//! Tables must fit in their boxes and samples in the file.
//!
//! Not here: the segments that we write (`cmaf`), and files that do not fit in memory.

mod boxes;
mod fragments;
mod tables;
mod write;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod write_tests;

pub use write::{Chunk, Edit, MOVIE_TIMESCALE, Movie, MovieTrack};

use crate::codec::{self, CodecError, aac, av1, entry, g711, h264, h265, opus, vp8, vp9};
use crate::time::rescale;
use crate::{Codec, MediaTime, Timescale, Track, TrackId};
use boxes::Fields;

/// Most samples of a file.
pub const MAX_SAMPLES: usize = 20_000_000;
/// Samples of G.711 that are handed out together: 20 ms. Files hold them one by one.
const G711_SAMPLES: u32 = 160;

/// Why bytes are not an MP4 file that we read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Mp4Error {
    /// A box or table goes beyond what is around it.
    #[error("{0} is cut off")]
    Truncated(&'static str),
    /// A box that must be there is not.
    #[error("no {0} box")]
    Missing(&'static str),
    /// A value that the standard does not allow.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// More samples than [`MAX_SAMPLES`], or than the file has bytes.
    #[error("more samples than a file of this length can have")]
    TooManySamples,
    /// No track of a codec that we know.
    #[error("no track that can be sent: {0}")]
    NoTracks(String),
}

/// An MP4 file, read.
#[derive(Clone, Debug)]
pub struct Mp4 {
    /// Its tracks of known codecs, ids counted from 1 in file order.
    pub tracks: Vec<FileTrack>,
    /// Their samples, in order of decode time over all tracks.
    pub samples: Vec<Sample>,
    /// Tracks that were left out, with the reason.
    pub skipped: Vec<String>,
}

/// A track and how its samples are written.
#[derive(Clone, Debug)]
pub struct FileTrack {
    /// The track, its sample entry as our constructors write it.
    pub track: Track,
    /// Bytes of the length before each NAL unit; 0 for codecs without.
    pub nal_length_size: usize,
}

/// One sample of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sample {
    /// The track it belongs to.
    pub track: TrackId,
    /// When it is decoded, in ticks of the track, edit list applied; may be negative.
    pub dts: i64,
    /// When it is shown, in ticks of the track, edit list applied.
    pub pts: i64,
    /// Ticks until the next sample of the track.
    pub duration: u32,
    /// Decoding can start here.
    pub sync: bool,
    /// Where its bytes start in the file.
    pub offset: u64,
    /// How many there are.
    pub len: u32,
}

impl Sample {
    /// Its bytes in the `file` that it was read from.
    pub fn bytes<'a>(&self, file: &'a [u8]) -> &'a [u8] {
        let start = self.offset as usize;
        file.get(start..start + self.len as usize).unwrap_or(&[])
    }
}

/// A track while it is read: times in the file's ticks, edit list not applied yet.
struct Draft {
    file_id: u32,
    track: FileTrack,
    timescale: Timescale,
    /// Ticks to add to every time.
    shift: i64,
    samples: Vec<Sample>,
}

/// Reads the file whose bytes are `data`.
///
/// Of an edit list, leading empty edits and the start of the first other edit are applied; what would cut or repeat
/// samples is not.
///
/// # Errors
/// When it is cut, malformed, or has no track of a known codec.
pub fn read(data: &[u8]) -> Result<Mp4, Mp4Error> {
    let moov = boxes::find(data, b"moov")?.ok_or(Mp4Error::Missing("moov"))?;
    let movie_timescale = movie_timescale(boxes::find(moov, b"mvhd")?.ok_or(Mp4Error::Missing("mvhd"))?)?;
    let mut drafts = Vec::new();
    let mut skipped = Vec::new();
    let mut budget = data.len().min(MAX_SAMPLES);
    for found in boxes::iter(moov) {
        let found = found?;
        if &found.kind == b"trak" && drafts.len() < crate::track::MAX_TRACKS {
            let id = TrackId(drafts.len() as u32 + 1);
            match read_track(id, found.body, movie_timescale, data, &mut budget)? {
                Ok(draft) => drafts.push(draft),
                Err(reason) if skipped.len() < 16 => skipped.push(reason),
                Err(_) => {}
            }
        }
    }
    if drafts.is_empty() {
        return Err(Mp4Error::NoTracks(skipped.join("; ")));
    }
    if let Some(mvex) = boxes::find(moov, b"mvex")? {
        fragments::read(data, mvex, &mut drafts, &mut budget)?;
    }
    let mut samples = Vec::with_capacity(drafts.iter().map(|draft| draft.samples.len()).sum());
    let mut tracks = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let (from, to) = (draft.timescale, draft.track.track.timescale);
        let start = samples.len();
        samples.extend(draft.samples.into_iter().map(|sample| Sample {
            dts: rescale(sample.dts.saturating_add(draft.shift), from, to),
            pts: rescale(sample.pts.saturating_add(draft.shift), from, to),
            duration: u32::try_from(rescale(sample.duration.into(), from, to)).unwrap_or(u32::MAX),
            ..sample
        }));
        if matches!(draft.track.track.codec, Codec::Pcmu | Codec::Pcma) {
            let joined = join_g711(&samples[start..]);
            samples.truncate(start);
            samples.extend(joined);
        }
        tracks.push(draft.track);
    }
    let timescale = |id: TrackId| tracks[id.0 as usize - 1].track.timescale;
    let micros = |ticks, sample: &Sample| MediaTime::new(ticks, timescale(sample.track)).micros();
    // Times of more than 36,000 years are damage, and would not survive later sums.
    let is_sane = |ticks, sample| micros(ticks, sample).unsigned_abs() < 1 << 60;
    if !samples.iter().all(|sample| is_sane(sample.dts, sample) && is_sane(sample.pts, sample)) {
        return Err(Mp4Error::Malformed("sample time"));
    }
    samples.sort_by_key(|sample| micros(sample.dts, sample));
    Ok(Mp4 { tracks, samples, skipped })
}

fn movie_timescale(mvhd: &[u8]) -> Result<Timescale, Mp4Error> {
    let mut fields = Fields::new(mvhd, "mvhd");
    let version = fields.full()?.0;
    fields.skip(if version == 1 { 16 } else { 8 })?;
    Timescale::new(fields.u32()?).ok_or(Mp4Error::Malformed("timescale"))
}

/// The track of a `trak`, or why it is left out.
fn read_track(
    id: TrackId,
    trak: &[u8],
    movie_timescale: Timescale,
    file: &[u8],
    budget: &mut usize,
) -> Result<Result<Draft, String>, Mp4Error> {
    let mut tkhd = Fields::new(boxes::find(trak, b"tkhd")?.ok_or(Mp4Error::Missing("tkhd"))?, "tkhd");
    let version = tkhd.full()?.0;
    tkhd.skip(if version == 1 { 16 } else { 8 })?;
    let file_id = tkhd.u32()?;
    let mdia = boxes::find(trak, b"mdia")?.ok_or(Mp4Error::Missing("mdia"))?;
    let timescale = movie_timescale_of(mdia)?;
    let mut hdlr = Fields::new(boxes::find(mdia, b"hdlr")?.ok_or(Mp4Error::Missing("hdlr"))?, "hdlr");
    hdlr.skip(8)?;
    let media = hdlr.array::<4>()?;
    let name = |kind: &[u8]| kind.escape_ascii().to_string();
    if &media != b"vide" && &media != b"soun" {
        return Ok(Err(format!("track {file_id} is neither video nor audio but '{}'", name(&media))));
    }
    let minf = boxes::find(mdia, b"minf")?.ok_or(Mp4Error::Missing("minf"))?;
    let stbl = boxes::find(minf, b"stbl")?.ok_or(Mp4Error::Missing("stbl"))?;
    let stsd = boxes::find(stbl, b"stsd")?.ok_or(Mp4Error::Missing("stsd"))?;
    let entry = stsd.get(8..).ok_or(Mp4Error::Truncated("stsd"))?;
    let Some(entry) = boxes::iter(entry).next().transpose()? else {
        return Err(Mp4Error::Missing("sample entry"));
    };
    let track = match describe(id, &entry.kind, entry.body) {
        Ok(track) => track,
        Err(error) => return Ok(Err(format!("track {file_id} ('{}'): {error}", name(&entry.kind)))),
    };
    let shift = match boxes::find(trak, b"edts")? {
        Some(edts) => edit_shift(edts, movie_timescale, timescale)?,
        None => 0,
    };
    let samples = tables::read(id, stbl, file.len() as u64, budget)?;
    Ok(Ok(Draft { file_id, track, timescale, shift, samples }))
}

fn movie_timescale_of(mdia: &[u8]) -> Result<Timescale, Mp4Error> {
    movie_timescale(boxes::find(mdia, b"mdhd")?.ok_or(Mp4Error::Missing("mdhd"))?)
}

/// What an edit list adds to every time, in ticks of the media.
fn edit_shift(edts: &[u8], movie: Timescale, media: Timescale) -> Result<i64, Mp4Error> {
    let Some(elst) = boxes::find(edts, b"elst")? else { return Ok(0) };
    let mut fields = Fields::new(elst, "elst");
    let version = fields.full()?.0;
    let count = fields.u32()?;
    let mut empty = 0i64;
    for _ in 0..count {
        let (length, start) = match version {
            1 => (i64::try_from(fields.u64()?).unwrap_or(i64::MAX), fields.u64()? as i64),
            _ => (fields.u32()?.into(), i64::from(fields.u32()? as i32)),
        };
        fields.skip(4)?; // rate
        if start >= 0 {
            return Ok(rescale(empty, movie, media).saturating_sub(start));
        }
        empty = empty.saturating_add(length);
    }
    Ok(0)
}

/// The track that a file's sample entry describes, whoever wrote it.
fn describe(id: TrackId, kind: &[u8; 4], body: &[u8]) -> Result<FileTrack, CodecError> {
    let parsed = entry::Entry { kind: *kind, body };
    let whole = |track| FileTrack { track, nal_length_size: 0 };
    match kind {
        b"avc1" | b"avc3" => {
            let config = h264::Config::parse(parsed.child(entry::VISUAL_HEAD, b"avcC")?)?;
            let sps = config.sps.first().ok_or(CodecError::Missing("sequence parameter set"))?;
            Ok(FileTrack { track: h264::track(id, sps, &config.pps)?, nal_length_size: config.length_size })
        }
        b"hvc1" | b"hev1" => {
            let config = h265::Config::parse(parsed.child(entry::VISUAL_HEAD, b"hvcC")?)?;
            let vps = config.of_type(h265::VPS).next().ok_or(CodecError::Missing("video parameter set"))?;
            let sps = config.of_type(h265::SPS).next().ok_or(CodecError::Missing("sequence parameter set"))?;
            let pps: Vec<&[u8]> = config.of_type(h265::PPS).collect();
            Ok(FileTrack { track: h265::track(id, vps, sps, &pps)?, nal_length_size: config.length_size })
        }
        b"vp08" => Ok(whole(vp8::read_entry(id, &parsed)?)),
        b"vp09" => Ok(whole(vp9::read_entry(id, &parsed)?)),
        b"av01" => {
            let config = parsed.child(entry::VISUAL_HEAD, b"av1C")?;
            Ok(whole(av1::track(id, av1::config_sequence(config)?)?))
        }
        b"mp4a" => {
            let head = audio_head(body)?;
            let esds = match parsed.child(head, b"esds") {
                Ok(esds) => esds,
                // QuickTime wraps it.
                Err(_) => entry::Entry { kind: *b"wave", body: parsed.child(head, b"wave")? }.child(0, b"esds")?,
            };
            Ok(whole(aac::track(id, aac::config_of_esds(esds)?)?))
        }
        b"Opus" => Ok(whole(opus::track(id, opus::config_channels(parsed.child(audio_head(body)?, b"dOps")?)?)?)),
        b"ulaw" | b"alaw" => match body.get(16..18) {
            Some([0, 1]) => Ok(whole(g711::track(id, if kind == b"ulaw" { g711::Law::Mu } else { g711::Law::A }))),
            _ => Err(CodecError::Unsupported("G.711 with more than one channel")),
        },
        _ => Err(codec::CodecError::Unsupported("codec")),
    }
}

/// Bytes before the children of an audio sample entry, of QuickTime's versions too.
fn audio_head(body: &[u8]) -> Result<usize, CodecError> {
    match body.get(8..10) {
        Some([0, 0]) => Ok(entry::AUDIO_HEAD),
        Some([0, 1]) => Ok(entry::AUDIO_HEAD + 16),
        Some([0, 2]) => Ok(entry::AUDIO_HEAD + 36),
        Some(_) => Err(CodecError::Unsupported("audio sample entry version")),
        None => Err(CodecError::Truncated),
    }
}

/// Runs of adjacent samples in one, up to [`G711_SAMPLES`].
fn join_g711(samples: &[Sample]) -> Vec<Sample> {
    let mut joined: Vec<Sample> = Vec::new();
    for sample in samples {
        match joined.last_mut() {
            Some(last)
                if last.offset + u64::from(last.len) == sample.offset
                    && last.duration.saturating_add(sample.duration) <= G711_SAMPLES =>
            {
                last.len = last.len.saturating_add(sample.len);
                last.duration += sample.duration;
            }
            _ => joined.push(*sample),
        }
    }
    joined
}
