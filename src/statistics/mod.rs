//! What a report asks for, and how its numbers are made from counts. Pure.
//!
//! [`Query::parse`] reads the parameters, [`Query::resolve`] makes instants of them, and [`Query::answer`] makes rows,
//! totals and a comparison of the counts that somebody else has read. An instant is a number of microseconds since 1970
//! (UTC), in names `micros`. `docs/reports.md` has the definitions for people.

mod answer;
mod buckets;
mod choice;
mod comparison;
mod counts;
mod formats;
mod instant;
mod metrics;
mod moment;
mod parameters;
pub mod people;
mod period;
mod query;
mod solve_times;
mod words;
mod zone;

pub use self::answer::{Answer, AnswerError, Compared, ROWS_MAX, Row};
pub use self::buckets::{Buckets, Interval};
pub use self::choice::Choice;
pub use self::counts::{CountRow, Counts};
pub use self::formats::{Format, ROW_TEXT_BYTES_MAX, Writer, cells, total_cells, value_text};
pub use self::metrics::{Metric, Needs, Value};
pub use self::moment::{Moment, parse_date};
pub use self::parameters::By;
#[cfg(test)]
pub use self::parameters::SolveWithin;
pub use self::period::{Range, RangeChoice};
pub use self::query::{PARAMETERS, Query, Resolved, WrongParameter};
pub use self::solve_times::{SolveTimes, solve_time_bucket};
pub use self::words::words;
pub use self::zone::{ZONE_NAMES, Zone};
