//! NAL units in bytes: start codes (ITU-T H.264 annex B) and length prefixes (ISO/IEC 14496-15).

use bytes::{BufMut, Bytes, BytesMut};

use super::CodecError;

/// The NAL units between start codes, without trailing zero bytes; empty ones are left out.
pub fn annex_b(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = after_start_code(data);
    std::iter::from_fn(move || {
        let from = rest?;
        let (end, next) = match find_start_code(from) {
            Some(at) => (at, Some(&from[at + 3..])),
            None => (from.len(), None),
        };
        rest = next;
        let trimmed = from[..end].iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        Some(&from[..trimmed])
    })
    .filter(|nal| !nal.is_empty())
}

/// Whether there is a start code in `data`; a NAL unit by itself never has one (section 7.4.1).
pub fn has_start_code(data: &[u8]) -> bool {
    find_start_code(data).is_some()
}

/// The NAL units of `data`, which should be one without a start code, but may have some before, behind or within it.
pub fn parted(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let before = &data[..find_start_code(data).unwrap_or(data.len())];
    let trimmed = before.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    std::iter::once(&before[..trimmed]).filter(|nal| !nal.is_empty()).chain(annex_b(data))
}

fn find_start_code(data: &[u8]) -> Option<usize> {
    data.windows(3).position(|window| window == [0, 0, 1])
}

fn after_start_code(data: &[u8]) -> Option<&[u8]> {
    find_start_code(data).map(|at| &data[at + 3..])
}

/// The NAL units behind length prefixes of `length_size` bytes (1 to 4); empty ones are left out.
/// A length beyond the data yields one error and ends the run.
pub fn length_prefixed(data: &[u8], length_size: usize) -> impl Iterator<Item = Result<&[u8], CodecError>> {
    debug_assert!((1..=4).contains(&length_size));
    let mut rest = data;
    std::iter::from_fn(move || {
        loop {
            if rest.is_empty() {
                return None;
            }
            let Some((prefix, after)) = rest.split_at_checked(length_size) else {
                rest = &[];
                return Some(Err(CodecError::Truncated));
            };
            let length = prefix.iter().fold(0usize, |sum, byte| sum << 8 | usize::from(*byte));
            let Some((nal, after)) = after.split_at_checked(length) else {
                rest = &[];
                return Some(Err(CodecError::Truncated));
            };
            rest = after;
            if !nal.is_empty() {
                return Some(Ok(nal));
            }
        }
    })
}

/// `nals` in one buffer, each behind a length of 4 bytes: the form of [`crate::AccessUnit::data`].
pub fn join<'a>(nals: impl Iterator<Item = &'a [u8]> + Clone) -> Bytes {
    let mut out = BytesMut::with_capacity(nals.clone().map(|nal| nal.len() + 4).sum());
    for nal in nals {
        out.put_u32(u32::try_from(nal.len()).expect("a NAL unit in memory is below 4 GiB"));
        out.put_slice(nal);
    }
    out.freeze()
}

/// Bytes with start codes, as length-prefixed NAL units.
pub fn annex_b_to_length_prefixed(data: &[u8]) -> Bytes {
    let nals: Vec<&[u8]> = annex_b(data).collect();
    join(nals.iter().copied())
}

/// NAL units with 4-byte lengths, as bytes with start codes of 4 bytes.
///
/// # Errors
/// When a length goes beyond the data.
pub fn length_prefixed_to_annex_b(data: &[u8]) -> Result<Bytes, CodecError> {
    let mut out = BytesMut::with_capacity(data.len());
    for nal in length_prefixed(data, 4) {
        out.put_u32(1);
        out.put_slice(nal?);
    }
    Ok(out.freeze())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn start_codes_of_three_and_four_bytes_part_nal_units() {
        let data = [9, 0, 0, 0, 1, 0x67, 1, 0, 0, 0, 1, 0x68, 0, 0, 1, 0, 0, 1, 0x65, 0, 0];
        assert_eq!(annex_b(&data).collect::<Vec<_>>(), [&[0x67, 1][..], &[0x68], &[0x65]]);
    }

    #[test]
    fn length_beyond_the_data_is_one_error() {
        let data = [0, 0, 0, 1, 7, 0, 0, 0, 9, 1];
        assert_eq!(length_prefixed(&data, 4).collect::<Vec<_>>(), [Ok(&[7u8][..]), Err(CodecError::Truncated)]);
        assert_eq!(length_prefixed(&[0, 0, 0], 4).count(), 1);
        assert_eq!(length_prefixed(&[2, 5, 6], 1).collect::<Vec<_>>(), [Ok(&[5u8, 6][..])]);
    }

    proptest! {
        #[test]
        fn nal_units_survive_both_forms(nals in prop::collection::vec(prop::collection::vec(1u8.., 1..40), 0..8)) {
            let joined = join(nals.iter().map(Vec::as_slice));
            let marked = length_prefixed_to_annex_b(&joined).expect("our own lengths");
            prop_assert_eq!(annex_b_to_length_prefixed(&marked), joined);
            prop_assert_eq!(annex_b(&marked).map(<[u8]>::to_vec).collect::<Vec<_>>(), nals);
        }

        #[test]
        fn arbitrary_bytes_never_panic(data in prop::collection::vec(prop_oneof![Just(0u8), Just(1), any::<u8>()], 0..200)) {
            annex_b(&data).for_each(drop);
            for size in 1..=4 {
                length_prefixed(&data, size).for_each(drop);
            }
        }
    }
}
