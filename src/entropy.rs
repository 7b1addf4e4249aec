//! Randomness, by the door: the operating system's in a process, a seeded one in a simulation.

use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// Where random bytes come from.
pub trait Entropy: Debug + Send + Sync + 'static {
    /// Fills the slice. For identities and nonces it must be unpredictable and never repeat.
    fn fill(&self, bytes: &mut [u8]);
}

/// Draws an array.
pub fn draw<const LEN: usize>(entropy: &dyn Entropy) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    entropy.fill(&mut bytes);
    bytes
}

/// A cryptographic generator, seeded by the operating system and reseeded as it goes.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        rand::rng().fill_bytes(bytes);
    }
}

/// The same bytes for the same seed; for simulations and tests only.
#[derive(Debug)]
pub struct SeededEntropy(Mutex<StdRng>);

impl SeededEntropy {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(bytes);
    }
}
