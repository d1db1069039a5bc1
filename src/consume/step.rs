//! What an insert and the heads around it mean, and so what comes next. Pure.
//!
//! Invariants, H the head that was read before the insert, E the offset after its last row:
//! - Only a head that was read proves anything; an insert's own answer proves nothing.
//! - The token of a head changes only when its insert was answered Ok, the head stayed, no such insert
//!   is running, and a second look still sees the same head. Never after an error: that insert may arrive yet.
//! - A head that moved is right, whoever moved it: rows are a function of the log.

/// What follows an insert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The rows are there, and nothing else: go on at E.
    Confirmed,
    /// Somebody stored other batches: learn their rows and go on at the new head.
    Overtaken,
    /// The insert was answered Ok and the head did not move: look whether its token is burnt.
    Suspect,
    /// The table has lost rows, or the answers contradict each other: begin anew with a new connection.
    Restart,
}

/// Judges an insert that was answered without error by the head that was read after it.
pub fn after_insert(before: i64, end: i64, after: Option<i64>) -> Next {
    match after {
        Some(after) if after == end => Next::Confirmed,
        Some(after) if after > before => Next::Overtaken,
        Some(after) if after == before => Next::Suspect,
        // The head of an empty table is 0: a first insert that left it empty.
        None if before == 0 => Next::Suspect,
        _ => Next::Restart,
    }
}

/// Whether a suspected token is burnt: the server wrote it down and died before it kept the rows, so
/// every insert with it is answered Ok and dropped.
pub fn is_burnt(before: i64, again: Option<i64>, still_running: bool) -> bool {
    !still_running && again.unwrap_or(0) == before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_decides() {
        for (before, end, after, next) in [
            (0, 10, Some(10), Next::Confirmed),
            (10, 20, Some(20), Next::Confirmed),
            (10, 20, Some(15), Next::Overtaken),
            (10, 20, Some(30), Next::Overtaken),
            (10, 20, Some(10), Next::Suspect),
            (0, 10, None, Next::Suspect),
            (10, 20, None, Next::Restart),
            (10, 20, Some(9), Next::Restart),
        ] {
            assert_eq!(
                after_insert(before, end, after),
                next,
                "{before} {end} {after:?}"
            );
        }
    }

    #[test]
    fn a_token_is_burnt_only_when_nothing_can_still_use_it() {
        assert!(is_burnt(10, Some(10), false));
        assert!(is_burnt(0, None, false));
        assert!(!is_burnt(10, Some(10), true));
        assert!(!is_burnt(10, Some(11), false));
        assert!(!is_burnt(10, None, false));
    }
}
