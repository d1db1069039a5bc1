//! What comes after an insert: the only place that decides it. Pure; `model.rs` tries all interleavings of two workers.
//!
//! Invariants, H the head that was read before the insert, E the offset after its last row:
//! - Only a head that was read proves anything; an insert's own answer proves nothing.
//! - The token of a head changes only when its insert was answered Ok, the head stayed, no such insert
//!   is running, and a second look still sees the same head. Never after an error: that insert may arrive yet.
//! - A head that moved is right, whoever moved it: rows are a function of the log.
//! - Whatever is not understood begins anew with a new connection and the head that the table has.

/// Tokens of one head that may be burnt. A server that is killed burns one now and then (7 in 650 kills); if it goes on, it
/// is something else, and one more token could store the same rows once more.
pub const GENERATIONS_MAX: u32 = 8;

/// One insert, from the head that it was planned for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Attempt {
    /// H.
    pub head: i64,
    /// E.
    pub end: i64,
    /// Of its token.
    pub generation: u32,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The insert was answered Ok: read the head on the same connection, then [`Attempt::head_is`].
    ReadHead,
    /// The head did not move: see whether an insert with this token is running, read the head once more after
    /// that, then [`Attempt::looked`].
    LookAgain,
    /// The rows are there, and nothing else: go on at E.
    Confirmed,
    /// Somebody stored other batches: go on at the head that the table has.
    Overtaken,
    /// The token is burnt: the server wrote it down and died before it kept the rows, so every insert with it is
    /// answered Ok and dropped. Or the rows are stored and hidden from us. Prove that all rows are visible, then try
    /// again with this generation.
    NextToken(u32),
    /// Drop the connections and begin at the head that the table has.
    BeginAnew(Why),
}

/// Why a worker begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
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
pub enum Answer {
    /// Without error.
    Ok,
    /// By the guard's error.
    HeadMoved,
    /// By any other error, or not at all.
    Failed,
}

impl Attempt {
    /// After the insert was answered, or was not.
    pub fn answered(self, answer: Answer) -> Step {
        match answer {
            Answer::Ok => Step::ReadHead,
            Answer::HeadMoved => Step::BeginAnew(Why::HeadMoved),
            Answer::Failed => Step::BeginAnew(Why::Failed),
        }
    }

    /// After the head was read; `None` is the head of an empty table.
    pub fn head_is(self, head: Option<i64>) -> Step {
        match head.unwrap_or(0) {
            head if head == self.end => Step::Confirmed,
            head if head > self.head => Step::Overtaken,
            head if head == self.head => Step::LookAgain,
            _ => Step::BeginAnew(Why::WentBack),
        }
    }

    /// After the running inserts and then the head were looked at.
    pub fn looked(self, is_running: bool, head: Option<i64>) -> Step {
        match self.head_is(head) {
            Step::LookAgain if is_running => Step::BeginAnew(Why::StillRunning),
            Step::LookAgain if self.generation + 1 == GENERATIONS_MAX => Step::BeginAnew(Why::TokensSpent),
            Step::LookAgain => Step::NextToken(self.generation + 1),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever the server says: only a head at the end of the batch is taken for stored, only one in between
        /// is gone on from, and the next token is taken only where nothing moved and nothing runs.
        #[test]
        fn a_step_follows_from_what_was_read(
            head in 0_i64..50,
            rows in 1_i64..20,
            generation in 0..GENERATIONS_MAX,
            read in proptest::option::of(0_i64..80),
            is_running in any::<bool>(),
        ) {
            let attempt = Attempt { head, end: head + rows, generation };
            let now = read.unwrap_or(0);
            for step in [attempt.head_is(read), attempt.looked(is_running, read)] {
                prop_assert_eq!(step == Step::Confirmed, now == head + rows);
                prop_assert_eq!(step == Step::Overtaken, now > head && now != head + rows);
                prop_assert_eq!(step == Step::BeginAnew(Why::WentBack), now < head);
            }
            let looked = attempt.looked(is_running, read);
            let is_next = looked == Step::NextToken(generation + 1);
            let is_last = looked == Step::BeginAnew(Why::TokensSpent);
            prop_assert_eq!(is_next || is_last, now == head && !is_running);
            prop_assert_eq!(is_last, now == head && !is_running && generation + 1 == GENERATIONS_MAX);
            prop_assert_eq!(attempt.head_is(read) == Step::LookAgain, now == head);
        }
    }

    fn attempt(head: i64, end: i64) -> Attempt {
        Attempt {
            head,
            end,
            generation: 3,
        }
    }

    #[test]
    fn an_answer_proves_nothing() {
        let attempt = attempt(10, 20);
        assert_eq!(attempt.answered(Answer::Ok), Step::ReadHead);
        for (answer, why) in [(Answer::HeadMoved, Why::HeadMoved), (Answer::Failed, Why::Failed)] {
            assert_eq!(attempt.answered(answer), Step::BeginAnew(why));
        }
    }

    #[test]
    fn the_head_decides() {
        for (before, end, after, step) in [
            (0, 10, Some(10), Step::Confirmed),
            (10, 20, Some(20), Step::Confirmed),
            (10, 20, Some(15), Step::Overtaken),
            (10, 20, Some(30), Step::Overtaken),
            (10, 20, Some(10), Step::LookAgain),
            (0, 10, None, Step::LookAgain),
            (10, 20, None, Step::BeginAnew(Why::WentBack)),
            (10, 20, Some(9), Step::BeginAnew(Why::WentBack)),
        ] {
            let attempt = attempt(before, end);
            assert_eq!(attempt.head_is(after), step, "{before} {end} {after:?}");
        }
    }

    #[test]
    fn a_token_is_burnt_only_when_nothing_can_still_use_it() {
        let attempt = attempt(10, 20);
        assert_eq!(attempt.looked(false, Some(10)), Step::NextToken(4));
        assert_eq!(attempt.looked(true, Some(10)), Step::BeginAnew(Why::StillRunning));
        assert_eq!(attempt.looked(false, Some(20)), Step::Confirmed);
        assert_eq!(attempt.looked(true, Some(20)), Step::Confirmed);
        assert_eq!(attempt.looked(false, None), Step::BeginAnew(Why::WentBack));
    }
}
