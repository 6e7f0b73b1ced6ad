//! AAC to Opus.
//!
//! ```text
//!   unit --> avdec_aac, audioconvert --> samples at the source's rate, by the unit's time --Steady-->
//!        --> audioresample, opusenc --> packets, whose times are counted from the first sample
//! ```
//!
//! No time goes through GStreamer: each element has its own idea of what to do with one that is off by a little. A
//! decoded unit is heard at the time that the unit says, as every player has it; and an Opus packet is heard from as long
//! before its first sample as the encoder looks ahead (its pre-skip), which is taken off here, since RTP has no place for it.

use gstreamer as gst;
use media::Timescale;
use media::codec::aac;
use media::codec::opus::CLOCK;
use media::decoding::FailureKind;
use media::time::rescale;
use media::transcoding::{Made, OPUS_PACKET_SAMPLES, Unit};

use super::steady::{Place, Steady};
use crate::Failure;
use crate::stage::{Stage, bytes, element};

/// Bits per second of one channel, and of two.
const BIT_RATES: [&str; 2] = ["64000", "96000"];
/// What an encoder of 48 kHz looks ahead, when it does not say: 6.5 ms (libopus).
const LOOK_AHEAD: i64 = 312;
const OPUS: Timescale = Timescale::new(CLOCK).expect("not zero");

/// Makes each element once.
pub(super) fn load() {
    let _ = Sound::new(&[0x11, 0x90], 48_000, 2).and_then(|mut sound| sound.encoder(48_000).map(drop));
}

/// A decoder, an encoder, and the count of samples between them.
pub(super) struct Sound {
    timescale: Timescale,
    channels: u8,
    decoder: Stage,
    steady: Option<Steady>,
    encoding: Option<Encoding>,
}

/// An encoder in the middle of a run of samples.
struct Encoding {
    stage: Stage,
    /// When the first sample of the run is heard, at 48 kHz.
    start: i64,
    /// Packets made of the run.
    packets: i64,
    /// Samples that the encoder looks ahead.
    look_ahead: i64,
    /// Samples of the source that went in.
    fed: u64,
    rate: u32,
}

impl Sound {
    /// # Errors
    /// When the config is none of AAC, or a codec is not installed.
    pub fn new(config: &[u8], timescale: u32, channels: u8) -> Result<Sound, Failure> {
        let refused = |text: &str| Failure::new(FailureKind::Job, text);
        let parsed = aac::Config::parse(config).map_err(|error| refused(&error.to_string()))?;
        let timescale = Timescale::new(timescale).ok_or_else(|| refused("no timescale"))?;
        let caps = gst::Caps::builder("audio/mpeg")
            .field("mpegversion", 4)
            .field("framed", true)
            .field("stream-format", "raw")
            .field("rate", parsed.core_rate as i32)
            .field("channels", i32::from(parsed.channels))
            .field("codec_data", gst::Buffer::from_slice(config.to_vec()))
            .build();
        let wanted = raw(channels, None);
        let elements = vec![element("avdec_aac", &[])?, element("audioconvert", &[])?];
        let decoder = Stage::new("the decoder of sound", elements, caps, &wanted)?;
        Ok(Sound { timescale, channels, decoder, steady: None, encoding: None })
    }

    /// The packets that a unit completes.
    pub fn feed(&mut self, unit: Unit) -> Result<Vec<Made>, Failure> {
        let decoded = self.decoder.push(gst::Buffer::from_slice(unit.data))?;
        let rate = self.decoder.gives().and_then(|caps| caps.structure(0)?.get::<i32>("rate").ok());
        let Some(rate) = rate.and_then(|rate| u32::try_from(rate).ok()).and_then(Timescale::new) else {
            // Nothing was decoded yet.
            return Ok(Vec::new());
        };
        let mut made = Vec::new();
        let mut time = rescale(unit.pts, self.timescale, rate);
        let mut after_gap = unit.after_gap;
        for buffer in decoded {
            let samples = bytes(&buffer)?;
            let count = samples.len() / self.sample_bytes();
            self.take(samples, time, count, rate.hz(), after_gap, &mut made)?;
            time = time.saturating_add(count as i64);
            after_gap = false;
        }
        Ok(made)
    }

    /// What is left, the last packet filled up with silence.
    pub fn drain(&mut self) -> Result<Vec<Made>, Failure> {
        match &mut self.encoding {
            Some(encoding) => {
                let packets = encoding.stage.drain()?;
                encoding.timed(packets)
            }
            None => Ok(Vec::new()),
        }
    }

    fn sample_bytes(&self) -> usize {
        2 * usize::from(self.channels)
    }

    fn take(
        &mut self,
        samples: Vec<u8>,
        time: i64,
        count: usize,
        rate: u32,
        after_gap: bool,
        made: &mut Vec<Made>,
    ) -> Result<(), Failure> {
        let sample_bytes = self.sample_bytes();
        let steady = match &mut self.steady {
            Some(steady) if steady.rate() == rate => steady,
            // The first unit, or one that made a decoder change its mind (SBR that was not announced).
            other => other.insert(Steady::new(rate)),
        };
        match steady.place(time, count, after_gap) {
            Place::Anew => {
                let encoding = match self.encoding.take() {
                    Some(mut encoding) if encoding.rate == rate => {
                        encoding.stage.restart()?;
                        encoding
                    }
                    _ => self.encoder(rate)?,
                };
                let start = rescale(time, Timescale::new(rate).expect("a decoder gives a rate"), OPUS);
                self.encoding = Some(Encoding { start, packets: 0, fed: 0, ..encoding });
                self.encode(samples, made)
            }
            Place::Follow { silence, skip } => {
                if silence > 0 {
                    self.encode(vec![0; silence * sample_bytes], made)?;
                }
                let rest = if skip == 0 { samples } else { samples[skip * sample_bytes..].to_vec() };
                if rest.is_empty() { Ok(()) } else { self.encode(rest, made) }
            }
        }
    }

    fn encoder(&mut self, rate: u32) -> Result<Encoding, Failure> {
        let bit_rate = BIT_RATES[usize::from(self.channels.clamp(1, 2)) - 1];
        let at_48 = element("capsfilter", &[])?;
        gst::prelude::ObjectExt::set_property(&at_48, "caps", raw(self.channels, Some(CLOCK)));
        let opus =
            [("bitrate", bit_rate), ("frame-size", "20"), ("complexity", "5"), ("bitrate-type", "constrained-vbr")];
        let elements = vec![element("audioresample", &[])?, at_48, element("opusenc", &opus)?];
        let wanted = gst::Caps::builder("audio/x-opus").build();
        let stage = Stage::new("the encoder of sound", elements, raw(self.channels, Some(rate)), &wanted)?;
        Ok(Encoding { stage, start: 0, packets: 0, look_ahead: LOOK_AHEAD, fed: 0, rate })
    }

    fn encode(&mut self, samples: Vec<u8>, made: &mut Vec<Made>) -> Result<(), Failure> {
        let sample_bytes = self.sample_bytes();
        let Some(encoding) = &mut self.encoding else { return Ok(()) };
        let count = (samples.len() / sample_bytes) as u64;
        let mut buffer = gst::Buffer::from_mut_slice(samples);
        if let Some(buffer) = buffer.get_mut() {
            let at = |samples: u64| {
                gst::ClockTime::from_nseconds(samples.saturating_mul(1_000_000_000).div_ceil(encoding.rate.into()))
            };
            buffer.set_pts(at(encoding.fed));
        }
        encoding.fed += count;
        let packets = encoding.stage.push(buffer)?;
        made.extend(encoding.timed(packets)?);
        Ok(())
    }
}

impl Encoding {
    /// Packets with the times at which they are heard.
    fn timed(&mut self, packets: Vec<gst::Buffer>) -> Result<Vec<Made>, Failure> {
        if let Some(said) = self.stage.gives().as_ref().and_then(look_ahead) {
            self.look_ahead = said;
        }
        let mut made = Vec::with_capacity(packets.len());
        for packet in packets {
            let since_start = self.packets * i64::from(OPUS_PACKET_SAMPLES) - self.look_ahead;
            made.push(Made { pts: self.start.saturating_add(since_start), data: bytes(&packet)? });
            self.packets += 1;
        }
        Ok(made)
    }
}

/// The pre-skip that an encoder says in its OpusHead (RFC 7845 section 5.1).
fn look_ahead(caps: &gst::Caps) -> Option<i64> {
    let headers = caps.structure(0)?.get::<gst::Array>("streamheader").ok()?;
    let head = headers.first()?.get::<gst::Buffer>().ok()?;
    let head = head.map_readable().ok()?;
    let pre_skip = head.strip_prefix(b"OpusHead")?.get(2..4)?;
    Some(u16::from_le_bytes([pre_skip[0], pre_skip[1]]).into())
}

/// Samples of 16 bits, channels side by side.
fn raw(channels: u8, rate: Option<u32>) -> gst::Caps {
    let caps = gst::Caps::builder("audio/x-raw")
        .field("format", if cfg!(target_endian = "little") { "S16LE" } else { "S16BE" })
        .field("layout", "interleaved")
        .field("channels", i32::from(channels));
    let caps = if channels == 2 { caps.field("channel-mask", gst::Bitmask::new(0x3)) } else { caps };
    match rate {
        Some(rate) => caps.field("rate", rate as i32).build(),
        None => caps.build(),
    }
}
