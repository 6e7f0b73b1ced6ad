//! Builds an access unit of a codec whose payloads say where it begins, for VP8, VP9 and AV1 alike.

use std::collections::VecDeque;

use bytes::BytesMut;
use media::{DropReason, Dropped, ServerTime};

use super::{MAX_ACCESS_UNIT_BYTES, Piece, Unit};

/// The unit in the making.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    data: BytesMut,
    timestamp: Option<i64>,
    arrival: ServerTime,
    /// Its beginning is there.
    has_start: bool,
    /// Something of this unit is missing or wrong: nothing of it is kept, and at its end it is a loss.
    broken: bool,
    /// Packets were lost before this unit, or it is the first.
    suspect: bool,
    lost: u32,
    /// A unit was begun before.
    begun: bool,
    /// The sender marks the ends of units.
    marks: bool,
    dropped: Dropped,
}

impl Assembly {
    /// Takes in the loss before a packet, and says whether the unit before ends because the packet is of another.
    pub(super) fn is_over(&mut self, piece: &Piece<'_>) -> bool {
        if piece.lost > 0 {
            // The missing packets may be of the old unit, of the new one, or both.
            self.spoil();
            self.lost = self.lost.saturating_add(piece.lost);
        }
        self.timestamp.is_some_and(|timestamp| timestamp != piece.timestamp)
    }

    /// A packet of this unit came; true when it is the first.
    pub(super) fn begin(&mut self, piece: &Piece<'_>) -> bool {
        self.arrival = piece.arrival;
        if self.timestamp.is_some() {
            return false;
        }
        self.timestamp = Some(piece.timestamp);
        (self.broken, self.has_start) = (false, false);
        // A source may be joined in the middle of a picture.
        self.suspect = piece.lost > 0 || !self.begun;
        self.begun = true;
        true
    }

    /// Whether only what the payload says tells if this is the unit's beginning: packets were lost before.
    pub(super) fn is_suspect(&self) -> bool {
        self.suspect
    }

    /// Whether the beginning is there, and all since.
    pub(super) fn is_running(&self) -> bool {
        self.has_start && !self.broken
    }

    /// The unit begins here.
    pub(super) fn start(&mut self) {
        self.has_start = true;
    }

    /// Bytes that have come.
    pub(super) fn len(&self) -> usize {
        self.data.len()
    }

    /// Bytes that follow; those without a beginning are no unit.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        if self.broken {
            // They would be thrown away at its end.
            return;
        }
        if !self.has_start || self.data.len() + bytes.len() > MAX_ACCESS_UNIT_BYTES {
            return self.spoil();
        }
        self.data.extend_from_slice(bytes);
    }

    /// Drops this unit: something in it is missing or not what it should be.
    pub(super) fn spoil(&mut self) {
        self.broken = true;
        self.data = BytesMut::new();
    }

    /// The sender said that the unit ends here.
    pub(super) fn marked(&mut self) {
        self.marks = true;
    }

    /// Nothing more comes: a unit whose mark is still to come is not whole.
    pub(super) fn finish(&mut self) {
        if self.marks && self.timestamp.is_some() {
            self.spoil();
        }
    }

    /// What was left out so far.
    pub(super) fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// Gives out the unit, if whole.
    pub(super) fn end(&mut self, out: &mut VecDeque<Unit>) {
        let Some(timestamp) = self.timestamp.take() else { return };
        let data = std::mem::take(&mut self.data);
        if !self.broken && !data.is_empty() {
            let loss_before = std::mem::take(&mut self.lost);
            out.push_back(Unit {
                timestamp,
                duration: None,
                loss_before,
                arrival: self.arrival,
                data: data.freeze(),
                rest: false,
            });
        } else if self.broken {
            self.dropped.count(DropReason::BrokenUnit, 1);
            self.lost = self.lost.max(1);
        }
        (self.broken, self.has_start) = (false, false);
    }
}
