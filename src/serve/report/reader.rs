//! The readers of reports, who share the turns.

use std::sync::Arc;

use crate::resource_pool::Holder;

/// A reader with all its connections.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reader {
    /// The holder of the key with this ID.
    Key(Arc<str>),
    /// The client of an address, where there are no keys.
    Client(Holder),
}
