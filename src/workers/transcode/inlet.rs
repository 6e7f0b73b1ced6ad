//! Units that wait for a process, and which of them are left out when it is behind.

use std::collections::VecDeque;
use std::sync::Arc;

use media::{AccessUnit, RandomAccess};

use super::Target;

/// Most frames of sound that wait: half a second of AAC at 48 kHz. Who listens is that much late at most.
const SOUND_UNITS_MAX: usize = 24;
/// Most pictures that wait, and most bytes of them.
const PICTURES_MAX: usize = 90;
const BYTES_MAX: usize = 16 << 20;

/// Who can wait puts in no more than this.
#[cfg(test)]
const ROOM: usize = 8;

/// What is given to the process next.
pub(super) enum Next {
    Unit {
        unit: Arc<AccessUnit>,
        /// Something before it is missing.
        after_gap: bool,
    },
    /// There will be no more units.
    End,
}

/// The queue.
pub(super) struct Inlet {
    target: Target,
    queue: VecDeque<Arc<AccessUnit>>,
    bytes: usize,
    /// Something was left out before the first that waits.
    gap: bool,
    /// Pictures are left out until decoding can start.
    needs_start: bool,
    wants_key: bool,
    ended: bool,
}

impl Inlet {
    pub fn new(target: Target) -> Inlet {
        Inlet {
            target,
            queue: VecDeque::new(),
            bytes: 0,
            gap: false,
            needs_start: target == Target::H264,
            wants_key: false,
            ended: false,
        }
    }

    /// Appends a unit; says how many were left out.
    pub fn push(&mut self, unit: Arc<AccessUnit>) -> u64 {
        if self.needs_start && unit.random_access == RandomAccess::No {
            return 1;
        }
        self.needs_start = false;
        self.bytes += unit.data.len();
        self.queue.push_back(unit);
        let most = if self.target == Target::Opus { SOUND_UNITS_MAX } else { PICTURES_MAX };
        let mut left_out = 0;
        while self.queue.len() > most || self.bytes > BYTES_MAX {
            left_out += self.leave_out();
        }
        left_out
    }

    /// Leaves out the oldest unit, of pictures all up to the next at which decoding can start.
    fn leave_out(&mut self) -> u64 {
        let mut left_out = 0;
        while let Some(unit) = self.queue.pop_front() {
            self.bytes -= unit.data.len();
            self.gap = true;
            left_out += 1;
            let starts = |unit: &Arc<AccessUnit>| unit.random_access != RandomAccess::No;
            if self.target == Target::Opus || self.queue.front().is_some_and(starts) {
                return left_out;
            }
        }
        self.needs_start = true;
        left_out
    }

    /// The process is another, which knows nothing of what came before. Says how many units were left out.
    pub fn begin_anew(&mut self) -> u64 {
        self.gap = true;
        if self.target == Target::Opus {
            return 0;
        }
        match self.queue.front() {
            Some(unit) if unit.random_access != RandomAccess::No => 0,
            Some(_) => self.leave_out(),
            None => {
                self.needs_start = true;
                0
            }
        }
    }

    pub fn end(&mut self) {
        self.ended = true;
    }

    pub fn want_key(&mut self) {
        self.wants_key = true;
    }

    /// Whether somebody wanted a key frame since this was asked last.
    pub fn take_key_wish(&mut self) -> bool {
        std::mem::take(&mut self.wants_key)
    }

    /// Whether one more unit costs none that waits.
    #[cfg(test)]
    pub fn has_room(&self) -> bool {
        self.queue.len() < ROOM && self.bytes < BYTES_MAX / 2
    }

    /// The next unit; none when it is not there yet.
    pub fn next(&mut self) -> Option<Next> {
        let Some(unit) = self.queue.pop_front() else { return self.ended.then_some(Next::End) };
        self.bytes -= unit.data.len();
        let after_gap = std::mem::take(&mut self.gap) || unit.loss_before > 0;
        Some(Next::Unit { unit, after_gap })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use media::{ServerTime, TrackId};

    use super::*;

    fn unit(pts: i64, random_access: RandomAccess, bytes: usize) -> Arc<AccessUnit> {
        Arc::new(AccessUnit {
            track: TrackId(1),
            pts,
            duration: None,
            random_access,
            disposable: false,
            loss_before: 0,
            arrival: ServerTime::default(),
            data: Bytes::from(vec![0; bytes]),
        })
    }

    fn taken(inlet: &mut Inlet) -> Vec<(i64, bool)> {
        std::iter::from_fn(|| match inlet.next() {
            Some(Next::Unit { unit, after_gap }) => Some((unit.pts, after_gap)),
            _ => None,
        })
        .collect()
    }

    #[test]
    fn of_sound_the_oldest_is_left_out() {
        let mut inlet = Inlet::new(Target::Opus);
        let most = SOUND_UNITS_MAX as i64;
        let left_out: u64 = (0..most + 2).map(|pts| inlet.push(unit(pts, RandomAccess::Closed, 10))).sum();
        assert_eq!(left_out, 2);
        let taken = taken(&mut inlet);
        assert_eq!(taken[..2], [(2, true), (3, false)]);
        assert_eq!((taken.len(), inlet.bytes), (SOUND_UNITS_MAX, 0));
    }

    #[test]
    fn of_pictures_all_are_left_out_up_to_a_key_frame() {
        let mut inlet = Inlet::new(Target::H264);
        assert_eq!(inlet.push(unit(0, RandomAccess::No, 1)), 1, "decoding cannot start there");
        let kind = |pts: i64| if pts % 50 == 0 { RandomAccess::Open } else { RandomAccess::No };
        let left_out: u64 = (50..50 + PICTURES_MAX as i64 + 1).map(|pts| inlet.push(unit(pts, kind(pts), 1))).sum();
        assert_eq!(left_out, 50);
        assert_eq!(taken(&mut inlet)[..2], [(100, true), (101, false)]);
    }

    #[test]
    fn without_a_key_frame_pictures_wait_for_the_next() {
        let mut inlet = Inlet::new(Target::H264);
        inlet.push(unit(0, RandomAccess::Closed, BYTES_MAX));
        assert_eq!(inlet.push(unit(1, RandomAccess::No, 1)), 2, "too many bytes");
        assert_eq!(inlet.push(unit(2, RandomAccess::No, 1)), 1);
        assert_eq!(inlet.push(unit(3, RandomAccess::Closed, 1)), 0);
        assert_eq!(taken(&mut inlet), [(3, true)]);
    }

    #[test]
    fn another_process_begins_where_decoding_can_start() {
        let mut inlet = Inlet::new(Target::H264);
        for (pts, kind) in [(0, RandomAccess::Closed), (1, RandomAccess::No), (2, RandomAccess::Closed)] {
            inlet.push(unit(pts, kind, 1));
        }
        assert_eq!(inlet.begin_anew(), 0, "the first that waits is one");
        assert!(inlet.next().is_some());
        assert_eq!(inlet.begin_anew(), 1);
        assert_eq!(taken(&mut inlet), [(2, true)]);
        assert_eq!(inlet.begin_anew(), 0);
        assert_eq!(inlet.push(unit(3, RandomAccess::No, 1)), 1);
    }

    #[test]
    fn the_end_comes_after_what_waits() {
        let mut inlet = Inlet::new(Target::Opus);
        inlet.push(unit(7, RandomAccess::Closed, 1));
        assert!(inlet.next().is_some() && inlet.next().is_none());
        inlet.push(unit(8, RandomAccess::Closed, 1));
        inlet.end();
        assert!(matches!(inlet.next(), Some(Next::Unit { .. })));
        assert!(matches!(inlet.next(), Some(Next::End)));
    }
}
