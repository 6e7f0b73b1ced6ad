//! What a track is: from the SDP, then from parameter sets or key frames in band.

use bytes::Bytes;
use media::codec::bits::BitReader;
use media::codec::{CodecError, aac, av1, g711, h264, h265, nal, opus, vp8, vp9};
use media::{RandomAccess, Timescale, Track, TrackId};

use crate::protocol::sdp::Format;

/// Most picture parameter sets kept: all that ids allow (ITU-T H.264 section 7.4.2.2).
const MAX_PPS: usize = 256;

/// Descriptions kept of what the track was before.
const MAX_EARLIER: usize = 4;

/// The parameter sets of a video track, the newest of each.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Sets {
    vps: Option<Bytes>,
    sps: Option<Bytes>,
    pps: Vec<Bytes>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Video {
    H264,
    H265,
    Vp8,
    Vp9,
    Av1,
}

/// What is known of a track.
#[derive(Debug)]
pub(super) struct Describe {
    id: TrackId,
    video: Option<Video>,
    sets: Sets,
    top_temporal_id: u8,
    /// What frames of AV1 are to be read with.
    sequence: Option<av1::Sequence>,
    track: Option<Track>,
    /// What it was before, newest first.
    earlier: Vec<Track>,
    /// Every random access point brings its parameter sets.
    in_band: bool,
    error: Option<CodecError>,
}

/// What an access unit says.
#[derive(Debug)]
pub(super) struct Look {
    pub random_access: RandomAccess,
    pub disposable: bool,
    /// The track, when it is described from here on or described differently.
    pub changed: Option<Track>,
}

impl Look {
    /// Of a unit that cannot be read.
    const NOTHING: Look = Look { random_access: RandomAccess::No, disposable: false, changed: None };
}

impl Describe {
    /// What the SDP says.
    pub(super) fn new(id: TrackId, format: &Format) -> Describe {
        let mut describe = Describe {
            id,
            video: None,
            sets: Sets::default(),
            top_temporal_id: 0,
            sequence: None,
            track: None,
            earlier: Vec::new(),
            in_band: false,
            error: None,
        };
        let track = match format {
            Format::H264 { sps, pps } => {
                describe.video = Some(Video::H264);
                describe.sets.sps = sps.first().cloned();
                describe.sets.pps = pps.iter().take(MAX_PPS).cloned().collect();
                return describe.rebuilt();
            }
            Format::H265 { vps, sps, pps } => {
                describe.video = Some(Video::H265);
                describe.sets.vps = vps.first().cloned();
                describe.sets.sps = sps.first().cloned();
                describe.sets.pps = pps.iter().take(MAX_PPS).cloned().collect();
                return describe.rebuilt();
            }
            Format::Vp8 => return Describe { video: Some(Video::Vp8), ..describe },
            Format::Vp9 => return Describe { video: Some(Video::Vp9), ..describe },
            Format::Av1 => return Describe { video: Some(Video::Av1), ..describe },
            Format::Aac { config, .. } | Format::Latm { config, .. } => aac::track(id, config),
            Format::Opus { channels } => opus::track(id, *channels),
            Format::Pcmu => Ok(g711::track(id, g711::Law::Mu)),
            Format::Pcma => Ok(g711::track(id, g711::Law::A)),
            Format::Unknown { .. } => Err(CodecError::Unsupported("payload format")),
        };
        match track {
            Ok(track) => describe.track = Some(track),
            Err(error) => describe.error = Some(error),
        }
        describe
    }

    fn rebuilt(mut self) -> Describe {
        self.rebuild();
        self
    }

    /// Of a source whose random access points all bring their parameter sets, as those of WebRTC do (RFC 7742 section 6.2): the
    /// track is another one only when its pictures look different.
    pub(super) fn in_band(self) -> Describe {
        Describe { in_band: true, ..self }
    }

    /// The track, once described.
    pub(super) fn track(&self) -> Option<&Track> {
        self.track.as_ref()
    }

    /// Why it is not.
    pub(super) fn problem(&self) -> Option<String> {
        self.error.as_ref().map(CodecError::to_string)
    }

    /// What it takes to describe it, when nothing is known of it.
    pub(super) fn needs(&self) -> &'static str {
        match self.video {
            Some(Video::Vp8 | Video::Vp9 | Video::Av1) => "key frame",
            _ => "parameter sets",
        }
    }

    /// Of the units: that of the track, which is fixed before it is described.
    pub(super) fn timescale(&self) -> Timescale {
        self.track.as_ref().map_or(Timescale::VIDEO, |track| track.timescale)
    }

    /// Reads what an access unit says of itself and of its track.
    pub(super) fn look(&mut self, unit: &Bytes) -> Look {
        let Some(video) = self.video else {
            return Look { random_access: RandomAccess::Closed, disposable: false, changed: None };
        };
        let nals = nal::length_prefixed(unit, 4).map_while(Result::ok);
        match video {
            Video::H264 => {
                let unit = h264::classify(nals);
                let changed = self.take(&[], &unit.sps, &unit.pps);
                Look { random_access: unit.random_access, disposable: unit.disposable, changed }
            }
            Video::H265 => {
                let unit = h265::classify(nals, self.top_temporal_id);
                let changed = self.take(&unit.vps, &unit.sps, &unit.pps);
                Look { random_access: unit.random_access, disposable: unit.disposable, changed }
            }
            Video::Vp8 => {
                let Ok(header) = vp8::Header::read(unit).map_err(|error| self.error = Some(error)) else {
                    return Look::NOTHING;
                };
                let changed = header.size.and_then(|_| self.describe(vp8::track(self.id, unit)));
                Look { random_access: header.random_access(), disposable: header.disposable, changed }
            }
            Video::Vp9 => {
                let Ok(header) = vp9::Unit::read(unit).map_err(|error| self.error = Some(error)) else {
                    return Look::NOTHING;
                };
                let changed = header.key.and_then(|_| self.describe(vp9::track(self.id, unit)));
                Look { random_access: header.random_access(), disposable: header.disposable, changed }
            }
            Video::Av1 => {
                let classified = av1::classify(unit, self.sequence.as_ref());
                let changed = classified.sequence_header.and_then(|header| {
                    self.sequence = av1::Sequence::parse(header).ok();
                    self.describe(av1::track(self.id, header))
                });
                Look { random_access: classified.random_access, disposable: classified.disposable, changed }
            }
        }
    }

    /// Takes parameter sets of a unit; the track, when they change it.
    fn take(&mut self, vps: &[&[u8]], sps: &[&[u8]], pps: &[&[u8]]) -> Option<Track> {
        let fresh =
            |kept: &Option<Bytes>, seen: Option<&&[u8]>| seen.is_some_and(|seen| kept.as_deref() != Some(*seen));
        let new_vps = fresh(&self.sets.vps, vps.first());
        let new_sps = fresh(&self.sets.sps, sps.first());
        let new_pps = pps.iter().any(|seen| !self.sets.pps.iter().any(|kept| kept == seen));
        if !new_vps && !new_sps && !new_pps {
            return None;
        }
        let before = self.sets.clone();
        if new_vps {
            self.sets.vps = vps.first().map(|bytes| Bytes::copy_from_slice(bytes));
        }
        if new_sps {
            self.sets.sps = sps.first().map(|bytes| Bytes::copy_from_slice(bytes));
            if !pps.is_empty() {
                self.sets.pps.clear();
            }
        }
        for seen in pps {
            let header = if self.video == Some(Video::H265) { 2 } else { 1 };
            let id = pps_id(seen, header);
            self.sets.pps.retain(|kept| pps_id(kept, header) != id);
            if self.sets.pps.len() < MAX_PPS {
                self.sets.pps.push(Bytes::copy_from_slice(seen));
            }
        }
        let changed = self.rebuild();
        if self.error.is_some() && self.track.is_some() {
            // Sets that describe nothing we can store do not replace those that did.
            self.sets = before;
        }
        changed
    }

    /// The track of the sets, when it is not what it was.
    fn rebuild(&mut self) -> Option<Track> {
        let sps = self.sets.sps.as_deref()?;
        let pps: Vec<&[u8]> = self.sets.pps.iter().map(|pps| &pps[..]).collect();
        let built = match self.video? {
            Video::H264 => h264::track(self.id, sps, &pps),
            Video::H265 => h265::track(self.id, self.sets.vps.as_deref().unwrap_or_default(), sps, &pps),
            Video::Vp8 | Video::Vp9 | Video::Av1 => return None,
        };
        if self.video == Some(Video::H265) && built.is_ok() {
            self.top_temporal_id = h265::Sps::parse(sps).map_or(0, |sps| sps.top_temporal_id);
        }
        self.describe(built)
    }

    /// Takes a description; the track, when it is not what it was.
    fn describe(&mut self, built: Result<Track, CodecError>) -> Option<Track> {
        let track = match built {
            Ok(track) => track,
            Err(error) => {
                self.error = Some(error);
                return None;
            }
        };
        self.error = None;
        let goes_on = |before: &Track| before.continues(&track) || self.in_band && before.resembles(&track);
        if self.track.as_ref().is_some_and(goes_on) {
            return None;
        }
        // A sender that goes back to sets of before alternates between them at its random access points, and sends them there:
        // each time another track would be another initialisation every second.
        self.in_band |= self.earlier.iter().any(|earlier| earlier.continues(&track));
        if self.in_band && self.track.as_ref().is_some_and(|before| before.resembles(&track)) {
            return None;
        }
        if let Some(before) = self.track.replace(track.clone()) {
            self.earlier.insert(0, before);
            self.earlier.truncate(MAX_EARLIER);
        }
        Some(track)
    }
}

/// The id of a picture parameter set behind a NAL header of this many bytes.
fn pps_id(pps: &[u8], header: usize) -> Option<u32> {
    BitReader::new(pps.get(header..)?).ue().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::sdp;

    /// The set with another `seq_parameter_set_id`, 0 before: OpenH264 counts it up at each key picture
    /// (INCREASING_ID, which Chromium has used).
    fn numbered(sps: &[u8], id: u32) -> Vec<u8> {
        let mut plain: Vec<u8> = Vec::new();
        for byte in sps {
            // Without what keeps start codes from appearing (section 7.4.1).
            if !(*byte == 3 && plain.ends_with(&[0, 0])) {
                plain.push(*byte);
            }
        }
        let mut bits: Vec<bool> =
            plain.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1)).collect();
        // Exp-Golomb (ITU-T H.264 section 9.1) behind the NAL header, the profile and the level.
        let zeros = (id + 1).ilog2();
        let code = (0..=zeros).rev().map(|bit| (id + 1) >> bit & 1 == 1);
        bits.splice(32..33, std::iter::repeat_n(false, zeros as usize).chain(code));
        // The set ends with a one (section 7.3.2.11).
        bits.truncate(bits.iter().rposition(|bit| *bit).map_or(0, |last| last + 1));
        let mut out = Vec::new();
        for byte in bits.chunks(8) {
            let byte = byte.iter().fold(0, |all, bit| all << 1 | u8::from(*bit)) << (8 - byte.len());
            if out.ends_with(&[0, 0]) && byte < 4 {
                out.push(3);
            }
            out.push(byte);
        }
        out
    }

    fn key_picture(sps: &[u8], pps: &[u8]) -> Bytes {
        let nals = [sps, pps, &[0x65, 0x88, 0x84]];
        nals.iter().flat_map(|nal| (nal.len() as u32).to_be_bytes().into_iter().chain(nal.iter().copied())).collect()
    }

    #[test]
    fn a_webrtc_track_is_another_one_only_when_its_pictures_look_different() {
        let media = sdp::parse(sdp::tests::FFMPEG.as_bytes()).expect("an SDP").media;
        let Format::H264 { sps, pps } = &media[0].format else { panic!("H.264") };
        let (bare, pps) = (Format::H264 { sps: vec![], pps: vec![] }, &pps[0]);
        let changes = |mut describe: Describe| {
            let count = |id| describe.look(&key_picture(&numbered(&sps[0], id), pps)).changed.is_some();
            (0..4).map(count).collect::<Vec<_>>()
        };
        assert_eq!(changes(Describe::new(TrackId(1), &bare).in_band()), [true, false, false, false]);
        // Elsewhere sets are not repeated at each access point, so that each one counts.
        assert_eq!(changes(Describe::new(TrackId(1), &bare)), [true; 4]);
        // But when it goes back to sets of before, it alternates between them.
        let mut describe = Describe::new(TrackId(1), &bare);
        let alternating = [0, 1, 0, 1, 0, 1].map(|id| describe.look(&key_picture(&numbered(&sps[0], id), pps)));
        assert_eq!(alternating.map(|look| look.changed.is_some()), [true, true, false, false, false, false]);

        let mut describe = Describe::new(TrackId(1), &bare).in_band();
        let mut level = sps[0].to_vec();
        assert!(describe.look(&key_picture(&level, pps)).changed.is_some());
        level[3] = 40;
        assert!(describe.look(&key_picture(&level, pps)).changed.is_none(), "another level");
        level[1] = 110;
        assert!(describe.look(&key_picture(&level, pps)).changed.is_some(), "another profile");
    }
}
