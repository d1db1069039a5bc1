//! What follows an insert: the only place that decides it. Pure; `model_check.rs` tries all interleavings of two
//! workers.
//!
//! Invariants, H the head that was read before the insert, E the offset after its last row:
//! - Only a head that was read proves anything; an insert's own answer proves nothing.
//! - The token of a head changes only when its insert was answered Ok, the head stayed, no such insert
//!   is running, and a second look still sees the same head. Never after an error: that insert may arrive yet.
//! - A head that moved is right, whoever moved it: rows are a function of the log, and of the rules that a row names.
//! - Whatever is not understood starts again, with a new connection and the head that the table has.

use crate::topic_partition::Offset;

/// Tokens of one head that may be burnt. A server that is killed burns one now and then (7 in 650 kills); if it goes
/// on, the cause is another one, and one more token could store the same rows once more.
pub const GENERATIONS_MAX: u32 = 8;

/// One insert, from the head that it was planned for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Attempt {
    /// H.
    pub head: Offset,
    /// E.
    pub end: Offset,
    /// The generation of its token.
    pub generation: u32,
}

/// What the worker does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The insert was answered Ok: read the head on the same connection, then [`Attempt::after_head`].
    ReadHead,
    /// The head did not move: see whether an insert with this token is running, read the head once more after
    /// that, then [`Attempt::after_recheck`].
    Recheck,
    /// Rows up to E are stored, and nothing else: see whether one of them was judged by other rules, then
    /// [`Attempt::after_rules`].
    ReadRules,
    /// The rows are stored as they were sent: continue at E.
    Confirmed,
    /// Another consumer stored other batches, or other rows: continue at the head that the table has, and read the rows
    /// below it.
    Overtaken,
    /// The token is burnt: the server wrote it down and died before it kept the rows, so every insert with it is
    /// answered Ok and dropped. Or the rows are stored and hidden from us. Prove that all rows are visible, then try
    /// again with this generation.
    ChangeToken(u32),
    /// Drop the connections and start again at the head that the table has.
    Restart(Reason),
}

/// Why a worker starts again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The server found another head than H. Nothing is wrong unless it happens twice at one head.
    HeadMoved,
    /// The insert failed, or its answer did not come. It may still arrive.
    Failed,
    /// An insert with the same token is running.
    StillRunning,
    /// The head went back: the table has lost rows.
    WentBack,
    /// All tokens that this head may have are burnt.
    TokensSpent,
}

/// How an insert was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InsertOutcome {
    /// Without error.
    Ok,
    /// By the guard's error.
    HeadMoved,
    /// By any other error, or not at all.
    Failed,
}

impl Attempt {
    /// Decides after the insert was answered, or was not.
    pub fn after_insert(self, outcome: InsertOutcome) -> Next {
        match outcome {
            InsertOutcome::Ok => Next::ReadHead,
            InsertOutcome::HeadMoved => Next::Restart(Reason::HeadMoved),
            InsertOutcome::Failed => Next::Restart(Reason::Failed),
        }
    }

    /// Decides after the head was read; `None` is the head of an empty table.
    pub fn after_head(self, head: Option<Offset>) -> Next {
        match head.unwrap_or(Offset::ZERO) {
            head if head == self.end => Next::ReadRules,
            head if head > self.head => Next::Overtaken,
            head if head == self.head => Next::Recheck,
            _ => Next::Restart(Reason::WentBack),
        }
    }

    /// Decides after it was read whether a row of the batch was judged by other rules than ours.
    ///
    /// During a rollout, a rival of another version may store its rows between our guard and our token, and the server
    /// drops ours and answers Ok. Its rows have other roles, or none, and later events must be judged by those. Nothing
    /// else shows it: such a rival may come at any time, and store any part of the batch. So every batch is read.
    pub fn after_rules(self, has_other_rules: bool) -> Next {
        match has_other_rules {
            false => Next::Confirmed,
            true => Next::Overtaken,
        }
    }

    /// Decides after the running inserts and then the head were read.
    pub fn after_recheck(self, is_running: bool, head: Option<Offset>) -> Next {
        match self.after_head(head) {
            Next::Recheck if is_running => Next::Restart(Reason::StillRunning),
            Next::Recheck if self.generation + 1 == GENERATIONS_MAX => Next::Restart(Reason::TokensSpent),
            Next::Recheck => Next::ChangeToken(self.generation + 1),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever the server answers: only a head at the end of the batch may be that of its rows, only one in between
        /// is gone on from, and the next token is taken only where nothing moved and nothing runs.
        #[test]
        fn the_next_step_follows_from_what_was_read(
            head in (0_i64..50).prop_map(Offset::new),
            rows in 1_i64..20,
            generation in 0..GENERATIONS_MAX,
            read in proptest::option::of((0_i64..80).prop_map(Offset::new)),
            is_running in any::<bool>(),
        ) {
            let attempt = Attempt { head, end: head + rows, generation };
            let now = read.unwrap_or(Offset::ZERO);
            for next in [attempt.after_head(read), attempt.after_recheck(is_running, read)] {
                prop_assert_ne!(next, Next::Confirmed);
                prop_assert_eq!(next == Next::ReadRules, now == head + rows);
                prop_assert_eq!(next == Next::Overtaken, now > head && now != head + rows);
                prop_assert_eq!(next == Next::Restart(Reason::WentBack), now < head);
            }
            let rechecked = attempt.after_recheck(is_running, read);
            let is_next = rechecked == Next::ChangeToken(generation + 1);
            let is_last = rechecked == Next::Restart(Reason::TokensSpent);
            prop_assert_eq!(is_next || is_last, now == head && !is_running);
            prop_assert_eq!(is_last, now == head && !is_running && generation + 1 == GENERATIONS_MAX);
            prop_assert_eq!(attempt.after_head(read) == Next::Recheck, now == head);
        }
    }

    fn attempt(head: i64, end: i64) -> Attempt {
        Attempt {
            head: Offset::new(head),
            end: Offset::new(end),
            generation: 3,
        }
    }

    #[test]
    fn an_answer_proves_nothing() {
        let attempt = attempt(10, 20);
        assert_eq!(attempt.after_insert(InsertOutcome::Ok), Next::ReadHead);
        for (outcome, reason) in [
            (InsertOutcome::HeadMoved, Reason::HeadMoved),
            (InsertOutcome::Failed, Reason::Failed),
        ] {
            assert_eq!(attempt.after_insert(outcome), Next::Restart(reason));
        }
    }

    #[test]
    fn the_head_decides() {
        for (before, end, after, next) in [
            (0, 10, Some(10), Next::ReadRules),
            (10, 20, Some(20), Next::ReadRules),
            (10, 20, Some(15), Next::Overtaken),
            (10, 20, Some(30), Next::Overtaken),
            (10, 20, Some(10), Next::Recheck),
            (0, 10, None, Next::Recheck),
            (10, 20, None, Next::Restart(Reason::WentBack)),
            (10, 20, Some(9), Next::Restart(Reason::WentBack)),
        ] {
            let attempt = attempt(before, end);
            assert_eq!(
                attempt.after_head(after.map(Offset::new)),
                next,
                "{before} {end} {after:?}"
            );
        }
    }

    #[test]
    fn rows_of_other_rules_are_not_ours() {
        assert_eq!(attempt(10, 20).after_rules(false), Next::Confirmed);
        assert_eq!(attempt(10, 20).after_rules(true), Next::Overtaken);
    }

    #[test]
    fn a_token_is_burnt_only_when_nothing_can_still_use_it() {
        let attempt = attempt(10, 20);
        assert_eq!(
            attempt.after_recheck(false, Some(Offset::new(10))),
            Next::ChangeToken(4)
        );
        assert_eq!(
            attempt.after_recheck(true, Some(Offset::new(10))),
            Next::Restart(Reason::StillRunning)
        );
        assert_eq!(attempt.after_recheck(false, Some(Offset::new(20))), Next::ReadRules);
        assert_eq!(attempt.after_recheck(true, Some(Offset::new(20))), Next::ReadRules);
        assert_eq!(attempt.after_recheck(false, None), Next::Restart(Reason::WentBack));
    }
}
