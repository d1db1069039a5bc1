//! Counts of events and of challenges, by bucket and site, from the projections of `events`.

mod expressions;
mod row;
mod sql;

pub use self::row::{CountedRow, SolveTimeCounts};
pub use self::sql::{Column, Counting, Starts};
