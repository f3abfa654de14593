//! The number of a CRL: issuers count up, readers keep the highest.

use std::fmt;

/// A CRL number (RFC 5280 section 5.2.3): up to 20 octets in lists of others, 64 bits in ours. Ordered
/// as a number.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct CrlNumber {
    /// Big-endian, without leading zero octets; empty for zero.
    octets: Vec<u8>,
}

impl CrlNumber {
    /// The most octets read (RFC 5280 section 5.2.3).
    pub const MAX_OCTETS: usize = 20;

    /// The number from the content of a DER INTEGER; `None` if negative or too long.
    pub(crate) fn from_der_integer(content: &[u8]) -> Option<Self> {
        if content.is_empty() || content.first().is_some_and(|first| first & 0x80 != 0) {
            return None;
        }
        let zeros = content.iter().take_while(|octet| **octet == 0).count();
        let octets = content.get(zeros..)?.to_vec();
        (octets.len() <= Self::MAX_OCTETS).then_some(Self { octets })
    }
}

impl From<u64> for CrlNumber {
    fn from(number: u64) -> Self {
        let octets = number.to_be_bytes();
        let zeros = octets.iter().take_while(|octet| **octet == 0).count();
        Self { octets: octets.get(zeros..).unwrap_or_default().to_vec() }
    }
}

impl Ord for CrlNumber {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.octets.len(), &self.octets).cmp(&(other.octets.len(), &other.octets))
    }
}

impl PartialOrd for CrlNumber {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for CrlNumber {
    /// Decimal, as people count; hex with `0x` past 128 bits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.octets.len() <= 16 {
            let value = self.octets.iter().fold(0_u128, |sum, octet| sum << 8 | u128::from(*octet));
            return f.pad(&value.to_string());
        }
        f.write_str("0x")?;
        self.octets.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_past_64_bits_are_ordered_and_shown() {
        let long = CrlNumber::from_der_integer(&[1; 20]).unwrap();
        assert!(long > CrlNumber::from(u64::MAX));
        assert_eq!(long.to_string(), format!("0x{}", "01".repeat(20)));
        assert_eq!(CrlNumber::from_der_integer(&[1; 21]), None);
        assert_eq!(CrlNumber::from_der_integer(&[0x80]), None);
        assert_eq!(CrlNumber::from_der_integer(&[0]), Some(CrlNumber::from(0)));
        assert_eq!(CrlNumber::from(0).to_string(), "0");
    }

    proptest! {
        #[test]
        fn order_and_text_are_those_of_the_number(a in any::<u64>(), b in any::<u64>()) {
            prop_assert_eq!(CrlNumber::from(a).cmp(&CrlNumber::from(b)), a.cmp(&b));
            prop_assert_eq!(CrlNumber::from(a).to_string(), a.to_string());
        }
    }
}
