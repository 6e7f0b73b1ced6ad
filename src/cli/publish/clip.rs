//! A file made ready to send: all its packets, built once, shared by all streams.

use std::ops::Range;

use media::codec::CodecError;
use media::container::mp4::{self, Mp4Error};
use media::time::rescale;
use media::{MediaTime, Timescale, Track};

use crate::protocol::rtp::send::{HEADER, MAX_PAYLOAD, Packetiser, header, media_section};

/// Bytes before each packet in [`Clip::wire`]: the frame of interleaved RTSP (RFC 2326 section 10.12).
pub(super) const FRAME: usize = 4;

/// Why a file cannot be sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClipError {
    #[error(transparent)]
    File(#[from] Mp4Error),
    #[error("track {0}: {1}")]
    Track(u32, CodecError),
    #[error("the file has no samples")]
    Empty,
}

/// A file's packets and when they are due.
#[derive(Debug)]
pub(super) struct Clip {
    /// Tracks that are sent; a track's place here is its number in requests.
    pub(super) tracks: Vec<ClipTrack>,
    /// Access units in the order of sending.
    pub(super) units: Vec<Unit>,
    /// All packets, each as `$ channel length` and an RTP packet without its own numbers.
    pub(super) wire: Vec<u8>,
    /// How long the leading track lasts, at least one tick.
    pub(super) length: MediaTime,
    /// Decode time of the first unit, in microseconds.
    pub(super) first_dts_us: i64,
    /// The most that a picture is shown after it is decoded, in microseconds.
    pub(super) delay_us: i64,
    /// Mean time between random access points of the leading track, in microseconds.
    pub(super) group_us: i64,
    /// Tracks that are not sent, with the reason.
    pub(super) skipped: Vec<String>,
}

/// A track of a clip.
#[derive(Debug)]
pub(super) struct ClipTrack {
    /// What it carries.
    pub(super) track: Track,
    /// Its media section in the SDP.
    pub(super) section: String,
    /// Presentation time of its first unit, in ticks.
    pub(super) first_pts: i64,
}

/// An access unit of a clip.
#[derive(Debug)]
pub(super) struct Unit {
    /// Place of its track.
    pub(super) track: usize,
    /// When it is sent, in microseconds after the first.
    pub(super) due_us: i64,
    /// Its presentation time in ticks of the track.
    pub(super) pts: i64,
    /// Its length in ticks of the track.
    pub(super) duration: i64,
    /// Its packets in [`Clip::wire`].
    pub(super) wire: Range<usize>,
    /// Bytes of the access unit in the file.
    pub(super) len: u64,
}

impl Clip {
    /// Reads and packetises the MP4 file whose bytes are `data`.
    pub(super) fn build(data: &[u8]) -> Result<Clip, ClipError> {
        let file = mp4::read(data)?;
        let (mut tracks, mut packetisers) = (Vec::new(), Vec::new());
        for (at, one) in file.tracks.iter().enumerate() {
            let id = one.track.id;
            let failed = |error| ClipError::Track(id.0, error);
            let packetiser =
                Packetiser::new(&one.track, one.nal_length_size, 96 + at as u8, MAX_PAYLOAD).map_err(failed)?;
            let section =
                media_section(&one.track, packetiser.payload_type(), &format!("trackID={at}")).map_err(failed)?;
            let pts = file.samples.iter().filter(|sample| sample.track == id).map(|sample| sample.pts);
            tracks.push(ClipTrack { track: one.track.clone(), section, first_pts: pts.min().unwrap_or(0) });
            packetisers.push(packetiser);
        }
        let place = |sample: &mp4::Sample| sample.track.0 as usize - 1;
        let timescale = |sample: &mp4::Sample| tracks[place(sample)].track.timescale;
        let first_dts_us = match file.samples.first() {
            Some(first) => timescale(first).to_micros(first.dts),
            None => return Err(ClipError::Empty),
        };
        let (mut units, mut wire) = (Vec::with_capacity(file.samples.len()), Vec::with_capacity(data.len()));
        let mut delay_us = 0;
        for sample in &file.samples {
            let (at, start) = (place(sample), wire.len());
            let packetiser = &mut packetisers[at];
            let payload_type = packetiser.payload_type();
            let mut last = None;
            let put = |payload: crate::protocol::rtp::send::Payload<'_>| {
                let length = HEADER + payload.head.len() + payload.body.len();
                last = Some(wire.len() + FRAME + 1);
                wire.extend([b'$', 0]);
                wire.extend((length as u16).to_be_bytes());
                wire.extend(header(false, payload_type, 0, 0, 0));
                wire.extend(payload.head);
                wire.extend(payload.body);
            };
            if let Err(error) = packetiser.cut(sample.bytes(data), sample.sync, put) {
                return Err(ClipError::Track(sample.track.0, error));
            }
            if let Some(last) = last.filter(|_| packetiser.marks_ends()) {
                wire[last] |= 0x80;
            }
            let micros = |ticks| timescale(sample).to_micros(ticks);
            delay_us = delay_us.max(micros(sample.pts) - micros(sample.dts));
            units.push(Unit {
                track: at,
                due_us: micros(sample.dts) - first_dts_us,
                pts: sample.pts,
                duration: sample.duration.into(),
                wire: start..wire.len(),
                len: sample.len.into(),
            });
        }
        let lead = tracks.iter().position(|one| one.track.codec.is_video()).unwrap_or(0);
        let of_lead = || file.samples.iter().filter(|sample| place(sample) == lead);
        let ticks = match (of_lead().next(), of_lead().next_back()) {
            (Some(first), Some(last)) => last.dts + i64::from(last.duration) - first.dts,
            _ => return Err(ClipError::Empty),
        };
        let length = MediaTime::new(ticks.max(1), tracks[lead].track.timescale);
        let groups = of_lead().filter(|sample| sample.sync).count().max(1) as i64;
        let group_us = length.micros() / groups;
        Ok(Clip { tracks, units, wire, length, first_dts_us, delay_us, group_us, skipped: file.skipped })
    }

    /// When round `round` begins, in ticks of `timescale` after the first round.
    pub(super) fn round_start(&self, round: u64, timescale: Timescale) -> i64 {
        let ticks = self.length.ticks.saturating_mul(i64::try_from(round).unwrap_or(i64::MAX));
        rescale(ticks, self.length.timescale, timescale)
    }
}
