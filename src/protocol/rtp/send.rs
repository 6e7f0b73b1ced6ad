//! Sending: how access units become RTP packets, how a track is said in SDP, and sender reports.
//!
//! Not here: sockets and pacing (`cli::publish`), and receiving.

mod av1;
#[cfg(test)]
mod round_trip;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use media::codec::{self, CodecError, aac, h264, h265, nal, vp9};
use media::{Codec, ServerTime, Track};

use super::rtcp;

/// Most bytes of RTP payload in a packet of RTSP: with all headers it fits an Ethernet frame, tunnels included.
pub(crate) const MAX_PAYLOAD: usize = 1400;
/// Fewest bytes of RTP payload that a packet must have room for: what formats put in front is far less.
pub(crate) const MIN_PAYLOAD: usize = 64;
/// Bytes of an RTP header without extensions and contributors.
pub(crate) const HEADER: usize = 12;

/// Cuts the access units of one track into RTP payloads.
#[derive(Clone, Debug)]
pub(crate) struct Packetiser {
    codec: Codec,
    nal_length_size: usize,
    /// Parameter sets (of AV1 the payload of the sequence header), sent before each random access point that does not bring
    /// its own.
    sets: Vec<Vec<u8>>,
    payload_type: u8,
    /// Most bytes of a payload.
    max: usize,
    /// Of the next picture of VP8 and VP9, 15 bits.
    picture_id: u16,
}

/// An RTP payload, in two parts that follow each other.
pub(crate) struct Payload<'a> {
    /// What the payload format puts in front.
    pub(crate) head: &'a [u8],
    /// Bytes of the access unit.
    pub(crate) body: &'a [u8],
}

impl Packetiser {
    /// For `track`, whose NAL units have lengths of `nal_length_size` bytes, under the number `payload_type`
    /// (G.711 has its own of RFC 3551, and keeps it). No payload has more than `max` bytes, which is at least
    /// [`MIN_PAYLOAD`], but those of Opus, which are whole packets.
    ///
    /// # Errors
    /// When its sample entry is not as our constructors write it, or there is no payload format for its codec.
    pub(crate) fn new(
        track: &Track,
        nal_length_size: usize,
        payload_type: u8,
        max: usize,
    ) -> Result<Packetiser, CodecError> {
        debug_assert!(max >= MIN_PAYLOAD);
        let (mut sets, mut number) = (Vec::new(), payload_type);
        match track.codec {
            Codec::H264 => {
                let config = h264::Config::of_entry(&track.sample_entry)?;
                sets.extend(config.sps.iter().chain(&config.pps).map(|set| set.to_vec()));
            }
            Codec::H265 => {
                let config = h265::Config::of_entry(&track.sample_entry)?;
                sets.extend(config.nals.iter().map(|set| set.to_vec()));
            }
            Codec::Pcmu => number = 0,
            Codec::Pcma => number = 8,
            Codec::Av1 => sets.push(codec::av1::sequence_of_entry(&track.sample_entry)?.to_vec()),
            Codec::Aac | Codec::Opus | Codec::Vp8 | Codec::Vp9 => {}
            Codec::Opaque => return Err(CodecError::Unsupported("no RTP payload format for this codec")),
        }
        Ok(Packetiser { codec: track.codec, nal_length_size, sets, payload_type: number, max, picture_id: 0 })
    }

    /// The payload type of its packets.
    pub(crate) fn payload_type(&self) -> u8 {
        self.payload_type
    }

    /// Whether the marker bit is on the last packet of every access unit (all pictures, and RFC 3640), and not only at
    /// the start of talk (RFC 3551 and 7587).
    pub(crate) fn marks_ends(&self) -> bool {
        self.codec.is_video() || self.codec == Codec::Aac
    }

    /// Gives the payloads of one access unit in order to `put`; `sync` says that decoding can start at it.
    ///
    /// # Errors
    /// When a NAL unit's or an OBU's length goes beyond the data, or an AAC frame is too long for its 13 bits.
    pub(crate) fn cut(&mut self, unit: &[u8], sync: bool, mut put: impl FnMut(Payload<'_>)) -> Result<(), CodecError> {
        match self.codec {
            Codec::H264 | Codec::H265 => {
                let nals = nal::length_prefixed(unit, self.nal_length_size).collect::<Result<Vec<_>, _>>()?;
                if sync && !nals.iter().any(|nal| self.is_sps(nal)) {
                    let delimiters = nals.iter().take_while(|nal| self.is_delimiter(nal)).count();
                    for nal in &nals[..delimiters] {
                        self.cut_nal(nal, &mut put);
                    }
                    for set in &self.sets {
                        self.cut_nal(set, &mut put);
                    }
                    for nal in &nals[delimiters..] {
                        self.cut_nal(nal, &mut put);
                    }
                } else {
                    for nal in &nals {
                        self.cut_nal(nal, &mut put);
                    }
                }
            }
            Codec::Vp8 | Codec::Vp9 => self.cut_frame(unit, sync, &mut put),
            Codec::Av1 => {
                let header = self.sets.first().filter(|_| sync).map(Vec::as_slice);
                av1::cut(unit, header, self.max, &mut put)?;
            }
            Codec::Aac => {
                // RFC 3640 section 3.3.6: one header of 13 bits of size and 3 of index; fragments repeat it.
                if unit.len() >= 1 << 13 {
                    return Err(CodecError::Unsupported("AAC frame of more than 8191 bytes"));
                }
                let size = (unit.len() as u16) << 3;
                let head = [0, 16, (size >> 8) as u8, size as u8];
                for body in unit.chunks(self.max - head.len()) {
                    put(Payload { head: &head, body });
                }
            }
            Codec::Pcmu | Codec::Pcma => unit.chunks(self.max).for_each(|body| put(Payload { head: &[], body })),
            Codec::Opus | Codec::Opaque => put(Payload { head: &[], body: unit }),
        }
        Ok(())
    }

    fn is_sps(&self, nal: &[u8]) -> bool {
        match self.codec {
            Codec::H264 => nal[0] & 0x1f == h264::SPS,
            _ => h265::nal_type(nal) == h265::SPS,
        }
    }

    fn is_delimiter(&self, nal: &[u8]) -> bool {
        match self.codec {
            Codec::H264 => nal[0] & 0x1f == h264::AUD,
            _ => h265::nal_type(nal) == h265::AUD,
        }
    }

    /// A single NAL unit packet, or fragmentation units (RFC 6184 section 5.8, RFC 7798 section 4.4.3).
    fn cut_nal(&self, nal: &[u8], put: &mut impl FnMut(Payload<'_>)) {
        if nal.len() <= self.max {
            return put(Payload { head: &[], body: nal });
        }
        let header_len = if self.codec == Codec::H264 { 1 } else { 2 };
        let (header, rest) = nal.split_at(header_len);
        let room = self.max - header_len - 1;
        let last = rest.len().div_ceil(room) - 1;
        for (count, body) in rest.chunks(room).enumerate() {
            let ends = u8::from(count == 0) << 7 | u8::from(count == last) << 6;
            if self.codec == Codec::H264 {
                put(Payload { head: &[header[0] & 0xe0 | 28, ends | header[0] & 0x1f], body });
            } else {
                let head = [header[0] & 0x81 | 49 << 1, header[1], ends | header[0] >> 1 & 0x3f];
                put(Payload { head: &head, body });
            }
        }
    }
}

impl Packetiser {
    /// Payload descriptors with a picture id of 15 bits (RFC 7741 section 4.2, RFC 9628 section 4.2), and no layers.
    fn cut_frame(&mut self, frame: &[u8], sync: bool, put: &mut impl FnMut(Payload<'_>)) {
        let [high, low] = (self.picture_id | 0x8000).to_be_bytes();
        self.picture_id = (self.picture_id + 1) & 0x7fff;
        let is_vp8 = self.codec == Codec::Vp8;
        let room = self.max - if is_vp8 { 4 } else { 3 };
        let last = frame.len().div_ceil(room).saturating_sub(1);
        for (count, body) in frame.chunks(room).enumerate() {
            let (begins, ends) = (u8::from(count == 0), u8::from(count == last));
            if is_vp8 {
                put(Payload { head: &[0x80 | begins << 4, 0x80, high, low], body });
            } else {
                put(Payload { head: &[0x80 | u8::from(!sync) << 6 | begins << 3 | ends << 2, high, low], body });
            }
        }
    }
}

/// The media section of `track` in an SDP (RFC 8866), controlled by `control`.
///
/// # Errors
/// As [`Packetiser::new`].
pub(crate) fn media_section(track: &Track, payload_type: u8, control: &str) -> Result<String, CodecError> {
    let clock = track.timescale.hz();
    let base64 = |set: &[u8]| BASE64_STANDARD.encode(set);
    let (kind, mapping, parameters) = match track.codec {
        Codec::H264 => {
            let config = h264::Config::of_entry(&track.sample_entry)?;
            let sps =
                config.sps.first().filter(|sps| sps.len() > 3).ok_or(CodecError::Missing("sequence parameter set"))?;
            let sets: Vec<String> = config.sps.iter().chain(&config.pps).map(|set| base64(set)).collect();
            let profile = format!("{:02X}{:02X}{:02X}", sps[1], sps[2], sps[3]);
            let sets = sets.join(",");
            let text = format!("packetization-mode=1;profile-level-id={profile};sprop-parameter-sets={sets}");
            ("video", "H264/90000".to_owned(), text)
        }
        Codec::H265 => {
            let config = h265::Config::of_entry(&track.sample_entry)?;
            let all = |kind| config.of_type(kind).map(base64).collect::<Vec<_>>().join(",");
            let (vps, sps, pps) = (all(h265::VPS), all(h265::SPS), all(h265::PPS));
            ("video", "H265/90000".to_owned(), format!("sprop-vps={vps};sprop-sps={sps};sprop-pps={pps}"))
        }
        Codec::Aac => {
            let config: String =
                aac::config_of_entry(&track.sample_entry)?.iter().map(|byte| format!("{byte:02X}")).collect();
            let text = format!(
                "streamtype=5;profile-level-id=1;mode=AAC-hbr;sizelength=13;indexlength=3;indexdeltalength=3;config={config}"
            );
            ("audio", format!("mpeg4-generic/{clock}/{}", track.channels), text)
        }
        Codec::Opus => {
            let stereo = u8::from(track.channels == 2);
            ("audio", "opus/48000/2".to_owned(), format!("sprop-stereo={stereo}"))
        }
        Codec::Pcmu => ("audio", "PCMU/8000".to_owned(), String::new()),
        Codec::Pcma => ("audio", "PCMA/8000".to_owned(), String::new()),
        Codec::Vp8 => ("video", "VP8/90000".to_owned(), String::new()),
        Codec::Vp9 => {
            let profile = vp9::profile_of_entry(&track.sample_entry)?;
            ("video", "VP9/90000".to_owned(), format!("profile-id={profile}"))
        }
        Codec::Av1 => {
            let sequence = codec::av1::Sequence::parse(codec::av1::sequence_of_entry(&track.sample_entry)?)?;
            let (profile, level, tier) = (sequence.profile, sequence.level, u8::from(sequence.high_tier));
            ("video", "AV1/90000".to_owned(), format!("profile={profile};level-idx={level};tier={tier}"))
        }
        Codec::Opaque => return Err(CodecError::Unsupported("no RTP payload format for this codec")),
    };
    let mut text = format!("m={kind} 0 RTP/AVP {payload_type}\r\na=rtpmap:{payload_type} {mapping}\r\n");
    if !parameters.is_empty() {
        text += &format!("a=fmtp:{payload_type} {parameters}\r\n");
    }
    Ok(text + &format!("a=control:{control}\r\n"))
}

/// Writes an RTP header (section 5.1): no padding, extension or contributors.
pub(crate) fn header(marker: bool, payload_type: u8, sequence: u16, timestamp: u32, ssrc: u32) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[0] = 0x80;
    header[1] = u8::from(marker) << 7 | payload_type;
    patch_header(&mut header, sequence, timestamp, ssrc);
    header
}

/// Writes what differs between publishers of the same packet over an RTP header.
pub(crate) fn patch_header(header: &mut [u8], sequence: u16, timestamp: u32, ssrc: u32) {
    header[2..4].copy_from_slice(&sequence.to_be_bytes());
    header[4..8].copy_from_slice(&timestamp.to_be_bytes());
    header[8..12].copy_from_slice(&ssrc.to_be_bytes());
}

/// What a sender report says (section 6.4.1).
#[derive(Clone, Copy, Debug)]
pub(crate) struct SenderReport {
    /// Who sends.
    pub(crate) ssrc: u32,
    /// The wall clock at `timestamp`.
    pub(crate) at: ServerTime,
    /// The RTP timestamp at `at`.
    pub(crate) timestamp: u32,
    /// RTP packets sent.
    pub(crate) packets: u32,
    /// Payload bytes sent.
    pub(crate) octets: u32,
}

impl SenderReport {
    /// A compound packet: the report, the canonical name, and a goodbye when `ends`.
    pub(crate) fn write(&self, name: &str, ends: bool) -> Vec<u8> {
        let mut out = vec![0x80, 200, 0, 6];
        out.extend(self.ssrc.to_be_bytes());
        out.extend(rtcp::unix_micros_to_ntp(self.at.micros()).to_be_bytes());
        for word in [self.timestamp, self.packets, self.octets] {
            out.extend(word.to_be_bytes());
        }
        // SDES with one CNAME, ended by at least one zero and padded to a word.
        let name = &name.as_bytes()[..name.len().min(255)];
        let item = 2 + name.len() + 1;
        let words = 1 + item.div_ceil(4);
        out.extend([0x81, 202, 0, words as u8]);
        out.extend(self.ssrc.to_be_bytes());
        out.extend([1, name.len() as u8]);
        out.extend(name);
        out.resize(out.len() + 1 + item.next_multiple_of(4) - item, 0);
        if ends {
            out.extend([0x81, 203, 0, 1]);
            out.extend(self.ssrc.to_be_bytes());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use media::TrackId;
    use media::codec::{g711, opus};
    use proptest::prelude::*;

    use super::*;

    fn packetiser(codec: Codec) -> Packetiser {
        let sets = vec![vec![0x67, 1], vec![0x68, 2]];
        Packetiser { codec, nal_length_size: 4, sets, payload_type: 96, max: MAX_PAYLOAD, picture_id: 0 }
    }

    fn payloads(packetiser: &mut Packetiser, unit: &[u8], sync: bool) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        packetiser.cut(unit, sync, |payload| out.push([payload.head, payload.body].concat())).expect("whole");
        out
    }

    /// Puts fragmentation units together again.
    fn join(payloads: &[Vec<u8>], h264: bool) -> Vec<Vec<u8>> {
        let mut nals: Vec<Vec<u8>> = Vec::new();
        let mut open = false;
        for payload in payloads {
            let is_fragment = if h264 { payload[0] & 0x1f == 28 } else { payload[0] >> 1 & 0x3f == 49 };
            if !is_fragment {
                assert!(!open);
                nals.push(payload.clone());
                continue;
            }
            let at = if h264 { 1 } else { 2 };
            let ends = payload[at];
            assert_eq!(ends & 0x80 != 0, !open);
            if !open {
                nals.push(if h264 {
                    vec![payload[0] & 0xe0 | ends & 0x1f]
                } else {
                    vec![payload[0] & 0x81 | (ends & 0x3f) << 1, payload[1]]
                });
            }
            nals.last_mut().expect("begun").extend(&payload[at + 1..]);
            open = ends & 0x40 == 0;
        }
        assert!(!open);
        nals
    }

    #[test]
    fn parameter_sets_go_before_a_key_frame_that_has_none() {
        let unit = nal::join([&[9u8, 0xf0][..], &[0x65, 7]].into_iter());
        let mut h264 = packetiser(Codec::H264);
        assert_eq!(payloads(&mut h264, &unit, true), [vec![9, 0xf0], vec![0x67, 1], vec![0x68, 2], vec![0x65, 7]]);
        assert_eq!(payloads(&mut h264, &unit, false).len(), 2);
        let own = nal::join([&[0x67u8, 9][..], &[0x68, 9], &[0x65, 7]].into_iter());
        assert_eq!(payloads(&mut h264, &own, true).len(), 3);
    }

    #[test]
    fn cut_access_unit_is_an_error() {
        assert_eq!(packetiser(Codec::H264).cut(&[0, 0, 0, 9, 1], false, |_| {}), Err(CodecError::Truncated));
        assert!(packetiser(Codec::Aac).cut(&vec![0; 8192], false, |_| {}).is_err());
    }

    #[test]
    fn aac_frame_has_its_size_in_front() {
        assert_eq!(payloads(&mut packetiser(Codec::Aac), &[7; 5], true), [vec![0, 16, 0, 40, 7, 7, 7, 7, 7]]);
    }

    #[test]
    fn sender_report_says_time_and_name() {
        let at = ServerTime::from_micros(1_500_000);
        let report = SenderReport { ssrc: 7, at, timestamp: 9, packets: 3, octets: 30 };
        for name in ["a", "abcde", "abcdefgh"] {
            let bytes = report.write(name, true);
            assert_eq!(bytes[8..16], [0x83, 0xaa, 0x7e, 0x81, 0x80, 0, 0, 0], "1970-01-01 plus 1.5 s");
            let sdes = usize::from(bytes[31]) * 4 + 4;
            assert_eq!(bytes[28 + sdes..], [0x81, 203, 0, 1, 0, 0, 0, 7]);
            assert_eq!(bytes[28 + sdes - 1], 0, "the list of items ends");
        }
    }

    #[test]
    fn audio_is_told_in_sdp() {
        let opus = opus::track(TrackId(1), 1).expect("mono");
        assert!(media_section(&opus, 97, "trackID=0").expect("known").contains("a=rtpmap:97 opus/48000/2\r\n"));
        let pcma = g711::track(TrackId(1), g711::Law::A);
        assert_eq!(Packetiser::new(&pcma, 0, 97, MAX_PAYLOAD).expect("known").payload_type(), 8);
    }

    proptest! {
        #[test]
        fn nal_units_of_every_length_arrive_whole(lengths in prop::collection::vec(3usize..6000, 1..4), h264: bool) {
            let first = if h264 { 0x41 } else { 0x02 };
            let nals: Vec<Vec<u8>> = lengths.iter().map(|length| {
                let mut nal: Vec<u8> = (0..*length).map(|at| at as u8).collect();
                (nal[0], nal[1]) = (first, 1);
                nal
            }).collect();
            let unit = nal::join(nals.iter().map(Vec::as_slice));
            let cut = payloads(&mut packetiser(if h264 { Codec::H264 } else { Codec::H265 }), &unit, false);
            prop_assert!(cut.iter().all(|payload| payload.len() <= MAX_PAYLOAD));
            prop_assert_eq!(join(&cut, h264), nals);
        }
    }
}
