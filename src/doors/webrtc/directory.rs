//! The sessions as HTTP sees them: who owns which, and how many there are.

use std::collections::{HashMap, hash_map};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use media::StreamId;

use crate::auth::network;

/// Offers that one address may make at once, and how many more in a second.
const BURST: f64 = 300.0;
const PER_SECOND: f64 = 50.0;
/// Addresses whose offers are counted; of those beyond nobody has offered lately.
const MAX_ADDRESSES: usize = 10_000;
/// Between log lines about refused offers.
const SAY_EVERY: Duration = Duration::from_secs(60);
/// Changes of one session by PATCH.
const MAX_PATCHES: u32 = 20;

/// Names a session inside; never reused.
pub(super) type Key = u64;

/// Which way media goes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
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
    /// Who made it.
    pub claim: Claim,
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
    #[error(
        "this credential, or this network, has too many sessions that are not connected yet; try again in some seconds"
    )]
    Share,
    #[error("there are as many WebRTC sessions as this server takes (webrtc.max_sessions)")]
    Sessions,
}

/// The table. Its lock is held for moments and alone.
#[derive(Clone, Default)]
pub(super) struct Directory(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    sessions: HashMap<String, Entry>,
    /// Connected or not.
    viewing: usize,
    pending: Pending,
    /// When it was last said that offers are refused.
    said: Option<Instant>,
    /// Connected viewers of each stream that has some.
    viewers: HashMap<StreamId, u64>,
    offers: HashMap<IpAddr, Bucket>,
}

/// Who wants a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Claim {
    pub way: Way,
    pub credential: String,
    /// /24 or /56 of the address it came from.
    pub network: IpAddr,
}

/// Sessions that are not connected yet, those that are just being made among them.
#[derive(Default)]
struct Pending {
    total: usize,
    viewing: usize,
    by_credential: HashMap<(Way, String), usize>,
    by_network: HashMap<(Way, IpAddr), usize>,
}

impl Pending {
    /// Whether one more fits. Viewers leave a quarter to publishers, and no credential and no network has more than a share.
    fn look(&self, claim: &Claim, most: usize) -> Result<(), Refused> {
        let viewing_most = most - most / 4;
        if self.total >= most || (claim.way == Way::Out && self.viewing >= viewing_most) {
            return Err(Refused::Pending);
        }
        let of_credential = self.by_credential.get(&(claim.way, claim.credential.clone())).copied().unwrap_or(0);
        let of_network = self.by_network.get(&(claim.way, claim.network)).copied().unwrap_or(0);
        match of_credential >= most.div_ceil(8) || of_network >= most.div_ceil(4) {
            true => Err(Refused::Share),
            false => Ok(()),
        }
    }

    fn add(&mut self, claim: &Claim) {
        self.total += 1;
        self.viewing += usize::from(claim.way == Way::Out);
        *self.by_credential.entry((claim.way, claim.credential.clone())).or_default() += 1;
        *self.by_network.entry((claim.way, claim.network)).or_default() += 1;
    }

    fn take(&mut self, claim: &Claim) {
        self.total -= 1;
        self.viewing -= usize::from(claim.way == Way::Out);
        one_less(&mut self.by_credential, (claim.way, claim.credential.clone()));
        one_less(&mut self.by_network, (claim.way, claim.network));
    }
}

/// Counts down; a key of which there is none is forgotten.
fn one_less<K: Hash + Eq>(counts: &mut HashMap<K, usize>, key: K) {
    if let hash_map::Entry::Occupied(mut count) = counts.entry(key) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

/// Room for a session that is being made; given back when dropped.
pub(super) struct Reservation {
    directory: Directory,
    claim: Option<Claim>,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(claim) = self.claim.take() {
            let mut table = self.directory.table();
            table.pending.take(&claim);
            table.viewing -= usize::from(claim.way == Way::Out);
        }
    }
}

/// A session that is in the table and not yet with the loop; dropped before it is, it is taken out again.
pub(super) struct Entered {
    directory: Directory,
    id: Option<String>,
}

impl Entered {
    /// The loop has it.
    pub(super) fn keep(mut self) {
        self.id = None;
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            self.directory.remove(&id);
        }
    }
}

struct Bucket {
    tokens: f64,
    since: Instant,
}

impl Directory {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an offer from `address`, and makes room for its session: at most `pending` are not connected yet, and `sessions`
    /// are there in all, of which viewers leave an eighth to publishers.
    pub(super) fn admit(
        &self,
        way: Way,
        credential: &str,
        address: IpAddr,
        (pending, sessions): (usize, usize),
        now: Instant,
    ) -> Result<Reservation, Refused> {
        let claim = Claim { way, credential: credential.to_owned(), network: network(address) };
        let admitted = self.reserve(&claim, address, (pending, sessions), now);
        if let Err(refused) = &admitted {
            let reason = match refused {
                Refused::Rate => "rate",
                Refused::Pending => "pending",
                Refused::Share => "share",
                Refused::Sessions => "sessions",
            };
            metrics::counter!("kinora_webrtc_offers_refused_total", "reason" => reason).increment(1);
            let mut table = self.table();
            if table.said.is_none_or(|said| now.saturating_duration_since(said) >= SAY_EVERY) {
                table.said = Some(now);
                tracing::warn!(%address, credential, reason = %refused, "WebRTC offers are refused");
            }
        }
        admitted.map(|()| Reservation { directory: self.clone(), claim: Some(claim) })
    }

    fn reserve(
        &self,
        claim: &Claim,
        address: IpAddr,
        (pending, sessions): (usize, usize),
        now: Instant,
    ) -> Result<(), Refused> {
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
        table.pending.look(claim, pending)?;
        // Those that are being made are counted, too: none is let in beside them.
        let making =
            table.pending.total.saturating_sub(table.sessions.values().filter(|entry| !entry.connected).count());
        if table.sessions.len() + making >= sessions
            || (claim.way == Way::Out && table.viewing >= sessions - sessions / 8)
        {
            return Err(Refused::Sessions);
        }
        table.pending.add(claim);
        table.viewing += usize::from(claim.way == Way::Out);
        Ok(())
    }

    /// Enters the session that room was made for.
    pub(super) fn enter(&self, mut room: Reservation, id: String, entry: impl FnOnce(Claim) -> Entry) -> Entered {
        if let Some(claim) = room.claim.take() {
            self.table().sessions.insert(id.clone(), entry(claim));
        }
        Entered { directory: self.clone(), id: Some(id) }
    }

    /// Its peer is connected.
    pub(super) fn connected(&self, id: &str) {
        let mut table = self.table();
        let Some(entry) = table.sessions.get_mut(id) else { return };
        let (stream, way) = (entry.stream, entry.way);
        if std::mem::replace(&mut entry.connected, true) {
            return;
        }
        let claim = entry.claim.clone();
        table.pending.take(&claim);
        if way == Way::Out {
            *table.viewers.entry(stream).or_default() += 1;
        }
    }

    /// It is over.
    pub(super) fn remove(&self, id: &str) {
        let mut table = self.table();
        let Some(entry) = table.sessions.remove(id) else { return };
        table.viewing -= usize::from(entry.way == Way::Out);
        if !entry.connected {
            table.pending.take(&entry.claim);
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
        (entry.way == way && entry.name == name && entry.claim.credential == credential).then(|| entry.clone())
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

    const ADDRESS: &str = "192.0.2.1";

    fn admit(
        directory: &Directory,
        way: Way,
        credential: &str,
        address: &str,
        limits: (usize, usize),
    ) -> Result<Reservation, Refused> {
        directory.admit(way, credential, address.parse().expect("an address"), limits, Instant::now())
    }

    fn enter(directory: &Directory, id: &str, name: &str, credential: &str) {
        let room = admit(directory, Way::Out, credential, ADDRESS, (100, 100)).expect("room");
        let entry = |claim| Entry {
            key: 1,
            way: Way::Out,
            stream: StreamId(uuid::Uuid::nil()),
            name: name.to_owned(),
            claim,
            etag: String::new(),
            patches: 0,
            connected: false,
        };
        directory.enter(room, id.to_owned(), entry).keep();
    }

    #[test]
    fn an_address_that_offers_all_the_time_is_slowed_down() {
        let (directory, now) = (Directory::default(), Instant::now());
        let address = ADDRESS.parse().expect("an address");
        let taken = |now: Instant| {
            let offer = |_: &usize| directory.admit(Way::Out, "token:1", address, (10, 10), now).is_ok();
            (0..1_000).filter(offer).count()
        };
        assert_eq!(taken(now), 300);
        assert_eq!(taken(now + Duration::from_secs(1)), 50);
        assert!(admit(&directory, Way::Out, "token:1", "192.0.2.2", (10, 10)).is_ok());
    }

    #[test]
    fn sessions_being_set_up_and_in_all_are_counted() {
        let directory = Directory::default();
        let refused = |limits| admit(&directory, Way::Out, "token:2", "198.51.100.1", limits).err();
        enter(&directory, "a", "gate", "token:1");
        assert_eq!(refused((1, 10)), Some(Refused::Pending));
        directory.connected("a");
        directory.connected("a");
        assert_eq!(refused((1, 10)), None);
        assert_eq!(refused((1, 1)), Some(Refused::Sessions));
        assert_eq!(directory.viewers(StreamId(uuid::Uuid::nil())), 1);
        directory.remove("a");
        assert_eq!((refused((1, 1)), directory.viewers(StreamId(uuid::Uuid::nil()))), (None, 0));
    }

    #[test]
    fn a_viewer_that_never_connects_takes_no_room_from_cameras_and_others() {
        let directory = Directory::default();
        let limits = (80, 1_000);
        let mut held: Vec<Reservation> = Vec::new();
        let mut fill = |way, credential: &str, address: &str| {
            let before = held.len();
            held.extend(std::iter::from_fn(|| admit(&directory, way, credential, address, limits).ok()).take(200));
            held.len() - before
        };
        assert_eq!(fill(Way::Out, "token:1", "192.0.2.1"), 10, "an eighth for a credential");
        assert_eq!(fill(Way::Out, "token:2", "192.0.2.9"), 10);
        assert_eq!(fill(Way::Out, "token:3", "192.0.2.5"), 0, "a quarter for a network");
        for number in 0..8 {
            fill(Way::Out, &format!("token:{}", 4 + number), &format!("198.51.{number}.1"));
        }
        assert!(
            admit(&directory, Way::In, "token:camera", "192.0.2.7", limits).is_ok(),
            "a camera from the same network"
        );
        drop(held);
        let Pending { total, viewing, by_credential, by_network } = &directory.table().pending;
        assert_eq!((*total, *viewing, by_credential.len(), by_network.len()), (0, 0, 0, 0));
    }

    #[test]
    fn a_session_whose_client_hangs_up_while_it_is_made_is_forgotten() {
        let directory = Directory::default();
        let room = admit(&directory, Way::Out, "token:1", ADDRESS, (10, 10)).expect("room");
        let entry = |claim| Entry {
            key: 1,
            way: Way::Out,
            stream: StreamId(uuid::Uuid::nil()),
            name: "gate".into(),
            claim,
            etag: String::new(),
            patches: 0,
            connected: false,
        };
        drop(directory.enter(room, "a".into(), entry));
        let table = directory.table();
        assert_eq!((table.sessions.len(), table.pending.total, table.viewing), (0, 0, 0));
    }

    #[test]
    fn a_session_is_its_owners_alone() {
        let directory = Directory::default();
        enter(&directory, "a", "gate", "token:1");
        assert!(directory.owned("a", Way::Out, "gate", "token:1").is_some());
        assert!(directory.owned("a", Way::Out, "gate", "token:2").is_none());
        assert!(directory.owned("a", Way::In, "gate", "token:1").is_none());
        assert!(directory.owned("a", Way::Out, "yard", "token:1").is_none());
        assert_eq!((0..30).filter(|_| directory.patch("a")).count(), 20);
    }
}
