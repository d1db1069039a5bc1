//! A report as people see it on a terminal.
//!
//! The table is ours, and not `comfy-table`'s, which leaves out no columns, has styles only with a second library for
//! terminals, and took twice as long for 300,000 rows.

mod bars;
mod columns;
mod labels;
mod look;
mod numbers;
pub mod signs;
mod summary;
mod table;

pub use self::look::Look;
pub use self::summary::wall_clock;
pub use self::table::write_page;

#[cfg(test)]
mod tests;
