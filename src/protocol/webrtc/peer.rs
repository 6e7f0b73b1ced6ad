//! One peer: a publisher that sends us media, or a viewer that gets it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc::interceptor::{NackGeneratorBuilder, NackResponderBuilder, Registry, Slot};
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::RTCConfigurationBuilder;
use rtc::peer_connection::configuration::interceptor_registry::configure_twcc_receiver_only;
use rtc::peer_connection::configuration::media_engine::MediaEngine;
use rtc::peer_connection::configuration::setting_engine::SettingEngineBuilder;
use rtc::peer_connection::event::RTCPeerConnectionEvent;
use rtc::peer_connection::message::{RTCMessage, TaggedRTCMessage};
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::peer_connection::state::RTCPeerConnectionState;
use rtc::peer_connection::transport::{CandidateConfig, CandidateHostConfig, RTCDtlsRole, RTCIceCandidate};
use rtc::peer_connection::{RTCPeerConnection, RTCPeerConnectionBuilder};
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtp_transceiver::RTCRtpTransceiverDirection;
use rtc::rtp_transceiver::RTCRtpTransceiverInit;
use rtc::rtp_transceiver::rtp_sender::{
    RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters,
    RTCRtpHeaderExtensionCapability, RTCRtpRtxParameters, RtpCodecKind,
};
use rtc::sansio::Protocol;
use rtc::sdp::extmap::{SDES_MID_URI, SDES_REPAIR_RTP_STREAM_ID_URI, SDES_RTP_STREAM_ID_URI};
use rtc::shared::marshal::Marshal;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};

use super::hears::{Heard, Listener, Report};
use super::{Identity, Kind, Offer, Offered};
use crate::protocol::rtp::reorder::MAX_PACKETS_REPAIRED;

/// The capture time of a frame by the sender's clock
/// (<http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time>).
const CAPTURE_TIME_URI: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time";
/// Packets that can be sent again when a viewer lost them: some seconds of a camera.
const REPAIRABLE_PACKETS: u16 = 512;
/// Between requests for what a publisher's packets are missing.
const REPAIR_EVERY: Duration = Duration::from_millis(40);
/// Packets behind the newest that are still taken: a peer without RTX (aiortc) sends a lost packet again as it was, and the
/// 64 that RFC 3711 section 3.3.2 asks for are a seventh of a second of video.
const REPLAY_WINDOW: usize = MAX_PACKETS_REPAIRED;
/// Consent is lost after so long without a check (RFC 7675 section 5.1).
const CONSENT: Duration = Duration::from_secs(30);
const DISCONNECTED: Duration = Duration::from_secs(5);
/// A DTLS handshake, with SCTP and SRTP below the usual path MTU of 1500 and tunnels.
const MTU: usize = 1_400;
/// The port that `rtc` believes we listen at: the socket is none of its business.
const ANY_PORT: u16 = 9;
/// First byte of a DTLS record with an alert (RFC 6347 section 4.1).
const DTLS_ALERT: u8 = 21;

/// Why a peer could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerError {
    #[error("{0}")]
    Library(String),
}

impl From<rtc::shared::error::Error> for PeerError {
    fn from(error: rtc::shared::error::Error) -> PeerError {
        PeerError::Library(error.to_string())
    }
}

/// An ICE user fragment and password.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Credentials {
    pub ufrag: String,
    pub password: String,
}

impl Credentials {
    /// Those that a description or a part of one gives (RFC 8839 section 5.4), when they are as long as they must be.
    pub(crate) fn of_sdp(sdp: &str) -> Option<Credentials> {
        let value = |start: &str| sdp.lines().find_map(|line| line.trim_end().strip_prefix(start)).map(str::to_owned);
        let (ufrag, password) = (value("a=ice-ufrag:")?, value("a=ice-pwd:")?);
        let is_ice = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/');
        let fits = (4..=256).contains(&ufrag.len()) && (22..=256).contains(&password.len());
        (fits && is_ice(&ufrag) && is_ice(&password)).then_some(Credentials { ufrag, password })
    }
}

/// What we say to an offer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Answer {
    pub sdp: String,
    /// By which the peer's checks are known.
    pub credentials: Credentials,
}

/// How far a peer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// Its address is not proven, or its keys are not agreed on.
    Connecting,
    /// Media can flow.
    Connected,
    /// It ended, failed, or gave no consent any more.
    Over,
}

/// A datagram to send.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub to: SocketAddr,
    pub bytes: BytesMut,
}

/// An RTP packet of a publisher, decrypted.
#[derive(Clone, Debug)]
pub(crate) struct Arrived {
    pub payload_type: u8,
    pub ssrc: u32,
    /// With its header, in the original order of retransmitted ones.
    pub bytes: Bytes,
    /// RTP timestamp, and when its picture was taken by the sender's clock as NTP time, where the packet says it.
    pub captured: Option<(u32, u64)>,
}

/// What a track is sent as.
#[derive(Clone, Debug)]
struct Sender {
    track: String,
    ssrc: u32,
    payload_type: u8,
    sequence: u16,
    packets: u32,
    bytes: u32,
}

/// A connection of the library, which strangers' bytes go through. Should one make it panic, this session is over and all others
/// go on.
struct Guarded {
    /// Boxed: it has many kilobytes, and peers are handed from task to task.
    connection: Box<RTCPeerConnection>,
    failed: bool,
}

impl Guarded {
    /// Calls the library; none when it panics, or has before.
    fn call<T>(&mut self, work: impl FnOnce(&mut RTCPeerConnection) -> T) -> Option<T> {
        if self.failed {
            return None;
        }
        let done = catch_unwind(AssertUnwindSafe(|| work(&mut self.connection)));
        if done.is_err() {
            self.failed = true;
            tracing::error!("a WebRTC session panicked and ends");
            metrics::counter!("kinora_panics_total", "part" => "webrtc_session").increment(1);
        }
        done.ok()
    }

    fn write(&mut self, message: RTCMessage, now: Instant) -> Result<(), PeerError> {
        let written = self.call(|connection| connection.handle_write(TaggedRTCMessage { now, message }));
        Ok(written.ok_or_else(failed)??)
    }
}

fn failed() -> PeerError {
    PeerError::Library("the session failed".into())
}

/// One peer. Bytes and time in; datagrams, packets and reports out.
pub(crate) struct Peer {
    connection: Guarded,
    heard: Heard,
    /// What it offered, for an offer of the same with other credentials.
    offer: String,
    senders: Vec<Sender>,
    /// Number of the capture time extension, for each payload type that has it.
    capture_ids: Vec<(u8, u8)>,
    state: State,
}

impl Peer {
    /// A peer that sends us these codecs of its offer.
    ///
    /// # Errors
    /// When the offer cannot be answered.
    pub(crate) fn publisher(
        offer: &Offer,
        chosen: &[(Kind, Offered)],
        identity: &Identity,
        now: Instant,
    ) -> Result<Peer, PeerError> {
        let mut engine = engine(chosen)?;
        for kind in [RtpCodecKind::Audio, RtpCodecKind::Video] {
            // Of layers of simulcast the packets tell by an extension which they are of, and no description does.
            for uri in [CAPTURE_TIME_URI, SDES_MID_URI, SDES_RTP_STREAM_ID_URI, SDES_REPAIR_RTP_STREAM_ID_URI] {
                engine.register_header_extension(
                    RTCRtpHeaderExtensionCapability { uri: uri.to_owned() },
                    kind,
                    None,
                )?;
            }
        }
        let repair = NackGeneratorBuilder::new().with_size(1024).with_interval(REPAIR_EVERY).with_skip_last_n(1);
        let registry = Registry::new().with(Slot::NackGenerator, repair.with_max_nacks_per_packet(10).build());
        let reports = rtc::interceptor::ReceiverReportBuilder::new().build();
        let registry = configure_twcc_receiver_only(registry.with(Slot::ReceiverReport, reports), &mut engine)?;
        let mut peer = Peer::new(offer, engine, registry, identity, now)?;
        peer.take_offer(now)?;
        let capture_ids = chosen.iter().filter_map(|(kind, codec)| {
            let section = offer.sections.iter().find(|section| section.kind == *kind && section.sends)?;
            Some((codec.payload_type, section.extension(CAPTURE_TIME_URI)?))
        });
        peer.capture_ids = capture_ids.collect();
        Ok(peer)
    }

    /// A peer that gets a track of each of these codecs of its offer; [`Peer::send`] names them by their place.
    ///
    /// # Errors
    /// When the offer cannot be answered.
    pub(crate) fn viewer(
        offer: &Offer,
        chosen: &[(Kind, Offered)],
        identity: &Identity,
        now: Instant,
    ) -> Result<Peer, PeerError> {
        let responder = NackResponderBuilder::new().with_size(REPAIRABLE_PACKETS).build();
        let registry = Registry::new().with(Slot::NackResponder, responder);
        let mut peer = Peer::new(offer, engine(chosen)?, registry, identity, now)?;
        for (kind, codec) in chosen {
            let ssrc = random_u32(identity)?;
            let track = format!("kinora-{}", kind.name());
            let rtx = match codec.repair {
                Some(_) => Some(RTCRtpRtxParameters { ssrc: random_u32(identity)? }),
                None => None,
            };
            let coding = RTCRtpCodingParameters { ssrc: Some(ssrc), rtx, ..Default::default() };
            let encoding = RTCRtpEncodingParameters {
                rtp_coding_parameters: coding,
                active: true,
                codec: parameters(*kind, codec).rtp_codec,
                ..Default::default()
            };
            let media =
                MediaStreamTrack::new("kinora".into(), track.clone(), track.clone(), codec_kind(*kind), vec![encoding]);
            let init = RTCRtpTransceiverInit {
                direction: RTCRtpTransceiverDirection::Sendonly,
                streams: vec!["kinora".into()],
                send_encodings: vec![],
            };
            peer.connection.connection.add_transceiver_from_track(media, Some(init))?;
            // Not near the wrap, so that a receiver that loses the first packets is not misled (RFC 3711 section 3.3.1).
            let sequence = (random_u32(identity)? & 0x3fff) as u16;
            let payload_type = codec.payload_type;
            peer.senders.push(Sender { track, ssrc, payload_type, sequence, packets: 0, bytes: 0 });
        }
        peer.take_offer(now)?;
        Ok(peer)
    }

    /// A peer that sends and gets nothing yet, and has not taken its offer.
    fn new(
        offer: &Offer,
        engine: MediaEngine,
        registry: Registry,
        identity: &Identity,
        now: Instant,
    ) -> Result<Peer, PeerError> {
        let heard = Heard::default();
        let registry = registry.with(Slot::from(11_500), Listener::new(heard.clone()));
        let settings = SettingEngineBuilder::new()
            .with_crypto_provider(identity.provider.clone())
            .with_lite(true)
            // The peer of a lite agent begins (RFC 8842 section 5.3 leaves it open; browsers offer actpass).
            .with_answering_dtls_role(RTCDtlsRole::Server)
            .with_ice_timeouts(Some(DISCONNECTED), Some(CONSENT - DISCONNECTED), Some(Duration::from_secs(2)))
            .with_srtp_protection_profiles(vec![
                SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
                SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
            ])
            .with_srtp_replay_protection_window(REPLAY_WINDOW)
            .with_receive_mtu(MTU)
            .build();
        let configuration =
            RTCConfigurationBuilder::new().with_certificates(vec![identity.certificate.clone()]).build();
        let connection = RTCPeerConnectionBuilder::new()
            .with_configuration(configuration)
            .with_setting_engine(settings)
            .with_media_engine(engine)
            .with_interceptor_registry(registry)
            .build(now)?;
        let mut connection = Box::new(connection);
        for address in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            let base_config = CandidateConfig {
                network: "udp".to_owned(),
                address: address.to_string(),
                port: ANY_PORT,
                component: 1,
                ..Default::default()
            };
            let candidate = CandidateHostConfig { base_config, ..Default::default() }.new_candidate_host()?;
            connection.add_local_candidate(RTCIceCandidate::from(&candidate).to_json()?)?;
        }
        let offer = offer.plain.clone();
        let connection = Guarded { connection, failed: false };
        Ok(Peer { connection, heard, offer, senders: Vec::new(), capture_ids: Vec::new(), state: State::Connecting })
    }

    /// Lets the connection know what the peer offered; what is sent to it was added before.
    fn take_offer(&mut self, now: Instant) -> Result<(), PeerError> {
        let offer = RTCSessionDescription::offer(self.offer.clone())?;
        Ok(self.connection.call(|connection| connection.set_remote_description(now, offer)).ok_or_else(failed)??)
    }

    /// Our answer, with `here` as the addresses at which we can be reached.
    ///
    /// # Errors
    /// When the offer and what was chosen of it have no answer.
    pub(crate) fn answer(&mut self, here: &[SocketAddr], now: Instant) -> Result<Answer, PeerError> {
        let answered = self.connection.call(|connection| {
            let answer = connection.create_answer(None)?;
            connection.set_local_description(now, answer.clone())?;
            Ok::<_, PeerError>(answer)
        });
        let answer = answered.ok_or_else(failed)??;
        let sdp = with_candidates(&answer.sdp, here);
        let credentials =
            Credentials::of_sdp(&sdp).ok_or(PeerError::Library("an answer without credentials".into()))?;
        Ok(Answer { sdp, credentials })
    }

    /// The peer's network changed: it goes on with these credentials, and we with new ones (RFC 8445 section 9). Keys and media
    /// stay what they are.
    ///
    /// # Errors
    /// When the session cannot be answered anew; it is as it was.
    pub(crate) fn restart(
        &mut self,
        theirs: &Credentials,
        here: &[SocketAddr],
        now: Instant,
    ) -> Result<Answer, PeerError> {
        let renewed = self.offer.lines().map(|line| match line.split_once(':') {
            Some(("a=ice-ufrag", _)) => format!("a=ice-ufrag:{}\r\n", theirs.ufrag),
            Some(("a=ice-pwd", _)) => format!("a=ice-pwd:{}\r\n", theirs.password),
            _ => format!("{line}\r\n"),
        });
        let offer: String = renewed.collect();
        let described = RTCSessionDescription::offer(offer.clone())?;
        self.connection.call(|connection| connection.set_remote_description(now, described)).ok_or_else(failed)??;
        self.offer = offer;
        self.answer(here, now)
    }

    /// Whether these are the peer's own credentials.
    pub(crate) fn has(&self, theirs: &Credentials) -> bool {
        Credentials::of_sdp(&self.offer).as_ref() == Some(theirs)
    }

    /// Takes a datagram. What is no packet of this peer's is dropped.
    pub(crate) fn receive(&mut self, from: SocketAddr, bytes: BytesMut, now: Instant) {
        let transport = TransportContext {
            local_addr: placeholder(from),
            peer_addr: from,
            transport_protocol: TransportProtocol::UDP,
            ecn: None,
        };
        // An error is about this datagram, and anybody can send one.
        let packet = TaggedBytesMut { now, transport, message: bytes };
        let _ = self.connection.call(|connection| connection.handle_read(packet));
        self.note_events();
    }

    /// Time went by.
    pub(crate) fn tick(&mut self, now: Instant) {
        if !self.connection.call(|connection| connection.handle_timeout(now).is_ok()).unwrap_or(false) {
            self.state = State::Over;
        }
        self.note_events();
    }

    /// When [`Peer::tick`] is due.
    pub(crate) fn due(&mut self) -> Option<Instant> {
        self.connection.call(|connection| connection.poll_timeout()).flatten()
    }

    /// The next datagram to send.
    pub(crate) fn next_outgoing(&mut self) -> Option<Outgoing> {
        let written = self.connection.call(|connection| connection.poll_write()).flatten()?;
        // `rtc` answers a peer's goodbye (close_notify, RFC 5246 section 7.2.1) and goes on as if it were there. Only what
        // was decrypted with the session's keys is answered so.
        if written.message.first() == Some(&DTLS_ALERT) {
            self.state = State::Over;
        }
        Some(Outgoing { to: written.transport.peer_addr, bytes: written.message })
    }

    /// The next packet of a publisher.
    pub(crate) fn next_arrived(&mut self) -> Option<Arrived> {
        loop {
            let read = self.connection.call(|connection| connection.poll_read()).flatten()?;
            let RTCMessage::RtpPacket(_, mut packet) = read.message else { continue };
            let header = &mut packet.header;
            let id = self.capture_ids.iter().find(|(number, _)| *number == header.payload_type).map(|(_, id)| *id);
            let captured = id
                .and_then(|id| header.get_extension(id))
                .and_then(|value| Some((header.timestamp, u64::from_be_bytes(*value.first_chunk::<8>()?))));
            header.padding = false;
            let (payload_type, ssrc) = (header.payload_type, header.ssrc);
            let Ok(bytes) = packet.marshal() else { continue };
            return Some(Arrived { payload_type, ssrc, bytes: bytes.freeze(), captured });
        }
    }

    /// The next report of the peer.
    pub(crate) fn next_report(&mut self) -> Option<Report> {
        self.heard.take()
    }

    /// How far it is.
    pub(crate) fn state(&self) -> State {
        if self.connection.failed { State::Over } else { self.state }
    }

    /// Makes the library panic at the next call, as a stranger's packet might.
    #[cfg(test)]
    pub(super) fn fail(&mut self) {
        let _: Option<()> = self.connection.call(|_| panic!("as asked for"));
    }

    /// Sends a payload of the `track`-th track.
    ///
    /// # Errors
    /// When the peer is not connected.
    pub(crate) fn send(
        &mut self,
        track: usize,
        payload: Bytes,
        timestamp: u32,
        marker: bool,
        now: Instant,
    ) -> Result<(), PeerError> {
        let sender = &mut self.senders[track];
        let header = rtc::rtp::Header {
            version: 2,
            marker,
            payload_type: sender.payload_type,
            sequence_number: sender.sequence,
            timestamp,
            ssrc: sender.ssrc,
            ..Default::default()
        };
        sender.sequence = sender.sequence.wrapping_add(1);
        sender.packets = sender.packets.wrapping_add(1);
        sender.bytes = sender.bytes.wrapping_add(payload.len() as u32);
        let message = RTCMessage::RtpPacket(sender.track.clone(), rtc::rtp::Packet { header, payload });
        self.connection.write(message, now)
    }

    /// Says that at `timestamp` of the `track`-th track the clock showed `ntp`, so that the peer keeps sound and picture in step.
    ///
    /// # Errors
    /// When the peer is not connected.
    pub(crate) fn report(&mut self, track: usize, timestamp: u32, ntp: u64, now: Instant) -> Result<(), PeerError> {
        let sender = &self.senders[track];
        let report = SenderReport {
            ssrc: sender.ssrc,
            ntp_time: ntp,
            rtp_time: timestamp,
            packet_count: sender.packets,
            octet_count: sender.bytes,
            ..Default::default()
        };
        let message = RTCMessage::RtcpPacket(sender.track.clone(), vec![Box::new(report)]);
        self.connection.write(message, now)
    }

    /// Asks a publisher for a key picture of the source `ssrc` (RFC 4585 section 6.3.1).
    ///
    /// # Errors
    /// When the peer is not connected.
    pub(crate) fn ask_for_key_picture(&mut self, ssrc: u32, now: Instant) -> Result<(), PeerError> {
        let request = PictureLossIndication { sender_ssrc: 0, media_ssrc: ssrc };
        let message = RTCMessage::RtcpPacket(String::new(), vec![Box::new(request)]);
        self.connection.write(message, now)
    }

    /// Says goodbye: what [`Peer::next_outgoing`] gives after this ends the session on the other side too.
    pub(crate) fn close(&mut self) {
        let _ = self.connection.call(|connection| connection.close());
        self.state = State::Over;
    }

    fn note_events(&mut self) {
        while let Some(event) = self.connection.call(|connection| connection.poll_event()).flatten() {
            let RTCPeerConnectionEvent::OnConnectionStateChangeEvent(state) = event else { continue };
            match state {
                RTCPeerConnectionState::Connected if self.state == State::Connecting => self.state = State::Connected,
                RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed => self.state = State::Over,
                _ => {}
            }
        }
    }
}

/// What stands for our address of the family of `peer` in `rtc`: it never learns at which of ours a datagram came.
fn placeholder(peer: SocketAddr) -> SocketAddr {
    match peer {
        SocketAddr::V4(_) => (Ipv4Addr::LOCALHOST, ANY_PORT).into(),
        SocketAddr::V6(_) => (Ipv6Addr::LOCALHOST, ANY_PORT).into(),
    }
}

fn codec_kind(kind: Kind) -> RtpCodecKind {
    match kind {
        Kind::Audio => RtpCodecKind::Audio,
        Kind::Video => RtpCodecKind::Video,
    }
}

/// The codec under the peer's own number, so that its answer needs no translation.
fn parameters(kind: Kind, codec: &Offered) -> RTCRtpCodecParameters {
    let feedback = |typ: &str, parameter: &str| RTCPFeedback { typ: typ.to_owned(), parameter: parameter.to_owned() };
    let rtcp_feedback = match kind {
        Kind::Video => vec![feedback("nack", ""), feedback("nack", "pli"), feedback("ccm", "fir")],
        Kind::Audio => vec![],
    };
    let rtp_codec = RTCRtpCodec {
        mime_type: format!("{}/{}", kind.name(), codec.name()),
        clock_rate: codec.clock_rate,
        channels: codec.channels,
        sdp_fmtp_line: codec.parameters.clone(),
        rtcp_feedback,
    };
    RTCRtpCodecParameters { rtp_codec, payload_type: codec.payload_type }
}

/// What knows these codecs, and the repair of each that has one.
fn engine(chosen: &[(Kind, Offered)]) -> Result<MediaEngine, PeerError> {
    let mut engine = MediaEngine::default();
    for (kind, codec) in chosen {
        engine.register_codec(parameters(*kind, codec), codec_kind(*kind))?;
        let Some(repair) = codec.repair else { continue };
        let rtp_codec = RTCRtpCodec {
            mime_type: format!("{}/rtx", kind.name()),
            clock_rate: codec.clock_rate,
            channels: 0,
            sdp_fmtp_line: format!("apt={}", codec.payload_type),
            rtcp_feedback: vec![],
        };
        engine.register_codec(RTCRtpCodecParameters { rtp_codec, payload_type: repair }, codec_kind(*kind))?;
    }
    Ok(engine)
}

fn random_u32(identity: &Identity) -> Result<u32, PeerError> {
    let mut bytes = [0; 4];
    identity.provider.random().fill(&mut bytes).map_err(|error| PeerError::Library(error.to_string()))?;
    Ok(u32::from_be_bytes(bytes))
}

/// The answer with `here` in place of the candidates it names, in each section: bundled ones share the transport of the
/// first, where Chromium and `rtc` look for them, but aiortc 1.16 looks in the last.
fn with_candidates(sdp: &str, here: &[SocketAddr]) -> String {
    let mut out = String::with_capacity(sdp.len() + 256 * here.len());
    let kept = sdp.lines().filter(|line| !line.starts_with("a=candidate:") && *line != "a=end-of-candidates");
    for line in kept {
        out.push_str(line.trim_end());
        out.push_str("\r\n");
        if line.starts_with("a=mid:") {
            for (count, address) in here.iter().enumerate() {
                // RFC 8445 section 5.1.2.1: host candidates, the first of ours preferred.
                let local = 65_535u32.saturating_sub(count as u32);
                let priority = 126 << 24 | local << 8 | 255;
                let (ip, port) = (address.ip(), address.port());
                out.push_str(&format!("a=candidate:{} 1 udp {priority} {ip} {port} typ host\r\n", count + 1));
            }
            out.push_str("a=end-of-candidates\r\n");
        }
    }
    out
}
