//! The parameters of `GET /v1/report` as flags.

use std::borrow::Cow;

use clap::error::ErrorKind;

use super::site_args::site_id;
use crate::site_names::SiteNames;
use crate::statistics::{Metric, Query};
use crate::terminal;

/// The question. docs/reports.md defines every value and number.
#[derive(Debug, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Question")]
pub struct QuestionArgs {
    /// Only this site, by UUID or by its name in --sites-file; may be given several times [default: all sites]
    #[arg(long, value_name = "SITE")]
    site_id: Vec<String>,

    /// First day, such as 2001-01-31, or an instant with its offset
    #[arg(long, value_name = "DATE")]
    from: Option<String>,

    /// The day after the last one, or an instant
    #[arg(long, value_name = "DATE")]
    to: Option<String>,

    /// today, yesterday, 24h, 7d, 28d, 30d, 91d, month, last_month, year, 12mo or all, in place of --from and --to
    #[arg(long, value_name = "PERIOD")]
    period: Option<String>,

    /// A row for each hour, day, week or month, or `all` for one [default: day]
    #[arg(long, value_name = "INTERVAL")]
    interval: Option<String>,

    /// The zone of days and hours, such as Europe/Berlin [default: UTC]
    #[arg(long, value_name = "ZONE")]
    timezone: Option<String>,

    /// First day of a week: monday, sunday or saturday [default: monday]
    #[arg(long, value_name = "DAY")]
    week_start: Option<String>,

    /// `site` for a row for each site, `none` for all sites in one [default: site]
    #[arg(long, value_name = "BY")]
    by: Option<String>,

    /// Rows only for this number of sites, 1 to 100, those with most serves; the others share one row in each bucket
    #[arg(long, value_name = "SITES")]
    top: Option<String>,

    /// `asc`: earliest rows first; `desc`: latest first [default: asc]
    #[arg(long, value_name = "ORDER")]
    order: Option<String>,

    /// More numbers in each row, with commas between: challenges, solve_rate, solve_time_p50, unsolved and others
    #[arg(long, value_name = "METRICS")]
    metrics: Option<String>,

    /// `zero` for rows of zeros too, in a range with both ends [default: none]
    #[arg(long, value_name = "FILL")]
    fill: Option<String>,

    /// Compare the totals: previous_period, previous_week or year_over_year
    #[arg(long, value_name = "RANGE")]
    compare: Option<String>,

    /// How soon after its serve a solve counts: 1m, 2m, 5m, 10m, 15m, 30m, 1h, 2h, 6h or 24h [default: 1h]
    #[arg(long, value_name = "TIME")]
    solve_within: Option<String>,
}

impl QuestionArgs {
    /// The question. Ends the process if a flag is wrong, as clap does.
    pub fn query(&self, names: &SiteNames) -> Query {
        let pairs = self.pairs().map(|(name, value)| match name {
            "site_id" => site_id(value, names).map(|site_id| (Cow::Borrowed(name), Cow::Owned(site_id))),
            _ => Ok((Cow::Borrowed(name), Cow::Borrowed(value))),
        });
        let pairs: Vec<_> = pairs.collect::<Result<_, _>>().unwrap_or_else(|detail| {
            exit_with_wrong_flags(&format!("--site-id: {detail}\n"));
        });
        Query::parse(pairs.into_iter()).unwrap_or_else(|wrong| {
            let line = |(name, detail): (&str, &str)| format!("--{}: {detail}\n", name.replace('_', "-"));
            let lines = wrong.iter().map(|wrong| line((&wrong.name, &wrong.detail)));
            exit_with_wrong_flags(&lines.collect::<String>());
        })
    }

    /// Names and values, as in the address of the API.
    fn pairs(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let sites = self.site_id.iter().map(|site_id| ("site_id", site_id));
        let others = [
            ("from", &self.from),
            ("to", &self.to),
            ("period", &self.period),
            ("interval", &self.interval),
            ("timezone", &self.timezone),
            ("week_start", &self.week_start),
            ("by", &self.by),
            ("top", &self.top),
            ("order", &self.order),
            ("metrics", &self.metrics),
            ("fill", &self.fill),
            ("compare", &self.compare),
            ("solve_within", &self.solve_within),
        ];
        let others = others
            .into_iter()
            .filter_map(|(name, value)| value.as_ref().map(|value| (name, value)));
        let all = sites.chain(others);
        all.map(|(name, value)| (name, value.as_str()))
    }

    /// The period as it was asked for.
    pub fn period(&self) -> Option<&str> {
        self.period.as_deref()
    }

    /// Whether it asks for everything that there ever was.
    pub fn is_open(&self) -> bool {
        self.from.is_none() && self.to.is_none() && self.period.is_none()
    }
}

/// Ends the process, as clap does after wrong flags.
pub fn exit_with_wrong_flags(reason: &str) -> ! {
    terminal::exit_with_clap_error(&clap::Error::raw(ErrorKind::ValueValidation, reason))
}

/// The same question with the metric among its columns.
pub fn with_metric(mut query: Query, metric: Metric) -> Query {
    let metrics = query.metrics.get_or_insert_default();
    if !metrics.contains(&metric) {
        metrics.push(metric);
    }
    query.is_extended = true;
    query
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::statistics::PARAMETERS;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        question: QuestionArgs,
    }

    #[test]
    fn every_parameter_is_a_flag() {
        let words = PARAMETERS
            .iter()
            .flat_map(|name| [format!("--{}", name.replace('_', "-")), name.to_string()]);
        let command = Command::parse_from(["report".to_string()].into_iter().chain(words));
        let pairs: Vec<_> = command.question.pairs().collect();
        assert_eq!(
            pairs.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            PARAMETERS.iter().collect::<Vec<_>>()
        );
        assert!(pairs.iter().all(|(name, value)| name == value));
    }

    #[test]
    fn a_required_metric_is_added_once() {
        let query = with_metric(with_metric(Query::default(), Metric::SolveRate), Metric::SolveRate);
        assert_eq!(query.metrics, Some(vec![Metric::SolveRate]));
        assert!(!query.is_plain());
    }
}
