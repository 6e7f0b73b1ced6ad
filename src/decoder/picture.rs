//! A decoded picture, and the planes that files are made of.

use gstreamer as gst;
use gstreamer_video as gst_video;
use gstreamer_video::prelude::*;
use media::decoding::{FailureKind, Placement, Rect};

use crate::Failure;
use crate::context::Stopped;
use crate::link::Paper;

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

/// Planes Y, Cb and Cr of 8 bits, chroma halved both ways and rounded up, where they are; and what the numbers mean.
pub(crate) struct Planes<'a> {
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// Rows, of which more may be than are of the picture, and bytes from one to the next.
    data: [(&'a [u8], usize); 3],
    pub(crate) full_range: bool,
    pub(crate) matrix: gst_video::VideoColorMatrix,
}

impl<'a> Planes<'a> {
    /// The planes of an I420 frame, in the colours of `colours`.
    fn of(
        frame: &'a gst_video::VideoFrame<gst_video::video_frame::Readable>,
        colours: &gst_video::VideoColorimetry,
    ) -> Result<Planes<'a>, Failure> {
        let (width, height) = (frame.width(), frame.height());
        let plane = |number: u32| -> Result<(&'a [u8], usize), Failure> {
            let data = frame.plane_data(number).map_err(failed)?;
            let stride = usize::try_from(frame.plane_stride()[number as usize]).unwrap_or(0);
            let (row, rows) = match number {
                0 => (width as usize, height as usize),
                _ => (width.div_ceil(2) as usize, height.div_ceil(2) as usize),
            };
            let needed = rows.checked_sub(1).and_then(|last| last.checked_mul(stride)?.checked_add(row));
            match needed.is_some_and(|needed| stride >= row && needed <= data.len()) {
                true => Ok((data, stride)),
                false => Err(Failure::new(FailureKind::Job, "a picture is smaller than it says")),
            }
        };
        let data = [plane(0)?, plane(1)?, plane(2)?];
        let full_range = colours.range() == gst_video::VideoColorRange::Range0_255;
        Ok(Planes { width, height, data, full_range, matrix: colours.matrix() })
    }

    pub(crate) fn chroma_size(&self) -> (usize, usize) {
        (self.width.div_ceil(2) as usize, self.height.div_ceil(2) as usize)
    }

    /// A row of a plane: 0 is luma.
    pub(crate) fn row(&self, plane: usize, line: usize) -> &'a [u8] {
        let (data, stride) = self.data[plane];
        let row = if plane == 0 { self.width as usize } else { self.width.div_ceil(2) as usize };
        &data[line * stride..][..row]
    }

    /// The planes one after another, rows without padding.
    pub(crate) fn tight(&self) -> Vec<u8> {
        let (chroma_width, chroma_height) = self.chroma_size();
        let mut bytes =
            Vec::with_capacity(self.width as usize * self.height as usize + 2 * chroma_width * chroma_height);
        for (plane, rows) in [self.height as usize, chroma_height, chroma_height].into_iter().enumerate() {
            (0..rows).for_each(|line| bytes.extend_from_slice(self.row(plane, line)));
        }
        bytes
    }

    /// Writes the planes one after another, rows without padding.
    pub(crate) fn write(&self, out: &mut Paper<'_>) -> Result<(), Stopped> {
        let (_, chroma_height) = self.chroma_size();
        for (plane, rows) in [self.height as usize, chroma_height, chroma_height].into_iter().enumerate() {
            for line in 0..rows {
                out.write(self.row(plane, line))?;
            }
        }
        Ok(())
    }

    /// Writes bytes R, G, B of every pixel, row by row, without padding: some rows at a time, which stay in the cache.
    pub(crate) fn write_pixels(&self, out: &mut Paper<'_>) -> Result<(), Stopped> {
        // Even, since two rows of luma have one of chroma.
        const ROWS: usize = 16;
        let height = self.height as usize;
        let pixels = self.width as usize * 3;
        for line in (0..height).step_by(ROWS) {
            let rows = ROWS.min(height - line);
            let made = out.room(rows * pixels)?;
            self.convert(line, rows, made)?;
        }
        Ok(())
    }

    /// Bytes R, G, B of every pixel, row by row, without padding.
    pub(crate) fn pixels(&self) -> Result<Vec<u8>, Failure> {
        let mut pixels = vec![0; self.width as usize * self.height as usize * 3];
        self.convert(0, self.height as usize, &mut pixels)?;
        Ok(pixels)
    }

    /// Pixels of `rows` rows from `line`, which is even, on.
    fn convert(&self, line: usize, rows: usize, pixels: &mut [u8]) -> Result<(), Failure> {
        let from =
            |plane: usize, line: usize| (&self.data[plane].0[line * self.data[plane].1..], self.data[plane].1 as u32);
        let (y_plane, y_stride) = from(0, line);
        let (u_plane, u_stride) = from(1, line / 2);
        let (v_plane, v_stride) = from(2, line / 2);
        let (width, height) = (self.width, rows as u32);
        let image = yuv::YuvPlanarImage { y_plane, y_stride, u_plane, u_stride, v_plane, v_stride, width, height };
        let range = if self.full_range { yuv::YuvRange::Full } else { yuv::YuvRange::Limited };
        let matrix = match self.matrix {
            gst_video::VideoColorMatrix::Bt709 => yuv::YuvStandardMatrix::Bt709,
            gst_video::VideoColorMatrix::Bt2020 => yuv::YuvStandardMatrix::Bt2020,
            gst_video::VideoColorMatrix::Smpte240m => yuv::YuvStandardMatrix::Smpte240,
            gst_video::VideoColorMatrix::Fcc => yuv::YuvStandardMatrix::Fcc,
            _ => yuv::YuvStandardMatrix::Bt601,
        };
        yuv::yuv420_to_rgb(&image, pixels, self.width * 3, range, matrix)
            .map_err(|error| Failure::new(FailureKind::Job, format!("failed to make pixels: {error}")))
    }
}

/// The placed part of a picture, as I420.
pub(crate) struct Drawn {
    frame: gst_video::VideoFrame<gst_video::video_frame::Readable>,
    colours: gst_video::VideoColorimetry,
}

impl Drawn {
    fn of(
        buffer: gst::Buffer,
        info: &gst_video::VideoInfo,
        colours: gst_video::VideoColorimetry,
    ) -> Result<Drawn, Failure> {
        let frame = gst_video::VideoFrame::from_buffer_readable(buffer, info);
        let frame = frame.map_err(|_| Failure::new(FailureKind::Damaged, "the picture cannot be read"))?;
        Ok(Drawn { frame, colours })
    }

    pub(crate) fn planes(&self) -> Result<Planes<'_>, Failure> {
        Planes::of(&self.frame, &self.colours)
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
        let colours = from.colorimetry();
        let whole = Rect { x: 0, y: 0, width: from.width(), height: from.height() };
        let as_is = from.format() == gst_video::VideoFormat::I420
            && part == whole
            && (width, height) == (whole.width, whole.height);
        if as_is {
            return Drawn::of(decoded.buffer.clone(), from, colours);
        }
        // Converters refuse to change the rate of pictures, though they see one at a time.
        let to = gst_video::VideoInfo::builder(gst_video::VideoFormat::I420, width, height)
            .colorimetry(&colours)
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
