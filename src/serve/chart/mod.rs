//! The chart of challenges over time, and small bars, as SVG. Pure.
//!
//! Colours are classes, so that a page and a picture have themes of their own. A path has its own coordinates, which
//! are stretched to the size of the chart: the same drawing fits a telephone and a wide screen.

mod trend;

use std::fmt::Write as _;

use maud::{Markup, html};

pub use self::trend::{BUCKETS_MAX, Bucket, Trend};

/// Coordinates of a drawing: wide enough that 750 bars begin at whole ones, nearly.
pub const WIDTH: u32 = 3000;
pub const HEIGHT: u32 = 1000;

/// The part of a bucket that its bar takes.
const BAR_SHARE: f64 = 0.78;

/// The bars and the line of a trend, in coordinates of [`WIDTH`] and [`HEIGHT`].
pub fn drawing(trend: &Trend) -> Markup {
    let (whole, unfinished): (Vec<_>, Vec<_>) = columns(trend).partition(|column| !column.bucket.is_unfinished);
    let line = line(trend);
    html! {
        path.grid d=(grid(trend)) vector-effect="non-scaling-stroke" {}
        g { (bars(trend, &whole)) }
        g.unfinished { (bars(trend, &unfinished)) }
        path.rate.halo d=(line.0) vector-effect="non-scaling-stroke" {}
        path.rate d=(line.0) vector-effect="non-scaling-stroke" {}
        path.rate.open d=(line.1) vector-effect="non-scaling-stroke" {}
    }
}

/// A bucket and its place.
struct Column<'a> {
    left: f64,
    width: f64,
    bucket: &'a Bucket,
}

fn columns(trend: &Trend) -> impl Iterator<Item = Column<'_>> {
    let step = f64::from(WIDTH) / trend.buckets.len().max(1) as f64;
    trend.buckets.iter().enumerate().map(move |(index, bucket)| Column {
        left: (index as f64 + (1.0 - BAR_SHARE) / 2.0) * step,
        width: step * BAR_SHARE,
        bucket,
    })
}

fn bars(trend: &Trend, columns: &[Column<'_>]) -> Markup {
    let path = |part: fn(&Bucket) -> (u64, u64)| {
        let mut path = String::new();
        for column in columns {
            let (from, to) = part(column.bucket);
            if to > from {
                let (low, high) = (trend.y(from), trend.y(to));
                // Writing to memory cannot fail.
                let _ = write!(
                    path,
                    "M{:.1} {low:.1}h{:.1}V{high:.1}h-{:.1}z",
                    column.left, column.width, column.width
                );
            }
        }
        path
    };
    html! {
        path.solved d=(path(|bucket| (0, bucket.solved))) {}
        path.unsolved d=(path(|bucket| (bucket.solved, bucket.challenges.saturating_sub(bucket.pending)))) {}
        path.pending d=(path(|bucket| (bucket.challenges.saturating_sub(bucket.pending), bucket.challenges))) {}
    }
}

/// Lines at the ticks of the axis.
fn grid(trend: &Trend) -> String {
    let mut path = String::new();
    for tick in &trend.ticks {
        let _ = write!(path, "M0 {:.1}H{WIDTH}", trend.y(*tick));
    }
    path
}

/// The solve rate: between buckets that are whole, and the rest, which may still change. A bucket without challenges
/// leaves a gap.
fn line(trend: &Trend) -> (String, String) {
    let step = f64::from(WIDTH) / trend.buckets.len().max(1) as f64;
    let point = |index: usize| {
        let rate = trend.buckets[index].rate()?;
        Some(((index as f64 + 0.5) * step, f64::from(HEIGHT) * (1.0 - rate)))
    };
    let (mut whole, mut open) = (String::new(), String::new());
    for (index, bucket) in trend.buckets.iter().enumerate() {
        let Some((x, y)) = point(index) else {
            continue;
        };
        let may_change = bucket.is_unfinished || bucket.pending > 0;
        let path = if may_change { &mut open } else { &mut whole };
        match index.checked_sub(1).and_then(point) {
            Some((x_before, y_before)) => {
                let _ = write!(path, "M{x_before:.1} {y_before:.1}L{x:.1} {y:.1}");
            }
            // A dot, because a line needs two points.
            None if index + 1 == trend.buckets.len() || point(index + 1).is_none() => {
                let _ = write!(path, "M{:.1} {y:.1}h{:.1}", x - step / 4.0, step / 2.0);
            }
            None => {}
        }
    }
    (whole, open)
}

/// A horizontal bar that takes a part, 0 to 1, of its place.
pub fn bar(part: f64, class: &str) -> Markup {
    let percent = format!("{:.1}%", part.clamp(0.0, 1.0) * 100.0);
    html! {
        svg.bar width="100%" height="5" aria-hidden="true" focusable="false" {
            rect.track width="100%" height="5" rx="2" {}
            @if part > 0.0 {
                rect class=(class) width=(percent) height="5" rx="2" {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trend(counts: &[(u64, u64, u64)]) -> Trend {
        let buckets = counts
            .iter()
            .enumerate()
            .map(|(index, (challenges, solved, pending))| Bucket {
                start: index as i64,
                end: index as i64 + 1,
                challenges: *challenges,
                solved: *solved,
                pending: *pending,
                unsolved: None,
                is_unfinished: false,
            });
        Trend::of_buckets(buckets.collect())
    }

    #[test]
    fn bars_are_stacked_from_the_bottom() {
        let drawn = drawing(&trend(&[(100, 60, 10)])).into_string();
        // The axis ends at 100: 60 solved, 30 unsolved, 10 pending.
        for path in [
            r#"class="solved" d="M330.0 1000.0h2340.0V400.0h-2340.0z""#,
            r#"class="unsolved" d="M330.0 400.0h2340.0V100.0h-2340.0z""#,
            r#"class="pending" d="M330.0 100.0h2340.0V0.0h-2340.0z""#,
        ] {
            assert!(drawn.contains(path), "{path}: {drawn}");
        }
    }

    #[test]
    fn the_line_has_gaps_where_nothing_was_served() {
        let (whole, open) = line(&trend(&[(10, 5, 0), (10, 10, 0), (0, 0, 0), (4, 1, 1)]));
        assert_eq!(whole, "M375.0 500.0L1125.0 0.0");
        // Alone, and a challenge of it is pending.
        assert_eq!(open, "M2437.5 750.0h375.0");
    }

    #[test]
    fn a_bar_takes_its_part() {
        assert!(
            bar(0.5, "solved")
                .into_string()
                .contains(r#"class="solved" width="50.0%""#)
        );
        assert!(!bar(0.0, "solved").into_string().contains("solved"));
    }
}
