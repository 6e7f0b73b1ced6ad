//! One RTSP connection of a publisher: the requests that open and close a session, and bytes in both directions.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::net::UdpSocket;

use super::Target;
use super::clip::Clip;
use super::pace::Pace;
use super::socket::Socket;
use crate::protocol::rtsp_client::{Client, Incoming, Reply, parse};

/// How long the server may take for a reply.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a push ended before its time.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Lost {
    /// The server said no.
    #[error("the server refused {method}: {status} {reason}{}", advice(*status))]
    Refused { method: &'static str, status: u16, reason: String },
    /// The server is not who it should be, or speaks no TLS.
    #[error("TLS: {0}; name the server's certificate with --cacert, or use --insecure to take any")]
    Certificate(String),
    /// Something that may be better the next time.
    #[error("{0}")]
    Broken(String),
}

/// What to do about a refusal, where its reason does not say it.
fn advice(status: u16) -> &'static str {
    match status {
        401 => "; write a publish secret as the password, as `kinora key create` makes one",
        _ => "",
    }
}

impl Lost {
    /// Whether trying again is of no use before somebody has changed something.
    ///
    /// Another publisher may leave (409) and a full disk be emptied (453) by themselves; that a credential is taken again, or
    /// that a stream that must be created first is there, takes a person.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Lost::Refused { status, .. } => !matches!(status, 409 | 453),
            Lost::Certificate(_) => true,
            Lost::Broken(_) => false,
        }
    }

    fn io(what: &str, error: &std::io::Error) -> Lost {
        Lost::Broken(format!("{what}: {error}"))
    }

    fn status(method: &'static str, reply: &Reply) -> Lost {
        let (status, reason) = (reply.status, reply.reason.clone());
        // Timeouts, overload and lost sessions pass; so does trouble inside the server.
        match status {
            408 | 429 | 454 | 455 | 500 | 502..=504 => {
                Lost::Broken(format!("the server answered {method} with {status} {reason}"))
            }
            _ => Lost::Refused { method, status, reason },
        }
    }
}

/// How packets of a track travel.
pub(super) enum Transport {
    /// Inside the connection.
    Interleaved,
    /// Over a pair of sockets, connected to the server's.
    Udp { rtp: UdpSocket, rtcp: UdpSocket },
}

/// A connection with a session that records.
pub(super) struct Connection {
    socket: Socket,
    client: Client,
    uri: String,
    input: Vec<u8>,
    /// Bytes that the socket did not take yet, whole messages at its end.
    pub(super) output: Vec<u8>,
    /// How packets travel, by place of the track.
    pub(super) transports: Vec<Transport>,
}

impl Connection {
    /// Connects to `target` and announces, sets up and starts recording of `clip`; tells `pace` its channels.
    pub(super) async fn open(target: &Target, clip: &Clip, pace: &mut Pace, udp: bool) -> Result<Connection, Lost> {
        let connect = Socket::connect(&target.host, target.port, target.tls.as_ref());
        let socket = match tokio::time::timeout(REPLY_TIMEOUT, connect).await {
            Ok(Ok(socket)) => socket,
            Ok(Err(error)) => return Err(Lost::io("connect", &error)),
            Err(_) => return Err(Lost::Broken("connect: no answer".to_owned())),
        };
        let client = Client::new(target.credentials.clone());
        let uri = target.uri.clone();
        let mut connection =
            Connection { socket, client, uri, input: Vec::new(), output: Vec::new(), transports: Vec::new() };
        let uri = target.uri.as_str();
        connection.call("OPTIONS", uri, &[], "").await?;
        let sdp = session_description(clip);
        connection.call("ANNOUNCE", uri, &["Content-Type: application/sdp"], &sdp).await?;
        for at in 0..clip.tracks.len() {
            let control = format!("{uri}/trackID={at}");
            if udp {
                connection.set_up_udp(&control).await?;
            } else {
                let (low, high) = (at * 2, at * 2 + 1);
                let transport = format!("Transport: RTP/AVP/TCP;unicast;interleaved={low}-{high};mode=record");
                let reply = connection.call("SETUP", &control, &[&transport], "").await?;
                let given = pair(&reply, "interleaved=").map(|(rtp, _)| rtp);
                let channel = given.and_then(|channel| u8::try_from(channel).ok()).unwrap_or(low as u8);
                pace.tracks[at].channel = channel;
                connection.transports.push(Transport::Interleaved);
            }
        }
        connection.call("RECORD", uri, &["Range: npt=0.000-"], "").await?;
        Ok(connection)
    }

    async fn set_up_udp(&mut self, control: &str) -> Result<(), Lost> {
        let failed = |error| Lost::io("open UDP ports", &error);
        let local = self.socket.local_ip().map_err(failed)?;
        let server = self.socket.peer_ip().map_err(failed)?;
        let (rtp, rtcp) = bind_pair(local).await.map_err(failed)?;
        let port = rtp.local_addr().map_err(failed)?.port();
        let transport = format!("Transport: RTP/AVP/UDP;unicast;client_port={port}-{};mode=record", port + 1);
        let reply = self.call("SETUP", control, &[&transport], "").await?;
        let Some((to_rtp, to_rtcp)) = pair(&reply, "server_port=") else {
            return Err(Lost::Broken("the server gave no UDP ports".to_owned()));
        };
        rtp.connect((server, to_rtp)).await.map_err(failed)?;
        rtcp.connect((server, to_rtcp)).await.map_err(failed)?;
        self.transports.push(Transport::Udp { rtp, rtcp });
        Ok(())
    }

    /// Sends a request and waits for a reply of 200, answering a challenge on the way.
    async fn call(&mut self, method: &'static str, uri: &str, headers: &[&str], body: &str) -> Result<Reply, Lost> {
        let exchange = async {
            // At most a challenge and one stale nonce.
            for _ in 0..3 {
                let request = self.client.request(method, uri, headers, body);
                self.output.extend(request);
                let reply = self.reply().await?;
                if !self.client.take(&reply) {
                    return if reply.status == 200 { Ok(reply) } else { Err(Lost::status(method, &reply)) };
                }
            }
            Err(Lost::Broken(format!("the server challenges {method} again and again")))
        };
        match tokio::time::timeout(REPLY_TIMEOUT, exchange).await {
            Ok(result) => result,
            Err(_) => Err(Lost::Broken(format!("the server does not answer {method}"))),
        }
    }

    async fn reply(&mut self) -> Result<Reply, Lost> {
        let expected = self.client.cseq().to_string();
        loop {
            self.flush()?;
            while let Some(message) = self.next_message()? {
                if let Incoming::Reply(reply) = message
                    && reply.header("CSeq").is_none_or(|cseq| cseq == expected)
                {
                    return Ok(reply);
                }
            }
            self.ready().await?;
        }
    }

    /// Waits until bytes arrive or, when some wait to be sent, can be sent; and takes what arrived.
    pub(super) async fn ready(&mut self) -> Result<(), Lost> {
        let to_write = !self.output.is_empty() && !self.socket.is_handshaking();
        if !self.socket.ready(to_write).await.map_err(|error| Lost::io("read", &error))? {
            return Ok(());
        }
        match self.socket.read(&mut self.input) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Lost::Broken("the server closed the connection".to_owned())),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) if error.kind() == ErrorKind::InvalidData => Err(Lost::Certificate(error.to_string())),
            Err(error) => Err(Lost::io("read", &error)),
        }
    }

    /// Takes what the server says while packets are sent.
    pub(super) fn listen(&mut self) -> Result<(), Lost> {
        while let Some(message) = self.next_message()? {
            if let Incoming::Reply(reply) = message {
                self.client.take(&reply);
                if reply.status == 454 {
                    return Err(Lost::status("sign of life", &reply));
                }
            }
        }
        Ok(())
    }

    fn next_message(&mut self) -> Result<Option<Incoming>, Lost> {
        let Some((message, length)) = parse(&self.input).map_err(|error| Lost::Broken(error.to_string()))? else {
            return Ok(None);
        };
        self.input.drain(..length);
        if let Incoming::Request(cseq) = &message {
            self.output.extend(format!("RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\n\r\n").into_bytes());
        }
        Ok(Some(message))
    }

    /// Gives the socket what it takes of the output. True when it took something.
    pub(super) fn flush(&mut self) -> Result<bool, Lost> {
        let mut sent = 0;
        while sent < self.output.len() {
            match self.socket.write(&self.output[sent..]) {
                Ok(length) => sent += length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(Lost::io("write", &error)),
            }
        }
        self.output.drain(..sent);
        self.socket.flush().map_err(|error| Lost::io("write", &error))?;
        Ok(sent > 0)
    }

    /// Whether something waits to be sent.
    pub(super) fn has_output(&self) -> bool {
        !self.output.is_empty() || self.socket.holds_output()
    }

    /// Adds a sign of life to the output.
    pub(super) fn keep_alive(&mut self) {
        let request = self.client.keep_alive(&self.uri);
        self.output.extend(request);
    }

    /// How long between signs of life.
    pub(super) fn keep_alive_period(&self) -> Duration {
        Duration::from_secs(self.client.keep_alive_seconds())
    }

    /// Sends all output and ends the session. A server that does not answer loses nothing by it.
    pub(super) async fn close(mut self) -> Result<(), Lost> {
        let uri = self.uri.clone();
        let flush = async {
            while self.has_output() {
                self.flush()?;
                if self.has_output() {
                    self.ready().await?;
                    self.listen()?;
                }
            }
            Ok(())
        };
        match tokio::time::timeout(REPLY_TIMEOUT, flush).await {
            Ok(result) => result?,
            Err(_) => return Err(Lost::Broken("the server stopped reading".to_owned())),
        }
        let _ = tokio::time::timeout(Duration::from_secs(2), self.call("TEARDOWN", &uri, &[], "")).await;
        Ok(())
    }
}

/// An even port and the next one, as RFC 3550 section 11 has them.
async fn bind_pair(local: std::net::IpAddr) -> std::io::Result<(UdpSocket, UdpSocket)> {
    let mut last = ErrorKind::AddrInUse.into();
    for _ in 0..64 {
        let first = UdpSocket::bind((local, 0)).await?;
        let port = first.local_addr()?.port();
        let other = if port % 2 == 0 { port.checked_add(1) } else { port.checked_sub(1) };
        let Some(other) = other else { continue };
        match UdpSocket::bind((local, other)).await {
            Ok(second) => return Ok(if port < other { (first, second) } else { (second, first) }),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The two numbers behind `name` in a reply's Transport header, such as `interleaved=0-1`.
fn pair(reply: &Reply, name: &str) -> Option<(u16, u16)> {
    let value = reply.header("Transport")?.split(';').find_map(|part| part.trim().strip_prefix(name))?;
    let (low, high) = value.split_once('-').unwrap_or((value, ""));
    let low: u16 = low.parse().ok()?;
    Some((low, high.parse().ok().or_else(|| low.checked_add(1))?))
}

fn session_description(clip: &Clip) -> String {
    let sections: String = clip.tracks.iter().map(|track| track.section.as_str()).collect();
    format!("v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=kinora publish\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n{sections}")
}
