//! The question that a report answers, and its parameters.

use std::borrow::Cow;
use std::fmt;

use chrono::Weekday;
use uuid::Uuid;

use super::buckets::{Buckets, Interval};
use super::choice::Choice;
use super::comparison::{Compare, ResolvedComparison};
use super::instant::whole_quarter_hour;
use super::metrics::{Metric, Needs};
use super::moment::{Moment, parse_site_id};
use super::parameters::{By, Fill, Order, SolveWithin, parse_metrics, parse_top};
use super::period::{Extent, Period, Range, RangeChoice};
use super::zone::Zone;
use crate::event::ERRORS_MAX;

/// All parameters, in the order in which people read them.
pub const PARAMETERS: [&str; 14] = [
    "site_id",
    "from",
    "to",
    "period",
    "interval",
    "timezone",
    "week_start",
    "by",
    "top",
    "order",
    "metrics",
    "fill",
    "compare",
    "solve_within",
];

/// What a report is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Query {
    /// Only these sites; empty means all.
    pub site_ids: Vec<Uuid>,
    pub range: RangeChoice,
    pub interval: Interval,
    pub zone: Zone,
    /// Monday, Sunday or Saturday.
    pub week_start: Weekday,
    pub by: By,
    /// Only this number of sites have rows of their own, those with most serves.
    pub top: Option<u8>,
    pub order: Order,
    /// Besides `served` and `solved`; `None` for these alone.
    pub metrics: Option<Vec<Metric>>,
    pub fill: Fill,
    pub compare: Option<Compare>,
    pub solve_within: SolveWithin,
    /// Whether anything is given besides `site_id` and dates: the answer has more members then.
    pub is_extended: bool,
}

impl Default for Query {
    /// Everything, by day (UTC) and site.
    fn default() -> Query {
        Query {
            site_ids: Vec::new(),
            range: RangeChoice::default(),
            interval: Interval::default(),
            zone: Zone::default(),
            week_start: Weekday::Mon,
            by: By::default(),
            top: None,
            order: Order::default(),
            metrics: None,
            fill: Fill::default(),
            compare: None,
            solve_within: SolveWithin::default(),
            is_extended: false,
        }
    }
}

/// A question whose range is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolved {
    pub range: Range,
    /// `None` without `compare`, or as long as `complete_through` is not known.
    pub comparison: Option<ResolvedComparison>,
    /// First serves from this instant on are pending if they have no answer; `None` as long as `complete_through` is
    /// not known. It is a whole quarter hour, so that they are counted from aggregates.
    pub pending_from: Option<i64>,
}

/// A parameter that cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongParameter {
    /// As it was given, cut after [`NAME_CHARS_MAX`].
    pub name: String,
    /// One short phrase that says what would be right.
    pub detail: String,
}

const NAME_CHARS_MAX: usize = 64;

impl fmt::Display for WrongParameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.detail)
    }
}

impl Query {
    /// Reads decoded names and values.
    ///
    /// # Errors
    /// Each parameter that is wrong, at most [`ERRORS_MAX`].
    pub fn parse<'a>(pairs: impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)>) -> Result<Query, Vec<WrongParameter>> {
        let (mut given, mut wrong) = (Given::default(), Vec::new());
        for (name, value) in pairs {
            if let Err(detail) = given.read(&name, &value) {
                wrong.push(WrongParameter::new(&name, detail));
            }
            if wrong.len() == ERRORS_MAX {
                return Err(wrong);
            }
        }
        let conflicts = given.conflicts();
        // What is wrong by itself says nothing about the others.
        let is_news = |(name, _): &(&str, _)| wrong.iter().all(|wrong| wrong.name != *name);
        let conflicts: Vec<_> = conflicts.into_iter().filter(is_news).collect();
        wrong.extend(
            conflicts
                .into_iter()
                .map(|(name, detail)| WrongParameter::new(name, detail)),
        );
        if wrong.is_empty() {
            Ok(given.into_query())
        } else {
            Err(wrong)
        }
    }

    /// Whether it is about days of UTC and sites alone. Such an answer never changes its form.
    pub fn is_plain(&self) -> bool {
        !self.is_extended
    }

    /// A question about the days on which its sites ever had events, by its zone.
    pub fn days_with_events(&self) -> Query {
        Query {
            site_ids: self.site_ids.clone(),
            zone: self.zone,
            by: By::None,
            is_extended: true,
            ..Query::default()
        }
    }

    /// The buckets of its rows.
    pub fn buckets(&self) -> Buckets {
        Buckets::new(self.interval, self.zone, self.week_start)
    }

    /// The metrics of a row: `served`, `solved`, and the others in the order in which they were asked for.
    pub fn columns(&self) -> Vec<Metric> {
        let asked = self.metrics.iter().flatten().copied();
        let others = asked.filter(|metric| !matches!(metric, Metric::Served | Metric::Solved));
        [Metric::Served, Metric::Solved].into_iter().chain(others).collect()
    }

    /// The counts that the answer uses, besides `served` and `solved`.
    pub fn needs(&self) -> Needs {
        let mut needs = Needs::default();
        for metric in self.columns() {
            metric.add_needs(&mut needs);
        }
        needs
    }

    /// Makes instants of the range. Now and `complete_through` are by ClickHouse's clock, read with the counts.
    pub fn resolve(&self, now_micros: i64, complete_through_micros: Option<i64>) -> Resolved {
        let range = self.range.range(&self.buckets(), self.zone, now_micros);
        let comparison = self
            .compare
            .zip(complete_through_micros)
            .and_then(|(compare, through)| {
                let extent = Extent::new(self.range, self.zone, now_micros);
                ResolvedComparison::new(compare, extent, range, self.zone, through)
            });
        Resolved {
            range,
            comparison,
            pending_from: complete_through_micros
                .map(|through| whole_quarter_hour(through - self.solve_within.micros())),
        }
    }
}

impl WrongParameter {
    fn new(name: &str, detail: String) -> WrongParameter {
        WrongParameter {
            name: name.chars().take(NAME_CHARS_MAX).collect(),
            detail,
        }
    }
}

/// The parameters that are given, each right by itself.
#[derive(Default)]
struct Given {
    /// Those with a wrong value too.
    names: Vec<&'static str>,
    site_ids: Vec<Uuid>,
    from: Option<Moment>,
    to: Option<Moment>,
    period: Option<Period>,
    interval: Option<Interval>,
    zone: Option<Zone>,
    week_start: Option<Weekday>,
    by: Option<By>,
    top: Option<u8>,
    order: Option<Order>,
    metrics: Option<Vec<Metric>>,
    fill: Option<Fill>,
    compare: Option<Compare>,
    solve_within: Option<SolveWithin>,
}

impl Given {
    fn read(&mut self, name: &str, value: &str) -> Result<(), String> {
        self.names.extend(PARAMETERS.into_iter().find(|known| *known == name));
        match name {
            "site_id" => self.site_ids.push(parse_site_id(value)?),
            "from" => set(&mut self.from, Moment::parse(value))?,
            "to" => set(&mut self.to, Moment::parse(value))?,
            "period" => set(&mut self.period, Period::parse(value))?,
            "interval" => set(&mut self.interval, Interval::parse(value))?,
            "timezone" => set(&mut self.zone, Zone::parse(value))?,
            "week_start" => set(&mut self.week_start, Weekday::parse(value))?,
            "by" => set(&mut self.by, By::parse(value))?,
            "top" => set(&mut self.top, parse_top(value))?,
            "order" => set(&mut self.order, Order::parse(value))?,
            "metrics" => set(&mut self.metrics, parse_metrics(value))?,
            "fill" => set(&mut self.fill, Fill::parse(value))?,
            "compare" => set(&mut self.compare, Compare::parse(value))?,
            "solve_within" => set(&mut self.solve_within, SolveWithin::parse(value))?,
            _ => {
                let (last, others) = PARAMETERS.split_last().unwrap_or((&"", &[]));
                return Err(format!("unknown; expected {} or {last}", others.join(", ")));
            }
        }
        Ok(())
    }

    fn is_given(&self, name: &str) -> bool {
        self.names.contains(&name)
    }

    /// The parameters that do not go together.
    fn conflicts(&self) -> Vec<(&'static str, String)> {
        const BOUNDED: &str = "needs a range with both ends: from and to, or a period other than all";
        let mut conflicts = Vec::new();
        let has_bound = self.is_given("from") || self.is_given("to");
        if self.is_given("period") && has_bound {
            conflicts.push(("period", "given with from or to; leave out one of them".to_string()));
        }
        if !self.is_in_order() {
            conflicts.push(("from", OUT_OF_ORDER.to_string()));
        }
        if self.is_given("top") && self.by == Some(By::None) {
            conflicts.push(("top", "needs by=site".to_string()));
        }
        let is_bounded = match self.period {
            Some(period) => RangeChoice::Period(period).is_bounded(),
            None => self.is_given("period") || self.is_given("from") && self.is_given("to"),
        };
        if self.fill == Some(Fill::Zero) && !is_bounded {
            conflicts.push(("fill", BOUNDED.to_string()));
        }
        if self.compare.is_some() && !is_bounded {
            conflicts.push(("compare", BOUNDED.to_string()));
        }
        conflicts
    }

    /// Whether anything can be between the bounds, as far as they are right.
    fn is_in_order(&self) -> bool {
        let zone = self.zone.unwrap_or_default();
        match (self.from, self.to) {
            // A day that was skipped has no instant, and is no mistake.
            (Some(Moment::Date(from)), Some(Moment::Date(to))) => from < to,
            (Some(from), Some(to)) => from.micros(zone) < to.micros(zone),
            _ => true,
        }
    }

    fn into_query(self) -> Query {
        let is_date = |bound: &Option<Moment>| !matches!(bound, Some(Moment::Instant(_)));
        let is_old = |name: &&str| ["site_id", "from", "to"].contains(name);
        let is_plain = self.names.iter().all(is_old) && is_date(&self.from) && is_date(&self.to);
        let bounds = RangeChoice::Bounds {
            from: self.from,
            to: self.to,
        };
        Query {
            site_ids: self.site_ids,
            range: self.period.map_or(bounds, RangeChoice::Period),
            interval: self.interval.unwrap_or_default(),
            zone: self.zone.unwrap_or_default(),
            week_start: self.week_start.unwrap_or(Weekday::Mon),
            by: self.by.unwrap_or_default(),
            top: self.top,
            order: self.order.unwrap_or_default(),
            metrics: self.metrics,
            fill: self.fill.unwrap_or_default(),
            compare: self.compare,
            solve_within: self.solve_within.unwrap_or_default(),
            is_extended: !is_plain,
        }
    }
}

/// The reason against bounds that are not in order.
pub const OUT_OF_ORDER: &str = "from must be before to; to is the day after the last one";

fn set<T>(place: &mut Option<T>, parsed: Result<T, String>) -> Result<(), String> {
    if place.is_some() {
        return Err("given more than once".to_string());
    }
    *place = Some(parsed?);
    Ok(())
}

#[cfg(test)]
mod tests;
