//! `Retry-After`: when a client that is refused is to send the same again. The seconds are drawn at random from a
//! range, so that clients that are refused together do not come back together; the header has whole seconds (RFC 9110).
//! Two are not drawn: the wait for a key's rate is computed (`auth/keys/bucket.rs`), and a connection that is refused
//! gets one second (`http/connection/handshake.rs`).

use std::ops::RangeInclusive;

/// After too much was in progress: most requests are done within milliseconds, so a short wait is enough.
const OVERLOAD_SECONDS: RangeInclusive<u64> = 1..=3;

/// While Kafka or ClickHouse is away: a restart or a new leader takes some seconds.
const OUTAGE_SECONDS: RangeInclusive<u64> = 3..=8;

const _: () = assert!(
    *OVERLOAD_SECONDS.start() >= 1 && *OUTAGE_SECONDS.start() >= *OVERLOAD_SECONDS.end(),
    "an outage lasts longer than an overload, and no client comes back at once"
);

/// Seconds after which a client comes back that was refused because too much is in progress.
pub fn overload() -> u64 {
    fastrand::u64(OVERLOAD_SECONDS)
}

/// Seconds after which a client comes back that was refused because a server is away.
pub fn outage() -> u64 {
    fastrand::u64(OUTAGE_SECONDS)
}
