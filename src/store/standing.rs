//! Where a stream's ordinals stand behind blocks that cannot be read: no ordinal is ever given twice, so what a damaged
//! block may have held is skipped.
//!
//! Nothing that could be damaged together with a block is believed, nor the index, which may be lost: only names, lengths,
//! and the last fragment that can be read. Positions and ordinals go up together within an epoch, and a block has no hole
//! in its ordinals; so its name says with which ordinal it begins, and its length how many it has at most.
//!
//! Not here: what is readable of a block (`recover`), who goes on where (`query`).

use media::{FragmentInfo, Ordinal, Position, ProducerTime, ServerTime, StreamId};

use crate::StoreError;
use crate::block::record::FIXED_LEN;
use crate::core::{Core, entries_of};
use crate::index::{BlockRow, BlockState};
use crate::layout::disk_error;
use crate::query::{read_last, served};

/// Rows asked of the index at once.
const PAGE: usize = 64;

/// Where a stream stands behind some fragment or block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Standing {
    /// The last position known.
    pub position: Position,
    /// The ordinal there, or a greater one.
    ordinal: u64,
    /// Every ordinal that may have been given is below.
    next_ordinal: u64,
}

impl Standing {
    /// Behind this fragment.
    pub(crate) fn at(info: &FragmentInfo) -> Standing {
        let ordinal = info.ordinal.0;
        Standing { position: info.position, ordinal, next_ordinal: ordinal.saturating_add(1) }
    }

    /// The next ordinal that was never given.
    pub(crate) fn next_ordinal(self) -> Ordinal {
        Ordinal(self.next_ordinal)
    }

    /// Behind this block too, which comes after `before`. A block whose row lacks its newest fragments has at most
    /// `block_bytes`.
    pub(crate) fn past(before: Option<Standing>, row: &BlockRow, block_bytes: u64) -> Result<Standing, StoreError> {
        if let Some(entry) = entries_of(row)?.last() {
            // Whatever was skipped before it: it says itself where it is.
            let mut at = Standing::at(&entry.info);
            if row.state == BlockState::Quarantined {
                let end = entry.body_offset.saturating_add(u64::from(entry.info.body_len));
                at.next_ordinal = at.next_ordinal.saturating_add(at_most(row.synced_bytes.saturating_sub(end)));
            }
            return Ok(at);
        }
        let mut behind = if row.count > 0 {
            // It was lost while it was written: what its checkpoint says, and what may have come after.
            let count = u64::from(row.count);
            let ordinal = row.first_ordinal.0.saturating_add(count - 1);
            Standing { position: row.last, ordinal, next_ordinal: ordinal.saturating_add(1 + at_most(block_bytes)) }
        } else {
            let ordinal = first_ordinal(before, row.first);
            let count = at_most(row.synced_bytes).max(1);
            Standing { position: row.first, ordinal, next_ordinal: ordinal.saturating_add(count) }
        };
        behind.next_ordinal = behind.next_ordinal.max(before.map_or(0, |before| before.next_ordinal));
        Ok(behind)
    }

    /// As `last` keeps it: the ordinal, and how many after it are skipped.
    pub(crate) fn parts(self) -> (Ordinal, u64) {
        (Ordinal(self.ordinal), self.next_ordinal.saturating_sub(self.ordinal).saturating_sub(1))
    }
}

/// Fragments that these bytes hold at most.
fn at_most(bytes: u64) -> u64 {
    bytes / FIXED_LEN as u64
}

/// The ordinal with which the block begins that is named `first`; or a greater one.
fn first_ordinal(before: Option<Standing>, first: Position) -> u64 {
    let of_epoch = first.sequence.0.saturating_sub(1);
    match before {
        Some(before) if before.position.epoch == first.epoch => {
            let apart = first.sequence.0.saturating_sub(before.position.sequence.0);
            before.ordinal.saturating_add(apart)
        }
        Some(before) => before.next_ordinal.saturating_add(of_epoch),
        None => of_epoch,
    }
}

impl Core {
    /// Where the stream stands by what is kept of the fragments that retention took; none when it took none.
    pub(crate) fn standing_of_dropped(&self, stream: StreamId) -> Result<Option<Standing>, StoreError> {
        let last =
            read_last(&*self.ground.disk, &self.layout, stream).map_err(|error| disk_error("read last", error))?;
        Ok(last.map(|last| {
            let at = Standing::at(&last.record.info);
            Standing { next_ordinal: at.next_ordinal.saturating_add(last.record.synced_upto), ..at }
        }))
    }

    /// Gives blocks without one readable fragment their place among their neighbours: ordinals that rise with positions,
    /// and a time. That is when the block after them begins, or now: retention may let them go late, never early.
    pub(crate) fn place_unreadable(&self, stream: StreamId) -> Result<(), StoreError> {
        let mut before: Option<Standing> = None;
        let mut newest_row: Option<BlockRow> = None;
        let mut waiting: Vec<BlockRow> = Vec::new();
        let mut placed: Vec<BlockRow> = Vec::new();
        let mut position = Position::default();
        loop {
            let rows = self.ground.index.after(stream, position, PAGE)?;
            let Some(end) = rows.last().map(|row| row.last) else { break };
            for mut row in rows {
                if newest_row.is_none() && waiting.is_empty() {
                    before = self.standing_of_dropped(stream)?.filter(|dropped| dropped.position < row.first);
                }
                if row.count == 0 {
                    row.first_ordinal = Ordinal(first_ordinal(before, row.first));
                    row.discontinuities = newest_row.as_ref().map_or(0, |row| row.discontinuities);
                    before = Some(Standing::past(before, &row, self.settings.rotate_bytes)?);
                    waiting.push(row);
                    continue;
                }
                before = Some(Standing::past(before, &row, self.settings.rotate_bytes)?);
                for mut unreadable in waiting.drain(..) {
                    unreadable.first_ordinal = unreadable.first_ordinal.min(row.first_ordinal);
                    placed.push(at_time(unreadable, row.server_from, row.producer_from));
                }
                newest_row = Some(row);
            }
            position = position.max(end);
        }
        let now = self.ground.clock.now();
        let producer = newest_row.map_or(ProducerTime::from_micros(now.micros()), |row| row.producer_to);
        placed.extend(waiting.into_iter().map(|row| at_time(row, now, producer)));
        if !placed.is_empty() {
            self.ground.index.put(&placed)?;
        }
        Ok(())
    }

    /// Whether readers get a fragment of the index that lies after `position`.
    pub(crate) fn is_readable_after(&self, stream: StreamId, mut position: Position) -> Result<bool, StoreError> {
        loop {
            let rows = self.ground.index.after(stream, position, PAGE)?;
            let Some(last) = rows.last().map(|row| row.last) else { return Ok(false) };
            if rows.iter().any(|row| served(row) && row.count > 0) {
                return Ok(true);
            }
            position = position.max(last);
        }
    }
}

fn at_time(row: BlockRow, server: ServerTime, producer: ProducerTime) -> BlockRow {
    BlockRow { server_from: server, server_to: server, producer_from: producer, producer_to: producer, ..row }
}
