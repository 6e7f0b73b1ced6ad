//! The RTP header (RFC 3550 section 5.1).

/// Most bytes of a packet: what an interleaved frame (RFC 2326 section 10.12) and a datagram can hold.
pub(crate) const MAX_PACKET: usize = 65_535;

/// A packet as on the wire; the payload lies in the caller's buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Packet<'a> {
    /// End of an access unit, for the formats we know.
    pub marker: bool,
    /// 0 to 127.
    pub payload_type: u8,
    /// Wraps at 2^16.
    pub sequence: u16,
    /// Wraps at 2^32.
    pub timestamp: u32,
    /// Who sends.
    pub ssrc: u32,
    /// CSRC list, extension and padding removed; may be empty.
    pub payload: &'a [u8],
}

/// Why bytes are not an RTP packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum BadPacket {
    #[error("rtp packet is shorter than its header says")]
    Short,
    #[error("rtp version is not 2")]
    Version,
    #[error("rtp padding is longer than the packet")]
    Padding,
    #[error("rtp packet is longer than {MAX_PACKET} bytes")]
    Long,
}

/// Parses one packet.
///
/// # Errors
/// When a length inside points outside, or the version is not 2.
pub(crate) fn parse(bytes: &[u8]) -> Result<Packet<'_>, BadPacket> {
    if bytes.len() > MAX_PACKET {
        return Err(BadPacket::Long);
    }
    let (header, mut rest) = bytes.split_first_chunk::<12>().ok_or(BadPacket::Short)?;
    if header[0] >> 6 != 2 {
        return Err(BadPacket::Version);
    }
    let csrc_bytes = usize::from(header[0] & 0x0f) * 4;
    rest = rest.get(csrc_bytes..).ok_or(BadPacket::Short)?;
    if header[0] & 0x10 != 0 {
        let (extension, after) = rest.split_first_chunk::<4>().ok_or(BadPacket::Short)?;
        let words = usize::from(u16::from_be_bytes([extension[2], extension[3]]));
        rest = after.get(words * 4..).ok_or(BadPacket::Short)?;
    }
    if header[0] & 0x20 != 0 {
        // The last byte counts the padding, itself included (section 5.1): zero is a lie too.
        let padding = usize::from(*rest.last().ok_or(BadPacket::Padding)?);
        if padding == 0 || padding > rest.len() {
            return Err(BadPacket::Padding);
        }
        rest = &rest[..rest.len() - padding];
    }
    Ok(Packet {
        marker: header[1] & 0x80 != 0,
        payload_type: header[1] & 0x7f,
        sequence: u16::from_be_bytes([header[2], header[3]]),
        timestamp: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
        ssrc: u32::from_be_bytes([header[8], header[9], header[10], header[11]]),
        payload: rest,
    })
}

/// A packet for tests: version 2, no padding, no extension.
#[cfg(test)]
pub(crate) fn build(
    marker: bool,
    payload_type: u8,
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
    payload: &[u8],
) -> Vec<u8> {
    let mut bytes = vec![0x80, payload_type | u8::from(marker) << 7];
    bytes.extend_from_slice(&sequence.to_be_bytes());
    bytes.extend_from_slice(&timestamp.to_be_bytes());
    bytes.extend_from_slice(&ssrc.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csrc_extension_and_padding_are_removed() {
        let mut bytes = build(true, 96, 7, 9, 11, &[]);
        bytes[0] = 0x80 | 0x20 | 0x10 | 2;
        bytes.extend_from_slice(&[1; 8]);
        bytes.extend_from_slice(&[0xbe, 0xde, 0, 1, 5, 5, 5, 5]);
        bytes.extend_from_slice(&[42, 43, 0, 0, 3]);
        let packet = parse(&bytes).expect("a good packet");
        assert_eq!(packet.payload, [42, 43]);
        assert_eq!(
            (packet.marker, packet.payload_type, packet.sequence, packet.timestamp, packet.ssrc),
            (true, 96, 7, 9, 11)
        );
    }

    #[test]
    fn lying_lengths_are_refused() {
        let good = build(false, 96, 1, 1, 1, &[1, 2, 3]);
        let change = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            bytes
        };
        assert_eq!(parse(&good[..11]), Err(BadPacket::Short));
        assert_eq!(parse(&change(0, 0x8f)), Err(BadPacket::Short));
        assert_eq!(parse(&change(0, 0x90)), Err(BadPacket::Short));
        assert_eq!(parse(&change(0, 0x40)), Err(BadPacket::Version));
        let mut padded = change(0, 0xa0);
        assert!(parse(&padded).is_ok());
        *padded.last_mut().unwrap() = 4;
        assert_eq!(parse(&padded), Err(BadPacket::Padding));
        *padded.last_mut().unwrap() = 0;
        assert_eq!(parse(&padded), Err(BadPacket::Padding));
        assert_eq!(parse(&vec![0x80; MAX_PACKET + 1]), Err(BadPacket::Long));
    }

    #[test]
    fn no_cut_or_byte_change_panics() {
        let mut bytes = build(true, 96, 7, 9, 11, &[9; 40]);
        for length in 0..bytes.len() {
            let _ = parse(&bytes[..length]);
        }
        for at in 0..16 {
            for value in 0..=255 {
                bytes[at] = value;
                let _ = parse(&bytes);
            }
        }
    }
}
