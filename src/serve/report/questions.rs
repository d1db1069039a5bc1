//! Equal questions that were not sent yet are one, and one of a kind is on its way at a time: two hundred people who
//! keep a page open cost one question, or two.
//!
//! ```text
//! join -> waits until the one that was sent before is answered -> queue -> turn of any member -> sent -> answer of all
//! ```

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::cost::Cost;
use super::group::{Answering, Entries, Entry, Group, InFlight, Key, Member, SharedAnswer, State};
use super::queue::{Refusal, ReportQueue, Turn};
use super::reader::Reader;

/// How long an answer is still waited for once a reader has closed its side of the connection: it is gone, or it is one
/// of the few that close their side and read on. Then nobody waits, and the question is cancelled.
const HALF_CLOSED_TIME: Duration = Duration::from_secs(1);

/// The questions `Q` of one process, and their answers `A`.
pub struct Questions<Q: Key, A: SharedAnswer> {
    queue: Arc<ReportQueue>,
    entries: Arc<Entries<Q, A>>,
    waiting: AtomicUsize,
}

/// A reader who waits until its question is sent.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Waiting<'a> {
        count.fetch_add(1, Relaxed);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// A reader with a question.
pub struct Request<'a, Q> {
    pub question: &'a Q,
    pub reader: &'a Reader,
    pub cost: Cost,
    /// When the reader must have an answer.
    pub deadline: Instant,
}

impl<Q: Key, A: SharedAnswer> Questions<Q, A> {
    /// No questions yet.
    pub fn new(queue: Arc<ReportQueue>) -> Questions<Q, A> {
        Questions {
            queue,
            entries: Arc::default(),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Readers whose question was not sent yet.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    /// Waits for the answer to a question, which `send` asks until a deadline; `None` if it does not come before the
    /// reader's own. Ends early if `hung_up` does.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn answer(
        &self,
        request: Request<'_, Q>,
        hung_up: impl Future<Output = ()>,
        send: impl FnOnce(Instant) -> BoxFuture<'static, A>,
    ) -> Result<Option<A>, Refusal> {
        let mut hung_up = std::pin::pin!(hung_up);
        let deadline = request.deadline;
        let answering = tokio::select! {
            biased;
            answering = self.sent(request, send) => answering?,
            () = &mut hung_up => return Err(Refusal::HungUp),
        };
        let gone = async {
            hung_up.await;
            sleep(HALF_CLOSED_TIME).await;
        };
        tokio::select! {
            biased;
            answer = timeout_at(deadline, answering) => Ok(answer.ok()),
            () = gone => Err(Refusal::HungUp),
        }
    }

    /// Waits until the question is on its way.
    async fn sent(
        &self,
        request: Request<'_, Q>,
        send: impl FnOnce(Instant) -> BoxFuture<'static, A>,
    ) -> Result<Answering<A>, Refusal> {
        let _waiting = Waiting::new(&self.waiting);
        // A reader may have waited for something else before.
        let until = self.queue.wait_over_at().min(request.deadline);
        let (mut member, before) = self.join(&request);
        let mut state = member.group.state.subscribe();
        let turn = async {
            if let Some(before) = before {
                let over = timeout_at(until, before.cancelled()).await;
                over.map_err(|_| self.queue.wait_over())?;
            }
            self.queue.turn(request.reader, request.cost, until).await
        };
        let refusal = tokio::select! {
            biased;
            answering = until_some(&mut state, State::answering) => return Ok(answering),
            turn = turn => match turn {
                Ok(turn) => return Ok(self.send(&member.group, turn, send)),
                Err(refusal) => refusal,
            },
        };
        if !matches!(refusal, Refusal::QueueFull(_) | Refusal::Displaced) {
            return Err(refusal);
        }
        // It has no place, but those who ask the same may have one.
        member.give_up();
        let outcome = |state: &State<A>| match state.is_without_hope() {
            true => Some(Err(refusal)),
            false => state.answering().map(Ok),
        };
        tokio::select! {
            biased;
            outcome = until_some(&mut state, outcome) => outcome,
            () = sleep_until(until) => Err(self.queue.wait_over()),
        }
    }

    /// Joins those who wait for the same, or begins to. The second says when the one that was sent before is over.
    fn join(&self, request: &Request<'_, Q>) -> (Member<Q, A>, Option<CancellationToken>) {
        let mut entries = self.entries.lock();
        let entry = entries.entry(request.question.clone()).or_insert_with(|| Entry {
            waiting: Weak::new(),
            in_flight: None,
        });
        let group = entry.waiting.upgrade().unwrap_or_else(|| {
            let state = State::Waiting {
                hopeful: 0,
                deadline: request.deadline,
            };
            let group = Arc::new(Group {
                question: request.question.clone(),
                state: watch::Sender::new(state),
                entries: Arc::clone(&self.entries),
            });
            entry.waiting = Arc::downgrade(&group);
            group
        });
        group.state.send_modify(|state| {
            if let State::Waiting { hopeful, deadline } = state {
                *hopeful += 1;
                *deadline = request.deadline.max(*deadline);
            }
        });
        let member = Member {
            group,
            is_hopeful: true,
        };
        (member, entry.in_flight.clone())
    }

    /// Sends the question of a group, unless another member just did. Nobody joins it from now on.
    fn send(
        &self,
        group: &Arc<Group<Q, A>>,
        turn: Turn,
        send: impl FnOnce(Instant) -> BoxFuture<'static, A>,
    ) -> Answering<A> {
        let mut entries = self.entries.lock();
        let deadline = match &*group.state.borrow() {
            State::Sent(answering) => {
                drop(entries);
                return answering.clone();
            }
            State::Waiting { deadline, .. } => *deadline,
        };
        let over = CancellationToken::new();
        if let Some(entry) = entries.get_mut(&group.question) {
            entry.waiting = Weak::new();
            entry.in_flight = Some(over.clone());
        }
        let in_flight = InFlight {
            question: group.question.clone(),
            over,
            entries: Arc::clone(&self.entries),
            _turn: turn,
        };
        let answer = send(deadline);
        let answering = async move {
            let _in_flight = in_flight;
            answer.await
        };
        let answering = answering.boxed().shared();
        let sent = answering.clone();
        group.state.send_modify(|state| *state = State::Sent(sent));
        answering
    }
}

/// Waits until a state has something.
async fn until_some<S, T>(state: &mut watch::Receiver<S>, find: impl Fn(&S) -> Option<T>) -> T {
    loop {
        if let Some(found) = find(&state.borrow_and_update()) {
            return found;
        }
        // The sender is in the group, which its member holds.
        if state.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};
    use tokio::sync::Semaphore;
    use tokio::task::{JoinHandle, yield_now};

    const SECONDS: Duration = Duration::from_secs(1);

    /// Questions whose answers come one for each permit; an answer is the number of questions that were sent before.
    struct Asked {
        questions: Questions<&'static str, usize>,
        sent: AtomicUsize,
        dropped: AtomicUsize,
        answers: Semaphore,
    }

    /// Counts an answer that nobody waited for.
    struct OnDrop(Arc<Asked>, bool);

    impl Drop for OnDrop {
        fn drop(&mut self) {
            self.0.dropped.fetch_add(usize::from(!self.1), Relaxed);
        }
    }

    type Outcome = JoinHandle<Result<Option<usize>, Refusal>>;

    impl Asked {
        fn new(waiting_max: usize) -> Arc<Asked> {
            Arc::new(Asked {
                questions: Questions::new(ReportQueue::new(waiting_max, 5 * SECONDS)),
                sent: AtomicUsize::new(0),
                dropped: AtomicUsize::new(0),
                answers: Semaphore::new(0),
            })
        }

        async fn ask(self: &Arc<Self>, reader: &'static str, question: &'static str) -> Outcome {
            self.ask_until(reader, question, pending()).await
        }

        async fn ask_until(
            self: &Arc<Self>,
            reader: &'static str,
            question: &'static str,
            hung_up: impl Future<Output = ()> + Send + 'static,
        ) -> Outcome {
            let asked = Arc::clone(self);
            let outcome = tokio::spawn(async move {
                let send = |_| {
                    let mut on_drop = OnDrop(Arc::clone(&asked), false);
                    async move {
                        let on_drop = &mut on_drop;
                        let number = on_drop.0.sent.fetch_add(1, Relaxed);
                        on_drop.0.answers.acquire().await.unwrap().forget();
                        on_drop.1 = true;
                        number
                    }
                    .boxed()
                };
                let request = Request {
                    question: &question,
                    reader: &Reader::Key(reader.into()),
                    cost: Cost::Low,
                    deadline: Instant::now() + 9 * SECONDS,
                };
                asked.questions.answer(request, hung_up, send).await
            });
            for _ in 0..3 {
                yield_now().await;
            }
            outcome
        }

        /// Nothing is left of any question.
        fn assert_empty(&self) {
            assert!(self.questions.entries.lock().is_empty());
            assert_eq!(self.questions.waiting(), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn two_hundred_equal_questions_are_two() {
        let asked = Asked::new(10);
        let mut outcomes = Vec::new();
        for _ in 0..200 {
            outcomes.push(asked.ask("a", "same").await);
        }
        assert_eq!(asked.sent.load(Relaxed), 1);
        assert_eq!(asked.questions.waiting(), 199);
        let other = asked.ask("b", "other").await;
        assert_eq!(asked.sent.load(Relaxed), 2, "another question has its own turn");
        asked.answers.add_permits(3);
        let mut answers = Vec::new();
        for outcome in outcomes {
            answers.push(outcome.await.unwrap().unwrap().unwrap());
        }
        assert_eq!(other.await.unwrap(), Ok(Some(1)));
        // Of the first, who asked alone, and of all who came before the second was sent.
        assert_eq!(answers[0], 0);
        assert!(answers[1..].iter().all(|answer| *answer == 2), "{answers:?}");
        asked.assert_empty();
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_goes_on_as_long_as_anybody_waits_for_it() {
        let asked = Asked::new(10);
        let busy = asked.ask("a", "busy").await;
        let (first, second) = (asked.ask("a", "busy").await, asked.ask("b", "busy").await);
        asked.answers.add_permits(1);
        assert_eq!(busy.await.unwrap(), Ok(Some(0)));
        for _ in 0..3 {
            yield_now().await;
        }
        // The second question is on its way, by whichever of the two had the turn.
        assert_eq!(asked.sent.load(Relaxed), 2);
        first.abort();
        assert!(first.await.is_err());
        assert_eq!(asked.dropped.load(Relaxed), 0);
        asked.answers.add_permits(1);
        assert_eq!(second.await.unwrap(), Ok(Some(1)));
        let alone = asked.ask("a", "alone").await;
        alone.abort();
        assert!(alone.await.is_err());
        assert_eq!(asked.dropped.load(Relaxed), 1, "nobody waits for it");
        asked.assert_empty();
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_hangs_up_leaves_and_cancels_its_question() {
        let asked = Asked::new(10);
        let gone = asked.ask_until("a", "sent", ready(())).await;
        assert_eq!(gone.await.unwrap(), Err(Refusal::HungUp));
        assert_eq!((asked.sent.load(Relaxed), asked.dropped.load(Relaxed)), (1, 1));
        let _first = asked.ask("a", "waits").await;
        let gone = asked.ask_until("b", "waits", ready(())).await;
        assert_eq!(gone.await.unwrap(), Err(Refusal::HungUp));
        assert_eq!(asked.sent.load(Relaxed), 2);
        // One that reads on has its answer.
        let half_closed = asked.ask_until("c", "half", ready(())).await;
        asked.answers.add_permits(2);
        assert_eq!(half_closed.await.unwrap(), Ok(Some(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_refuses_those_alone_who_ask_what_nobody_waits_for() {
        let asked = Asked::new(1);
        for question in ["1", "2", "3", "4"] {
            asked.ask("a", question).await;
        }
        let waits = asked.ask("a", "5").await;
        let joins = asked.ask("a", "5").await;
        let refused = asked.ask("a", "6").await;
        assert_eq!(refused.await.unwrap(), Err(Refusal::QueueFull(1)));
        // The only one with a place leaves: nobody else would get the question a turn.
        waits.abort();
        assert_eq!(joins.await.unwrap(), Err(Refusal::QueueFull(1)));
        let (waits, joins) = (asked.ask("a", "7").await, asked.ask("a", "7").await);
        asked.answers.add_permits(5);
        assert_eq!(waits.await.unwrap(), Ok(Some(4)));
        assert_eq!(joins.await.unwrap(), Ok(Some(4)));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_beyond_its_deadline() {
        let asked = Asked::new(10);
        let _stuck = asked.ask("a", "stuck").await;
        let request = Request {
            question: &"stuck",
            reader: &Reader::Key("b".into()),
            cost: Cost::Low,
            deadline: Instant::now() + SECONDS,
        };
        let began = Instant::now();
        let never = |_| unreachable!("another one is on its way");
        let refused = asked.questions.answer(request, pending(), never).await;
        assert_eq!(refused, Err(Refusal::WaitOver(5 * SECONDS)));
        assert_eq!(began.elapsed(), SECONDS);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_is_over_also_behind_an_equal_question() {
        let asked = Asked::new(10);
        let stuck = asked.ask("a", "stuck").await;
        let behind = asked.ask("b", "stuck").await;
        assert_eq!(behind.await.unwrap(), Err(Refusal::WaitOver(5 * SECONDS)));
        assert_eq!(stuck.await.unwrap(), Ok(None));
        asked.assert_empty();
    }
}
