//! How many connections, in all and from one address without a credential.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts of connections.
#[derive(Clone, Default)]
pub(super) struct Limits(Arc<Mutex<Counts>>);

#[derive(Default)]
struct Counts {
    connections: usize,
    /// Those without a credential, by address.
    strangers: HashMap<IpAddr, usize>,
}

/// A connection's place in the counts, given back when dropped.
pub(super) struct Slot {
    limits: Limits,
    stranger: Option<IpAddr>,
}

impl Limits {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection from `address` when there are fewer than `connections` in all, and fewer than
    /// `strangers` without a credential from there.
    pub(super) fn take(&self, address: IpAddr, connections: usize, strangers: usize) -> Option<Slot> {
        let mut counts = self.counts();
        let from_there = counts.strangers.get(&address).copied().unwrap_or(0);
        if counts.connections >= connections || from_there >= strangers {
            return None;
        }
        counts.connections += 1;
        counts.strangers.insert(address, from_there + 1);
        Some(Slot { limits: self.clone(), stranger: Some(address) })
    }
}

impl Slot {
    /// The connection has shown a credential: it no longer counts as a stranger.
    pub(super) fn known(&mut self) {
        let Some(address) = self.stranger.take() else { return };
        let mut counts = self.limits.counts();
        if let Some(count) = counts.strangers.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                counts.strangers.remove(&address);
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.known();
        self.limits.counts().connections -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_counted_until_known_or_gone() {
        let limits = Limits::default();
        let take = |address: &str| limits.take(address.parse().unwrap(), 10, 2);
        let mut first = take("192.0.2.1").expect("room");
        let second = take("192.0.2.1").expect("room");
        assert!(take("192.0.2.1").is_none());
        assert!(take("192.0.2.2").is_some());
        first.known();
        let third = take("192.0.2.1").expect("room");
        assert!(take("192.0.2.1").is_none());
        drop((first, second, third));
        assert!(limits.counts().strangers.is_empty());
        assert_eq!(limits.counts().connections, 0);
    }

    #[test]
    fn connections_are_counted_in_all() {
        let limits = Limits::default();
        let take = |address: &str, most: usize| limits.take(address.parse().unwrap(), most, 9);
        let slot = take("192.0.2.1", 1).expect("room");
        assert!(take("192.0.2.2", 1).is_none());
        assert!(take("192.0.2.2", 2).is_some(), "a limit may be raised meanwhile");
        drop(slot);
        assert!(take("192.0.2.2", 1).is_some());
    }
}
