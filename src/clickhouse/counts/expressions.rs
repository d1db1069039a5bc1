//! Expressions as the projections have them: ClickHouse answers from a projection if a query has its very expressions.

/// Quarter hours, by which all time zones since 1980 can be counted.
pub const QUARTER_HOUR_SECONDS: i64 = 900;

pub const DAY_SECONDS: i64 = 86_400;

pub const SERVED: &str = "countIf((repeat = 0) AND (type = 'serve'))";
pub const SOLVED: &str = "countIf((repeat = 0) AND (type = 'solve'))";
pub const RETRIES: &str = "countIf(repeat = 1)";
pub const CHALLENGES: &str = "countIf(role = 'first')";
pub const SOLVED_AGAIN: &str = "countIf((role = 'again') AND (type = 'solve'))";
pub const OPEN_SOLVES: &str = "countIf(role = 'open')";
pub const BEFORE_SERVE: &str = "countIf(solve_after_micros < 0)";

/// The time of the serve of a row's pair, in microseconds.
pub const SERVE_MICROS: &str = "toUnixTimestamp64Micro(time) - if(type = 'solve', solve_after_micros, 0)";

/// The time of the solve of a row's pair whose serve came later, in microseconds.
pub const OPEN_MICROS: &str = "toUnixTimestamp64Micro(time) + solve_after_micros";

/// The bucket of a solve time, as [`solve_time_bucket`](crate::statistics::solve_time_bucket) has it.
pub const SOLVE_TIME: &str = "toUInt16(if(solve_after_micros <= 1, 0, \
                              bitShiftRight(reinterpretAsUInt64((solve_after_micros - 1) / 60000000), 46) - 63814))";

/// The number of an event's day or quarter hour since 1970.
pub fn event_number(seconds: i64) -> String {
    format!("intDiv(toUnixTimestamp64Second(time), {seconds})")
}

/// The same of the serve of a pair; -1 in a row without one.
pub fn serve_number(seconds: i64) -> String {
    format!("if(other_month = 0, -1, intDiv({SERVE_MICROS}, {seconds}000000))")
}

/// The same of an open solve that the row's serve answered; -1 in other rows.
pub fn open_number(seconds: i64) -> String {
    format!("if((other_month = 0) OR (type = 'solve'), -1, intDiv({OPEN_MICROS}, {seconds}000000))")
}

/// Pairs, and rows without one, whose solve time is within a limit.
pub fn within(limit_seconds: i64) -> String {
    format!("countIf(solve_after_micros <= {limit_seconds}000000)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::{Choice as _, SolveWithin};

    /// Without blanks.
    fn flat(sql: &str) -> String {
        let lines = sql.lines().filter(|line| !line.starts_with("--"));
        lines.flat_map(str::chars).filter(|c| !c.is_whitespace()).collect()
    }

    #[test]
    fn expressions_are_those_of_the_projections() {
        let projections = flat(include_str!("../../../migrations/V9__aggregate_reports.sql"));
        let mut all: Vec<String> = [
            SERVED,
            SOLVED,
            RETRIES,
            CHALLENGES,
            SOLVED_AGAIN,
            OPEN_SOLVES,
            BEFORE_SERVE,
        ]
        .map(str::to_string)
        .into();
        for seconds in [DAY_SECONDS, QUARTER_HOUR_SECONDS] {
            all.extend([event_number(seconds), serve_number(seconds), open_number(seconds)]);
        }
        let limits = SolveWithin::CHOICES.iter().map(|(_, limit)| limit.micros() / 1_000_000);
        all.extend(limits.map(within));
        all.push(format!("{SOLVE_TIME} AS solve_time"));
        for expression in all {
            assert!(projections.contains(&flat(&expression)), "{expression}");
        }
    }
}
