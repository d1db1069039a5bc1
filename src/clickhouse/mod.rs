//! ClickHouse: connections that end in bounded time, and everything that is asked of the tables.

mod args;
mod cluster;
pub mod connection;
mod error;
mod error_codes;
pub mod events;
mod insert_if_absent;
pub mod lock;
mod replication;
mod report;
pub mod schema;
mod shard;
mod sql;
mod topics;
mod watermarks;

pub use self::args::{Args, ShardId};
pub use self::cluster::Cluster;
pub use self::connection::Connection;
pub use self::error::Error;
pub(crate) use self::error::unexpected;
pub use self::error_codes::Action;
pub use self::events::audit::{ArrivalDays, PartitionAudit};
pub use self::events::dead_letters::DeadLetter;
pub use self::events::insert::Insert;
pub use self::events::read::{Head, JudgedEvent};
pub use self::events::retention::{DroppedRange, Month, StoredMonth};
pub use self::events::row::{RAW_BYTES_MAX, RAW_BYTES_MIN, Row, RowKind, clamp_arrival_millis, truncate_raw};
pub use self::replication::EmptyReplica;
pub use self::report::{Filter, Report, ReportError, ReportRow, SITE_IDS_MAX};
pub use self::schema::declared::{DeclaredTable, declared};
pub use self::schema::tables::{FoundTable, ReplicaTables};
pub use self::shard::Shard;
pub use self::sql::Identifier;
pub(crate) use self::sql::{partition_condition, quote};
pub use self::topics::TopicRecord;
pub use self::watermarks::{Freshness, Watermark};
