//! Digest authentication (RFC 7616, RFC 2617, RFC 2069) as RTSP uses it: challenges, nonces, responses.
//!
//! A nonce is `time, serial, HMAC(key, time, serial, connection)`: nothing is kept for those that never come back, and none is of use
//! on another connection. What is kept is the last `nc` of nonces that were used with one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use md5::Md5;
use media::{ServerTime, StreamName};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::Refusal;
use super::header::Digest;

/// What users see when asked for a password.
pub(super) const REALM: &str = "kinora";
/// A nonce is good for this long.
const NONCE_LIFE_US: i64 = 60_000_000;
/// Most nonces whose counts are remembered.
const COUNTS_MAX: usize = 16_384;
/// Bytes of time and serial number, and of authentication, in a nonce.
const BIRTH: usize = 12;
const TAG: usize = 16;

/// The hash of a digest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Algorithm {
    Sha256,
    Md5,
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "SHA-256",
            Algorithm::Md5 => "MD5",
        }
    }

    /// Session variants (`-sess`) are not offered and not taken.
    fn parse(name: Option<&str>) -> Option<Algorithm> {
        match name {
            None => Some(Algorithm::Md5),
            Some(name) if name.eq_ignore_ascii_case("MD5") => Some(Algorithm::Md5),
            Some(name) if name.eq_ignore_ascii_case("SHA-256") => Some(Algorithm::Sha256),
            Some(_) => None,
        }
    }

    /// The hash of `parts` joined by colons, in lower-case hexadecimal.
    fn hash(self, parts: &[&str]) -> String {
        fn hex<D: sha2::Digest>(parts: &[&str]) -> String {
            let mut hash = D::new();
            for (n, part) in parts.iter().enumerate() {
                if n > 0 {
                    hash.update(b":");
                }
                hash.update(part.as_bytes());
            }
            let digits =
                |byte: &u8| [byte >> 4, byte & 15].map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)]));
            hash.finalize().iter().flat_map(digits).collect()
        }
        match self {
            Algorithm::Sha256 => hex::<Sha256>(parts),
            Algorithm::Md5 => hex::<Md5>(parts),
        }
    }
}

/// The value of a `WWW-Authenticate` header.
pub(super) fn challenge(algorithm: Algorithm, nonce: &str, stale: bool) -> String {
    let stale = if stale { ", stale=true" } else { "" };
    format!(r#"Digest realm="{REALM}", nonce="{nonce}", algorithm={}, qop="auth"{stale}"#, algorithm.name())
}

/// An answer whose form and nonce are right; left to see is whose password is in it.
pub(super) struct Answer<'a> {
    digest: &'a Digest,
    algorithm: Algorithm,
    /// The response is `H(HA1:tail)`.
    tail: String,
}

impl<'a> Answer<'a> {
    /// Checks everything but the password.
    pub(super) fn check(
        digest: &'a Digest,
        method: &str,
        stream: &StreamName,
        md5: bool,
    ) -> Result<Answer<'a>, Refusal> {
        let algorithm = Algorithm::parse(digest.algorithm.as_deref()).ok_or(Refusal::Wrong)?;
        if (algorithm == Algorithm::Md5 && !md5) || digest.realm != REALM || !names(&digest.uri, stream) {
            return Err(Refusal::Wrong);
        }
        let ha2 = algorithm.hash(&[method, &digest.uri]);
        let tail = match (&digest.qop, &digest.nc, &digest.cnonce) {
            (Some(qop), Some(nc), Some(cnonce)) if qop == "auth" => {
                [&digest.nonce, nc, cnonce, qop, &ha2].map(String::as_str).join(":")
            }
            // RFC 2069: GStreamer and live555 answer so, whatever is offered.
            (None, ..) => format!("{}:{ha2}", digest.nonce),
            _ => return Err(Refusal::Wrong),
        };
        Ok(Answer { digest, algorithm, tail })
    }

    /// Whether `password` is the one in it. Takes equally long for every wrong one.
    pub(super) fn is_of(&self, password: &str) -> bool {
        let ha1 = self.algorithm.hash(&[&self.digest.username, REALM, password]);
        let expected = self.algorithm.hash(&[&ha1, &self.tail]);
        expected.as_bytes().ct_eq(self.digest.response.to_ascii_lowercase().as_bytes()).into()
    }
}

/// Whether the path of an RTSP URL, absolute or not, begins with the stream's name.
fn names(uri: &str, stream: &StreamName) -> bool {
    let path = match uri.split_once("://") {
        Some((_, rest)) => rest.split_once('/').map_or("", |(_, path)| path),
        None => uri.strip_prefix('/').unwrap_or(uri),
    };
    path.split(['/', '?']).next() == Some(stream.as_str())
}

/// Mints nonces and judges them.
pub(super) struct Nonces {
    key: [u8; 32],
    /// Tells nonces of one microsecond apart.
    serial: AtomicU32,
    /// Last count and time of birth of nonces that were used with a count.
    counts: Mutex<HashMap<[u8; TAG], (u32, i64)>>,
}

impl Nonces {
    /// `key` is of this process alone, so that nothing of an earlier life is good.
    pub(super) fn new(key: [u8; 32]) -> Nonces {
        Nonces { key, serial: AtomicU32::new(0), counts: Mutex::default() }
    }

    fn tag(&self, birth: [u8; BIRTH], connection: u64) -> [u8; TAG] {
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&self.key).expect("any length of key is taken");
        mac.update(&birth);
        mac.update(&connection.to_be_bytes());
        let mut tag = [0; TAG];
        tag.copy_from_slice(&mac.finalize().into_bytes()[..TAG]);
        tag
    }

    /// A new nonce for a connection.
    pub(super) fn mint(&self, connection: u64, now: ServerTime) -> String {
        let mut birth = [0; BIRTH];
        let (time, serial) = birth.split_at_mut(8);
        time.copy_from_slice(&now.micros().to_be_bytes());
        serial.copy_from_slice(&self.serial.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        URL_SAFE_NO_PAD.encode([&birth[..], &self.tag(birth, connection)].concat())
    }

    /// Whether the nonce is ours, of this connection, and young.
    pub(super) fn judge(&self, nonce: &str, connection: u64, now: ServerTime) -> Result<(), Refusal> {
        let (birth, tag) = take_apart(nonce).ok_or(Refusal::Wrong)?;
        if !bool::from(self.tag(birth, connection).ct_eq(&tag)) {
            return Err(Refusal::Wrong);
        }
        let age = now.micros_since(ServerTime::from_micros(born_us(birth)));
        // Born in the future: our clock was set back. The client tries again with a new one.
        if (0..=NONCE_LIFE_US).contains(&age) { Ok(()) } else { Err(Refusal::Stale) }
    }

    /// Takes the count of a right answer, which must be above all before it with this nonce.
    pub(super) fn count(&self, digest: &Digest, now: ServerTime) -> Result<(), Refusal> {
        let Some(nc) = &digest.nc else { return Ok(()) };
        if digest.qop.is_none() {
            return Ok(());
        }
        let is_count = nc.len() == 8 && nc.bytes().all(|digit| digit.is_ascii_hexdigit());
        let nc = u32::from_str_radix(nc, 16).ok().filter(|_| is_count).ok_or(Refusal::Wrong)?;
        let (birth, tag) = take_apart(&digest.nonce).ok_or(Refusal::Wrong)?;
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= COUNTS_MAX && !counts.contains_key(&tag) {
            counts.retain(|_, (_, born)| now.micros().saturating_sub(*born) <= NONCE_LIFE_US);
            if counts.len() >= COUNTS_MAX {
                return Err(Refusal::TooMany);
            }
        }
        let (last, _) = counts.entry(tag).or_insert((0, born_us(birth)));
        if nc <= *last {
            return Err(Refusal::Wrong);
        }
        *last = nc;
        Ok(())
    }
}

fn take_apart(nonce: &str) -> Option<([u8; BIRTH], [u8; TAG])> {
    let bytes = URL_SAFE_NO_PAD.decode(nonce).ok()?;
    let (birth, tag) = bytes.split_first_chunk::<BIRTH>()?;
    Some((*birth, tag.try_into().ok()?))
}

fn born_us(birth: [u8; BIRTH]) -> i64 {
    let (time, _serial) = birth.split_first_chunk().expect("8 of 12 bytes");
    i64::from_be_bytes(*time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> StreamName {
        StreamName::new(text).unwrap()
    }

    /// RFC 7616 section 3.9.1, whose realm is not ours: the arithmetic alone.
    #[test]
    fn responses_are_those_of_the_rfc() {
        let tail = |algorithm: Algorithm| {
            let ha2 = algorithm.hash(&["GET", "/dir/index.html"]);
            let ha1 = algorithm.hash(&["Mufasa", "http-auth@example.org", "Circle of Life"]);
            let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
            algorithm.hash(&[&ha1, "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", "00000001", cnonce, "auth", &ha2])
        };
        assert_eq!(tail(Algorithm::Sha256), "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1");
        assert_eq!(tail(Algorithm::Md5), "8ca523f5e9506fed4657c9700eebdbec");
    }

    /// RFC 2617 section 3.5.
    #[test]
    fn response_of_the_old_rfc() {
        let md5 = Algorithm::Md5;
        let ha1 = md5.hash(&["Mufasa", "testrealm@host.com", "Circle Of Life"]);
        let ha2 = md5.hash(&["GET", "/dir/index.html"]);
        let parts = [&ha1, "dcd98b7102dd2f0e8b11d0f600bfb0c093", "00000001", "0a4f113b", "auth", &ha2];
        assert_eq!(md5.hash(&parts), "6629fae49393a05397450978507c4ef1");
    }

    #[test]
    fn uri_must_name_the_stream() {
        for uri in ["rtsp://h:8554/gate", "rtsp://h/gate/streamid=0", "/gate", "gate/", "rtsps://h/gate?x=/y"] {
            assert!(names(uri, &name("gate")), "{uri}");
        }
        for uri in ["rtsp://h:8554/gate2", "rtsp://gate", "*", "", "/x/gate", "rtsp://gate/x", "//gate"] {
            assert!(!names(uri, &name("gate")), "{uri}");
        }
    }

    #[test]
    fn nonces_are_of_one_connection_and_age() {
        let nonces = Nonces::new([7; 32]);
        let at = |second: i64| ServerTime::from_micros(1_790_000_000_000_000 + second * 1_000_000);
        let nonce = nonces.mint(3, at(0));
        assert_eq!(nonces.judge(&nonce, 3, at(60)), Ok(()));
        assert_eq!(nonces.judge(&nonce, 3, at(61)), Err(Refusal::Stale));
        assert_eq!(nonces.judge(&nonce, 3, at(-1)), Err(Refusal::Stale));
        assert_eq!(nonces.judge(&nonce, 4, at(1)), Err(Refusal::Wrong));
        assert_eq!(Nonces::new([8; 32]).judge(&nonce, 3, at(1)), Err(Refusal::Wrong));
        for bad in ["", "x", &nonce[1..], &format!("{nonce}A"), &"A".repeat(4_000), "é"] {
            assert_eq!(nonces.judge(bad, 3, at(1)), Err(Refusal::Wrong), "{bad}");
        }
    }

    #[test]
    fn counts_only_grow() {
        let nonces = Nonces::new([7; 32]);
        let now = ServerTime::from_micros(1_790_000_000_000_000);
        let with = |nonce: String, nc: &str| Digest {
            nonce,
            nc: Some(nc.into()),
            qop: Some("auth".into()),
            ..Digest::default()
        };
        let nonce = nonces.mint(1, now);
        for (nc, verdict) in [
            ("00000001", Ok(())),
            ("00000001", Err(Refusal::Wrong)),
            ("0000000f", Ok(())),
            ("00000002", Err(Refusal::Wrong)),
            ("ffffffff", Ok(())),
            ("1", Err(Refusal::Wrong)),
            ("+0000001", Err(Refusal::Wrong)),
            ("000000001", Err(Refusal::Wrong)),
        ] {
            assert_eq!(nonces.count(&with(nonce.clone(), nc), now), verdict, "{nc}");
        }
        for connection in 0..COUNTS_MAX as u64 + 10 {
            let _ = nonces.count(&with(nonces.mint(connection + 9, now), "00000001"), now);
        }
        assert_eq!(nonces.counts.lock().unwrap().len(), COUNTS_MAX);
        let later = now.plus_micros(NONCE_LIFE_US + 1);
        assert_eq!(nonces.count(&with(nonces.mint(1, later), "00000001"), later), Ok(()));
        assert_eq!(nonces.counts.lock().unwrap().len(), 1);
    }
}
