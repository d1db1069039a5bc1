//! What Kafka and ClickHouse both speak of: a partition of a log.

use std::fmt;
use std::ops::{Add, AddAssign, Range, Sub};
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// Kafka's number of a partition within its topic, from 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Partition(i32);

impl Partition {
    /// The partition with this number.
    pub const fn new(number: i32) -> Partition {
        Partition(number)
    }

    /// Its number, as Kafka and ClickHouse have it.
    pub const fn get(self) -> i32 {
        self.0
    }

    /// Its place in a list of all partitions of a topic.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The partitions with these numbers, in order.
    pub fn range(numbers: Range<i32>) -> impl Iterator<Item = Partition> {
        numbers.map(Partition)
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a record within its partition, from 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Offset(i64);

impl Offset {
    /// Where every partition begins.
    pub const ZERO: Offset = Offset(0);

    /// The offset with this number.
    pub const fn new(number: i64) -> Offset {
        Offset(number)
    }

    /// Its number, as Kafka and ClickHouse have it.
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Add<i64> for Offset {
    type Output = Offset;

    fn add(self, records: i64) -> Offset {
        Offset(self.0 + records)
    }
}

impl AddAssign<i64> for Offset {
    fn add_assign(&mut self, records: i64) {
        self.0 += records;
    }
}

impl Sub<i64> for Offset {
    type Output = Offset;

    fn sub(self, records: i64) -> Offset {
        Offset(self.0 - records)
    }
}

/// The number of records between two offsets.
impl Sub for Offset {
    type Output = i64;

    fn sub(self, earlier: Offset) -> i64 {
        self.0 - earlier.0
    }
}

/// The name of a log, as the column `topic` has it: that of its Kafka topic, and `@` and a number behind it if the
/// topic was deleted and made again (`captcha@2`). No topic can have such a name.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogName(Arc<str>);

impl LogName {
    /// The name as it is stored.
    pub fn new(name: &str) -> LogName {
        LogName(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for LogName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// A partition of a log, as the columns `topic` and `partition` name it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicPartition {
    pub log: LogName,
    pub partition: Partition,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.log, self.partition)
    }
}
