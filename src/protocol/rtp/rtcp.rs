//! RTCP (RFC 3550 section 6): compound packets in, receiver reports out.

/// Seconds from the NTP epoch (1900) to the Unix epoch (1970).
const NTP_TO_UNIX_SECONDS: i64 = 2_208_988_800;
/// Most parts of a compound packet that are looked at.
const MAX_PARTS: usize = 64;

/// One part of a compound packet that we use; all others are skipped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Report {
    /// A sender report: `timestamp` is the RTP clock at `ntp` (32.32 fixed point seconds since 1900).
    Sender { ssrc: u32, ntp: u64, timestamp: u32 },
    /// The source leaves.
    Bye { ssrc: u32 },
}

/// Whether the bytes begin like RTCP (RFC 3550 section 6.1, appendix A.2): version, a known type, a length that fits.
pub(crate) fn is_rtcp(bytes: &[u8]) -> bool {
    let Some((header, after)) = bytes.split_first_chunk::<4>() else { return false };
    let length = usize::from(u16::from_be_bytes([header[2], header[3]])) * 4;
    header[0] >> 6 == 2 && (200..=207).contains(&header[1]) && length <= after.len()
}

/// The parts of `bytes` that we use. Stops at the first length that lies; what came before it counts.
pub(crate) fn parse(bytes: &[u8]) -> impl Iterator<Item = Report> + '_ {
    let mut rest = bytes;
    let parts = std::iter::from_fn(move || {
        let (header, after) = rest.split_first_chunk::<4>()?;
        let length = usize::from(u16::from_be_bytes([header[2], header[3]])) * 4;
        if header[0] >> 6 != 2 || length > after.len() {
            return None;
        }
        let (body, next) = after.split_at(length);
        rest = next;
        Some(part(header[0] & 0x1f, header[1], body))
    });
    parts.take(MAX_PARTS).flatten()
}

fn part(count: u8, packet_type: u8, body: &[u8]) -> Option<Report> {
    let word = |at: usize| body.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
    match packet_type {
        200 => {
            // The blocks are not used, but a count that does not fit says that the part is no sender report.
            let blocks_end = 24 + usize::from(count) * 24;
            if body.len() < blocks_end {
                return None;
            }
            let ntp = u64::from(word(4)?) << 32 | u64::from(word(8)?);
            Some(Report::Sender { ssrc: word(0)?, ntp, timestamp: word(12)? })
        }
        203 if count > 0 => Some(Report::Bye { ssrc: word(0)? }),
        _ => None,
    }
}

/// An NTP time in microseconds since the Unix epoch; none for zero, by which a sender says that it has no clock, and for
/// times before 1970, which no clock of a sender shows.
pub(crate) fn ntp_to_unix_micros(ntp: u64) -> Option<i64> {
    let mut seconds = i64::try_from(ntp >> 32).ok()?;
    if ntp == 0 {
        return None;
    }
    // Seconds wrap in 2036: the upper half is this era, the lower half the next (RFC 4330 section 3).
    if seconds < 1 << 31 {
        seconds += 1 << 32;
    }
    let micros = ((ntp & 0xffff_ffff) * 1_000_000) >> 32;
    let micros = (seconds - NTP_TO_UNIX_SECONDS) * 1_000_000 + i64::try_from(micros).ok()?;
    (micros >= 0).then_some(micros)
}

/// Microseconds since the Unix epoch as NTP's 64 bits (section 4): seconds since 1900 and fraction.
pub(crate) fn unix_micros_to_ntp(micros: i64) -> u64 {
    let (seconds, micros) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    let fraction = ((micros as u64) << 32) / 1_000_000;
    ((seconds.saturating_add(NTP_TO_UNIX_SECONDS) as u64) << 32) | fraction
}

/// A block of a receiver report (section 6.4.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ReportBlock {
    /// Of the source reported on.
    pub ssrc: u32,
    /// In 256ths, since the report before.
    pub fraction_lost: u8,
    /// In all; 24 bits, signed.
    pub cumulative_lost: i32,
    /// Extended, low 32 bits.
    pub highest_sequence: u32,
    /// In RTP clock units.
    pub jitter: u32,
    /// Middle 32 bits of the NTP time of the last sender report; 0 for none.
    pub last_sender_report: u32,
    /// Since that report came, in 65,536ths of a second.
    pub delay_since: u32,
}

/// A compound packet from `ssrc`: a receiver report with `block`, and the name it must carry (section 6.1).
pub(crate) fn receiver_report(ssrc: u32, block: Option<ReportBlock>) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    let count = u8::from(block.is_some());
    out.extend_from_slice(&[0x80 | count, 201, 0, 1 + count * 6]);
    out.extend_from_slice(&ssrc.to_be_bytes());
    if let Some(block) = block {
        out.extend_from_slice(&block.ssrc.to_be_bytes());
        let lost = (block.cumulative_lost as u32 & 0x00ff_ffff) | u32::from(block.fraction_lost) << 24;
        for word in [lost, block.highest_sequence, block.jitter, block.last_sender_report, block.delay_since] {
            out.extend_from_slice(&word.to_be_bytes());
        }
    }
    // SDES with one chunk: the source, then CNAME "kinora", a closing zero and padding to a word.
    out.extend_from_slice(&[0x81, 202, 0, 4]);
    out.extend_from_slice(&ssrc.to_be_bytes());
    out.extend_from_slice(b"\x01\x06kinora\0\0\0\0");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender_report(ssrc: u32, ntp: u64, timestamp: u32) -> Vec<u8> {
        let mut bytes = vec![0x80, 200, 0, 6];
        bytes.extend_from_slice(&ssrc.to_be_bytes());
        bytes.extend_from_slice(&ntp.to_be_bytes());
        bytes.extend_from_slice(&timestamp.to_be_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes
    }

    #[test]
    fn compound_of_sender_report_names_and_bye() {
        let mut bytes = sender_report(7, 0xeca0_0000_8000_0000, 90_000);
        bytes.extend_from_slice(&[0x81, 202, 0, 2, 0, 0, 0, 7, 1, 1, b'x', 0]);
        bytes.extend_from_slice(&[0x81, 203, 0, 1, 0, 0, 0, 7]);
        let reports: Vec<_> = parse(&bytes).collect();
        assert_eq!(
            reports,
            [Report::Sender { ssrc: 7, ntp: 0xeca0_0000_8000_0000, timestamp: 90_000 }, Report::Bye { ssrc: 7 }]
        );
    }

    #[test]
    fn lying_lengths_and_counts_are_ignored() {
        let good = sender_report(7, 1 << 63, 1);
        for cut in 0..good.len() {
            assert_eq!(parse(&good[..cut]).count(), 0, "cut at {cut}");
        }
        let mut many_blocks = good.clone();
        many_blocks[0] = 0x9f;
        assert_eq!(parse(&many_blocks).count(), 0);
        let mut longer = good.clone();
        longer[3] = 0xff;
        assert_eq!(parse(&longer).count(), 0);
        assert_eq!(parse(&[0x80, 203, 0, 0]).count(), 0);
        let empties: Vec<u8> = [0x80, 201, 0, 0].repeat(10_000);
        assert_eq!(parse(&empties).count(), 0);
    }

    #[test]
    fn ntp_times_of_both_eras() {
        let unix = 1_700_000_000i64;
        let ntp = u64::try_from(unix + NTP_TO_UNIX_SECONDS).unwrap() << 32 | 1 << 31;
        assert_eq!(ntp_to_unix_micros(ntp), Some(unix * 1_000_000 + 500_000));
        let unix = 2_200_000_000i64;
        let ntp = u64::from((unix + NTP_TO_UNIX_SECONDS) as u32) << 32;
        assert_eq!(ntp_to_unix_micros(ntp), Some(unix * 1_000_000));
        assert_eq!(ntp_to_unix_micros(0), None);
        assert_eq!(ntp_to_unix_micros(1 << 63), None, "1968");
    }

    #[test]
    fn receiver_report_has_the_lengths_it_says() {
        let block = ReportBlock {
            ssrc: 9,
            fraction_lost: 3,
            cumulative_lost: -2,
            highest_sequence: 5,
            jitter: 6,
            last_sender_report: 7,
            delay_since: 8,
        };
        for (block, length) in [(None, 8), (Some(block), 32)] {
            let bytes = receiver_report(1, block);
            assert_eq!(usize::from(bytes[3]) * 4 + 4, length);
            assert_eq!(bytes[length..length + 2], [0x81, 202]);
            assert_eq!(usize::from(bytes[length + 3]) * 4 + 4, bytes.len() - length);
        }
        assert_eq!(receiver_report(1, Some(block))[12..16], [3, 0xff, 0xff, 0xfe]);
    }
}
