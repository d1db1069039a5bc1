//! Among whom reports are shared.

use std::sync::Arc;

use crate::resource_pool::Holder;

/// One of those who share the reports, with all its connections.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reader {
    /// Whoever has the key of this ID.
    Key(Arc<str>),
    /// Whoever comes from an address, where there are no keys.
    Client(Holder),
}
