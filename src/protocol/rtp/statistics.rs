//! What a receiver report tells the sender (RFC 3550 sections 6.4.1 and A.3, A.8).

use std::time::Instant;

use super::rtcp::ReportBlock;

/// Counts of one source.
#[derive(Clone, Debug, Default)]
pub(crate) struct Statistics {
    base: Option<i64>,
    highest: i64,
    received: i64,
    expected_before: i64,
    received_before: i64,
    /// Modulo 2^32, as timestamps are.
    transit: Option<u32>,
    /// Interarrival jitter times 16, in RTP clock units.
    jitter_16: i64,
    last_report: Option<(u32, Instant)>,
}

impl Statistics {
    /// Counts a packet: extended sequence number, timestamp, and arrival in units of the RTP clock (any origin).
    pub(crate) fn packet(&mut self, sequence: i64, timestamp: u32, arrival_units: i64) {
        let base = *self.base.get_or_insert(sequence);
        self.highest = if self.received == 0 { sequence } else { self.highest.max(sequence) };
        self.base = Some(base.min(sequence));
        self.received += 1;
        let transit = (arrival_units as u32).wrapping_sub(timestamp);
        if let Some(before) = self.transit.replace(transit) {
            let difference = (transit.wrapping_sub(before) as i32).unsigned_abs();
            self.jitter_16 += i64::from(difference) - ((self.jitter_16 + 8) >> 4);
        }
    }

    /// Remembers the middle bits of a sender report's NTP time, for the round trip.
    pub(crate) fn sender_report(&mut self, ntp: u64, now: Instant) {
        self.last_report = Some(((ntp >> 16) as u32, now));
    }

    /// Forgets all: the source started anew.
    pub(crate) fn reset(&mut self) {
        *self = Statistics::default();
    }

    /// The block about source `ssrc`, and the start of the next interval; none before the first packet.
    pub(crate) fn report(&mut self, ssrc: u32, now: Instant) -> Option<ReportBlock> {
        let expected = self.highest - self.base? + 1;
        let lost = expected - self.received;
        let expected_now = expected - std::mem::replace(&mut self.expected_before, expected);
        let received_now = self.received - std::mem::replace(&mut self.received_before, self.received);
        let lost_now = expected_now - received_now;
        let fraction = if expected_now <= 0 || lost_now <= 0 { 0 } else { (lost_now * 256 / expected_now).min(255) };
        let (last_sender_report, since) = match self.last_report {
            None => (0, 0),
            Some((middle, at)) => {
                let micros = now.saturating_duration_since(at).as_micros();
                (middle, u32::try_from(micros * 65_536 / 1_000_000).unwrap_or(u32::MAX))
            }
        };
        Some(ReportBlock {
            ssrc,
            fraction_lost: fraction as u8,
            cumulative_lost: lost.clamp(-0x80_0000, 0x7f_ffff) as i32,
            highest_sequence: self.highest as u32,
            jitter: u32::try_from(self.jitter_16 >> 4).unwrap_or(0),
            last_sender_report,
            delay_since: since,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_is_told_per_interval_and_in_all() {
        let now = Instant::now();
        let mut statistics = Statistics::default();
        for sequence in (65_500..65_540).filter(|sequence| sequence % 4 != 1) {
            statistics.packet(sequence, (sequence * 3_000) as u32, sequence * 3_000);
        }
        let block = statistics.report(1, now).expect("packets came");
        assert_eq!((block.fraction_lost, block.cumulative_lost, block.highest_sequence), (64, 10, 65_539));
        assert_eq!(block.jitter, 0);
        for sequence in 65_540..65_550 {
            statistics.packet(sequence, (sequence * 3_000) as u32, sequence * 3_000);
        }
        let block = statistics.report(1, now).expect("packets came");
        assert_eq!((block.fraction_lost, block.cumulative_lost), (0, 10));
    }

    #[test]
    fn jitter_stays_small_over_the_wrap_of_timestamps() {
        let mut statistics = Statistics::default();
        for n in 0..100 {
            let arrival = n * 3_000 + if n % 2 == 0 { 0 } else { 90 };
            statistics.packet(n, (u32::MAX - 150_000).wrapping_add(n as u32 * 3_000), arrival);
        }
        let jitter = statistics.report(1, Instant::now()).expect("packets came").jitter;
        assert!((80..=90).contains(&jitter), "{jitter}");
    }

    #[test]
    fn delay_since_the_sender_report_is_in_units_of_one_65536th() {
        let now = Instant::now();
        let mut statistics = Statistics::default();
        statistics.packet(1, 1, 1);
        statistics.sender_report(0x1122_3344_5566_7788, now);
        let block = statistics.report(1, now + std::time::Duration::from_millis(500)).expect("packets came");
        assert_eq!((block.last_sender_report, block.delay_since), (0x3344_5566, 32_768));
    }
}
