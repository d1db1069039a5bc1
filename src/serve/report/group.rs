//! Those who wait for one question, and the question once it is on its way.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Weak};

use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::queue::Turn;

/// A question that was sent. It goes on as long as anybody waits for it.
pub(super) type Answering<A> = Shared<BoxFuture<'static, A>>;

/// What tells questions apart.
pub trait Key: Eq + Hash + Clone + Send + Sync + 'static {}
impl<Q: Eq + Hash + Clone + Send + Sync + 'static> Key for Q {}

/// What all who wait for a question get.
pub trait SharedAnswer: Clone + Send + Sync + 'static {}
impl<A: Clone + Send + Sync + 'static> SharedAnswer for A {}

pub(super) type Entries<Q, A> = Mutex<HashMap<Q, Entry<Q, A>>>;

/// What there is of a kind of question.
pub(super) struct Entry<Q: Key, A: SharedAnswer> {
    /// Those who wait until it is sent.
    pub(super) waiting: Weak<Group<Q, A>>,
    /// Of one that is on its way; cancelled when that is over.
    pub(super) in_flight: Option<CancellationToken>,
}

/// Those who wait for one question.
pub(super) struct Group<Q: Key, A: SharedAnswer> {
    pub(super) question: Q,
    pub(super) state: watch::Sender<State<A>>,
    pub(super) entries: Arc<Entries<Q, A>>,
}

pub(super) enum State<A: SharedAnswer> {
    Waiting {
        /// Members who may still get a turn.
        hopeful: usize,
        /// The last moment at which somebody waits.
        deadline: Instant,
    },
    Sent(Answering<A>),
}

impl<A: SharedAnswer> State<A> {
    pub(super) fn answering(&self) -> Option<Answering<A>> {
        match self {
            State::Waiting { .. } => None,
            State::Sent(answering) => Some(answering.clone()),
        }
    }

    pub(super) fn is_without_hope(&self) -> bool {
        matches!(self, State::Waiting { hopeful: 0, .. })
    }
}

impl<Q: Key, A: SharedAnswer> Drop for Group<Q, A> {
    fn drop(&mut self) {
        remove_unused(&self.entries, &self.question);
    }
}

pub(super) fn remove_unused<Q: Key, A: SharedAnswer>(entries: &Entries<Q, A>, question: &Q) {
    let mut entries = entries.lock();
    let is_used = |entry: &Entry<Q, A>| entry.in_flight.is_some() || entry.waiting.strong_count() > 0;
    if entries.get(question).is_some_and(|entry| !is_used(entry)) {
        entries.remove(question);
    }
}

/// A member of a group, who may get a turn until it is dropped or gives up.
pub(super) struct Member<Q: Key, A: SharedAnswer> {
    pub(super) group: Arc<Group<Q, A>>,
    pub(super) is_hopeful: bool,
}

impl<Q: Key, A: SharedAnswer> Member<Q, A> {
    pub(super) fn give_up(&mut self) {
        if std::mem::take(&mut self.is_hopeful) {
            self.group.state.send_modify(|state| {
                if let State::Waiting { hopeful, .. } = state {
                    *hopeful -= 1;
                }
            });
        }
    }
}

impl<Q: Key, A: SharedAnswer> Drop for Member<Q, A> {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// A question that is on its way, until it is answered or nobody waits for it.
pub(super) struct InFlight<Q: Key, A: SharedAnswer> {
    pub(super) question: Q,
    pub(super) over: CancellationToken,
    pub(super) entries: Arc<Entries<Q, A>>,
    pub(super) _turn: Turn,
}

impl<Q: Key, A: SharedAnswer> Drop for InFlight<Q, A> {
    fn drop(&mut self) {
        if let Some(entry) = self.entries.lock().get_mut(&self.question) {
            entry.in_flight = None;
        }
        remove_unused(&self.entries, &self.question);
        self.over.cancel();
    }
}
