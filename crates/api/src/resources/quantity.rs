//! Sizes as Kubernetes writes them: `512Mi`, `20Gi`, `1048576`.

use std::fmt;
use std::str::FromStr;

/// A positive number of bytes.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Quantity(u64);

impl Quantity {
    /// As bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Quantity {
    /// The shortest form that reads back to the same number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.iter().find(|(_, size)| self.0.is_multiple_of(*size));
        match unit {
            Some((unit, size)) => write!(f, "{}{unit}", self.0 / size),
            None => write!(f, "{}", self.0),
        }
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let size = match UNITS.iter().find(|(name, _)| *name == unit) {
            Some((_, size)) => *size,
            None if unit.is_empty() => 1,
            None => return Err(QuantityError),
        };
        let number: u64 = number.parse().map_err(|_| QuantityError)?;
        number.checked_mul(size).filter(|bytes| *bytes > 0).map(Self).ok_or(QuantityError)
    }
}

/// Text that is no size.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a size such as 512Mi, 20Gi or a number of bytes")]
pub struct QuantityError;

const UNITS: [(&str, u64); 4] =
    [("Ti", 1 << 40), ("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_read_and_nonsense_is_not() {
        assert_eq!("20Gi".parse::<Quantity>().map(Quantity::bytes), Ok(20 << 30));
        assert_eq!("7".parse::<Quantity>().map(Quantity::bytes), Ok(7));
        for bad in ["", "0", "-1", "1G", "1 Gi", "Gi", "99999999Ti", "1.5Gi"] {
            assert!(bad.parse::<Quantity>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(bytes in 1_u64..) {
            let quantity = Quantity(bytes);
            prop_assert_eq!(quantity.to_string().parse::<Quantity>(), Ok(quantity));
        }
    }
}
