//! What a publisher sent and is not stored, and when somebody should be told.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use media::{Dropped, StreamId};

/// What a session's door says that came since it began, and what of it did not become units.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Account {
    /// Packets taken.
    pub packets: u64,
    /// Packets that never came.
    pub lost: u64,
    pub dropped: Dropped,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// Media for so long without a stored unit is worth a warning.
const PATIENCE: Duration = Duration::from_secs(5);
/// Later warnings of the same session.
const AGAIN: Duration = Duration::from_secs(600);
/// Most notices that wait to be told.
const NOTICES_MAX: usize = 256;
/// Most notes that are kept, and characters of each.
const NOTES_MAX: usize = 16;
const NOTE_CHARS_MAX: usize = 300;

/// The accounts of one session.
#[derive(Debug)]
pub(super) struct Ledger {
    account: Account,
    /// What was dropped behind the door: by the fragmenter, and because the disk was behind.
    own: Dropped,
    /// Units that are stored, or will be.
    taken: u64,
    /// As they were at the last account.
    taken_before: u64,
    accounted: Instant,
    /// Media comes and none of it is stored, since then.
    unstored_since: Option<Instant>,
    /// What metrics have been told of.
    counted: Dropped,
    /// When a warning was given, and what had been dropped then.
    warned: Option<(Instant, Dropped)>,
    began: Instant,
}

/// Something is not stored, and it is time to say so.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct NotStored {
    /// None of the media is.
    pub nothing: bool,
    /// What was dropped in the whole session.
    pub dropped: Dropped,
    pub notes: Vec<String>,
}

/// What an account changed.
#[derive(Debug, Default)]
pub(super) struct News {
    pub packets: u64,
    pub lost: u64,
    pub dropped: Dropped,
    pub warning: Option<NotStored>,
}

impl Ledger {
    pub fn new(now: Instant) -> Ledger {
        Ledger {
            account: Account::default(),
            own: Dropped::default(),
            taken: 0,
            taken_before: 0,
            accounted: now,
            unstored_since: None,
            counted: Dropped::default(),
            warned: None,
            began: now,
        }
    }

    /// A unit came this far; `dropped` is all that was dropped behind the door so far.
    pub fn unit(&mut self, is_taken: bool, dropped: Dropped) {
        self.taken += u64::from(is_taken);
        self.own = dropped;
    }

    /// Takes an account of the session.
    pub fn account(&mut self, mut account: Account, now: Instant) -> News {
        account.notes.truncate(NOTES_MAX);
        for note in &mut account.notes {
            if let Some((end, _)) = note.char_indices().nth(NOTE_CHARS_MAX) {
                note.truncate(end);
            }
        }
        let before = (self.account.packets, self.account.lost);
        let came = account.packets > before.0 || account.dropped.total() > self.account.dropped.total();
        self.account = account;
        if self.taken > self.taken_before {
            self.unstored_since = None;
        } else if came {
            self.unstored_since.get_or_insert(self.accounted);
        }
        self.taken_before = self.taken;
        self.accounted = now;
        let dropped = self.dropped();
        let counted = std::mem::replace(&mut self.counted, dropped);
        News {
            packets: self.account.packets.saturating_sub(before.0),
            lost: self.account.lost.saturating_sub(before.1),
            dropped: dropped.since(&counted),
            warning: self.warning(now),
        }
    }

    /// What was dropped in the session.
    pub fn dropped(&self) -> Dropped {
        let mut dropped = self.account.dropped;
        dropped.add(&self.own);
        dropped
    }

    /// What a person should know of it, in sentences.
    pub fn notes(&self, now: Instant) -> Vec<String> {
        let mut notes = self.account.notes.clone();
        let dropped = self.dropped();
        if self.is_nothing_stored(now) {
            let why = if dropped.total() == 0 { "no whole frame has come".to_owned() } else { dropped.to_string() };
            notes.push(format!("media arrives and nothing of it is stored: {why}"));
        } else if unusual(&dropped).total() > 0 {
            notes.push(format!("some of what arrives is not stored: {}", unusual(&dropped)));
        }
        notes
    }

    fn is_nothing_stored(&self, now: Instant) -> bool {
        self.unstored_since.is_some_and(|since| now.saturating_duration_since(since) >= PATIENCE)
    }

    fn warning(&mut self, now: Instant) -> Option<NotStored> {
        let nothing = self.is_nothing_stored(now);
        let dropped = self.dropped();
        let is_early = now.saturating_duration_since(self.began) < PATIENCE;
        let said = self.warned.as_ref().is_some_and(|(at, _)| now.saturating_duration_since(*at) < AGAIN);
        if said || (is_early && !nothing) {
            return None;
        }
        let before = self.warned.map_or_else(Dropped::default, |(_, dropped)| dropped);
        let grew = unusual(&dropped.since(&before)).total() > 0;
        let is_noted = self.warned.is_none() && !self.account.notes.is_empty();
        if !(nothing || grew || is_noted) {
            return None;
        }
        self.warned = Some((now, dropped));
        Some(NotStored { nothing, dropped, notes: self.account.notes.clone() })
    }
}

/// Without what happens in every good session.
fn unusual(dropped: &Dropped) -> Dropped {
    let mut unusual = Dropped::default();
    for (reason, count) in dropped.iter().filter(|(reason, _)| !reason.is_usual()) {
        unusual.count(reason, count);
    }
    unusual
}

/// What is not stored of streams, until somebody tells it to those who listen. Bounded: the oldest go.
#[derive(Debug, Default)]
pub(super) struct Notices(Mutex<VecDeque<(StreamId, NotStored)>>);

impl Notices {
    pub fn put(&self, stream: StreamId, what: NotStored) {
        let mut notices = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if notices.len() == NOTICES_MAX {
            notices.pop_front();
        }
        notices.push_back((stream, what));
    }

    pub fn take(&self) -> Vec<(StreamId, NotStored)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }
}

#[cfg(test)]
mod tests {
    use media::DropReason;

    use super::*;

    fn account(packets: u64, reason: DropReason, count: u64) -> Account {
        let mut account = Account { packets, ..Account::default() };
        account.dropped.count(reason, count);
        account
    }

    /// Accounts once a second; the seconds at which somebody is warned.
    fn warnings(seconds: u64, taken: impl Fn(u64) -> bool, account: impl Fn(u64) -> Account) -> Vec<(u64, bool)> {
        let now = Instant::now();
        let mut ledger = Ledger::new(now);
        let mut warned = Vec::new();
        for second in 1..=seconds {
            ledger.unit(taken(second), Dropped::default());
            let news = ledger.account(account(second), now + Duration::from_secs(second));
            warned.extend(news.warning.map(|warning| (second, warning.nothing)));
        }
        warned
    }

    #[test]
    fn media_of_which_nothing_is_stored_is_said_after_five_seconds_and_then_rarely() {
        let wrong = |second| account(0, DropReason::MalformedPacket, second * 30);
        assert_eq!(warnings(1_300, |_| false, wrong), [(5, true), (605, true), (1_205, true)]);
        // Packets that become nothing, and nobody knows why.
        let silent = |second| account(second * 30, DropReason::LatePacket, 0);
        assert_eq!(warnings(30, |_| false, silent), [(5, true)]);
        // Later in a session that was good.
        assert_eq!(warnings(30, |second| second <= 10, silent), [(15, true)]);
    }

    #[test]
    fn a_good_session_is_quiet_and_one_that_loses_some_is_not() {
        let usual = |second| account(second * 30, DropReason::BeforeRandomAccess, second);
        assert_eq!(warnings(1_300, |_| true, usual), []);
        let some = |second| account(second * 30, DropReason::BrokenUnit, second / 7);
        assert_eq!(warnings(700, |_| true, some), [(7, false), (607, false)]);
        // Nobody sends: that is another matter.
        assert_eq!(warnings(30, |_| false, |_| account(0, DropReason::BadTime, 0)), []);
    }

    #[test]
    fn notes_name_what_is_dropped_within_bounds() {
        let now = Instant::now();
        let mut ledger = Ledger::new(now);
        let mut account = account(1, DropReason::MalformedPacket, 3);
        account.notes = vec!["\u{e9}".repeat(1_000); 40];
        let news = ledger.account(account.clone(), now);
        assert_eq!((news.packets, news.dropped.total()), (1, 3));
        assert_eq!(ledger.account(account, now).dropped.total(), 0);
        let notes = ledger.notes(now + PATIENCE);
        assert_eq!(notes.len(), NOTES_MAX + 1);
        assert!(notes.iter().all(|note| note.chars().count() <= NOTE_CHARS_MAX));
        assert_eq!(notes[NOTES_MAX], "media arrives and nothing of it is stored: 3 malformed packets");
    }
}
