//! What goes over the wire of an RTSP push: a tap that records a real client, and a sender that repeats a recording
//! over datagrams, as well or as badly as a test likes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::server::Server;

/// Stands between a client and the server, and records what the client sends.
pub(crate) struct Tap {
    pub address: SocketAddr,
    sent: Arc<Mutex<Vec<u8>>>,
}

/// The description of a push and its packets, each with its channel: two of each track, the second for RTCP.
#[derive(Clone, Debug)]
pub(crate) struct Recording {
    pub sdp: String,
    pub packets: Vec<(u8, Vec<u8>)>,
}

impl Tap {
    /// Listens for one client of the server.
    pub(crate) fn start(server: &Server) -> Tap {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let (server, sent) = (server.rtsp.clone(), Arc::new(Mutex::new(Vec::new())));
        let record = sent.clone();
        std::thread::spawn(move || {
            let (mut client, _) = listener.accept().expect("a client");
            let mut server = TcpStream::connect(server).expect("the server");
            let (mut answers, mut to) = (server.try_clone().expect("a handle"), client.try_clone().expect("a handle"));
            std::thread::spawn(move || std::io::copy(&mut answers, &mut to));
            let mut buffer = vec![0; 64 << 10];
            while let Ok(read @ 1..) = client.read(&mut buffer) {
                record.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..read]);
                if server.write_all(&buffer[..read]).is_err() {
                    break;
                }
            }
            let _ = server.shutdown(std::net::Shutdown::Write);
        });
        Tap { address, sent }
    }

    /// What was recorded so far.
    pub(crate) fn recording(&self) -> Recording {
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let mut recording = Recording { sdp: String::new(), packets: Vec::new() };
        let mut rest = &sent[..];
        while !rest.is_empty() {
            if rest[0] == b'$' {
                let end = 4 + usize::from(u16::from_be_bytes([rest[2], rest[3]]));
                recording.packets.push((rest[1], rest[4..end].to_vec()));
                rest = &rest[end..];
                continue;
            }
            let head = rest.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole request") + 4;
            let text = String::from_utf8_lossy(&rest[..head]).to_ascii_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
            let end = head + length.map_or(0, |length| length.trim().parse::<usize>().expect("a length"));
            if text.starts_with("announce") {
                recording.sdp = String::from_utf8_lossy(&rest[head..end]).into_owned();
            }
            rest = &rest[end..];
        }
        recording
    }
}

impl Recording {
    /// The RTP channel of the first track of this kind: clients number them in the order of the description.
    pub(crate) fn channel(&self, kind: char) -> u8 {
        let tracks = self.sdp.lines().filter(|line| line.starts_with("m="));
        let of_kind = |line: &str| line.starts_with(if kind == 'v' { "m=video" } else { "m=audio" });
        2 * tracks.take_while(|line| !of_kind(line)).count() as u8
    }

    /// Packets of a kind.
    pub(crate) fn of_kind(&self, kind: char) -> impl Iterator<Item = &[u8]> {
        let channel = self.channel(kind);
        self.packets.iter().filter(move |(other, _)| *other == channel).map(|(_, bytes)| &bytes[..])
    }

    /// How many frames the packets of a kind hold: pictures by their times, AAC by the sizes in front of it (RFC 3640)
    /// or by its markers (RFC 6416).
    pub(crate) fn frames(&self, kind: char) -> usize {
        if kind == 'v' {
            let mut times: Vec<u32> = self.of_kind('v').map(timestamp).collect();
            times.dedup();
            return times.len();
        }
        if self.sdp.to_ascii_lowercase().contains("mpeg4-generic") {
            return self.of_kind('a').map(|packet| usize::from(half(packet, 12)) / 16).sum();
        }
        self.of_kind('a').filter(|packet| packet[1] & 0x80 != 0).count()
    }
}

/// The RTP timestamp of a packet.
pub(crate) fn timestamp(packet: &[u8]) -> u32 {
    u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]])
}

fn half(packet: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([packet[at], packet[at + 1]])
}

/// Moves sequence numbers and timestamps, of packets and of reports, so that both wrap `before` packets and ticks after
/// the start.
pub(crate) fn wrap(recording: &mut Recording, before: (u16, u32)) {
    let plain = recording.packets.clone();
    for (channel, bytes) in &mut recording.packets {
        let first = &plain.iter().find(|(other, _)| *other == *channel & !1).expect("the track has packets").1;
        let moved = |time: u32| time.wrapping_sub(timestamp(first)).wrapping_sub(before.1).to_be_bytes();
        if *channel % 2 == 0 {
            let sequence = half(bytes, 2).wrapping_sub(half(first, 2)).wrapping_sub(before.0);
            let time = moved(timestamp(bytes));
            bytes[2..4].copy_from_slice(&sequence.to_be_bytes());
            bytes[4..8].copy_from_slice(&time);
        } else if bytes[1] == 200 {
            let time = moved(timestamp(&bytes[12..]));
            bytes[16..20].copy_from_slice(&time);
        }
    }
}

/// Pushes `packets` over datagrams as `stream`, one after the other at about thirty times the speed of a camera.
pub(crate) fn send_datagrams(server: &Server, token: &str, stream: &str, sdp: &str, packets: &[(u8, Vec<u8>)]) {
    let mut control = Control {
        socket: TcpStream::connect(&server.rtsp).expect("connect"),
        uri: format!("rtsp://{}/{stream}", server.rtsp),
        headers: format!("Authorization: Basic {}\r\n", base64(format!("camera:{token}").as_bytes())),
        number: 0,
    };
    control.ask("ANNOUNCE", "", "Content-Type: application/sdp\r\n", sdp);
    let mut sockets = Vec::new();
    for path in sdp.lines().filter_map(|line| line.strip_prefix("a=control:")).filter(|path| path.contains("stream")) {
        let pair = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").expect("a port"));
        let [rtp, rtcp] = pair.each_ref().map(|socket| socket.local_addr().expect("bound").port());
        let transport = format!("Transport: RTP/AVP/UDP;unicast;client_port={rtp}-{rtcp};mode=record\r\n");
        let answer = control.ask("SETUP", &format!("/{}", path.trim()), &transport, "");
        let (_, ports) = answer.split_once("server_port=").expect("ports of the server");
        let ports = ports.split(|c: char| !c.is_ascii_digit()).take(2).map(|port| port.parse().expect("a port"));
        for (socket, port) in pair.into_iter().zip(ports.collect::<Vec<u16>>()) {
            socket.connect(("127.0.0.1", port)).expect("connect");
            sockets.push(socket);
        }
    }
    control.ask("RECORD", "", "", "");
    for (at, (channel, bytes)) in packets.iter().enumerate() {
        sockets[usize::from(*channel)].send(bytes).expect("send");
        if at % 8 == 7 {
            // The system's buffers are for a camera's pace, not for a burst of ten seconds.
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    control.ask("TEARDOWN", "", "", "");
}

struct Control {
    socket: TcpStream,
    uri: String,
    headers: String,
    number: u32,
}

impl Control {
    fn ask(&mut self, method: &str, path: &str, headers: &str, body: &str) -> String {
        self.number += 1;
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let (uri, own, number) = (&self.uri, &self.headers, self.number);
        let text = format!("{method} {uri}{path} RTSP/1.0\r\nCSeq: {number}\r\n{own}{headers}{length}\r\n{body}");
        self.socket.write_all(text.as_bytes()).expect("send");
        let (mut answer, mut byte) = (Vec::new(), [0]);
        while !answer.ends_with(b"\r\n\r\n") {
            self.socket.read_exact(&mut byte).expect("an answer");
            answer.push(byte[0]);
        }
        let answer = String::from_utf8(answer).expect("text");
        assert!(answer.starts_with("RTSP/1.0 200"), "{method}: {answer}");
        if let Some(session) = answer.lines().find_map(|line| line.strip_prefix("Session: "))
            && !self.headers.contains("Session")
        {
            self.headers.push_str(&format!("Session: {}\r\n", session.split(';').next().unwrap_or_default()));
        }
        answer
    }
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let word = three.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for letter in 0..4 {
            let symbol = LETTERS[(word >> (18 - 6 * letter)) as usize % 64] as char;
            text.push(if letter <= three.len() { symbol } else { '=' });
        }
    }
    text
}
