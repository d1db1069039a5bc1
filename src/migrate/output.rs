//! Lines on stdout for people.

use crate::clickhouse::{Shard, ShardId};
use crate::terminal::{escape, print};

/// Prints a line, escaped.
pub fn print_line(line: std::fmt::Arguments<'_>) {
    print(&format!("{}\n", escape::line(&line.to_string())));
}

/// Prints which shard the next lines are about, if there are several.
pub fn print_shard(shard: &Shard) {
    match shard.id() {
        ShardId { of: 1, .. } => {}
        id => print_line(format_args!("{id}, {}:", shard.addresses())),
    }
}
