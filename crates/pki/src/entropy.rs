//! Randomness as a parameter: serials, codes and jitter are drawn from an [`Entropy`], so that a
//! test can fix them. Private keys are not: they always come from the system's generator.

/// A source of random bytes.
pub trait Entropy {
    /// Fills `out` whole with random bytes.
    fn fill(&mut self, out: &mut [u8]);
}

/// The operating system's generator, through aws-lc-rs.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&mut self, out: &mut [u8]) {
        // aws-lc aborts rather than hand out weak bytes; the error arm cannot be reached by input.
        aws_lc_rs::rand::fill(out).expect("the system's random number generator answers");
    }
}

impl<E: Entropy + ?Sized> Entropy for &mut E {
    fn fill(&mut self, out: &mut [u8]) {
        (**self).fill(out);
    }
}
