//! Events as messages of a WebSocket (RFC 6455): the handshake, the session of one stream, and what its messages mean.

pub mod handshake;
mod in_flight;
pub mod session;
pub mod stream;
