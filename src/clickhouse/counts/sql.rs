//! The query of a question, in the shapes that the projections answer.
//!
//! A query is the sum of parts, each of which one projection answers:
//!
//! | part | counts by | projection |
//! | --- | --- | --- |
//! | events | the event's time | `days` or `quarter_hours` |
//! | pairs | the serve's time | `days` or `solve_times` |
//! | answered open solves | the solve's time | `days` or `solve_times` |
//! | pending | the serve's time | `quarter_hours` and `solve_times` |
//! | odd quarter hours, which a bucket or the range cuts | the same | none: from rows |

use std::collections::BTreeSet;
use std::fmt::Write as _;

use uuid::Uuid;

use super::expressions::{
    BEFORE_SERVE, CHALLENGES, DAY_SECONDS, OPEN_MICROS, OPEN_SOLVES, QUARTER_HOUR_SECONDS, RETRIES, SERVE_MICROS,
    SERVED, SOLVE_TIME, SOLVED, SOLVED_AGAIN, event_number, open_number, serve_number, within,
};
use crate::statistics::solve_time_bucket;

const MICROS: i64 = 1_000_000;
const DAY_MICROS: i64 = DAY_SECONDS * MICROS;
const QUARTER_HOUR_MICROS: i64 = QUARTER_HOUR_SECONDS * MICROS;

/// Rows that ClickHouse sends at once; the driver queues 32 blocks of them.
const BLOCK_ROWS: usize = 2_048;

/// And with solve times, some kilobytes each.
const BLOCK_ROWS_OF_SOLVE_TIMES: usize = 128;

/// Rows that ClickHouse reads at once, its own default: the size of the blocks that it sends would hold for reading too,
/// which takes ten times as long.
const READ_BLOCK_ROWS: usize = 65_409;

/// Odd quarter hours that are looked for one by one.
const ODD_RANGES_MAX: usize = 8;

/// A count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Column {
    Served,
    Solved,
    Retries,
    Challenges,
    SolvedAgain,
    OpenSolves,
    /// By the time of the solve.
    OpenSolvesAnswered,
    Pairs,
    /// Pairs whose solve time is within the limit.
    PairsWithin,
    PairsBeforeServe,
    Pending,
    SolveTimes,
}

impl Column {
    pub const ALL: [Column; 12] = [
        Column::Served,
        Column::Solved,
        Column::Retries,
        Column::Challenges,
        Column::SolvedAgain,
        Column::OpenSolves,
        Column::OpenSolvesAnswered,
        Column::Pairs,
        Column::PairsWithin,
        Column::PairsBeforeServe,
        Column::Pending,
        Column::SolveTimes,
    ];

    /// Those that are numbers: all but the last one.
    pub const NUMBERS: usize = Column::ALL.len() - 1;

    /// Its name in an answer of ClickHouse.
    pub const fn name(self) -> &'static str {
        match self {
            Column::Served => "served",
            Column::Solved => "solved",
            Column::Retries => "retries",
            Column::Challenges => "challenges",
            Column::SolvedAgain => "solved_again",
            Column::OpenSolves => "open_solves",
            Column::OpenSolvesAnswered => "open_solves_answered",
            Column::Pairs => "pairs",
            Column::PairsWithin => "pairs_within",
            Column::PairsBeforeServe => "pairs_before_serve",
            Column::Pending => "pending",
            Column::SolveTimes => "solve_times",
        }
    }

    /// Its value in a part that does not count it.
    fn nothing(self) -> &'static str {
        match self {
            Column::SolveTimes => "CAST(map(), 'Map(UInt16, UInt64)')",
            _ => "toInt64(0)",
        }
    }
}

/// Where buckets begin, in microseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Starts {
    /// One bucket for everything.
    All,
    /// The days of UTC.
    Days,
    /// Each of these, ascending; the first one is not after the range begins.
    List(Vec<i64>),
}

/// The counts that are asked for, and of which events.
#[derive(Debug, Clone)]
pub struct Counting {
    /// Only these sites; empty means all.
    pub site_ids: Vec<Uuid>,
    /// Whether sites are told apart.
    pub by_site: bool,
    /// The range, in microseconds since 1970.
    pub from: Option<i64>,
    pub to: Option<i64>,
    pub starts: Starts,
    pub columns: BTreeSet<Column>,
    /// The limit of [`Column::PairsWithin`], one of those for which `days` has counts.
    pub limit_seconds: i64,
    /// First serves from this quarter hour on are pending while nothing answers them.
    pub pending_from: Option<i64>,
    /// The arrival months that are stored, as `toYYYYMM` has them. A pair whose serve was dropped is not counted.
    pub months: Vec<u32>,
    pub rows_max: usize,
}

/// The rows of which a part is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Days,
    QuarterHours,
    /// Of the odd quarter hours.
    Rows,
}

/// One of the times by which rows are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Clock {
    /// The event's own.
    Event,
    /// Of the serve of a pair.
    Serve,
    /// Of an open solve that the row's serve answered.
    Open,
}

impl Clock {
    /// Its day or quarter hour, as the projections have it.
    fn number(self, seconds: i64) -> String {
        match self {
            Clock::Event => event_number(seconds),
            Clock::Serve => serve_number(seconds),
            Clock::Open => open_number(seconds),
        }
    }

    fn micros(self) -> &'static str {
        match self {
            Clock::Event => "toUnixTimestamp64Micro(time)",
            Clock::Serve => SERVE_MICROS,
            Clock::Open => OPEN_MICROS,
        }
    }
}

impl Level {
    fn seconds(self) -> i64 {
        match self {
            Level::Days => DAY_SECONDS,
            Level::QuarterHours | Level::Rows => QUARTER_HOUR_SECONDS,
        }
    }

    fn micros(self) -> i64 {
        self.seconds() * MICROS
    }
}

impl Counting {
    /// The query; its rows are in no order.
    pub fn sql(&self) -> String {
        let mut parts = Vec::new();
        let level = self.level();
        let levels = match self.odd().is_empty() {
            true => vec![level],
            false => vec![level, Level::Rows],
        };
        for level in levels {
            parts.extend(self.events(level));
            parts.extend(self.pairs(level));
            parts.extend(self.answered_open_solves(level));
        }
        parts.extend(self.pending());
        let sums = self.columns.iter().map(|column| match column {
            Column::SolveTimes => "toString(sumMap(solve_times)) AS solve_times".to_string(),
            column => format!("toInt64(sum({0})) AS {0}", column.name()),
        });
        let block_rows = match self.has(Column::SolveTimes) {
            true => BLOCK_ROWS_OF_SOLVE_TIMES,
            false => BLOCK_ROWS,
        };
        format!(
            "SELECT counted_bucket AS bucket, counted_site AS site, {} FROM ({}) GROUP BY counted_bucket, counted_site \
             LIMIT {} SETTINGS max_block_size = {block_rows}",
            sums.collect::<Vec<_>>().join(", "),
            parts.join(" UNION ALL "),
            self.rows_max + 1,
        )
    }

    fn has(&self, column: Column) -> bool {
        self.columns.contains(&column)
    }

    /// The coarsest level whose boundaries include all that are asked for.
    fn level(&self) -> Level {
        let whole = |micros: i64| micros % DAY_MICROS == 0;
        let is_whole = self.from.into_iter().chain(self.to).all(whole)
            && match &self.starts {
                Starts::All | Starts::Days => true,
                Starts::List(starts) => starts.iter().all(|start| whole(*start)),
            };
        if is_whole { Level::Days } else { Level::QuarterHours }
    }

    /// The numbers of the quarter hours that the range or a bucket cuts.
    fn odd(&self) -> BTreeSet<i64> {
        let starts = match &self.starts {
            Starts::All | Starts::Days => &[][..],
            Starts::List(starts) => starts,
        };
        let edges = self.from.into_iter().chain(self.to).chain(starts.iter().copied());
        let cut = edges.filter(|edge| edge % QUARTER_HOUR_MICROS != 0);
        cut.map(|edge| edge.div_euclid(QUARTER_HOUR_MICROS)).collect()
    }

    /// From the first to the last of the odd quarter hours.
    fn odd_range(&self) -> (Option<i64>, Option<i64>) {
        let odd = self.odd();
        let (first, last) = (odd.first().copied().unwrap_or(0), odd.last().copied().unwrap_or(0));
        (
            Some(first * QUARTER_HOUR_MICROS),
            Some((last + 1) * QUARTER_HOUR_MICROS),
        )
    }

    /// Events by their own time.
    fn events(&self, level: Level) -> Option<String> {
        let mut values: Vec<(Column, &str)> = [
            (Column::Served, SERVED),
            (Column::Solved, SOLVED),
            (Column::Retries, RETRIES),
            (Column::Challenges, CHALLENGES),
            (Column::SolvedAgain, SOLVED_AGAIN),
            (Column::OpenSolves, OPEN_SOLVES),
        ]
        .into();
        let pending = self.pending_from.map(|from| {
            let micros = Clock::Event.micros();
            format!("countIf((role = 'first') AND ({micros} >= {from}))")
        });
        if let (Level::Rows, Some(pending)) = (level, &pending) {
            values.push((Column::Pending, pending));
        }
        self.part(level, Clock::Event, &values, self.range(), "")
    }

    /// Pairs by the time of the serve.
    fn pairs(&self, level: Level) -> Option<String> {
        let columns = [
            Column::Pairs,
            Column::PairsWithin,
            Column::PairsBeforeServe,
            Column::SolveTimes,
        ];
        let level = match level {
            Level::Days if self.has(Column::SolveTimes) => Level::QuarterHours,
            level => level,
        };
        let is_asked = columns.into_iter().any(|column| self.has(column));
        if level == Level::QuarterHours && is_asked {
            return Some(self.pairs_by_quarter_hours());
        }
        let within = within(self.limit_seconds);
        let solve_times = format!("sumMap(map({SOLVE_TIME}, toUInt64(1)))");
        let mut values = vec![
            (Column::Pairs, "count()"),
            (Column::PairsWithin, &within),
            (Column::PairsBeforeServe, BEFORE_SERVE),
            (Column::SolveTimes, &solve_times),
        ];
        let pending = self
            .pending_from
            .map(|from| format!("-countIf(({SERVE_MICROS}) >= {from})"));
        if let (Level::Rows, Some(pending)) = (level, &pending) {
            values.push((Column::Pending, pending));
        }
        self.part(level, Clock::Serve, &values, self.range(), &self.serve_is_stored(level))
    }

    /// The same from `solve_times`, whose rows have one bucket of solve times each.
    fn pairs_by_quarter_hours(&self) -> String {
        let level = Level::QuarterHours;
        let beyond = solve_time_bucket(self.limit_seconds * MICROS + 1);
        let values = self.columns.iter().map(|column| {
            let value = match column {
                // Each bucket comes once, so a list of pairs is a map of them, and made in half the time.
                Column::SolveTimes => "CAST((groupArray(solve_time), groupArray(pair_count)), 'Map(UInt16, UInt64)')",
                Column::Pairs => "toInt64(sum(pair_count))",
                Column::PairsWithin => &format!("toInt64(sumIf(pair_count, solve_time < {beyond}))"),
                Column::PairsBeforeServe => "toInt64(sum(before_count))",
                other => other.nothing(),
            };
            format!("{value} AS {}", column.name())
        });
        format!(
            "SELECT counted_bucket, counted_site, {} FROM (SELECT {} AS counted_bucket, {} AS counted_site, \
             {SOLVE_TIME} AS solve_time, toUInt64(count()) AS pair_count, {BEFORE_SERVE} AS before_count \
             FROM events WHERE {} GROUP BY counted_bucket, counted_site, solve_time) \
             GROUP BY counted_bucket, counted_site SETTINGS max_block_size = {READ_BLOCK_ROWS}",
            values.collect::<Vec<_>>().join(", "),
            self.bucket(level, Clock::Serve),
            self.site(),
            self.condition(level, Clock::Serve, self.range(), &self.serve_is_stored(level)),
        )
    }

    /// Open solves that a serve answered, by the time of the solve.
    fn answered_open_solves(&self, level: Level) -> Option<String> {
        let is_stored = format!(" AND other_month IN ({})", self.months());
        let is_open = match level {
            Level::Rows => format!(" AND type = 'serve'{is_stored}"),
            Level::Days | Level::QuarterHours => is_stored,
        };
        let values = [(Column::OpenSolvesAnswered, "count()")];
        self.part(level, Clock::Open, &values, self.range(), &is_open)
    }

    /// First serves that may still be answered in time: those of the last quarter hours, without those in a pair.
    fn pending(&self) -> Vec<String> {
        let (from, to) = self.range();
        let Some(pending_from) = self.pending_from.filter(|_| self.has(Column::Pending)) else {
            return Vec::new();
        };
        let range = (Some(from.map_or(pending_from, |from| from.max(pending_from))), to);
        if to.is_some_and(|to| to <= pending_from) {
            return Vec::new();
        }
        let (level, stored) = (Level::QuarterHours, self.serve_is_stored(Level::QuarterHours));
        let first = self.part(level, Clock::Event, &[(Column::Pending, CHALLENGES)], range, "");
        let paired = self.part(level, Clock::Serve, &[(Column::Pending, "-count()")], range, &stored);
        first.into_iter().chain(paired).collect()
    }

    fn range(&self) -> (Option<i64>, Option<i64>) {
        (self.from, self.to)
    }

    /// A part that counts some columns; `None` if nobody asks for one of them.
    fn part(
        &self,
        level: Level,
        clock: Clock,
        values: &[(Column, &str)],
        range: (Option<i64>, Option<i64>),
        more: &str,
    ) -> Option<String> {
        values.iter().find(|(column, _)| self.has(*column))?;
        let counts = self.columns.iter().map(|column| {
            let value = values.iter().find(|(known, _)| known == column);
            match (column, value) {
                (Column::SolveTimes, Some((_, value))) => format!("{value} AS solve_times"),
                (column, Some((_, value))) => format!("toInt64({value}) AS {}", column.name()),
                (column, None) => format!("{} AS {}", column.nothing(), column.name()),
            }
        });
        Some(format!(
            "SELECT {} AS counted_bucket, {} AS counted_site, {} FROM events WHERE {} \
             GROUP BY counted_bucket, counted_site SETTINGS max_block_size = {READ_BLOCK_ROWS}",
            self.bucket(level, clock),
            self.site(),
            counts.collect::<Vec<_>>().join(", "),
            self.condition(level, clock, range, more),
        ))
    }

    fn site(&self) -> &'static str {
        match self.by_site {
            true => "site_id",
            false => "toUUID('00000000-0000-0000-0000-000000000000')",
        }
    }

    /// An instant of the bucket of a row.
    fn bucket(&self, level: Level, clock: Clock) -> String {
        let (number, unit) = match level {
            Level::Rows => (clock.micros().to_string(), 1),
            level => (clock.number(level.seconds()), level.micros()),
        };
        match &self.starts {
            Starts::All => "toInt64(0)".to_string(),
            Starts::Days => format!("toInt64(intDiv(({number}) * {unit}, {DAY_MICROS}) * {DAY_MICROS})"),
            Starts::List(starts) => {
                // A start within a quarter hour begins with the next one: the one that it cuts is counted from rows.
                let numbers = starts.iter().map(|start| -(-start).div_euclid(unit));
                format!("toInt64(roundDown({number}, {}) * {unit})", array(numbers))
            }
        }
    }

    fn condition(&self, level: Level, clock: Clock, range: (Option<i64>, Option<i64>), more: &str) -> String {
        let mut condition = match level {
            Level::Rows => self.odd_condition(clock),
            level => self.whole_condition(level, clock, range),
        };
        condition += &site_condition(&self.site_ids);
        if level != Level::Days {
            let range = if level == Level::Rows { self.odd_range() } else { range };
            condition += &self.months_condition(clock, range);
        }
        condition + more
    }

    /// The months of arrival that have anything of the range. Sites come first in a projection, so it finds the range of
    /// one site and not of all, and no time of an event bounds its arrival; the days, of which there are few, tell.
    fn months_condition(&self, clock: Clock, (from, to): (Option<i64>, Option<i64>)) -> String {
        if from.is_none() && to.is_none() {
            return String::new();
        }
        let day = clock.number(DAY_SECONDS);
        let mut condition = format!("{day} >= {}", from.map_or(0, |from| from.div_euclid(DAY_MICROS)));
        if let Some(to) = to {
            let _ = write!(condition, " AND {day} <= {}", to.div_euclid(DAY_MICROS));
        }
        condition += &site_condition(&self.site_ids);
        format!(" AND _partition_id IN (SELECT _partition_id FROM events WHERE {condition} GROUP BY _partition_id)")
    }

    /// The days or quarter hours that are wholly in the range and in one bucket.
    fn whole_condition(&self, level: Level, clock: Clock, (from, to): (Option<i64>, Option<i64>)) -> String {
        let (number, unit) = (clock.number(level.seconds()), level.micros());
        let first = from.map_or(0, |from| -(-from).div_euclid(unit));
        let mut condition = format!("{number} >= {first}");
        if let Some(to) = to {
            let _ = write!(condition, " AND {number} < {}", to.div_euclid(unit));
        }
        let odd = self.odd();
        if !odd.is_empty() && level == Level::QuarterHours {
            let _ = write!(condition, " AND NOT has({}, {number})", array(odd));
        }
        condition
    }

    /// The odd quarter hours, as far as they are in the range.
    fn odd_condition(&self, clock: Clock) -> String {
        let (odd, micros) = (self.odd(), clock.micros());
        let mut condition = format!(
            "has({}, intDiv({micros}, {QUARTER_HOUR_MICROS}))",
            array(odd.iter().copied())
        );
        if let Some(from) = self.from {
            let _ = write!(condition, " AND ({micros}) >= {from}");
        }
        if let Some(to) = self.to {
            let _ = write!(condition, " AND ({micros}) < {to}");
        }
        if clock != Clock::Event {
            return format!("other_month != 0 AND {condition}");
        }
        // On the column, so that the key of the table finds a few of them; of many, each would be a part of the query.
        let (first, last) = (odd.first().copied().unwrap_or(0), odd.last().copied().unwrap_or(0));
        let ranges = match odd.len() {
            0..=ODD_RANGES_MAX => odd.iter().map(|number| (*number, number + 1)).collect(),
            _ => vec![(first, last + 1)],
        };
        let instant = |number: i64| {
            let micros = number * QUARTER_HOUR_MICROS;
            format!("fromUnixTimestamp64Micro(toInt64({micros}), 'UTC')")
        };
        let ranges = ranges
            .into_iter()
            .map(|(begin, end)| format!("(time >= {} AND time < {})", instant(begin), instant(end)));
        format!("{condition} AND ({})", ranges.collect::<Vec<_>>().join(" OR "))
    }

    /// Pairs whose serve is stored: it is in the row itself, or its month was not dropped.
    fn serve_is_stored(&self, level: Level) -> String {
        let is_here = match level {
            Level::Rows => "type = 'serve'".to_string(),
            level => format!("{} >= 0", open_number(level.seconds())),
        };
        format!(" AND ({is_here} OR other_month IN ({}))", self.months())
    }

    fn months(&self) -> String {
        let months: Vec<String> = self.months.iter().map(u32::to_string).collect();
        // A table without months has no rows, but an empty list is an error.
        if months.is_empty() {
            "0".to_string()
        } else {
            months.join(", ")
        }
    }
}

/// ` AND site_id IN (...)`; empty for all sites.
pub fn site_condition(site_ids: &[Uuid]) -> String {
    let sites: Vec<String> = site_ids.iter().map(|id| format!("'{id}'")).collect();
    match sites.is_empty() {
        true => String::new(),
        false => format!(" AND site_id IN ({})", sites.join(", ")),
    }
}

/// As one literal: each element of a list would count against `max_ast_elements`.
fn array(numbers: impl IntoIterator<Item = i64>) -> String {
    let numbers: Vec<String> = numbers.into_iter().map(|number| number.to_string()).collect();
    format!("CAST('[{}]', 'Array(Int64)')", numbers.join(","))
}
