//! The roles of the events of one challenge, and which two of them are its pair.
//!
//! A challenge is a site and a correlation id. Of its events, those take part that are not repeats. An event is judged
//! by those before it at the N offsets of its window:
//!
//! | event | role | if the window has |
//! | --- | --- | --- |
//! | serve | first | no serve. The open solve of the window, if it has one, answers it at once |
//! | serve | again | a serve |
//! | solve | answer | a first serve that is not answered |
//! | solve | again | an answered first serve, or another solve |
//! | solve | open | neither |
//!
//! The window never has two first serves, and never two open solves: the first of two would make the second one
//! `again`. An event of an older captcha, which gave no roles, counts as a serve or a solve that is there, and is part
//! of no pair.

use crate::event::EventType;
use crate::topic_partition::Offset;

/// The role of an event in its challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The serve that shows the challenge.
    First,
    /// A further serve or solve.
    Again,
    /// The solve of a first serve.
    Answer,
    /// A solve without a serve before it.
    Open,
}

/// The role of an event, and the pair that it completes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RoleAndPair {
    pub role: Role,
    /// Of an answer, and of a first serve that was answered before it came.
    pub pair: Option<Pair>,
}

/// What the later row of a pair knows of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pair {
    /// Time of the solve minus time of the serve, by the clocks of their senders.
    pub solve_after_micros: i64,
    /// The month in which the earlier row arrived, as `toYYYYMM` has it.
    pub other_month: u32,
}

/// The part that an event has in its challenge, as later events see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// It is a repeat, and takes no part.
    Repeat,
    /// It was stored by a captcha that gave no roles.
    Unknown,
    First,
    /// A first serve that was answered before it came.
    AnsweredFirst,
    Again,
    Answer,
    Open,
}

impl Part {
    /// In the order of their codes.
    pub const ALL: [Part; 7] = [
        Part::Repeat,
        Part::Unknown,
        Part::First,
        Part::AnsweredFirst,
        Part::Again,
        Part::Answer,
        Part::Open,
    ];

    /// The part of an event that is not a repeat.
    pub fn of(role: Option<Role>, is_paired: bool) -> Part {
        match role {
            None => Part::Unknown,
            Some(Role::First) if is_paired => Part::AnsweredFirst,
            Some(Role::First) => Part::First,
            Some(Role::Again) => Part::Again,
            Some(Role::Answer) => Part::Answer,
            Some(Role::Open) => Part::Open,
        }
    }
}

/// An event that may be one half of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Half {
    pub offset: Offset,
    pub time_micros: i64,
    /// The month in which it arrived, as `toYYYYMM` has it.
    pub arrival_month: u32,
}

/// What matters of the earlier events of one challenge: of each kind the last one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Challenge {
    serve: Option<Offset>,
    solve: Option<Offset>,
    first: Option<Half>,
    /// The offset of the event that answered [`Challenge::first`].
    answered: Option<Offset>,
    open: Option<Half>,
}

impl Challenge {
    /// Judges an event that is not a repeat; `is_near` tells whether an offset is in its window.
    pub fn judge(&self, event_type: EventType, time_micros: i64, is_near: impl Fn(Offset) -> bool) -> RoleAndPair {
        let near = |half: Option<Half>| half.filter(|half| is_near(half.offset));
        let (role, pair) = match event_type {
            EventType::Serve if self.serve.is_some_and(&is_near) => (Role::Again, None),
            EventType::Serve => (
                Role::First,
                near(self.open).map(|solve| (solve, solve.time_micros - time_micros)),
            ),
            EventType::Solve => match near(self.first) {
                Some(serve) if self.answered.is_none() => {
                    (Role::Answer, Some((serve, time_micros - serve.time_micros)))
                }
                Some(_) => (Role::Again, None),
                None if self.solve.is_some_and(&is_near) => (Role::Again, None),
                None => (Role::Open, None),
            },
        };
        let pair = pair.map(|(other, solve_after_micros)| Pair {
            solve_after_micros,
            other_month: other.arrival_month,
        });
        RoleAndPair { role, pair }
    }

    /// Adds an event that is not a repeat, after all earlier ones.
    pub fn add(&mut self, event_type: EventType, part: Part, half: Half) {
        match event_type {
            EventType::Serve => self.serve = Some(half.offset),
            EventType::Solve => self.solve = Some(half.offset),
        }
        match part {
            Part::First => (self.first, self.answered) = (Some(half), None),
            Part::AnsweredFirst => (self.first, self.answered) = (Some(half), Some(half.offset)),
            Part::Answer => self.answered = Some(half.offset),
            Part::Open => self.open = Some(half),
            Part::Again | Part::Unknown | Part::Repeat => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Role::{Again, Answer, First, Open};

    const MONTH: u32 = 202_401;

    /// Roles and pairs of events, each with its time in seconds, that follow one another in a window of `records`.
    fn judge_all(records: i64, events: &[(char, i64)]) -> Vec<(Role, Option<i64>)> {
        let mut challenge = Challenge::default();
        let judge = |(number, (letter, seconds)): (usize, &(char, i64))| {
            let offset = Offset::new(number as i64);
            let event_type = match letter {
                'v' => EventType::Serve,
                's' => EventType::Solve,
                _ => return None,
            };
            let time_micros = seconds * 1_000_000;
            let judged = challenge.judge(event_type, time_micros, |other| offset - other <= records);
            let half = Half {
                offset,
                time_micros,
                arrival_month: MONTH,
            };
            challenge.add(event_type, Part::of(Some(judged.role), judged.pair.is_some()), half);
            assert!(judged.pair.is_none_or(|pair| pair.other_month == MONTH));
            Some((judged.role, judged.pair.map(|pair| pair.solve_after_micros / 1_000_000)))
        };
        events.iter().enumerate().filter_map(judge).collect()
    }

    #[test]
    fn a_solve_answers_the_serve_before_it() {
        assert_eq!(
            judge_all(9, &[('v', 10), ('s', 13)]),
            [(First, None), (Answer, Some(3))]
        );
        assert_eq!(
            judge_all(9, &[('v', 10), ('s', 7)]),
            [(First, None), (Answer, Some(-3))]
        );
    }

    #[test]
    fn a_solve_that_came_first_answers_the_serve_at_once() {
        let events = [('s', 13), ('s', 14), ('v', 10), ('v', 11), ('s', 15)];
        let judged = [
            (Open, None),
            (Again, None),
            (First, Some(3)),
            (Again, None),
            (Again, None),
        ];
        assert_eq!(judge_all(9, &events), judged);
    }

    #[test]
    fn further_events_are_again() {
        let events = [('v', 1), ('v', 2), ('s', 3), ('s', 4), ('v', 5)];
        let judged = [
            (First, None),
            (Again, None),
            (Answer, Some(2)),
            (Again, None),
            (Again, None),
        ];
        assert_eq!(judge_all(9, &events), judged);
    }

    #[test]
    fn events_beyond_the_window_are_forgotten() {
        // The answer is 3 records after the serve, in a window of 3 and of 2.
        let events = [('v', 1), ('-', 0), ('-', 0), ('s', 4), ('v', 5), ('s', 6)];
        assert_eq!(
            judge_all(3, &events),
            [(First, None), (Answer, Some(3)), (First, None), (Answer, Some(1))]
        );
        assert_eq!(
            judge_all(2, &events),
            [(First, None), (Open, None), (First, Some(-1)), (Again, None)]
        );
        // A further serve keeps a challenge from being shown again, and the first one is too far away to be answered.
        let kept = [('v', 1), ('-', 0), ('v', 3), ('-', 0), ('v', 5), ('s', 6)];
        assert_eq!(
            judge_all(2, &kept),
            [(First, None), (Again, None), (Again, None), (Open, None)]
        );
    }

    #[test]
    fn events_without_roles_are_in_no_pair() {
        let half = |offset| Half {
            offset: Offset::new(offset),
            time_micros: 0,
            arrival_month: MONTH,
        };
        let mut challenge = Challenge::default();
        challenge.add(EventType::Serve, Part::Unknown, half(0));
        let judge = |challenge: &Challenge, event_type| challenge.judge(event_type, 1, |_| true).role;
        assert_eq!(judge(&challenge, EventType::Serve), Again);
        assert_eq!(judge(&challenge, EventType::Solve), Open);
        challenge.add(EventType::Solve, Part::Unknown, half(1));
        assert_eq!(judge(&challenge, EventType::Solve), Again);
    }
}
