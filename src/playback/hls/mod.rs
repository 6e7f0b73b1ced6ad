//! HLS: playlists and segments of every stream, live and past (RFC 8216 and draft-pantos-hls-rfc8216bis).
//!
//! What belongs here: which fragments a request lists ([`span`], [`source`]), the text of the playlists
//! ([`media_playlist`], [`multivariant`]) and where the bytes of a segment are ([`source`]). A segment is one
//! track's `moof` and `mdat` of one fragment, as stored; but the first of a run has later decode times ([`lead_in`]).
//!
//! Not here: routes, credentials, headers and byte ranges (`doors::http::hls`), the bytes of an initialisation
//! segment (`media::container::cmaf`), low-latency parts (none yet: [`media_playlist`] is our own writer so that
//! they have a place), encryption of segments.
//!
//! # Rules
//!
//! 1. A live playlist lists persisted fragments only: what was shown once survives a crash.
//! 2. The media sequence number of a segment is its fragment's ordinal, its discontinuity sequence number is
//!    `FragmentInfo::discontinuities`. Both are stored, so they are the same for every viewer, every rendition and
//!    every life of the server. The first listed segment carries no EXT-X-DISCONTINUITY of its own.
//! 3. Every fragment of a list is in the playlist of every rendition; where a track has no samples, and where an
//!    ordinal is missing (damaged or lost), stands an EXT-X-GAP.
//! 4. EXTINF is taken between points of the stream's timeline, so that rounding never adds up.
//! 5. EXT-X-INDEPENDENT-SEGMENTS is printed for audio always (each audio frame decodes alone), for video only when
//!    every listed fragment starts closed (SAP type 1): an open start is playable but shows its leading pictures
//!    only together with the fragment before.
//! 6. Behind a discontinuity pictures follow at once: their first decode time is their first presentation time.
//! 7. The URI of a segment names the stream's life, the epoch and the sequence: it never means other bytes.

mod date;
mod lead_in;
mod media_playlist;
mod multivariant;
mod rate;
mod rendition;
mod source;
#[cfg(test)]
mod source_tests;
mod span;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub(crate) use rendition::RenditionName;
pub(crate) use source::{HlsError, Playlists, Viewer};
pub(super) use source::{ROUNDING_US, is_allowed};
pub(crate) use span::{BadSpan, Span, SpanClock};

use media::{Position, StreamId};

/// Limits of the playlists.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Media that a live playlist lists when the request says nothing. Default 60 s.
    pub window: Duration,
    /// Most that a request may ask for. Default 1 h.
    pub window_max: Duration,
    /// Most fragments that one playlist lists. Default 100,000: a day of the shortest.
    pub fragments_max: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { window: Duration::from_secs(60), window_max: Duration::from_secs(3600), fragments_max: 100_000 }
    }
}

/// The piece of an address that tells a stream from another that had its name before: the first eight hexadecimal
/// digits of its id.
pub(crate) fn life_tag(stream: StreamId) -> String {
    let (head, ..) = stream.0.as_fields();
    format!("{head:08x}")
}

/// The piece of an address that names a fragment: `<epoch>-<sequence>-<life tag>`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct FragmentName {
    pub position: Position,
    pub life_tag: String,
}

impl std::str::FromStr for FragmentName {
    type Err = ();

    fn from_str(text: &str) -> Result<FragmentName, ()> {
        let mut parts = text.split('-');
        let (Some(epoch), Some(sequence), Some(tag), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(());
        };
        let position = Position {
            epoch: media::Epoch(plain_number(epoch).ok_or(())?),
            sequence: media::Sequence(plain_number(sequence).ok_or(())?),
        };
        Ok(FragmentName { position, life_tag: tag.to_owned() })
    }
}

/// A decimal number as we write it: digits alone, no sign, no leading zero. One thing has one address.
pub(crate) fn plain_number<T: std::str::FromStr>(text: &str) -> Option<T> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}
