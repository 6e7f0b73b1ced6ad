//! The multivariant playlist: which renditions a range has, and what a player must know to choose.

use std::sync::Arc;

use m3u8_rs::{AlternativeMedia, AlternativeMediaType, MasterPlaylist, Resolution, Start, VariantStream};
use media::{FragmentInfo, Track, TrackSet};

use super::media_playlist::{Kind, VERSION};
use super::rate::{Rates, rates};
use super::rendition::{Rendition, TrackSets};

/// The group of all audio renditions.
const AUDIO_GROUP: &str = "audio";

/// The text of the multivariant playlist of `fragments`; none when no HLS player can play any track of them.
///
/// `query` is appended to the addresses of the media playlists.
pub(super) fn text(
    fragments: &[FragmentInfo],
    track_sets: &TrackSets,
    kind: Kind,
    target_seconds: u32,
    query: &str,
) -> Option<String> {
    let sets = newest_first(fragments, track_sets);
    let present = |rendition: Rendition| {
        let rates = rates(fragments, track_sets, rendition, target_seconds)?;
        Some(Present { rendition, rates, tracks: sets.iter().filter_map(|set| rendition.track(set)).collect() })
    };
    let video = present(Rendition::Video);
    let audios: Vec<Present> =
        (0..media::track::MAX_TRACKS as u8).filter_map(|nth| present(Rendition::Audio(nth))).collect();
    let main = video.as_ref().or(audios.first())?;
    // Alone, the only audio rendition is the variant itself.
    let audio_group = video.is_some() || audios.len() > 1;
    let heaviest = |rate: fn(&Rates) -> u64| {
        let audio = audios.iter().map(|audio| rate(&audio.rates)).max().unwrap_or(0);
        video.as_ref().map_or(0, |video| rate(&video.rates)) + audio
    };

    let variant = VariantStream {
        uri: format!("{}.m3u8{query}", main.rendition),
        bandwidth: heaviest(|rates| rates.peak).max(1),
        average_bandwidth: Some(heaviest(|rates| rates.average).max(1)),
        codecs: Some(codecs(video.iter().chain(&audios))),
        resolution: video.as_ref().and_then(Present::resolution),
        frame_rate: video.as_ref().and_then(Present::frame_rate),
        audio: (audio_group && !audios.is_empty()).then(|| AUDIO_GROUP.to_owned()),
        ..VariantStream::default()
    };
    let alternatives = audios.iter().enumerate().filter(|_| audio_group);
    let playlist = MasterPlaylist {
        version: Some(VERSION),
        alternatives: alternatives.map(|(index, audio)| audio.alternative(index, query)).collect(),
        variants: vec![variant],
        start: (kind == Kind::Growing).then(|| Start {
            time_offset: 0.0,
            precise: None,
            other_attributes: Default::default(),
        }),
        ..MasterPlaylist::default()
    };
    let mut bytes = Vec::new();
    playlist.write_to(&mut bytes).expect("a vector takes all");
    Some(String::from_utf8(bytes).expect("the parts were text"))
}

/// A rendition that has samples in the range.
struct Present<'a> {
    rendition: Rendition,
    rates: Rates,
    /// Its tracks, the newest first.
    tracks: Vec<&'a Track>,
}

impl Present<'_> {
    fn resolution(&self) -> Option<Resolution> {
        let largest = self.tracks.iter().max_by_key(|track| u64::from(track.width) * u64::from(track.height))?;
        let known = largest.width > 0 && largest.height > 0;
        known.then_some(Resolution { width: u64::from(largest.width), height: u64::from(largest.height) })
    }

    /// As declared when that is what was counted, to 2 %; cameras declare anything. Else as counted.
    fn frame_rate(&self) -> Option<f64> {
        let counted = self.rates.frames_milli;
        let declared = self.tracks.first().and_then(|track| track.frame_rate_millis).map(u64::from);
        let milli = declared.filter(|declared| declared.abs_diff(counted) * 50 <= counted).unwrap_or(counted);
        (milli > 0).then(|| milli as f64 / 1000.0)
    }

    fn alternative(&self, index: usize, query: &str) -> AlternativeMedia {
        let name = if index == 0 { "Audio".to_owned() } else { format!("Audio {}", index + 1) };
        let channels = self.tracks.first().map_or(0, |track| track.channels);
        AlternativeMedia {
            media_type: AlternativeMediaType::Audio,
            group_id: AUDIO_GROUP.to_owned(),
            name,
            uri: Some(format!("{}.m3u8{query}", self.rendition)),
            default: index == 0,
            autoselect: true,
            channels: (channels > 0).then(|| channels.to_string()),
            language: None,
            assoc_language: None,
            forced: false,
            instream_id: None,
            characteristics: None,
            other_attributes: None,
        }
    }
}

/// The track sets of these fragments, the newest first.
fn newest_first<'a>(fragments: &[FragmentInfo], track_sets: &'a TrackSets) -> Vec<&'a Arc<TrackSet>> {
    let mut ids = Vec::new();
    for info in fragments.iter().rev() {
        if ids.last() != Some(&info.track_set) && !ids.contains(&info.track_set) {
            ids.push(info.track_set);
        }
    }
    ids.into_iter().filter_map(|id| track_sets.get(id)).collect()
}

/// Every codec of every rendition, each once (RFC 8216 section 4.3.4.2).
fn codecs<'a>(renditions: impl Iterator<Item = &'a Present<'a>>) -> String {
    let mut codecs: Vec<&str> = Vec::new();
    for codec in renditions.flat_map(|present| &present.tracks).filter_map(|track| track.codec_string.as_deref()) {
        if !codecs.contains(&codec) {
            codecs.push(codec);
        }
    }
    codecs.join(",")
}
