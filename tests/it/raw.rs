//! Bytes as no well-meaning client writes them, and what comes back.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use base64::Engine;

/// Connects to `127.0.0.1:port`, with timeouts that no right answer needs.
pub(crate) fn connect(address: &str) -> TcpStream {
    let address = address.strip_prefix("http://").unwrap_or(address);
    let socket = TcpStream::connect(address).expect("connect");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("set a timeout");
    socket.set_write_timeout(Some(Duration::from_secs(10))).expect("set a timeout");
    socket
}

/// Sends `bytes`, which the server may refuse in the middle, and gives what comes back until it closes or says nothing
/// for `patience`; whether it closed.
pub(crate) fn talk(address: &str, bytes: &[u8], patience: Duration) -> (Vec<u8>, bool) {
    let mut socket = connect(address);
    // Answers are read while bytes are still being sent: a server that refuses early may reset what it has not read.
    let mut writer = socket.try_clone().expect("a second handle");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let _ = writer.write_all(bytes);
        });
        let mut answer = Vec::new();
        let closed = read_until(&mut socket, &mut answer, Instant::now() + patience, |_| false);
        let _ = socket.shutdown(std::net::Shutdown::Both);
        (answer, closed)
    })
}

/// Reads until `enough`, the end, or `deadline`; true when the other side has closed.
pub(crate) fn read_until(
    socket: &mut TcpStream,
    into: &mut Vec<u8>,
    deadline: Instant,
    enough: impl Fn(&[u8]) -> bool,
) -> bool {
    let mut buffer = [0; 16 << 10];
    while !enough(into) {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        socket.set_read_timeout(Some(left)).expect("set a timeout");
        match socket.read(&mut buffer) {
            Ok(0) => return true,
            Ok(count) => into.extend_from_slice(&buffer[..count]),
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
    false
}

/// An RTSP client that says what it is told.
pub(crate) struct Rtsp {
    pub socket: TcpStream,
    host: String,
    sequence: u32,
    /// `user:password` in the clear: taken on loopback.
    basic: Option<String>,
}

/// An answer to an RTSP request.
#[derive(Debug)]
pub(crate) struct Said {
    pub status: u16,
    pub head: String,
}

impl Said {
    /// The first header of this name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The session that it names.
    pub(crate) fn session(&self) -> String {
        self.header("Session").and_then(|value| value.split(';').next()).unwrap_or_default().to_owned()
    }
}

/// A picture track in H.264.
pub(crate) const SDP: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n\
    a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:streamid=0\r\n";

impl Rtsp {
    pub(crate) fn new(address: &str, secret: Option<&str>) -> Rtsp {
        let basic = secret.map(|secret| base64::engine::general_purpose::STANDARD.encode(format!("camera:{secret}")));
        Rtsp { socket: connect(address), host: address.to_owned(), sequence: 0, basic }
    }

    /// One request and its answer. `path` follows the host; `headers` are whole lines.
    pub(crate) fn ask(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> Said {
        self.sequence += 1;
        let basic = self.basic.as_ref().map(|basic| format!("Authorization: Basic {basic}\r\n")).unwrap_or_default();
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let head = format!(
            "{method} rtsp://{}/{path} RTSP/1.0\r\nCSeq: {}\r\n{basic}{headers}{length}\r\n",
            self.host, self.sequence
        );
        let _ = self.socket.write_all(&[head.as_bytes(), body].concat());
        self.answer()
    }

    /// The next answer; status 0 when the connection ends without one.
    pub(crate) fn answer(&mut self) -> Said {
        let mut head = Vec::new();
        let mut byte = [0; 1];
        while !head.ends_with(b"\r\n\r\n") {
            match self.socket.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                _ => return Said { status: 0, head: String::from_utf8_lossy(&head).into_owned() },
            }
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
        Said { status, head }
    }

    pub(crate) fn announce(&mut self, stream: &str, sdp: &[u8]) -> Said {
        self.ask("ANNOUNCE", stream, "Content-Type: application/sdp\r\n", sdp)
    }

    /// ANNOUNCE to RECORD; the id of the session.
    pub(crate) fn record(&mut self, stream: &str) -> String {
        assert_eq!(self.announce(stream, SDP.as_bytes()).status, 200);
        let transport = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1;mode=record\r\n";
        let said = self.ask("SETUP", &format!("{stream}/streamid=0"), transport, b"");
        assert_eq!(said.status, 200, "{said:?}");
        let session = said.session();
        let said = self.ask("RECORD", stream, &format!("Session: {session}\r\n"), b"");
        assert_eq!(said.status, 200, "{said:?}");
        session
    }

    /// An interleaved packet.
    pub(crate) fn packet(&mut self, channel: u8, bytes: &[u8]) {
        let length = u16::try_from(bytes.len()).expect("a short packet").to_be_bytes();
        let _ = self.socket.write_all(&[&[b'$', channel, length[0], length[1]], bytes].concat());
    }
}
