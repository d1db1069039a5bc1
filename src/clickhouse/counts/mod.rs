//! Counts of events and of challenges, by bucket and site, from the projections of `events`.

pub mod expressions;
mod row;
mod sql;

pub use self::row::CountedRow;
pub use self::sql::{Column, Counting, Starts, site_condition};
