//! A small world in which every interleaving is tried: two workers on one partition, a server that does what
//! ClickHouse does with an insert, and crashes, lost connections and forgotten tokens at each step.
//!
//! The workers take their decisions from [`super::decision`]; the rest is what was measured of the server: the guard
//! is evaluated when an insert starts, the token is noted before the rows are kept, and a crash between the two
//! leaves it burnt. What is checked: no offset ever has two rows or is left out, what a worker takes for stored is
//! stored, and from everywhere there is a way to the end without a further fault. During a rollout one worker is of the
//! version before, whose rows have no roles: then also, the newer worker takes no such row for its own.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Range;

use super::decision::{Attempt, InsertOutcome, Next, Reason};
use crate::topic_partition::Offset;

/// Records in the log.
const RECORDS: i64 = 3;

/// Rows that one batch has at most, so that batches of the two workers differ.
const BATCH_MAX: i64 = 2;

/// What holds; a world without one of these must fail, or the model would prove nothing.
#[derive(Clone, Copy)]
struct Rules {
    guard: bool,
    tokens: bool,
    check_running: bool,
    keep_token_after_error: bool,
    refuse_other_tokens: bool,
    read_rules: bool,
}

/// The workers of a world.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Versions {
    Equal,
    /// The worker [`OLD`] gives no roles.
    Rollout,
}

const ALL: Rules = Rules {
    guard: true,
    tokens: true,
    check_running: true,
    keep_token_after_error: true,
    refuse_other_tokens: true,
    read_rules: true,
};

/// The older worker of a rollout.
const OLD: usize = 0;

/// Head and generation.
type Token = (i64, u32);

/// How far a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum WorkerState {
    Start,
    Head(i64),
    Waiting(Attempt),
    /// It was answered Ok.
    ReadHead(Attempt),
    /// The head had not moved.
    CheckRunning(Attempt),
    /// The running inserts were read.
    RereadHead(Attempt, bool),
    /// The head is the end of the batch.
    ReadRules(Attempt),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Worker {
    state: WorkerState,
    burnt: Option<Token>,
}

/// How far the server is with an insert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Received,
    GuardPassed,
    TokenNoted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Flight {
    attempt: Attempt,
    phase: Phase,
    /// Whether its rows have no roles.
    is_old: bool,
    /// The worker that waits for its answer; `None` after a lost connection.
    worker: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    /// Rows at each offset.
    rows: [u8; RECORDS as usize],
    /// Which of them have no roles.
    is_old: [bool; RECORDS as usize],
    tokens: Vec<Token>,
    flights: Vec<Flight>,
    workers: [Worker; 2],
    faults_left: u8,
    has_old: bool,
    /// Whether the newer worker takes rows without roles for its own.
    is_misjudged: bool,
}

/// The offsets of its rows.
fn range(attempt: &Attempt) -> Range<usize> {
    attempt.head.get() as usize..attempt.end.get() as usize
}

fn token(attempt: &Attempt) -> Token {
    (attempt.head.get(), attempt.generation)
}

impl World {
    fn new(versions: Versions, faults_left: u8) -> World {
        let worker = Worker {
            state: WorkerState::Start,
            burnt: None,
        };
        World {
            rows: [0; RECORDS as usize],
            is_old: [false; RECORDS as usize],
            tokens: Vec::new(),
            flights: Vec::new(),
            workers: [worker; 2],
            faults_left,
            has_old: versions == Versions::Rollout,
            is_misjudged: false,
        }
    }

    fn head(&self) -> Option<i64> {
        let last = self.rows.iter().rposition(|rows| *rows > 0);
        last.map(|last| last as i64 + 1)
    }

    fn is_sound(&self) -> bool {
        let head = self.head().unwrap_or(0) as usize;
        self.rows[..head].iter().all(|rows| *rows == 1) && !self.is_misjudged
    }

    /// A copy, changed.
    fn with(&self, change: impl FnOnce(&mut World)) -> World {
        let mut next = self.clone();
        change(&mut next);
        next.tokens.sort_unstable();
        next.flights
            .sort_unstable_by_key(|flight| (flight.attempt.head, flight.attempt.end, flight.worker, flight.is_old));
        next
    }

    /// Everything that may happen next without a fault.
    fn steps(&self, rules: Rules) -> Vec<World> {
        let mut next = Vec::new();
        for worker in 0..self.workers.len() {
            self.worker_steps(worker, rules, &mut next);
        }
        for flight in 0..self.flights.len() {
            self.server_steps(flight, rules, &mut next);
        }
        next
    }

    fn worker_steps(&self, index: usize, rules: Rules, next: &mut Vec<World>) {
        let worker = self.workers[index];
        match worker.state {
            WorkerState::Start => {
                let head = self.head().unwrap_or(0);
                next.push(self.with(|world| world.workers[index].state = WorkerState::Head(head)));
            }
            WorkerState::Head(head) => {
                for end in head + 1..=RECORDS.min(head + BATCH_MAX) {
                    let generation = match worker.burnt {
                        Some((burnt, generation)) if burnt == head => generation,
                        _ => 0,
                    };
                    let attempt = Attempt {
                        head: Offset::new(head),
                        end: Offset::new(end),
                        generation,
                    };
                    next.push(self.with(|world| {
                        world.workers[index].state = WorkerState::Waiting(attempt);
                        world.flights.push(Flight {
                            attempt,
                            phase: Phase::Received,
                            is_old: world.has_old && index == OLD,
                            worker: Some(index),
                        });
                    }));
                }
            }
            WorkerState::Waiting(_) => {}
            WorkerState::ReadHead(attempt) => {
                let decision = attempt.after_head(self.head().map(Offset::new));
                next.push(self.with(|world| world.follow(index, attempt, decision)));
            }
            WorkerState::CheckRunning(attempt) => {
                let same = |flight: &Flight| token(&flight.attempt) == token(&attempt);
                let is_running = rules.check_running && self.flights.iter().any(same);
                next.push(self.with(|world| {
                    world.workers[index].state = WorkerState::RereadHead(attempt, is_running);
                }));
            }
            WorkerState::RereadHead(attempt, is_running) => {
                let decision = attempt.after_recheck(is_running, self.head().map(Offset::new));
                next.push(self.with(|world| world.follow(index, attempt, decision)));
            }
            WorkerState::ReadRules(attempt) => {
                let is_read = rules.read_rules;
                let decision = attempt.after_rules(is_read && self.is_old[range(&attempt)].contains(&true));
                next.push(self.with(|world| world.follow(index, attempt, decision)));
            }
        }
    }

    /// What a worker does with a decision.
    fn follow(&mut self, index: usize, attempt: Attempt, next: Next) {
        let head = self.head().unwrap_or(0);
        let worker = &mut self.workers[index];
        worker.state = match next {
            Next::ReadHead => WorkerState::ReadHead(attempt),
            Next::Recheck => WorkerState::CheckRunning(attempt),
            Next::ReadRules if self.has_old && index != OLD => WorkerState::ReadRules(attempt),
            Next::ReadRules | Next::Confirmed => {
                let stored = &self.rows[range(&attempt)];
                assert!(stored.iter().all(|rows| *rows == 1), "taken for stored");
                self.is_misjudged |= index != OLD && self.is_old[range(&attempt)].contains(&true);
                WorkerState::Head(attempt.end.get())
            }
            Next::Overtaken => WorkerState::Head(head),
            Next::ChangeToken(generation) => {
                worker.burnt = Some((attempt.head.get(), generation));
                WorkerState::Head(attempt.head.get())
            }
            Next::Restart(Reason::WentBack) => panic!("nothing takes rows away here"),
            Next::Restart(_) => WorkerState::Start,
        };
    }

    fn server_steps(&self, index: usize, rules: Rules, next: &mut Vec<World>) {
        let Flight {
            attempt,
            phase,
            is_old,
            worker,
        } = self.flights[index];
        let answer = |world: &mut World, outcome: InsertOutcome| {
            world.flights.remove(index);
            if let Some(worker) = worker {
                world.follow(worker, attempt, attempt.after_insert(outcome));
            }
        };
        let is_other =
            |flight: &Flight| flight.attempt.head == attempt.head && flight.attempt.generation != attempt.generation;
        let is_contested = rules.refuse_other_tokens && self.flights.iter().any(is_other);
        let is_moved = rules.guard && self.head().unwrap_or(0) != attempt.head.get();
        match phase {
            Phase::Received if is_contested || is_moved => {
                next.push(self.with(|world| answer(world, InsertOutcome::HeadMoved)));
            }
            Phase::Received => {
                next.push(self.with(|world| world.flights[index].phase = Phase::GuardPassed));
            }
            Phase::GuardPassed if rules.tokens && self.tokens.contains(&token(&attempt)) => {
                next.push(self.with(|world| answer(world, InsertOutcome::Ok)));
            }
            Phase::GuardPassed => next.push(self.with(|world| {
                world.tokens.push(token(&attempt));
                world.flights[index].phase = Phase::TokenNoted;
            })),
            Phase::TokenNoted => next.push(self.with(|world| {
                for offset in range(&attempt) {
                    world.rows[offset] += 1;
                    world.is_old[offset] = is_old;
                }
                answer(world, InsertOutcome::Ok);
            })),
        }
    }

    /// Everything that may go wrong next.
    fn faults(&self, rules: Rules) -> Vec<World> {
        let mut next = Vec::new();
        if self.faults_left == 0 {
            return next;
        }
        let base = self.with(|world| world.faults_left -= 1);
        for index in 0..base.workers.len() {
            let orphaned = |world: &mut World| {
                for flight in &mut world.flights {
                    if flight.worker == Some(index) {
                        flight.worker = None;
                    }
                }
            };
            // Killed: it forgets.
            next.push(base.with(|world| {
                orphaned(world);
                world.workers[index].state = WorkerState::Start;
                world.workers[index].burnt = None;
            }));
            // Cut off, while an insert is under way or not.
            next.push(base.with(|world| {
                orphaned(world);
                if let WorkerState::Waiting(attempt) = world.workers[index].state {
                    world.follow(index, attempt, attempt.after_insert(InsertOutcome::Failed));
                    if !rules.keep_token_after_error {
                        let next = (attempt.head.get(), attempt.generation + 1);
                        world.workers[index].burnt = Some(next);
                    }
                } else {
                    world.workers[index].state = WorkerState::Start;
                }
            }));
        }
        for index in 0..base.flights.len() {
            let flight = base.flights[index];
            // The server notices that no worker waits any more, as long as it has not started to write.
            if flight.worker.is_none() && flight.phase != Phase::TokenNoted {
                next.push(base.with(|world| {
                    world.flights.remove(index);
                }));
            }
        }
        // The server is killed: what it had noted stays, what it had not kept is gone.
        next.push(base.with(|world| {
            world.flights.clear();
            for worker in &mut world.workers {
                worker.state = WorkerState::Start;
            }
        }));
        // A token is forgotten, which takes 100,000 inserts elsewhere. Workers may sleep as long, wherever they
        // are, but a token that was noted a moment ago stays while its insert goes on.
        for index in 0..base.tokens.len() {
            let is_new =
                |flight: &Flight| flight.phase != Phase::Received && token(&flight.attempt) == base.tokens[index];
            if !base.flights.iter().any(is_new) {
                next.push(base.with(|world| {
                    world.tokens.remove(index);
                }));
            }
        }
        next
    }
}

/// The way to a world, a line for each.
fn trace(world: World, cause: &HashMap<World, World>) -> String {
    let mut way: Vec<_> = std::iter::successors(Some(&world), |world| cause.get(world))
        .map(|world| format!("{world:?}"))
        .collect();
    way.reverse();
    format!(
        "an offset has two rows or none, or other roles than its worker takes it to have:\n{}",
        way.join("\n")
    )
}

/// Tries everything; the number of worlds, or what went wrong.
fn explore(rules: Rules, versions: Versions, faults: u8) -> Result<usize, String> {
    let start = World::new(versions, faults);
    let mut numbers = HashMap::from([(start.clone(), 0_usize)]);
    let mut queue = VecDeque::from([start]);
    // The worlds that lead to a world without a fault, and those that are ends.
    let mut before: Vec<Vec<usize>> = vec![Vec::new()];
    // How each world came about, for the one that should not be.
    let mut cause = HashMap::new();
    let mut ends = Vec::new();
    while let Some(world) = queue.pop_front() {
        let number = numbers[&world];
        if !world.is_sound() {
            return Err(trace(world, &cause));
        }
        if world.head() == Some(RECORDS) {
            ends.push(number);
        }
        let steps = world.steps(rules).into_iter().map(|next| (next, true));
        let faults = world.faults(rules).into_iter().map(|next| (next, false));
        for (next, is_step) in steps.chain(faults) {
            let count = numbers.len();
            let to = *numbers.entry(next.clone()).or_insert(count);
            if to == count {
                cause.insert(next.clone(), world.clone());
                before.push(Vec::new());
                queue.push_back(next);
            }
            if is_step {
                before[to].push(number);
            }
        }
    }
    let mut reaching: HashSet<usize> = ends.iter().copied().collect();
    while let Some(end) = ends.pop() {
        for from in &before[end] {
            if reaching.insert(*from) {
                ends.push(*from);
            }
        }
    }
    match reaching.len() == numbers.len() {
        true => Ok(numbers.len()),
        false => Err("stuck".to_string()),
    }
}

#[test]
fn no_interleaving_loses_doubles_or_gets_stuck() {
    let worlds = explore(ALL, Versions::Equal, 2).unwrap_or_else(|wrong| panic!("{wrong}"));
    assert!(worlds > 10_000, "only {worlds} worlds");
}

#[test]
fn each_rule_is_needed() {
    for broken in [
        Rules { guard: false, ..ALL },
        Rules { tokens: false, ..ALL },
        Rules {
            refuse_other_tokens: false,
            ..ALL
        },
    ] {
        let wrong = explore(broken, Versions::Equal, 2).unwrap_err();
        assert!(wrong.starts_with("an offset has two rows"), "{wrong}");
    }
}

#[test]
fn no_worker_takes_rows_of_another_version_for_its_own() {
    explore(ALL, Versions::Rollout, 1).unwrap_or_else(|wrong| panic!("{wrong}"));
    let careless = Rules {
        read_rules: false,
        ..ALL
    };
    let wrong = explore(careless, Versions::Rollout, 0).unwrap_err();
    assert!(wrong.contains("is_misjudged: true"), "{wrong}");
}

/// What keeps workers from calling a token burnt that a rival is using, which costs work and a wrong line in the log.
#[test]
fn nothing_rests_on_the_check_for_running_inserts() {
    for careless in [
        Rules {
            check_running: false,
            ..ALL
        },
        Rules {
            keep_token_after_error: false,
            ..ALL
        },
    ] {
        explore(careless, Versions::Equal, 1).unwrap_or_else(|wrong| panic!("{wrong}"));
    }
}
