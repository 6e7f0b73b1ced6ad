//! SDP, RTP, RTCP, and packet sequences through the whole of a track's receiver.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use media::codec::{av1, nal, vp8, vp9};
use media::{Codec, ServerTime, Track, TrackId};

use crate::protocol::rtp::receive::{Moment, Received, Receiver};
use crate::protocol::rtp::send::{MAX_PAYLOAD, Packetiser, media_section};
use crate::protocol::rtp::{packet, rtcp};
use crate::protocol::sdp;

/// A description of anyone: what we take of it, told by us, is the same again.
pub(crate) fn sdp(data: &[u8]) {
    let Ok(description) = sdp::parse(data) else { return };
    assert!(description.media.len() <= 16);
    for media in &description.media {
        assert!(media.clock_rate > 0 && media.payload_type < 128);
        let Some(receiver) = Receiver::new(TrackId(1), media, false, 1) else { continue };
        let Some(track) = receiver.track() else { continue };
        let section = media_section(track, 96, "trackID=0").expect("a codec that we know");
        assert_eq!(described(&section).as_ref(), Some(track), "{section}");
    }
}

/// The track that a media section describes.
fn described(section: &str) -> Option<Track> {
    let text = format!("{HEAD}{section}");
    let description = sdp::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"));
    Receiver::new(TrackId(1), &description.media[0], false, 1)?.track().cloned()
}

/// RTP and RTCP packets alone: lengths lie inside.
pub(crate) fn rtp_packet(data: &[u8]) {
    if let Ok(packet) = packet::parse(data) {
        assert!(packet.payload.len() + 12 <= data.len() && packet.payload_type < 128);
    }
    assert!(rtcp::parse(data).count() <= 64);
    let times = rtcp::parse(data).filter_map(|report| match report {
        rtcp::Report::Sender { ntp, .. } => rtcp::ntp_to_unix_micros(ntp),
        rtcp::Report::Bye { .. } => None,
    });
    times.for_each(|micros| assert!((0..=1 << 53).contains(&micros)));
}

const HEAD: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n";
const H264: &str = "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n\
    a=fmtp:96 packetization-mode=1; sprop-parameter-sets=Z2QACqzZQg2wEQAAAwABAAADADIPEiWW,aO+Pyw==\r\n";
const H265: &str = "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H265/90000\r\n\
    a=fmtp:96 sprop-vps=QAEMAf//AWAAAAMAkAAAAwAAAwA8lZgJ;\
    sprop-sps=QgEBAWAAAAMAkAAAAwAAAwA8oApID5ySZZWaSTK8BaAgAAADACAAAAMDIQ==;sprop-pps=RAHBcrRiQA==\r\n";
const AAC: &str = "m=audio 0 RTP/AVP 96\r\na=rtpmap:96 MPEG4-GENERIC/48000/2\r\n\
    a=fmtp:96 mode=AAC-hbr;sizelength=13;indexlength=3;indexdeltalength=3;config=1190\r\n";
const LATM: &str = "m=audio 0 RTP/AVP 96\r\na=rtpmap:96 MP4A-LATM/48000\r\na=fmtp:96 cpresent=0;config=40002320\r\n";
const OPUS: &str = "m=audio 0 RTP/AVP 96\r\na=rtpmap:96 opus/48000/2\r\n";
const G711: &str = "m=audio 0 RTP/AVP 96\r\na=rtpmap:96 PCMU/8000\r\n";

const VP8: &str = "m=video 0 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n";
const VP9: &str = "m=video 0 RTP/AVP 96\r\na=rtpmap:96 VP9/90000\r\n";
const AV1: &str = "m=video 0 RTP/AVP 96\r\na=rtpmap:96 AV1/90000\r\n";
/// Beginnings of key frames of 176x144.
const VP8_KEY: &[u8] = &[0xd0, 0x4a, 0, 0x9d, 1, 0x2a, 176, 0, 144, 0, 0, 7, 8];
const VP9_KEY: &[u8] = &[0x82, 0x49, 0x83, 0x42, 0, 0x0a, 0xf0, 8, 0xf6, 6, 0x38, 0x24];
/// A sequence header, and the beginning of a key frame.
const AV1_KEY: &[u8] = &[0x0a, 11, 0, 0, 0, 3, 0xbd, 0x7c, 0x79, 0xb5, 0xf2, 0, 0x80, 0x32, 6, 0x10, 0, 0x84, 0, 2, 8];

/// RFC 6184.
pub(crate) fn rtp_h264(data: &[u8]) {
    packets(H264, data, &nal::join([&[0x65u8, 0x88, 0x84][..], &[0x65, 0x22, 0x11]].into_iter()));
}

/// RFC 7798.
pub(crate) fn rtp_h265(data: &[u8]) {
    packets(H265, data, &nal::join([&[0x26u8, 0x01, 0xaf, 0x07][..], &[0x26, 0x01, 0x22]].into_iter()));
}

/// RFC 3640.
pub(crate) fn rtp_aac(data: &[u8]) {
    packets(AAC, data, &[0x21, 0x10, 0x05]);
}

/// RFC 6416.
pub(crate) fn rtp_latm(data: &[u8]) {
    packets(LATM, data, &[0x21, 0x10, 0x05]);
}

/// RFC 7587.
pub(crate) fn rtp_opus(data: &[u8]) {
    packets(OPUS, data, &[0xfc, 0xff, 0xfe]);
}

/// RFC 7741.
pub(crate) fn rtp_vp8(data: &[u8]) {
    packets(VP8, data, VP8_KEY);
}

/// RFC 9628.
pub(crate) fn rtp_vp9(data: &[u8]) {
    packets(VP9, data, VP9_KEY);
}

/// AOM RTP payload format.
pub(crate) fn rtp_av1(data: &[u8]) {
    packets(AV1, data, AV1_KEY);
}

/// RFC 3551.
pub(crate) fn rtp_g711(data: &[u8]) {
    packets(G711, data, &[0x7f; 160]);
}

/// Packets as `data` says, some lost, doubled or swapped; then `unit`, whole and in order, until it must be taken.
///
/// ```text
/// data   = transport (bit 0: datagrams) packet*
/// packet = what (bits 0-2, bit 3: marker) | step of the timestamp | length: 2 bytes | payload
/// ```
fn packets(section: &str, data: &[u8], unit: &[u8]) {
    let description = sdp::parse(format!("{HEAD}{section}").as_bytes()).expect("our own");
    let media = &description.media[0];
    let Some((&transport, mut rest)) = data.split_first() else { return };
    let receiver = Receiver::new(TrackId(1), media, transport & 1 != 0, 1).expect("a format we know");
    let id = TrackId(1);
    // What the description does not say, the unit does.
    let described = match section {
        VP8 => vp8::track(id, unit).ok(),
        VP9 => vp9::track(id, unit).ok(),
        AV1 => av1::classify(unit, None).sequence_header.and_then(|header| av1::track(id, header).ok()),
        _ => receiver.track().cloned(),
    };
    let track = described.expect("the description or the unit has all that is needed");
    let mut sender = Sender { receiver, out: VecDeque::new(), sequence: 65_530, timestamp: 0xffff_f000, ssrc: 1 };
    let (mut bytes_in, mut packets_in) = (0, 0);
    while let Some((&[what, step, high, low], after)) = rest.split_first_chunk::<4>() {
        let length = usize::from(u16::from_be_bytes([high, low])).min(after.len()).min(1_500);
        let (payload, after) = after.split_at(length);
        rest = after;
        packets_in += 2;
        bytes_in += 2 * length;
        sender.timestamp = sender.timestamp.wrapping_add(u32::from(step) * 90);
        sender.packet(what, payload, at(packets_in));
    }
    // Whatever was missing is given up.
    let moment = at(packets_in + 1_000);
    sender.receiver.tick(moment, &mut sender.out);
    assert!(!sender.receiver.is_waiting());
    let garbage_out: usize = sender.units().iter().map(Vec::len).sum();
    // A prefix of 4 bytes for a NAL unit that had a size of 2, and headers made whole; 4 for a frame in a superframe.
    assert!(garbage_out <= bytes_in * 3 + packets_in as usize * 8, "not more out than in");
    for _ in 0..20 {
        sender.timestamp = sender.timestamp.wrapping_add(3_000);
        sender.unit(&track, media.payload_type, section == LATM, unit, moment);
    }
    sender.receiver.flush(moment, &mut sender.out);
    assert!(sender.receiver.track().is_some(), "it is described");
    assert_eq!(sender.units().last().map(Vec::as_slice), Some(unit), "it recovers");
}

fn at(millis: u64) -> Moment {
    thread_local!(static START: Instant = Instant::now());
    let micros = 1_700_000_000_000_000 + i64::try_from(millis).expect("small") * 1_000;
    let now = START.with(|start| *start) + Duration::from_millis(millis);
    Moment { now, wall: ServerTime::from_micros(micros) }
}

/// A source that has its troubles.
struct Sender {
    receiver: Receiver,
    out: VecDeque<Received>,
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
}

impl Sender {
    fn packet(&mut self, what: u8, payload: &[u8], moment: Moment) {
        let marker = what & 8 != 0;
        match what & 7 {
            4 => self.sequence = self.sequence.wrapping_add(1 + u16::from(what >> 4)),
            5 => {
                self.send(marker, self.sequence, payload, moment);
            }
            6 => {
                // The next comes first: an empty one of the same picture.
                self.send(false, self.sequence.wrapping_add(1), &[], moment);
                self.send(marker, self.sequence, payload, moment);
                self.sequence = self.sequence.wrapping_add(2);
                return;
            }
            7 if what >> 4 == 0 => self.ssrc += 1,
            7 => self.sequence = self.sequence.wrapping_add(u16::from(what >> 4) * 4_000),
            _ => {}
        }
        self.send(marker, self.sequence, payload, moment);
        self.sequence = self.sequence.wrapping_add(1);
    }

    fn send(&mut self, marker: bool, sequence: u16, payload: &[u8], moment: Moment) {
        let mut bytes = vec![0x80, 96 | u8::from(marker) << 7];
        bytes.extend_from_slice(&sequence.to_be_bytes());
        bytes.extend_from_slice(&self.timestamp.to_be_bytes());
        bytes.extend_from_slice(&self.ssrc.to_be_bytes());
        bytes.extend_from_slice(payload);
        self.receiver.rtp(&bytes, moment, &mut self.out);
    }

    /// A whole access unit, as our own packetiser cuts it.
    fn unit(&mut self, track: &Track, payload_type: u8, latm: bool, unit: &[u8], moment: Moment) {
        let mut payloads: Vec<Vec<u8>> = Vec::new();
        if latm {
            payloads.push([&[u8::try_from(unit.len()).expect("short")], unit].concat());
        } else {
            let size = if track.codec.is_video() { 4 } else { 0 };
            let mut packetiser = Packetiser::new(track, size, payload_type, MAX_PAYLOAD).expect("a codec that we know");
            let put = |payload: crate::protocol::rtp::send::Payload<'_>| {
                payloads.push([payload.head, payload.body].concat());
            };
            packetiser.cut(unit, false, put).expect("a whole unit");
        }
        let last = payloads.len() - 1;
        for (count, payload) in payloads.iter().enumerate() {
            let marker = count == last && !matches!(track.codec, Codec::Opus | Codec::Pcmu | Codec::Pcma);
            self.send(marker, self.sequence, payload, moment);
            self.sequence = self.sequence.wrapping_add(1);
        }
    }

    /// Takes the units that came out.
    fn units(&mut self) -> Vec<Vec<u8>> {
        let unit = |received| match received {
            Received::Unit(unit) => Some(unit.data.to_vec()),
            Received::Rest { data, .. } => Some(data.to_vec()),
            Received::Track(_) | Received::SenderReport { .. } => None,
        };
        self.out.drain(..).filter_map(unit).collect()
    }
}
