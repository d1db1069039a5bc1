//! The counts of events and challenges that all numbers of a report are made of.

use uuid::Uuid;

use super::solve_times::SolveTimes;

/// What is counted of one bucket and site. Those that a question does not need may be 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Serves, without repeats.
    pub served: u64,
    /// Solves, without repeats.
    pub solved: u64,
    /// Repeats.
    pub retries: u64,
    /// First serves.
    pub challenges: u64,
    /// Solves of a challenge that was solved before.
    pub solved_again: u64,
    /// Solves whose serve had not come when they came, in the bucket of the solve.
    pub open_solves: u64,
    /// Those of `open_solves` whose serve has come since, in the bucket of the solve.
    pub open_solves_answered: u64,
    /// Challenges with an answer, in the bucket of the serve, as all that follows.
    pub pairs: u64,
    /// Those of `pairs` that were solved within `solve_within`.
    pub pairs_within: u64,
    /// Those of `pairs` whose solve is dated before the serve.
    pub pairs_before_serve: u64,
    /// Challenges without an answer that may still get one within `solve_within`.
    pub pending: u64,
    /// Of `pairs`, 0 for those before their serve.
    pub solve_times: SolveTimes,
}

impl Counts {
    /// Nothing was counted.
    pub const ZERO: Counts = Counts {
        served: 0,
        solved: 0,
        retries: 0,
        challenges: 0,
        solved_again: 0,
        open_solves: 0,
        open_solves_answered: 0,
        pairs: 0,
        pairs_within: 0,
        pairs_before_serve: 0,
        pending: 0,
        solve_times: SolveTimes::NONE,
    };

    /// Adds the counts of another bucket, site or shard.
    pub fn merge(&mut self, other: &Counts) {
        self.add_numbers(other);
        self.solve_times.merge(&other.solve_times);
    }

    fn add_numbers(&mut self, other: &Counts) {
        self.served += other.served;
        self.solved += other.solved;
        self.retries += other.retries;
        self.challenges += other.challenges;
        self.solved_again += other.solved_again;
        self.open_solves += other.open_solves;
        self.open_solves_answered += other.open_solves_answered;
        self.pairs += other.pairs;
        self.pairs_within += other.pairs_within;
        self.pairs_before_serve += other.pairs_before_serve;
        self.pending += other.pending;
    }

    /// The sum of rows.
    pub fn sum(rows: &[CountRow]) -> Counts {
        let mut sum = Counts::ZERO;
        for row in rows {
            sum.add_numbers(&row.counts);
        }
        sum.solve_times = SolveTimes::sum(rows.iter().map(|row| &row.counts.solve_times));
        sum
    }
}

/// The counts of one bucket and site. Several rows of the same bucket and site add up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountRow {
    /// The start of the bucket.
    pub bucket: i64,
    /// `None` for all sites in one.
    pub site_id: Option<Uuid>,
    pub counts: Counts,
}
