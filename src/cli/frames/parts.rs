//! What is fetched by one request.

use serde::{Deserialize, Serialize};

use super::ask::{Every, Range, short};

/// Instants of one request: their times are in its head, of which a server reads 16 KiB.
const INSTANTS_MAX: usize = 200;
/// Parts of a range; each is a line of the journal.
const PARTS_MAX: i64 = 1_000;
/// A part starts amid pictures that depend on others: shorter ones would decode much twice.
const PART_US_MIN: i64 = 10_000_000;
const PART_US_MAX: i64 = 600_000_000;

/// What one request asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Part {
    Latest,
    /// In time order.
    At(Vec<i64>),
    Range {
        number: usize,
        stretch: Stretch,
    },
}

/// A part of a range, and how far it is fetched.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Stretch {
    pub(super) from_us: i64,
    pub(super) to_us: i64,
    pub(super) last: Option<Taken>,
    /// The last picture was here, taken or missing: of the latter other stretches tell.
    #[serde(default)]
    pub(super) passed_us: Option<i64>,
    /// It is of pictures that were missing when they were asked for before.
    #[serde(default)]
    pub(super) again: bool,
}

/// A picture that is there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Taken {
    pub(super) time_us: i64,
    pub(super) file: String,
}

impl Stretch {
    pub(super) fn new(from_us: i64, to_us: i64) -> Stretch {
        Stretch { from_us, to_us, last: None, passed_us: None, again: false }
    }

    /// Nothing up to there is asked for any more.
    pub(super) fn pass(&mut self, at_us: i64) {
        self.passed_us = self.passed_us.max(Some(at_us));
    }

    /// How far it is.
    pub(super) fn at_us(&self) -> Option<i64> {
        self.last.as_ref().map(|last| last.time_us).max(self.passed_us)
    }

    /// Where to go on: behind the last picture, taken or missing, on the range's own steps.
    pub(super) fn rest_us(&self, range: &Range) -> i64 {
        let Some(at_us) = self.at_us() else { return self.from_us };
        let next = match range.every {
            Every::All | Every::Key => at_us.saturating_add(1),
            Every::Step(step_us) => {
                let steps = at_us.saturating_sub(range.from_us).div_euclid(step_us).saturating_add(1);
                range.from_us.saturating_add(steps.saturating_mul(step_us))
            }
        };
        next.max(self.from_us)
    }
}

impl Part {
    /// The parameters that say which; none when nothing is left of it.
    pub(super) fn query(&self, range: Option<&Range>) -> Option<String> {
        match (self, range) {
            (Part::Latest, _) => Some("at=latest".to_owned()),
            (Part::At(instants), _) => {
                let instants: Vec<String> = instants.iter().map(|at| short(*at)).collect();
                (!instants.is_empty()).then(|| format!("at={}", instants.join(",")))
            }
            (Part::Range { stretch, .. }, Some(range)) => {
                let from_us = stretch.rest_us(range);
                let every = match range.every {
                    Every::All => String::new(),
                    Every::Key => "&every=key".to_owned(),
                    Every::Step(step_us) => format!("&every={step_us}us"),
                };
                let times = || format!("from={}&to={}{every}", short(from_us), short(stretch.to_us));
                (from_us < stretch.to_us).then(times)
            }
            (Part::Range { .. }, None) => None,
        }
    }
}

/// Instants in so many parts, and more if those were too long.
pub(super) fn of_instants(instants: &[i64], connections: usize) -> Vec<Part> {
    let each = instants.len().div_ceil(connections.max(1)).clamp(1, INSTANTS_MAX);
    instants.chunks(each).map(|part| Part::At(part.to_vec())).collect()
}

/// A range in stretches, cut where something is `recorded`; the first and the last reach to its ends.
pub(super) fn of_range(range: &Range, recorded: Option<(i64, i64)>, connections: usize) -> Vec<Stretch> {
    let (first_us, last_us) = recorded.unwrap_or((range.from_us, range.from_us));
    let (first_us, last_us) = (first_us.max(range.from_us), last_us.min(range.to_us));
    let span_us = last_us.saturating_sub(first_us).max(0);
    let step_us = match range.every {
        Every::Step(step_us) => step_us,
        Every::All | Every::Key => 1,
    };
    // Four parts a connection, so that one that is slow does not keep the others waiting at the end.
    let share_us = span_us / (4 * connections.max(1) as i64);
    let part_us = share_us.clamp(PART_US_MIN, PART_US_MAX).max(span_us / PARTS_MAX + 1);
    let on_step = |at_us: i64| {
        let steps = at_us.saturating_sub(range.from_us) / step_us + 1;
        range.from_us.saturating_add(steps.saturating_mul(step_us))
    };
    let mut stretches = Vec::new();
    let mut from_us = range.from_us;
    let mut cut_us = first_us;
    loop {
        cut_us = on_step(cut_us.saturating_add(part_us));
        // What would be a short rest goes with the last.
        let is_last = connections <= 1 || cut_us.saturating_add(part_us / 2) > last_us;
        let to_us = if is_last { range.to_us } else { cut_us };
        stretches.push(Stretch::new(from_us, to_us));
        if is_last {
            return stretches;
        }
        from_us = cut_us;
    }
}
