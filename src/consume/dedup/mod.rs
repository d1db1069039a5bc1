//! Which events are repeats: the events of the last N records of a partition, and how long that is in time.

mod age;
mod fingerprint;
mod index;
mod window;

pub use self::age::WindowAge;
pub use self::fingerprint::{Fingerprint, PassThroughHasher};
pub use self::window::DedupWindow;
