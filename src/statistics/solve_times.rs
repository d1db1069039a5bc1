//! Solve times as counts in buckets that add up, and their quantiles.

use super::instant::MINUTE_MICROS;

/// Buckets of the solve times between two powers of two: the value of a bucket is wrong by less than 0.8 %.
const BUCKETS_AN_OCTAVE: u64 = 64;

/// Bits of an `f64` below those that number its bucket: 52 of the fraction, of which the highest 6 count.
const SHIFT: u32 = 52 - BUCKETS_AN_OCTAVE.trailing_zeros();

/// The bits of a microsecond in minutes: the bucket of two microseconds is the first one above 0.
const FIRST: u64 = ((1.0 / MINUTE_MICROS as f64).to_bits() >> SHIFT) - 1;

// The number that SQL has too.
const _: () = assert!(SHIFT == 46 && FIRST == 63_814);

/// The bucket of a solve time in microseconds. Counted in minutes, all limits of `solve_within` are bounds of buckets:
/// a time is within a limit if and only if its bucket is below that of the limit and a microsecond. ClickHouse computes
/// the same.
pub fn solve_time_bucket(micros: i64) -> u16 {
    match micros {
        ..=1 => 0,
        // Exact below 2^53, and at most 3,373.
        micros => (((micros - 1) as f64 / MINUTE_MICROS as f64).to_bits() >> SHIFT).saturating_sub(FIRST) as u16,
    }
}

/// The value of a bucket in microseconds: no value of the bucket differs by a larger part of itself.
fn bucket_micros(bucket: u16) -> f64 {
    if bucket == 0 {
        return 0.0;
    }
    let edge = |bucket: u64| f64::from_bits((bucket + FIRST) << SHIFT) * MINUTE_MICROS as f64 + 1.0;
    let (low, high) = (edge(bucket.into()), edge(u64::from(bucket) + 1));
    2.0 * low * high / (low + high)
}

/// Solve times by bucket. However they are merged, the sums are the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SolveTimes {
    /// Buckets in order, and how many solve times are in each.
    counts: Vec<(u16, u64)>,
}

impl SolveTimes {
    /// No solve times.
    pub const NONE: SolveTimes = SolveTimes { counts: Vec::new() };

    /// Of counts in the order of their buckets, each bucket once.
    pub fn from_counts(counts: Vec<(u16, u64)>) -> SolveTimes {
        SolveTimes { counts }
    }

    /// Adds solve times of one bucket.
    pub fn add(&mut self, bucket: u16, count: u64) {
        if count == 0 {
            return;
        }
        match self.counts.binary_search_by_key(&bucket, |(bucket, _)| *bucket) {
            Ok(index) => self.counts[index].1 += count,
            Err(index) => self.counts.insert(index, (bucket, count)),
        }
    }

    /// Adds the solve times of another one.
    pub fn merge(&mut self, other: &SolveTimes) {
        if self.counts.is_empty() {
            self.counts.clone_from(&other.counts);
            return;
        }
        for (bucket, count) in &other.counts {
            self.add(*bucket, *count);
        }
    }

    /// The sum of many, faster than merging them one by one.
    pub fn sum<'a>(all: impl Iterator<Item = &'a SolveTimes>) -> SolveTimes {
        let mut by_bucket: Vec<u64> = Vec::new();
        for (bucket, count) in all.flat_map(|times| &times.counts) {
            let index = usize::from(*bucket);
            if by_bucket.len() <= index {
                by_bucket.resize(index + 1, 0);
            }
            by_bucket[index] += count;
        }
        let counts = (0_u16..).zip(by_bucket).filter(|(_, count)| *count > 0);
        SolveTimes {
            counts: counts.collect(),
        }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|(_, count)| count).sum()
    }

    /// How many are at most this long, in microseconds. A time that differs from it by less than 1 % may be on either
    /// side, unless it is a limit of `solve_within`.
    pub fn count_within(&self, micros: i64) -> u64 {
        let beyond = solve_time_bucket(micros + 1);
        let within = self.counts.iter().take_while(|(bucket, _)| *bucket < beyond);
        within.map(|(_, count)| count).sum()
    }

    /// The time in seconds that a part `q` (0 to 1, to a thousandth) of them does not exceed, wrong by less than 0.8 %;
    /// `None` if there are none.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let thousandths = (q * 1000.0).round() as u128;
        let rank = (u128::from(self.count()) * thousandths).div_ceil(1000).max(1);
        let mut passed = 0_u128;
        let bucket = self.counts.iter().find(|(_, count)| {
            passed += u128::from(*count);
            passed >= rank
        });
        bucket.map(|(bucket, _)| bucket_micros(*bucket) / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bucket_is_what_sql_makes_of_it() {
        for (micros, bucket) in [
            (-1, 0),
            (1, 0),
            (2, 1),
            (3, 65),
            (60_000_000, 1_657),
            (60_000_001, 1_658),
            (3_600_000_000, 2_033),
            (3_600_000_001, 2_034),
            (7_289_654_399_999_999, 3_373),
        ] {
            assert_eq!(solve_time_bucket(micros), bucket, "{micros}");
        }
    }

    #[test]
    fn nothing_has_no_quantile() {
        assert_eq!(SolveTimes::default().quantile(0.5), None);
        let mut zero = SolveTimes::default();
        zero.add(0, 3);
        zero.add(7, 0);
        assert_eq!((zero.quantile(0.5), zero.count()), (Some(0.0), 3));
    }

    fn sum(times: &[u64]) -> SolveTimes {
        let mut sum = SolveTimes::default();
        for micros in times {
            sum.add(solve_time_bucket(*micros as i64), 1);
        }
        sum
    }

    /// From microseconds to 130 years, evenly by magnitude.
    fn solve_times() -> impl Strategy<Value = Vec<u64>> {
        let time =
            (1..52_u32, 0..u64::MAX).prop_map(|(bits, noise)| (1 << bits) | (noise >> (63 - bits)) & ((1 << bits) - 1));
        proptest::collection::vec(prop_oneof![9 => time, 1 => Just(0)], 1..300)
    }

    proptest! {
        #[test]
        fn quantiles_are_right_within_a_hundredth(times in solve_times(), thousandths in 0..=1000_usize) {
            let mut sorted = times.clone();
            sorted.sort_unstable();
            let rank = (sorted.len() * thousandths).div_ceil(1000).max(1);
            let exact = sorted[rank - 1] as f64 / 1e6;
            let found = sum(&times).quantile(thousandths as f64 / 1000.0).unwrap();
            prop_assert!((found - exact).abs() <= 0.008 * exact, "{found} {exact}");
        }

        #[test]
        fn the_order_of_merging_makes_no_difference(times in solve_times(), at in 0..300_usize) {
            let at = at % times.len();
            let (left, right) = (sum(&times[..at]), sum(&times[at..]));
            let (mut one, mut other) = (left.clone(), right.clone());
            one.merge(&right);
            other.merge(&left);
            prop_assert_eq!(&one, &other);
            prop_assert_eq!(&one, &sum(&times));
            prop_assert_eq!(one, SolveTimes::sum([left, right].iter()));
        }
    }
}
