//! Who watches: the viewers of each stream, by what they fetched lately.
//!
//! A viewer is one credential at one client address that fetched a playlist or a segment of the stream within the last
//! [`LATELY`]. Players ask for a playlist at least once per fragment, so a viewer who leaves is forgotten soon. Two
//! windows of one browser are one viewer, and so are people who share a token behind one router.
//!
//! Not counted: pictures and clips, which are fetched once, and whoever only looks at lists.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use media::StreamId;

/// A viewer who fetched nothing for this long has left: three of the longest fragments.
const LATELY: Duration = Duration::from_secs(30);

/// Viewers told apart for one stream; this number means that many or more.
const VIEWERS_MAX: usize = 10_000;

/// Viewers of all streams.
#[derive(Default)]
pub(crate) struct Audience(Mutex<HashMap<StreamId, HashMap<u64, Instant>>>);

impl Audience {
    /// Somebody with this credential fetched media or a playlist of the stream.
    pub(super) fn note(&self, stream: StreamId, credential: &str, from: IpAddr, now: Instant) {
        let mut hasher = DefaultHasher::new();
        (credential, from).hash(&mut hasher);
        let mut streams = self.streams();
        let viewers = streams.entry(stream).or_default();
        let viewer = hasher.finish();
        if viewers.len() < VIEWERS_MAX || viewers.contains_key(&viewer) {
            viewers.insert(viewer, now);
        }
    }

    /// Viewers of the stream now.
    pub(super) fn count(&self, stream: StreamId, now: Instant) -> u64 {
        let streams = self.streams();
        streams.get(&stream).map_or(0, |viewers| viewers.values().filter(|seen| is_lately(**seen, now)).count() as u64)
    }

    /// Lets go of those who left.
    pub(super) fn forget_gone(&self, now: Instant) {
        self.streams().retain(|_, viewers| {
            viewers.retain(|_, seen| is_lately(*seen, now));
            !viewers.is_empty()
        });
    }

    fn streams(&self) -> MutexGuard<'_, HashMap<StreamId, HashMap<u64, Instant>>> {
        // Marks of when somebody was seen: whole whatever panicked beside them.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_lately(seen: Instant, now: Instant) -> bool {
    now.saturating_duration_since(seen) <= LATELY
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn viewers_are_counted_once_each_and_forgotten_when_they_left() {
        let audience = Audience::default();
        let (gate, other) = (StreamId(Uuid::from_u128(1)), StreamId(Uuid::from_u128(2)));
        let (home, away) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let start = Instant::now();
        for (credential, from) in [("token:a", home), ("token:a", home), ("token:a", away), ("token:b", home)] {
            audience.note(gate, credential, from, start);
        }
        assert_eq!((audience.count(gate, start), audience.count(other, start)), (3, 0));
        let later = start + LATELY;
        audience.note(gate, "token:b", home, later);
        assert_eq!(audience.count(gate, later), 3, "at the limit they are still there");
        let gone = later + Duration::from_millis(1);
        assert_eq!(audience.count(gate, gone), 1);
        audience.forget_gone(gone);
        assert_eq!(audience.count(gate, start), 1, "they were let go of");
        audience.forget_gone(gone + LATELY);
        assert!(audience.streams().is_empty(), "a stream that nobody watches takes no memory");
    }

    #[test]
    fn a_crowd_without_end_takes_bounded_memory() {
        let audience = Audience::default();
        let (gate, now) = (StreamId(Uuid::from_u128(1)), Instant::now());
        for viewer in 0..VIEWERS_MAX + 5 {
            audience.note(gate, &format!("token:{viewer}"), IpAddr::from([192, 0, 2, 1]), now);
        }
        assert_eq!(audience.count(gate, now), VIEWERS_MAX as u64);
    }
}
