//! Builds an access unit of length-prefixed NAL units, for H.264 and H.265 alike.
//!
//! A unit ends with the packet that has the marker, or with the next timestamp. The marker is a hint: some senders set it
//! on every packet. What comes behind it and belongs to the same frame is given out as the rest of that frame, and from then
//! on this sender's units end where the next one begins. NAL units without a frame (parameter sets, SEI, delimiters) that
//! come with a timestamp of their own belong to the next frame.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, BytesMut};
use media::codec::nal;
use media::{DropReason, Dropped, ServerTime};

use super::{MAX_ACCESS_UNIT_BYTES, Piece, Unit};

/// NAL units at the start of a session in which start codes are looked for even inside of slices.
const LOOK_FOR_START_CODES: u32 = 64;

/// What the assembly must know of a NAL unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// A slice; `first` of its frame.
    Slice { first: bool },
    /// Stands before the first slice of its frame: a parameter set, a delimiter.
    Before,
    /// Anything else that is kept: SEI, filler, end of sequence.
    Other,
    /// Nothing that a decoder reads: unspecified, reserved and private types.
    Unknown,
    /// Damaged, or packed in a way that is not unpacked here: slices may be lost with it.
    Unreadable,
}

/// The unit in the making.
#[derive(Debug)]
pub(super) struct Assembly {
    kind: fn(&[u8]) -> Kind,
    data: BytesMut,
    timestamp: Option<i64>,
    arrival: ServerTime,
    /// Where the fragmented NAL unit in the making starts: at its length.
    open: Option<usize>,
    has_slice: bool,
    /// Something of this unit is missing or wrong: nothing of it is kept, and at its end it is a loss.
    broken: bool,
    /// Something before this unit is missing, so it counts only when it begins with a frame's first slice.
    suspect: bool,
    lost: u32,
    /// What comes next begins a unit: the one before was begun at its start, and is not spoilt.
    in_step: bool,
    /// The sender marks the ends of units.
    marks: bool,
    /// It marks other packets, too.
    marks_early: bool,
    /// The packet before had the marker.
    marked: bool,
    /// Timestamp of the whole unit that was given out last, while more of it may come.
    given: Option<i64>,
    /// What is in the making is more of the unit that was given out.
    rest: bool,
    /// The sender leaves start codes (ITU-T H.264 annex B) in payloads.
    start_codes: bool,
    looked_at: u32,
    dropped: Dropped,
}

impl Assembly {
    /// Of NAL units that `kind` tells apart.
    pub(super) fn new(kind: fn(&[u8]) -> Kind) -> Assembly {
        Assembly {
            kind,
            data: BytesMut::new(),
            timestamp: None,
            arrival: ServerTime::default(),
            open: None,
            has_slice: false,
            broken: false,
            suspect: false,
            lost: 0,
            in_step: false,
            marks: false,
            marks_early: false,
            marked: false,
            given: None,
            rest: false,
            start_codes: false,
            looked_at: 0,
            dropped: Dropped::default(),
        }
    }

    /// What was left out so far.
    pub(super) fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// A packet came: ends the unit before when the timestamp is another, and takes in the loss.
    pub(super) fn begin(&mut self, piece: &Piece<'_>, out: &mut VecDeque<Unit>) {
        if piece.lost > 0 {
            // The missing packets may be of the old unit, of the new one, or both.
            if self.timestamp.is_some() {
                self.spoil();
            }
            self.given = None;
            self.lost = self.lost.saturating_add(piece.lost);
        }
        if self.timestamp != Some(piece.timestamp) {
            if self.holds_no_frame() && !self.rest {
                // Parameter sets and the like with a timestamp of their own: the frame that they belong to follows.
                self.suspect |= piece.lost > 0;
            } else {
                self.end(out);
                // A source may be joined in the middle of a frame.
                self.suspect = piece.lost > 0 || !self.in_step;
            }
            self.rest = self.timestamp.is_none() && self.given == Some(piece.timestamp);
            self.timestamp = Some(piece.timestamp);
            self.in_step = true;
        }
        self.arrival = piece.arrival;
    }

    /// A whole NAL unit.
    pub(super) fn nal(&mut self, nal: &[u8], out: &mut VecDeque<Unit>) {
        if self.open.is_some() {
            // A fragmented unit whose end never came, though no packet is missing.
            self.spoil();
        }
        self.start(nal, out);
        self.append(nal);
        self.close();
    }

    /// The NAL units of an aggregation packet, each behind its length in two bytes (RFC 6184 section 5.7.1, RFC 7798 section
    /// 4.4.2). Zeros behind the last are padding.
    pub(super) fn aggregate(&mut self, mut rest: &[u8], out: &mut VecDeque<Unit>) {
        while rest.iter().any(|byte| *byte != 0) {
            let Some((size, after)) = rest.split_first_chunk::<2>() else { return self.spoil() };
            let Some((nal, next)) = after.split_at_checked(usize::from(u16::from_be_bytes(*size))) else {
                return self.spoil();
            };
            if !nal.is_empty() {
                self.nal(nal, out);
            }
            rest = next;
        }
    }

    /// A fragment of a NAL unit: `fu` is the FU header, whose first bits are start and end (RFC 6184 section 5.8, RFC 7798
    /// section 4.4.3), `header` the NAL header made again, `bytes` what follows. Only the first fragment's type counts: Tiandy
    /// cameras send others later.
    pub(super) fn fragment(&mut self, fu: u8, header: &[u8], bytes: &[u8], out: &mut VecDeque<Unit>) {
        let (start, end) = (fu & 0x80 != 0, fu & 0x40 != 0);
        if start == self.open.is_some() {
            self.spoil();
        }
        if start {
            let mut head = [0; 3];
            head[..header.len()].copy_from_slice(header);
            head[header.len()] = bytes.first().copied().unwrap_or(0);
            self.start(&head[..=header.len()], out);
            self.append(header);
        }
        self.append(bytes);
        // Start and end in one packet is forbidden and sent by some cameras (CostarHD) all the same.
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

    /// The packet is done. With the marker the unit is complete, unless it has no slice yet (cameras such as Reolink's and
    /// Hikvision's mark the packets of parameter sets, and the frame follows), or this sender is known to mark too early.
    pub(super) fn packet_ends(&mut self, marker: bool, out: &mut VecDeque<Unit>) {
        self.marked = marker;
        if !marker {
            return;
        }
        self.marks_early |= self.open.is_some() || (self.rest && self.has_slice);
        if self.broken || (self.open.is_none() && (self.rest || (self.has_slice && !self.marks_early))) {
            self.marks = true;
            self.end(out);
        }
    }

    /// Nothing more comes: a unit whose mark is still to come is not whole, and what has no frame belongs to the last one.
    pub(super) fn finish(&mut self, out: &mut VecDeque<Unit>) {
        if self.marks && !self.marked && self.has_slice {
            self.spoil();
        }
        self.rest |= self.holds_no_frame() && self.in_step;
        self.end(out);
        self.given = None;
    }

    /// Gives out the unit, if whole.
    fn end(&mut self, out: &mut VecDeque<Unit>) {
        let Some(timestamp) = self.timestamp.take() else { return };
        let whole = !self.broken && self.open.is_none() && (self.has_slice || self.rest);
        let data = std::mem::take(&mut self.data);
        let rest = std::mem::take(&mut self.rest);
        if whole && !data.is_empty() {
            // The rest says nothing of losses: the next unit does.
            let loss_before = if rest { 0 } else { std::mem::take(&mut self.lost) };
            let arrival = self.arrival;
            out.push_back(Unit { timestamp, duration: None, loss_before, arrival, data: data.freeze(), rest });
            self.given = Some(timestamp);
        } else if !data.is_empty() || self.broken {
            self.dropped.count(DropReason::BrokenUnit, 1);
            self.lost = self.lost.max(1);
            self.given = None;
            self.in_step = false;
        }
        self.open = None;
        self.has_slice = false;
        self.broken = false;
    }

    /// Whole NAL units wait here for their frame.
    fn holds_no_frame(&self) -> bool {
        self.timestamp.is_some() && !self.has_slice && !self.broken && self.open.is_none()
    }

    /// A NAL unit begins with `head`, as much of it as is needed to tell what it is.
    fn start(&mut self, head: &[u8], out: &mut VecDeque<Unit>) {
        let kind = (self.kind)(head);
        let leads = matches!(kind, Kind::Before | Kind::Slice { first: true });
        if leads && (self.rest || (self.has_slice && self.marks_early && self.marked)) {
            // The next frame with the same timestamp.
            let timestamp = self.timestamp;
            self.end(out);
            self.timestamp = timestamp;
            self.given = None;
        }
        self.marked = false;
        if self.broken {
            // Its bytes would be thrown away at its end.
            return;
        }
        if self.data.capacity() == 0 {
            self.data.reserve(head.len().max(2 << 10) + 4);
        }
        self.open = Some(self.data.len());
        self.data.put_u32(0);
    }

    fn append(&mut self, bytes: &[u8]) {
        if self.open.is_none() {
            return;
        }
        if self.data.len() + bytes.len() > MAX_ACCESS_UNIT_BYTES {
            return self.spoil();
        }
        self.data.extend_from_slice(bytes);
    }

    /// The NAL unit in the making is complete.
    fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        let at = open + 4;
        self.looked_at = self.looked_at.saturating_add(1);
        let is_slice = matches!((self.kind)(&self.data[at..]), Kind::Slice { .. });
        let look = !is_slice || self.start_codes || self.looked_at <= LOOK_FOR_START_CODES;
        if look && nal::has_start_code(&self.data[at..]) {
            // Cameras of V380 and Anjvision put a whole frame with start codes into one NAL unit, others one before each.
            self.start_codes = true;
            let mut several = self.data.split_off(open);
            several.advance(4);
            for nal in nal::parted(&several) {
                let open = self.data.len();
                self.data.put_u32(0);
                self.data.extend_from_slice(nal);
                self.judge(open);
                if self.broken {
                    return;
                }
            }
        } else {
            self.judge(open);
        }
    }

    /// Takes the NAL unit at `open`, the last of the unit, or leaves it out.
    fn judge(&mut self, open: usize) {
        let nal = &self.data[open + 4..];
        let length = nal.len();
        match (self.kind)(nal) {
            Kind::Slice { first } => {
                if !self.has_slice && !first && !self.rest {
                    if self.suspect {
                        return self.spoil();
                    }
                    // Its sender left out the beginning: where that should be, a decoder shows something else.
                    self.lost = self.lost.max(1);
                }
                self.has_slice = true;
            }
            Kind::Before | Kind::Other => {}
            Kind::Unknown => {
                self.dropped.count(DropReason::UnusedPayload, 1);
                return self.data.truncate(open);
            }
            Kind::Unreadable => return self.spoil(),
        }
        let length = u32::try_from(length).expect("below MAX_ACCESS_UNIT_BYTES");
        self.data[open..open + 4].copy_from_slice(&length.to_be_bytes());
    }
}
