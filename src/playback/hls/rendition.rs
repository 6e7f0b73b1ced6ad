//! Renditions: what a media playlist is about, across changes of the track set.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use media::{Track, TrackId, TrackSet, TrackSetId};

/// A media playlist's subject: a place in the track set, not a track number. A stream whose camera comes back with
/// its tracks in another order keeps its playlists.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Rendition {
    /// The pictures: `video`.
    Video,
    /// The n-th playable audio track, from 0: `audio`, `audio-2`, `audio-3` ...
    Audio(u8),
}

impl Rendition {
    /// The track of `set` that this rendition plays, if there is one that HLS players can play.
    pub(super) fn track(self, set: &TrackSet) -> Option<&Track> {
        let mut playable = set.tracks().iter().filter(|track| track.codec_string.is_some());
        match self {
            Rendition::Video => playable.find(|track| track.codec.is_video()),
            Rendition::Audio(nth) => playable.filter(|track| !track.codec.is_video()).nth(usize::from(nth)),
        }
    }
}

impl fmt::Display for Rendition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rendition::Video => f.write_str("video"),
            Rendition::Audio(0) => f.write_str("audio"),
            Rendition::Audio(nth) => write!(f, "audio-{}", u16::from(*nth) + 1),
        }
    }
}

impl FromStr for Rendition {
    type Err = ();

    fn from_str(text: &str) -> Result<Rendition, ()> {
        match text {
            "video" => Ok(Rendition::Video),
            "audio" => Ok(Rendition::Audio(0)),
            _ => match text.strip_prefix("audio-").and_then(super::plain_number::<u8>) {
                Some(nth) if usize::from(nth) >= 2 && usize::from(nth) <= media::track::MAX_TRACKS => {
                    Ok(Rendition::Audio(nth - 1))
                }
                _ => Err(()),
            },
        }
    }
}

/// How a request names a rendition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RenditionName {
    /// By its place, as our playlists do: `video`.
    Place(Rendition),
    /// By the number of its track, as people do: `1`.
    Track(TrackId),
}

impl RenditionName {
    /// The rendition that this names in `set`, if it is there and can be played.
    pub(super) fn in_set(self, set: &TrackSet) -> Option<Rendition> {
        match self {
            RenditionName::Place(rendition) => rendition.track(set).map(|_| rendition),
            RenditionName::Track(id) => {
                let audios = (0..set.tracks().len()).map(|nth| Rendition::Audio(nth as u8));
                let is_named = |rendition: &Rendition| rendition.track(set).is_some_and(|track| track.id == id);
                std::iter::once(Rendition::Video).chain(audios).find(is_named)
            }
        }
    }
}

impl FromStr for RenditionName {
    type Err = ();

    fn from_str(text: &str) -> Result<RenditionName, ()> {
        match super::plain_number(text) {
            Some(id) => Ok(RenditionName::Track(TrackId(id))),
            None => text.parse().map(RenditionName::Place),
        }
    }
}

/// The track sets that a list of fragments refers to; a few at most.
#[derive(Clone, Debug, Default)]
pub(super) struct TrackSets(Vec<(TrackSetId, Arc<TrackSet>)>);

impl TrackSets {
    pub(super) fn insert(&mut self, id: TrackSetId, set: Arc<TrackSet>) {
        if self.get(id).is_none() {
            self.0.push((id, set));
        }
    }

    pub(super) fn get(&self, id: TrackSetId) -> Option<&Arc<TrackSet>> {
        self.0.iter().find(|(known, _)| *known == id).map(|(_, set)| set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_others_refused() {
        for rendition in [Rendition::Video, Rendition::Audio(0), Rendition::Audio(1), Rendition::Audio(7)] {
            assert_eq!(rendition.to_string().parse(), Ok(rendition));
        }
        for text in ["", "Video", "audio-", "audio-0", "audio-1", "audio-02", "audio-9", "audio-999", "1", "audio--2"] {
            assert_eq!(text.parse::<Rendition>(), Err(()), "{text}");
        }
    }
}
