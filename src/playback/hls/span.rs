//! What a request asks for, and which part of a stream that is.

use std::fmt::Write as _;
use std::time::Duration;

use media::{FragmentInfo, ProducerTime, ServerTime};
use store::Select;

use super::date::push_date_micros;

/// The clock that the times of a request are of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) enum SpanClock {
    #[default]
    Producer,
    Server,
}

/// What a request asks for. Times are microseconds since the epoch, ranges are `[from, to)`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Span {
    /// The newest `window`.
    Live { window: Duration },
    /// A past range.
    Past { from_us: i64, to_us: i64, clock: SpanClock },
    /// From a past time on, and on.
    Since { from_us: i64, clock: SpanClock },
}

/// Why a request's times make no sense.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum BadSpan {
    #[error("from must be before to")]
    Order,
    #[error("to needs from")]
    ToAlone,
    #[error("window is for live playlists: leave out from and to, or leave out window")]
    WindowAndRange,
    #[error("window must be between 1s and {}s", max.as_secs())]
    Window { max: Duration },
}

impl Span {
    /// The span of a request with these parameters.
    pub(crate) fn new(
        window: Option<Duration>,
        from_us: Option<i64>,
        to_us: Option<i64>,
        clock: SpanClock,
        settings: &super::Settings,
    ) -> Result<Span, BadSpan> {
        match (window, from_us, to_us) {
            (Some(_), Some(_), _) | (Some(_), _, Some(_)) => Err(BadSpan::WindowAndRange),
            (None, None, Some(_)) => Err(BadSpan::ToAlone),
            (None, Some(from_us), Some(to_us)) if from_us >= to_us => Err(BadSpan::Order),
            (None, Some(from_us), Some(to_us)) => Ok(Span::Past { from_us, to_us, clock }),
            (None, Some(from_us), None) => Ok(Span::Since { from_us, clock }),
            (Some(window), None, None) if window < Duration::from_secs(1) || window > settings.window_max => {
                Err(BadSpan::Window { max: settings.window_max })
            }
            (window, None, None) => Ok(Span::Live { window: window.unwrap_or(settings.window) }),
        }
    }

    /// What a multivariant playlist appends to the addresses of its media playlists, so that they list the same.
    pub(super) fn query(&self, token: Option<&str>) -> String {
        let mut query = String::new();
        let time = |query: &mut String, name: &str, micros: i64| {
            query.push_str(name);
            push_date_micros(query, micros);
        };
        let clock = match *self {
            Span::Live { window } => {
                let (length, unit) = match window.subsec_nanos() {
                    0 => (u128::from(window.as_secs()), "s"),
                    _ => (window.as_millis(), "ms"),
                };
                write!(query, "?window={length}{unit}").expect("a string takes all");
                SpanClock::Producer
            }
            Span::Past { from_us, to_us, clock } => {
                time(&mut query, "?from=", from_us);
                time(&mut query, "&to=", to_us);
                clock
            }
            Span::Since { from_us, clock } => {
                time(&mut query, "?from=", from_us);
                clock
            }
        };
        if clock == SpanClock::Server {
            query.push_str("&clock=server");
        }
        if let Some(token) = token {
            query.push_str("&token=");
            push_encoded(&mut query, token);
        }
        query
    }
}

/// What a media playlist appends to the addresses of its segments: the token, when it came with one.
pub(super) fn segment_query(token: Option<&str>) -> String {
    let mut query = String::new();
    if let Some(token) = token {
        query.push_str("?token=");
        push_encoded(&mut query, token);
    }
    query
}

/// A token comes from the request: nothing of it may end a line or a quoted string of the playlist.
fn push_encoded(text: &mut String, value: &str) {
    text.extend(percent_encoding::utf8_percent_encode(value, &QUERY_VALUE));
}

/// All but the unreserved characters of RFC 3986.
const QUERY_VALUE: percent_encoding::AsciiSet =
    percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

impl SpanClock {
    /// The fragments that meet `[from_us, to_us)` of this clock.
    pub(in crate::playback) fn select(self, from_us: i64, to_us: i64) -> Select {
        match self {
            SpanClock::Producer => {
                Select::Producer(ProducerTime::from_micros(from_us), ProducerTime::from_micros(to_us))
            }
            SpanClock::Server => Select::Server(ServerTime::from_micros(from_us), ServerTime::from_micros(to_us)),
        }
    }

    /// Start of a fragment by this clock.
    pub(in crate::playback) fn start(self, info: &FragmentInfo) -> i64 {
        match self {
            SpanClock::Producer => info.producer_time.micros(),
            SpanClock::Server => info.server_time.micros(),
        }
    }

    /// End of a fragment by this clock.
    pub(in crate::playback) fn end(self, info: &FragmentInfo) -> i64 {
        match self {
            SpanClock::Producer => info.producer_end().micros(),
            SpanClock::Server => info.server_end().micros(),
        }
    }
}

/// Fewest segments of a live playlist, however short the window: players start three from the end
/// (RFC 8216 section 6.3.3).
const WINDOW_SEGMENTS_MIN: usize = 4;

/// Where the newest `window` of `fragments` starts.
///
/// Never goes back as fragments are added at the end or dropped at the start.
pub(super) fn window_start(fragments: &[FragmentInfo], window: Duration) -> usize {
    let wanted_us = u64::try_from(window.as_micros()).unwrap_or(u64::MAX);
    let mut start = fragments.len();
    let mut held_us = 0u64;
    while start > 0 && (held_us < wanted_us || fragments.len() - start < WINDOW_SEGMENTS_MIN) {
        start -= 1;
        held_us = held_us.saturating_add(fragments[start].duration_us);
    }
    start
}

/// Longest run of missing ordinals that is told segment by segment: an hour of short fragments.
pub(super) const HOLE_MAX: u64 = 3600;

/// Where the newest part without a longer hole starts: a growing list numbers every ordinal, and a volume that was
/// lost must not become a million lines.
pub(super) fn start_after_long_holes(fragments: &[FragmentInfo]) -> usize {
    let holes = fragments.windows(2).map(|pair| pair[1].ordinal.0.saturating_sub(pair[0].ordinal.0));
    holes.enumerate().rfind(|(_, step)| *step > HOLE_MAX).map_or(0, |(before, _)| before + 1)
}
