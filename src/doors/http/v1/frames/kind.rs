//! What a picture is given as, and its bytes in pieces.
//!
//! Pixels are three bytes each where the planes that they are made of have one and a half. So the planes are what decoders give
//! and what waits in memory for its turn, and pixels are made of them some rows at a time, as the client takes them.

use bytes::Bytes;
use media::decoding::Format;
use media::planes::Planes;

use crate::frames::Frame;

/// What a picture is given as.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Kind {
    #[default]
    Jpeg,
    Png,
    Webp,
    /// Planes Y, Cb, Cr as decoded, chroma halved both ways and rounded up, no padding.
    I420,
    /// Bytes R, G, B of every pixel, row by row, no padding.
    Rgb,
    /// A NumPy file (format 1.0) of `uint8`, shape (height, width, 3), RGB.
    Npy,
}

impl Kind {
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Kind::Jpeg => "image/jpeg",
            Kind::Png => "image/png",
            Kind::Webp => "image/webp",
            Kind::I420 | Kind::Rgb => "application/octet-stream",
            Kind::Npy => "application/x-npy",
        }
    }

    /// What it is made of.
    pub(super) fn made_of(self) -> Format {
        match self {
            Kind::Jpeg => Format::Jpeg,
            Kind::Png => Format::Png,
            Kind::Webp => Format::Webp,
            Kind::I420 | Kind::Rgb | Kind::Npy => Format::I420,
        }
    }

    /// Bytes of a picture given as this.
    pub(super) fn len(self, frame: &Frame) -> usize {
        let pixels = || frame.width as usize * frame.height as usize * 3;
        match self {
            Kind::Jpeg | Kind::Png | Kind::Webp | Kind::I420 => frame.bytes.len(),
            Kind::Rgb => pixels(),
            Kind::Npy => numpy_head(frame).len() + pixels(),
        }
    }

    /// The bytes, one piece after another: as many as [`Kind::len`] says.
    pub(super) fn pieces(self, frame: Frame) -> Pieces {
        let (whole, pixels) = match self {
            Kind::Jpeg | Kind::Png | Kind::Webp | Kind::I420 => (Some(frame.bytes), None),
            Kind::Rgb => (None, Some(frame)),
            Kind::Npy => (Some(numpy_head(&frame).into()), Some(frame)),
        };
        Pieces { whole, pixels, line: 0 }
    }
}

/// Bytes of pixels that are made at once: few enough to be in the processor's cache until they are sent.
const PIECE_BYTES: usize = 192 << 10;

/// The bytes of a picture.
pub(super) struct Pieces {
    /// What comes first, as it is.
    whole: Option<Bytes>,
    /// Planes whose pixels follow.
    pixels: Option<Frame>,
    /// Pixels of the rows before it are made.
    line: usize,
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if let Some(whole) = self.whole.take() {
            return Some(whole);
        }
        let frame = self.pixels.as_ref()?;
        let planes = Planes::of(frame.width, frame.height, &frame.bytes, frame.colours)?;
        let row = planes.width() * 3;
        // Two rows of luma have one of chroma.
        let rows = (PIECE_BYTES / row).max(2) & !1;
        let rows = rows.min(planes.height().checked_sub(self.line)?);
        let mut piece = vec![0; rows * row];
        // There are none after the last row.
        planes.write_pixels(self.line, &mut piece).ok()?;
        self.line += rows;
        Some(piece.into())
    }
}

/// The head of a NumPy file (format 1.0): its length a multiple of 64.
fn numpy_head(frame: &Frame) -> Vec<u8> {
    let Frame { height, width, .. } = frame;
    let mut text = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({height}, {width}, 3), }}");
    const BEFORE: usize = 10;
    while !(BEFORE + text.len() + 1).is_multiple_of(64) {
        text.push(' ');
    }
    text.push('\n');
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((text.len() as u16).to_le_bytes());
    out.extend(text.as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use media::planes::{Colours, Matrix, tight_len};
    use media::{FragmentNumber, Position, ProducerTime, Timescale};

    use super::*;
    use crate::frames::Caption;

    fn frame(width: u32, height: u32) -> Frame {
        let caption = Caption {
            asked: None,
            time: ProducerTime::from_micros(0),
            clock_source: media::ClockSource::Arrival,
            clock_error_us: 0,
            pts: 0,
            timescale: Timescale::new(1000).expect("a thousand"),
            fragment: FragmentNumber::new(Position::default(), 0, 0),
            is_key: true,
            is_exact: true,
            is_damaged: false,
        };
        let bytes: Vec<u8> = (0..tight_len(width, height)).map(|at| (at * 31 % 241) as u8).collect();
        let colours = Colours { full_range: false, matrix: Matrix::Bt709 };
        Frame { caption, width, height, colours, bytes: bytes.into() }
    }

    #[test]
    fn numpy_heads_are_whole_lines_of_64_bytes() {
        for (width, height) in [(1, 1), (1920, 1080), (4608, 8192)] {
            let head = numpy_head(&Frame { bytes: Bytes::new(), ..Frame { width, height, ..frame(1, 1) } });
            assert_eq!(head.len() % 64, 0);
            assert_eq!(usize::from(u16::from_le_bytes([head[8], head[9]])), head.len() - 10);
            assert_eq!(head.last(), Some(&b'\n'));
            assert!(String::from_utf8_lossy(&head).contains(&format!("({height}, {width}, 3)")));
        }
    }

    #[test]
    fn pixels_come_in_pieces_as_long_as_was_said() {
        for (width, height) in [(1, 1), (3, 2), (161, 91), (1922, 1083), (16_384, 3)] {
            let frame = frame(width, height);
            let planes = Planes::of(width, height, &frame.bytes, frame.colours).expect("whole");
            let mut pixels = vec![0; planes.width() * planes.height() * 3];
            planes.write_pixels(0, &mut pixels).expect("all rows");
            for kind in [Kind::Jpeg, Kind::I420, Kind::Rgb, Kind::Npy] {
                let pieces: Vec<Bytes> = kind.pieces(frame.clone()).collect();
                let bytes = pieces.concat();
                assert_eq!(bytes.len(), kind.len(&frame), "{kind:?} of {width}x{height}");
                match kind {
                    Kind::Rgb | Kind::Npy => assert!(bytes.ends_with(&pixels), "{kind:?} of {width}x{height}"),
                    _ => assert_eq!(bytes, frame.bytes, "{kind:?} of {width}x{height}"),
                }
            }
        }
    }

    #[test]
    fn planes_that_are_cut_off_have_no_pixels() {
        let whole = frame(64, 64);
        let cut = Frame { bytes: whole.bytes.slice(1..), ..whole };
        assert_eq!(Kind::Rgb.pieces(cut).count(), 0);
    }
}
