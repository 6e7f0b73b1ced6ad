//! Which access unit is due when, over many rounds of a clip, and the numbers in its packets. No sockets, no clock.

use media::{ServerTime, Timescale};

use super::clip::{Clip, FRAME, Unit};
use crate::protocol::rtp::send::{HEADER, SenderReport, patch_header};

/// Numbers of a track that is being sent.
#[derive(Clone, Debug)]
pub(super) struct Track {
    pub(super) ssrc: u32,
    sequence: u16,
    base: u32,
    /// What this round adds to presentation times.
    shift: i64,
    /// Where the last unit ended, in presentation time with shift.
    end: Option<i64>,
    packets: u32,
    octets: u32,
    /// Channel of its RTP packets when interleaved; RTCP is on the next.
    pub(super) channel: u8,
}

/// One stream's way through a clip.
#[derive(Debug)]
pub(super) struct Pace {
    pub(super) tracks: Vec<Track>,
    /// How often the clip is played; none for ever.
    count: Option<u64>,
    round: u64,
    next: usize,
}

impl Pace {
    /// The start of `count` rounds (none: for ever), with initial numbers taken from `random`.
    pub(super) fn new(clip: &Clip, count: Option<u64>, mut random: impl FnMut() -> u32) -> Pace {
        let track = |_| Track {
            ssrc: random(),
            sequence: random() as u16,
            base: random(),
            shift: 0,
            end: None,
            packets: 0,
            octets: 0,
            channel: 0,
        };
        Pace { tracks: clip.tracks.iter().map(track).collect(), count, round: 0, next: 0 }
    }

    /// The next unit and when it is due, in microseconds of media after the first; none at the end.
    pub(super) fn peek<'a>(&mut self, clip: &'a Clip) -> Option<(&'a Unit, i64)> {
        loop {
            if self.count.is_some_and(|count| self.round >= count) {
                return None;
            }
            match clip.units.get(self.next) {
                None => self.begin_round(clip),
                Some(unit) if self.belongs_to_next_round(clip, unit) => self.next += 1,
                Some(unit) => {
                    let start_us = clip.round_start(self.round, Timescale::MICROS);
                    return Some((unit, start_us.saturating_add(unit.due_us)));
                }
            }
        }
    }

    /// Audio does not end where pictures end. What would be heard after the next round's start is left out, and
    /// [`Pace::begin_round`] joins the rounds: so sound has neither holes nor overlaps, and its error against the
    /// pictures stays below a frame however many rounds are played.
    fn belongs_to_next_round(&self, clip: &Clip, unit: &Unit) -> bool {
        let track = &clip.tracks[unit.track];
        if track.track.codec.is_video() || self.count.is_some_and(|count| self.round + 1 >= count) {
            return false;
        }
        let next_start = clip.round_start(self.round + 1, track.track.timescale) + track.first_pts;
        unit.pts + self.tracks[unit.track].shift + unit.duration.div_euclid(2) > next_start
    }

    fn begin_round(&mut self, clip: &Clip) {
        self.round += 1;
        self.next = 0;
        for (track, of_clip) in self.tracks.iter_mut().zip(&clip.tracks) {
            track.shift = clip.round_start(self.round, of_clip.track.timescale);
            if let Some(end) = track.end.filter(|_| !of_clip.track.codec.is_video()) {
                let joined = end - of_clip.first_pts;
                let nearly = i64::from(of_clip.track.timescale.hz() / 20);
                if (joined - track.shift).abs() < nearly {
                    track.shift = joined;
                }
            }
        }
    }

    /// Appends the packets of the unit that [`Pace::peek`] gave to `out`, in interleaved frames, and goes on.
    pub(super) fn take(&mut self, clip: &Clip, out: &mut Vec<u8>) {
        let Some((unit, _)) = self.peek(clip) else { return };
        self.next += 1;
        let track = &mut self.tracks[unit.track];
        let pts = unit.pts + track.shift;
        track.end = Some(pts + unit.duration);
        let timestamp = track.base.wrapping_add(pts as u32);
        let mut at = out.len();
        out.extend_from_slice(&clip.wire[unit.wire.clone()]);
        while at < out.len() {
            let length = usize::from(u16::from_be_bytes([out[at + 2], out[at + 3]]));
            out[at + 1] = track.channel;
            patch_header(&mut out[at + FRAME..at + FRAME + HEADER], track.sequence, timestamp, track.ssrc);
            track.sequence = track.sequence.wrapping_add(1);
            track.packets = track.packets.wrapping_add(1);
            track.octets = track.octets.wrapping_add((length - HEADER) as u32);
            at += FRAME + length;
        }
    }

    /// The sender report of the track at place `at` for the instant `media_us` after the first unit, which is `wall`.
    ///
    /// A picture counts as taken so much before it is shown that none is taken after it was sent.
    pub(super) fn report(&self, clip: &Clip, at: usize, media_us: i64, wall: ServerTime) -> SenderReport {
        let (track, timescale) = (&self.tracks[at], clip.tracks[at].track.timescale);
        let shown_us = media_us.saturating_add(clip.first_dts_us).saturating_add(clip.delay_us);
        let timestamp = track.base.wrapping_add(timescale.from_micros(shown_us) as u32);
        SenderReport { ssrc: track.ssrc, at: wall, timestamp, packets: track.packets, octets: track.octets }
    }
}
