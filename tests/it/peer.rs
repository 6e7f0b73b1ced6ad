//! WebRTC clients of ours: a publisher that knows what it sent, and a viewer that counts what it got, over a way that may
//! be as bad as a test likes. Browsers and aiortc are elsewhere (`tests/web`, `samples`): these are for what must be counted,
//! and for crowds.

use std::collections::{BTreeSet, VecDeque};
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rtc::interceptor::{
    Interceptor, NackGeneratorBuilder, NackResponderBuilder, Packet, ReceiverReportBuilder, Registry, Slot, StreamInfo,
    TaggedPacket,
};
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::media_engine::MediaEngine;
use rtc::peer_connection::event::RTCPeerConnectionEvent;
use rtc::peer_connection::message::{RTCMessage, TaggedRTCMessage};
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::peer_connection::state::RTCPeerConnectionState;
use rtc::peer_connection::transport::{CandidateConfig, CandidateHostConfig, RTCIceCandidate};
use rtc::peer_connection::{RTCPeerConnection, RTCPeerConnectionBuilder};
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtp::codec::h264::H264Payloader;
use rtc::rtp::packetizer::Payloader;
use rtc::rtp_transceiver::rtp_sender::{
    RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind,
};
use rtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};
use rtc::sansio::Protocol;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};

use crate::dice::Dice;
use crate::server::{Answer, Server};

const PAYLOAD_TYPE: u8 = 102;
/// Bytes of payload in a packet.
const PAYLOAD: usize = 1_100;
const SSRC: u32 = 0x1234_5678;

/// What becomes of datagrams between a peer and the server, both ways; shares are of 1,000.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Way {
    /// Lost, at random.
    pub loss: usize,
    /// Lost when the one before was lost.
    pub burst: usize,
    /// Sent twice.
    pub double: usize,
    /// Sent after the next one.
    pub swap: usize,
    pub delay: Duration,
}

/// One direction of a way.
struct Lane {
    way: Way,
    dice: Dice,
    lost_before: bool,
    held: Option<BytesMut>,
    queue: VecDeque<(Instant, BytesMut)>,
    lost: usize,
}

impl Lane {
    fn new(way: Way, seed: u64) -> Lane {
        Lane { way, dice: Dice(seed), lost_before: false, held: None, queue: VecDeque::new(), lost: 0 }
    }

    fn put(&mut self, bytes: BytesMut, now: Instant) {
        let Way { loss, burst, double, swap, delay } = self.way;
        let share = if self.lost_before { burst.max(loss) } else { loss };
        self.lost_before = self.dice.roll(1_000) < share;
        if self.lost_before {
            self.lost += 1;
            return;
        }
        if self.held.is_none() && self.dice.roll(1_000) < swap {
            self.held = Some(bytes);
            return;
        }
        let times = if self.dice.roll(1_000) < double { 2 } else { 1 };
        let both = std::iter::repeat_n(bytes, times).chain(self.held.take());
        self.queue.extend(both.map(|bytes| (now + delay, bytes)));
    }

    fn take(&mut self, now: Instant) -> Option<BytesMut> {
        self.queue.front().filter(|(due, _)| *due <= now)?;
        self.queue.pop_front().map(|(_, bytes)| bytes)
    }

    fn due(&self) -> Option<Instant> {
        self.queue.front().map(|(due, _)| *due)
    }
}

/// How a peer is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Make {
    pub way: Way,
    pub seed: u64,
    /// Sends again what was lost, asks again for what is missing.
    pub repairs: bool,
}

impl Default for Make {
    fn default() -> Make {
        Make { way: Way::default(), seed: 0x5eed, repairs: true }
    }
}

/// A session: made over HTTP, driven by [`Peer::drive`].
pub(crate) struct Peer {
    connection: Box<RTCPeerConnection>,
    socket: UdpSocket,
    local: SocketAddr,
    pub server: SocketAddr,
    /// Path of the session.
    pub location: String,
    pub answer: String,
    pub connected: bool,
    /// The server said goodbye, or is not heard any more.
    pub over: bool,
    out: Lane,
    back: Lane,
    sequence: u16,
    /// Sequence numbers of the packets that never left, though the peer wanted to send them.
    pub withheld: BTreeSet<u16>,
    /// The newest check by which it chose its way to the server.
    pub nomination: Option<BytesMut>,
    /// Sequence numbers that came, extended.
    came: BTreeSet<i64>,
    /// RTP packets that came, and the marked ones of them: pictures.
    pub packets: u64,
    pub pictures: u64,
    asked: Arc<AtomicU64>,
    /// Source of what came.
    source: u32,
}

fn codec() -> RTCRtpCodecParameters {
    let feedback = |typ: &str, parameter: &str| RTCPFeedback { typ: typ.to_owned(), parameter: parameter.to_owned() };
    let rtp_codec = RTCRtpCodec {
        mime_type: "video/H264".to_owned(),
        clock_rate: 90_000,
        channels: 0,
        sdp_fmtp_line: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f".to_owned(),
        rtcp_feedback: vec![feedback("nack", ""), feedback("nack", "pli"), feedback("ccm", "fir")],
    };
    RTCRtpCodecParameters { rtp_codec, payload_type: PAYLOAD_TYPE }
}

/// Counts requests for key pictures, which `rtc` keeps to itself; changes nothing.
#[derive(Default)]
struct Listener {
    asked: Arc<AtomicU64>,
    reads: VecDeque<TaggedPacket>,
    writes: VecDeque<TaggedPacket>,
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Listener {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = rtc::shared::error::Error;
    type Time = Instant;

    fn handle_read(&mut self, packet: TaggedPacket) -> Result<(), Self::Error> {
        if let Packet::Rtcp(reports) = &packet.message.packet {
            let asked = reports.iter().filter(|report| report.as_any().is::<PictureLossIndication>());
            self.asked.fetch_add(asked.count() as u64, Ordering::Relaxed);
        }
        self.reads.push_back(packet);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.reads.pop_front()
    }

    fn handle_write(&mut self, packet: TaggedPacket) -> Result<(), Self::Error> {
        self.writes.push_back(packet);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.writes.pop_front()
    }
}

impl Interceptor for Listener {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}

/// A client before its offer is answered, and that offer.
fn offer(publishes: bool, repairs: bool, asked: &Arc<AtomicU64>) -> (Box<RTCPeerConnection>, UdpSocket, String) {
    let now = Instant::now();
    let mut engine = MediaEngine::default();
    engine.register_codec(codec(), RtpCodecKind::Video).expect("a codec");
    let mut registry =
        Registry::new().with(Slot::from(11_500), Listener { asked: asked.clone(), ..Listener::default() });
    if repairs && publishes {
        registry = registry.with(Slot::NackResponder, NackResponderBuilder::new().with_size(4_096).build());
    }
    if repairs && !publishes {
        let interval = Duration::from_millis(20);
        registry = registry.with(Slot::NackGenerator, NackGeneratorBuilder::new().with_interval(interval).build());
    }
    if !publishes {
        registry = registry.with(Slot::ReceiverReport, ReceiverReportBuilder::new().build());
    }
    let builder = RTCPeerConnectionBuilder::new().with_media_engine(engine).with_interceptor_registry(registry);
    let mut connection = Box::new(builder.build(now).expect("a client"));
    if publishes {
        let coding = RTCRtpCodingParameters { ssrc: Some(SSRC), ..Default::default() };
        let encoding = RTCRtpEncodingParameters {
            rtp_coding_parameters: coding,
            active: true,
            codec: codec().rtp_codec,
            ..Default::default()
        };
        let track =
            MediaStreamTrack::new("test".into(), "video".into(), "video".into(), RtpCodecKind::Video, vec![encoding]);
        let init = RTCRtpTransceiverInit {
            direction: RTCRtpTransceiverDirection::Sendonly,
            streams: vec!["test".into()],
            send_encodings: vec![],
        };
        connection.add_transceiver_from_track(track, Some(init)).expect("a track to send");
    } else {
        connection.add_transceiver_from_kind(RtpCodecKind::Video, None).expect("a track to get");
    }
    let offer = connection.create_offer(None).expect("an offer");
    connection.set_local_description(now, offer.clone()).expect("our own offer");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let local = socket.local_addr().expect("bound");
    let base_config = CandidateConfig {
        network: "udp".to_owned(),
        address: local.ip().to_string(),
        port: local.port(),
        component: 1,
        ..Default::default()
    };
    let candidate =
        CandidateHostConfig { base_config, ..Default::default() }.new_candidate_host().expect("a candidate");
    let candidate = RTCIceCandidate::from(&candidate).to_json().expect("a candidate");
    connection.add_local_candidate(candidate).expect("our own candidate");
    (connection, socket, offer.sdp)
}

/// An offer as a client that publishes or watches makes it, for tests that go no further.
pub(crate) fn offer_text(publishes: bool) -> String {
    offer(publishes, true, &Arc::default()).2
}

/// Sends an offer.
pub(crate) fn post(server: &Server, path: &str, token: &str, offer: &str) -> Answer {
    server.send("POST", path, Some(token), "application/sdp", offer.as_bytes())
}

impl Peer {
    /// Publishes `stream`.
    pub(crate) fn publisher(server: &Server, token: &str, stream: &str, make: Make) -> Peer {
        Peer::new(server, token, &format!("/whip/{stream}"), make)
    }

    /// Watches `stream`.
    pub(crate) fn viewer(server: &Server, token: &str, stream: &str, make: Make) -> Peer {
        Peer::new(server, token, &format!("/whep/{stream}"), make)
    }

    /// Watches `stream` with an offer whose fingerprint was changed, as far as that is taken; it is not waited for.
    pub(crate) fn impostor(
        server: &Server,
        token: &str,
        stream: &str,
        change: impl Fn(&str) -> String,
    ) -> Option<Peer> {
        let asked = Arc::default();
        let (connection, socket, offer) = offer(false, true, &asked);
        let print = offer.lines().find(|line| line.starts_with("a=fingerprint")).expect("a fingerprint");
        let answer = post(server, &format!("/whep/{stream}"), token, &offer.replace(print, &change(print)));
        (answer.status == 201).then(|| Peer::answered(server, connection, socket, &answer, asked, Make::default()))
    }

    fn new(server: &Server, token: &str, path: &str, make: Make) -> Peer {
        let asked = Arc::new(AtomicU64::new(0));
        let (connection, socket, offer) = offer(path.starts_with("/whip"), make.repairs, &asked);
        let answer = post(server, path, token, &offer);
        assert_eq!(answer.status, 201, "{path}: {}", answer.text());
        Peer::answered(server, connection, socket, &answer, asked, make).connect(make.way)
    }

    fn answered(
        server: &Server,
        mut connection: Box<RTCPeerConnection>,
        socket: UdpSocket,
        answer: &Answer,
        asked: Arc<AtomicU64>,
        make: Make,
    ) -> Peer {
        let location = answer.headers["location"].to_str().expect("text").to_owned();
        let text = answer.text();
        let description = RTCSessionDescription::answer(text.clone()).expect("an answer");
        connection.set_remote_description(Instant::now(), description).expect("an answer that fits");
        let local = socket.local_addr().expect("bound");
        let server = server.webrtc.parse().expect("an address");
        Peer {
            connection,
            socket,
            local,
            server,
            location,
            answer: text,
            connected: false,
            over: false,
            out: Lane::new(Way::default(), make.seed),
            back: Lane::new(make.way, make.seed ^ 0xffff),
            sequence: 1_000,
            withheld: BTreeSet::new(),
            nomination: None,
            came: BTreeSet::new(),
            packets: 0,
            pictures: 0,
            asked,
            source: 0,
        }
    }

    /// The way is bad once the peer is connected: setting up is another matter.
    fn connect(mut self, way: Way) -> Peer {
        let back = std::mem::take(&mut self.back.way);
        self.drive(Duration::from_secs(10), |peer| peer.connected);
        assert!(self.connected, "connected within 10 s; answer: {}", self.answer);
        (self.out.way, self.back.way) = (way, back);
        self
    }

    /// Packets between the first and the newest that did not come, but for those that may be on their way.
    pub(crate) fn missing(&self) -> usize {
        let (Some(first), Some(newest)) = (self.came.first(), self.came.last()) else { return 0 };
        (*first..newest - 100).filter(|number| !self.came.contains(number)).count()
    }

    /// Requests for key pictures that came.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Lets the session go on until `enough` or for `span`; whether it was enough.
    pub(crate) fn drive(&mut self, span: Duration, mut enough: impl FnMut(&Peer) -> bool) -> bool {
        let end = Instant::now() + span;
        let mut buffer = vec![0; 2_048];
        loop {
            let now = Instant::now();
            self.flush(now);
            if enough(self) {
                return true;
            }
            if now >= end {
                return false;
            }
            let due = self.connection.poll_timeout().into_iter().chain(self.out.due()).chain(self.back.due()).min();
            let until = due.map_or(end, |due| due.min(end));
            let wait = until.saturating_duration_since(now).clamp(Duration::from_millis(1), Duration::from_millis(50));
            self.socket.set_read_timeout(Some(wait)).expect("set a timeout");
            if let Ok((length, from)) = self.socket.recv_from(&mut buffer)
                && from == self.server
            {
                self.back.put(BytesMut::from(&buffer[..length]), Instant::now());
            }
            let now = Instant::now();
            while let Some(message) = self.back.take(now) {
                self.receive(message, now);
            }
            // An error ends nothing here: what a test waits for does not come.
            let _ = self.connection.handle_timeout(now);
        }
    }

    fn receive(&mut self, message: BytesMut, now: Instant) {
        let transport = TransportContext {
            local_addr: self.local,
            peer_addr: self.server,
            transport_protocol: TransportProtocol::UDP,
            ecn: None,
        };
        let _ = self.connection.handle_read(TaggedBytesMut { now, transport, message });
        while let Some(message) = self.connection.poll_read() {
            if let RTCMessage::RtpPacket(_, packet) = message.message {
                self.packets += 1;
                self.pictures += u64::from(packet.header.marker);
                self.source = packet.header.ssrc;
                let newest = self.came.last().copied().unwrap_or(packet.header.sequence_number.into());
                let step = packet.header.sequence_number.wrapping_sub(newest as u16) as i16;
                self.came.insert(newest + i64::from(step));
            }
        }
    }

    /// Sends what there is to send.
    fn flush(&mut self, now: Instant) {
        while let Some(event) = self.connection.poll_event() {
            if let RTCPeerConnectionEvent::OnConnectionStateChangeEvent(state) = event {
                self.connected |= state == RTCPeerConnectionState::Connected;
                self.over |= matches!(state, RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed);
            }
        }
        while let Some(outgoing) = self.connection.poll_write() {
            // An alert is the answer to the server's goodbye.
            self.over |= outgoing.message.first() == Some(&21);
            // A binding request with USE-CANDIDATE, which has no content.
            if outgoing.message.starts_with(&[0, 1]) && outgoing.message.windows(4).any(|four| four == [0, 0x25, 0, 0])
            {
                self.nomination = Some(outgoing.message.clone());
            }
            self.out.put(outgoing.message, now);
        }
        while let Some(bytes) = self.out.take(now) {
            let _ = self.socket.send_to(&bytes, self.server);
        }
    }

    /// Sends a picture as RTP packets; `keep` says of the n-th packet whether it is sent at all.
    pub(crate) fn send(&mut self, unit: &Unit, mut keep: impl FnMut(u16) -> bool) {
        let payloads = H264Payloader::default().payload(PAYLOAD, &unit.bytes).expect("a picture");
        let (last, now) = (payloads.len() - 1, Instant::now());
        for (at, payload) in payloads.into_iter().enumerate() {
            let header = rtc::rtp::Header {
                version: 2,
                marker: at == last,
                payload_type: PAYLOAD_TYPE,
                sequence_number: self.sequence,
                timestamp: unit.timestamp,
                ssrc: SSRC,
                ..Default::default()
            };
            if keep(self.sequence) {
                let message = RTCMessage::RtpPacket("video".to_owned(), rtc::rtp::Packet { header, payload });
                self.connection.handle_write(TaggedRTCMessage { now, message }).expect("a packet to send");
            } else {
                self.withheld.insert(self.sequence);
            }
            self.sequence = self.sequence.wrapping_add(1);
        }
        self.flush(now);
    }

    /// Sends the pictures of a clip over and over, at their own pace, as long as it is to go on.
    pub(crate) fn film(&mut self, units: &[Unit], mut go_on: impl FnMut(&Peer) -> bool) {
        let started = Instant::now();
        let mut at = 0_u32;
        while go_on(self) {
            let count = units.len() as u32;
            let unit = &units[(at % count) as usize];
            let timestamp = unit.timestamp.wrapping_add(at / count * count * 3_600);
            self.send(&Unit { timestamp, bytes: unit.bytes.clone() }, |_| true);
            at += 1;
            let next = started + Duration::from_millis(40) * at;
            self.drive(next.saturating_duration_since(Instant::now()), |_| false);
        }
    }

    /// Asks for a key picture so many times at once.
    pub(crate) fn ask_for_key_pictures(&mut self, times: usize) {
        let request = PictureLossIndication { sender_ssrc: 1, media_ssrc: self.source };
        (0..times).for_each(|_| self.send_report(Box::new(request.clone())));
    }

    /// Sends an RTCP packet, encrypted as it is to be, whatever is in it.
    pub(crate) fn send_report(&mut self, report: Box<dyn rtc::rtcp::Packet>) {
        let now = Instant::now();
        let message = RTCMessage::RtcpPacket(String::new(), vec![report]);
        // What cannot be written is not sent.
        let _ = self.connection.handle_write(TaggedRTCMessage { now, message });
        self.flush(now);
    }

    /// Says goodbye and goes.
    pub(crate) fn close(mut self) {
        let _ = self.connection.close();
        self.out.way = Way::default();
        self.flush(Instant::now());
    }

    /// Datagrams that were lost on the way out and on the way back.
    pub(crate) fn lost(&self) -> (usize, usize) {
        (self.out.lost, self.back.lost)
    }
}

/// A coded picture, as a byte stream, and its RTP timestamp.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    pub bytes: Bytes,
    pub timestamp: u32,
}

/// The pictures of a clip with 25 a second, with timestamps that are as uneven as a camera's.
pub(crate) fn units(clip: &Path) -> Vec<Unit> {
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-i", clip.to_str().expect("UTF-8"), "-map", "0:v:0", "-c", "copy"])
        .args(["-bsf:v", "h264_mp4toannexb,h264_metadata=aud=insert", "-f", "h264", "-"])
        .stdin(Stdio::null())
        .output()
        .expect("run ffmpeg");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let stream = Bytes::from(output.stdout);
    // Each picture begins with a delimiter.
    let delimiter = [0, 0, 0, 1, 9];
    let mut starts: Vec<usize> =
        stream.windows(5).enumerate().filter(|(_, five)| *five == delimiter).map(|(at, _)| at).collect();
    starts.push(stream.len());
    let mut dice = Dice(0x71c5);
    let unit = |(n, pair): (usize, &[usize])| Unit {
        // Close to where 32 bits wrap, so that they do.
        timestamp: (u32::MAX - 90_000).wrapping_add(n as u32 * 3_600 + dice.roll(900) as u32),
        bytes: stream.slice(pair[0]..pair[1]),
    };
    starts.windows(2).enumerate().map(unit).collect()
}
