//! Files of pictures: JPEG, PNG, WebP, and the bare planes.

use media::decoding::{FailureKind, Format, Output};
use media::planes::Planes;
use turbojpeg::{Compressor, Subsamp, YuvImage};

use crate::Failure;
use crate::colour::to_jfif;
use crate::context::Stopped;
use crate::link::Paper;
use crate::picture::{Decoded, Scaler};

/// Makes files, and keeps what one can use for the next.
#[derive(Default)]
pub(crate) struct Encoder {
    scaler: Scaler,
    jpeg: Option<Compressor>,
    /// Planes of a JPEG; kept, since room of megabytes is expensive to get.
    even: Vec<u8>,
}

/// Does everything once that may open a file the first time.
pub(crate) fn warm_up() -> Result<(), Failure> {
    Compressor::new().map(drop).map_err(|error| failed("JPEG", error))
}

fn failed(format: &str, error: impl std::fmt::Display) -> Failure {
    Failure::new(FailureKind::Job, format!("failed to make {format}: {error}"))
}

impl Encoder {
    /// Writes the file that `output` asks for. Returns its width and height.
    pub(crate) fn make(
        &mut self,
        decoded: &Decoded,
        output: &Output,
        out: &mut Paper<'_>,
    ) -> Result<(u32, u32), Stopped> {
        let (width, height) = (decoded.width(), decoded.height());
        let placement = output.place(width, height).ok_or_else(|| {
            let text = format!("the crop or the size asked for does not go with pictures of {width}x{height}");
            Failure::new(FailureKind::Size, text)
        })?;
        let drawn = self.scaler.draw(decoded, placement)?;
        let planes = drawn.planes()?;
        let (width, height) = (placement.width, placement.height);
        match output.format {
            Format::I420 => planes.pieces().try_for_each(|piece| out.write(piece))?,
            Format::Jpeg => out.write(&self.jpeg(&planes, output.quality)?)?,
            Format::Png => out.write(&png(&pixels(&planes)?, width, height)?)?,
            Format::Webp => out.write(&webp(&pixels(&planes)?, width, height, output.quality)?)?,
        }
        Ok((width, height))
    }

    fn jpeg(&mut self, planes: &Planes<'_>, quality: u8) -> Result<Vec<u8>, Failure> {
        to_jfif(planes, &mut self.even);
        let compressor = match &mut self.jpeg {
            Some(compressor) => compressor,
            None => self.jpeg.insert(Compressor::new().map_err(|error| failed("JPEG", error))?),
        };
        compressor.set_quality(i32::from(quality.clamp(1, 100))).map_err(|error| failed("JPEG", error))?;
        let (width, height) = planes.size(0);
        let image = YuvImage { pixels: &self.even[..], width, align: 1, height, subsamp: Subsamp::Sub2x2 };
        compressor.compress_yuv_to_vec(image).map_err(|error| failed("JPEG", error))
    }
}

/// Bytes R, G, B of every pixel, row by row.
fn pixels(planes: &Planes<'_>) -> Result<Vec<u8>, Failure> {
    let (width, height) = planes.size(0);
    let mut pixels = vec![0; width * height * 3];
    planes.write_pixels(0, &mut pixels).map_err(|error| failed("pixels", error))?;
    Ok(pixels)
}

fn png(pixels: &[u8], width: u32, height: u32) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header().map_err(|error| failed("PNG", error))?;
    writer.write_image_data(pixels).map_err(|error| failed("PNG", error))?;
    writer.finish().map_err(|error| failed("PNG", error))?;
    Ok(bytes)
}

/// Longest side of a WebP picture.
const WEBP_SIDE_MAX: u32 = 16_383;

fn webp(pixels: &[u8], width: u32, height: u32, quality: u8) -> Result<Vec<u8>, Failure> {
    if width.max(height) > WEBP_SIDE_MAX {
        return Err(Failure::new(FailureKind::Size, "WebP pictures have at most 16383 pixels a side"));
    }
    let encoder = webp::Encoder::from_rgb(pixels, width, height);
    let made = encoder.encode_simple(false, f32::from(quality.clamp(1, 100)));
    made.map(|bytes| bytes.to_vec()).map_err(|error| failed("WebP", format!("{error:?}")))
}
