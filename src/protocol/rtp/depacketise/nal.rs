//! Builds an access unit of length-prefixed NAL units, for H.264 and H.265 alike.

use std::collections::VecDeque;

use bytes::{BufMut, BytesMut};
use media::ServerTime;
use media::codec::MAX_NAL_BYTES;

use super::{MAX_ACCESS_UNIT_BYTES, Piece, Unit};

/// What the assembly must know of a NAL unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// A slice; `first` of its picture.
    Slice { first: bool },
    /// Anything else.
    Other,
}

/// The unit in the making.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    data: BytesMut,
    timestamp: Option<i64>,
    arrival: ServerTime,
    /// Where the fragmented NAL unit in the making starts: at its length.
    open: Option<usize>,
    has_slice: bool,
    /// Something of this unit is missing or wrong: nothing of it is kept, and at its end it is a loss.
    broken: bool,
    /// Packets were lost before this unit, so it counts only when it begins with a picture's first slice.
    suspect: bool,
    lost: u32,
    /// A unit was begun before.
    begun: bool,
    /// The sender marks the ends of units.
    marks: bool,
}

impl Assembly {
    /// A packet came: ends the unit before when the timestamp is another, and takes in the loss.
    pub(super) fn begin(&mut self, piece: &Piece<'_>, out: &mut VecDeque<Unit>) {
        let same = self.timestamp == Some(piece.timestamp);
        if piece.lost > 0 {
            // The missing packets may be of the old unit, of the new one, or both.
            self.spoil();
            self.lost = self.lost.saturating_add(piece.lost);
        }
        if !same {
            if self.timestamp.is_some() {
                self.end(out);
            }
            self.timestamp = Some(piece.timestamp);
            self.broken = false;
            // A source may be joined in the middle of a picture.
            self.suspect = piece.lost > 0 || !self.begun;
            self.begun = true;
        }
        self.arrival = piece.arrival;
    }

    /// A whole NAL unit.
    pub(super) fn nal(&mut self, nal: &[u8], kind: Kind) {
        if self.open.is_some() {
            // A fragmented unit whose end never came, though no packet is missing.
            self.spoil();
        }
        self.slice(kind);
        self.start(nal.len());
        self.append(nal);
        self.close();
    }

    /// The NAL units of an aggregation packet, each behind its length in two bytes (RFC 6184 section 5.7.1, RFC 7798 section
    /// 4.4.2). `kind` is none for what may not be there.
    pub(super) fn aggregate(&mut self, mut rest: &[u8], kind: fn(&[u8]) -> Option<Kind>) {
        while let Some((size, after)) = rest.split_first_chunk::<2>() {
            let size = usize::from(u16::from_be_bytes(*size));
            let (Some(nal), Some(next)) = (after.get(..size), after.get(size..)) else { return self.spoil() };
            let Some(kind) = kind(nal) else { return self.spoil() };
            self.nal(nal, kind);
            rest = next;
        }
        if !rest.is_empty() {
            self.spoil();
        }
    }

    /// A fragment of a NAL unit: `fu` is the FU header, whose first bits are start and end (RFC 6184 section 5.8, RFC 7798
    /// section 4.4.3), `header` the NAL header made again, `bytes` what follows.
    pub(super) fn fragment(&mut self, fu: u8, header: &[u8], bytes: &[u8], kind: Kind) {
        let (start, end) = (fu & 0x80 != 0, fu & 0x40 != 0);
        if start == self.open.is_some() {
            self.spoil();
        }
        if start {
            self.slice(kind);
            self.start(bytes.len());
            self.append(header);
        }
        self.append(bytes);
        // Start and end in one packet is forbidden and sent by some cameras all the same.
        if end {
            self.close();
        }
    }

    /// Drops this unit: something in it is missing or not what it should be.
    pub(super) fn spoil(&mut self) {
        self.broken = true;
        self.open = None;
        self.data = BytesMut::new();
    }

    /// The packet had the marker: the unit is complete, unless it holds parameter sets only. Cameras (Reolink, Hikvision)
    /// mark the packets of parameter sets too, and the picture follows with the same timestamp.
    pub(super) fn marker(&mut self, out: &mut VecDeque<Unit>) {
        if self.has_slice || self.broken {
            self.marks = true;
            self.end(out);
        }
    }

    /// Nothing more comes: a unit whose mark is still to come is not whole.
    pub(super) fn finish(&mut self, out: &mut VecDeque<Unit>) {
        if self.marks && self.timestamp.is_some() {
            self.spoil();
        }
        self.end(out);
    }

    /// Gives out the unit, if whole.
    pub(super) fn end(&mut self, out: &mut VecDeque<Unit>) {
        let Some(timestamp) = self.timestamp.take() else { return };
        let whole = !self.broken && self.open.is_none() && self.has_slice;
        let data = std::mem::take(&mut self.data);
        if whole {
            let loss_before = std::mem::take(&mut self.lost);
            out.push_back(Unit { timestamp, duration: None, loss_before, arrival: self.arrival, data: data.freeze() });
        } else if !data.is_empty() || self.broken {
            self.lost = self.lost.max(1);
        }
        self.open = None;
        self.has_slice = false;
        self.broken = false;
    }

    fn slice(&mut self, kind: Kind) {
        if let Kind::Slice { first } = kind {
            if self.suspect && !self.has_slice && !first {
                self.spoil();
            }
            self.has_slice = true;
        }
    }

    fn start(&mut self, expected: usize) {
        if self.broken {
            // Its bytes would be thrown away at its end.
            return;
        }
        if self.data.capacity() == 0 {
            self.data.reserve(expected.max(2 << 10) + 4);
        }
        self.open = Some(self.data.len());
        self.data.put_u32(0);
    }

    fn append(&mut self, bytes: &[u8]) {
        let Some(open) = self.open else { return };
        let nal_len = self.data.len() - open - 4 + bytes.len();
        if nal_len > MAX_NAL_BYTES || self.data.len() + bytes.len() > MAX_ACCESS_UNIT_BYTES {
            self.spoil();
            return;
        }
        self.data.extend_from_slice(bytes);
    }

    fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        let nal_len = u32::try_from(self.data.len() - open - 4).expect("below MAX_NAL_BYTES");
        self.data[open..open + 4].copy_from_slice(&nal_len.to_be_bytes());
    }
}
