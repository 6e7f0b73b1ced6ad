//! A decoded picture, and its planes in the size that was asked for.

use gstreamer as gst;
use gstreamer_video as gst_video;
use gstreamer_video::prelude::*;
use media::decoding::{FailureKind, Placement, Rect};
use media::planes::{Colours, Matrix, Planes};

use crate::Failure;

/// The name of the note by which a picture knows its unit.
pub(crate) const NOTE: &str = "timestamp/x-kinora-unit";

/// A picture as it came out of the decoder.
pub(crate) struct Decoded {
    buffer: gst::Buffer,
    info: gst_video::VideoInfo,
}

impl Decoded {
    pub(crate) fn new(buffer: gst::Buffer, info: gst_video::VideoInfo) -> Decoded {
        Decoded { buffer, info }
    }

    /// The time that its unit was given.
    pub(crate) fn shown_ns(&self) -> Option<u64> {
        let mut notes = self.buffer.iter_meta::<gst::ReferenceTimestampMeta>();
        let ours = notes.find(|note| note.reference().structure(0).is_some_and(|name| name.name() == NOTE));
        ours.map(|note| note.timestamp().nseconds())
    }

    /// The decoder says that parts of it are made up.
    pub(crate) fn is_corrupt(&self) -> bool {
        self.buffer.flags().contains(gst::BufferFlags::CORRUPTED)
    }

    pub(crate) fn width(&self) -> u32 {
        self.info.width()
    }

    pub(crate) fn height(&self) -> u32 {
        self.info.height()
    }

    /// What the numbers of its planes mean, scaled or not.
    pub(crate) fn colours(&self) -> Colours {
        let said = self.info.colorimetry();
        let matrix = match said.matrix() {
            gst_video::VideoColorMatrix::Bt709 => Matrix::Bt709,
            gst_video::VideoColorMatrix::Bt2020 => Matrix::Bt2020,
            gst_video::VideoColorMatrix::Smpte240m => Matrix::Smpte240m,
            gst_video::VideoColorMatrix::Fcc => Matrix::Fcc,
            _ => Matrix::Bt601,
        };
        Colours { full_range: said.range() == gst_video::VideoColorRange::Range0_255, matrix }
    }
}

/// The placed part of a picture, as I420.
pub(crate) struct Drawn {
    frame: gst_video::VideoFrame<gst_video::video_frame::Readable>,
    colours: Colours,
}

impl Drawn {
    fn of(buffer: gst::Buffer, info: &gst_video::VideoInfo, colours: Colours) -> Result<Drawn, Failure> {
        let frame = gst_video::VideoFrame::from_buffer_readable(buffer, info);
        let frame = frame.map_err(|_| Failure::new(FailureKind::Damaged, "the picture cannot be read"))?;
        Ok(Drawn { frame, colours })
    }

    pub(crate) fn planes(&self) -> Result<Planes<'_>, Failure> {
        let frame = &self.frame;
        let plane = |number: usize| -> Result<(&[u8], usize), Failure> {
            let data = frame.plane_data(number as u32).map_err(failed)?;
            Ok((data, usize::try_from(frame.plane_stride()[number]).unwrap_or(0)))
        };
        let planes = Planes::new(frame.width(), frame.height(), [plane(0)?, plane(1)?, plane(2)?], self.colours);
        planes.ok_or_else(|| Failure::new(FailureKind::Job, "a picture is smaller than it says"))
    }
}

/// Makes planes of pictures. A converter is kept while its pictures stay the same.
#[derive(Default)]
pub(crate) struct Scaler {
    conversion: Option<Conversion>,
}

/// A converter and what it converts.
struct Conversion {
    from: gst_video::VideoInfo,
    to: gst_video::VideoInfo,
    part: Rect,
    converter: gst_video::VideoConverter,
}

fn failed(_: gst::glib::BoolError) -> Failure {
    Failure::new(FailureKind::Damaged, "the picture cannot be converted")
}

impl Scaler {
    /// The placed part of a picture: the picture itself where that is what it is.
    pub(crate) fn draw(&mut self, decoded: &Decoded, placement: Placement) -> Result<Drawn, Failure> {
        let from = &decoded.info;
        let Placement { part, width, height } = placement;
        let colours = decoded.colours();
        let whole = Rect { x: 0, y: 0, width: from.width(), height: from.height() };
        let as_is = from.format() == gst_video::VideoFormat::I420
            && part == whole
            && (width, height) == (whole.width, whole.height);
        if as_is {
            return Drawn::of(decoded.buffer.clone(), from, colours);
        }
        // Converters refuse to change the rate of pictures, though they see one at a time.
        let to = gst_video::VideoInfo::builder(gst_video::VideoFormat::I420, width, height)
            .colorimetry(&from.colorimetry())
            .fps(from.fps())
            .build()
            .map_err(failed)?;
        let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(&decoded.buffer, from).map_err(failed)?;
        let mut target = gst_video::VideoFrame::from_buffer_writable(room(&to)?, &to).map_err(|_| unwritable())?;
        let conversion = Conversion::of(&mut self.conversion, from, &to, part)?;
        conversion.converter.frame_ref(&frame, &mut target.as_mut_video_frame_ref());
        Drawn::of(target.into_buffer(), &to, colours)
    }
}

impl Conversion {
    /// The conversion in `slot`, made anew when it is another.
    fn of<'a>(
        slot: &'a mut Option<Conversion>,
        from: &gst_video::VideoInfo,
        to: &gst_video::VideoInfo,
        part: Rect,
    ) -> Result<&'a mut Conversion, Failure> {
        if !slot.as_ref().is_some_and(|known| known.from == *from && known.to == *to && known.part == part) {
            let mut config = gst_video::VideoConverterConfig::new();
            config.set_resampler_method(gst_video::VideoResamplerMethod::Linear);
            config.set_dither_method(gst_video::VideoDitherMethod::None);
            config.set_threads(1);
            config.set_src_x(part.x as i32);
            config.set_src_y(part.y as i32);
            config.set_src_width(Some(part.width as i32));
            config.set_src_height(Some(part.height as i32));
            let converter = gst_video::VideoConverter::new(from, to, Some(config)).map_err(failed)?;
            *slot = Some(Conversion { from: from.clone(), to: to.clone(), part, converter });
        }
        slot.as_mut().ok_or_else(unwritable)
    }
}

fn unwritable() -> Failure {
    Failure::new(FailureKind::Job, "a picture's memory cannot be written")
}

fn room(info: &gst_video::VideoInfo) -> Result<gst::Buffer, Failure> {
    gst::Buffer::with_size(info.size()).map_err(failed)
}
