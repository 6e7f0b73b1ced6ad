//! The fragments of a range.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use http::{Method, StatusCode};
use media::{Epoch, FragmentInfo, Position, ProducerTime, Sequence, ServerTime, StartKind, StreamId};
use serde::{Deserialize, Serialize};
use store::Select;
use utoipa::ToSchema;

use super::streams::page_limit;
use crate::auth::Action;
use crate::doors::http::App;
use crate::doors::http::error::ApiError;
use crate::doors::http::extract::Query;
use crate::doors::http::route::{Caller, Needs, On, Route};
use crate::doors::http::time::{format_producer, format_server, parse_range};
use crate::live::Source;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(
            Method::GET,
            "/v1/streams/{stream}/fragments",
            Needs::Action(Action::ReadStream, On::PathStream),
            "Stored fragments of a range, in stream order.",
            list,
        )
        .with_query(&[
            ("from", "start of the range: RFC 3339 or epoch milliseconds; default: the oldest"),
            ("to", "end of the range, exclusive; default: the newest"),
            ("clock", "what from and to mean: producer (default) or server"),
            ("limit", "most fragments in the answer, 1 to 5000, by default 1000"),
            ("cursor", "where the page before ended"),
        ])
        .gives::<FragmentPage>(StatusCode::OK),
    ]
}

/// Which clock a range is meant on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ClockName {
    #[default]
    Producer,
    Server,
}

/// A part of a stream that somebody asked for and may see.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) clock: ClockName,
    /// Microseconds, `[from, to)`.
    pub(super) from: i64,
    pub(super) to: i64,
    /// What the caller's token may see, by producer time.
    allowed: Option<(ProducerTime, ProducerTime)>,
}

impl Part {
    pub(super) fn read(
        app: &App,
        caller: &Caller,
        clock: ClockName,
        from: Option<&str>,
        to: Option<&str>,
    ) -> Result<Part, ApiError> {
        let (mut from, mut to) = parse_range(from, to)?;
        let allowed = app.access.media_range(&caller.principal);
        if let (ClockName::Producer, Some((first, end))) = (clock, allowed) {
            from = from.max(first.micros());
            to = to.min(end.micros()).max(from);
        }
        Ok(Part { clock, from, to, allowed })
    }

    fn time_of(&self, info: &FragmentInfo) -> i64 {
        match self.clock {
            ClockName::Producer => info.producer_time.micros(),
            ClockName::Server => info.server_time.micros(),
        }
    }

    /// As a whole, as over HLS: a fragment that reaches over an end would tell what lies beyond.
    fn may_see(&self, info: &FragmentInfo) -> bool {
        self.allowed.is_none_or(|(from, to)| info.producer_time >= from && info.producer_end() <= to)
    }

    fn select(&self, from: i64) -> Select {
        match self.clock {
            ClockName::Producer => {
                Select::Producer(ProducerTime::from_micros(from), ProducerTime::from_micros(self.to))
            }
            ClockName::Server => Select::Server(ServerTime::from_micros(from), ServerTime::from_micros(self.to)),
        }
    }

    /// The next fragments of the part, stored ones only: what is listed is never taken back by a crash.
    ///
    /// The mark is where the next page starts; none at the end.
    pub(super) async fn page(
        &self,
        app: &App,
        stream: StreamId,
        mark: Option<Mark>,
        limit: usize,
    ) -> Result<(Vec<FragmentInfo>, Option<Mark>), ApiError> {
        // A producer's clock may step back by some seconds in the middle of a range: the page starts a little
        // before its mark, and what was listed already is skipped by its position.
        let from = mark.map_or(self.from, |mark| mark.time.saturating_sub(OVERLAP_US).max(self.from));
        let mut room = limit + OVERLAP_FRAGMENTS;
        loop {
            let timeline = app.hub.timeline(stream, self.select(from), room).await?;
            let full = timeline.fragments.len() >= room || timeline.more;
            let persisted = timeline.fragments.into_iter().filter(|descriptor| match &descriptor.source {
                Source::Tail { persisted, .. } => *persisted,
                Source::Store(_) => true,
            });
            let mut fresh: Vec<FragmentInfo> = persisted
                .map(|descriptor| descriptor.info)
                .filter(|info| mark.is_none_or(|mark| info.position > mark.position) && self.may_see(info))
                .collect();
            if fresh.is_empty() && full && room < ROOM_MAX {
                // The overlap alone filled the answer.
                room = (room * 4).min(ROOM_MAX);
                continue;
            }
            let more = full || fresh.len() > limit;
            fresh.truncate(limit);
            let next = fresh.last().map(|info| Mark { time: self.time_of(info), position: info.position });
            return Ok((fresh, next.filter(|_| more)));
        }
    }
}

const OVERLAP_US: i64 = 60_000_000;
const OVERLAP_FRAGMENTS: usize = 128;
const ROOM_MAX: usize = 100_000;

/// Where a page ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mark {
    time: i64,
    position: Position,
}

impl Mark {
    fn write(self) -> String {
        format!("{}_{}_{}", self.time, self.position.epoch.0, self.position.sequence.0)
    }

    fn read(text: &str) -> Result<Mark, ApiError> {
        let parse = || {
            let mut parts = text.split('_');
            let time = parts.next()?.parse().ok()?;
            let epoch = Epoch(parts.next()?.parse().ok()?);
            let sequence = Sequence(parts.next()?.parse().ok()?);
            let position = Position { epoch, sequence };
            parts.next().is_none().then_some(Mark { time, position })
        };
        parse().ok_or_else(|| ApiError::bad_request("cursor is not one that this call gave"))
    }
}

#[derive(Deserialize)]
struct FragmentQuery {
    from: Option<String>,
    to: Option<String>,
    #[serde(default)]
    clock: ClockName,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// A page of fragments.
#[derive(Serialize, ToSchema)]
pub(crate) struct FragmentPage {
    fragments: Vec<FragmentOut>,
    /// Give it as `cursor` for the next page; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

/// A stored fragment.
#[derive(Serialize, ToSchema)]
pub(crate) struct FragmentOut {
    /// 47 digits, strictly increasing in the stream, never reused.
    number: String,
    /// Dense count in the stream.
    ordinal: u64,
    producer_time: String,
    server_time: String,
    /// Seconds, such as 0.96.
    duration: f64,
    bytes: u32,
    tracks: Vec<FragmentTrackOut>,
    tags: std::collections::BTreeMap<String, String>,
    /// Starts at a random access point: it can be decoded by itself.
    independent: bool,
    /// Something was lost inside it.
    damaged: bool,
    /// Why it does not continue the fragment before it; absent when it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    break_before: Option<&'static str>,
}

/// A track's part of a fragment.
#[derive(Serialize, ToSchema)]
pub(crate) struct FragmentTrackOut {
    id: u32,
    /// Access units.
    samples: u32,
    bytes: u32,
}

async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(query): Query<FragmentQuery>,
) -> Result<Answer<FragmentPage>, ApiError> {
    let part = Part::read(&app, &caller, query.clock, query.from.as_deref(), query.to.as_deref())?;
    let limit = page_limit(query.limit, 1000, 5000)?;
    let mark = query.cursor.as_deref().map(Mark::read).transpose()?;
    let stream = app.stream(caller.stream()?)?;
    let (found, next) = part.page(&app, stream.id, mark, limit).await?;
    let fragments = found.iter().map(|info| fragment_out(&app, stream.id, info)).collect();
    Ok(Answer(FragmentPage { fragments, cursor: next.map(Mark::write) }))
}

fn fragment_out(app: &App, stream: StreamId, info: &FragmentInfo) -> FragmentOut {
    let tracks = info.tracks.iter();
    FragmentOut {
        number: app.hub.number(stream, info).to_string(),
        ordinal: info.ordinal.0,
        producer_time: format_producer(info.producer_time),
        server_time: format_server(info.server_time),
        duration: info.duration_us as f64 / 1e6,
        bytes: info.body_len,
        tracks: tracks
            .map(|track| FragmentTrackOut { id: track.track.0, samples: track.samples, bytes: track.len })
            .collect(),
        tags: Default::default(),
        independent: info.start != StartKind::Dependent,
        damaged: info.damaged,
        break_before: info.break_before.map(|reason| reason.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doors::http::error::Code;

    #[test]
    fn a_cursor_reads_back_and_a_forged_one_is_refused() {
        let mark = Mark { time: -5, position: Position { epoch: Epoch(3), sequence: Sequence(1 << 39) } };
        assert_eq!(Mark::read(&mark.write()).expect("ours"), mark);
        for text in ["", "1_2", "1_2_3_4", "a_2_3", "1_-2_3", "99999999999999999999_1_1"] {
            assert_eq!(Mark::read(text).expect_err(text).code, Code::BadRequest);
        }
    }
}
