//! Planes Y, Cb and Cr of a decoded picture, and the pixels that they mean.
//!
//! All are of 8 bits, chroma halved both ways and rounded up (4:2:0).

/// Which matrix made Y, Cb and Cr of R, G and B (ITU-T H.273 section 8.3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub enum Matrix {
    /// ITU-R BT.601, and what says nothing.
    #[default]
    Bt601 = 0,
    /// ITU-R BT.709.
    Bt709 = 1,
    /// ITU-R BT.2020, non-constant luminance.
    Bt2020 = 2,
    /// SMPTE 240M.
    Smpte240m = 3,
    /// United States FCC, 1953.
    Fcc = 4,
}

/// What the numbers of planes mean.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Colours {
    /// Black and white are 0 and 255; else they are 16 and 235, and chroma goes from 16 to 240.
    pub full_range: bool,
    /// See [`Matrix`].
    pub matrix: Matrix,
}

impl Matrix {
    /// Every matrix there is, in the order of their numbers.
    pub const ALL: [Matrix; 5] = [Matrix::Bt601, Matrix::Bt709, Matrix::Bt2020, Matrix::Smpte240m, Matrix::Fcc];

    /// Shares of red and blue in luma.
    pub fn weights(self) -> (f64, f64) {
        match self {
            Matrix::Bt601 => (0.299, 0.114),
            Matrix::Bt709 => (0.2126, 0.0722),
            Matrix::Bt2020 => (0.2627, 0.0593),
            Matrix::Smpte240m => (0.212, 0.087),
            Matrix::Fcc => (0.30, 0.11),
        }
    }
}

/// The planes of a picture, where they are.
#[derive(Clone, Copy, Debug)]
pub struct Planes<'a> {
    width: usize,
    height: usize,
    /// Bytes, which may be more than the rows of the picture, and how many there are from one row to the next.
    data: [(&'a [u8], usize); 3],
    colours: Colours,
}

/// Bytes of all three planes, rows without padding, of a picture of `width` by `height`.
pub fn tight_len(width: u32, height: u32) -> u64 {
    let halved = u64::from(width.div_ceil(2)) * u64::from(height.div_ceil(2));
    (u64::from(width) * u64::from(height)).saturating_add(halved.saturating_mul(2))
}

impl<'a> Planes<'a> {
    /// Planes with so many bytes from one row to the next; none when there are fewer bytes than rows need, or no rows.
    pub fn new(width: u32, height: u32, data: [(&'a [u8], usize); 3], colours: Colours) -> Option<Planes<'a>> {
        let planes = Planes { width: width as usize, height: height as usize, data, colours };
        let is_whole = |plane: usize| {
            let (row, rows) = planes.size(plane);
            let (bytes, stride) = data[plane];
            let needed = rows.checked_sub(1).and_then(|last| last.checked_mul(stride)?.checked_add(row));
            row > 0 && stride >= row && needed.is_some_and(|needed| needed <= bytes.len())
        };
        (0..3).all(is_whole).then_some(planes)
    }

    /// Planes one after another in `bytes`, rows without padding; none when they are not as long as that makes them.
    pub fn of(width: u32, height: u32, bytes: &'a [u8], colours: Colours) -> Option<Planes<'a>> {
        if bytes.len() as u64 != tight_len(width, height) {
            return None;
        }
        let (luma, chroma) = bytes.split_at(width as usize * height as usize);
        let (blue, red) = chroma.split_at(chroma.len() / 2);
        let halved = width.div_ceil(2) as usize;
        Planes::new(width, height, [(luma, width as usize), (blue, halved), (red, halved)], colours)
    }

    /// Pixels in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// What the numbers mean.
    pub fn colours(&self) -> Colours {
        self.colours
    }

    /// Samples in a row, and rows, of a plane: 0 is luma.
    pub fn size(&self, plane: usize) -> (usize, usize) {
        match plane {
            0 => (self.width, self.height),
            _ => (self.width.div_ceil(2), self.height.div_ceil(2)),
        }
    }

    /// A row of a plane.
    pub fn row(&self, plane: usize, line: usize) -> &'a [u8] {
        let (bytes, stride) = self.data[plane];
        &bytes[line * stride..][..self.size(plane).0]
    }

    /// The planes one after another, rows without padding, in as few pieces as they lie in.
    pub fn pieces(&self) -> impl Iterator<Item = &'a [u8]> {
        let planes = *self;
        (0..3).flat_map(move |plane| {
            let (row, rows) = planes.size(plane);
            let (bytes, stride) = planes.data[plane];
            // Without padding, all rows are one.
            let (row, rows) = if stride == row { (row * rows, 1) } else { (row, rows) };
            (0..rows).map(move |line| &bytes[line * stride..][..row])
        })
    }

    /// Bytes of the planes one after another, rows without padding.
    pub fn to_vec(&self) -> Vec<u8> {
        self.pieces().collect::<Vec<_>>().concat()
    }

    /// Writes bytes R, G, B of every pixel into `pixels`, which has room for whole rows: those from `line` on, which is even.
    ///
    /// # Errors
    /// When there are not as many rows, or the room is not for whole ones.
    pub fn write_pixels(&self, line: usize, pixels: &mut [u8]) -> Result<(), PixelsError> {
        let rows = pixels.len() / (self.width * 3);
        let fits = line.is_multiple_of(2) && rows > 0 && rows * self.width * 3 == pixels.len();
        if !fits || line.checked_add(rows).is_none_or(|end| end > self.height) {
            return Err(PixelsError);
        }
        let from =
            |plane: usize, line: usize| (&self.data[plane].0[line * self.data[plane].1..], self.data[plane].1 as u32);
        let ((y_plane, y_stride), (u_plane, u_stride), (v_plane, v_stride)) =
            (from(0, line), from(1, line / 2), from(2, line / 2));
        let (width, height) = (self.width as u32, rows as u32);
        let image = yuv::YuvPlanarImage { y_plane, y_stride, u_plane, u_stride, v_plane, v_stride, width, height };
        let range = if self.colours.full_range { yuv::YuvRange::Full } else { yuv::YuvRange::Limited };
        let matrix = match self.colours.matrix {
            Matrix::Bt601 => yuv::YuvStandardMatrix::Bt601,
            Matrix::Bt709 => yuv::YuvStandardMatrix::Bt709,
            Matrix::Bt2020 => yuv::YuvStandardMatrix::Bt2020,
            Matrix::Smpte240m => yuv::YuvStandardMatrix::Smpte240,
            Matrix::Fcc => yuv::YuvStandardMatrix::Fcc,
        };
        yuv::yuv420_to_rgb(&image, pixels, width * 3, range, matrix).map_err(|_| PixelsError)
    }
}

/// Pixels were asked for that the picture does not have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the picture has no such rows")]
pub struct PixelsError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_are_as_large_as_they_say_or_none() {
        for (width, height) in [(1, 1), (2, 3), (5, 4), (1920, 1080)] {
            let bytes = vec![0; tight_len(width, height) as usize];
            assert!(Planes::of(width, height, &bytes, Colours::default()).is_some());
            assert!(Planes::of(width, height, &bytes[1..], Colours::default()).is_none());
            assert!(Planes::of(width + 2, height, &bytes, Colours::default()).is_none());
        }
        assert!(Planes::of(0, 0, &[], Colours::default()).is_none());
        let row = [0; 8];
        let of = |stride| Planes::new(4, 2, [(&row, stride), (&row, 2), (&row, 2)], Colours::default());
        assert!(of(4).is_some());
        assert!(of(3).is_none(), "rows overlap");
        assert!(of(5).is_none(), "the last row is cut off");
        assert!(of(usize::MAX).is_none());
    }

    #[test]
    fn padding_is_left_out() {
        let (luma, chroma) = ([1, 2, 3, 9, 4, 5, 6, 9], [7, 8]);
        let planes = Planes::new(3, 2, [(&luma, 4), (&chroma, 2), (&chroma, 2)], Colours::default()).expect("whole");
        assert_eq!(planes.to_vec(), [1, 2, 3, 4, 5, 6, 7, 8, 7, 8]);
        assert_eq!(planes.pieces().count(), 4, "chroma has no padding");
        assert_eq!(planes.row(0, 1), [4, 5, 6]);
    }

    #[test]
    fn pixels_are_the_same_in_parts() {
        let (width, height) = (7, 9);
        let bytes: Vec<u8> = (0..tight_len(width, height)).map(|at| (at * 37 % 251) as u8).collect();
        let colours = Colours { full_range: false, matrix: Matrix::Bt709 };
        let planes = Planes::of(width, height, &bytes, colours).expect("whole");
        let mut whole = vec![0; (width * height * 3) as usize];
        planes.write_pixels(0, &mut whole).expect("all rows");
        let mut parts = vec![0; whole.len()];
        for (number, part) in parts.chunks_mut(2 * width as usize * 3).enumerate() {
            planes.write_pixels(2 * number, part).expect("two rows, or the last");
        }
        assert_eq!(parts, whole);
        assert_eq!(planes.write_pixels(8, &mut whole[..42]), Err(PixelsError), "one row is left");
        assert_eq!(planes.write_pixels(1, &mut whole[..21]), Err(PixelsError), "two rows have one of chroma");
        assert_eq!(planes.write_pixels(0, &mut whole[..20]), Err(PixelsError));
        assert_eq!(planes.write_pixels(0, &mut []), Err(PixelsError));
    }
}
