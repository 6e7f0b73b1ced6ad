//! Everybody who is connected over TCP, over all doors: so many that the store keeps its files, cameras find room when
//! viewers crowd, and strangers of one network leave room for others. When that network's share is used up, its oldest stranger
//! makes room for the newest: a client that shows its credential at once gets in, however many idle strangers are around it.
//!
//! WebRTC's peers share one socket, and have limits of their own (`webrtc`).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio_util::sync::CancellationToken;

use crate::auth::network;
use crate::config::tree::Limits;

/// Most descriptors that are kept aside for files, databases and datagram ports: half of them where there are few.
const KEPT_MAX: u64 = 4_096;
/// The share of connections that RTSP alone may take: cameras connect again while viewers hold everything else.
const CAMERAS_SHARE: u32 = 4;
/// Between log lines about refused connections of one kind.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// Which door somebody comes through.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Door {
    /// HTTP and HTTPS.
    Http,
    /// RTSP and RTSPS.
    Rtsp,
}

impl Door {
    fn name(self) -> &'static str {
        match self {
            Door::Http => "http",
            Door::Rtsp => "rtsp",
        }
    }
}

/// Why a connection is closed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Full {
    /// As many are connected as may be.
    Connections,
    /// As many of its network are that have shown no credential. The oldest of them makes room, if there is one.
    Strangers,
}

/// Raises the limit of open files to what the system allows; most connections that leave room for the store's files.
///
/// Shells and service managers start programs with 1,024, for programs that use `select`; this one does not.
pub(crate) fn raise_descriptors() -> u32 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "failed to raise the limit of open files");
    }
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let connections = connections_for(files);
    tracing::info!(files, before = current, connections, "limit of open files; connections beyond it are refused");
    connections
}

fn connections_for(files: u64) -> u32 {
    u32::try_from(files - (files / 2).min(KEPT_MAX)).unwrap_or(u32::MAX)
}

/// Everybody who is connected.
pub(crate) struct Crowd {
    /// Most connections that descriptors allow, whatever the configuration says.
    most: u32,
    places: Mutex<Places>,
}

#[derive(Default)]
struct Places {
    taken: HashMap<Door, u32>,
    /// The connections of each network, oldest first.
    by_network: HashMap<IpAddr, Vec<Mate>>,
    /// When it was last said that connections are refused, and how many were since.
    refused: HashMap<(Door, Full), (Option<Instant>, u64)>,
}

/// One connection of a network.
struct Mate {
    /// Whether it has shown a credential.
    known: Arc<AtomicBool>,
    /// Tells it to make room.
    displaced: CancellationToken,
}

/// A connection's place; dropping it frees it.
pub(crate) struct Place {
    crowd: Arc<Crowd>,
    door: Door,
    network: IpAddr,
    known: Arc<AtomicBool>,
    displaced: CancellationToken,
}

impl Place {
    /// Cancelled when this stranger must end, to make room for another of its network.
    pub(crate) fn displaced(&self) -> CancellationToken {
        self.displaced.clone()
    }

    /// The connection has shown a right credential: it does not count among strangers any more.
    pub(crate) fn known(&self) {
        self.known.store(true, Ordering::Relaxed);
    }
}

impl Crowd {
    /// Nobody yet, and never more than `most`.
    pub(crate) fn new(most: u32) -> Arc<Crowd> {
        Arc::new(Crowd { most, places: Mutex::default() })
    }

    /// Connections now.
    pub(crate) fn count(&self) -> u32 {
        self.places().taken.values().sum()
    }

    /// A place for a connection from `address`; `known` is raised when it has shown a credential.
    ///
    /// # Errors
    /// When there is none. That is counted, and logged once a minute.
    pub(crate) fn enter(
        self: &Arc<Self>,
        door: Door,
        address: IpAddr,
        limits: &Limits,
        known: Arc<AtomicBool>,
    ) -> Result<Place, Full> {
        let network = network(address);
        let mut places = self.places();
        if !places.has_room(door, limits.connections.min(self.most)) {
            places.refuse(door, Full::Connections, network);
            return Err(Full::Connections);
        }
        if !places.has_room_for_strangers(network, limits.unauthenticated_per_ip) {
            places.refuse(door, Full::Strangers, network);
            if !places.displace(network) {
                return Err(Full::Strangers);
            }
        }
        let displaced = CancellationToken::new();
        let mate = Mate { known: known.clone(), displaced: displaced.clone() };
        places.by_network.entry(network).or_default().push(mate);
        places.change(door, 1);
        Ok(Place { crowd: self.clone(), door, network, known, displaced })
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mate {
    fn is_stranger(&self) -> bool {
        !self.known.load(Ordering::Relaxed)
    }
}

impl Places {
    fn has_room(&self, door: Door, most: u32) -> bool {
        let taken: u32 = self.taken.values().sum();
        let of_door = self.taken.get(&door).copied().unwrap_or(0);
        match door {
            Door::Rtsp => taken < most,
            Door::Http => taken < most && of_door < most - most / CAMERAS_SHARE,
        }
    }

    fn has_room_for_strangers(&self, network: IpAddr, most: u32) -> bool {
        let mates = self.by_network.get(&network).map_or(&[][..], Vec::as_slice);
        mates.iter().filter(|mate| mate.is_stranger()).count() < most as usize
    }

    /// Tells the oldest stranger of a network to end; false when there is none.
    fn displace(&mut self, network: IpAddr) -> bool {
        let Some(mates) = self.by_network.get_mut(&network) else { return false };
        let Some(oldest) = mates.iter().position(Mate::is_stranger) else { return false };
        mates.remove(oldest).displaced.cancel();
        true
    }

    fn refuse(&mut self, door: Door, full: Full, network: IpAddr) {
        let reason = match full {
            Full::Connections => "connections",
            Full::Strangers => "strangers",
        };
        metrics::counter!("kinora_connections_refused_total", "door" => door.name(), "reason" => reason).increment(1);
        let (said, count) = self.refused.entry((door, full)).or_default();
        *count += 1;
        if said.is_some_and(|said| said.elapsed() < SAY_EVERY) {
            return;
        }
        let (door, refused) = (door.name(), std::mem::take(count));
        *said = Some(Instant::now());
        match full {
            Full::Connections => tracing::warn!(
                door, refused, %network,
                "connections are refused: as many are open as may be (limits.connections, and half of the open files that the \
                 system allows: LimitNOFILE)"
            ),
            Full::Strangers => tracing::warn!(
                door, refused, %network,
                "connections are closed, the oldest first: too many of this network have shown no credential \
                 (limits.unauthenticated_per_ip)"
            ),
        }
    }

    fn change(&mut self, door: Door, by: i64) {
        let count = self.taken.entry(door).or_default();
        *count = count.saturating_add_signed(by as i32);
        metrics::gauge!("kinora_connections", "door" => door.name()).set(*count);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.crowd.places();
        places.change(self.door, -1);
        if let Some(mates) = places.by_network.get_mut(&self.network) {
            mates.retain(|mate| !Arc::ptr_eq(&mate.known, &self.known));
            if mates.is_empty() {
                places.by_network.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(crowd: &Arc<Crowd>, limits: &Limits, door: Door, address: &str) -> Result<Place, Full> {
        crowd.enter(door, address.parse().expect("an address"), limits, Arc::default())
    }

    #[test]
    fn strangers_of_one_network_leave_room_for_others() {
        let crowd = Crowd::new(u32::MAX);
        let limits = Limits { unauthenticated_per_ip: 2, ..Limits::default() };
        let enter = |address: &str| enter(&crowd, &limits, Door::Http, address);
        let first = enter("192.0.2.1").expect("room");
        let second = enter("::ffff:192.0.2.200").expect("the same network, written in another way");
        let other = enter("198.51.100.1").expect("another network");
        first.known();
        let third = enter("192.0.2.3").expect("one of them is no stranger now");
        assert!(!second.displaced().is_cancelled());
        let fourth = enter("192.0.2.4").expect("the oldest stranger makes room");
        assert!(second.displaced().is_cancelled() && !first.displaced().is_cancelled());
        drop(second);
        let fifth = enter("192.0.2.5").expect("and the next");
        let displaced = [&first, &third, &fourth, &other].map(|place| place.displaced().is_cancelled());
        assert_eq!(displaced, [false, true, false, false]);
        let v6 = [enter("2001:db8:0:a01::1").expect("room"), enter("2001:db8:0:aff::2").expect("room")];
        let _sixth = enter("2001:db8:0:a77::3").expect("all of a /56");
        assert!(v6[0].displaced().is_cancelled() && !v6[1].displaced().is_cancelled());
        fourth.known();
        fifth.known();
        let limits = Limits { unauthenticated_per_ip: 0, ..Limits::default() };
        let refused = crowd.enter(Door::Http, "192.0.2.9".parse().expect("an address"), &limits, Arc::default());
        assert_eq!(refused.err(), Some(Full::Strangers), "those that are known make no room");
    }

    #[test]
    fn viewers_leave_a_quarter_to_cameras_and_all_leave_descriptors_to_the_store() {
        let crowd = Crowd::new(8);
        let limits = Limits { connections: 20_000, ..Limits::default() };
        let take = |door: Door, count: usize| -> Vec<Place> {
            (0..count).map_while(|_| enter(&crowd, &limits, door, "192.0.2.1").ok()).collect()
        };
        let viewers = take(Door::Http, 9);
        assert_eq!(viewers.len(), 6);
        let cameras = take(Door::Rtsp, 9);
        assert_eq!(cameras.len(), 2);
        drop(viewers);
        assert_eq!(take(Door::Rtsp, 9).len(), 6, "cameras may take all");
        drop(cameras);
        assert_eq!(crowd.count(), 0);
        assert_eq!([256, 1_024, 20_000, 524_288].map(connections_for), [128, 512, 15_904, 520_192]);
    }
}
