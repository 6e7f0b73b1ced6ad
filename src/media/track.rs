//! What a stream carries: tracks, and sets of them.

use bytes::Bytes;

use crate::{Timescale, TrackId};

/// The codecs we name. A track of any other codec is stored, and played by nobody.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Codec {
    /// ITU-T H.264, sample entry `avc1`.
    H264,
    /// ITU-T H.265, sample entry `hvc1`.
    H265,
    /// RFC 6386, sample entry `vp08`.
    Vp8,
    /// VP9, sample entry `vp09`.
    Vp9,
    /// AOMedia AV1, sample entry `av01`.
    Av1,
    /// MPEG-4 AAC, sample entry `mp4a`.
    Aac,
    /// RFC 6716, sample entry `Opus`.
    Opus,
    /// ITU-T G.711 mu-law, sample entry `ulaw`.
    Pcmu,
    /// ITU-T G.711 A-law, sample entry `alaw`.
    Pcma,
    /// Anything that we cannot describe, sample entry `kino`.
    Opaque,
}

impl Codec {
    /// True for codecs of pictures.
    pub fn is_video(self) -> bool {
        matches!(self, Codec::H264 | Codec::H265 | Codec::Vp8 | Codec::Vp9 | Codec::Av1)
    }
}

/// One codec's elementary stream inside a stream.
///
/// Built by the constructors in [`crate::codec`], or read back from a stored sample entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Track {
    /// Its number in the stream.
    pub id: TrackId,
    /// What its samples are.
    pub codec: Codec,
    /// Ticks of its times.
    pub timescale: Timescale,
    /// The whole ISO BMFF sample entry box (`avc1`, `mp4a`, ...): the track's identity.
    pub sample_entry: Bytes,
    /// The codec's parameter as HLS and MSE name it (RFC 6381), such as `avc1.640028`; none when no player plays it.
    pub codec_string: Option<String>,
    /// Width and height of the pictures as shown, in pixels, cropping applied; zero for audio.
    pub width: u32,
    /// See `width`.
    pub height: u32,
    /// Pictures per second as the parameter sets say, in thousandths; none when they do not.
    pub frame_rate_millis: Option<u32>,
    /// Pictures that may precede a picture in decode order and follow it in output, as the
    /// parameter sets say; none when they do not.
    pub reorder_depth: Option<u32>,
    /// Audio channels; zero for video.
    pub channels: u16,
}

impl Track {
    /// Whether samples of `other` can follow ours without a new track set: equal but for what may
    /// be repeated in band (H.264 and H.265 picture parameter sets).
    pub fn continues(&self, other: &Track) -> bool {
        self.id == other.id
            && self.codec == other.codec
            && self.timescale == other.timescale
            && crate::codec::equal_but_pps(self.codec, &self.sample_entry, &other.sample_entry)
    }

    /// Whether pictures of `other` look like ours: of the same size, profile and order. Where each random access point
    /// brings its parameter sets, such pictures can follow ours whatever else the sets say: encoders number them anew, and
    /// change their level, as they go.
    pub fn resembles(&self, other: &Track) -> bool {
        // `avc1.PPCCLL`: all but the level. Others have it in the middle, and mean more by a change.
        let profile = |track: &Track| match (track.codec, &track.codec_string) {
            (Codec::H264, Some(name)) => name.get(..name.len().saturating_sub(2)).map(str::to_owned),
            (_, name) => name.clone(),
        };
        self.id == other.id
            && self.codec == other.codec
            && self.timescale == other.timescale
            && (self.width, self.height) == (other.width, other.height)
            && self.reorder_depth == other.reorder_depth
            && profile(self) == profile(other)
    }
}

/// All tracks of a stream for a time: at most one of video, in track id order.
///
/// A change of any track's identity makes a new set, which means a new block and a discontinuity.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrackSet {
    tracks: Vec<Track>,
}

/// Most tracks in a set.
pub const MAX_TRACKS: usize = 8;

impl TrackSet {
    /// The set of `tracks`; none when empty, when ids repeat, or when there are more than [`MAX_TRACKS`].
    pub fn new(mut tracks: Vec<Track>) -> Option<TrackSet> {
        tracks.sort_by_key(|track| track.id);
        let ids_repeat = tracks.windows(2).any(|pair| pair[0].id == pair[1].id);
        (!tracks.is_empty() && tracks.len() <= MAX_TRACKS && !ids_repeat).then_some(TrackSet { tracks })
    }

    /// The tracks, in id order.
    pub fn tracks(&self) -> &[Track] {
        &self.tracks
    }

    /// The track with this id.
    pub fn track(&self, id: TrackId) -> Option<&Track> {
        self.tracks.iter().find(|track| track.id == id)
    }

    /// The track that leads: the first of video, else the first.
    pub fn lead(&self) -> &Track {
        self.tracks.iter().find(|track| track.codec.is_video()).unwrap_or(&self.tracks[0])
    }

    /// Whether units of `other` can follow ours without a new set.
    pub fn continues(&self, other: &TrackSet) -> bool {
        self.tracks.len() == other.tracks.len()
            && self.tracks.iter().zip(&other.tracks).all(|(ours, theirs)| ours.continues(theirs))
    }
}
