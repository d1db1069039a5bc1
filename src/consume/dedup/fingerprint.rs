//! 128 bits in the place of an event, and a hasher for maps of them.

use std::hash::{Hash, Hasher};
use std::num::NonZeroU128;

/// 128 bits in the place of an event. The key is a new one in each process, so that nobody can choose two events with
/// one fingerprint. By chance, a pair among 10^12 events has one with a probability below 10^-14.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(NonZeroU128);

impl Fingerprint {
    /// From bits as good as random ones.
    pub fn from_bits(bits: u128) -> Fingerprint {
        Fingerprint(NonZeroU128::new(bits).unwrap_or(NonZeroU128::MIN))
    }

    /// Bits as good as random ones.
    pub fn bits(self) -> u128 {
        self.0.get()
    }
}

impl Hash for Fingerprint {
    /// For [`PassThroughHasher`].
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.bits() as u64);
    }
}

/// Hashes a [`Fingerprint`] to its own bits: it is a keyed hash already.
#[derive(Debug, Clone, Copy, Default)]
pub struct PassThroughHasher(u64);

impl Hasher for PassThroughHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, bits: u64) {
        self.0 = bits;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
