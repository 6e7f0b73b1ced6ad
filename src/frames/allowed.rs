//! The times that a credential may see of a stream.
//!
//! Of what lies outside nothing is told but that it does: no picture, and no time of one. Which requests that concerns is said
//! from the request alone where that can be; the picture that an instant means is judged when it is found.

use media::ProducerTime;

use super::{FramesError, Which};

/// An instant so little before a picture means that picture.
pub(super) const ROUNDING_US: i64 = 1_000;

/// A range of producer times; none is all of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowed(pub Option<(ProducerTime, ProducerTime)>);

impl Allowed {
    pub fn holds(self, time: ProducerTime) -> bool {
        self.0.is_none_or(|(first, end)| first <= time && time < end)
    }

    /// Refuses what asks for times outside: an instant there, or a range that lies there as a whole.
    ///
    /// # Errors
    /// [`FramesError::OutsideRange`], of all pictures of the request.
    pub fn check(self, which: &Which) -> Result<(), FramesError> {
        let Some((first, end)) = self.0 else { return Ok(()) };
        let is_outside = match which {
            // The instant may be that of the first picture, cut off to milliseconds.
            Which::At(instants, _) => instants.iter().any(|at| at.plus_micros(ROUNDING_US) < first || *at >= end),
            // Nobody knows before it is looked up.
            Which::Latest => false,
            Which::Every { from, to, .. } | Which::All { from, to } | Which::Keys { from, to } => {
                from < to && *from.max(&first) >= *to.min(&end)
            }
        };
        if is_outside { Err(FramesError::OutsideRange) } else { Ok(()) }
    }

    /// What of a request can be seen, and how many of its steps come before that.
    pub fn narrow(self, which: Which) -> (Which, u64) {
        let Some((first, end)) = self.0 else { return (which, 0) };
        match which {
            Which::All { from, to } => (Which::All { from: from.max(first), to: to.min(end) }, 0),
            Which::Keys { from, to } => (Which::Keys { from: from.max(first), to: to.min(end) }, 0),
            Which::Every { from, to, step_us, pick } => {
                // Where the steps are does not depend on who asks.
                let before_us = first.micros_since(from).max(0).unsigned_abs();
                let steps = before_us.div_ceil(step_us.max(1).unsigned_abs());
                (Which::Every { from, to: to.min(end), step_us, pick }, steps)
            }
            Which::At(..) | Which::Latest => (which, 0),
        }
    }

    /// The error without the times that lie outside.
    pub fn tell(self, error: FramesError) -> FramesError {
        let seen = |time: Option<ProducerTime>| time.filter(|time| self.holds(*time));
        match error {
            FramesError::NoMedia { asked, before, after } => {
                FramesError::NoMedia { asked, before: seen(before), after: seen(after) }
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Pick;
    use super::*;

    const SECOND_US: i64 = 1_000_000;

    fn time(seconds: i64) -> ProducerTime {
        ProducerTime::from_micros(seconds * SECOND_US)
    }

    fn is_refused(which: &Which) -> bool {
        Allowed(Some((time(10), time(20)))).check(which).is_err()
    }

    #[test]
    fn what_is_asked_for_outside_is_refused_before_it_is_looked_up() {
        let at = |instants: &[ProducerTime]| Which::At(instants.into(), Pick::Next);
        assert!(!is_refused(&at(&[time(10), time(19)])));
        assert!(is_refused(&at(&[time(10), time(20)])), "one of several");
        assert!(is_refused(&at(&[time(9), time(10)])));
        assert!(!is_refused(&at(&[time(10).plus_micros(-999)])), "the first picture's time in milliseconds");
        assert!(!is_refused(&Which::Latest));
        let all = |from, to| Which::All { from: time(from), to: time(to) };
        assert!(!is_refused(&all(0, 11)) && !is_refused(&all(19, 99)) && !is_refused(&all(0, 99)));
        assert!(is_refused(&all(0, 10)) && is_refused(&all(20, 99)));
        assert!(!is_refused(&all(30, 30)), "nothing is asked for");
        assert!(Allowed(None).check(&at(&[time(0)])).is_ok());
    }

    #[test]
    fn steps_of_a_range_stay_where_they_are() {
        let every = |to| Which::Every { from: time(0), to: time(to), step_us: 3 * SECOND_US, pick: Pick::Shown };
        let allowed = Allowed(Some((time(10), time(20))));
        assert_eq!(allowed.narrow(every(99)), (every(20), 4), "12 s is the first of them");
        assert_eq!(allowed.narrow(every(15)), (every(15), 4));
        let open = Allowed(Some((ProducerTime::from_micros(i64::MIN), time(20))));
        assert_eq!(open.narrow(every(99)), (every(20), 0));
    }

    #[test]
    fn times_of_neighbours_outside_are_not_told() {
        let error = FramesError::NoMedia { asked: Some(time(15)), before: Some(time(9)), after: Some(time(16)) };
        let told = Allowed(Some((time(10), time(20)))).tell(error.clone());
        assert!(matches!(told, FramesError::NoMedia { before: None, after: Some(after), .. } if after == time(16)));
        let told = Allowed(None).tell(error);
        assert!(matches!(told, FramesError::NoMedia { before: Some(_), after: Some(_), .. }));
    }
}
