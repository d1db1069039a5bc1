//! The answer to a question, and what there is to say about it.

use uuid::Uuid;

use super::notes::sites_without_events;
use super::page::Numbers;
use crate::clickhouse::{Cluster, Filter};
use crate::statistics::Query;

/// An answer with what is to be said about it.
pub struct Found {
    pub numbers: Numbers,
    pub notes: Vec<String>,
    /// A question that has an answer, where this one has none.
    pub tip: Option<String>,
}

/// Asks ClickHouse.
///
/// # Errors
/// ClickHouse is away or has no schema, or the report is too large.
pub async fn find(cluster: &Cluster, query: &Query, is_for_people: bool) -> anyhow::Result<Found> {
    let numbers = match Filter::of(query) {
        Some(filter) => Numbers::Plain(cluster.report(&filter, &|_| true).await?),
        None => Numbers::Answer(cluster.answer(query, &|_| true).await?.into()),
    };
    let unknown = cluster
        .sites_without_events(absent_sites(query.site_ids.clone(), &numbers))
        .await;
    let notes = match unknown {
        Ok(unknown) => sites_without_events(&unknown),
        Err(error) => vec![format!("cannot tell which sites have no events: {error}")],
    };
    let tip = match is_for_people && numbers.row_count() == 0 && notes.is_empty() {
        true => Some(newest_day(cluster, query).await?),
        false => None,
    };
    Ok(Found { numbers, notes, tip })
}

/// The newest day that has something to show.
async fn newest_day(cluster: &Cluster, query: &Query) -> anyhow::Result<String> {
    let answer = cluster.answer(&query.days_with_events(), &|_| true).await?;
    Ok(match answer.newest_day() {
        Some(day) => format!("the newest day with events is {day}: ask with `--from {day}`"),
        None => "no events yet: `captcha serve` accepts them at POST /v1/events".to_string(),
    })
}

/// The sites that were asked for and have no row, each once.
fn absent_sites(mut site_ids: Vec<Uuid>, numbers: &Numbers) -> Vec<Uuid> {
    let mut seen = numbers.site_ids();
    site_ids.retain(|site_id| seen.insert(*site_id));
    site_ids
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clickhouse::{Freshness, Report, ReportRow};

    #[test]
    fn sites_without_a_row_are_absent_once() {
        let row = |site_id| ReportRow {
            date: "2001-01-01".parse().unwrap(),
            site_id,
            served: 1,
            solved: 0,
        };
        let numbers = Numbers::Plain(Report {
            rows: vec![row(Uuid::nil()), row(Uuid::max())],
            freshness: Freshness::default(),
        });
        let [one, two] = [1, 2].map(Uuid::from_u128);
        let asked = vec![one, Uuid::nil(), two, one, Uuid::max()];
        assert_eq!(absent_sites(asked, &numbers), [one, two]);
        assert!(absent_sites(Vec::new(), &numbers).is_empty());
    }
}
