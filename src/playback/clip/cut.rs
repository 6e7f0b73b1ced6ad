//! Where a clip starts and ends, and how its stretches are put together. Pure: descriptors and samples in, times out.
//!
//! Times of the clip are ticks of the movie from its first picture on: what comes before it is negative. Nothing vouches for the times
//! of a fragment that is damaged, so sums of them stop at the ends of what a number can hold.

use media::container::mp4::MOVIE_TIMESCALE;
use media::time::rescale;
use media::{Codec, StartKind, Timescale};

use super::select::{Chosen, OPEN_LEAD_MAX, Piece};
use super::{Gaps, Request};

/// A sample of a stored fragment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Raw {
    /// Times on the stream's timeline, in ticks of the track.
    pub pts: i64,
    /// Where its bytes start in the fragment's body.
    pub start: u32,
    pub size: u32,
    /// In ticks of the track.
    pub duration: u32,
    /// Presentation time minus decode time, in ticks of the track.
    pub offset: u32,
    pub sync: bool,
}

/// Samples by fragment and, inside, by track of the clip.
pub(super) type Loaded = Vec<Vec<Vec<Raw>>>;

/// What of the chosen fragments is presented, and when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Cut {
    /// The first and the last fragment that are needed.
    pub first: usize,
    pub last: usize,
    /// The fragment with the first picture.
    pub at: usize,
    /// Which track of the clip leads.
    pub lead: usize,
    /// Presentation time of the last picture, in ticks of the leading track on the stream's timeline.
    pub last_pts: i64,
    /// When the last picture ends, in ticks of the clip.
    pub end: i64,
    /// By stretch: what is taken from a time of the stream, in ticks of the movie, to get a time of the clip.
    pub shifts: Vec<i64>,
    /// When the first picture was taken, in microseconds of the clock of the request.
    pub start_us: i64,
}

impl Cut {
    /// A time of the stream on this track, in a stretch, as a time of the clip in ticks of the track.
    pub fn time(&self, run: usize, timescale: Timescale, ticks: i64) -> i64 {
        ticks.saturating_sub(rescale(self.shifts[run], MOVIE_TIMESCALE, timescale))
    }
}

/// The last fragment of these with a sample of the leading track that was taken before the end of the range, and that sample's
/// presentation time and end.
pub(super) fn last(chosen: &Chosen, loaded: &Loaded, lead: usize, request: Request) -> Option<(usize, i64, i64)> {
    let moments = Moments { chosen, loaded, lead, request };
    let (at, pts) = moments.last(0, i64::MIN)?;
    Some((at, pts, moments.end_of(at, pts)))
}

/// Finds the cut; none when nothing of the leading track lies in the range.
pub(super) fn find(chosen: &Chosen, loaded: &Loaded, request: Request) -> Option<Cut> {
    let has_samples = |track: &usize| loaded[chosen.lead..].iter().any(|parts| !parts[*track].is_empty());
    let is_video = |track: &usize| chosen.tracks[*track].codec.is_video();
    let all = || (0..chosen.tracks.len()).filter(has_samples);
    let lead = all().find(is_video).or_else(|| all().next())?;
    let moments = Moments { chosen, loaded, lead, request };
    let (mut at, mut pts) = moments.first()?;
    let mut first = at;
    if is_video(&lead) {
        (first, at, pts) = moments.decodable(at, pts)?;
    }
    let (last, last_pts) = moments.last(at, pts)?;
    let timescale = chosen.tracks[lead].timescale;
    let start = rescale(pts, timescale, MOVIE_TIMESCALE);
    let start_us = moments.taken_at(at, pts)?;
    let shifts = shifts(chosen, first..last + 1, chosen.fragments[at].run, (start, start_us), request);
    let mut cut = Cut { first, last, at, lead, last_pts, end: 0, shifts, start_us };
    let end = moments.end_of(last, last_pts);
    cut.end = rescale(cut.time(chosen.fragments[last].run, timescale, end), timescale, MOVIE_TIMESCALE);
    Some(cut)
}

/// The samples of the leading track, by when they were taken.
struct Moments<'a> {
    chosen: &'a Chosen,
    loaded: &'a Loaded,
    lead: usize,
    request: Request,
}

impl Moments<'_> {
    fn samples(&self, fragment: usize) -> &[Raw] {
        &self.loaded[fragment][self.lead]
    }

    /// When a sample was taken, in microseconds of the clock of the request.
    fn taken_at(&self, fragment: usize, pts: i64) -> Option<i64> {
        let piece = &self.chosen.fragments[fragment];
        let (part, track) = piece.lead()?;
        let timescale = self.chosen.tracks[self.lead].timescale;
        let since_us = match track.id == self.chosen.tracks[self.lead].id {
            true => timescale.to_micros(pts.saturating_sub(part.first_pts)),
            false => timescale.to_micros(pts).saturating_sub(track.timescale.to_micros(part.first_pts)),
        };
        Some(self.request.clock.start(&piece.info).saturating_add(since_us))
    }

    /// Fragment and presentation time of the first sample that is presented.
    fn first(&self) -> Option<(usize, i64)> {
        let mut shown_before = None;
        for fragment in self.chosen.lead..self.chosen.fragments.len() {
            let mut inside: Option<i64> = None;
            for sample in self.samples(fragment) {
                let taken = self.taken_at(fragment, sample.pts)?;
                if taken >= self.request.to_us {
                    continue;
                }
                if taken >= self.request.from_us {
                    inside = Some(inside.map_or(sample.pts, |pts| pts.min(sample.pts)));
                } else if shown_before.is_none_or(|(at, pts)| (at, pts) < (fragment, sample.pts)) {
                    shown_before = Some((fragment, sample.pts));
                }
            }
            if let Some(pts) = inside {
                return Some((fragment, pts));
            }
        }
        let (at, pts) = shown_before?;
        let ends = self.taken_at(at, self.end_of(at, pts))?;
        (ends > self.request.from_us).then_some((at, pts))
    }

    /// Where decoding starts for that picture; or for the first after it that can be decoded.
    ///
    /// H.264 is not started at an open random access point when a closed one is near: what its leading pictures would have
    /// released is not there, and Chromium takes that for an error; FFmpeg 5.1 loses a picture when the file ends soon. Of H.265
    /// the standard says what is skipped (ITU-T H.265 section 8.1.3).
    fn decodable(&self, at: usize, pts: i64) -> Option<(usize, usize, i64)> {
        let fragments = &self.chosen.fragments;
        let start = |at: usize| fragments[at].info.start;
        let access = |at: usize| self.samples(at).first().map(|sample| sample.pts);
        let is_leading = start(at) == StartKind::Open && access(at).is_some_and(|access| pts < access);
        let needs_closed = self.chosen.tracks[self.lead].codec == Codec::H264;
        let is_fit = |at: usize| start(at) == StartKind::Closed || (start(at) == StartKind::Open && !needs_closed);
        if is_fit(at) && !is_leading {
            return Some((at, at, pts));
        }
        let before = || (0..at).rev().take_while(|from| fragments[*from].run == fragments[at].run);
        let fit = before().find(|from| is_fit(*from)).filter(|from| at - from <= OPEN_LEAD_MAX || !needs_closed);
        let nearest = before().find(|from| start(*from) != StartKind::Dependent);
        if let Some(from) = fit.or(nearest) {
            return Some((from, at, pts));
        }
        if start(at) == StartKind::Open && !is_leading {
            return Some((at, at, pts));
        }
        // Its leading pictures, or all up to the next random access point, need what is not there.
        let next = (at..fragments.len()).find(|at| fragments[*at].info.start != StartKind::Dependent)?;
        let from = access(next)?.max(if next == at { pts } else { i64::MIN });
        let shown = self.samples(next).iter().map(|sample| sample.pts).filter(|pts| *pts >= from).min()?;
        (self.taken_at(next, shown)? < self.request.to_us).then_some((next, next, shown))
    }

    /// Fragment and presentation time of the last sample that is presented, when the first is this.
    fn last(&self, first: usize, first_pts: i64) -> Option<(usize, i64)> {
        for fragment in (first..self.chosen.fragments.len()).rev() {
            let inside = |pts: &i64| self.taken_at(fragment, *pts).is_some_and(|taken| taken < self.request.to_us);
            let last = self.samples(fragment).iter().map(|sample| sample.pts).filter(inside).max();
            if let Some(pts) = last.filter(|pts| fragment > first || *pts >= first_pts) {
                return Some((fragment, pts));
            }
        }
        None
    }

    /// When the sample with this presentation time ends: when the next is presented, or the fragment ends.
    fn end_of(&self, fragment: usize, pts: i64) -> i64 {
        let track = self.chosen.tracks[self.lead].id;
        let next = self.samples(fragment).iter().map(|sample| sample.pts).filter(|other| *other > pts).min();
        next.unwrap_or_else(|| {
            let part = self.chosen.fragments[fragment].info.track(track);
            part.map_or(pts, |part| part.first_pts.saturating_add_unsigned(part.duration)).max(pts.saturating_add(1))
        })
    }
}

/// What is taken from the times of each stretch, so that the one with the first picture has it at zero: `start` is when that is
/// presented, in ticks of the movie on the stream's timeline, and when it was taken.
///
/// A gap that is kept is as long as the clock says: the stream's own timeline has the delay of reordering in it too.
fn shifts(chosen: &Chosen, used: std::ops::Range<usize>, run: usize, start: (i64, i64), request: Request) -> Vec<i64> {
    let (start, start_us) = start;
    let runs = chosen.fragments.last().map_or(0, |last| last.run) + 1;
    let mut shifts = vec![start; runs];
    let mut stretches: Vec<Option<Stretch>> = vec![None; runs];
    for piece in &chosen.fragments[used] {
        let Some((from, to)) = extent(chosen, piece) else { continue };
        let stretch =
            stretches[piece.run].get_or_insert_with(|| Stretch { from, to, by_clock: by_clock(piece, request) });
        (stretch.from, stretch.to) = (stretch.from.min(from), stretch.to.max(to));
    }
    let mut end = stretches[run].as_ref().map_or(0, |first| first.to.saturating_sub(start));
    for at in run + 1..runs {
        let Some(stretch) = &stretches[at] else { continue };
        let closed = stretch.from.saturating_sub(end);
        shifts[at] = match (request.gaps, stretch.by_clock) {
            (Gaps::Keep, Some((pts, taken_us))) => {
                closed.min(pts.saturating_sub(MOVIE_TIMESCALE.from_micros(taken_us.saturating_sub(start_us))))
            }
            _ => closed,
        };
        end = stretch.to.saturating_sub(shifts[at]);
    }
    shifts
}

/// A run of fragments in which nothing is missing, in ticks of the movie on the stream's timeline.
#[derive(Clone)]
struct Stretch {
    from: i64,
    to: i64,
    /// A presentation time, and when that was taken.
    by_clock: Option<(i64, i64)>,
}

fn by_clock(piece: &Piece, request: Request) -> Option<(i64, i64)> {
    let (part, track) = piece.lead()?;
    Some((rescale(part.first_pts, track.timescale, MOVIE_TIMESCALE), request.clock.start(&piece.info)))
}

/// Ticks of a track in those of the movie, rounded towards positive infinity.
pub(super) fn movie_ticks_up(ticks: i64, timescale: Timescale) -> i64 {
    rescale(ticks.saturating_neg(), timescale, MOVIE_TIMESCALE).saturating_neg()
}

/// When the first and the last of a fragment's tracks are presented, in ticks of the movie on the stream's timeline.
fn extent(chosen: &Chosen, piece: &Piece) -> Option<(i64, i64)> {
    let wanted = chosen.tracks.iter().filter_map(|track| Some((piece.info.track(track.id)?, track.timescale)));
    let spans = wanted.map(|(part, timescale)| {
        let end = part.first_pts.saturating_add_unsigned(part.duration);
        (rescale(part.first_pts, timescale, MOVIE_TIMESCALE), movie_ticks_up(end, timescale))
    });
    spans.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)))
}
