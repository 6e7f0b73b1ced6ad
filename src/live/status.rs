//! What is known of a stream now, and of all of them together.

use std::sync::Arc;

use media::{Dropped, FragmentInfo, ServerTime, StreamId, TrackSet, TrackSetId};
use store::StoreError;

use super::hub::Hub;
use super::publisher::PublisherInfo;
use super::state::Shared;
use super::tail::Fate;

/// The bit rate is taken over this much of the newest media.
const BITRATE_SPAN_US: u64 = 10_000_000;

/// What is known of a stream now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Status {
    pub publisher: Option<PublisherStatus>,
    /// Something that a publisher sent is still on its way to the disk.
    pub unsettled: bool,
    /// Tracks of the newest track set.
    pub tracks: Option<(TrackSetId, Arc<TrackSet>)>,
    /// Oldest and newest fragment, over store and tail.
    pub first: Option<FragmentInfo>,
    pub last: Option<FragmentInfo>,
    /// Bytes on disk.
    pub bytes: u64,
    /// Bits a second over the newest seconds; 0 when nobody publishes.
    pub bitrate: u64,
    /// Access units lost since the publisher came.
    pub lost: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct PublisherStatus {
    pub info: PublisherInfo,
    pub since: ServerTime,
    /// What came since and is not stored.
    pub dropped: Dropped,
    /// What a person should know of it.
    pub notes: Vec<String>,
}

/// All streams together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Totals {
    pub publishers: u64,
    /// Bits a second that they send, over the newest seconds of each.
    pub bitrate: u64,
    /// Fragments closed and not on disk yet, ...
    pub unpersisted: u64,
    /// ... and their bytes.
    pub unpersisted_bytes: u64,
}

/// How a stream stands, in numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Standing {
    /// Somebody publishes it.
    pub live: bool,
    /// Bytes on disk.
    pub bytes: u64,
    /// When its oldest fragment arrived.
    pub oldest: Option<ServerTime>,
    /// When its newest fragment ended, on disk or not.
    pub newest: Option<ServerTime>,
}

impl Hub {
    /// How these streams stand, in their order.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) async fn standings(&self, streams: Vec<StreamId>) -> Result<Vec<Standing>, StoreError> {
        let (store, asked) = (self.store.clone(), streams.clone());
        let all =
            self.pool.run(move || asked.iter().map(|stream| store.bounds(*stream)).collect::<Result<Vec<_>, _>>());
        let mut standings = Vec::with_capacity(streams.len());
        for (stream, bounds) in streams.iter().zip(all.await?) {
            let bounds = bounds.as_ref();
            let mut standing = Standing {
                live: false,
                bytes: bounds.map_or(0, |bounds| bounds.bytes),
                oldest: bounds.map(|bounds| bounds.first.info.server_time),
                newest: bounds.map(|bounds| bounds.last.info.server_end()),
            };
            if let Some(state) = self.existing(*stream) {
                let shared = state.shared();
                standing.live = shared.publisher.is_some();
                let newest = shared.tail.entries().rfind(|entry| entry.fate != Fate::Lost);
                standing.newest = standing.newest.max(newest.map(|entry| entry.fragment.info.server_end()));
            }
            standings.push(standing);
        }
        Ok(standings)
    }

    /// What is known of the stream now.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) async fn status(&self, stream: StreamId) -> Result<Status, StoreError> {
        let mut status = match self.existing(stream) {
            Some(state) => in_memory(&state.shared()),
            None => Status::default(),
        };
        let store = self.store.clone();
        if let Some(bounds) = self.pool.run(move || store.bounds(stream)).await? {
            status.bytes = bounds.bytes;
            status.first = Some(bounds.first.info);
            // The tail was looked at before, and may have lost its newest to the store meanwhile.
            let newer = status.last.take().filter(|last| last.position > bounds.last.info.position);
            status.last = Some(newer.unwrap_or(bounds.last.info));
        }
        if status.tracks.is_none()
            && let Some(id) = status.last.as_ref().map(|last| last.track_set)
        {
            status.tracks = self.track_set(stream, id).await?.map(|tracks| (id, tracks));
        }
        Ok(status)
    }

    /// Sums over all streams.
    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for state in self.states() {
            let shared = state.shared();
            if shared.publisher.is_some() {
                totals.publishers += 1;
                totals.bitrate = totals.bitrate.saturating_add(bitrate(&shared));
            }
            totals.unpersisted += shared.tail.waiting();
            totals.unpersisted_bytes += shared.tail.waiting_bytes();
        }
        totals
    }
}

fn in_memory(shared: &Shared) -> Status {
    let publisher = shared.publisher.as_ref();
    let mut kept = shared.tail.entries().filter(|entry| entry.fate != Fate::Lost).map(|entry| &entry.fragment.info);
    let first = kept.next().cloned();
    let last = kept.next_back().cloned().or_else(|| first.clone());
    Status {
        publisher: publisher.map(|held| PublisherStatus {
            info: held.who.clone(),
            since: held.since,
            dropped: held.dropped,
            notes: held.notes.clone(),
        }),
        unsettled: !shared.tail.is_settled(),
        tracks: shared.newest_set.clone(),
        first,
        last,
        bytes: 0,
        bitrate: publisher.map_or(0, |_| bitrate(shared)),
        lost: publisher.map_or(0, |held| held.lost),
    }
}

/// Bits a second over the newest fragments.
fn bitrate(shared: &Shared) -> u64 {
    let (mut bytes, mut span_us) = (0u64, 0u64);
    for entry in shared.tail.entries().rev() {
        if span_us >= BITRATE_SPAN_US {
            break;
        }
        bytes += entry.fragment.body.len() as u64;
        span_us = span_us.saturating_add(entry.fragment.info.duration_us);
    }
    let bits = u128::from(bytes) * 8 * 1_000_000;
    u64::try_from(bits.checked_div(u128::from(span_us)).unwrap_or(0)).unwrap_or(u64::MAX)
}
