//! The colours of JFIF: full range, the matrix of BT.601, whatever the video's were.
//!
//! A JPEG file of the planes as they are would show video washed out, since video uses 16 to 235 where JPEG uses 0 to
//! 255, and HD video with a tint, since its matrix is that of BT.709. Both are mended on the planes: one multiplication
//! a luma sample, four a chroma pair. (ITU-T T.871 section 6, ITU-T H.273 section 8.3.)

use media::planes::{Colours, Planes};

/// Bits after the point of what is added up. Sums stay below 2^15, and as many numbers of 16 bits as fit into a register are
/// computed at once.
const BITS: i32 = 6;
const HALF: i16 = 1 << (BITS - 1);

/// How numbers of one meaning become numbers of another, in fixed point: a factor times a number of eight bits shifted
/// left by as many, of which the upper half is kept.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Factors {
    /// What black is, times `luma`.
    black: i16,
    luma: u16,
    luma_from_blue: i16,
    luma_from_red: i16,
    blue: i16,
    blue_from_red: i16,
    red: i16,
    red_from_blue: i16,
}

impl Factors {
    fn new(colours: Colours) -> Factors {
        let Colours { full_range, matrix } = colours;
        let (kr, kb) = matrix.weights();
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
        // Gains are below 1.3 and shares below 0.5, so all of them fit.
        let fixed = |value: f64| (value * f64::from(1 << (BITS + 8))).round() as i16;
        let black = if full_range { 0.0 } else { 16.0 };
        Factors {
            black: (black * luma_gain * f64::from(1 << BITS)).round() as i16,
            luma: fixed(luma_gain) as u16,
            luma_from_blue: fixed(luma_of(1.0, 0.0) * chroma_gain),
            luma_from_red: fixed(luma_of(0.0, 1.0) * chroma_gain),
            blue: fixed(new_blue(1.0, 0.0) * chroma_gain),
            blue_from_red: fixed(new_blue(0.0, 1.0) * chroma_gain),
            red: fixed(new_red(0.0, 1.0) * chroma_gain),
            red_from_blue: fixed(new_red(1.0, 0.0) * chroma_gain),
        }
    }

    fn is_identity(self) -> bool {
        let one = 1 << (BITS + 8);
        let mixed = [self.luma_from_blue, self.luma_from_red, self.blue_from_red, self.red_from_blue];
        self.black == 0 && self.luma == one as u16 && [self.blue, self.red] == [one; 2] && mixed == [0; 4]
    }

    /// What a pair of chroma adds to luma, and the new pair.
    #[inline(always)]
    fn chroma(self, blue: u8, red: u8) -> (i16, u8, u8) {
        let (b, r) = (centred(blue), centred(red));
        let added = times(b, self.luma_from_blue).wrapping_add(times(r, self.luma_from_red));
        let blue = times(b, self.blue).wrapping_add(times(r, self.blue_from_red)).wrapping_add(128 << BITS);
        let red = times(r, self.red).wrapping_add(times(b, self.red_from_blue)).wrapping_add(128 << BITS);
        (added.wrapping_sub(self.black), clamped(blue), clamped(red))
    }

    #[inline(always)]
    fn luma(self, luma: u8, added: i16) -> u8 {
        let scaled = (u32::from(u16::from(luma) << 8).wrapping_mul(u32::from(self.luma)) >> 16) as u16;
        clamped((scaled as i16).wrapping_add(added))
    }
}

/// A chroma sample around zero, shifted left by eight.
#[inline(always)]
fn centred(chroma: u8) -> i16 {
    ((u16::from(chroma) << 8) ^ 0x8000) as i16
}

/// The upper half of a product.
#[inline(always)]
fn times(number: i16, factor: i16) -> i16 {
    (i32::from(number).wrapping_mul(i32::from(factor)) >> 16) as i16
}

#[inline(always)]
fn clamped(fixed: i16) -> u8 {
    (fixed.wrapping_add(HALF) >> BITS).clamp(0, 255) as u8
}

/// Writes the planes into `out` one after another with the meaning that JFIF gives them, luma with rows and columns made
/// even by repeating the last: the form that halved chroma has in JPEG.
pub(crate) fn to_jfif(planes: &Planes<'_>, out: &mut Vec<u8>) {
    let (chroma_width, chroma_height) = planes.size(1);
    // What is there from the picture before is written over.
    out.resize(chroma_width * chroma_height * 6, 0);
    let factors = Factors::new(planes.colours());
    // With the widest instructions of the machine at hand.
    pulp::Arch::new().dispatch(Conversion { planes, out, factors });
}

/// What is compiled for several instruction sets: no closure, since that is not inlined into what they are chosen for.
struct Conversion<'a> {
    planes: &'a Planes<'a>,
    out: &'a mut [u8],
    factors: Factors,
}

impl pulp::NullaryFnOnce for Conversion<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        convert(self.planes, self.out, self.factors);
    }
}

#[inline(always)]
fn convert(planes: &Planes<'_>, out: &mut [u8], factors: Factors) {
    let (chroma_width, chroma_height) = planes.size(1);
    let (width, height) = planes.size(0);
    let as_is = factors.is_identity();
    let (luma, chroma) = out.split_at_mut(chroma_width * chroma_height * 4);
    let (blue, red) = chroma.split_at_mut(chroma_width * chroma_height);
    // What chroma adds to luma: for each pair of columns, and for each column.
    let mut added = vec![0i16; chroma_width];
    let mut spread = vec![0i16; chroma_width * 2];
    let chroma = blue.chunks_exact_mut(chroma_width).zip(red.chunks_exact_mut(chroma_width));
    for (line, (rows, (blue, red))) in luma.chunks_exact_mut(chroma_width * 4).zip(chroma).enumerate() {
        let (from_blue, from_red) = (planes.row(1, line), planes.row(2, line));
        if as_is {
            blue.copy_from_slice(from_blue);
            red.copy_from_slice(from_red);
        } else {
            let new = blue.iter_mut().zip(red.iter_mut()).zip(&mut added);
            for ((from_blue, from_red), ((blue, red), added)) in from_blue.iter().zip(from_red).zip(new) {
                (*added, *blue, *red) = factors.chroma(*from_blue, *from_red);
            }
            for (pair, added) in spread.chunks_exact_mut(2).zip(&added) {
                pair.fill(*added);
            }
        }
        for (at, row) in rows.chunks_exact_mut(chroma_width * 2).enumerate() {
            let from = planes.row(0, (line * 2 + at).min(height - 1));
            if as_is {
                row[..width].copy_from_slice(from);
            } else {
                for ((from, to), added) in from.iter().zip(row.iter_mut()).zip(&spread) {
                    *to = factors.luma(*from, *added);
                }
            }
            if width < row.len() {
                row[width] = row[width - 1];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use media::planes::Matrix;

    use super::*;

    fn check(full_range: bool, matrix: Matrix, from: [u8; 3], expected: [u8; 3]) {
        let factors = Factors::new(Colours { full_range, matrix });
        let (added, blue, red) = factors.chroma(from[1], from[2]);
        let given = [factors.luma(from[0], added), blue, red];
        let near = given.iter().zip(expected).all(|(given, expected)| given.abs_diff(expected) <= 1);
        assert!(near, "{from:?} gives {given:?}, expected {expected:?}");
    }

    #[test]
    fn video_colours_become_those_of_jfif() {
        // Black, white and grey stay what they are and use the whole range.
        check(false, Matrix::Bt601, [16, 128, 128], [0, 128, 128]);
        check(false, Matrix::Bt709, [235, 128, 128], [255, 128, 128]);
        // Pure red and pure blue of BT.709 (ITU-R BT.709 table 4) become those of JFIF.
        check(false, Matrix::Bt709, [63, 102, 240], [76, 85, 255]);
        check(false, Matrix::Bt709, [32, 240, 118], [29, 255, 107]);
        check(false, Matrix::Bt601, [81, 90, 240], [76, 85, 255]);
        assert!(Factors::new(Colours { full_range: true, matrix: Matrix::Bt601 }).is_identity());
        assert!(!Factors::new(Colours { full_range: true, matrix: Matrix::Bt709 }).is_identity());
    }

    /// What R, G and B have in between, by numbers without end.
    fn by_the_book(full_range: bool, matrix: Matrix, from: [u8; 3]) -> [f64; 3] {
        let [y, b, r] = from.map(f64::from);
        let (y, b, r) = match full_range {
            true => (y / 255.0, (b - 128.0) / 255.0, (r - 128.0) / 255.0),
            false => ((y - 16.0) / 219.0, (b - 128.0) / 224.0, (r - 128.0) / 224.0),
        };
        let (kr, kb) = matrix.weights();
        let (red, blue) = (y + 2.0 * (1.0 - kr) * r, y + 2.0 * (1.0 - kb) * b);
        let green = (y - kr * red - kb * blue) / (1.0 - kr - kb);
        let luma = 0.299 * red + 0.587 * green + 0.114 * blue;
        let numbers = [luma * 255.0, (blue - luma) / 1.772 * 255.0 + 128.0, (red - luma) / 1.402 * 255.0 + 128.0];
        numbers.map(|number| number.clamp(0.0, 255.0))
    }

    #[test]
    fn sixteen_bits_are_enough() {
        let steps = || (0..=255u8).step_by(5);
        for (matrix, full_range) in Matrix::ALL.into_iter().flat_map(|matrix| [(matrix, true), (matrix, false)]) {
            let factors = Factors::new(Colours { full_range, matrix });
            for (y, b, r) in steps().flat_map(|y| steps().flat_map(move |b| steps().map(move |r| (y, b, r)))) {
                let (added, blue, red) = factors.chroma(b, r);
                let given = [factors.luma(y, added), blue, red];
                let expected = by_the_book(full_range, matrix, [y, b, r]);
                let off = given.iter().zip(expected).map(|(given, expected)| (f64::from(*given) - expected).abs());
                let off = off.fold(0.0, f64::max);
                assert!(off < 0.6, "{matrix:?}, full range {full_range}: {y} {b} {r} gives {given:?}, off by {off}");
            }
        }
    }
}
