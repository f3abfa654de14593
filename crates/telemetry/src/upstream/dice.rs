//! Chance, as a parameter: what makes a thousand relays not come back at the same moment.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use handfast_pki::Entropy;

/// A source of chance that several may throw.
#[derive(Clone)]
pub struct Dice(Arc<Mutex<dyn Entropy + Send>>);

impl Dice {
    /// From a source of random bytes.
    pub fn new(entropy: impl Entropy + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(entropy)))
    }

    /// A number, any.
    pub fn throw(&self) -> u64 {
        let mut bytes = [0; 8];
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

impl fmt::Debug for Dice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dice")
    }
}
