//! A stream's past as units, each when it is due: at the pace at which it was taken.
//!
//! What lies between the key picture that decoding starts at and the asked instant is given at once, under times a
//! millisecond apart, so that a decoder runs through it. Spans without media are passed over, and so are fragments that cannot be
//! read any more, with those that depend on them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use media::codec::{h264, h265, nal};
use media::container::cmaf;
use media::{AccessUnit, Codec, ProducerTime, RandomAccess, ServerTime, StartKind, StreamId, Track, TrackSet};
use store::StoreError;
use tokio::time::Instant;

use crate::live::{Cursor, Descriptor, Hub, LiveUnit, Next, Start, Step};

/// Between units that are given at once.
const LEAD_IN_US: i64 = 1_000;
/// A jump of the stream's time by more than this is not waited for, ...
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// ... and who is late by more than this, having waited for the newest fragment, goes on at the pace from there.
const LATE_MAX: Duration = Duration::from_millis(250);

/// Reads the past.
pub(crate) struct Past {
    hub: Arc<Hub>,
    stream: StreamId,
    cursor: Cursor,
    from: ProducerTime,
    /// Producer times that may be seen; none means all.
    allowed: Option<(ProducerTime, ProducerTime)>,
    /// Units that were read, in decode order.
    queue: VecDeque<Waiting>,
    tracks: Option<Arc<TrackSet>>,
    /// That time of the stream's timeline was due then.
    pace: Option<(Instant, i64)>,
    number: u64,
    /// A fragment that is to be read next.
    fragment: Option<Descriptor>,
    /// The fragment before was left out: what depends on it is, too.
    is_broken: bool,
    is_failed: bool,
}

/// A unit that waits until it is due.
struct Waiting {
    /// When that is on the stream's timeline, in microseconds.
    due_us: i64,
    /// When it is shown, by the producer's clock.
    shown_us: i64,
    /// Decoding can start at it.
    starts: bool,
    unit: AccessUnit,
}

impl Past {
    /// The stream from `from` on, as far as `allowed` lets it be seen: of its beginning only fragments that lie inside, and
    /// nothing that depends on others.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) async fn open(
        hub: Arc<Hub>,
        stream: StreamId,
        from: ProducerTime,
        allowed: Option<(ProducerTime, ProducerTime)>,
    ) -> Result<Past, StoreError> {
        let cursor = hub.cursor(stream, Start::Producer(from)).await?;
        Ok(Past {
            hub,
            stream,
            cursor,
            from,
            allowed,
            queue: VecDeque::new(),
            tracks: None,
            pace: None,
            number: 0,
            fragment: None,
            is_broken: false,
            is_failed: false,
        })
    }

    /// The next unit, when it is due. Cancelling it loses nothing.
    pub(crate) async fn next(&mut self) -> Next {
        loop {
            if self.is_failed {
                return Next::Deleted;
            }
            if let Some(Waiting { due_us, .. }) = self.queue.front() {
                let due = self.due(*due_us);
                tokio::time::sleep_until(due).await;
                if let Some(unit) = self.take() {
                    return unit;
                }
                continue;
            }
            if let Some(descriptor) = self.fragment.clone() {
                let read = self.read(&descriptor).await;
                self.fragment = None;
                match read {
                    Ok(()) => self.is_broken = false,
                    Err(error) if is_of_one(&error) => {
                        let ordinal = descriptor.info.ordinal.0;
                        tracing::warn!(stream = %self.stream, ordinal, %error, "a fragment is left out of a stream's past");
                        self.is_broken = true;
                        return Next::Skipped;
                    }
                    Err(error) => {
                        tracing::warn!(stream = %self.stream, %error, "a stream's past cannot be shown further");
                        self.is_failed = true;
                    }
                }
                continue;
            }
            match self.cursor.next().await {
                // A part of it may not be seen, and what follows it may depend on it.
                Ok(Step::Fragment(next)) if self.allowed.is_some_and(|(first, _)| next.info.producer_time < first) => {
                    self.is_broken = true;
                }
                Ok(Step::Fragment(next)) if self.is_broken && next.info.start == StartKind::Dependent => {}
                Ok(Step::Fragment(descriptor)) => self.fragment = Some(descriptor),
                Ok(Step::Skipped { .. }) => return Next::Skipped,
                Ok(Step::Idle(_)) => return Next::Idle,
                Ok(Step::Deleted) => return Next::Deleted,
                Err(error) => {
                    tracing::warn!(stream = %self.stream, %error, "a stream's past cannot be read");
                    self.is_failed = true;
                }
            }
        }
    }

    /// When `due_us` of the stream's timeline is due. After a wait for the newest fragment, or a jump, the pace begins anew.
    fn due(&mut self, due_us: i64) -> Instant {
        let now = Instant::now();
        let (since, at_us) = *self.pace.get_or_insert((now, due_us));
        let offset = Duration::from_micros(due_us.saturating_sub(at_us).max(0).unsigned_abs());
        let due = since + offset;
        if due > now + PAUSE_MAX || now > due + LATE_MAX {
            self.pace = Some((now, due_us));
            return now;
        }
        due
    }

    fn take(&mut self) -> Option<Next> {
        let Waiting { mut unit, shown_us, starts, .. } = self.queue.pop_front()?;
        let tracks = self.tracks.clone()?;
        if self.allowed.is_some_and(|(_, end)| shown_us >= end.micros()) {
            return Some(Next::Deleted);
        }
        // By this clock a unit arrives when it is due: what is sent follows it.
        unit.arrival = ServerTime::from_micros(shown_us);
        let number = self.number;
        self.number += 1;
        Some(Next::Unit(Arc::new(LiveUnit { number, session: 0, tracks, shown_us, starts, unit })))
    }

    /// Puts a fragment's units into the queue.
    async fn read(&mut self, descriptor: &Descriptor) -> Result<(), StoreError> {
        let info = &descriptor.info;
        let Some(tracks) = self.hub.track_set(self.stream, info.track_set).await? else { return Ok(()) };
        if self.tracks.as_ref().is_none_or(|before| !before.continues(&tracks)) {
            self.tracks = Some(tracks.clone());
        }
        let body = self.hub.read(descriptor, 0..info.body_len).await?;
        let lead = tracks.lead();
        let lead_pts = info.track(lead.id).map_or(0, |part| part.first_pts);
        let (begin_us, begin) = (lead.timescale.to_micros(lead_pts), info.producer_time);
        let mut units = Vec::new();
        for part in &info.tracks {
            let Some(track) = tracks.track(part.track) else { continue };
            let samples = cmaf::samples(&body, part).map_err(|error| damaged(&error))?;
            let key_pts = samples.first().map_or(0, |sample| sample.pts);
            // Pictures before the key frame are made of the fragment that was left out.
            let is_cut_off = self.is_broken && track.id == lead.id && info.start == StartKind::Open;
            for (at, sample) in samples.into_iter().enumerate() {
                if is_cut_off && sample.pts < key_pts {
                    continue;
                }
                let data = body.slice(sample.range.clone());
                let pts_us = track.timescale.to_micros(sample.pts);
                let shown = begin.plus_micros(pts_us - begin_us);
                let unit = AccessUnit {
                    track: track.id,
                    pts: sample.pts,
                    duration: (!track.codec.is_video()).then_some(sample.duration),
                    random_access: access(track, sample.sync, at == 0, info.start),
                    disposable: is_disposable(track, &data),
                    loss_before: 0,
                    arrival: ServerTime::from_micros(0),
                    data,
                };
                let starts = track.id == lead.id && unit.random_access != RandomAccess::No;
                let due_us = track.timescale.to_micros(sample.dts);
                units.push(Waiting { due_us, shown_us: shown.micros(), starts, unit });
            }
        }
        units.sort_by_key(|waiting| waiting.due_us);
        self.lead_in(&mut units, &tracks);
        self.queue.extend(units);
        Ok(())
    }

    /// What comes before the asked instant: sound is left out, pictures follow each other closely up to it.
    fn lead_in(&self, units: &mut Vec<Waiting>, tracks: &TrackSet) {
        let (from, lead) = (self.from.micros(), tracks.lead());
        units.retain(|one| one.shown_us >= from || one.unit.track == lead.id && lead.codec.is_video());
        // The picture on screen at the instant is the last one before it, when none is shown just then.
        let Some(first) = units.iter().find(|one| one.shown_us >= from).or(units.last()) else { return };
        let (due_us, pts, shown_us) = (first.due_us, first.unit.pts, first.shown_us);
        let before = units.iter_mut().filter(|one| one.shown_us < from).collect::<Vec<_>>();
        let mut earlier_us = before.len() as i64 * LEAD_IN_US;
        for one in before {
            one.due_us = due_us - earlier_us;
            one.shown_us = shown_us - earlier_us;
            one.unit.pts = pts - lead.timescale.from_micros(earlier_us);
            earlier_us -= LEAD_IN_US;
        }
        units.sort_by_key(|one| one.due_us);
    }
}

fn access(track: &Track, sync: bool, is_first: bool, start: StartKind) -> RandomAccess {
    match (track.codec.is_video(), sync) {
        (false, _) => RandomAccess::Closed,
        (true, false) => RandomAccess::No,
        (true, true) if is_first && start == StartKind::Open => RandomAccess::Open,
        (true, true) => RandomAccess::Closed,
    }
}

/// Whether no other picture refers to it, where that decides if it can be left out.
fn is_disposable(track: &Track, data: &Bytes) -> bool {
    let nals = || nal::length_prefixed(data, 4).map_while(Result::ok);
    match track.codec {
        Codec::H264 => h264::classify(nals()).disposable,
        Codec::H265 => {
            let top = h265::Config::of_entry(&track.sample_entry).map_or(u8::MAX, |config| config.top_temporal_id);
            h265::classify(nals(), top).disposable
        }
        _ => false,
    }
}

/// Whether an error says nothing of the next fragment: of one that is damaged, or that retention took meanwhile.
fn is_of_one(error: &StoreError) -> bool {
    match error {
        StoreError::Damaged { .. } | StoreError::Gone => true,
        StoreError::Disk { source, .. } => source.kind() == std::io::ErrorKind::InvalidData,
        _ => false,
    }
}

fn damaged(error: &cmaf::CmafError) -> StoreError {
    let source = std::io::Error::new(std::io::ErrorKind::InvalidData, error.to_string());
    StoreError::Disk { what: "read a fragment".to_owned(), source }
}
