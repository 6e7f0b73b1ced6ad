//! The client's side of an RTSP 1.0 session (RFC 2326) without its sockets: requests out, replies in, and answers
//! to challenges.
//!
//! Not here: the server's side, and connections (`cli::publish`, `ingest`).

use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use md5::Digest as _;

/// Most bytes of a reply's head.
const MAX_HEAD: usize = 16 * 1024;
/// Most bytes of a reply's body.
const MAX_BODY: usize = 64 * 1024;

/// What a server sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Incoming {
    /// The reply to a request.
    Reply(Reply),
    /// A request of the server to us, by its `CSeq`.
    Request(String),
    /// A frame on an interleaved channel; its bytes are passed over.
    Interleaved(u8),
}

/// A reply.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Reply {
    /// The status code.
    pub(crate) status: u16,
    /// The text behind it, control characters left out.
    pub(crate) reason: String,
    headers: Vec<(String, String)>,
}

/// Bytes that are not RTSP, or beyond what a reply may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the server sent something that is not RTSP")]
pub(crate) struct NotRtsp;

impl Reply {
    /// The values of all headers `name`, in order.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The value of the first header `name`.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// Takes the first message from `data`: the message and its length; none when it is not whole yet.
///
/// # Errors
/// When the bytes cannot become a message.
pub(crate) fn parse(data: &[u8]) -> Result<Option<(Incoming, usize)>, NotRtsp> {
    match data {
        [] => return Ok(None),
        [b'$', channel, high, low, rest @ ..] => {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            return Ok((rest.len() >= length).then_some((Incoming::Interleaved(*channel), 4 + length)));
        }
        [b'$', ..] => return Ok(None),
        _ => {}
    }
    let Some(head_len) = data.windows(4).take(MAX_HEAD).position(|window| window == b"\r\n\r\n") else {
        return if data.len() > MAX_HEAD { Err(NotRtsp) } else { Ok(None) };
    };
    let head = std::str::from_utf8(&data[..head_len]).map_err(|_| NotRtsp)?;
    // What a server says of its session and its challenge goes into our next request: it must be one line there.
    if head.split("\r\n").any(|line| line.contains(|c: char| c.is_ascii_control() && c != '\t')) {
        return Err(NotRtsp);
    }
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .collect();
    let mut reply = Reply { headers, ..Reply::default() };
    let body: usize = match reply.header("Content-Length") {
        Some(length) => length.parse().map_err(|_| NotRtsp)?,
        None => 0,
    };
    if body > MAX_BODY {
        return Err(NotRtsp);
    }
    let total = head_len + 4 + body;
    if data.len() < total {
        return Ok(None);
    }
    let Some(status) = first.strip_prefix("RTSP/1.0 ") else {
        let is_request = first.ends_with(" RTSP/1.0");
        let cseq = reply.header("CSeq").filter(|cseq| cseq.bytes().all(|byte| byte.is_ascii_digit()));
        return match cseq {
            Some(cseq) if is_request => Ok(Some((Incoming::Request(cseq.to_owned()), total))),
            _ => Err(NotRtsp),
        };
    };
    let (status, reason) = status.split_once(' ').unwrap_or((status, ""));
    reply.status = status.parse().map_err(|_| NotRtsp)?;
    reply.reason = reason.chars().filter(|c| !c.is_control()).take(200).collect();
    Ok(Some((Incoming::Reply(reply), total)))
}

/// User name and password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// The name.
    pub(crate) user: String,
    /// The secret.
    pub(crate) password: String,
}

/// One session with a server: numbers requests, keeps the session id and the challenge.
pub(crate) struct Client {
    credentials: Option<Credentials>,
    cseq: u32,
    session: Option<String>,
    timeout_seconds: u64,
    challenge: Option<Challenge>,
    nonce_count: u32,
    can_get_parameter: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Hash {
    Md5,
    Sha256,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Challenge {
    Basic,
    Digest { hash: Hash, realm: String, nonce: String, opaque: Option<String>, has_qop: bool },
}

impl Client {
    /// A session that has not begun.
    pub(crate) fn new(credentials: Option<Credentials>) -> Client {
        Client {
            credentials,
            cseq: 0,
            session: None,
            timeout_seconds: 60,
            challenge: None,
            nonce_count: 0,
            can_get_parameter: false,
        }
    }

    /// The bytes of a request; `headers` are whole lines without their ends.
    pub(crate) fn request(&mut self, method: &str, uri: &str, headers: &[&str], body: &str) -> Vec<u8> {
        self.cseq += 1;
        let mut text = format!("{method} {uri} RTSP/1.0\r\nCSeq: {}\r\nUser-Agent: kinora\r\n", self.cseq);
        if let Some(session) = &self.session {
            write!(text, "Session: {session}\r\n").expect("writing to a string does not fail");
        }
        if let Some(answer) = self.authorization(method, uri) {
            write!(text, "Authorization: {answer}\r\n").expect("writing to a string does not fail");
        }
        for header in headers {
            text += header;
            text += "\r\n";
        }
        if !body.is_empty() {
            write!(text, "Content-Length: {}\r\n", body.len()).expect("writing to a string does not fail");
        }
        text += "\r\n";
        text += body;
        text.into_bytes()
    }

    /// The number of the latest request.
    pub(crate) fn cseq(&self) -> u32 {
        self.cseq
    }

    /// Takes what concerns the session from a reply. True when the request is worth repeating with an answer to the
    /// challenge that the reply brought.
    pub(crate) fn take(&mut self, reply: &Reply) -> bool {
        if let Some(session) = reply.header("Session").filter(|_| reply.status == 200) {
            let mut parts = session.split(';');
            self.session = parts.next().map(|id| id.trim().to_owned());
            let timeout =
                parts.find_map(|part| part.trim().strip_prefix("timeout=")).and_then(|text| text.parse().ok());
            self.timeout_seconds = timeout.unwrap_or(60).clamp(2, 3600);
        }
        if let Some(methods) = reply.header("Public") {
            self.can_get_parameter = methods.split(',').any(|method| method.trim() == "GET_PARAMETER");
        }
        if reply.status != 401 || self.credentials.is_none() {
            return false;
        }
        let answered = self.challenge.is_some();
        let stale = reply.all("WWW-Authenticate").any(|value| value.to_ascii_lowercase().contains("stale=true"));
        let best = reply.all("WWW-Authenticate").filter_map(Challenge::parse).max_by_key(Challenge::strength);
        let changed = best.is_some() && best != self.challenge;
        self.nonce_count = 0;
        self.challenge = best;
        changed && (!answered || stale)
    }

    /// Seconds between signs of life: half the server's timeout.
    pub(crate) fn keep_alive_seconds(&self) -> u64 {
        (self.timeout_seconds / 2).clamp(1, 30)
    }

    /// The bytes of a sign of life.
    pub(crate) fn keep_alive(&mut self, uri: &str) -> Vec<u8> {
        let method = if self.can_get_parameter { "GET_PARAMETER" } else { "OPTIONS" };
        self.request(method, uri, &[], "")
    }

    fn authorization(&mut self, method: &str, uri: &str) -> Option<String> {
        let credentials = self.credentials.as_ref()?;
        let Credentials { user, password } = credentials;
        match self.challenge.as_ref()? {
            Challenge::Basic => Some(format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))),
            Challenge::Digest { hash, realm, nonce, opaque, has_qop } => {
                self.nonce_count += 1;
                let (count, cnonce) = (format!("{:08x}", self.nonce_count), random_hex());
                let qop = has_qop.then_some((count.as_str(), cnonce.as_str()));
                let response = digest(*hash, credentials, realm, nonce, method, uri, qop);
                let user = user.replace('\\', "\\\\").replace('"', "\\\"");
                let mut text = format!(
                    "Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", response=\"{response}\""
                );
                if *hash == Hash::Sha256 {
                    text += ", algorithm=SHA-256";
                }
                if let Some(opaque) = opaque {
                    text += &format!(", opaque=\"{opaque}\"");
                }
                if let Some((count, cnonce)) = qop {
                    text += &format!(", qop=auth, nc={count}, cnonce=\"{cnonce}\"");
                }
                Some(text)
            }
        }
    }
}

/// The response to a digest challenge (RFC 7616 section 3.4.1; without `qop` as RFC 2069).
fn digest(
    hash: Hash,
    credentials: &Credentials,
    realm: &str,
    nonce: &str,
    method: &str,
    uri: &str,
    qop: Option<(&str, &str)>,
) -> String {
    let hex = |text: String| -> String {
        match hash {
            Hash::Md5 => md5::Md5::digest(text).iter().map(|byte| format!("{byte:02x}")).collect(),
            Hash::Sha256 => sha2::Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    };
    let who = hex(format!("{}:{realm}:{}", credentials.user, credentials.password));
    let what = hex(format!("{method}:{uri}"));
    match qop {
        Some((count, cnonce)) => hex(format!("{who}:{nonce}:{count}:{cnonce}:auth:{what}")),
        None => hex(format!("{who}:{nonce}:{what}")),
    }
}

fn random_hex() -> String {
    let mut bytes = [0; 8];
    // A client nonce that repeats weakens nothing that we rely on.
    let _ = getrandom::fill(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Challenge {
    fn parse(header: &str) -> Option<Challenge> {
        let (scheme, rest) = header.split_once(' ').unwrap_or((header, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Challenge::Basic);
        }
        if !scheme.eq_ignore_ascii_case("digest") {
            return None;
        }
        let parameters = parameters(rest);
        let get = |name: &str| parameters.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone());
        let hash = match get("algorithm") {
            None => Hash::Md5,
            Some(name) if name.eq_ignore_ascii_case("MD5") => Hash::Md5,
            Some(name) if name.eq_ignore_ascii_case("SHA-256") => Hash::Sha256,
            Some(_) => return None,
        };
        let has_qop = get("qop").is_some_and(|values| values.split(',').any(|value| value.trim() == "auth"));
        Some(Challenge::Digest { hash, realm: get("realm")?, nonce: get("nonce")?, opaque: get("opaque"), has_qop })
    }

    /// Which of several to answer: the strongest.
    fn strength(&self) -> u8 {
        match self {
            Challenge::Basic => 0,
            Challenge::Digest { hash: Hash::Md5, .. } => 1,
            Challenge::Digest { hash: Hash::Sha256, .. } => 2,
        }
    }
}

/// `name=value` and `name="value"`, parted by commas; names in lower case.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([',', ' ', '\t']).to_ascii_lowercase();
        let value;
        if let Some(quoted) = after.strip_prefix('"') {
            let Some((inner, after)) = quoted.split_once('"') else { break };
            value = inner;
            rest = after;
        } else {
            (value, rest) = after.split_once(',').unwrap_or((after, ""));
        }
        found.push((name, value.trim().to_owned()));
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reply(text: &str) -> Reply {
        match parse(text.as_bytes()) {
            Ok(Some((Incoming::Reply(reply), length))) if length == text.len() => reply,
            other => panic!("{other:?}"),
        }
    }

    fn client() -> Client {
        Client::new(Some(Credentials { user: "Mufasa".into(), password: "Circle of Life".into() }))
    }

    #[test]
    fn digest_answers_are_those_of_the_standards() {
        // RFC 7616 section 3.9.1.
        let credentials = Credentials { user: "Mufasa".into(), password: "Circle of Life".into() };
        let check = |hash, expected: &str| {
            let nonce = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v";
            let qop = Some(("00000001", "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"));
            let answer = digest(hash, &credentials, "http-auth@example.org", nonce, "GET", "/dir/index.html", qop);
            assert_eq!(answer, expected);
        };
        check(Hash::Md5, "8ca523f5e9506fed4657c9700eebdbec");
        check(Hash::Sha256, "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1");
    }

    #[test]
    fn strongest_challenge_is_answered_once() {
        let challenge = "RTSP/1.0 401 Unauthorized\r\nCSeq: 1\r\nWWW-Authenticate: Digest realm=\"a, b\", nonce=\"n1\", algorithm=SHA-256, qop=\"auth\"\r\nWWW-Authenticate: Basic realm=\"x\"\r\nWWW-Authenticate: Digest realm=\"a, b\",nonce=\"n2\"\r\n\r\n";
        let mut client = client();
        assert!(client.take(&reply(challenge)));
        let request = String::from_utf8(client.request("ANNOUNCE", "rtsp://h/x", &[], "")).expect("text");
        assert!(request.contains("realm=\"a, b\", nonce=\"n1\""), "{request}");
        assert!(request.contains("algorithm=SHA-256") && request.contains("nc=00000001"), "{request}");
        assert!(!client.take(&reply(challenge)), "the same challenge again is a no");
        assert!(!client.take(&reply(&challenge.replace("n1", "n3"))), "so is a fresh one");
        assert!(client.take(&reply(&challenge.replace("\"n1\"", "\"n4\", stale=true"))), "unless the nonce was stale");
        assert!(!Client::new(None).take(&reply(challenge)), "nothing to answer with");
    }

    #[test]
    fn session_and_timeout_are_kept() {
        let mut client = client();
        client.take(&reply("RTSP/1.0 200 OK\r\nCSeq: 1\r\nSession: abc;timeout=20\r\n\r\n"));
        assert_eq!(client.keep_alive_seconds(), 10);
        let request = String::from_utf8(client.keep_alive("rtsp://h/x")).expect("text");
        assert!(request.starts_with("OPTIONS ") && request.contains("Session: abc\r\n"), "{request}");
    }

    #[test]
    fn messages_are_taken_at_every_split() {
        let bytes = b"$\x01\x00\x02hiRTSP/1.0 200 OK\r\nCSeq: 4\r\nContent-Length: 3\r\n\r\nabcOPTIONS * RTSP/1.0\r\nCSeq: 9\r\n\r\n";
        let mut expected = None;
        for split in 0..bytes.len() {
            let (mut found, mut buffer) = (Vec::new(), Vec::new());
            for part in [&bytes[..split], &bytes[split..]] {
                buffer.extend_from_slice(part);
                while let Some((message, length)) = parse(&buffer).expect("RTSP") {
                    buffer.drain(..length);
                    found.push(message);
                }
            }
            assert_eq!(found.len(), 3);
            assert_eq!(*expected.get_or_insert(found.clone()), found);
        }
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\n\r\n"), Err(NotRtsp));
        assert_eq!(parse(&vec![b'a'; MAX_HEAD + 1]), Err(NotRtsp));
    }

    proptest! {
        #[test]
        fn arbitrary_replies_never_panic(text in "(RTSP/1.0 401 x\r\n)?(WWW-Authenticate: (Digest |Basic |)[a-z=\", ]{0,40}\r\n){0,3}.{0,40}(\r\n\r\n)?") {
            if let Ok(Some((Incoming::Reply(reply), _))) = parse(text.as_bytes()) {
                let mut client = client();
                client.take(&reply);
                client.request("RECORD", "rtsp://h/x", &[], "");
            }
        }
    }
}
