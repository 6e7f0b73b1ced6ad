//! The sessions as HTTP sees them: who owns which, and how many there are.

use std::collections::{HashMap, hash_map};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use media::StreamId;

/// Offers that one address may make at once, and how many more in a second.
const BURST: f64 = 300.0;
const PER_SECOND: f64 = 50.0;
/// Addresses whose offers are counted; of those beyond nobody has offered lately.
const MAX_ADDRESSES: usize = 10_000;
/// Changes of one session by PATCH.
const MAX_PATCHES: u32 = 20;

/// Names a session inside; never reused.
pub(super) type Key = u64;

/// Which way media goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    /// WHIP.
    In,
    /// WHEP.
    Out,
}

/// A session as its owner knows it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub key: Key,
    pub way: Way,
    pub stream: StreamId,
    /// Name of the stream in the session's URL.
    pub name: String,
    /// The credential that made it.
    pub credential: String,
    /// Names its ICE credentials.
    pub etag: String,
    pub patches: u32,
    pub connected: bool,
}

/// Why an offer is not taken now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("too many offers from this address; try again in a second")]
    Rate,
    #[error("too many sessions are being set up; try again in some seconds")]
    Pending,
    #[error("there are as many WebRTC sessions as this server takes (webrtc.max_sessions)")]
    Sessions,
}

/// The table. Its lock is held for moments and alone.
#[derive(Clone, Default)]
pub(super) struct Directory(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    sessions: HashMap<String, Entry>,
    pending: usize,
    /// Connected viewers of each stream that has some.
    viewers: HashMap<StreamId, u64>,
    offers: HashMap<IpAddr, Bucket>,
}

struct Bucket {
    tokens: f64,
    since: Instant,
}

impl Directory {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an offer from `address` and says whether it may be looked at.
    pub(super) fn admit(&self, address: IpAddr, pending: usize, sessions: usize, now: Instant) -> Result<(), Refused> {
        let mut table = self.table();
        if table.offers.len() >= MAX_ADDRESSES {
            table.offers.retain(|_, bucket| now.saturating_duration_since(bucket.since) < Duration::from_secs(10));
        }
        let bucket = table.offers.entry(address).or_insert(Bucket { tokens: BURST, since: now });
        let passed = now.saturating_duration_since(bucket.since).as_secs_f64();
        bucket.tokens = (bucket.tokens + passed * PER_SECOND).min(BURST);
        bucket.since = now;
        if bucket.tokens < 1.0 {
            return Err(Refused::Rate);
        }
        bucket.tokens -= 1.0;
        if table.pending >= pending {
            return Err(Refused::Pending);
        }
        if table.sessions.len() >= sessions {
            return Err(Refused::Sessions);
        }
        Ok(())
    }

    /// Enters a session.
    pub(super) fn enter(&self, id: String, entry: Entry) {
        let mut table = self.table();
        table.pending += 1;
        table.sessions.insert(id, entry);
    }

    /// Its peer is connected.
    pub(super) fn connected(&self, id: &str) {
        let mut table = self.table();
        let Some(entry) = table.sessions.get_mut(id) else { return };
        let (stream, way) = (entry.stream, entry.way);
        if std::mem::replace(&mut entry.connected, true) {
            return;
        }
        table.pending -= 1;
        if way == Way::Out {
            *table.viewers.entry(stream).or_default() += 1;
        }
    }

    /// It is over.
    pub(super) fn remove(&self, id: &str) {
        let mut table = self.table();
        let Some(entry) = table.sessions.remove(id) else { return };
        if !entry.connected {
            table.pending -= 1;
        } else if entry.way == Way::Out
            && let hash_map::Entry::Occupied(mut viewers) = table.viewers.entry(entry.stream)
        {
            *viewers.get_mut() -= 1;
            if *viewers.get() == 0 {
                viewers.remove();
            }
        }
    }

    /// The session of this id, if it is that credential's and at that URL; nobody else is told that there is one.
    pub(super) fn owned(&self, id: &str, way: Way, name: &str, credential: &str) -> Option<Entry> {
        let table = self.table();
        let entry = table.sessions.get(id)?;
        (entry.way == way && entry.name == name && entry.credential == credential).then(|| entry.clone())
    }

    /// Counts a change of the session; whether it may be made.
    pub(super) fn patch(&self, id: &str) -> bool {
        let mut table = self.table();
        let Some(entry) = table.sessions.get_mut(id) else { return false };
        entry.patches += 1;
        entry.patches <= MAX_PATCHES
    }

    /// Its ICE credentials are others from now on.
    pub(super) fn renew(&self, id: &str, etag: String) {
        if let Some(entry) = self.table().sessions.get_mut(id) {
            entry.etag = etag;
        }
    }

    /// Connected viewers of the stream.
    pub(super) fn viewers(&self, stream: StreamId) -> u64 {
        self.table().viewers.get(&stream).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, credential: &str) -> Entry {
        let (stream, name, credential) = (StreamId(uuid::Uuid::nil()), name.to_owned(), credential.to_owned());
        Entry { key: 1, way: Way::Out, stream, name, credential, etag: String::new(), patches: 0, connected: false }
    }

    #[test]
    fn an_address_that_offers_all_the_time_is_slowed_down() {
        let (directory, now) = (Directory::default(), Instant::now());
        let address = "192.0.2.1".parse().expect("an address");
        let taken = |now: Instant| (0..1_000).filter(|_| directory.admit(address, 10, 10, now).is_ok()).count();
        assert_eq!(taken(now), 300);
        assert_eq!(taken(now + Duration::from_secs(1)), 50);
        let other = "192.0.2.2".parse().expect("an address");
        assert_eq!(directory.admit(other, 10, 10, now), Ok(()));
    }

    #[test]
    fn sessions_being_set_up_and_in_all_are_counted() {
        let (directory, now) = (Directory::default(), Instant::now());
        let admit =
            |pending, sessions| directory.admit("192.0.2.1".parse().expect("an address"), pending, sessions, now);
        directory.enter("a".into(), entry("gate", "token:1"));
        assert_eq!(admit(1, 10), Err(Refused::Pending));
        directory.connected("a");
        directory.connected("a");
        assert_eq!(admit(1, 10), Ok(()));
        assert_eq!(admit(1, 1), Err(Refused::Sessions));
        assert_eq!(directory.viewers(StreamId(uuid::Uuid::nil())), 1);
        directory.remove("a");
        assert_eq!((admit(1, 1), directory.viewers(StreamId(uuid::Uuid::nil()))), (Ok(()), 0));
    }

    #[test]
    fn a_session_is_its_owners_alone() {
        let directory = Directory::default();
        directory.enter("a".into(), entry("gate", "token:1"));
        assert!(directory.owned("a", Way::Out, "gate", "token:1").is_some());
        assert!(directory.owned("a", Way::Out, "gate", "token:2").is_none());
        assert!(directory.owned("a", Way::In, "gate", "token:1").is_none());
        assert!(directory.owned("a", Way::Out, "yard", "token:1").is_none());
        assert_eq!((0..30).filter(|_| directory.patch("a")).count(), 20);
    }
}
