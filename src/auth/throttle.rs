//! Failed attempts, counted per (what was tried, where from): never per what was tried alone, or a stranger could lock a
//! camera out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failures in a row that are answered as such ...
const BURST: u32 = 5;
/// ... and the time after which one more is.
const REFILL: Duration = Duration::from_secs(12);
/// Most pairs remembered.
const PAIRS_MAX: usize = 8_192;

/// Token buckets of failures.
#[derive(Default)]
pub(super) struct Throttle(Mutex<HashMap<(u64, IpAddr), Bucket>>);

/// A bucket that leaks one failure each [`REFILL`].
struct Bucket {
    /// When it will be empty again.
    empty_at: Instant,
}

impl Throttle {
    /// Notes a failure; true when there have been too many of its kind.
    ///
    /// Loopback is never throttled: behind a proxy on this machine it is everybody at once.
    pub(super) fn fail(&self, tried: u64, from: IpAddr, now: Instant) -> bool {
        let from = network(from);
        if from.is_loopback() {
            return false;
        }
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= PAIRS_MAX && !buckets.contains_key(&(tried, from)) {
            buckets.retain(|_, bucket| bucket.empty_at > now);
            if buckets.len() >= PAIRS_MAX {
                return true;
            }
        }
        let bucket = buckets.entry((tried, from)).or_insert(Bucket { empty_at: now });
        let empty_at = bucket.empty_at.max(now) + REFILL;
        if empty_at.duration_since(now) > REFILL * BURST {
            return true;
        }
        bucket.empty_at = empty_at;
        false
    }
}

/// The network that an address stands for: /24 of IPv4, /56 of IPv6.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        loopback if loopback.is_loopback() => loopback,
        IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() & !0xff).into()),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !((1 << 72) - 1)).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn five_failures_are_answered_and_then_five_a_minute() {
        let throttle = Throttle::default();
        let start = Instant::now();
        let camera = address("192.0.2.7");
        let answered = |from: u64, to: u64| {
            (from..to).filter(|second| !throttle.fail(1, camera, start + Duration::from_secs(*second))).count()
        };
        assert_eq!(answered(0, 1), 1);
        assert_eq!(answered(1, 11), 4);
        assert_eq!(answered(11, 61), 5);
        assert_eq!(answered(61, 121), 5);
        assert!(throttle.fail(1, address("192.0.2.250"), start + Duration::from_secs(120)), "same network");
        assert!(
            throttle.fail(1, address("::ffff:192.0.2.9"), start + Duration::from_secs(120)),
            "same network, mapped"
        );
        assert!(!throttle.fail(1, address("198.51.100.7"), start), "another source");
        assert!(!throttle.fail(2, camera, start), "another name");
        assert_eq!(answered(1_000, 1_001), 1);
    }

    #[test]
    fn memory_is_bounded_and_time_frees_it() {
        let throttle = Throttle::default();
        let start = Instant::now();
        let full =
            (0..2 * PAIRS_MAX as u64).filter(|tried| throttle.fail(*tried, address("2001:db8::1"), start)).count();
        assert_eq!(full, PAIRS_MAX);
        assert_eq!(throttle.0.lock().unwrap().len(), PAIRS_MAX);
        assert!(!throttle.fail(9_999_999, address("2001:db8::1"), start + REFILL * 2));
        assert_eq!(throttle.0.lock().unwrap().len(), 1);
    }

    #[test]
    fn loopback_is_not_throttled() {
        let throttle = Throttle::default();
        assert!((0..50).all(|_| !throttle.fail(1, address("::1"), Instant::now())));
        assert!((0..50).all(|_| !throttle.fail(1, address("::ffff:127.0.0.1"), Instant::now())));
    }
}
