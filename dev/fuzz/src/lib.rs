//! The forms of inputs, which the fuzzers and the writer of their seeds share.

pub mod fetch_response;
pub mod segments;
