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
}

impl Planes {
    pub(crate) fn chroma_size(&self) -> (usize, usize) {
        (self.width.div_ceil(2) as usize, self.height.div_ceil(2) as usize)
    }

    /// Bytes R, G, B of every pixel, row by row, without padding.
    pub(crate) fn pixels(&self) -> Result<Vec<u8>, Failure> {
        let luma = self.width as usize * self.height as usize;
        let (chroma_width, chroma_height) = self.chroma_size();
        let (y_plane, chroma) = self.data.split_at(luma);
        let (u_plane, v_plane) = chroma.split_at(chroma_width * chroma_height);
        let chroma_stride = self.width.div_ceil(2);
        let image = yuv::YuvPlanarImage {
            y_plane,
            y_stride: self.width,
            u_plane,
            u_stride: chroma_stride,
            v_plane,
            v_stride: chroma_stride,
            width: self.width,
            height: self.height,
        };
        let range = if self.full_range { yuv::YuvRange::Full } else { yuv::YuvRange::Limited };
        let matrix = match self.matrix {
            gst_video::VideoColorMatrix::Bt709 => yuv::YuvStandardMatrix::Bt709,
            gst_video::VideoColorMatrix::Bt2020 => yuv::YuvStandardMatrix::Bt2020,
            gst_video::VideoColorMatrix::Smpte240m => yuv::YuvStandardMatrix::Smpte240,
            gst_video::VideoColorMatrix::Fcc => yuv::YuvStandardMatrix::Fcc,
            _ => yuv::YuvStandardMatrix::Bt601,
        };
        let mut pixels = vec![0; luma * 3];
        yuv::yuv420_to_rgb(&image, &mut pixels, self.width * 3, range, matrix)
            .map_err(|error| Failure::new(FailureKind::Job, format!("failed to make pixels: {error}")))?;
        Ok(pixels)
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
        let planes = |data| Planes { width, height, data, full_range, matrix: colours.matrix() };
        let whole = Rect { x: 0, y: 0, width: from.width(), height: from.height() };
        let as_is = from.format() == gst_video::VideoFormat::I420
            && part == whole
            && (width, height) == (whole.width, whole.height);
        if as_is {
            return Ok(planes(tight(&frame)?));
        }
        let mut target = gst_video::VideoFrame::from_buffer_writable(room(&to)?, &to).map_err(|_| unwritable())?;
        let conversion = Conversion::of(&mut self.conversion, from, &to, part)?;
        conversion.converter.frame_ref(&frame, &mut target.as_mut_video_frame_ref());
        Ok(planes(tight(&target.as_video_frame_ref())?))
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

/// Bytes of a row, and rows, of each plane of I420.
fn rows(info: &gst_video::VideoInfo) -> [(usize, usize); 3] {
    let (width, height) = (info.width() as usize, info.height() as usize);
    let chroma = (width.div_ceil(2), height.div_ceil(2));
    [(width, height), chroma, chroma]
}

/// The planes of an I420 frame one after another, rows without padding.
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
