//! What an event is, judged by the records before it in its partition: a repeat, and its role in a challenge. Pure.
//!
//! Both are functions of the log: two consumers of one partition, a rebuilt [`Window`] and one that was kept all judge
//! alike. A record `o` sees the records `[o - N, o)` of its partition and nothing else; N is fixed for a topic.

pub mod challenge;
mod fingerprint;
mod index;
mod slot;
mod window;

pub use self::challenge::{Pair, Part, Role, RoleAndPair};
pub use self::window::{Judgement, Pending, Window};
