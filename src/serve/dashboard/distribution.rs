//! How long solving takes. Pure.

use maud::{Markup, html};

use super::content::Page;
use super::tiles::data;
use crate::serve::chart;
use crate::statistics::people::{grouped, percent};
use crate::statistics::{Answer, Metric, SolveTimes};

/// Where the rows end, in seconds: finer where most people are.
const EDGES_SECONDS: [(i64, &str); 13] = [
    (1, "under 1 s"),
    (2, "1–2 s"),
    (3, "2–3 s"),
    (5, "3–5 s"),
    (10, "5–10 s"),
    (20, "10–20 s"),
    (30, "20–30 s"),
    (60, "30–60 s"),
    (120, "1–2 min"),
    (300, "2–5 min"),
    (900, "5–15 min"),
    (3600, "15–60 min"),
    (i64::MAX, "over 1 h"),
];

/// A row: its name, and how many solves it has.
type Row = (&'static str, u64);

pub fn render(page: &Page<'_>) -> Markup {
    html! {
        section.distribution {
            h2 { "Time to solve" }
            @match &page.by_site {
                Err(reason) => p.missing { "These numbers are missing: " (reason) },
                Ok(answer) if answer.totals.solve_times.count() == 0 => p.missing { "Nothing was solved in this range." },
                Ok(answer) => (rows(answer)),
            }
        }
    }
}

fn rows(answer: &Answer) -> Markup {
    let times = &answer.totals.solve_times;
    let rows = counts(times);
    let all = times.count().max(1) as f64;
    let most = rows.iter().map(|(_, count)| *count).max().unwrap_or(1).max(1) as f64;
    let quantile = |metric| data(answer.value(metric, &answer.totals));
    html! {
        p.quantiles {
            "Half take at most " strong { (quantile(Metric::SolveTimeP50)) } ", nine in ten "
            strong { (quantile(Metric::SolveTimeP90)) } ", and 99 in 100 " strong { (quantile(Metric::SolveTimeP99)) } "."
        }
        table {
            caption.hidden { "Solved challenges by the time from serve to solve" }
            thead.hidden {
                tr {
                    th scope="col" { "time" }
                    td {}
                    th.number scope="col" { "share" }
                    th.number scope="col" { "solves" }
                }
            }
            tbody {
                @for (name, count) in &rows {
                    tr {
                        th scope="row" { (name) }
                        td { (chart::bar(*count as f64 / most, "time")) }
                        td { (percent(*count as f64 / all)) }
                        td { (grouped(*count)) }
                    }
                }
            }
        }
    }
}

/// The rows from the first to the last one with a solve.
fn counts(times: &SolveTimes) -> Vec<Row> {
    let mut below = 0;
    let rows = EDGES_SECONDS.into_iter().map(|(seconds, name)| {
        let within = match seconds {
            i64::MAX => times.count(),
            seconds => times.count_within(seconds * 1_000_000),
        };
        let count = within - below;
        below = within;
        (name, count)
    });
    let mut rows: Vec<Row> = rows.skip_while(|(_, count)| *count == 0).collect();
    let last = rows
        .iter()
        .rposition(|(_, count)| *count > 0)
        .map_or(0, |last| last + 1);
    rows.truncate(last);
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::solve_time_bucket;

    #[test]
    fn every_solve_is_in_one_row() {
        let mut times = SolveTimes::NONE;
        for (micros, count) in [(1_500_000, 3), (2_000_001, 1), (4_000_000, 2), (3_600_000_001, 5)] {
            times.add(solve_time_bucket(micros), count);
        }
        let rows = counts(&times);
        assert_eq!(rows[0], ("1–2 s", 3));
        assert_eq!(rows.last(), Some(&("over 1 h", 5)));
        assert_eq!(rows.iter().map(|(_, count)| count).sum::<u64>(), 11);
        assert!(counts(&SolveTimes::NONE).is_empty());
    }
}
