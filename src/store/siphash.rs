//! The keyed hash in fragment numbers.

/// SipHash-2-4 (Aumasson and Bernstein, 2012) with a 128-bit key: the standard library's own has the algorithm
/// but promises it to nobody, and fragment numbers must not change with a compiler.
pub(crate) struct SipHasher {
    v: [u64; 4],
    tail: Vec<u8>,
    len: usize,
}

impl SipHasher {
    pub(crate) fn new(key: u128) -> SipHasher {
        let (k0, k1) = (key as u64, (key >> 64) as u64);
        let v = [
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ];
        SipHasher { v, tail: Vec::with_capacity(8), len: 0 }
    }

    fn round(&mut self) {
        let [v0, v1, v2, v3] = &mut self.v;
        *v0 = v0.wrapping_add(*v1);
        *v1 = v1.rotate_left(13) ^ *v0;
        *v0 = v0.rotate_left(32);
        *v2 = v2.wrapping_add(*v3);
        *v3 = v3.rotate_left(16) ^ *v2;
        *v0 = v0.wrapping_add(*v3);
        *v3 = v3.rotate_left(21) ^ *v0;
        *v2 = v2.wrapping_add(*v1);
        *v1 = v1.rotate_left(17) ^ *v2;
        *v2 = v2.rotate_left(32);
    }

    fn word(&mut self, word: u64) {
        self.v[3] ^= word;
        self.round();
        self.round();
        self.v[0] ^= word;
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.len += bytes.len();
        for byte in bytes {
            self.tail.push(*byte);
            if let Ok(word) = <[u8; 8]>::try_from(self.tail.as_slice()) {
                self.word(u64::from_le_bytes(word));
                self.tail.clear();
            }
        }
    }

    pub(crate) fn finish(mut self) -> u64 {
        let mut last = [0; 8];
        last[..self.tail.len()].copy_from_slice(&self.tail);
        last[7] = self.len as u8;
        self.word(u64::from_le_bytes(last));
        self.v[2] ^= 0xff;
        for _ in 0..4 {
            self.round();
        }
        self.v.iter().fold(0, |all, part| all ^ part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn siphash_gives_the_paper_s_test_vector() {
        // Appendix A of the paper: key 00..0f, message 00..0e.
        let key = u128::from_le_bytes(std::array::from_fn(|i| i as u8));
        let mut hash = SipHasher::new(key);
        hash.write(&(0..15).collect::<Vec<u8>>());
        assert_eq!(hash.finish(), 0xa129_ca61_49be_45e5);
    }
}
