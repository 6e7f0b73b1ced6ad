//! The colours of JFIF: full range, the matrix of BT.601, whatever the video's were.
//!
//! A JPEG file of the planes as they are would show video washed out, since video uses 16 to 235 where JPEG uses 0 to
//! 255, and HD video with a tint, since its matrix is that of BT.709. Both are mended on the planes: one multiplication
//! a luma sample, four a chroma pair. (ITU-T T.871 section 6, ITU-T H.273 section 8.3.)

use gstreamer_video::VideoColorMatrix;

use crate::picture::Planes;

/// Bits after the point in the factors below.
const BITS: i32 = 14;
const HALF: i32 = 1 << (BITS - 1);

/// How numbers of one meaning become numbers of another, in fixed point.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Factors {
    /// Luma below this is black.
    black: i32,
    luma: i32,
    luma_from_blue: i32,
    luma_from_red: i32,
    blue: i32,
    blue_from_red: i32,
    red: i32,
    red_from_blue: i32,
}

/// Shares of red and blue in luma.
fn weights(matrix: VideoColorMatrix) -> (f64, f64) {
    match matrix {
        VideoColorMatrix::Bt709 => (0.2126, 0.0722),
        VideoColorMatrix::Bt2020 => (0.2627, 0.0593),
        VideoColorMatrix::Smpte240m => (0.212, 0.087),
        VideoColorMatrix::Fcc => (0.30, 0.11),
        _ => (0.299, 0.114),
    }
}

impl Factors {
    fn new(full_range: bool, matrix: VideoColorMatrix) -> Factors {
        let (kr, kb) = weights(matrix);
        let kg = 1.0 - kr - kb;
        let (to_r, to_b) = (0.299, 0.114);
        let to_g = 1.0 - to_r - to_b;
        // R, G, B of a picture with luma 0: what chroma alone adds.
        let red_of = |_blue: f64, red: f64| 2.0 * (1.0 - kr) * red;
        let blue_of = |blue: f64, _red: f64| 2.0 * (1.0 - kb) * blue;
        let green_of = |blue: f64, red: f64| -(2.0 * kr * (1.0 - kr) * red + 2.0 * kb * (1.0 - kb) * blue) / kg;
        let luma_of = |blue, red| to_r * red_of(blue, red) + to_g * green_of(blue, red) + to_b * blue_of(blue, red);
        let new_blue = |blue, red| (blue_of(blue, red) - luma_of(blue, red)) / (2.0 * (1.0 - to_b));
        let new_red = |blue, red| (red_of(blue, red) - luma_of(blue, red)) / (2.0 * (1.0 - to_r));
        let (luma_gain, chroma_gain) = if full_range { (1.0, 1.0) } else { (255.0 / 219.0, 255.0 / 224.0) };
        let fixed = |value: f64| (value * f64::from(1 << BITS)).round() as i32;
        Factors {
            black: if full_range { 0 } else { 16 },
            luma: fixed(luma_gain),
            luma_from_blue: fixed(luma_of(1.0, 0.0) * chroma_gain),
            luma_from_red: fixed(luma_of(0.0, 1.0) * chroma_gain),
            blue: fixed(new_blue(1.0, 0.0) * chroma_gain),
            blue_from_red: fixed(new_blue(0.0, 1.0) * chroma_gain),
            red: fixed(new_red(0.0, 1.0) * chroma_gain),
            red_from_blue: fixed(new_red(1.0, 0.0) * chroma_gain),
        }
    }

    fn is_identity(self) -> bool {
        let one = 1 << BITS;
        let mixed = [self.luma_from_blue, self.luma_from_red, self.blue_from_red, self.red_from_blue];
        self.black == 0 && [self.luma, self.blue, self.red] == [one; 3] && mixed == [0; 4]
    }
}

#[inline(always)]
fn clamped(fixed: i32) -> u8 {
    ((fixed + HALF) >> BITS).clamp(0, 255) as u8
}

/// Gives the planes the meaning that JFIF gives them.
pub(crate) fn to_jfif(planes: &mut Planes) {
    let factors = Factors::new(planes.full_range, planes.matrix);
    if factors.is_identity() {
        return;
    }
    let width = planes.width as usize;
    // With the widest instructions of the machine at hand: about a quarter less time than the baseline takes.
    pulp::Arch::new().dispatch(|| convert(planes, width, factors));
    planes.full_range = true;
    planes.matrix = VideoColorMatrix::Bt601;
}

#[inline(always)]
fn convert(planes: &mut Planes, width: usize, factors: Factors) {
    let (chroma_width, _) = planes.chroma_size();
    let (luma, blue, red) = planes.split_mut();
    // What chroma adds to luma: for each pair of columns, and for each column.
    let mut added = vec![0i32; chroma_width];
    let mut spread = vec![0i32; chroma_width * 2];
    let chroma = blue.chunks_exact_mut(chroma_width).zip(red.chunks_exact_mut(chroma_width));
    for (rows, (blue, red)) in luma.chunks_mut(width * 2).zip(chroma) {
        for ((blue, red), added) in blue.iter_mut().zip(red.iter_mut()).zip(&mut added) {
            let (b, r) = (i32::from(*blue) - 128, i32::from(*red) - 128);
            *added = b * factors.luma_from_blue + r * factors.luma_from_red - factors.black * factors.luma;
            *blue = clamped(b * factors.blue + r * factors.blue_from_red + (128 << BITS));
            *red = clamped(r * factors.red + b * factors.red_from_blue + (128 << BITS));
        }
        for (pair, added) in spread.chunks_exact_mut(2).zip(&added) {
            pair.fill(*added);
        }
        for row in rows.chunks_mut(width) {
            for (luma, added) in row.iter_mut().zip(&spread) {
                *luma = clamped(i32::from(*luma) * factors.luma + added);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(full_range: bool, matrix: VideoColorMatrix, from: [u8; 3], expected: [u8; 3]) {
        let factors = Factors::new(full_range, matrix);
        let (b, r) = (i32::from(from[1]) - 128, i32::from(from[2]) - 128);
        let luma = (i32::from(from[0]) - factors.black) * factors.luma
            + b * factors.luma_from_blue
            + r * factors.luma_from_red;
        let blue = b * factors.blue + r * factors.blue_from_red + (128 << BITS);
        let red = r * factors.red + b * factors.red_from_blue + (128 << BITS);
        let given = [clamped(luma), clamped(blue), clamped(red)];
        let near = given.iter().zip(expected).all(|(given, expected)| given.abs_diff(expected) <= 1);
        assert!(near, "{from:?} gives {given:?}, expected {expected:?}");
    }

    #[test]
    fn video_colours_become_those_of_jfif() {
        // Black, white and grey stay what they are and use the whole range.
        check(false, VideoColorMatrix::Bt601, [16, 128, 128], [0, 128, 128]);
        check(false, VideoColorMatrix::Bt709, [235, 128, 128], [255, 128, 128]);
        // Pure red and pure blue of BT.709 (ITU-R BT.709 table 4) become those of JFIF.
        check(false, VideoColorMatrix::Bt709, [63, 102, 240], [76, 85, 255]);
        check(false, VideoColorMatrix::Bt709, [32, 240, 118], [29, 255, 107]);
        check(false, VideoColorMatrix::Bt601, [81, 90, 240], [76, 85, 255]);
        assert!(Factors::new(true, VideoColorMatrix::Bt601).is_identity());
        assert!(!Factors::new(true, VideoColorMatrix::Bt709).is_identity());
    }
}
