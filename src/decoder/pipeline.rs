//! One GStreamer decoder element between two pads of ours.
//!
//! ```text
//!   our source pad --push--> decoder --chain--> our sink pad
//! ```
//!
//! A push runs through the decoder in our own thread and returns when it has done with the unit, so that after each unit
//! we know which pictures came out of it. An `appsrc ! ... ! appsink` pipeline does the same with two threads and a guess.

use std::sync::{Arc, Mutex, PoisonError};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_video as gst_video;
use media::decoding::{FailureKind, PIXELS_MAX, PictureCodec, Setup};

use crate::Failure;
use crate::picture::Decoded;

/// Most pictures that one unit may let out.
const OUT_MAX: usize = 64;

/// Decoder elements of a codec, the preferred first: all in software, and all take whole units as they are.
///
/// Those that use hardware open devices and talk to drivers by calls that no filter can tell apart, which is what a
/// process that decodes bytes of strangers must not be able to.
fn elements(codec: PictureCodec) -> &'static [&'static str] {
    match codec {
        PictureCodec::H264 => &["avdec_h264"],
        PictureCodec::H265 => &["avdec_h265"],
        PictureCodec::Av1 => &["dav1ddec", "av1dec"],
        // libvpx decodes VP8 into memory of the heap that it does not clear.
        PictureCodec::Vp8 => &["avdec_vp8", "vp8dec"],
        PictureCodec::Vp9 => &["vp9dec", "avdec_vp9"],
        PictureCodec::Mjpeg => &["jpegdec", "avdec_mjpeg"],
    }
}

/// Makes a decoder of the codec once, so that everything it needs is loaded while files can be opened. False when none
/// is installed.
pub(crate) fn load(codec: PictureCodec) -> bool {
    let Some(decoder) = make_decoder(codec) else { return false };
    let usable = decoder.set_state(gst::State::Ready).is_ok();
    // An element that is dropped must be stopped first.
    let _ = decoder.set_state(gst::State::Null);
    usable
}

fn make_decoder(codec: PictureCodec) -> Option<gst::Element> {
    elements(codec).iter().find_map(|name| gst::ElementFactory::make(name).build().ok())
}

/// How a decoder is set up, as far as it has these properties.
///
/// One thread a decoder: others of its kind use the other cores. But where references are missing libav asks twice for
/// room for one picture, and gst-libav up to 1.22 refuses the second time and loses the picture, unless the decoder works
/// in frame threads, which ask from elsewhere: so two of those where there are holes, for a tenth more processor time.
fn properties(setup: &Setup) -> [(&'static str, &'static str); 6] {
    let (threads, kind) = if setup.has_holes { ("2", "frame") } else { ("1", "auto") };
    // `strict` would hold back as many pictures as the level allows. Rendered directly, frames would be decoded into memory that
    // GStreamer takes from the heap as it is; libav clears its own.
    let rendering = ("direct-rendering", "false");
    let compliance = ("std-compliance", "normal");
    [("max-threads", threads), ("thread-type", kind), compliance, rendering, ("qos", "false"), ("threads", "1")]
}

/// What came out and was not fetched yet.
#[derive(Default)]
struct Out {
    info: Option<gst_video::VideoInfo>,
    pictures: Vec<Decoded>,
    failure: Option<&'static str>,
}

/// A decoder with what it must know.
pub(crate) struct Pipeline {
    setup: Setup,
    /// In no pipeline: that would want a bus, and nobody listens.
    decoder: gst::Element,
    source: gst::Pad,
    /// Ours to keep: nothing else does.
    _sink: gst::Pad,
    /// Under which name units carry their times.
    note: gst::Caps,
    out: Arc<Mutex<Out>>,
    /// Units went in since the last (re)start.
    used: bool,
}

impl Pipeline {
    /// A decoder that waits for its first unit.
    ///
    /// # Errors
    /// When the codec has no decoder here, or the pictures are too large.
    pub(crate) fn new(setup: &Setup) -> Result<Pipeline, Failure> {
        let pixels = u64::from(setup.width) * u64::from(setup.height);
        if pixels > PIXELS_MAX {
            let (width, height) = (setup.width, setup.height);
            return Err(Failure::new(FailureKind::Size, format!("pictures of {width}x{height} are not decoded")));
        }
        let decoder = make_decoder(setup.codec)
            .ok_or_else(|| Failure::new(FailureKind::NoDecoder, "no decoder of this codec is installed"))?;
        for (property, value) in properties(setup) {
            if decoder.find_property(property).is_some() {
                decoder.set_property_from_str(property, value);
            }
        }
        let broken = |_| Failure::new(FailureKind::NoDecoder, "the decoder cannot be put together");
        let missing = || Failure::new(FailureKind::NoDecoder, "the decoder has no pads");
        let unlinked = |_| Failure::new(FailureKind::NoDecoder, "the decoder does not take our pads");
        let out = Arc::new(Mutex::new(Out::default()));
        let sink = sink_pad(out.clone());
        let source = gst::Pad::builder(gst::PadDirection::Src).name("source").build();
        let entry = decoder.static_pad("sink").ok_or_else(missing)?;
        let exit = decoder.static_pad("src").ok_or_else(missing)?;
        exit.link(&sink).map_err(unlinked)?;
        source.link(&entry).map_err(unlinked)?;
        sink.set_active(true).map_err(broken)?;
        source.set_active(true).map_err(broken)?;
        let started = decoder.set_state(gst::State::Playing);
        started.map_err(|_| Failure::new(FailureKind::NoDecoder, "the decoder does not start"))?;
        let note = gst::Caps::new_empty_simple(crate::picture::NOTE);
        let mut pipeline = Pipeline { setup: setup.clone(), decoder, source, _sink: sink, note, out, used: false };
        pipeline.announce()?;
        Ok(pipeline)
    }

    pub(crate) fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Says what is to come: the events that go before the first unit.
    fn announce(&mut self) -> Result<(), Failure> {
        let caps = caps(&self.setup);
        let segment = gst::FormattedSegment::<gst::ClockTime>::new();
        let taken = self.source.push_event(gst::event::StreamStart::new("pictures"))
            && self.source.push_event(gst::event::Caps::new(&caps))
            && self.source.push_event(gst::event::Segment::new(&segment));
        self.used = false;
        match taken {
            true => Ok(()),
            false => Err(Failure::new(FailureKind::Damaged, "the decoder refuses the parameter sets")),
        }
    }

    /// Forgets all units, for another that starts anew.
    pub(crate) fn restart(&mut self) -> Result<(), Failure> {
        if !self.used {
            return Ok(());
        }
        let flushed = self.source.push_event(gst::event::FlushStart::new())
            && self.source.push_event(gst::event::FlushStop::new(true));
        self.lock().pictures.clear();
        if !flushed {
            return Err(Failure::new(FailureKind::Damaged, "the decoder does not start anew"));
        }
        self.announce()
    }

    /// Gives a unit to the decoder; returns the pictures that came out, in the order in which they are shown.
    pub(crate) fn feed(&mut self, data: Vec<u8>, shown_ns: u64) -> Result<Vec<Decoded>, Failure> {
        self.used = true;
        let mut buffer = gst::Buffer::from_mut_slice(data);
        let shown = gst::ClockTime::from_nseconds(shown_ns);
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(shown);
            // Decoders move times that do not rise as pictures do. This note goes through as it is.
            gst::ReferenceTimestampMeta::add(buffer, &self.note, shown, gst::ClockTime::NONE);
        }
        if let Err(error) = self.source.push(buffer) {
            self.check()?;
            return Err(Failure::new(FailureKind::Damaged, format!("the decoder refuses a unit: {error}")));
        }
        self.take()
    }

    /// Lets out everything that is still inside. The decoder must be restarted after it.
    pub(crate) fn drain(&mut self) -> Result<Vec<Decoded>, Failure> {
        self.source.push_event(gst::event::Eos::new());
        self.take()
    }

    fn take(&mut self) -> Result<Vec<Decoded>, Failure> {
        self.check()?;
        Ok(std::mem::take(&mut self.lock().pictures))
    }

    fn check(&self) -> Result<(), Failure> {
        match self.lock().failure {
            Some(text) => Err(Failure::new(FailureKind::Size, text)),
            None => Ok(()),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Out> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        let _ = self.source.set_active(false);
        let _ = self.decoder.set_state(gst::State::Null);
    }
}

/// The pad that takes the pictures.
fn sink_pad(out: Arc<Mutex<Out>>) -> gst::Pad {
    let events = out.clone();
    gst::Pad::builder(gst::PadDirection::Sink)
        .name("sink")
        .chain_function(move |_, _, buffer| {
            let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(info) = out.info.clone() else { return Err(gst::FlowError::NotNegotiated) };
            if out.pictures.len() >= OUT_MAX {
                out.failure = Some("the decoder lets out more pictures than it took");
                return Err(gst::FlowError::Error);
            }
            out.pictures.push(Decoded::new(buffer, info));
            Ok(gst::FlowSuccess::Ok)
        })
        .event_function(move |_, _, event| {
            let gst::EventView::Caps(caps) = event.view() else { return true };
            let mut out = events.lock().unwrap_or_else(PoisonError::into_inner);
            // Asked before the decoder makes room for the first picture.
            match gst_video::VideoInfo::from_caps(caps.caps()) {
                Ok(info) if u64::from(info.width()) * u64::from(info.height()) <= PIXELS_MAX => {
                    out.info = Some(info);
                    true
                }
                Ok(_) => {
                    out.failure = Some("the pictures are larger than is decoded");
                    false
                }
                Err(_) => {
                    out.failure = Some("the pictures are of a kind that is not known");
                    false
                }
            }
        })
        .query_function(|pad, parent, query| match query.view_mut() {
            gst::QueryViewMut::Allocation(allocation) => {
                // Rows may be padded: the decoder then need not copy.
                allocation.add_allocation_meta::<gst_video::VideoMeta>(None);
                true
            }
            // Without a word of ours only the first picture's size would be taken. AV1 and VP9 change it between any two.
            gst::QueryViewMut::AcceptCaps(caps) => {
                caps.set_result(true);
                true
            }
            _ => gst::Pad::query_default(pad, parent, query),
        })
        .build()
}

/// What goes in, as GStreamer says it.
fn caps(setup: &Setup) -> gst::Caps {
    let sized =
        |name: &str| gst::Caps::builder(name).field("width", setup.width as i32).field("height", setup.height as i32);
    let config = || gst::Buffer::from_slice(setup.config.clone());
    match setup.codec {
        PictureCodec::H264 => sized("video/x-h264")
            .field("stream-format", "avc")
            .field("alignment", "au")
            .field("codec_data", config())
            .build(),
        PictureCodec::H265 => sized("video/x-h265")
            .field("stream-format", "hvc1")
            .field("alignment", "au")
            .field("codec_data", config())
            .build(),
        PictureCodec::Av1 => {
            let caps = sized("video/x-av1").field("stream-format", "obu-stream").field("alignment", "tu");
            if setup.config.is_empty() { caps.build() } else { caps.field("codec_data", config()).build() }
        }
        PictureCodec::Vp8 => sized("video/x-vp8").build(),
        PictureCodec::Vp9 => sized("video/x-vp9").field("alignment", "super-frame").build(),
        PictureCodec::Mjpeg => sized("image/jpeg").build(),
    }
}

#[cfg(test)]
#[path = "pipeline_tests.rs"]
mod tests;
