//! What an event is, judged by the records before it in its partition: a repeat, and its role in a challenge. Pure.
//!
//! Both are functions of the log: two consumers of one partition, a rebuilt [`Window`] and one that was kept all judge
//! alike. A record `o` sees the records `[o - N, o)` of its partition and nothing else; N is fixed for a topic.

/// N, unless another one is chosen: at 100 events a second for each partition, the last 2 h 46 min.
pub const DEDUP_WINDOW_RECORDS: i64 = 1_000_000;

pub mod challenge;
mod fingerprint;
mod index;
mod slot;
mod window;

pub use self::challenge::{Pair, Part, Role, RoleAndPair};
pub use self::window::{Judgement, Pending, Window};
