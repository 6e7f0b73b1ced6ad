//! Where a stream has media and where it has gaps, and why.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use http::{Method, StatusCode};
use media::{FragmentInfo, GapReason, Ordinal};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::fragments::{ClockName, Part};
use crate::auth::Action;
use crate::config::units::Span;
use crate::doors::http::App;
use crate::doors::http::error::{ApiError, Code};
use crate::doors::http::extract::Query;
use crate::doors::http::route::{Caller, Needs, On, Route};
use crate::doors::http::time::format_micros;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(
            Method::GET,
            "/v1/streams/{stream}/timeline",
            Needs::Action(Action::ReadStream, On::PathStream),
            "Spans with media, and gaps with their reasons.",
            timeline,
        )
        .with_query(&[
            ("from", "start of the range: RFC 3339 or epoch milliseconds; default: the oldest"),
            ("to", "end of the range, exclusive; default: the newest"),
            ("clock", "what times mean: producer (default) or server"),
            ("resolution", "holes up to this long are no gap, such as 1s (default) or 5m"),
        ])
        .gives::<TimelineOut>(StatusCode::OK),
    ]
}

#[derive(Deserialize)]
struct TimelineQuery {
    from: Option<String>,
    to: Option<String>,
    #[serde(default)]
    clock: ClockName,
    resolution: Option<String>,
}

/// A stream's timeline in a range.
#[derive(Serialize, ToSchema)]
pub(crate) struct TimelineOut {
    /// In stream order.
    spans: Vec<SpanOut>,
    /// Between the spans, in stream order.
    gaps: Vec<GapOut>,
    /// Set when the answer stops here because the range has too many fragments for one: ask again from here.
    #[serde(skip_serializing_if = "Option::is_none")]
    continues_at: Option<String>,
}

/// Media without a gap.
#[derive(Clone, PartialEq, Serialize, ToSchema)]
#[cfg_attr(test, derive(Debug))]
pub(crate) struct SpanOut {
    from: String,
    to: String,
    fragments: u64,
    bytes: u64,
}

/// No media.
#[derive(Clone, PartialEq, Serialize, ToSchema)]
#[cfg_attr(test, derive(Debug))]
pub(crate) struct GapOut {
    from: String,
    to: String,
    /// `publisher_left`, `server_crashed`, `disk_full`, `time_jumped`, ...
    reason: &'static str,
}

/// Fragments looked at per page, and in all, for one answer.
const PAGE: usize = 5_000;
const FRAGMENTS_MAX: usize = 400_000;

async fn timeline(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(query): Query<TimelineQuery>,
) -> Result<Answer<TimelineOut>, ApiError> {
    let part = Part::read(&app, &caller, query.clock, query.from.as_deref(), query.to.as_deref())?;
    let resolution = match query.resolution.as_deref() {
        None => Span::secs(1),
        Some(text) => text.parse().map_err(|error| ApiError::new(Code::BadTime, format!("resolution: {error}")))?,
    };
    let stream = app.stream(caller.stream()?)?;
    let mut merge = Merge::new(query.clock, i64::try_from(resolution.0.as_micros()).unwrap_or(i64::MAX));
    let mut mark = None;
    let mut looked_at = 0;
    loop {
        let (found, next) = part.page(&app, stream.id, mark, PAGE).await?;
        looked_at += found.len();
        for info in &found {
            merge.push(info);
        }
        mark = next;
        if mark.is_none() || looked_at >= FRAGMENTS_MAX {
            break;
        }
    }
    let continues_at = mark.and_then(|_| merge.end()).map(format_micros);
    let (spans, gaps) = merge.finish();
    Ok(Answer(TimelineOut { spans, gaps, continues_at }))
}

/// Makes spans and gaps of fragments that come in stream order.
struct Merge {
    clock: ClockName,
    resolution_us: i64,
    open: Option<Open>,
    spans: Vec<SpanOut>,
    gaps: Vec<GapOut>,
}

struct Open {
    from: i64,
    to: i64,
    fragments: u64,
    bytes: u64,
    last: Ordinal,
}

impl Merge {
    fn new(clock: ClockName, resolution_us: i64) -> Merge {
        Merge { clock, resolution_us, open: None, spans: Vec::new(), gaps: Vec::new() }
    }

    fn end(&self) -> Option<i64> {
        self.open.as_ref().map(|open| open.to)
    }

    fn push(&mut self, info: &FragmentInfo) {
        let (from, to) = match self.clock {
            ClockName::Producer => (info.producer_time.micros(), info.producer_end().micros()),
            ClockName::Server => (info.server_time.micros(), info.server_end().micros()),
        };
        let bytes = u64::from(info.body_len);
        if let Some(open) = &mut self.open {
            let hole = from.saturating_sub(open.to);
            // Media that starts before the span it follows: the clock was set back, and the two are not one span.
            let back = from < open.from;
            if hole <= self.resolution_us && !back {
                open.to = open.to.max(to);
                open.fragments += 1;
                open.bytes += bytes;
                open.last = info.ordinal;
                return;
            }
            if hole > 0 {
                let skipped = info.ordinal.0 != open.last.0 + 1;
                let reason = match info.break_before {
                    // The clock jumped away and came back: the fragments between lie elsewhere in time, outside this answer.
                    Some(GapReason::TimeJumped) if skipped => GapReason::TimeJumped,
                    // Fragments between are missing from the stream: dropped or damaged, whatever came after.
                    _ if skipped => GapReason::Damaged,
                    Some(reason) => reason,
                    None => GapReason::TimeJumped,
                };
                self.gaps.push(GapOut {
                    from: format_micros(open.to),
                    to: format_micros(from),
                    reason: reason.as_str(),
                });
            }
        }
        self.close();
        self.open = Some(Open { from, to, fragments: 1, bytes, last: info.ordinal });
    }

    fn close(&mut self) {
        if let Some(Open { from, to, fragments, bytes, .. }) = self.open.take() {
            self.spans.push(SpanOut { from: format_micros(from), to: format_micros(to), fragments, bytes });
        }
    }

    fn finish(mut self) -> (Vec<SpanOut>, Vec<GapOut>) {
        self.close();
        (self.spans, self.gaps)
    }
}

#[cfg(test)]
mod tests {
    use media::{ClockSource, Epoch, Position, ProducerTime, Sequence, ServerTime, StartKind, TrackSetId};

    use super::*;

    fn fragment(ordinal: u64, at_s: i64, break_before: Option<GapReason>) -> FragmentInfo {
        FragmentInfo {
            position: Position { epoch: Epoch(1), sequence: Sequence(ordinal + 1) },
            ordinal: Ordinal(ordinal),
            discontinuities: 0,
            track_set: TrackSetId(1),
            start: StartKind::Closed,
            break_before,
            end_of_session: false,
            damaged: false,
            producer_time: ProducerTime::from_micros(at_s * 1_000_000),
            clock_source: ClockSource::Arrival,
            clock_error_us: 0,
            server_time: ServerTime::from_micros(at_s * 1_000_000),
            duration_us: 2_000_000,
            tracks: Vec::new(),
            body_len: 10,
        }
    }

    fn check(fragments: &[FragmentInfo], resolution_s: i64, spans: &[(i64, i64)], gaps: &[(i64, i64, &str)]) {
        let mut merge = Merge::new(ClockName::Producer, resolution_s * 1_000_000);
        fragments.iter().for_each(|info| merge.push(info));
        let (found_spans, found_gaps) = merge.finish();
        let at = |s: i64| format_micros(s * 1_000_000);
        let found: Vec<_> = found_spans.iter().map(|span| (span.from.clone(), span.to.clone())).collect();
        assert_eq!(found, spans.iter().map(|(from, to)| (at(*from), at(*to))).collect::<Vec<_>>());
        let found: Vec<_> = found_gaps.iter().map(|gap| (gap.from.clone(), gap.to.clone(), gap.reason)).collect();
        assert_eq!(found, gaps.iter().map(|(from, to, why)| (at(*from), at(*to), *why)).collect::<Vec<_>>());
    }

    #[test]
    fn media_without_a_hole_is_one_span() {
        check(&[], 1, &[], &[]);
        let run = [fragment(0, 0, Some(GapReason::Started)), fragment(1, 2, None), fragment(2, 4, None)];
        check(&run, 0, &[(0, 6)], &[]);
    }

    #[test]
    fn a_hole_is_a_gap_with_the_reason_of_what_follows_it() {
        let run = [fragment(0, 0, None), fragment(1, 10, Some(GapReason::PublisherLeft)), fragment(2, 12, None)];
        check(&run, 1, &[(0, 2), (10, 14)], &[(2, 10, "publisher_left")]);
        check(&run, 8, &[(0, 14)], &[]);
        check(&run, 7, &[(0, 2), (10, 14)], &[(2, 10, "publisher_left")]);
    }

    #[test]
    fn missing_ordinals_are_damage_and_an_unexplained_hole_is_a_jump() {
        check(&[fragment(0, 0, None), fragment(5, 10, None)], 1, &[(0, 2), (10, 12)], &[(2, 10, "damaged")]);
        check(&[fragment(0, 0, None), fragment(1, 10, None)], 1, &[(0, 2), (10, 12)], &[(2, 10, "time_jumped")]);
    }

    #[test]
    fn fragments_that_lie_elsewhere_in_time_are_no_damage() {
        let run = [fragment(0, 0, None), fragment(5, 10, Some(GapReason::TimeJumped))];
        check(&run, 1, &[(0, 2), (10, 12)], &[(2, 10, "time_jumped")]);
    }

    #[test]
    fn a_clock_that_was_set_back_starts_another_span() {
        let run = [fragment(0, 100, None), fragment(1, 50, Some(GapReason::TimeJumped))];
        check(&run, 1, &[(100, 102), (50, 52)], &[]);
    }
}
