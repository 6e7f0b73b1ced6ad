//! A decoded picture, and the planes that files are made of.

use gstreamer as gst;
use gstreamer_video as gst_video;
use gstreamer_video::prelude::*;
use media::decoding::{FailureKind, Placement, Rect};

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
}

/// Planes Y, Cb and Cr of 8 bits, chroma halved both ways and rounded up, without padding; and what the numbers mean.
pub(crate) struct Planes {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) data: Vec<u8>,
    pub(crate) full_range: bool,
    pub(crate) matrix: gst_video::VideoColorMatrix,
    info: gst_video::VideoInfo,
}

impl Planes {
    pub(crate) fn chroma_size(&self) -> (usize, usize) {
        (self.width.div_ceil(2) as usize, self.height.div_ceil(2) as usize)
    }

    /// The planes with rows and columns of luma made even by repeating the last: the form that halved chroma has in JPEG.
    pub(crate) fn into_even(self) -> Vec<u8> {
        let (width, height) = (self.width as usize, self.height as usize);
        if width.is_multiple_of(2) && height.is_multiple_of(2) {
            return self.data;
        }
        let (luma, chroma) = self.data.split_at(width * height);
        let (chroma_width, chroma_height) = self.chroma_size();
        let mut even = Vec::with_capacity(chroma_width * chroma_height * 4 + chroma.len());
        for line in 0..chroma_height * 2 {
            let row = &luma[line.min(height - 1) * width..][..width];
            even.extend_from_slice(row);
            even.extend(row.last().filter(|_| !width.is_multiple_of(2)));
        }
        even.extend_from_slice(chroma);
        even
    }

    /// Luma, then both chroma planes.
    pub(crate) fn split_mut(&mut self) -> (&mut [u8], &mut [u8], &mut [u8]) {
        let luma = self.width as usize * self.height as usize;
        let (chroma_width, chroma_height) = self.chroma_size();
        let (luma, chroma) = self.data.split_at_mut(luma);
        let (blue, red) = chroma.split_at_mut(chroma_width * chroma_height);
        (luma, blue, red)
    }
}

/// Makes planes and pixels of pictures. Converters are kept while their pictures stay the same.
#[derive(Default)]
pub(crate) struct Scaler {
    to_planes: Option<Conversion>,
    to_pixels: Option<Conversion>,
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
    /// The placed part of a picture as planes.
    pub(crate) fn planes(&mut self, decoded: &Decoded, placement: Placement) -> Result<Planes, Failure> {
        let from = &decoded.info;
        let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(&decoded.buffer, from).map_err(failed)?;
        let Placement { part, width, height } = placement;
        let colours = from.colorimetry();
        // Converters refuse to change the rate of pictures, though they see one at a time.
        let to = gst_video::VideoInfo::builder(gst_video::VideoFormat::I420, width, height)
            .colorimetry(&colours)
            .fps(from.fps())
            .build()
            .map_err(failed)?;
        let full_range = colours.range() == gst_video::VideoColorRange::Range0_255;
        let planes = |data| Planes { width, height, data, full_range, matrix: colours.matrix(), info: to.clone() };
        let whole = Rect { x: 0, y: 0, width: from.width(), height: from.height() };
        let as_is = from.format() == gst_video::VideoFormat::I420
            && part == whole
            && (width, height) == (whole.width, whole.height);
        if as_is {
            return Ok(planes(tight(&frame)?));
        }
        let mut target = gst_video::VideoFrame::from_buffer_writable(room(&to)?, &to).map_err(|_| unwritable())?;
        let conversion = Conversion::of(&mut self.to_planes, from, &to, part)?;
        conversion.converter.frame_ref(&frame, &mut target.as_mut_video_frame_ref());
        Ok(planes(tight(&target.as_video_frame_ref())?))
    }

    /// Planes as bytes R, G, B without padding.
    pub(crate) fn pixels(&mut self, planes: &Planes) -> Result<Vec<u8>, Failure> {
        let from = &planes.info;
        let mut source = gst_video::VideoFrame::from_buffer_writable(room(from)?, from).map_err(|_| unwritable())?;
        spread(&planes.data, &mut source)?;
        let to = gst_video::VideoInfo::builder(gst_video::VideoFormat::Rgb, planes.width, planes.height)
            .fps(from.fps())
            .build()
            .map_err(failed)?;
        let mut target = gst_video::VideoFrame::from_buffer_writable(room(&to)?, &to).map_err(|_| unwritable())?;
        let whole = Rect { x: 0, y: 0, width: planes.width, height: planes.height };
        let conversion = Conversion::of(&mut self.to_pixels, from, &to, whole)?;
        conversion.converter.frame_ref(&source.as_video_frame_ref(), &mut target.as_mut_video_frame_ref());
        tight(&target.as_video_frame_ref())
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

/// Bytes of a row, and rows, of each plane of I420 or RGB.
fn rows(info: &gst_video::VideoInfo) -> Vec<(usize, usize)> {
    let (width, height) = (info.width() as usize, info.height() as usize);
    match info.n_planes() {
        1 => vec![(width * 3, height)],
        _ => {
            let chroma = (width.div_ceil(2), height.div_ceil(2));
            vec![(width, height), chroma, chroma]
        }
    }
}

/// The planes of an I420 or RGB frame one after another, rows without padding.
fn tight(frame: &gst_video::VideoFrameRef<&gst::BufferRef>) -> Result<Vec<u8>, Failure> {
    let layout = rows(frame.info());
    let mut out = Vec::with_capacity(layout.iter().map(|(row, count)| row * count).sum());
    for (plane, (row, count)) in layout.into_iter().enumerate() {
        let stride = usize::try_from(frame.plane_stride()[plane]).unwrap_or(0);
        let data = frame.plane_data(plane as u32).map_err(failed)?;
        for line in 0..count {
            let bytes = data.get(line * stride..line * stride + row);
            out.extend_from_slice(bytes.ok_or_else(unwritable)?);
        }
    }
    Ok(out)
}

/// The inverse of [`tight`].
fn spread(data: &[u8], frame: &mut gst_video::VideoFrame<gst_video::video_frame::Writable>) -> Result<(), Failure> {
    let mut rest = data;
    for (plane, (row, count)) in rows(frame.info()).into_iter().enumerate() {
        let stride = usize::try_from(frame.plane_stride()[plane]).unwrap_or(0);
        let target = frame.plane_data_mut(plane as u32).map_err(failed)?;
        for line in target.chunks_mut(stride.max(1)).take(count) {
            let (head, after) = rest.split_at_checked(row).ok_or_else(unwritable)?;
            line.get_mut(..row).ok_or_else(unwritable)?.copy_from_slice(head);
            rest = after;
        }
    }
    Ok(())
}
