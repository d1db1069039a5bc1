//! A fair queue: turns go round among the readers, and none of them can fill it. Reports that cost much never have all
//! turns. Pure.
//!
//! ```text
//! enter -> turn at once | waits -> turn, when one ends  | displaced by a reader with fewer places
//!                       | full                          | leave
//! ```

use std::collections::{HashMap, VecDeque};

use super::cost::Cost;
use super::reader::Reader;

/// How many reports have a turn, and how many wait.
#[derive(Debug, Clone, Copy)]
pub struct QueueLimits {
    /// Turns at once.
    pub turns_max: usize,
    /// Of these, how many reports that cost much may have.
    pub costly_turns_max: usize,
    pub waiting_max: usize,
}

/// Reports that have a turn and reports that wait, each of these with a ticket of type `T`.
#[derive(Debug)]
pub struct FairQueue<T> {
    limits: QueueLimits,
    /// Turns of reports that cost much.
    costly_turns: usize,
    /// Turns of each reader; no zeros.
    turns: HashMap<Reader, usize>,
    /// Readers who wait. The turn of the first was longest ago.
    lines: VecDeque<Line<T>>,
    next_number: u64,
}

/// The waiting reports of one reader, in the order in which they came; never empty.
#[derive(Debug)]
struct Line<T> {
    reader: Reader,
    waiting: VecDeque<Place<T>>,
}

#[derive(Debug)]
struct Place<T> {
    number: u64,
    cost: Cost,
    ticket: T,
}

/// A report whose turn it is.
#[derive(Debug, PartialEq, Eq)]
pub struct Called<T> {
    pub reader: Reader,
    pub cost: Cost,
    pub ticket: T,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Entry<T> {
    Turn,
    /// It waits under this number; another one may have lost its place to it.
    Waits(u64, Option<T>),
    /// There is no free place.
    Full,
}

impl<T> FairQueue<T> {
    /// An empty queue.
    pub fn new(limits: QueueLimits) -> FairQueue<T> {
        FairQueue {
            limits,
            costly_turns: 0,
            turns: HashMap::new(),
            lines: VecDeque::new(),
            next_number: 0,
        }
    }

    /// Enters the queue. In a full queue it takes the newest place of the reader who has most, if its own reader has
    /// fewer even then.
    pub fn enter(&mut self, reader: &Reader, cost: Cost, ticket: T) -> Entry<T> {
        if self.turns() < self.limits.turns_max && self.may_have_turn(cost) {
            self.begin_turn(reader, cost);
            return Entry::Turn;
        }
        let mut displaced = None;
        if self.waiting() >= self.limits.waiting_max {
            displaced = self.displace_for(reader);
            if displaced.is_none() {
                return Entry::Full;
            }
        }
        let number = self.next_number;
        self.next_number += 1;
        let place = Place { number, cost, ticket };
        match self.lines.iter_mut().find(|line| line.reader == *reader) {
            Some(line) => line.waiting.push_back(place),
            None => self.lines.push_back(Line {
                reader: reader.clone(),
                waiting: [place].into(),
            }),
        }
        Entry::Waits(number, displaced)
    }

    /// Ends a turn, and gives it to the next: to the reader with the fewest turns among those who wait, and among
    /// equals to the one whose last turn was longest ago. A report that costs much is passed over while as many as may
    /// have a turn.
    pub fn end_turn(&mut self, reader: &Reader, cost: Cost) -> Option<Called<T>> {
        if let Some(turns) = self.turns.get_mut(reader) {
            *turns -= 1;
            if *turns == 0 {
                self.turns.remove(reader);
            }
        }
        if cost == Cost::High {
            self.costly_turns -= 1;
        }
        let first = |line: &Line<T>| line.waiting.iter().position(|place| self.may_have_turn(place.cost));
        let lines = self.lines.iter().enumerate();
        let lines = lines.filter_map(|(index, line)| Some((index, first(line)?, self.turns_of(&line.reader))));
        let (index, position, _) = lines.min_by_key(|(.., turns)| *turns)?;
        let mut line = self.lines.remove(index)?;
        let Place { cost, ticket, .. } = line.waiting.remove(position)?;
        let reader = line.reader.clone();
        if !line.waiting.is_empty() {
            self.lines.push_back(line);
        }
        self.begin_turn(&reader, cost);
        Some(Called { reader, cost, ticket })
    }

    fn begin_turn(&mut self, reader: &Reader, cost: Cost) {
        *self.turns.entry(reader.clone()).or_default() += 1;
        if cost == Cost::High {
            self.costly_turns += 1;
        }
    }

    fn may_have_turn(&self, cost: Cost) -> bool {
        cost == Cost::Low || self.costly_turns < self.limits.costly_turns_max
    }

    /// Leaves the queue, if it still waits.
    pub fn leave(&mut self, reader: &Reader, number: u64) {
        let is_its = |line: &Line<T>| line.reader == *reader;
        if let Some(index) = self.lines.iter().position(is_its) {
            let waiting = &mut self.lines[index].waiting;
            waiting.retain(|place| place.number != number);
            if waiting.is_empty() {
                self.lines.remove(index);
            }
        }
    }

    /// How many have a turn.
    pub fn turns(&self) -> usize {
        self.turns.values().sum()
    }

    pub fn waiting(&self) -> usize {
        self.lines.iter().map(|line| line.waiting.len()).sum()
    }

    fn displace_for(&mut self, reader: &Reader) -> Option<T> {
        let lines = self.lines.iter().enumerate();
        let places = |line: &Line<T>| line.waiting.len() + self.turns_of(&line.reader);
        let (index, most) = lines
            .map(|(index, line)| (index, places(line)))
            .max_by_key(|(_, places)| *places)?;
        let own = self.lines.iter().find(|line| line.reader == *reader);
        if own.map_or(self.turns_of(reader), places) + 1 >= most {
            return None;
        }
        let waiting = &mut self.lines[index].waiting;
        let Place { ticket, .. } = waiting.pop_back()?;
        if waiting.is_empty() {
            self.lines.remove(index);
        }
        Some(ticket)
    }

    fn turns_of(&self, reader: &Reader) -> usize {
        self.turns.get(reader).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reader(name: &str) -> Reader {
        Reader::Key(name.into())
    }

    fn limits(turns_max: usize, waiting_max: usize) -> QueueLimits {
        QueueLimits {
            turns_max,
            costly_turns_max: 3,
            waiting_max,
        }
    }

    /// A queue of four turns in which these came one after the other, each with its own name as its ticket.
    fn queue_of(waiting_max: usize, names: &[&'static str]) -> FairQueue<&'static str> {
        let mut queue = FairQueue::new(limits(4, waiting_max));
        for name in names {
            assert_ne!(queue.enter(&reader(name), Cost::Low, *name), Entry::Full);
        }
        queue
    }

    /// Ends turns of one reader; who is next each time.
    fn next_after(queue: &mut FairQueue<&'static str>, ended: &[&str]) -> Vec<&'static str> {
        let next = |name: &&str| queue.end_turn(&reader(name), Cost::Low).map(|called| called.ticket);
        ended.iter().filter_map(next).collect()
    }

    #[test]
    fn a_reader_of_many_connections_has_its_share_of_turns_while_others_wait() {
        let mut queue = queue_of(9, &["a", "a", "a", "a", "a", "a", "a", "b", "b", "b"]);
        // Alone it had all four; then b has the next two, and from there on they take turns.
        let next = next_after(&mut queue, &["a", "a", "a", "b", "a", "b"]);
        assert_eq!(next, ["b", "b", "a", "b", "a", "a"]);
        assert_eq!((queue.turns(), queue.waiting()), (4, 0));
    }

    #[test]
    fn turns_go_round_among_many_readers() {
        let all = ["a", "a", "a", "a", "a", "a", "b", "c", "d", "b"];
        let mut queue = queue_of(9, &all);
        let next = next_after(&mut queue, &["a", "a", "a", "a", "b", "c", "d"]);
        assert_eq!(next, ["b", "c", "d", "a", "b", "a"]);
    }

    #[test]
    fn a_full_queue_takes_the_place_of_whoever_has_most() {
        let mut queue = FairQueue::new(limits(1, 3));
        let mut enter = |name, ticket| queue.enter(&reader(name), Cost::Low, ticket);
        for ticket in 0..4 {
            enter("a", ticket);
        }
        assert_eq!(enter("a", 4), Entry::Full);
        // The youngest of whoever has most goes, a turn counted as a place.
        assert_eq!(enter("b", 5), Entry::Waits(3, Some(3)));
        assert_eq!(enter("b", 6), Entry::Waits(4, Some(2)));
        assert_eq!(enter("b", 7), Entry::Full);
        assert_eq!(enter("c", 8), Entry::Waits(5, Some(6)));
        assert_eq!(enter("d", 9), Entry::Waits(6, Some(1)));
        assert_eq!(enter("e", 10), Entry::Full);
        assert_eq!(queue.waiting(), 3);
    }

    #[test]
    fn a_single_place_is_not_held_by_the_one_who_asks_already() {
        let mut queue = queue_of(1, &["a", "a", "a", "a", "a"]);
        let mut enter = |name| queue.enter(&reader(name), Cost::Low, name);
        assert_eq!(enter("b"), Entry::Waits(1, Some("a")));
        assert_eq!(enter("c"), Entry::Full);
    }

    #[test]
    fn reports_that_cost_much_leave_a_turn_to_the_others() {
        let mut queue = FairQueue::new(limits(4, 9));
        for ticket in ["1", "2", "3"] {
            assert_eq!(queue.enter(&reader("a"), Cost::High, ticket), Entry::Turn);
        }
        assert_eq!(queue.enter(&reader("a"), Cost::High, "4"), Entry::Waits(0, None));
        assert_eq!(queue.enter(&reader("b"), Cost::High, "5"), Entry::Waits(1, None));
        // Its own that cost much do not hold it up either.
        assert_eq!(queue.enter(&reader("a"), Cost::Low, "6"), Entry::Turn);
        assert_eq!(queue.enter(&reader("a"), Cost::Low, "7"), Entry::Waits(2, None));
        let mut next = |cost| queue.end_turn(&reader("a"), cost).map(|called| called.ticket);
        assert_eq!(next(Cost::Low), Some("7"));
        assert_eq!(next(Cost::Low), None, "two that cost much wait, and three have a turn");
        assert_eq!(next(Cost::High), Some("5"));
        assert_eq!(next(Cost::High), Some("4"));
        assert_eq!((queue.turns(), queue.waiting()), (3, 0));
    }

    #[test]
    fn one_that_leaves_is_not_called() {
        let mut queue = queue_of(9, &["a", "a", "a", "a", "b", "c"]);
        queue.leave(&reader("b"), 0);
        queue.leave(&reader("b"), 0);
        queue.leave(&reader("c"), 0);
        assert_eq!(next_after(&mut queue, &["a", "a"]), ["c"]);
    }

    fn costly(turns: &[(Reader, Cost)]) -> usize {
        turns.iter().filter(|(_, cost)| *cost == Cost::High).count()
    }

    proptest! {
        /// Whoever comes, leaves or is done: limits hold, no turn stays free while somebody waits who may have it, and
        /// a reader with more turns than another who waits gets none.
        #[test]
        fn limits_and_shares_hold(steps in prop::collection::vec((0_u8..4, 0_u8..5, any::<u8>()), 0..200)) {
            let mut queue = FairQueue::new(limits(4, 6));
            let (mut turns, mut waits) = (Vec::new(), Vec::new());
            for (ticket, (step, name, which)) in steps.into_iter().enumerate() {
                let reader = reader(&format!("k3y{name}"));
                let cost = if which % 3 == 0 { Cost::High } else { Cost::Low };
                let which = usize::from(which);
                match step {
                    0 | 1 => match queue.enter(&reader, cost, ticket) {
                        Entry::Turn => turns.push((reader, cost)),
                        Entry::Waits(number, displaced) => {
                            waits.retain(|(_, _, waiting, _)| Some(*waiting) != displaced);
                            waits.push((reader, number, ticket, cost));
                        }
                        Entry::Full => prop_assert_eq!(waits.len(), 6),
                    },
                    2 if !turns.is_empty() => {
                        let (ended, ended_cost) = turns.swap_remove(which % turns.len());
                        let count = |reader: &Reader| turns.iter().filter(|(turn, _)| turn == reader).count();
                        let all_costly = costly(&turns) == 3;
                        match queue.end_turn(&ended, ended_cost) {
                            None => prop_assert!(waits.iter().all(|(.., cost)| all_costly && *cost == Cost::High)),
                            Some(next) => {
                                for (other, _, _, cost) in &waits {
                                    let may = !all_costly || *cost == Cost::Low;
                                    prop_assert!(!may || count(&next.reader) <= count(other));
                                }
                                waits.retain(|(_, _, waiting, _)| *waiting != next.ticket);
                                turns.push((next.reader, next.cost));
                            }
                        }
                    }
                    3 if !waits.is_empty() => {
                        let (reader, number, ..) = waits.swap_remove(which % waits.len());
                        queue.leave(&reader, number);
                    }
                    _ => {}
                }
                prop_assert_eq!((queue.turns(), queue.waiting()), (turns.len(), waits.len()));
                prop_assert!(turns.len() <= 4 && waits.len() <= 6);
                prop_assert!(costly(&turns) <= 3);
                let may_all = costly(&turns) < 3;
                prop_assert!(turns.len() == 4 || waits.iter().all(|(.., cost)| !may_all && *cost == Cost::High));
            }
        }
    }
}
