//! Pictures to H.264 that every browser plays, in the order in which they are shown.
//!
//! The encoder is openh264: it makes no B pictures and looks at none before its turn, so that each picture comes out as it
//! went in. Larger pictures than [`LARGEST`] are made smaller, and all have the size of the first, so that whoever watches
//! needs nothing new. x264 needs fewer bits for the same looks, and is GPL.

use std::collections::VecDeque;

use gstreamer as gst;
use gstreamer_video as gst_video;
use media::decoding::{FailureKind, Placement, Rect};
use media::transcoding::{KEY_FRAME_SECONDS, Made, Unit};

use super::level::{level, set_level};
use crate::Failure;
use crate::picture::{Decoded, Scaler};
use crate::pipeline::{self, Pipeline};
use crate::stage::{Stage, bytes, element};

/// Longest and shortest side of what is made, in pixels: 1080p, either way up.
const LARGEST: (u32, u32) = (1920, 1088);
/// Pictures that are inside the encoder, at most.
const INSIDE_MAX: usize = 64;
/// Where times begin inside, so that pictures that are shown before the first unit have one: an hour, in nanoseconds.
const ORIGIN_NS: i128 = 3_600_000_000_000;
/// Bits per second that are given at least and at most.
const BIT_RATES: (u64, u64) = (200_000, 12_000_000);
/// A hundred bits of the source are given so many: the encoder uses less of what the standard has.
const MORE_PERCENT: (u64, u64) = (130, 180);
/// Pictures per second when nobody says, in thousandths.
const FRAME_RATE_MILLIS: u32 = 30_000;

/// Makes each element once.
pub(super) fn load() {
    for codec in media::decoding::PICTURE_CODECS {
        pipeline::load(codec);
    }
    let _ = encoder(64, 64, FRAME_RATE_MILLIS, BIT_RATES.0);
}

/// A decoder, an encoder, and the times of what is in them.
pub(super) struct Pictures {
    timescale: u32,
    decoder: Pipeline,
    scaler: Scaler,
    encoder: Stage,
    width: u32,
    height: u32,
    /// The time of the first unit: times inside count from it.
    origin: Option<i64>,
    /// Time of each picture that is inside the encoder: there, and of the track.
    inside: VecDeque<(u64, i64)>,
    last_shown_ns: Option<u64>,
    last_key_ns: Option<u64>,
    wants_key: bool,
    rate: Rate,
    level: u8,
}

impl Pictures {
    /// # Errors
    /// When a codec is not installed, or the pictures are too large.
    pub fn new(source: &media::decoding::Setup, timescale: u32, frame_rate_millis: u32) -> Result<Pictures, Failure> {
        let decoder = Pipeline::new(source)?;
        let (width, height) = fit(source.width, source.height);
        let frame_rate = if frame_rate_millis == 0 { FRAME_RATE_MILLIS } else { frame_rate_millis.min(120_000) };
        // A tenth of a bit for each pixel until it is known what the source takes.
        let bits = u64::from(width) * u64::from(height) * u64::from(frame_rate) / 10_000;
        let bits = bits.clamp(BIT_RATES.0, BIT_RATES.1);
        let is_h264 = source.codec == media::decoding::PictureCodec::H264;
        Ok(Pictures {
            timescale: timescale.max(1),
            decoder,
            scaler: Scaler::default(),
            encoder: encoder(width, height, frame_rate, bits)?,
            // That of the most bits it may come to: a track stays what it is.
            level: level(width, height, frame_rate, BIT_RATES.1.min(bits * 4)),
            width,
            height,
            origin: None,
            inside: VecDeque::new(),
            last_shown_ns: None,
            last_key_ns: None,
            wants_key: false,
            rate: Rate::new(if is_h264 { MORE_PERCENT.0 } else { MORE_PERCENT.1 }, bits),
        })
    }

    /// The next picture that is made is to be a key frame.
    pub fn want_key_frame(&mut self) {
        self.wants_key = true;
    }

    /// The pictures that a unit lets out.
    pub fn feed(&mut self, unit: Unit) -> Result<Vec<Made>, Failure> {
        let shown_ns = match self.inner_time(unit.pts) {
            Some(shown_ns) => shown_ns,
            None => {
                // The source's times jumped far: what is inside is of another time.
                self.decoder.restart()?;
                self.encoder.restart()?;
                self.inside.clear();
                (self.origin, self.last_shown_ns, self.last_key_ns) = (Some(unit.pts), None, None);
                ORIGIN_NS as u64
            }
        };
        self.rate.count(unit.data.len(), shown_ns);
        let decoded = self.decoder.feed(unit.data, shown_ns)?;
        self.encode(decoded)
    }

    /// What is left.
    pub fn drain(&mut self) -> Result<Vec<Made>, Failure> {
        let decoded = self.decoder.drain()?;
        let mut made = self.encode(decoded)?;
        let last = self.encoder.drain()?;
        made.extend(self.timed(last)?);
        Ok(made)
    }

    /// A time of the track in nanoseconds from our origin; none when it is before it, or more than ten seconds before what
    /// was shown last.
    fn inner_time(&mut self, pts: i64) -> Option<u64> {
        let origin = *self.origin.get_or_insert(pts);
        let ticks = i128::from(pts) - i128::from(origin);
        let ns = u64::try_from((ticks * 1_000_000_000).div_euclid(self.timescale.into()) + ORIGIN_NS).ok();
        let last = self.last_shown_ns.unwrap_or(0);
        ns.filter(|ns| i64::try_from(*ns).is_ok() && ns.saturating_add(10_000_000_000) > last)
    }

    /// The time of the track that became `ns`: a tick is longer than what was rounded off.
    fn outer_time(&self, ns: u64) -> i64 {
        let ticks = ((i128::from(ns) - ORIGIN_NS) * i128::from(self.timescale) + 500_000_000).div_euclid(1_000_000_000);
        let pts = ticks + i128::from(self.origin.unwrap_or(0));
        pts.clamp(i64::MIN.into(), i64::MAX.into()) as i64
    }

    fn encode(&mut self, decoded: Vec<Decoded>) -> Result<Vec<Made>, Failure> {
        let mut made = Vec::new();
        for picture in decoded {
            let Some(shown_ns) = picture.shown_ns() else { continue };
            if self.last_shown_ns.is_some_and(|last| shown_ns <= last) {
                continue;
            }
            self.last_shown_ns = Some(shown_ns);
            let part = Rect { x: 0, y: 0, width: picture.width(), height: picture.height() };
            let placement = Placement { part, width: self.width, height: self.height };
            let planes = self.scaler.draw(&picture, placement)?.planes()?.to_vec();
            let mut buffer = gst::Buffer::from_mut_slice(planes);
            if let Some(buffer) = buffer.get_mut() {
                buffer.set_pts(gst::ClockTime::from_nseconds(shown_ns));
            }
            let key_after = u64::from(KEY_FRAME_SECONDS) * 1_000_000_000;
            if self.wants_key || self.last_key_ns.is_none_or(|last| shown_ns >= last.saturating_add(key_after)) {
                // Another bit rate makes a key frame, too.
                if let Some(bits) = self.rate.take() {
                    self.encoder.adjust("bitrate", bits);
                }
                let force = gst_video::DownstreamForceKeyUnitEvent::builder().all_headers(true).build();
                self.encoder.tell(force);
                self.last_key_ns = Some(shown_ns);
                self.wants_key = false;
            }
            if self.inside.len() >= INSIDE_MAX {
                self.inside.pop_front();
            }
            self.inside.push_back((shown_ns, self.outer_time(shown_ns)));
            let out = self.encoder.push(buffer)?;
            made.extend(self.timed(out)?);
        }
        Ok(made)
    }

    /// Units with the times of the pictures that they were made of; an encoder keeps the order, and may leave one out.
    fn timed(&mut self, units: Vec<gst::Buffer>) -> Result<Vec<Made>, Failure> {
        let mut made = Vec::with_capacity(units.len());
        for unit in units {
            let ns = unit.pts().map_or(0, gst::ClockTime::nseconds);
            while self.inside.front().is_some_and(|(inner, _)| *inner < ns) {
                self.inside.pop_front();
            }
            let Some((_, pts)) = self.inside.pop_front() else { continue };
            let mut data = bytes(&unit)?;
            set_level(&mut data, self.level);
            made.push(Made { pts, data });
        }
        Ok(made)
    }
}

/// The size that pictures are made: even, and no larger than [`LARGEST`].
fn fit(width: u32, height: u32) -> (u32, u32) {
    let (long, short) = (width.max(height).max(1), width.min(height).max(1));
    let (wide, high) = (f64::from(LARGEST.0) / f64::from(long), f64::from(LARGEST.1) / f64::from(short));
    let scale = wide.min(high).min(1.0);
    let even = |side: u32| ((f64::from(side) * scale) as u32 & !1).max(16);
    (even(width), even(height))
}

fn encoder(width: u32, height: u32, frame_rate_millis: u32, bits: u64) -> Result<Stage, Failure> {
    let bits = bits.to_string();
    let properties = [
        ("bitrate", bits.as_str()),
        ("rate-control", "bitrate"),
        ("complexity", "low"),
        // Key frames are asked for by time.
        ("gop-size", "0"),
        ("scene-change-detection", "false"),
        ("background-detection", "false"),
        ("multi-thread", "1"),
        ("usage-type", "camera"),
    ];
    let caps = gst::Caps::builder("video/x-raw")
        .field("format", "I420")
        .field("width", width as i32)
        .field("height", height as i32)
        .field("framerate", gst::Fraction::new(frame_rate_millis as i32, 1000))
        .build();
    let wanted = gst::Caps::builder("video/x-h264")
        .field("stream-format", "byte-stream")
        .field("alignment", "au")
        .field("profile", "constrained-baseline")
        .build();
    let elements = vec![element("openh264enc", &properties)?];
    if u64::from(width) * u64::from(height) == 0 {
        return Err(Failure::new(FailureKind::Size, "pictures without pixels"));
    }
    Stage::new("the encoder of pictures", elements, caps, &wanted)
}

/// What the source takes, so that what is made takes about as much.
struct Rate {
    percent: u64,
    since_ns: Option<u64>,
    bytes: u64,
    /// Bits per second that the encoder has, and is to have.
    given: u64,
    fitting: u64,
}

impl Rate {
    fn new(percent: u64, given: u64) -> Rate {
        Rate { percent, since_ns: None, bytes: 0, given, fitting: given }
    }

    /// Counts a unit.
    fn count(&mut self, bytes: usize, now_ns: u64) {
        const EVERY_NS: u64 = 4_000_000_000;
        let since = *self.since_ns.get_or_insert(now_ns);
        let took = now_ns.saturating_sub(since);
        if took >= EVERY_NS {
            let bits = u128::from(self.bytes) * 8 * 1_000_000_000 / u128::from(took);
            let bits = u64::try_from(bits).unwrap_or(u64::MAX).saturating_mul(self.percent) / 100;
            self.fitting = bits.clamp(BIT_RATES.0, BIT_RATES.1);
            (self.since_ns, self.bytes) = (Some(now_ns), 0);
        }
        self.bytes += bytes as u64;
    }

    /// Bits per second for the encoder when they are to be others than it has; an eighth more or less is not worth it.
    fn take(&mut self) -> Option<u32> {
        if self.fitting.abs_diff(self.given) <= self.given / 8 {
            return None;
        }
        self.given = self.fitting;
        u32::try_from(self.given).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_made_no_larger_than_browsers_like() {
        assert_eq!(fit(1280, 720), (1280, 720));
        assert_eq!(fit(1920, 1080), (1920, 1080));
        assert_eq!(fit(1080, 1920), (1080, 1920));
        assert_eq!(fit(3840, 2160), (1920, 1080));
        assert_eq!(fit(641, 361), (640, 360));
        assert_eq!(fit(8192, 16), (1920, 16));
        assert_eq!(fit(1, 1), (16, 16));
    }

    #[test]
    fn the_encoder_is_given_what_the_source_takes() {
        let mut rate = Rate::new(130, 3_000_000);
        // 2 Mbit/s, 25 units a second.
        (0..100).for_each(|at| rate.count(10_000, at * 40_000_000));
        assert_eq!(rate.take(), None, "it is too early to say");
        (100..250).for_each(|at| rate.count(10_000, at * 40_000_000));
        assert_eq!(rate.take(), Some(2_600_000));
        (250..500).for_each(|at| rate.count(10_500, at * 40_000_000));
        assert_eq!(rate.take(), None, "a little more");
    }
}
