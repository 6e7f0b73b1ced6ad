//! Which shots a request means, one after another in time order.

use std::collections::VecDeque;
use std::sync::Arc;

use media::{Position, ProducerTime};
use store::Select;

use super::allowed::{Allowed, ROUNDING_US};
use super::find::Finder;
use super::reel::Reel;
use super::{Ask, Caption, FramesError, Missing, Pick, Which};
use crate::live::Descriptor;

/// Descriptors fetched at once.
const PAGE: usize = 64;

/// A shot that is meant.
#[derive(Clone)]
pub(super) struct Picked {
    pub asked: Option<ProducerTime>,
    pub reel: Arc<Reel>,
    pub shot: usize,
    /// It is on screen at the asked instant.
    pub is_exact: bool,
}

impl Picked {
    pub fn caption(&self) -> Caption {
        let (reel, shot) = (&self.reel, &self.reel.shots[self.shot]);
        Caption {
            asked: self.asked,
            time: shot.time,
            clock_source: reel.clock.0,
            clock_error_us: reel.clock.1,
            pts: shot.pts,
            timescale: reel.timescale,
            fragment: reel.number,
            is_key: shot.is_key,
            is_exact: self.is_exact,
            is_damaged: reel.is_damaged,
        }
    }
}

impl Picked {
    /// Whether both are made of the same coded pictures.
    pub fn goes_with(&self, other: &Picked) -> bool {
        let is_leading = |one: &Picked| one.reel.shots[one.shot].is_leading;
        self.reel.run_id() == other.reel.run_id() && is_leading(self) == is_leading(other)
    }

    /// What is given in its place.
    pub fn missing(&self, error: FramesError) -> Missing {
        Missing { asked: self.asked, time: Some(self.reel.shots[self.shot].time), until: None, error }
    }
}

/// Gives the shots of a request.
pub(super) struct Picker {
    /// Within what may be seen.
    which: Which,
    allowed: Allowed,
    /// Next of the instants, or of the steps of a range.
    next_instant: u64,
    /// The reel that the last shot was in: the next is likely in it, too.
    reel: Option<Arc<Reel>>,
    /// For ranges: where the next page starts, and what of this one is left.
    page: VecDeque<Descriptor>,
    /// The fragment that was looked at last.
    passed: Option<Position>,
    finished: bool,
    /// Shots of the reel at hand that are to be given.
    shots: VecDeque<usize>,
    /// What was given last, by reel and shot: ranges give nothing twice.
    last: Option<(Position, i64)>,
}

impl Picker {
    /// The shots of a request that was checked.
    pub fn new(ask: &Ask) -> Picker {
        let allowed = Allowed(ask.allowed);
        let (which, next_instant) = allowed.narrow(ask.which.clone());
        Picker {
            which,
            allowed,
            next_instant,
            reel: None,
            page: VecDeque::new(),
            passed: None,
            finished: false,
            shots: VecDeque::new(),
            last: None,
        }
    }

    /// The next shot; none after the last. An instant without a picture, and a fragment that nobody can look into, is an
    /// error of its own, after which others may follow.
    pub async fn next(&mut self, finder: Finder<'_>) -> Result<Option<Picked>, Missing> {
        match self.which.clone() {
            Which::At(instants, pick) => self.at(finder, &instants, pick).await,
            Which::Latest => Ok(self.latest(finder).await?),
            Which::Every { from, to, step_us, pick } => self.every(finder, from, to, step_us, pick).await,
            Which::All { from, to } => self.range(finder, from, to, false).await,
            Which::Keys { from, to } => self.range(finder, from, to, true).await,
        }
    }

    async fn at(
        &mut self,
        finder: Finder<'_>,
        instants: &[ProducerTime],
        pick: Pick,
    ) -> Result<Option<Picked>, Missing> {
        let Some(instant) = instants.get(self.next_instant as usize).copied() else { return Ok(None) };
        self.next_instant += 1;
        self.pick(finder, instant, pick).await.map(Some).map_err(|error| Missing::at(instant, error))
    }

    async fn latest(&mut self, finder: Finder<'_>) -> Result<Option<Picked>, FramesError> {
        if std::mem::replace(&mut self.finished, true) {
            return Ok(None);
        }
        let no_media = FramesError::NoMedia { asked: None, before: None, after: None };
        let reel = finder.newest().await?.ok_or(no_media.clone())?;
        let shot = reel.shown.last().copied().ok_or(no_media)?;
        self.allow(Picked { asked: None, reel: Arc::new(reel), shot, is_exact: true }).map(Some)
    }

    async fn every(
        &mut self,
        finder: Finder<'_>,
        from: ProducerTime,
        to: ProducerTime,
        step_us: i64,
        pick: Pick,
    ) -> Result<Option<Picked>, Missing> {
        let instant_of = |step: u64| from.plus_micros(i64::try_from(step).unwrap_or(i64::MAX).saturating_mul(step_us));
        loop {
            let instant = instant_of(self.next_instant);
            if instant >= to {
                return Ok(None);
            }
            self.next_instant += 1;
            match self.pick(finder, instant, pick).await {
                Ok(picked) => {
                    let name = (picked.reel.position, picked.reel.shots[picked.shot].pts);
                    if self.last.replace(name) != Some(name) {
                        return Ok(Some(picked));
                    }
                }
                // On to the first instant after the gap.
                Err(FramesError::NoMedia { after: Some(after), .. }) if after > instant => {
                    let steps = after.micros_since(from).div_euclid(step_us);
                    self.next_instant = self.next_instant.max(u64::try_from(steps).unwrap_or(0));
                    if instant_of(self.next_instant) < after {
                        self.next_instant += 1;
                    }
                }
                Err(FramesError::NoMedia { .. }) => return Ok(None),
                // The next one is behind what may be seen, and so are those of all instants after this.
                Err(FramesError::OutsideRange) if pick == Pick::Next => return Ok(None),
                Err(FramesError::OutsideRange) => {}
                Err(error) => return Err(Missing::at(instant, error)),
            }
        }
    }

    /// All pictures, or all key frames, of a range.
    async fn range(
        &mut self,
        finder: Finder<'_>,
        from: ProducerTime,
        to: ProducerTime,
        keys: bool,
    ) -> Result<Option<Picked>, Missing> {
        loop {
            if let (Some(shot), Some(reel)) = (self.shots.pop_front(), &self.reel) {
                return Ok(Some(Picked { asked: None, reel: reel.clone(), shot, is_exact: true }));
            }
            let Some(reel) = self.turn(finder, from, to).await? else { return Ok(None) };
            let meant = |at: &usize| {
                let shot = &reel.shots[*at];
                from <= shot.time && shot.time < to && (shot.is_key || !keys)
            };
            self.shots = reel.shown.iter().copied().filter(meant).collect();
            self.reel = Some(Arc::new(reel));
        }
    }

    /// The next reel of a range.
    async fn turn(
        &mut self,
        finder: Finder<'_>,
        from: ProducerTime,
        to: ProducerTime,
    ) -> Result<Option<Reel>, Missing> {
        loop {
            if let Some(descriptor) = self.page.pop_front() {
                self.passed = Some(descriptor.info.position);
                let (begin, end) = (descriptor.info.producer_time, descriptor.info.producer_end());
                match Reel::closed(finder.hub, finder.stream, descriptor).await {
                    Ok(Some(reel)) => return Ok(Some(reel)),
                    Ok(None) => {}
                    Err(error) => {
                        // No more than was asked for is said.
                        let (begin, end) = (begin.max(from), end.min(to));
                        if begin < end || !error.is_of_one() {
                            return Err(Missing { asked: None, time: Some(begin), until: Some(end), error });
                        }
                    }
                }
                continue;
            }
            if self.finished {
                return Ok(None);
            }
            let select = match self.passed {
                None => Select::Producer(from, to),
                Some(position) => Select::After(position),
            };
            let timeline = finder.hub.timeline(finder.stream, select, PAGE).await.map_err(FramesError::from)?;
            let meets =
                |descriptor: &Descriptor| descriptor.info.producer_time < to && descriptor.info.producer_end() > from;
            self.page = timeline.fragments.into_iter().filter(meets).collect();
            if self.page.is_empty() {
                self.finished = true;
                let open = finder.open()?.filter(|reel| reel.begin < to && reel.end > from);
                return Ok(open.filter(|open| self.passed.is_none_or(|passed| open.position > passed)));
            }
        }
    }

    /// The shot that an instant means.
    async fn pick(&mut self, finder: Finder<'_>, time: ProducerTime, pick: Pick) -> Result<Picked, FramesError> {
        let held = self.reel.take().filter(|reel| reel.ordinal.is_some() && reel.begin <= time && time < reel.end);
        let containing = match held {
            Some(reel) => Some(reel),
            None => finder.containing(time).await?.map(Arc::new),
        };
        let picked = match containing {
            Some(reel) => {
                self.reel = Some(reel.clone());
                within(finder, reel, time, pick, self.allowed).await
            }
            None => between(finder, time, pick, self.allowed).await,
        };
        self.allow(picked.map_err(|error| self.allowed.tell(error))?)
    }

    fn allow(&self, picked: Picked) -> Result<Picked, FramesError> {
        match self.allowed.holds(picked.reel.shots[picked.shot].time) {
            true => Ok(picked),
            false => Err(FramesError::OutsideRange),
        }
    }
}

/// The shot that `time`, which lies in `reel`, means.
async fn within(
    finder: Finder<'_>,
    reel: Arc<Reel>,
    time: ProducerTime,
    pick: Pick,
    allowed: Allowed,
) -> Result<Picked, FramesError> {
    let time_of = |(reel, shot): &(Arc<Reel>, usize)| reel.shots[*shot].time;
    let shown = match reel.at_or_before(time) {
        Some(shot) => Some((reel.clone(), shot)),
        // Before its first picture that can be decoded, the last one of the reel before is on screen.
        None if reel.continues => last_of(finder.before(&reel).await?),
        None => None,
    };
    let nearer = |one, other| nearer(time, allowed, one, other);
    let next = async || match reel.at_or_after(time) {
        Some(shot) => Ok(Some((reel.clone(), shot))),
        None => finder.after(&reel).await.map(first_of),
    };
    let chosen = match pick {
        Pick::Shown | Pick::Previous => shown.clone(),
        Pick::Next => next().await?,
        Pick::Nearest => nearer(shown.clone(), next().await?),
        Pick::Key => {
            let own = reel.nearest_key(time, allowed).map(|shot| (reel.clone(), shot));
            let distance = |one: &(Arc<Reel>, usize)| match allowed.holds(time_of(one)) {
                true => time_of(one).micros_since(time).unsigned_abs(),
                false => u64::MAX,
            };
            // The next fragment's key frame is nearer only in the second half.
            let late = reel.end.micros_since(time).unsigned_abs() < own.as_ref().map_or(u64::MAX, distance);
            let after = match late {
                true => finder.after(&reel).await?.map(Arc::new),
                false => None,
            };
            let after = after.and_then(|reel| reel.nearest_key(time, allowed).map(|shot| (reel.clone(), shot)));
            match own {
                Some(own) => nearer(Some(own), after),
                // A dependent fragment: its key frame is in one before it.
                None => nearer(key_before(finder, &reel).await?, after),
            }
        }
    };
    // Its first pictures may be made of what came before a gap: they are not shown, and the instant is before those that are.
    let first = || reel.shown.first().map_or(reel.end, |shot| reel.shots[*shot].time);
    let no_media = || FramesError::NoMedia { asked: Some(time), before: None, after: Some(first()) };
    let (reel_of, shot) = chosen.ok_or_else(no_media)?;
    let is_exact = shown.is_some_and(|(shown, at)| shown.position == reel_of.position && at == shot);
    Ok(Picked { asked: Some(time), reel: reel_of, shot, is_exact })
}

/// The last key frame before a reel that has none.
async fn key_before(finder: Finder<'_>, reel: &Reel) -> Result<Option<(Arc<Reel>, usize)>, FramesError> {
    let mut found = finder.before(reel).await?;
    // As many as a picture may depend on.
    for _ in 0..64 {
        let Some(reel) = found else { break };
        if let Some(shot) = reel.shown.iter().copied().rev().find(|at| reel.shots[*at].is_key) {
            return Ok(Some((Arc::new(reel), shot)));
        }
        found = finder.before(&reel).await?;
    }
    Ok(None)
}

/// The shot that `time`, which lies in no fragment, means.
async fn between(finder: Finder<'_>, time: ProducerTime, pick: Pick, allowed: Allowed) -> Result<Picked, FramesError> {
    let (before, after) = finder.around(time).await?;
    // Times are often read in microseconds and asked for in milliseconds, cut off.
    let rounded = after.as_ref().is_some_and(|after| after.begin.micros_since(time) < ROUNDING_US);
    let joined = after.as_ref().is_some_and(|after| after.continues) && before.is_some();
    let (before, after) = (last_of(before), first_of(after));
    let nearer = |one, other| nearer(time, allowed, one, other);
    let time_of = |found: &Option<(Arc<Reel>, usize)>| found.as_ref().map(|(reel, shot)| reel.shots[*shot].time);
    let no_media = FramesError::NoMedia { asked: Some(time), before: time_of(&before), after: time_of(&after) };
    let chosen = match pick {
        Pick::Shown | Pick::Key if rounded => after,
        // Fragments that follow each other may be some microseconds apart.
        Pick::Shown if joined => before,
        Pick::Key if joined => match before {
            Some((reel, _)) => {
                let key = reel.nearest_key(time, allowed);
                nearer(key.map(|shot| (reel, shot)), after)
            }
            None => after,
        },
        Pick::Shown | Pick::Key => None,
        Pick::Previous => before,
        Pick::Next => after,
        Pick::Nearest => nearer(before, after),
    };
    let (reel, shot) = chosen.ok_or(no_media)?;
    Ok(Picked { asked: Some(time), reel, shot, is_exact: pick == Pick::Shown || rounded })
}

type Found = Option<(Arc<Reel>, usize)>;

fn last_of(reel: Option<Reel>) -> Found {
    let reel = reel?;
    let shot = reel.shown.last().copied()?;
    Some((Arc::new(reel), shot))
}

fn first_of(reel: Option<Reel>) -> Found {
    let reel = reel?;
    let shot = reel.shown.first().copied()?;
    Some((Arc::new(reel), shot))
}

/// Whichever is nearer to `time`, the first of two alike; what may not be seen only when neither may: otherwise the choice would
/// tell how far it is.
fn nearer(time: ProducerTime, allowed: Allowed, one: Found, other: Found) -> Found {
    let distance = |(reel, shot): &(Arc<Reel>, usize)| {
        let at = reel.shots[*shot].time;
        (!allowed.holds(at), at.micros_since(time).unsigned_abs())
    };
    match (one, other) {
        (Some(one), Some(other)) if distance(&other) < distance(&one) => Some(other),
        (Some(one), _) => Some(one),
        (None, other) => other,
    }
}
