//! Reading a request: its framing, its query, its ID, and the events of its body.

pub mod body;
pub mod content_type;
pub mod deadline;
pub mod decompress;
#[cfg(test)]
pub mod format_equivalence;
pub mod framing;
pub mod id;
pub mod mistake;
pub mod query;
pub mod unread_body;
