//! What the fuzzers and the writer of their seeds share: the forms of their inputs.

pub mod fetch_response;
pub mod segments;
