//! Everybody who is connected over TCP, over all doors: so many that the store keeps its files, cameras find room when
//! viewers crowd, and strangers of one network leave room for others.
//!
//! WebRTC's peers share one socket, and have limits of their own (`webrtc`).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

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

/// Why a connection is closed as soon as it comes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Full {
    /// As many are connected as may be.
    Connections,
    /// As many of its network are that have shown no credential.
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
    /// By network, whether each connection has shown a credential.
    by_network: HashMap<IpAddr, Vec<Arc<AtomicBool>>>,
    /// When it was last said that connections are refused, and how many were since.
    refused: HashMap<(Door, Full), (Option<Instant>, u64)>,
}

/// A connection's place; dropping it frees it.
pub(crate) struct Place {
    crowd: Arc<Crowd>,
    door: Door,
    network: IpAddr,
    known: Arc<AtomicBool>,
}

impl Place {
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
        if let Err(full) = places.look(door, network, limits.connections.min(self.most), limits.unauthenticated_per_ip)
        {
            places.refuse(door, full, network);
            return Err(full);
        }
        places.by_network.entry(network).or_default().push(known.clone());
        places.change(door, 1);
        Ok(Place { crowd: self.clone(), door, network, known })
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Places {
    fn look(&self, door: Door, network: IpAddr, most: u32, strangers_most: u32) -> Result<(), Full> {
        let taken: u32 = self.taken.values().sum();
        let of_door = self.taken.get(&door).copied().unwrap_or(0);
        let room = match door {
            Door::Rtsp => taken < most,
            Door::Http => taken < most && of_door < most - most / CAMERAS_SHARE,
        };
        if !room {
            return Err(Full::Connections);
        }
        let mates = self.by_network.get(&network).map_or(&[][..], Vec::as_slice);
        let strangers = mates.iter().filter(|known| !known.load(Ordering::Relaxed)).count();
        if strangers >= strangers_most as usize { Err(Full::Strangers) } else { Ok(()) }
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
                "connections are refused: too many of this network have shown no credential (limits.unauthenticated_per_ip)"
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
            mates.retain(|mate| !Arc::ptr_eq(mate, &self.known));
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
        let _second = enter("::ffff:192.0.2.200").expect("the same network, written in another way");
        assert_eq!(enter("192.0.2.3").err(), Some(Full::Strangers));
        let _other = enter("198.51.100.1").expect("another network");
        first.known();
        let _third = enter("192.0.2.3").expect("one of them is no stranger now");
        let _v6 = [enter("2001:db8:0:a01::1").expect("room"), enter("2001:db8:0:aff::2").expect("room")];
        assert_eq!(enter("2001:db8:0:a77::3").err(), Some(Full::Strangers), "all of a /56");
        assert_eq!(crowd.count(), 6);
        drop(first);
        assert_eq!(crowd.count(), 5);
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
