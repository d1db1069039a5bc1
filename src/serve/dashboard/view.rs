//! The view that an address asks for: its question, the order of its table, and how often it is loaded again. Pure.

use std::borrow::Cow;

use form_urlencoded::Serializer;
use uuid::Uuid;

use crate::event::ERRORS_MAX;
use crate::serve::chart;
use crate::serve::problem::ParameterError;
use crate::serve::request::query::set_once;
use crate::statistics::{Choice as _, Interval, Metric, Query, WrongParameter};

/// The parameters of the question that the page takes; the page itself decides on the others.
const QUESTION: [&str; 9] = [
    "site_id",
    "from",
    "to",
    "period",
    "interval",
    "timezone",
    "week_start",
    "compare",
    "solve_within",
];

/// The values of parameters that are not given.
pub const DEFAULTS: [(&str, &str); 5] = [
    // Whole weeks, so that the period before has the same days of the week.
    ("period", "28d"),
    ("timezone", "UTC"),
    ("week_start", "monday"),
    ("compare", "previous_period"),
    ("solve_within", "1h"),
];

/// Seconds after which the page may be loaded again. Shorter ones are a load, longer ones are a new visit.
pub const REFRESH_SECONDS: [&str; 4] = ["10", "30", "60", "300"];

/// Characters of the text that a site is looked up by: more than a name has.
const SEARCH_CHARS_MAX: usize = 100;

/// Sites that have a row of their own: more are a list to search, and 100 kB are to be enough for a page.
const SITES_SHOWN_MAX: &str = "50";

/// Sites that a view may name: each link of the page names all of them.
const SITES_NAMED_MAX: usize = 20;

/// A view of the dashboard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The parameters of the question as they were given.
    question: Vec<(String, String)>,
    /// A name or a UUID to find a site by.
    pub search: Option<String>,
    pub sort: Sort,
    /// `None`: only by hand.
    pub refresh_seconds: Option<&'static str>,
    /// Whether another address, [`View::address`], shows the same and is shorter: a form sends empty fields too.
    pub is_long: bool,
}

/// The column that sites are ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sort {
    pub column: SiteColumn,
    pub is_descending: bool,
}

/// A column of the table of sites.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SiteColumn {
    Name,
    Challenges,
    SolveRate,
    SolveTime,
    Unsolved,
}

impl SiteColumn {
    pub const ALL: [SiteColumn; 5] = [
        SiteColumn::Name,
        SiteColumn::Challenges,
        SiteColumn::SolveRate,
        SiteColumn::SolveTime,
        SiteColumn::Unsolved,
    ];

    pub fn name(self) -> &'static str {
        match self {
            SiteColumn::Name => "name",
            SiteColumn::Challenges => "challenges",
            SiteColumn::SolveRate => "solve_rate",
            SiteColumn::SolveTime => "solve_time_p50",
            SiteColumn::Unsolved => "unsolved",
        }
    }
}

impl Sort {
    /// Sites with most challenges first.
    pub const DEFAULT: Sort = Sort {
        column: SiteColumn::Challenges,
        is_descending: true,
    };

    fn parse(text: &str) -> Result<Sort, String> {
        let (name, is_descending) = text.strip_prefix('-').map_or((text, false), |name| (name, true));
        let column = SiteColumn::ALL.into_iter().find(|column| column.name() == name);
        let column = column.ok_or_else(|| {
            let names = SiteColumn::ALL.map(SiteColumn::name).join(", ");
            format!("not one of {names}, each with - before it for the reverse order")
        })?;
        Ok(Sort { column, is_descending })
    }

    pub fn text(self) -> String {
        let sign = if self.is_descending { "-" } else { "" };
        format!("{sign}{}", self.column.name())
    }

    /// The order that a click on the head of a column asks for: the most first, names from A, and the reverse next.
    pub fn after_click(self, column: SiteColumn) -> Sort {
        Sort {
            column,
            is_descending: match self.column == column {
                true => !self.is_descending,
                false => column != SiteColumn::Name,
            },
        }
    }
}

impl View {
    /// Reads a query.
    ///
    /// # Errors
    /// Each parameter that is wrong.
    pub fn parse(query: &str) -> Result<View, Vec<ParameterError>> {
        let (mut question, mut errors) = (Vec::<(String, String)>::new(), Vec::new());
        let (mut search, mut sort, mut refresh_seconds) = (None, None, None);
        let mut is_long = false;
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let is_known = QUESTION.contains(&&*name) || ["site", "sort", "refresh"].contains(&&*name);
            let outcome = match &*name {
                _ if value.is_empty() && is_known => {
                    is_long = true;
                    Ok(())
                }
                "site" => set_once(&mut search, Ok(value.trim().chars().take(SEARCH_CHARS_MAX).collect())),
                "sort" => set_once(&mut sort, Sort::parse(&value)),
                "refresh" => {
                    let found = REFRESH_SECONDS.into_iter().find(|seconds| *seconds == value);
                    let parsed = found.ok_or_else(|| format!("not one of {}", REFRESH_SECONDS.join(", ")));
                    set_once(&mut refresh_seconds, parsed)
                }
                "site_id" if question.iter().any(|(_, known)| *known == *value) => {
                    is_long = true;
                    Ok(())
                }
                "interval" if value == "all" => Err("not one of hour, day, week, month".to_string()),
                _ if is_known => {
                    let is_again = question.iter().any(|(known, _)| *known == *name);
                    question.push((name.to_string(), value.to_string()));
                    match is_again && name != "site_id" {
                        true => Err("given more than once".to_string()),
                        false => Ok(()),
                    }
                }
                _ => Err(format!(
                    "unknown; expected site, {}, sort or refresh",
                    QUESTION.join(", ")
                )),
            };
            errors.extend(outcome.err().map(|detail| ParameterError::new(&name, detail)));
        }
        let has = |wanted: &str| question.iter().any(|(name, _)| name == wanted);
        let sites = question.iter().filter(|(name, _)| name == "site_id").count();
        if sites > SITES_NAMED_MAX {
            let detail = format!("more than {SITES_NAMED_MAX} sites; GET /v1/report answers about more");
            errors.push(ParameterError::new("site_id", detail));
        }
        errors.extend(question.iter().flat_map(|(name, value)| check_alone(name, value)));
        // A form sends both; days count more than a period.
        if has("period") && (has("from") || has("to")) {
            question.retain(|(name, _)| name != "period");
            is_long = true;
        }
        let view = View {
            question,
            search: search.filter(|text: &String| !text.is_empty()),
            sort: sort.unwrap_or(Sort::DEFAULT),
            refresh_seconds,
            is_long,
        };
        let wrong = view.query("by=none").err().unwrap_or_default().into_iter();
        let is_news = |error: &ParameterError| {
            errors
                .iter()
                .all(|known: &ParameterError| known.parameter != error.parameter)
        };
        let wrong: Vec<_> = wrong.filter(is_news).collect();
        errors.extend(wrong);
        errors.truncate(ERRORS_MAX);
        match errors.is_empty() {
            true => Ok(view),
            false => Err(errors),
        }
    }

    /// The value of a parameter of the question, by default that of [`DEFAULTS`].
    pub fn value(&self, name: &str) -> &str {
        let given = self.question.iter().find(|(given, _)| given == name);
        let default = || {
            let has_days = || self.question.iter().any(|(name, _)| name == "from" || name == "to");
            let default = DEFAULTS.into_iter().find(|(known, _)| *known == name);
            default
                .filter(|_| name != "period" || !has_days())
                .map(|(_, value)| value)
        };
        given
            .map(|(_, value)| value.as_str())
            .or_else(default)
            .unwrap_or_default()
    }

    /// The sites that are named.
    pub fn site_ids(&self) -> Vec<Uuid> {
        let named = self.question.iter().filter(|(name, _)| name == "site_id");
        named.filter_map(|(_, value)| Uuid::parse_str(value).ok()).collect()
    }

    /// The numbers over time, of all sites in one, by the interval that is chosen.
    pub fn trend_query(&self, site_ids: Vec<Uuid>) -> Query {
        let query = self.query("by=none");
        Query {
            site_ids,
            metrics: Some(chart::METRICS.to_vec()),
            ..query.unwrap_or_default()
        }
    }

    /// The interval that is chosen; `None` for one that fits.
    pub fn interval(&self) -> Option<Interval> {
        let chosen = Some(self.value("interval")).filter(|value| !value.is_empty());
        chosen.and_then(Interval::from_name)
    }

    /// The numbers of each site over the whole range.
    pub fn sites_query(&self, site_ids: Vec<Uuid>) -> Query {
        let query = self.query(&format!("by=site&top={SITES_SHOWN_MAX}"));
        Query {
            site_ids,
            metrics: Some([&chart::METRICS[..], &[Metric::SolveTimeP50]].concat()),
            interval: Interval::All,
            ..query.unwrap_or_default()
        }
    }

    /// The question with parameters of the page's own.
    fn query(&self, own: &str) -> Result<Query, Vec<ParameterError>> {
        let own: Vec<_> = form_urlencoded::parse(own.as_bytes()).collect();
        let given = self
            .question
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let period = [("period", self.value("period"))];
        let period = period.into_iter().filter(|(_, value)| !value.is_empty());
        let pairs = given
            .filter(|(name, _)| !["period", "compare"].contains(name))
            .chain(period);
        let pairs = pairs.map(|(name, value)| (Cow::Borrowed(name), Cow::Borrowed(value)));
        let pairs: Vec<_> = pairs.chain(own).collect();
        let query = Query::parse(pairs.iter().cloned());
        let compare = self.value("compare");
        let is_bounded = query.as_ref().is_ok_and(|query| query.range.is_bounded());
        // A range without an end has nothing to compare with, and the default is no mistake.
        let is_compared = compare != "none" && is_bounded;
        let query = match is_compared {
            false => query,
            true => Query::parse(pairs.into_iter().chain([("compare".into(), compare.into())])),
        };
        query.map_err(|wrong| {
            let own = |wrong: &WrongParameter| QUESTION.contains(&wrong.name.as_str());
            wrong.into_iter().filter(own).map(ParameterError::from).collect()
        })
    }

    /// The shortest address of this view with some parameters changed: a query that begins with `?`. `None` removes
    /// a parameter. Defaults are left out.
    pub fn address(&self, changes: &[(&str, Option<&str>)]) -> String {
        let is_changed = |name: &str| changes.iter().any(|(changed, _)| *changed == name);
        let mut pairs: Vec<(&str, Cow<'_, str>)> = Vec::new();
        for (name, value) in &self.question {
            pairs.push((name, value.into()));
        }
        pairs.extend((self.sort != Sort::DEFAULT).then(|| ("sort", self.sort.text().into())));
        pairs.extend(self.refresh_seconds.map(|seconds| ("refresh", seconds.into())));
        pairs.retain(|(name, _)| !is_changed(name));
        let added = changes
            .iter()
            .filter_map(|(name, value)| value.map(|value| (*name, value.into())));
        pairs.extend(added);
        let has_days = pairs.iter().any(|(name, _)| ["from", "to"].contains(name));
        let is_default = |(name, value): &(&str, Cow<'_, str>)| {
            DEFAULTS
                .iter()
                .any(|(known, default)| known == name && default == value)
                && (*name != "period" || !has_days)
        };
        pairs.retain(|pair| !is_default(pair));
        format!("?{}", Serializer::new(String::new()).extend_pairs(pairs).finish())
    }

    /// The parameters of the question of `GET /v1/report` that has the numbers of the chart.
    pub fn report_address(&self, interval: &str, more: &[(&str, &str)]) -> String {
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        for (name, value) in &self.question {
            if !["interval", "period", "compare"].contains(&name.as_str()) {
                pairs.push((name, value));
            }
        }
        let period = Some(self.value("period")).filter(|period| !period.is_empty());
        pairs.extend(period.map(|period| ("period", period)));
        pairs.push(("interval", interval));
        pairs.extend(more);
        Serializer::new(String::new()).extend_pairs(pairs).finish()
    }
}

/// The errors of a value by itself, also where the other parameters leave it out.
fn check_alone(name: &str, value: &str) -> Vec<ParameterError> {
    let pairs = match name {
        "period" => vec![("period", value)],
        "compare" if value != "none" => vec![("period", "7d"), ("compare", value)],
        _ => Vec::new(),
    };
    let pairs = pairs.into_iter().map(|(name, value)| (name.into(), value.into()));
    let wrong = Query::parse(pairs).err().into_iter().flatten();
    wrong.map(ParameterError::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(query: &str) -> View {
        View::parse(query).unwrap()
    }

    #[test]
    fn the_default_is_four_weeks_by_day() {
        let view = view("");
        assert_eq!(view.address(&[]), "?");
        assert_eq!(view.interval(), None);
        let query = view.trend_query(Vec::new());
        assert!(query.compare.is_some() && query.range.is_bounded() && !query.is_plain());
        assert_eq!(view.value("period"), "28d");
    }

    #[test]
    fn a_form_with_empty_fields_has_a_shorter_address() {
        let view = view("site=&period=28d&from=2026-01-01&to=&interval=&timezone=UTC&compare=none&refresh=");
        assert!(view.is_long);
        assert_eq!(view.address(&[]), "?from=2026-01-01&compare=none");
        assert_eq!(view.value("period"), "");
        assert!(view.trend_query(Vec::new()).compare.is_none());
    }

    #[test]
    fn an_address_changes_what_it_is_asked_to() {
        let view = view("period=7d&timezone=Europe/Berlin&sort=-solve_rate&refresh=60");
        assert_eq!(
            view.address(&[("period", Some("28d")), ("refresh", None), ("site_id", Some("a&b"))]),
            "?timezone=Europe%2FBerlin&sort=-solve_rate&site_id=a%26b"
        );
        let days = view.address(&[("period", None), ("from", Some("2026-01-01"))]);
        assert!(days.contains("from=2026-01-01") && !days.contains("period"), "{days}");
    }

    #[test]
    fn every_link_names_all_sites_so_they_are_few() {
        let sites = |count: u128| -> String {
            (0..count)
                .map(|n| format!("site_id={}&", uuid::Uuid::from_u128(n)))
                .collect()
        };
        assert_eq!(view(&sites(20)).site_ids().len(), 20);
        assert_eq!(View::parse(&sites(21)).unwrap_err()[0].parameter, "site_id");
        let twice = view(&sites(1).repeat(2));
        assert!(twice.is_long && twice.site_ids().len() == 1);
    }

    #[test]
    fn an_open_range_is_compared_with_nothing() {
        assert!(view("period=all").trend_query(Vec::new()).compare.is_none());
        assert!(view("from=2026-01-01").sites_query(Vec::new()).compare.is_none());
    }

    #[test]
    fn every_wrong_parameter_is_named() {
        let twice = View::parse("period=7d&period=28d").unwrap_err();
        assert_eq!((twice[0].parameter.as_str(), twice.len()), ("period", 1));
        let errors = View::parse("period=x&sort=y&refresh=1&by=site&timezone=utc&site_id=7&compare=z").unwrap_err();
        let mut names: Vec<_> = errors.iter().map(|error| error.parameter.as_str()).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            ["by", "compare", "period", "refresh", "site_id", "sort", "timezone"]
        );
    }

    #[test]
    fn what_counts_for_nothing_is_still_right_by_itself() {
        let names = |query: &str| -> Vec<String> {
            let errors = View::parse(query).err().unwrap_or_default();
            errors.into_iter().map(|error| error.parameter).collect()
        };
        assert_eq!(names("period=garbage&from=2026-01-01"), ["period"]);
        assert_eq!(names("period=all&compare=x"), ["compare"]);
        assert_eq!(names("from=2026-13-01"), ["from"]);
        assert!(names("period=all&compare=year_over_year").is_empty());
    }

    #[test]
    fn a_click_on_a_column_orders_by_it_and_the_next_one_reverses() {
        let by_rate = Sort::DEFAULT.after_click(SiteColumn::SolveRate);
        assert_eq!(by_rate.text(), "-solve_rate");
        assert_eq!(by_rate.after_click(SiteColumn::SolveRate).text(), "solve_rate");
        assert_eq!(by_rate.after_click(SiteColumn::Name).text(), "name");
        assert_eq!(Sort::parse("-solve_rate"), Ok(by_rate));
        assert!(Sort::parse("rate").is_err());
    }
}
