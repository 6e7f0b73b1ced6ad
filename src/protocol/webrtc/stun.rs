//! STUN binding requests (RFC 8489), as far as a door must understand them: whose session is meant, and does the sender
//! know its password. What does not is never answered.

use ring::hmac;

const MAGIC: [u8; 4] = 0x2112_a442_u32.to_be_bytes();
const BINDING_REQUEST: u16 = 0x0001;
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const USE_CANDIDATE: u16 = 0x0025;
/// Type and length of an attribute, or of the message with its cookie and transaction.
const ATTRIBUTE_HEADER: usize = 4;
const HEADER: usize = 20;
const HMAC_SHA1: usize = 20;

/// A binding request, as claimed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Request<'a> {
    /// The receiver's half of USERNAME: it names our session.
    pub ufrag: &'a str,
    /// The sender chose this path for what is not STUN (RFC 8445 section 7.1.2).
    pub nominates: bool,
    bytes: &'a [u8],
    /// Where MESSAGE-INTEGRITY begins.
    integrity: usize,
}

/// Whether a datagram is STUN and nothing else that comes to this port (RFC 7983 section 7).
pub(crate) fn is_stun(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|first| *first < 4) && bytes.get(4..8) == Some(&MAGIC[..])
}

/// Whether it is the answer to a request, if it is STUN at all.
pub(crate) fn is_response(bytes: &[u8]) -> bool {
    // The class is in bits 4 and 8 of the type: 0b10 success, 0b11 error (RFC 8489 section 5).
    is_stun(bytes) && bytes[0] & 1 != 0
}

/// Reads a binding request; none when it is anything else, or has no user name or no integrity.
pub(crate) fn request(bytes: &[u8]) -> Option<Request<'_>> {
    let (kind, length) = (u16_at(bytes, 0)?, usize::from(u16_at(bytes, 2)?));
    if !is_stun(bytes) || kind != BINDING_REQUEST || bytes.len() != HEADER + length {
        return None;
    }
    let (mut at, mut ufrag, mut nominates) = (HEADER, None, false);
    while at + ATTRIBUTE_HEADER <= bytes.len() {
        let (kind, length) = (u16_at(bytes, at)?, usize::from(u16_at(bytes, at + 2)?));
        let value = bytes.get(at + ATTRIBUTE_HEADER..at + ATTRIBUTE_HEADER + length)?;
        match kind {
            USERNAME if ufrag.is_none() => {
                let name = std::str::from_utf8(value).ok()?;
                ufrag = Some(name.split_once(':')?.0);
            }
            USE_CANDIDATE => nominates = true,
            // What follows it is not covered by it (section 14.5), and not read.
            MESSAGE_INTEGRITY if length == HMAC_SHA1 => {
                return Some(Request { ufrag: ufrag?, nominates, bytes, integrity: at });
            }
            _ => {}
        }
        at += ATTRIBUTE_HEADER + length.next_multiple_of(4);
    }
    None
}

impl Request<'_> {
    /// Whether its sender knows `password`.
    pub(crate) fn is_from(&self, password: &hmac::Key) -> bool {
        let mut covered = self.bytes[..self.integrity].to_vec();
        // The length is as if the message ended with this attribute.
        let Ok(length) = u16::try_from(self.integrity - HEADER + ATTRIBUTE_HEADER + HMAC_SHA1) else { return false };
        covered[2..4].copy_from_slice(&length.to_be_bytes());
        let value = &self.bytes[self.integrity + ATTRIBUTE_HEADER..][..HMAC_SHA1];
        hmac::verify(password, &covered, value).is_ok()
    }
}

/// The key of a short-term password.
pub(crate) fn key(password: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes())
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|two| u16::from_be_bytes(*two))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 5769 section 2.1.
    const SAMPLE: &[u8] = b"\x00\x01\x00\x58\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\
        \x80\x22\x00\x10STUN test client\x00\x24\x00\x04\x6e\x00\x01\xff\x80\x29\x00\x08\x93\x2f\xf9\xb1\x51\x26\x3b\x36\
        \x00\x06\x00\x09evtj:h6vY   \x00\x08\x00\x14\x9a\xea\xa7\x0c\xbf\xd8\xcb\x56\x78\x1e\xf2\xb5\xb2\xd3\xf2\x49\xc1\xb5\x71\xa2\
        \x80\x28\x00\x04\xe5\x7a\x3b\xcf";
    const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";

    #[test]
    fn the_request_of_rfc_5769() {
        let request = request(SAMPLE).expect("a request");
        assert_eq!(request.ufrag, "evtj");
        assert!(request.is_from(&key(PASSWORD)));
        assert!(!request.is_from(&key("another")));
    }

    #[test]
    fn no_request_without_user_and_integrity() {
        assert_eq!(request(&SAMPLE[..20]), None, "a length that lies");
        let mut none = SAMPLE[..20].to_vec();
        none[2..4].copy_from_slice(&[0, 0]);
        assert_eq!(request(&none), None, "nothing inside");
        let mut response = SAMPLE.to_vec();
        response[0] = 1;
        assert_eq!(request(&response), None, "an answer");
        assert!(is_response(&response) && !is_response(SAMPLE));
        let mut dtls = SAMPLE.to_vec();
        dtls[0] = 22;
        assert!(!is_stun(&dtls));
    }

    proptest! {
        #[test]
        fn a_changed_request_is_not_genuine(at in 0usize..108, bit in 0u8..8) {
            let mut bytes = SAMPLE.to_vec();
            // What lies before the fingerprint.
            let at = at % (SAMPLE.len() - 8);
            bytes[at] ^= 1 << bit;
            // The length of the message is not covered as it stands, and must be right.
            let genuine = request(&bytes).is_some_and(|request| request.is_from(&key(PASSWORD)));
            prop_assert!(!genuine, "byte {at}");
        }

        #[test]
        fn garbage_is_no_request(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = request(&bytes).map(|request| request.is_from(&key(PASSWORD)));
        }
    }
}
