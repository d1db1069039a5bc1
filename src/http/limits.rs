//! The limits of a listener: connections, header sizes, times, and what the system allows.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// File descriptors kept for other things than connections: one for each broker that leads partitions, some for reports
/// and the admin port.
const RESERVED_DESCRIPTORS: u32 = 256;

/// The limits of one listener.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub connections_max: u32,
    /// Of these, how many one address may have, if fewer than half of them.
    pub address_connections_max: Option<u32>,
    /// Bytes of one request head, and of the read buffer of each connection; at least 8 KiB.
    pub head_bytes_max: usize,
    /// How long a connection may take.
    pub timeouts: Timeouts,
}

/// How long a connection may take.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// From the first byte of a head to its last; of a new connection, from its beginning.
    pub head: Duration,
    /// From the end of a response to the first byte of the next head.
    pub idle: Duration,
}

/// How many connections can be open at once: `wanted`, or fewer where file descriptors do not suffice. Raises the soft
/// limit on descriptors to the hard one, and keeps [`RESERVED_DESCRIPTORS`] of them for files and for Kafka and
/// ClickHouse.
pub fn connections_within_limit(wanted: u32) -> u32 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let usable = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let descriptors = usable.map_or(u32::MAX, |usable| u32::try_from(usable).unwrap_or(u32::MAX));
    let available = descriptors - RESERVED_DESCRIPTORS.min(descriptors / 2);
    if available < wanted {
        tracing::warn!(
            wanted,
            connections = available,
            descriptors,
            "fewer connections than wanted; raise the limit on open files"
        );
    }
    wanted.min(available)
}
