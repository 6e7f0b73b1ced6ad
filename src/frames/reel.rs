//! A fragment's pictures with their times: of a closed fragment by its `moof`, of the open one by its units.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use media::codec::{av1, entry, h264, h265, nal, vp8, vp9};
use media::container::cmaf;
use media::decoding::{PictureCodec, Setup};
use media::fragmenter::OpenPictures;
use media::{
    ClockSource, Codec, FragmentNumber, Ordinal, Position, ProducerTime, StartKind, StreamId, Timescale, Track,
};

use super::allowed::Allowed;
use super::{FramesError, damaged};
use crate::live::{Descriptor, Hub};
use crate::workers::RunId;

/// A fragment's pictures.
#[derive(Debug)]
pub(super) struct Reel {
    pub stream: StreamId,
    pub position: Position,
    /// None of the open fragment, which is the newest.
    pub ordinal: Option<Ordinal>,
    pub number: FragmentNumber,
    pub start: StartKind,
    /// It goes on where the fragment before it ended.
    pub continues: bool,
    pub is_damaged: bool,
    pub clock: (ClockSource, u32),
    pub timescale: Timescale,
    pub setup: Arc<Setup>,
    /// When its first picture is shown, and when its last is not any more.
    pub begin: ProducerTime,
    pub end: ProducerTime,
    /// In decode order.
    pub shots: Vec<Shot>,
    /// Indices of `shots` in the order in which they are shown; those that are hidden or cannot be decoded are left out.
    pub shown: Vec<usize>,
    pub source: Source,
}

/// One picture.
#[derive(Clone, Debug)]
pub(super) struct Shot {
    pub time: ProducerTime,
    /// On the stream's timeline, in ticks of the reel's timescale.
    pub pts: i64,
    pub is_key: bool,
    /// Shown before the key frame that the reel starts with, and made of what came before that.
    pub is_leading: bool,
    /// Never shown: only others refer to it.
    pub is_hidden: bool,
    /// Where its bytes are in the fragment's body; empty in the open one.
    range: Range<u32>,
}

/// Where the coded bytes are.
#[derive(Debug)]
pub(super) enum Source {
    Closed(Box<Descriptor>),
    /// Count of the session's pictures before the first, and the pictures.
    Open(u64, Vec<Bytes>),
}

impl Reel {
    /// The reel of a closed fragment; none when there are no pictures in it.
    ///
    /// # Errors
    /// When it cannot be read, or its pictures are of a codec that is not decoded here.
    pub async fn closed(hub: &Hub, stream: StreamId, descriptor: Descriptor) -> Result<Option<Reel>, FramesError> {
        let info = &descriptor.info;
        let gone = || FramesError::Gone { earliest: None };
        let tracks = hub.track_set(stream, info.track_set).await?.ok_or_else(gone)?;
        let track = tracks.lead();
        if !track.codec.is_video() {
            return Ok(None);
        }
        let Some(part) = info.track(track.id) else { return Ok(None) };
        // Times and sizes are in the moof; the payload is read, and all of it checked, when a picture of it is wanted.
        let head = part.offset..part.offset.saturating_add(part.moof_len);
        let bytes = hub.read(&descriptor, head.clone()).await?;
        let samples = match cmaf::moof_samples(&bytes, part.len) {
            Ok(samples) => samples,
            Err(error) => {
                // Whose fault it is: the disk's, or of who wrote it.
                hub.read_checked(&descriptor, head).await?;
                return Err(damaged(error));
            }
        };
        let first_pts = part.first_pts;
        let key_pts = samples.first().map_or(0, |sample| sample.pts);
        let shot = |sample: &cmaf::Sample| Shot {
            time: info.producer_time.plus_micros(track.timescale.to_micros(sample.pts - first_pts)),
            pts: sample.pts,
            is_key: sample.sync,
            is_leading: info.start == StartKind::Open && sample.pts < key_pts,
            is_hidden: false,
            range: part.offset + sample.range.start as u32..part.offset + sample.range.end as u32,
        };
        let shots: Vec<Shot> = samples.iter().map(shot).collect();
        let mut reel = Reel {
            stream,
            position: info.position,
            ordinal: Some(info.ordinal),
            number: hub.number(stream, info),
            start: info.start,
            continues: info.break_before.is_none(),
            is_damaged: info.damaged,
            clock: (info.clock_source, info.clock_error_us),
            timescale: track.timescale,
            setup: Arc::new(setup(stream, track)?),
            begin: info.producer_time,
            end: info.producer_end(),
            shown: Vec::new(),
            shots,
            source: Source::Closed(Box::new(descriptor)),
        };
        if track.codec == Codec::Vp8 {
            // VP8 has no superframes: hidden frames are samples of their own, and only their bytes say it.
            let units = reel.read(hub, 0..reel.shots.len()).await?;
            reel.shots.iter_mut().zip(&units).for_each(|(shot, unit)| shot.is_hidden = is_hidden(track.codec, unit));
        }
        Ok(Some(reel.in_order()))
    }

    /// The reel of pictures that are in no closed fragment yet.
    pub fn open(hub: &Hub, stream: StreamId, open: OpenPictures) -> Result<Option<Reel>, FramesError> {
        let Some(track) = open.tracks.1.track(open.track) else { return Ok(None) };
        let key_pts = open.pictures.first().map_or(0, |picture| picture.pts);
        let shots = open.pictures.iter().enumerate().map(|(at, picture)| Shot {
            time: picture.producer_time,
            pts: picture.pts,
            is_key: at == 0 && open.start != StartKind::Dependent,
            is_leading: open.start == StartKind::Open && picture.pts < key_pts,
            is_hidden: is_hidden(track.codec, &picture.unit.data),
            range: 0..0,
        });
        let shots: Vec<Shot> = shots.collect();
        let times = || shots.iter().map(|shot| shot.time);
        let (Some(begin), Some(last)) = (times().min(), times().max()) else { return Ok(None) };
        // The newest picture stays on screen until the next one comes.
        let end = last.plus_micros(OPEN_END_US);
        let units = open.pictures.into_iter().map(|picture| picture.unit.data).collect();
        let reel = Reel {
            stream,
            position: open.position,
            ordinal: None,
            number: hub.number_at(stream, open.position, open.server_time),
            start: open.start,
            continues: open.start != StartKind::Open,
            is_damaged: open.damaged,
            clock: open.clock,
            timescale: track.timescale,
            setup: Arc::new(setup(stream, track)?),
            begin,
            end,
            shown: Vec::new(),
            shots,
            source: Source::Open(open.first, units),
        };
        Ok(Some(reel.in_order()))
    }

    fn in_order(mut self) -> Reel {
        let is_shown = |shot: &Shot| !shot.is_hidden && (self.continues || !shot.is_leading);
        let mut shown: Vec<usize> = (0..self.shots.len()).filter(|at| is_shown(&self.shots[*at])).collect();
        shown.sort_by_key(|at| self.shots[*at].pts);
        self.shown = shown;
        self
    }

    /// Names the run that starts with this reel.
    pub fn run_id(&self) -> RunId {
        let open = match &self.source {
            Source::Closed(_) => None,
            Source::Open(first, _) => Some(*first),
        };
        RunId { stream: self.stream, start: self.position, open, leads: false }
    }

    /// The last picture at or before `time`, as an index of `shots`.
    pub fn at_or_before(&self, time: ProducerTime) -> Option<usize> {
        let after = self.shown.partition_point(|at| self.shots[*at].time <= time);
        after.checked_sub(1).map(|at| self.shown[at])
    }

    /// The first picture at or after `time`.
    pub fn at_or_after(&self, time: ProducerTime) -> Option<usize> {
        let at = self.shown.partition_point(|at| self.shots[*at].time < time);
        self.shown.get(at).copied()
    }

    /// The key frame nearest to `time`; one that may not be seen only when none may.
    pub fn nearest_key(&self, time: ProducerTime, allowed: Allowed) -> Option<usize> {
        let keys = self.shown.iter().copied().filter(|at| self.shots[*at].is_key);
        let distance = |key: ProducerTime| (!allowed.holds(key), key.micros_since(time).unsigned_abs());
        keys.min_by_key(|at| distance(self.shots[*at].time))
    }

    /// The coded bytes of `shots[range]`, read at once.
    ///
    /// A closed fragment is compared with its checksum as a whole, however little of it is wanted: a bit that fell over on the disk
    /// would make a picture that is wrong and says that it is not.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] of a fragment that is not what was written.
    pub async fn read(&self, hub: &Hub, range: Range<usize>) -> Result<Vec<Bytes>, FramesError> {
        match &self.source {
            Source::Open(_, units) => Ok(units[range].to_vec()),
            Source::Closed(descriptor) => {
                let shots = &self.shots[range];
                let (Some(first), Some(last)) = (shots.first(), shots.last()) else { return Ok(Vec::new()) };
                let base = first.range.start;
                let bytes = hub.read_checked(descriptor, base..last.range.end).await?;
                let of =
                    |shot: &Shot| bytes.slice((shot.range.start - base) as usize..(shot.range.end - base) as usize);
                Ok(shots.iter().map(of).collect())
            }
        }
    }
}

/// How long the newest picture is taken to be on screen.
const OPEN_END_US: i64 = 2_000_000;

/// What a decoder of the track must know.
fn setup(stream: StreamId, track: &Track) -> Result<Setup, FramesError> {
    let (codec, kind) = match track.codec {
        Codec::H264 => (PictureCodec::H264, Some(b"avcC")),
        Codec::H265 => (PictureCodec::H265, Some(b"hvcC")),
        Codec::Vp8 => (PictureCodec::Vp8, None),
        Codec::Vp9 => (PictureCodec::Vp9, None),
        Codec::Av1 => (PictureCodec::Av1, Some(b"av1C")),
        other => return Err(FramesError::NoPictures { codecs: format!("{other:?}") }),
    };
    let config = match kind {
        Some(kind) => {
            let parsed = entry::parse(&track.sample_entry).map_err(damaged)?;
            parsed.child(entry::VISUAL_HEAD, kind).map_err(damaged)?.to_vec()
        }
        // Frames say all there is to know.
        None => Vec::new(),
    };
    Ok(Setup { stream: stream.0.as_u128(), codec, config, width: track.width, height: track.height, has_holes: false })
}

/// Whether a sample holds a frame that is never shown.
fn is_hidden(codec: Codec, data: &[u8]) -> bool {
    codec == Codec::Vp8 && vp8::Header::read(data).is_ok_and(|header| !header.is_shown)
}

/// Whether no other picture needs this one, whose bytes are `data`.
pub(super) fn is_disposable(setup: &Setup, data: &[u8]) -> bool {
    let nals = || nal::length_prefixed(data, 4).map_while(Result::ok);
    match setup.codec {
        PictureCodec::Vp8 => vp8::Header::read(data).is_ok_and(|header| header.disposable),
        PictureCodec::Vp9 => vp9::Unit::read(data).is_ok_and(|unit| unit.disposable),
        PictureCodec::Av1 => {
            let sequence = av1::config_sequence(&setup.config).and_then(av1::Sequence::parse);
            sequence.is_ok_and(|sequence| av1::classify(data, Some(&sequence)).disposable)
        }
        PictureCodec::H264 => h264::classify(nals()).disposable,
        PictureCodec::H265 => {
            let top = h265::Config::parse(&setup.config).map_or(u8::MAX, |config| config.top_temporal_id);
            h265::classify(nals(), top).disposable
        }
        PictureCodec::Mjpeg => false,
    }
}
