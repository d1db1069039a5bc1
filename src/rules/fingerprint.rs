//! 96 bits in the place of a challenge, or of an event, and a hasher for maps of them.

use std::hash::{Hash, Hasher};
use std::num::NonZeroU128;

/// Of a hash, the bits that are kept.
const BITS: u32 = 96;

/// 96 bits in the place of a challenge or an event. The key is a new one in each process, so that nobody can choose two
/// with one fingerprint. By chance, one of 10^12 events meets another challenge with its fingerprint among the 10^6 of
/// its window with a probability below 10^-10.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(NonZeroU128);

impl Fingerprint {
    /// From bits as good as random ones.
    pub fn from_bits(bits: u128) -> Fingerprint {
        Fingerprint(NonZeroU128::new(bits & ((1 << BITS) - 1)).unwrap_or(NonZeroU128::MIN))
    }

    /// From [`Fingerprint::bits`]; `None` for 0, which no fingerprint has.
    pub fn from_stored(bits: u128) -> Option<Fingerprint> {
        NonZeroU128::new(bits).map(Fingerprint)
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
