//! Bars of rows and the sparkline of the totals.

use super::signs::Signs;
use crate::statistics::Counts;
use crate::terminal::{Style, StyledText};

/// The columns of each part of a bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bar {
    solved: usize,
    unsolved: usize,
    pending: usize,
}

impl Bar {
    /// The bar of a row: as long as its challenges are many, against those of the longest one, which takes `width`.
    /// Every part above 0 has a column.
    pub fn new(counts: &Counts, longest: u64, width: usize) -> Bar {
        let whole = counts.challenges;
        let length = scaled(whole, longest, width);
        let solved = scaled(counts.pairs_within.min(whole), whole, length);
        let pending = scaled(counts.pending.min(whole), whole, length).min(length - solved);
        Bar {
            solved,
            unsolved: length - solved - pending,
            pending,
        }
    }

    pub fn push(self, text: &mut StyledText, signs: &Signs) {
        text.push(Style::Plain, &signs.solved.repeat(self.solved));
        text.push(Style::Faint, &signs.unsolved.repeat(self.unsolved));
        text.push(Style::Faint, &signs.pending.repeat(self.pending));
    }
}

/// The length of a part; at least 1 unless it is nothing, and less than `length` unless it is all.
fn scaled(part: u64, whole: u64, length: usize) -> usize {
    if part == 0 || whole == 0 {
        return 0;
    }
    let exact = part as f64 / whole as f64 * length as f64;
    let most = if part < whole { length.saturating_sub(1) } else { length };
    (exact.round() as usize).min(most).max(1).min(length)
}

/// A column for each number, as high as it is against the highest one.
pub fn sparkline(numbers: &[u64], signs: &Signs) -> String {
    let highest = numbers.iter().copied().max().unwrap_or(0).max(1);
    let steps = signs.levels.len() - 1;
    let level = |number: u64| (number as f64 / highest as f64 * steps as f64).round() as usize;
    numbers.iter().map(|number| signs.levels[level(*number)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::view::signs::{ASCII, UTF8};

    fn counts(challenges: u64, pairs_within: u64, pending: u64) -> Counts {
        Counts {
            challenges,
            pairs_within,
            pending,
            ..Counts::ZERO
        }
    }

    #[test]
    fn a_bar_shows_every_part_that_is_not_nothing() {
        let bar = |challenges, solved, pending| {
            let mut text = StyledText::new(false);
            Bar::new(&counts(challenges, solved, pending), 1_000, 10).push(&mut text, &ASCII);
            text.as_str().to_string()
        };
        for (challenges, solved, pending, expected) in [
            (1_000, 1_000, 0, "=========="),
            (1_000, 999, 0, "=========-"),
            (1_000, 1, 0, "=---------"),
            (1_000, 500, 200, "=====---.."),
            (500, 250, 0, "===--"),
            (1, 1, 0, "="),
            (1, 0, 1, "."),
            (0, 0, 0, ""),
        ] {
            assert_eq!(
                bar(challenges, solved, pending),
                expected,
                "{challenges} {solved} {pending}"
            );
        }
    }

    #[test]
    fn a_sparkline_has_a_column_for_each_number() {
        assert_eq!(sparkline(&[0, 1, 4, 8], &UTF8), "\u{2581}\u{2582}\u{2585}\u{2588}");
        assert_eq!(sparkline(&[0, 0], &UTF8), "\u{2581}\u{2581}");
        assert_eq!(sparkline(&[5, 10], &ASCII), "=#");
        assert_eq!(sparkline(&[], &ASCII), "");
    }
}
