//! A fuzz target: the Authorization header of RTSP, see `crate::fuzz`.

use media::{ServerTime, StreamName};

use super::digest::{Answer, Nonces};
use super::header::{self, Authorization, Digest};

/// The header is read, written again and read alike; nothing that was not made with the password is of it.
pub(crate) fn authorization(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some(Authorization::Digest(digest)) = header::parse(text) else { return };
    let again = written(&digest);
    match header::parse(&again) {
        Some(Authorization::Digest(again)) => assert_eq!(again, digest, "it comes back as it was"),
        // Quotes and backslashes that we add may take it over the limit.
        other => assert!(other.is_none() && again.len() > 4_096),
    }
    let nonces = Nonces::new([7; 32]);
    let now = ServerTime::from_micros(1_700_000_000_000_000);
    assert!(nonces.judge(&digest.nonce, 1, now).is_err(), "we never gave that nonce");
    let _ = nonces.count(&digest, now);
    let stream = StreamName::new("gate").expect("a name");
    if let Ok(answer) = Answer::check(&digest, "ANNOUNCE", &stream, true) {
        assert!(!answer.is_of("a password of which nobody knows"));
    }
}

fn written(digest: &Digest) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let mut text = format!(
        "Digest username={}, realm={}, nonce={}, uri={}, response={}",
        quoted(&digest.username),
        quoted(&digest.realm),
        quoted(&digest.nonce),
        quoted(&digest.uri),
        quoted(&digest.response)
    );
    let more = [("algorithm", &digest.algorithm), ("qop", &digest.qop), ("cnonce", &digest.cnonce), ("nc", &digest.nc)];
    for (name, value) in more {
        if let Some(value) = value {
            text += &format!(", {name}={}", quoted(value));
        }
    }
    text
}
