//! Publishers that lost the seat to another: while that one sends, they do not get it back by coming again and again. Two
//! that reconnect for ever would otherwise take it from each other for ever, and neither would be recorded.
//!
//! Pure: time comes as an argument.

use std::time::{Duration, Instant};

use super::publisher::PublisherInfo;

/// Who was displaced is kept out until it has not tried for so long: longer than any client waits before it tries again.
const QUIET: Duration = Duration::from_secs(60);
/// A publisher that sent something so lately is there; one that did not is taken from at once, whoever comes.
const THERE: Duration = Duration::from_secs(5);
/// Most that are remembered, the latest.
const MAX: usize = 8;

/// Tells one publisher from another: by its credential, and the address it comes from. One that comes back to a session of its
/// own that it has lost is the same.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Who {
    credential: String,
    address: String,
}

impl Who {
    fn of(info: &PublisherInfo) -> Who {
        let address = info.peer.rsplit_once(':').map_or(info.peer.as_str(), |(address, _port)| address);
        Who { credential: info.credential.clone(), address: address.to_owned() }
    }
}

/// Who lost the seat of one stream lately, and when it last tried.
#[derive(Default)]
pub(super) struct Displaced(Vec<(Who, Instant)>);

impl Displaced {
    /// Whether `newcomer` is kept out from taking the seat of `holder`, which last sent at `heard` (none: it is about to, or is
    /// held back by the disk).
    pub fn keeps_out(
        &mut self,
        newcomer: &PublisherInfo,
        holder: &PublisherInfo,
        heard: Option<Instant>,
        now: Instant,
    ) -> bool {
        self.0.retain(|(_, tried)| now.saturating_duration_since(*tried) < QUIET);
        let newcomer = Who::of(newcomer);
        let is_there = heard.is_none_or(|heard| now.saturating_duration_since(heard) < THERE);
        if newcomer == Who::of(holder) || !is_there {
            return false;
        }
        let Some((_, tried)) = self.0.iter_mut().find(|(who, _)| *who == newcomer) else { return false };
        *tried = now;
        true
    }

    /// `newcomer` took the seat from `holder`.
    pub fn note(&mut self, newcomer: &PublisherInfo, holder: &PublisherInfo, now: Instant) {
        let (newcomer, holder) = (Who::of(newcomer), Who::of(holder));
        self.0.retain(|(who, _)| *who != newcomer && *who != holder);
        if newcomer == holder {
            return;
        }
        if self.0.len() >= MAX {
            self.0.remove(0);
        }
        self.0.push((holder, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(credential: &str, peer: &str) -> PublisherInfo {
        let (credential, peer) = (credential.to_owned(), peer.to_owned());
        PublisherInfo { credential, protocol: "rtsp+tcp", peer, can_wait: true, sends_on_request: false }
    }

    #[test]
    fn the_displaced_keeps_off_until_it_is_quiet_or_the_other_is() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let (a, b) = (who("secret:1", "192.0.2.1:1"), who("secret:2", "192.0.2.2:1"));
        let mut displaced = Displaced::default();
        assert!(!displaced.keeps_out(&b, &a, Some(at(0)), at(0)), "nobody was displaced yet");
        displaced.note(&b, &a, at(0));
        // It tries again and again, from other ports.
        for second in (3..200).step_by(30) {
            let again = who("secret:1", &format!("192.0.2.1:{second}"));
            assert!(displaced.keeps_out(&again, &b, Some(at(second)), at(second)), "after {second} s");
        }
        assert!(displaced.keeps_out(&a, &b, None, at(190)), "one that is held back is there");
        assert!(!displaced.keeps_out(&a, &b, Some(at(190)), at(195)), "the other is silent");
        assert!(displaced.keeps_out(&a, &b, Some(at(195)), at(195)));
        assert!(!displaced.keeps_out(&a, &b, Some(at(255)), at(255)), "it was quiet for a minute");
    }

    #[test]
    fn whoever_comes_back_to_a_session_of_its_own_takes_it() {
        let now = Instant::now();
        let (old, new) = (who("secret:1", "192.0.2.1:1"), who("secret:1", "192.0.2.1:2"));
        let mut displaced = Displaced::default();
        for _ in 0..3 {
            assert!(!displaced.keeps_out(&new, &old, Some(now), now));
            displaced.note(&new, &old, now);
        }
        // The same credential from two places is two publishers.
        let other = who("secret:1", "[2001:db8::1]:9");
        assert!(!displaced.keeps_out(&other, &new, Some(now), now));
        displaced.note(&other, &new, now);
        assert!(displaced.keeps_out(&new, &other, Some(now), now));
    }

    #[test]
    fn the_displaced_are_counted() {
        let now = Instant::now();
        let all: Vec<_> = (0..20).map(|n| who("secret:1", &format!("192.0.2.{n}:1"))).collect();
        let mut displaced = Displaced::default();
        for pair in all.windows(2) {
            displaced.note(&pair[1], &pair[0], now);
        }
        let out = all.iter().filter(|who| displaced.keeps_out(who, &all[19], Some(now), now)).count();
        assert_eq!(out, MAX);
    }
}
