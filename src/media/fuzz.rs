//! Fuzz targets: bytes of anyone through every parser of this crate, with what must hold of the outcome.
//!
//! Each is run by `tests/fuzz`, and over the stored inputs by the test below. Here: the functions. Not here: the
//! engine and the inputs (`tests/fuzz`).

use bytes::{Bytes, BytesMut};

use crate::codec::{self, MAX_PIXELS, MAX_SIDE, aac, av1, h264, h265, nal, opaque, opus, vp8, vp9};
use crate::container::{cmaf, mp4};
use crate::decoding::{Reply, Request};
use crate::transcoding;
use crate::{FragmentNumber, StreamName, Timescale, Track, TrackId, TrackSet};

/// A target's name and what it does with bytes from outside.
pub type Target = (&'static str, fn(&[u8]));

/// Every target by name: its inputs are in `tests/fuzz/corpus/<name>`.
pub const TARGETS: [Target; 11] = [
    ("media_parameter_sets", parameter_sets),
    ("media_audio_config", audio_config),
    ("media_sample_entry", sample_entry),
    ("media_nal_units", nal_units),
    ("media_frames", frames),
    ("media_cmaf_head", cmaf_head),
    ("media_cmaf_samples", cmaf_samples),
    ("media_mp4_file", mp4_file),
    ("media_names", names),
    ("media_decoding", decoding_messages),
    ("media_transcoding", transcoding_messages),
];

/// A described track is within the limits, and its sample entry describes it again, alone and in the head of a block.
fn check_track(track: &Track) {
    assert!(track.width <= MAX_SIDE && track.height <= MAX_SIDE);
    assert!(u64::from(track.width) * u64::from(track.height) <= MAX_PIXELS);
    let again = codec::track_from_sample_entry(track.id, track.timescale, track.sample_entry.clone());
    assert_eq!(again.as_ref(), Ok(track), "a track comes back from its sample entry");
    assert!(track.continues(track));
    let set = TrackSet::new(vec![track.clone()]).expect("one track");
    let head = cmaf::block_head(&set);
    assert_eq!(cmaf::read_head(&head), Ok((set, head.len())), "a head comes back as it was");
}

/// Sets of H.264 and H.265 with start codes: those that describe a track.
pub fn parameter_sets(data: &[u8]) {
    let nals: Vec<&[u8]> = nal::annex_b(data).collect();
    let of = |kind: fn(&[u8]) -> bool| nals.iter().copied().filter(|nal| kind(nal)).collect::<Vec<_>>();
    let sps = of(|nal| nal[0] & 0x1f == h264::SPS);
    let pps = of(|nal| nal[0] & 0x1f == h264::PPS);
    if let Some(track) = sps.first().and_then(|sps| h264::track(TrackId(1), sps, &pps).ok()) {
        check_track(&track);
    }
    let vps = of(|nal| h265::nal_type(nal) == h265::VPS);
    let sps = of(|nal| h265::nal_type(nal) == h265::SPS);
    let pps = of(|nal| h265::nal_type(nal) == h265::PPS);
    let (vps, sps) = (vps.first(), sps.first());
    if let Some(track) = vps.zip(sps).and_then(|(vps, sps)| h265::track(TrackId(1), vps, sps, &pps).ok()) {
        check_track(&track);
    }
    // Also as they are: sets from SDP have no start codes.
    let _ = h264::Sps::parse(data);
    let _ = h265::Sps::parse(data);
}

/// What a decoder process says, and what is said to it: read, written, and read alike.
pub fn decoding_messages(data: &[u8]) {
    if let Ok(request) = Request::decode(data) {
        assert_eq!(Request::decode(&request.encode()), Ok(request));
    }
    if let Ok(reply) = Reply::decode(data) {
        assert_eq!(Reply::decode(&reply.encode()), Ok(reply));
    }
}

/// What a process that transcodes says, and what is said to it: read, written, and read alike.
pub fn transcoding_messages(data: &[u8]) {
    if let Ok(request) = transcoding::Request::decode(data) {
        assert_eq!(transcoding::Request::decode(&request.encode()), Ok(request));
    }
    if let Ok(reply) = transcoding::Reply::decode(data) {
        assert_eq!(transcoding::Reply::decode(&reply.encode()), Ok(reply));
    }
}

/// An AudioSpecificConfig, and the first bytes of an Opus packet.
pub fn audio_config(data: &[u8]) {
    if let Ok(track) = aac::track(TrackId(1), data) {
        check_track(&track);
        assert_eq!(aac::config_of_entry(&track.sample_entry), Ok(data));
    }
    let _ = aac::config_of_esds(data);
    let _ = opus::config_channels(data);
    // At most 120 ms (RFC 6716 section 3.2.5).
    assert!(opus::packet_samples(data).is_none_or(|samples| samples <= 5760));
}

/// A stored sample entry box.
pub fn sample_entry(data: &[u8]) {
    let entry = Bytes::copy_from_slice(data);
    if let Ok(track) = codec::track_from_sample_entry(TrackId(1), Timescale::VIDEO, entry) {
        assert_eq!(track.sample_entry, data);
        check_track(&track);
    }
    let _ = opaque::read(data);
    let _ = h264::Config::of_entry(data);
    let _ = h265::Config::of_entry(data);
    let _ = aac::config_of_entry(data);
}

/// NAL units with start codes and with lengths, and what they say of an access unit.
pub fn nal_units(data: &[u8]) {
    let joined = nal::annex_b_to_length_prefixed(data);
    let marked = nal::length_prefixed_to_annex_b(&joined).expect("lengths of our own");
    assert_eq!(nal::annex_b_to_length_prefixed(&marked), joined, "both forms say the same");
    for size in 1..=4 {
        let found: usize = nal::length_prefixed(data, size).map_while(Result::ok).map(|nal| nal.len() + size).sum();
        assert!(found <= data.len());
    }
    let nals = || nal::annex_b(data);
    for nal in nals() {
        let _ = (h264::boundary(nal), h265::boundary(nal));
    }
    let unit = h264::classify(nals());
    assert!(unit.sps.len() <= 32 && unit.pps.len() <= 256);
    let unit = h265::classify(nals(), data.first().map_or(0, |byte| byte & 7));
    assert!(unit.vps.len() <= 16 && unit.sps.len() <= 16 && unit.pps.len() <= 64);
}

/// A frame of VP8, a superframe of VP9 and a temporal unit of AV1: what they say, and the tracks that key frames describe.
pub fn frames(data: &[u8]) {
    for track in [vp8::track(TrackId(1), data), vp9::track(TrackId(1), data)].into_iter().flatten() {
        check_track(&track);
    }
    let _ = vp8::Header::read(data);
    assert!(vp9::frames(data).map(<[u8]>::len).sum::<usize>() <= data.len());
    let (head, rest) = data.split_at(data.len().min(16));
    let sequence = av1::Sequence::parse(head).ok();
    let _ = av1::classify(rest, sequence.as_ref());
    if let Some(track) = av1::classify(data, None).sequence_header.and_then(|own| av1::track(TrackId(1), own).ok()) {
        check_track(&track);
    }
    let mut again = BytesMut::new();
    let obus = || av1::obus(data).map_while(Result::ok);
    obus().for_each(|obu| av1::put_obu(&mut again, obu.kind, obu.extension, obu.payload));
    assert!(av1::obus(&again).map_while(Result::ok).eq(obus()), "OBUs come back as they were");
}

/// The head of a block.
pub fn cmaf_head(data: &[u8]) {
    let Ok((set, len)) = cmaf::read_head(data) else { return };
    assert!(len <= data.len());
    let head = cmaf::block_head(&set);
    assert_eq!(cmaf::read_head(&head), Ok((set.clone(), head.len())), "a head comes back as it was");
    for track in set.tracks() {
        check_track(track);
    }
}

/// One track's `moof` and `mdat`.
pub fn cmaf_samples(data: &[u8]) {
    let mut moved = data.to_vec();
    if cmaf::rebase(&mut moved, 7, 9).is_err() {
        assert_eq!(moved, data, "unchanged when refused");
    }
    let Ok(samples) = cmaf::part_samples(data) else { return };
    assert!(samples.iter().all(|sample| sample.range.end <= data.len() && sample.range.start <= sample.range.end));
    let entries: Vec<cmaf::Entry> = samples
        .iter()
        .map(|sample| cmaf::Entry {
            duration: sample.duration,
            offset: u32::try_from(sample.pts - sample.dts).expect("read from 32 bits"),
            size: u32::try_from(sample.range.len()).expect("inside the data"),
            sync: sample.sync,
        })
        .collect();
    let first = samples.first().map_or(0, |sample| sample.dts.unsigned_abs());
    let payloads = samples.iter().map(|sample| &data[sample.range.clone()]);
    let mut out = Vec::new();
    let part = cmaf::append(&mut out, 0, TrackId(1), 1, first, &entries, payloads).expect("not larger than 4 GiB");
    let again = cmaf::samples(&out, &part).expect("our own bytes");
    assert_eq!(again.len(), samples.len());
    for (ours, theirs) in again.iter().zip(&samples) {
        let facts = |sample: &cmaf::Sample| (sample.dts, sample.pts, sample.duration, sample.sync);
        assert_eq!(facts(ours), facts(theirs), "samples come back as they were");
        assert_eq!(out[ours.range.clone()], data[theirs.range.clone()]);
    }
}

/// A file that somebody gives to `kinora publish`.
pub fn mp4_file(data: &[u8]) {
    let Ok(file) = mp4::read(data) else { return };
    assert!(!file.tracks.is_empty());
    for sample in &file.samples {
        assert_eq!(sample.bytes(data).len(), sample.len as usize, "samples lie in the file");
        assert!(file.tracks.iter().any(|track| track.track.id == sample.track));
    }
    for track in &file.tracks {
        check_track(&track.track);
    }
}

/// Names and numbers in paths.
pub fn names(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(name) = StreamName::new(text) {
        assert_eq!(name.as_str(), text);
        assert!(text.len() <= 256 && !text.contains(['/', '%', '\\', '<', '\0']) && text != "." && text != "..");
    }
    if let Ok(number) = text.parse::<FragmentNumber>() {
        assert_eq!(number.to_string(), text);
        assert_eq!(FragmentNumber::new(number.position(), number.server_ms(), 0).position(), number.position());
    }
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
