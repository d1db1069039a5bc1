//! What an answer has besides its rows.

use std::io::Write as _;

use serde_json::json;

use super::row::{rounded, write_value};
use crate::statistics::answer::Answer;
use crate::statistics::choice::Choice as _;
use crate::statistics::counts::Counts;
use crate::statistics::metrics::{Metric, Value};
use crate::statistics::parameters::Fill;
use crate::statistics::period::{Range, RangeChoice};

// Writing to memory cannot fail.

pub fn write_totals(
    out: &mut Vec<u8>,
    answer: &Answer,
    counts: &Counts,
    value: impl Fn(&Answer, Metric, &Counts) -> Value,
) {
    for (index, metric) in answer.columns.iter().enumerate() {
        let separator = if index == 0 { '{' } else { ',' };
        let _ = write!(out, "{separator}\"{}\":", metric.name());
        write_value(out, value(answer, *metric, counts), "null");
    }
    out.push(b'}');
}

/// Both sides and the change from the range before to the current one; `null` if nothing can be compared.
pub fn write_comparison(out: &mut Vec<u8>, answer: &Answer) {
    let (Some(ranges), Some((current, previous))) = (&answer.resolved.comparison, &answer.compared) else {
        out.extend_from_slice(b"null");
        return;
    };
    for (name, range, counts) in [
        ("{\"current\"", ranges.current, current),
        (",\"previous\"", ranges.previous, previous),
    ] {
        let (from, to) = range_texts(answer, range);
        let _ = write!(
            out,
            "{name}:{{\"from\":{},\"to\":{},\"totals\":",
            json!(from),
            json!(to)
        );
        write_totals(out, answer, counts, Answer::compared_value);
        out.push(b'}');
    }
    out.extend_from_slice(b",\"change\":");
    for (index, metric) in answer.columns.iter().enumerate() {
        let values = answer.compared_values(*metric);
        let change = values.and_then(|[now, before]| now.change_from(before));
        let change = change.map(|change| rounded(change, 4));
        let separator = if index == 0 { '{' } else { ',' };
        let _ = write!(out, "{separator}\"{}\":", metric.name());
        let _ = match change {
            Some(change) => write!(out, "{change}"),
            None => write!(out, "null"),
        };
    }
    out.extend_from_slice(b"}}");
}

fn range_texts(answer: &Answer, range: Range) -> (Option<String>, Option<String>) {
    let text = |micros| answer.query.zone.text(micros);
    (range.from.map(text), range.to.map(text))
}

/// The question as it was read, with its range as instants.
pub fn resolved_query(answer: &Answer) -> serde_json::Value {
    let query = &answer.query;
    let (from, to) = range_texts(answer, answer.resolved.range);
    let mut resolved = json!({
        "from": from,
        "to": to,
        "timezone": query.zone.name(),
        "interval": query.interval.name(),
        "week_start": query.week_start.name(),
        "by": query.by.name(),
        "order": query.order.name(),
        "metrics": answer.columns.iter().map(|metric| metric.name()).collect::<Vec<_>>(),
        "solve_within": query.solve_within.name(),
    });
    if let Some(members) = resolved.as_object_mut() {
        if let RangeChoice::Period(period) = query.range {
            members.insert("period".to_string(), json!(period.name()));
        }
        members.extend(query.top.map(|top| ("top".to_string(), json!(top))));
        let fill = (query.fill != Fill::None).then(|| query.fill.name());
        members.extend(fill.map(|fill| ("fill".to_string(), json!(fill))));
        let compare = query.compare.map(|compare| compare.name());
        members.extend(compare.map(|compare| ("compare".to_string(), json!(compare))));
    }
    resolved
}
