//! The parameters of a picture: those of a report, `theme` and `badge`. Pure.

use std::borrow::Cow;

use crate::event::ERRORS_MAX;
use crate::serve::chart;
use crate::serve::problem::ParameterError;
use crate::serve::request::query::set_once;
use crate::statistics::{Choice, Interval, Metric, PARAMETERS, Query};

/// The question of `GET /v1/report.svg`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PictureQuery {
    /// Of all sites in one row, with the metrics of the chart.
    pub question: Query,
    /// `None`: one that fits the range.
    pub interval: Option<Interval>,
    /// The numbers that are shown as such.
    pub metrics: Vec<Metric>,
    pub theme: Theme,
    /// Only this number, in a line.
    pub badge: Option<Metric>,
}

/// The colours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Theme {
    /// As the reader's system.
    #[default]
    Auto,
    Light,
    Dark,
}

impl Choice for Theme {
    const CHOICES: &'static [(&'static str, Theme)] =
        &[("auto", Theme::Auto), ("light", Theme::Light), ("dark", Theme::Dark)];
}

/// What holds without a range: whole weeks, as on the dashboard.
const PERIOD: &str = "28d";

/// The numbers that are shown if none is asked for.
const SHOWN: [Metric; 3] = [Metric::Challenges, Metric::SolveRate, Metric::Unsolved];

/// Numbers that are shown at most: more do not fit beside each other.
const SHOWN_MAX: usize = 5;

impl PictureQuery {
    /// Reads a query. `by`, `top`, `order` and `fill` are those of rows, and change nothing.
    ///
    /// # Errors
    /// Each parameter that is wrong.
    pub fn parse(query: &str) -> Result<PictureQuery, Vec<ParameterError>> {
        let (mut theme, mut badge, mut errors, mut pairs) = (None, None, Vec::new(), Vec::new());
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let outcome = match &*name {
                "theme" => set_once(&mut theme, Theme::parse(&value)),
                "badge" => set_once(&mut badge, Metric::parse(&value)),
                _ if PARAMETERS.contains(&&*name) => {
                    pairs.push((name, value));
                    continue;
                }
                _ => Err(format!("unknown; expected {}, theme or badge", PARAMETERS.join(", "))),
            };
            errors.extend(outcome.err().map(|detail| ParameterError::new(&name, detail)));
        }
        let has = |wanted: &str| pairs.iter().any(|(name, _): &(Cow<'_, str>, _)| name == wanted);
        let has_interval = has("interval");
        if !["period", "from", "to"].into_iter().any(has) {
            pairs.push(("period".into(), PERIOD.into()));
        }
        match Query::parse(pairs.into_iter()) {
            Ok(question) if errors.is_empty() => Ok(PictureQuery::new(
                question,
                has_interval,
                theme.unwrap_or_default(),
                badge,
            )),
            Ok(_) => {
                errors.truncate(ERRORS_MAX);
                Err(errors)
            }
            Err(wrong) => {
                errors.extend(wrong.into_iter().map(ParameterError::from));
                errors.truncate(ERRORS_MAX);
                Err(errors)
            }
        }
    }

    fn new(question: Query, has_interval: bool, theme: Theme, badge: Option<Metric>) -> PictureQuery {
        let mut shown = question.metrics.clone().unwrap_or_else(|| SHOWN.to_vec());
        shown.truncate(SHOWN_MAX);
        let asked = match badge {
            Some(badge) => vec![badge],
            None => {
                let mut asked = chart::METRICS.to_vec();
                asked.extend(shown.iter().filter(|metric| !chart::METRICS.contains(metric)));
                asked
            }
        };
        let plain = Query::default();
        PictureQuery {
            interval: has_interval.then_some(question.interval),
            metrics: shown,
            theme,
            badge,
            question: Query {
                metrics: Some(asked),
                by: crate::statistics::By::None,
                interval: badge.map_or(question.interval, |_| Interval::All),
                top: None,
                order: plain.order,
                fill: plain.fill,
                is_extended: true,
                ..question
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::By;

    #[test]
    fn a_picture_takes_the_parameters_of_a_report() {
        let picture = PictureQuery::parse("period=7d&by=site&top=5&order=desc&fill=zero&theme=dark").unwrap();
        assert_eq!(
            (picture.theme, picture.interval, picture.badge),
            (Theme::Dark, None, None)
        );
        assert_eq!((picture.question.by, picture.question.top), (By::None, None));
        assert_eq!(picture.metrics, SHOWN);
        let default = PictureQuery::parse("").unwrap();
        assert_eq!(default, PictureQuery::parse("period=28d").unwrap());
        let chosen = PictureQuery::parse("metrics=solve_time_p50,served&interval=hour&from=2026-01-01").unwrap();
        assert_eq!(chosen.metrics, [Metric::SolveTimeP50, Metric::Served]);
        assert_eq!(chosen.interval, Some(Interval::Hour));
        assert!(chosen.question.needs().solve_times && chosen.question.needs().pairs);
    }

    #[test]
    fn a_badge_asks_for_its_number_alone() {
        let badge = PictureQuery::parse("badge=solve_rate").unwrap();
        assert_eq!(badge.badge, Some(Metric::SolveRate));
        assert_eq!(badge.question.metrics, Some(vec![Metric::SolveRate]));
        assert_eq!(badge.question.interval, Interval::All);
    }

    #[test]
    fn every_wrong_parameter_is_named() {
        let errors = PictureQuery::parse("theme=pink&badge=x&format=csv&period=7days&theme=dark&theme=dark");
        let names: Vec<_> = errors.unwrap_err().into_iter().map(|error| error.parameter).collect();
        assert_eq!(names, ["theme", "badge", "format", "theme", "period"]);
    }
}
