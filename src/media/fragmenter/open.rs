//! A look at what is in no closed fragment yet, for whoever wants the newest picture.

use std::sync::Arc;

use super::Fragmenter;
use crate::{
    AccessUnit, ClockSource, Position, ProducerTime, RandomAccess, Sequence, ServerTime, StartKind, TrackId, TrackSet,
    TrackSetId,
};

/// The pictures that came last and are in no closed fragment, from the newest one on that decoding can start at.
///
/// Their times are what they will most likely be; they are final when the fragment is closed.
#[derive(Clone, Debug)]
pub struct OpenPictures {
    /// Where the fragment of the newest of them will stand.
    pub position: Position,
    /// When the first of them arrived, or the fragment before it if that is later.
    pub server_time: ServerTime,
    /// How they start: dependent when nothing in here can be decoded without the last closed fragment.
    pub start: StartKind,
    /// Count of the session's pictures before the first of these: with the position it names them.
    pub first: u64,
    /// The set they belong to, and the track of it.
    pub tracks: (TrackSetId, Arc<TrackSet>),
    /// See `tracks`.
    pub track: TrackId,
    /// Where their producer times come from, and their error bound in microseconds.
    pub clock: (ClockSource, u32),
    /// Something was lost before or among them.
    pub damaged: bool,
    /// In decode order.
    pub pictures: Vec<OpenPicture>,
}

/// One of them.
#[derive(Clone, Debug)]
pub struct OpenPicture {
    /// When it is shown, on the stream's timeline, in ticks of the track.
    pub pts: i64,
    /// The producer's clock then.
    pub producer_time: ProducerTime,
    /// The picture.
    pub unit: AccessUnit,
}

impl Fragmenter {
    /// The newest pictures that are in no closed fragment; none when there are none, or the stream has only sound.
    pub fn open_pictures(&self) -> Option<OpenPictures> {
        let lane = self.lanes.get(self.lead).filter(|lane| lane.picture)?;
        let tracks = self.next.track_set.clone()?;
        let access = lane.queue.iter().rposition(|unit| unit.random_access.is_exact());
        let first = access.unwrap_or(0);
        let unit = lane.queue.get(first)?;
        let number = lane.taken + first as u64;
        let start = match unit.random_access {
            RandomAccess::Closed => StartKind::Closed,
            RandomAccess::Open => StartKind::Open,
            RandomAccess::Gradual | RandomAccess::No => StartKind::Dependent,
        };
        let before = self.cuts.iter().filter(|cut| cut.before <= number).count() as u64;
        let sequence = Sequence(self.next.next_sequence.0.saturating_add(before));
        let shift = self.reference.and_then(|reference| self.shift_us(self.lead, reference)).unwrap_or(0);
        // Before the first fragment is closed: by arrival, as it is when none of them was delayed.
        let delay = |unit: &AccessUnit| unit.arrival.micros().saturating_sub(lane.micros(unit.pts));
        let arrival_base = lane.queue.iter().map(delay).min().unwrap_or(0);
        let known = self.last_producer;
        let pictures = lane.queue.iter().skip(first).map(|unit| OpenPicture {
            pts: unit.pts + lane.offset.unwrap_or(0),
            producer_time: match known {
                Some((time, at)) => time.plus_micros(lane.micros(unit.pts) + shift - at),
                None => ProducerTime::from_micros(lane.micros(unit.pts).saturating_add(arrival_base)),
            },
            unit: unit.clone(),
        });
        let pictures: Vec<OpenPicture> = pictures.collect();
        Some(OpenPictures {
            position: Position { epoch: self.next.epoch, sequence },
            server_time: self.next.last_server_time.map_or(unit.arrival, |last| last.max(unit.arrival)),
            start,
            first: number,
            tracks,
            track: lane.track,
            clock: self.last_clock,
            damaged: lane.damaged && access.is_none() || pictures.iter().skip(1).any(|one| one.unit.loss_before > 0),
            pictures,
        })
    }
}
