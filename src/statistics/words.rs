//! The words that the parameters of a question take, for the completions of a shell.

use super::buckets::Interval;
use super::choice::Choice;
use super::comparison::Compare;
use super::metrics::Metric;
use super::parameters::{By, Fill, Order, SolveWithin};
use super::period::Period;
use super::zone::ZONE_NAMES;

/// The words that a parameter takes; none if it takes anything else.
pub fn words(parameter: &str) -> Vec<&'static str> {
    match parameter {
        "period" => of::<Period>(),
        "interval" => of::<Interval>(),
        "timezone" => ZONE_NAMES.clone(),
        "week_start" => of::<chrono::Weekday>(),
        "by" => of::<By>(),
        "order" => of::<Order>(),
        "metrics" => of::<Metric>(),
        "fill" => of::<Fill>(),
        "compare" => of::<Compare>(),
        "solve_within" => of::<SolveWithin>(),
        _ => Vec::new(),
    }
}

fn of<T: Choice>() -> Vec<&'static str> {
    T::CHOICES.iter().map(|(word, _)| *word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::{PARAMETERS, Query};

    #[test]
    fn every_word_is_read() {
        for parameter in PARAMETERS {
            for word in words(parameter) {
                // Some words need a range with both ends.
                let range = (parameter != "period").then_some(("period", "7d"));
                let pairs = range.into_iter().chain([(parameter, word)]);
                let read = Query::parse(pairs.map(|(name, value)| (name.into(), value.into())));
                assert!(read.is_ok(), "{parameter}={word}: {read:?}");
            }
        }
        let free = PARAMETERS.into_iter().filter(|parameter| words(parameter).is_empty());
        assert_eq!(free.collect::<Vec<_>>(), ["site_id", "from", "to", "top"]);
    }
}
