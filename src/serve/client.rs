//! The client of a request.

use std::net::IpAddr;
use std::sync::Arc;

use crate::http::Peer;
use crate::resource_pool::Holder;

/// The client of a request, and its connection.
pub struct Client {
    /// The other end of the connection: the client itself, or a proxy.
    pub peer: Arc<Peer>,
    /// The address of the client, also behind a trusted proxy.
    pub address: IpAddr,
    /// The holder of what the request takes.
    pub holder: Holder,
}
