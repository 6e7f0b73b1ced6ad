//! A chain of GStreamer elements between two pads of ours.
//!
//! ```text
//!   our source pad --push--> element --> ... --> element --chain--> our sink pad
//! ```
//!
//! As with the decoder of [`crate::pipeline`], a push runs through all of them in our own thread: when it returns, what came
//! of the buffer is there. No element waits for a clock, and none has a thread.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gstreamer as gst;
use gstreamer::prelude::*;
use media::decoding::FailureKind;

use crate::Failure;

/// Most buffers that one may become: a second of silence is 50 packets of sound.
const OUT_MAX: usize = 256;

/// What came out and was not fetched yet.
#[derive(Default)]
struct Out {
    caps: Option<gst::Caps>,
    buffers: Vec<gst::Buffer>,
    overflow: bool,
}

/// Elements one behind the other.
pub(crate) struct Stage {
    name: &'static str,
    /// In no pipeline: that would want a bus, and nobody listens.
    elements: Vec<gst::Element>,
    source: gst::Pad,
    /// Ours to keep: nothing else does.
    _sink: gst::Pad,
    out: Arc<Mutex<Out>>,
    /// What goes in, as it was said last.
    caps: gst::Caps,
}

/// An element set up by the texts of its properties.
///
/// # Errors
/// When it is not installed.
pub(crate) fn element(name: &'static str, properties: &[(&str, &str)]) -> Result<gst::Element, Failure> {
    let made = gst::ElementFactory::make(name).build();
    let made = made.map_err(|_| Failure::new(FailureKind::NoDecoder, format!("{name} is not installed")))?;
    for (property, value) in properties {
        if made.find_property(property).is_some() {
            made.set_property_from_str(property, value);
        }
    }
    Ok(made)
}

impl Stage {
    /// A chain that takes `caps` and gives what `wanted` allows; `name` is said of it when it fails.
    ///
    /// # Errors
    /// When the elements do not take it.
    pub(crate) fn new(
        name: &'static str,
        elements: Vec<gst::Element>,
        caps: gst::Caps,
        wanted: &gst::Caps,
    ) -> Result<Stage, Failure> {
        let broken = || Failure::new(FailureKind::NoDecoder, format!("{name} cannot be put together"));
        let out = Arc::new(Mutex::new(Out::default()));
        let sink = sink_pad(out.clone(), wanted).map_err(|_| broken())?;
        let source = gst::Pad::builder(gst::PadDirection::Src).name("source").build();
        let mut before = source.clone();
        for element in &elements {
            let (entry, exit) = element.static_pad("sink").zip(element.static_pad("src")).ok_or_else(broken)?;
            before.link(&entry).map_err(|_| broken())?;
            before = exit;
        }
        before.link(&sink).map_err(|_| broken())?;
        sink.set_active(true).map_err(|_| broken())?;
        let stage = Stage { name, elements, source, _sink: sink, out, caps };
        for element in stage.elements.iter().rev() {
            element.set_state(gst::State::Playing).map_err(|_| broken())?;
        }
        stage.source.set_active(true).map_err(|_| broken())?;
        stage.announce()?;
        Ok(stage)
    }

    /// Says what is to come: the events that go before the first buffer.
    fn announce(&self) -> Result<(), Failure> {
        let segment = gst::FormattedSegment::<gst::ClockTime>::new();
        let taken = self.source.push_event(gst::event::StreamStart::new(self.name))
            && self.source.push_event(gst::event::Caps::new(&self.caps))
            && self.source.push_event(gst::event::Segment::new(&segment));
        match taken {
            true => Ok(()),
            false => Err(Failure::new(FailureKind::Damaged, format!("{} does not take this media", self.name))),
        }
    }

    /// Forgets what is inside, for buffers that start anew.
    pub(crate) fn restart(&mut self) -> Result<(), Failure> {
        self.source.push_event(gst::event::FlushStart::new());
        self.source.push_event(gst::event::FlushStop::new(true));
        self.lock().buffers.clear();
        self.announce()
    }

    /// Gives a buffer; returns what came of it.
    pub(crate) fn push(&mut self, buffer: gst::Buffer) -> Result<Vec<gst::Buffer>, Failure> {
        if let Err(error) = self.source.push(buffer) {
            return Err(Failure::new(FailureKind::Damaged, format!("{} refuses a unit: {error}", self.name)));
        }
        self.take()
    }

    /// Lets out everything that is still inside. It must be restarted after it.
    pub(crate) fn drain(&mut self) -> Result<Vec<gst::Buffer>, Failure> {
        self.source.push_event(gst::event::Eos::new());
        self.take()
    }

    /// Gives an event that goes through in its turn.
    pub(crate) fn tell(&self, event: gst::Event) {
        self.source.push_event(event);
    }

    /// Sets a number of the last element, which may be changed while it works.
    pub(crate) fn adjust(&self, property: &str, value: u32) {
        if let Some(last) = self.elements.last() {
            last.set_property(property, value);
        }
    }

    /// What comes out, once it is known.
    pub(crate) fn gives(&self) -> Option<gst::Caps> {
        self.lock().caps.clone()
    }

    fn take(&mut self) -> Result<Vec<gst::Buffer>, Failure> {
        let mut out = self.lock();
        if out.overflow {
            return Err(Failure::new(FailureKind::Damaged, format!("{} gives more than it took", self.name)));
        }
        Ok(std::mem::take(&mut out.buffers))
    }

    fn lock(&self) -> MutexGuard<'_, Out> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.source.set_active(false);
        for element in &self.elements {
            let _ = element.set_state(gst::State::Null);
        }
    }
}

/// The pad that takes what comes out.
fn sink_pad(out: Arc<Mutex<Out>>, wanted: &gst::Caps) -> Result<gst::Pad, gst::glib::BoolError> {
    let events = out.clone();
    let template = gst::PadTemplate::new("sink", gst::PadDirection::Sink, gst::PadPresence::Always, wanted)?;
    let pad = gst::Pad::builder_from_template(&template)
        .name("sink")
        .chain_function(move |_, _, buffer| {
            let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
            if out.buffers.len() >= OUT_MAX {
                out.overflow = true;
                return Err(gst::FlowError::Error);
            }
            out.buffers.push(buffer);
            Ok(gst::FlowSuccess::Ok)
        })
        .event_function(move |pad, parent, event| {
            if let gst::EventView::Caps(caps) = event.view() {
                events.lock().unwrap_or_else(PoisonError::into_inner).caps = Some(caps.caps_owned());
            }
            gst::Pad::event_default(pad, parent, event)
        })
        .build();
    Ok(pad)
}

/// The bytes of a buffer.
///
/// # Errors
/// When they cannot be read.
pub(crate) fn bytes(buffer: &gst::Buffer) -> Result<Vec<u8>, Failure> {
    let map = buffer.map_readable();
    map.map(|map| map.to_vec()).map_err(|_| Failure::new(FailureKind::Damaged, "a buffer cannot be read"))
}
