//! The `Authorization` header of RTSP (RFC 2326 takes it from HTTP: RFC 7235 section 2.1).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Longest header looked at.
const LENGTH_MAX: usize = 4_096;
/// Most parameters.
const PARAMETERS_MAX: usize = 24;

/// What a client says to be let in.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Authorization {
    /// RFC 7617; the user name is of no interest.
    Basic { password: String },
    /// RFC 7616, RFC 2617, RFC 2069.
    Digest(Digest),
}

/// The parameters of a digest, unquoted.
#[derive(Default, PartialEq, Eq, Debug)]
pub(super) struct Digest {
    pub(super) username: String,
    pub(super) realm: String,
    pub(super) nonce: String,
    pub(super) uri: String,
    pub(super) response: String,
    /// MD5 where it is not said (RFC 7616 section 3.3).
    pub(super) algorithm: Option<String>,
    /// With `qop`, all of the next two are there.
    pub(super) qop: Option<String>,
    pub(super) cnonce: Option<String>,
    pub(super) nc: Option<String>,
}

/// The header's content; none when it is not one that we understand in full.
pub(super) fn parse(header: &str) -> Option<Authorization> {
    if header.len() > LENGTH_MAX || header.chars().any(char::is_control) {
        return None;
    }
    let (scheme, rest) = header.trim().split_once(' ')?;
    if scheme.eq_ignore_ascii_case("basic") {
        let decoded = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
        let (_user, password) = decoded.split_once(':')?;
        return Some(Authorization::Basic { password: password.to_owned() });
    }
    if !scheme.eq_ignore_ascii_case("digest") {
        return None;
    }
    let mut found = [const { None }; 9];
    const NAMES: [&str; 9] = ["username", "realm", "nonce", "uri", "response", "algorithm", "qop", "cnonce", "nc"];
    let mut rest = rest.trim_start();
    for _ in 0..PARAMETERS_MAX {
        let (name, value, after) = parameter(rest)?;
        if let Some(place) = NAMES.iter().position(|known| name.eq_ignore_ascii_case(known)) {
            // Said twice, it could be read in two ways.
            if found[place].replace(value).is_some() {
                return None;
            }
        }
        rest = after;
        if rest.is_empty() {
            let [username, realm, nonce, uri, response, algorithm, qop, cnonce, nc] = found;
            return Some(Authorization::Digest(Digest {
                username: username?,
                realm: realm?,
                nonce: nonce?,
                uri: uri?,
                response: response?,
                algorithm,
                qop,
                cnonce,
                nc,
            }));
        }
    }
    None
}

/// Takes `name=token` or `name="quoted"` and the comma after it off the front.
fn parameter(text: &str) -> Option<(&str, String, &str)> {
    let (name, rest) = text.split_once('=')?;
    let (name, rest) = (name.trim(), rest.trim_start());
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'*') {
        return None;
    }
    let (value, rest) = match rest.strip_prefix('"') {
        Some(quoted) => unquote(quoted)?,
        None => {
            let end = rest.find([',', ' ']).unwrap_or(rest.len());
            let (value, rest) = rest.split_at(end);
            if value.is_empty() || value.contains(['"', '\\', '=']) {
                return None;
            }
            (value.to_owned(), rest)
        }
    };
    let rest = rest.trim_start();
    match rest.strip_prefix(',') {
        Some(rest) => Some((name, value, rest.trim_start())),
        None if rest.is_empty() => Some((name, value, rest)),
        None => None,
    }
}

/// A quoted string without its quotes, and what follows it.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parameters_may_be_quoted_spaced_and_in_any_case() {
        let header =
            r#"digest  USERNAME="a \"b\" \\c", realm = "r" ,nonce="n=,",uri="u", response=abc,opaque="x", NC=00000001"#;
        let Some(Authorization::Digest(digest)) = parse(header) else { panic!("refused") };
        assert_eq!(digest.username, r#"a "b" \c"#);
        assert_eq!((digest.realm.as_str(), digest.nonce.as_str(), digest.response.as_str()), ("r", "n=,", "abc"));
        assert_eq!(digest.nc.as_deref(), Some("00000001"));
    }

    #[test]
    fn doubtful_headers_are_refused() {
        let good = r#"username="u", realm="r", nonce="n", uri="u", response="x""#;
        assert!(parse(&format!("Digest {good}")).is_some());
        for bad in [
            "",
            "Digest",
            "Digest ",
            "Bearer kin_x",
            "Basic",
            "Basic !!!",
            "Basic bm9jb2xvbg==",
            r#"Digest username="u", realm="r", nonce="n", uri="u""#,
            &format!(r#"Digest {good}, username="v""#),
            &format!("Digest {good}, qop="),
            &format!(r#"Digest {good}, cnonce="never closed"#),
            &format!(r#"Digest {good}, cnonce="ends in escape\"#),
            &format!("Digest {good} nc=1"),
            &format!("Digest {good}, a\"b=1"),
            &format!("Digest {good}\r\nX: y"),
            &format!("Digest {good}, cnonce=\"{}\"", "a".repeat(5_000)),
            &format!("Digest {good}, {}", vec!["x=1"; 100].join(",")),
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in ".{0,300}", digest in any::<bool>()) {
            parse(&if digest { format!("Digest {text}") } else { text });
        }

        #[test]
        fn any_quoted_value_comes_back(value in "[^\\p{Cc}]{0,80}") {
            let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
            let header = format!(r#"Digest username="{quoted}", realm="r", nonce="n", uri="u", response="x""#);
            let Some(Authorization::Digest(digest)) = parse(&header) else { panic!("refused: {header}") };
            prop_assert_eq!(digest.username, value);
        }
    }
}
