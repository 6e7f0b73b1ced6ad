//! What came and was not stored, counted by reason: one list for packets, units and fragments, from the door to the disk.

/// Why something that came was not stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum DropReason {
    /// A datagram that the session's peer did not send, or not from where it sends.
    ForeignDatagram,
    /// A packet of another source (SSRC) than the one that the track has.
    WrongSource,
    /// Bytes that are no RTP packet, or a packet far outside the sequence.
    MalformedPacket,
    /// A packet of a payload type that the description does not name.
    WrongPayloadType,
    /// A packet that came twice, or later than others waited for it.
    LatePacket,
    /// A packet of a track whose format this server does not store.
    UnsupportedTrack,
    /// A part of a payload that no decoder reads: reserved NAL units, empty audio.
    UnusedPayload,
    /// A unit that lacks a part: packets of it were lost, or its payload is malformed.
    BrokenUnit,
    /// A unit of a track that nothing has described: parameter sets or a keyframe are missing.
    UndescribedTrack,
    /// No frame before it can be decoded: the session's first random access point is still to come.
    BeforeRandomAccess,
    /// Its track is not in the set, or no set was given yet.
    UnknownTrack,
    /// It has no bytes.
    Empty,
    /// It is larger than a fragment may be.
    TooLarge,
    /// Its presentation time is beyond all reason.
    BadTime,
    /// It is the rest of a unit whose fragment is closed.
    TooLate,
    /// A unit that came while the disk was too far behind.
    DiskBehind,
    /// A unit that came while too much of the session waited in memory.
    MemoryFull,
}

impl DropReason {
    /// All of them, in the order in which something that comes meets them.
    pub const ALL: [DropReason; 17] = [
        DropReason::ForeignDatagram,
        DropReason::WrongSource,
        DropReason::MalformedPacket,
        DropReason::WrongPayloadType,
        DropReason::LatePacket,
        DropReason::UnsupportedTrack,
        DropReason::UnusedPayload,
        DropReason::BrokenUnit,
        DropReason::UndescribedTrack,
        DropReason::BeforeRandomAccess,
        DropReason::UnknownTrack,
        DropReason::Empty,
        DropReason::TooLarge,
        DropReason::BadTime,
        DropReason::TooLate,
        DropReason::DiskBehind,
        DropReason::MemoryFull,
    ];

    /// Its name in metrics and documents.
    pub fn as_str(self) -> &'static str {
        match self {
            DropReason::ForeignDatagram => "foreign_datagram",
            DropReason::WrongSource => "wrong_source",
            DropReason::MalformedPacket => "malformed_packet",
            DropReason::WrongPayloadType => "wrong_payload_type",
            DropReason::LatePacket => "late_packet",
            DropReason::UnsupportedTrack => "unsupported_track",
            DropReason::UnusedPayload => "unused_payload",
            DropReason::BrokenUnit => "broken_unit",
            DropReason::UndescribedTrack => "undescribed_track",
            DropReason::BeforeRandomAccess => "before_random_access",
            DropReason::UnknownTrack => "unknown_track",
            DropReason::Empty => "empty",
            DropReason::TooLarge => "too_large",
            DropReason::BadTime => "bad_time",
            DropReason::TooLate => "too_late",
            DropReason::DiskBehind => "disk_behind",
            DropReason::MemoryFull => "memory_full",
        }
    }

    /// What was dropped, in words that follow a count.
    pub fn words(self) -> &'static str {
        match self {
            DropReason::ForeignDatagram => "datagrams from another sender",
            DropReason::WrongSource => "packets of another RTP source",
            DropReason::MalformedPacket => "malformed packets",
            DropReason::WrongPayloadType => "packets of a payload type that was not announced",
            DropReason::LatePacket => "packets that came twice or too late",
            DropReason::UnsupportedTrack => "packets of a track that this server does not store",
            DropReason::UnusedPayload => "payloads that no decoder reads",
            DropReason::BrokenUnit => "frames with missing or malformed parts",
            DropReason::UndescribedTrack => "frames without parameter sets",
            DropReason::BeforeRandomAccess => "frames before the first keyframe",
            DropReason::UnknownTrack => "frames of a track that was not announced",
            DropReason::Empty => "empty frames",
            DropReason::TooLarge => "frames that are too large",
            DropReason::BadTime => "frames with an impossible timestamp",
            DropReason::TooLate => "late parts of frames that were stored",
            DropReason::DiskBehind => "frames that came while the disk was too slow",
            DropReason::MemoryFull => "frames that came while the memory for them was full",
        }
    }

    /// Whether it happens in sessions in which nothing is wrong: it is counted, and worth a warning only when nothing is stored.
    pub fn is_usual(self) -> bool {
        use DropReason::{BeforeRandomAccess, LatePacket, UnusedPayload, WrongPayloadType};
        matches!(self, BeforeRandomAccess | LatePacket | UnusedPayload | WrongPayloadType)
    }
}

/// How much was not stored, by reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Dropped([u64; DropReason::ALL.len()]);

impl Dropped {
    /// Counts `count` more.
    pub fn count(&mut self, reason: DropReason, count: u64) {
        let counted = &mut self.0[reason as usize];
        *counted = counted.saturating_add(count);
    }

    /// Adds what was counted elsewhere.
    pub fn add(&mut self, other: &Dropped) {
        for (reason, count) in other.iter() {
            self.count(reason, count);
        }
    }

    /// What was counted here since `before`, which was taken earlier from the same counts.
    #[must_use]
    pub fn since(&self, before: &Dropped) -> Dropped {
        let mut since = *self;
        for (now, before) in since.0.iter_mut().zip(before.0) {
            *now = now.saturating_sub(before);
        }
        since
    }

    /// What was counted for this reason.
    pub fn of(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// The reasons that were met, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.into_iter().zip(self.0).filter(|(_, count)| *count > 0)
    }

    /// All together.
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }
}

impl std::fmt::Display for Dropped {
    /// `3 malformed packets, 8 frames before the first keyframe`; empty when nothing was dropped.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, (reason, count)) in self.iter().enumerate() {
            let comma = if at > 0 { ", " } else { "" };
            write!(f, "{comma}{count} {}", reason.words())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_place_and_its_own_name() {
        for (at, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, at, "{reason:?}");
            assert_eq!(DropReason::ALL.iter().filter(|other| other.as_str() == reason.as_str()).count(), 1);
        }
    }

    #[test]
    fn counts_add_up_and_read_as_a_list() {
        let mut dropped = Dropped::default();
        assert_eq!(dropped.to_string(), "");
        dropped.count(DropReason::BadTime, 2);
        let before = dropped;
        dropped.count(DropReason::MalformedPacket, 1);
        dropped.add(&before);
        assert_eq!(dropped.to_string(), "1 malformed packets, 4 frames with an impossible timestamp");
        assert_eq!((dropped.total(), dropped.of(DropReason::BadTime)), (5, 4));
        assert_eq!(dropped.since(&before).to_string(), "1 malformed packets, 2 frames with an impossible timestamp");
    }
}
