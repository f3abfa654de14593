//! Names and ids as numbers of fixed size: SipHash-2-4, for what lies on disk must mean the same in the
//! next version. What is found by one is compared with the name itself before it is shown.

/// A number for a text, 64 bits.
pub(super) fn digest(parts: &[&[u8]]) -> u64 {
    siphash(KEY, parts)
}

/// A number for what must not be taken for another: 128 bits.
pub(super) fn wide_digest(parts: &[&[u8]]) -> u128 {
    let (high, low) = (siphash(KEY, parts), siphash(OTHER_KEY, parts));
    u128::from(high) << 64 | u128::from(low)
}

/// The parts one after the other, each closed by its length, so that no two lists of parts are the same bytes.
fn siphash((k0, k1): (u64, u64), parts: &[&[u8]]) -> u64 {
    let mut state = Sip::new(k0, k1);
    for part in parts {
        let (words, rest) = part.as_chunks::<8>();
        for word in words {
            state.word(u64::from_le_bytes(*word));
        }
        // As SipHash ends: what is left over, and in the top byte the length.
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        last[7] = part.len().to_le_bytes()[0];
        state.word(u64::from_le_bytes(last));
    }
    state.finish()
}

struct Sip {
    v: [u64; 4],
}

impl Sip {
    fn new(k0: u64, k1: u64) -> Self {
        Self {
            v: [
                k0 ^ 0x736f_6d65_7073_6575,
                k1 ^ 0x646f_7261_6e64_6f6d,
                k0 ^ 0x6c79_6765_6e65_7261,
                k1 ^ 0x7465_6462_7974_6573,
            ],
        }
    }

    fn word(&mut self, word: u64) {
        self.v[3] ^= word;
        self.round();
        self.round();
        self.v[0] ^= word;
    }

    fn round(&mut self) {
        let [mut a, mut b, mut c, mut d] = self.v;
        a = a.wrapping_add(b);
        c = c.wrapping_add(d);
        b = b.rotate_left(13) ^ a;
        d = d.rotate_left(16) ^ c;
        a = a.rotate_left(32);
        c = c.wrapping_add(b);
        a = a.wrapping_add(d);
        b = b.rotate_left(17) ^ c;
        d = d.rotate_left(21) ^ a;
        c = c.rotate_left(32);
        self.v = [a, b, c, d];
    }

    fn finish(mut self) -> u64 {
        self.v[2] ^= 0xff;
        for _ in 0..4 {
            self.round();
        }
        self.v.into_iter().fold(0, |all, word| all ^ word)
    }
}

/// On disk: never changed. Nobody's secret; who could make two ids with the same number would hide a
/// segment of its own.
const KEY: (u64, u64) = (0x6861_6e64_6661_7374, 0x6b65_6570_2031_2e30);
const OTHER_KEY: (u64, u64) = (0x7465_6c65_6d65_7472, 0x6b65_6570_2031_2e31);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_siphash() {
        // The example of the paper in which it was published.
        let key = (0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
        let input: Vec<u8> = (0..15).collect();
        assert_eq!(siphash(key, &[&input]), 0xa129_ca61_49be_45e5);
    }

    #[test]
    fn parts_have_borders() {
        assert_ne!(digest(&[b"ab", b"c"]), digest(&[b"a", b"bc"]));
        assert_ne!(wide_digest(&[b"", b"a"]), wide_digest(&[b"a", b""]));
        assert_eq!(wide_digest(&[b"a"]) >> 64, u128::from(digest(&[b"a"])));
    }
}
