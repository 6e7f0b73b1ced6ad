//! What is stored: selections, bounds, heads. Every answer is one moment of memory and index together.

use std::sync::Arc;

use media::fragmenter::FIRST_STREAM_TIME_US;
use media::{
    ClockSource, FragmentInfo, FragmentTrack, GapReason, Ordinal, Position, Sequence, ServerTime, StartKind, StreamId,
    Timescale, TrackId, TrackSet, TrackSetId,
};

use crate::blobs::BlockKey;
use crate::block::{Footer, Record};
use crate::core::{Core, Phase, entries_of, entries_where, stored};
use crate::disk::{Disk, read_whole};
use crate::index::{BlockRow, BlockState};
use crate::layout::{Layout, disk_error};
use crate::packed::Entry;
use crate::standing::Standing;
use crate::{Bounds, Expiry, Place, Select, StoreError, Stored, StreamHead};

/// Rows asked of the index at once.
const PAGE: usize = 64;

impl Select {
    /// Whether a fragment belongs to the selection.
    pub(crate) fn takes(&self, info: &FragmentInfo) -> bool {
        match *self {
            Select::Producer(from, to) => {
                meets(info.producer_time.micros(), info.producer_end().micros(), from.micros(), to.micros())
            }
            Select::Server(from, to) => {
                meets(info.server_time.micros(), info.server_end().micros(), from.micros(), to.micros())
            }
            Select::After(position) => info.position > position,
            Select::Ordinals(from, to) => (from..to).contains(&info.ordinal),
        }
    }
}

/// Whether the span `[a, b)` meets the range `[from, to)`; an empty span is an instant.
fn meets(a: i64, b: i64, from: i64, to: i64) -> bool {
    a < to && (b > from || a >= from)
}

/// Whether readers get what lies in such a block.
pub(crate) fn served(row: &BlockRow) -> bool {
    matches!(row.state, BlockState::Sealed | BlockState::Quarantined)
}

/// What is kept of a stream whose blocks retention took.
pub(crate) struct LastRecord {
    pub tracks: TrackSet,
    /// Its last fragment's record; `previous` is where its body was.
    pub record: Record,
    pub ended: Option<GapReason>,
}

/// Reads a stream's `last`; none when there is none that is right.
pub(crate) fn read_last(disk: &dyn Disk, layout: &Layout, stream: StreamId) -> std::io::Result<Option<LastRecord>> {
    let bytes = match read_whole(disk, &layout.last(stream), 1 << 20) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes?,
    };
    let Ok((tracks, head_len)) = media::container::cmaf::read_head(&bytes) else { return Ok(None) };
    let Ok(record) = Record::decode(&bytes[head_len..]) else { return Ok(None) };
    let after = head_len + record.header_len();
    let ended = Record::decode(&bytes[after..]).ok().and_then(|gap| gap.info.break_before);
    Ok(Some(LastRecord { tracks, record, ended }))
}

/// Most blocks that [`Core::expiry`] names: a stream with many more to drop does not keep others waiting for theirs.
const EXPIRED_AT_ONCE: usize = 256;

impl Core {
    /// Persisted fragments of the selection, the first `limit` in stream order.
    pub(crate) fn select(&self, stream: StreamId, select: Select, limit: usize) -> Result<Vec<Stored>, StoreError> {
        if !self.exists(stream) {
            return Ok(Vec::new());
        }
        // Memory first: a block that moves to the index meanwhile is then seen here, and what the index has beyond
        // our newest block is left out, since the end of that block may be missing here.
        let mut found = Vec::new();
        let mut shown: Vec<Position> = Vec::new();
        if let Some(blocks) = self.memory().get(&stream) {
            for (first, block) in blocks {
                shown.push(*first);
                let room = limit.saturating_sub(found.len());
                let taken = block.entries.iter().filter(|entry| select.takes(&entry.info)).take(room);
                found.extend(taken.map(|entry| stored(stream, *first, entry)));
            }
        }
        let page = limit.div_ceil(16).clamp(2, PAGE);
        let mut indexed = 0;
        let mut after = None;
        loop {
            let rows = self.page(stream, select, after, page)?;
            let is_last = rows.len() < page;
            after = rows.last().map(Cursor::past).or(after);
            for row in rows.iter().filter(|row| served(row)) {
                if shown.contains(&row.first) || shown.last().is_some_and(|newest| *newest < row.first) {
                    continue;
                }
                if indexed >= limit {
                    break;
                }
                let wanted = entries_where(row, |entry| select.takes(&entry.info))?;
                indexed += wanted.len();
                found.extend(wanted.iter().map(|entry| stored(stream, row.first, entry)));
            }
            if is_last || indexed >= limit {
                break;
            }
        }
        found.sort_by_key(|stored| stored.info.position);
        found.truncate(limit);
        Ok(found)
    }

    /// The persisted fragment at `position`, if it is there.
    pub(crate) fn fragment(&self, stream: StreamId, position: Position) -> Result<Option<Stored>, StoreError> {
        if !self.exists(stream) {
            return Ok(None);
        }
        // Memory first, as in `select`.
        if let Some(blocks) = self.memory().get(&stream)
            && let Some((first, block)) = blocks.range(..=position).next_back()
            && let Ok(at) = block.entries.binary_search_by_key(&position, |entry| entry.info.position)
        {
            return Ok(Some(stored(stream, *first, &block.entries[at])));
        }
        let Some(before) = position.sequence.0.checked_sub(1) else { return Ok(None) };
        let before = Position { epoch: position.epoch, sequence: Sequence(before) };
        // Blocks do not overlap: the first that ends after `before` has the fragment, or none has.
        let rows = self.ground.index.after(stream, before, 1)?;
        let Some(row) = rows.first().filter(|row| served(row) && row.first <= position) else { return Ok(None) };
        let found = entries_where(row, |entry| entry.info.position == position)?.pop();
        Ok(found.map(|entry| stored(stream, row.first, &entry)))
    }

    fn page(
        &self,
        stream: StreamId,
        select: Select,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<BlockRow>, StoreError> {
        let index = &self.ground.index;
        let first = after.map(|cursor| cursor.first);
        Ok(match select {
            Select::Producer(from, to) => index.by_producer(stream, from, to, first, limit)?,
            Select::Server(from, to) => index.by_server(stream, from, to, first, limit)?,
            Select::After(position) => {
                let position = after.map_or(position, |cursor| position.max(cursor.last));
                index.after(stream, position, limit)?
            }
            Select::Ordinals(from, to) => {
                let from = after.map_or(from, |cursor| from.max(cursor.next_ordinal));
                if from >= to { Vec::new() } else { index.by_ordinal(stream, from, to, limit)? }
            }
        })
    }

    /// First and last of the stream, and what it holds on disk.
    pub(crate) fn bounds(&self, stream: StreamId) -> Result<Option<Bounds>, StoreError> {
        let Some(first) = self.select(stream, Select::After(Position::default()), 1)?.pop() else { return Ok(None) };
        let Some(last) = self.last(stream)? else { return Ok(None) };
        let (mut bytes, mut blocks) = self.ground.index.usage(stream)?;
        let shown: Vec<(Position, u64)> = match self.memory().get(&stream) {
            Some(shown) => shown.iter().map(|(first, block)| (*first, block.synced_bytes)).collect(),
            None => Vec::new(),
        };
        for (first, synced_bytes) in shown {
            match self.ground.index.block(stream, first)? {
                Some(row) => bytes = (bytes + synced_bytes).saturating_sub(row.synced_bytes),
                None => (bytes, blocks) = (bytes + synced_bytes, blocks + 1),
            }
        }
        Ok(Some(Bounds { first, last, bytes, blocks }))
    }

    /// The newest persisted fragment that is still there.
    pub(crate) fn last(&self, stream: StreamId) -> Result<Option<Stored>, StoreError> {
        if let Some(blocks) = self.memory().get(&stream)
            && let Some((first, entry)) =
                blocks.iter().rev().find_map(|(first, block)| Some((first, block.entries.last()?)))
        {
            return Ok(Some(stored(stream, *first, entry)));
        }
        let Some(row) = self.newest_served(stream)? else { return Ok(None) };
        Ok(entries_of(&row)?.last().map(|entry| stored(stream, row.first, entry)))
    }

    /// The newest row that is served; when the very newest is not, it is found by walking back in ordinals.
    fn newest_served(&self, stream: StreamId) -> Result<Option<BlockRow>, StoreError> {
        let Some(mut row) = self.ground.index.newest(stream)? else { return Ok(None) };
        // What is looked through doubles: damage at the end is rare, and short.
        let mut reach = 256;
        while !served(&row) || row.count == 0 {
            let from = Ordinal(row.first_ordinal.0.saturating_sub(reach));
            let mut before = None;
            let mut at = from;
            loop {
                let rows = self.ground.index.by_ordinal(stream, at, row.first_ordinal, PAGE)?;
                let Some(end) = rows.last().map(|row| Cursor::past(row).next_ordinal) else { break };
                before = rows.into_iter().rfind(|row| served(row) && row.count > 0).or(before);
                if end <= at {
                    break;
                }
                at = end;
            }
            match before {
                Some(found) => row = found,
                None if from.0 == 0 => return Ok(None),
                None => reach = reach.saturating_mul(2),
            }
        }
        Ok(Some(row))
    }

    /// Where the stream's next fragment continues: after the last that can be read, and behind all that blocks after it
    /// may have held.
    pub(crate) fn head(&self, stream: StreamId) -> Result<Option<StreamHead>, StoreError> {
        if !self.exists(stream) {
            return Ok(None);
        }
        let rotate_bytes = self.settings.rotate_bytes;
        let (last, mut track_set, ended, mut standing) = match self.last(stream)? {
            Some(last) => {
                let id = last.info.track_set;
                let set = self.track_set(stream, id)?.unwrap_or_else(unreadable_tracks);
                let ended = self.ended(stream, &last)?;
                let mut standing = Standing::at(&last.info);
                if let Some(row) = self.ground.index.block(stream, last.place.block)?
                    && row.state == BlockState::Quarantined
                {
                    standing = Standing::past(Some(standing), &row, rotate_bytes)?;
                }
                (last, (id, set), ended, Some(standing))
            }
            None => match (self.remembered(stream)?, self.ground.index.oldest(stream)?) {
                (Some((last, track_set, ended)), _) => (last, track_set, ended, self.standing_of_dropped(stream)?),
                (None, Some(row)) => {
                    let last = nothing_known(&row);
                    (last, (TrackSetId(0), unreadable_tracks()), GapReason::Damaged, None)
                }
                (None, None) => return Ok(None),
            },
        };
        let end_us = end_us(&last.info, &track_set.1);
        let mut discontinuities = last.info.discontinuities;
        let mut unreadable = 0;
        let mut position = standing.map_or(Position::default(), |standing| standing.position);
        loop {
            let rows = self.ground.index.after(stream, position, PAGE)?;
            let Some(newest) = rows.last().map(|row| row.last) else { break };
            for row in &rows {
                standing = Some(Standing::past(standing, row, rotate_bytes)?);
                discontinuities = discontinuities.max(row.discontinuities);
                unreadable += u32::from(!served(row) || row.count == 0);
            }
            position = position.max(newest);
        }
        let standing = standing.unwrap_or(Standing::at(&last.info));
        if unreadable > 0 {
            // Each may have had tracks of its own, under the next id.
            track_set = (TrackSetId(track_set.0.0.saturating_add(unreadable)), unreadable_tracks());
        }
        Ok(Some(StreamHead {
            position: standing.position,
            next_ordinal: standing.next_ordinal(),
            discontinuities,
            end_us,
            track_set,
            last,
            ended: if unreadable > 0 { GapReason::Damaged } else { ended },
        }))
    }

    /// Why the stream paused after `last`.
    fn ended(&self, stream: StreamId, last: &Stored) -> Result<GapReason, StoreError> {
        let shown = self.memory().get(&stream).and_then(|blocks| {
            let block = blocks.get(&last.place.block)?;
            Some(if block.phase == Phase::Open { Some(GapReason::PublisherLeft) } else { block.ended })
        });
        let said = match shown {
            Some(ended) => ended,
            None => self.footer(stream, last.place.block)?.and_then(|footer| footer.ended),
        };
        // Rotated, and then nothing: this life goes on, an earlier one ended by a crash.
        let silent =
            if last.info.position.epoch == self.epoch { GapReason::PublisherLeft } else { GapReason::ServerCrashed };
        Ok(said.unwrap_or(silent))
    }

    /// A sealed block's footer, from its end or from beside it.
    pub(crate) fn footer(&self, stream: StreamId, first: Position) -> Result<Option<Footer>, StoreError> {
        let beside = crate::recover::read_sidecar(&*self.ground.disk, &self.layout, stream, first)
            .map_err(|error| disk_error("read sidecar", error))?;
        if beside.is_some() {
            return Ok(beside);
        }
        let blob = match self.ground.blobs.open(BlockKey { stream, first }) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            blob => blob.map_err(|error| disk_error("open block", error))?,
        };
        Footer::read(&*blob).map_err(|error| disk_error("read footer", error))
    }

    /// What is kept of a stream whose blocks retention took.
    pub(crate) fn remembered(&self, stream: StreamId) -> Result<Option<Remembered>, StoreError> {
        let last =
            read_last(&*self.ground.disk, &self.layout, stream).map_err(|error| disk_error("read last", error))?;
        let Some(LastRecord { tracks, record, ended }) = last else { return Ok(None) };
        let entry = Entry { body_offset: record.previous, info: record.info };
        let last = stored(stream, entry.info.position, &entry);
        let track_set = (last.info.track_set, Arc::new(tracks));
        Ok(Some((last, track_set, ended.unwrap_or(GapReason::PublisherLeft))))
    }

    /// How far the stream is to be dropped; none when nothing is.
    pub(crate) fn expiry(
        &self,
        stream: StreamId,
        now: ServerTime,
        max_age: Option<std::time::Duration>,
        max_bytes: Option<u64>,
    ) -> Result<Option<Expiry>, StoreError> {
        let horizon = max_age.map(|age| now.plus_micros(-i64::try_from(age.as_micros()).unwrap_or(i64::MAX)));
        let mut over = match max_bytes {
            Some(max) => self.bounds(stream)?.map_or(0, |bounds| bounds.bytes.saturating_sub(max)),
            None => 0,
        };
        let mut expiry = None;
        let mut named = 0;
        let mut position = Position::default();
        let oldest_open = self.memory().get(&stream).and_then(|blocks| blocks.keys().next().copied());
        loop {
            let rows = self.ground.index.after(stream, position, PAGE)?;
            let Some(last) = rows.last().map(|row| row.last) else { return Ok(expiry) };
            for row in &rows {
                let open = row.state == BlockState::Open || oldest_open.is_some_and(|open| open <= row.first);
                let aged = horizon.is_some_and(|horizon| row.server_to <= horizon);
                if open || !(aged || over > 0) || named == EXPIRED_AT_ONCE {
                    return Ok(expiry);
                }
                named += 1;
                over = over.saturating_sub(row.synced_bytes);
                expiry = Some(Expiry::with(expiry, row));
            }
            position = position.max(last);
        }
    }
}

/// What stands for a track set whose block's head is damaged: no publisher's tracks continue it.
pub(crate) fn unreadable_tracks() -> Arc<TrackSet> {
    let track = media::codec::opaque::track(TrackId(u32::MAX), Timescale::MICROS, "unreadable", &[]);
    Arc::new(TrackSet::new(vec![track.expect("a short name")]).expect("one track"))
}

/// What stands for the last fragment of a stream of which none can be read: before its oldest block.
pub(crate) fn nothing_known(row: &BlockRow) -> Stored {
    let info = FragmentInfo {
        position: Position::default(),
        ordinal: Ordinal(0),
        start: StartKind::Dependent,
        damaged: true,
        end_of_session: true,
        break_before: Some(GapReason::Damaged),
        discontinuities: 0,
        track_set: TrackSetId(0),
        producer_time: row.producer_from,
        clock_source: ClockSource::Arrival,
        clock_error_us: 0,
        server_time: row.server_from,
        duration_us: 0,
        body_len: 0,
        tracks: Vec::new(),
    };
    Stored { info, place: Place { stream: row.stream, block: row.first, body_offset: 0 } }
}

/// Where the fragment ends on the stream's timeline, in microseconds.
fn end_us(info: &FragmentInfo, tracks: &TrackSet) -> i64 {
    let end = |part: &FragmentTrack| part.first_pts.saturating_add(i64::try_from(part.duration).unwrap_or(i64::MAX));
    let known = info.tracks.iter().filter_map(|part| Some(tracks.track(part.track)?.timescale.to_micros(end(part))));
    if let Some(known) = known.max() {
        return known;
    }
    // The tracks are not readable. The leading one lasts as long as the fragment, so one of the rates is nearly right;
    // time must not go back, so it goes on a little later.
    let guessed = info.tracks.iter().filter_map(|part| {
        let ticks = i128::from(end(part)) * i128::from(info.duration_us);
        let guess = ticks.checked_div(i128::from(part.duration))?;
        i64::try_from(guess + guess / 100_000 + 10_000_000).ok()
    });
    guessed.max().unwrap_or(FIRST_STREAM_TIME_US)
}

/// Last fragment, tracks, why it ended.
pub(crate) type Remembered = (Stored, (media::TrackSetId, Arc<TrackSet>), GapReason);

/// Where a page of rows ended.
#[derive(Clone, Copy)]
struct Cursor {
    first: Position,
    last: Position,
    next_ordinal: Ordinal,
}

impl Cursor {
    fn past(row: &BlockRow) -> Cursor {
        let next_ordinal = Ordinal(row.first_ordinal.0.saturating_add(u64::from(row.count)));
        Cursor { first: row.first, last: row.last, next_ordinal }
    }
}
