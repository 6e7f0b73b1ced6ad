//! Refused credentials: counted by door and reason, and said once a minute for each peer.
//!
//! A camera with an old secret knocks for ever and shows nobody that it does; a guesser knocks many times a second.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Refusal;

/// A peer is spoken of this often, for each door.
const EVERY: Duration = Duration::from_secs(60);
/// Most peers remembered; more in one minute are counted and not spoken of.
const PEERS_MAX: usize = 4_096;
/// Most notices that wait to be told.
const NOTICES_MAX: usize = 64;
/// Characters of what a peer asked for.
const ASKED_MAX: usize = 200;

/// A peer's credential was refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RefusalNotice {
    /// `http`, `rtsp`, `whip` or `whep`.
    pub door: &'static str,
    pub reason: &'static str,
    pub peer: IpAddr,
    /// What it asked for.
    pub asked: String,
    /// Refusals of this peer at this door since it was last spoken of.
    pub count: u64,
}

/// All refusals of this run.
#[derive(Default)]
pub(crate) struct Refusals {
    peers: Mutex<HashMap<(IpAddr, &'static str), Said>>,
    notices: Mutex<VecDeque<RefusalNotice>>,
}

struct Said {
    at: Instant,
    /// Refusals since.
    count: u64,
}

impl Refusals {
    /// Notes that a `door` refused what `peer` showed when it asked for `asked`.
    pub(crate) fn note(&self, door: &'static str, refusal: Refusal, peer: IpAddr, asked: &str, now: Instant) {
        let Some(reason) = reason(refusal) else { return };
        metrics::counter!("kinora_credentials_refused_total", "door" => door, "reason" => reason).increment(1);
        // Who shows none may be anybody who looks around: a browser, a client before it is asked.
        if refusal == Refusal::Missing {
            return;
        }
        let Some(count) = self.is_news(door, peer.to_canonical(), now) else { return };
        let asked: String = asked.chars().take(ASKED_MAX).collect();
        tracing::info!(%peer, door, reason, asked = %asked.escape_debug(), count, "a credential was refused");
        let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        if notices.len() == NOTICES_MAX {
            notices.pop_front();
        }
        notices.push_back(RefusalNotice { door, reason, peer, asked, count });
    }

    /// What is still to be told to those who listen for events.
    pub(crate) fn take(&self) -> Vec<RefusalNotice> {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }

    /// How often the peer was refused since it was last spoken of, when it is time to speak again.
    fn is_news(&self, door: &'static str, peer: IpAddr, now: Instant) -> Option<u64> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(said) = peers.get_mut(&(peer, door)) {
            said.count += 1;
            if now.saturating_duration_since(said.at) < EVERY {
                return None;
            }
            said.at = now;
            return Some(std::mem::take(&mut said.count));
        }
        if peers.len() >= PEERS_MAX {
            peers.retain(|_, said| now.saturating_duration_since(said.at) < EVERY);
            if peers.len() >= PEERS_MAX {
                return None;
            }
        }
        peers.insert((peer, door), Said { at: now, count: 0 });
        Some(1)
    }
}

/// None for what is no refusal of a credential.
fn reason(refusal: Refusal) -> Option<&'static str> {
    match refusal {
        Refusal::Missing => Some("missing"),
        Refusal::Wrong => Some("wrong"),
        Refusal::Forbidden => Some("forbidden"),
        Refusal::TooMany => Some("too_many"),
        Refusal::Stale => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_spoken_of_once_a_minute_and_door() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        let note = |door, second: u64, refusal| {
            let peer = "192.0.2.7".parse().expect("an address");
            refusals.note(door, refusal, peer, "/whip/gate", now + Duration::from_secs(second));
            refusals.take().into_iter().map(|notice| (notice.door, notice.reason, notice.count)).collect::<Vec<_>>()
        };
        assert_eq!(note("whip", 0, Refusal::Wrong), [("whip", "wrong", 1)]);
        assert_eq!(note("rtsp", 1, Refusal::Forbidden), [("rtsp", "forbidden", 1)]);
        for second in 1..60 {
            assert_eq!(note("whip", second, Refusal::Wrong), []);
        }
        assert_eq!(note("whip", 60, Refusal::TooMany), [("whip", "too_many", 60)]);
        assert_eq!(note("http", 61, Refusal::Missing), []);
        assert_eq!(note("http", 61, Refusal::Stale), []);
    }

    #[test]
    fn what_strangers_send_is_bounded() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        for n in 0..2 * PEERS_MAX as u32 {
            refusals.note("http", Refusal::Wrong, IpAddr::V4(n.into()), &"x".repeat(10_000), now);
        }
        assert_eq!(refusals.peers.lock().expect("whole").len(), PEERS_MAX);
        let notices = refusals.take();
        assert_eq!(notices.len(), NOTICES_MAX);
        assert!(notices.iter().all(|notice| notice.asked.len() == ASKED_MAX));
        // A minute later there is room again.
        refusals.note("http", Refusal::Wrong, IpAddr::V4(9.into()), "", now + EVERY);
        assert_eq!(refusals.take().len(), 1);
    }
}
