//! The chart of challenges over time, and small bars, as SVG. Pure.
//!
//! Colours are classes, so that a page and a picture have themes of their own. Lines keep their width when a drawing is
//! stretched: the same one fits a telephone and a wide screen.

mod interval;
mod trend;

use std::fmt::Write as _;

use maud::{Markup, html};

pub use self::interval::{fitting_interval, longer_interval};
pub use self::trend::{Bucket, METRICS, Trend};

/// The part of a bucket that its bar takes; less of a wide one.
const BAR_SHARE: f64 = 0.78;
const WIDE_BAR_SHARE: f64 = 0.5;

/// Fewer buckets than these are wide.
const NARROW_FROM: usize = 12;

/// A drawing of this width has coordinates that are finer than pixels, and they are whole.
const WHOLE_FROM: u32 = 2000;

/// The bars and the line of a trend, in coordinates of this width and height.
pub fn drawing(trend: &Trend, width: u32, height: u32) -> Markup {
    Drawing {
        trend,
        width: f64::from(width),
        height: f64::from(height),
        decimals: usize::from(width < WHOLE_FROM),
    }
    .render()
}

struct Drawing<'a> {
    trend: &'a Trend,
    width: f64,
    height: f64,
    decimals: usize,
}

impl Drawing<'_> {
    fn render(&self) -> Markup {
        let (whole, open) = self.line();
        html! {
            path.grid d=(self.grid()) vector-effect="non-scaling-stroke" {}
            g { (self.bars(false)) }
            g.partial { (self.bars(true)) }
            path.rate.halo d=(whole) vector-effect="non-scaling-stroke" {}
            path.rate d=(whole) vector-effect="non-scaling-stroke" {}
            path.rate.open d=(open) vector-effect="non-scaling-stroke" {}
        }
    }

    /// The width of a bucket.
    fn step(&self) -> f64 {
        self.width / self.trend.buckets.len().max(1) as f64
    }

    /// The height of a part of the axis, from above.
    fn y(&self, part: f64) -> f64 {
        self.height * (1.0 - part)
    }

    /// The bars of the buckets that are partial, or of the others.
    fn bars(&self, are_partial: bool) -> Markup {
        let share = match self.trend.buckets.len() {
            ..NARROW_FROM => WIDE_BAR_SHARE,
            _ => BAR_SHARE,
        };
        let (step, width, d) = (self.step(), self.step() * share, self.decimals);
        let path = |part: fn(&Bucket) -> (u64, u64)| {
            let mut path = String::new();
            for (index, bucket) in self.trend.buckets.iter().enumerate() {
                let (from, to) = part(bucket);
                if to > from && bucket.is_partial() == are_partial {
                    let left = index as f64 * step + (step - width) / 2.0;
                    let (low, high) = (self.y(self.trend.part(from)), self.y(self.trend.part(to)));
                    // Writing to memory cannot fail.
                    let _ = write!(path, "M{left:.d$} {low:.d$}h{width:.d$}V{high:.d$}h-{width:.d$}z");
                }
            }
            path
        };
        html! {
            path.solved d=(path(|bucket| (0, bucket.solved))) {}
            path.unsolved d=(path(|bucket| (bucket.solved, bucket.challenges.saturating_sub(bucket.pending)))) {}
            path.pending d=(path(|bucket| (bucket.challenges.saturating_sub(bucket.pending), bucket.challenges)))
                vector-effect="non-scaling-stroke" {}
        }
    }

    /// Lines at 0 and at the ticks of the axis.
    fn grid(&self) -> String {
        let ticks = self.trend.ticks.iter().copied();
        let line = |tick| format!("M0 {:.1}H{}", self.y(self.trend.part(tick)), self.width);
        [0].into_iter().chain(ticks).map(line).collect()
    }

    /// The solve rate: between buckets that are whole, and the rest, which may still change. A bucket without
    /// challenges leaves a gap.
    fn line(&self) -> (String, String) {
        let (buckets, step, d) = (&self.trend.buckets, self.step(), self.decimals);
        let point = |index: usize| {
            let rate = buckets.get(index)?.rate()?;
            Some(((index as f64 + 0.5) * step, self.y(rate)))
        };
        let is_joined = |index: usize| {
            let next = buckets.get(index + 1).filter(|next| next.start == buckets[index].end);
            next.is_some_and(|next| next.rate().is_some())
        };
        let (mut whole, mut open) = (String::new(), String::new());
        for (index, bucket) in buckets.iter().enumerate() {
            let Some((x, y)) = point(index) else {
                continue;
            };
            let may_change = bucket.is_partial() || bucket.pending > 0;
            let path = if may_change { &mut open } else { &mut whole };
            // Where buckets are missing, a line would join what is far apart.
            let is_next = |before: &usize| buckets[*before].end == bucket.start;
            match index.checked_sub(1).filter(is_next).and_then(point) {
                Some((x_before, y_before)) => {
                    let _ = write!(path, "M{x_before:.d$} {y_before:.d$}L{x:.d$} {y:.d$}");
                }
                // A dash, because a line needs two points.
                None if !is_joined(index) => {
                    let _ = write!(path, "M{:.d$} {y:.d$}h{:.d$}", x - step / 4.0, step / 2.0);
                }
                None => {}
            }
        }
        (whole, open)
    }
}

/// A horizontal bar that takes a part, 0 to 1, of its place.
pub fn bar(part: f64, class: &str) -> Markup {
    let percent = format!("{:.1}%", part.clamp(0.0, 1.0) * 100.0);
    html! {
        svg.bar aria-hidden="true" {
            @if part > 0.0 { rect class=(class) width=(percent) height="5" {} }
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
                is_cut: false,
            });
        Trend::of_buckets(buckets.collect())
    }

    #[test]
    fn bars_are_stacked_from_the_bottom() {
        let drawn = drawing(&trend(&[(100, 60, 10)]), 3000, 1000).into_string();
        // The axis ends at 100: 60 solved, 30 unsolved, 10 pending.
        for path in [
            r#"class="solved" d="M750 1000h1500V400h-1500z""#,
            r#"class="unsolved" d="M750 400h1500V100h-1500z""#,
            r#"class="pending" d="M750 100h1500V0h-1500z""#,
        ] {
            assert!(drawn.contains(path), "{path}: {drawn}");
        }
    }

    #[test]
    fn the_line_has_gaps_where_nothing_was_served() {
        let trend = trend(&[(10, 5, 0), (10, 10, 0), (0, 0, 0), (4, 1, 1)]);
        let drawing = Drawing {
            trend: &trend,
            width: 3000.0,
            height: 1000.0,
            decimals: 1,
        };
        let (whole, open) = drawing.line();
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
