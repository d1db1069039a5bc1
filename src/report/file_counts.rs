//! Counts of the events of a file, by the rules of `captcha consume`.

use std::collections::{BTreeMap, HashSet};

use uuid::Uuid;

use super::input::Input;
use crate::event::{Event, EventType};
use crate::rules::{Judgement, Pending, Role, RoleAndPair, Window};
use crate::statistics::{
    Answer, AnswerError, Buckets, By, Compared, CountRow, Counts, Interval, Query, Range, Resolved, solve_time_bucket,
};
use crate::topic_partition::Offset;

/// Events that are judged before they are recorded in the window.
const JUDGED_AT_ONCE: usize = 10_000;

/// The arrival month of all events: a file has no arrivals, and nothing of it is dropped.
const MONTH: u32 = 197_001;

/// Answers a question from a file, which is one partition: its line numbers are offsets.
///
/// # Errors
/// The file cannot be read, or the answer has too many rows.
pub fn answer(
    input: &mut Input,
    query: &Query,
    window_records: i64,
    now_micros: i64,
    complete_through_micros: i64,
) -> anyhow::Result<Answer> {
    let resolved = query.resolve(now_micros, Some(complete_through_micros));
    let mut tallies = Tallies::new(query, &resolved);
    let mut window = Window::new(window_records);
    let mut pending = Pending::default();
    let mut judged = 0;
    while let Some((offset, event)) = input.next_event()? {
        let judgement = window.judge(&mut pending, offset, &event, MONTH);
        tallies.add(&event, judgement);
        judged += 1;
        if judged == JUDGED_AT_ONCE {
            record(&mut window, &mut pending, offset);
            judged = 0;
        }
    }
    let answer = tallies.into_answer(query, &resolved, complete_through_micros);
    answer.map_err(|error| anyhow::anyhow!("{error}"))
}

fn record(window: &mut Window, pending: &mut Pending, last: Offset) {
    window.record_pending(std::mem::take(pending));
    window.complete_to(last + 1);
}

/// The counts of the range and of both sides of a comparison.
struct Tallies {
    main: Tally,
    compared: Option<(Tally, Tally)>,
    context: Context,
}

/// The settings that all tallies share.
struct Context {
    /// Only these sites; empty means all.
    site_ids: HashSet<Uuid>,
    limit_micros: i64,
    pending_from: Option<i64>,
}

/// The counts of a range, by bucket and site.
struct Tally {
    range: Range,
    /// `None` for one bucket.
    buckets: Option<Buckets>,
    by_site: bool,
    rows: BTreeMap<(i64, Option<Uuid>), Counts>,
}

impl Tallies {
    fn new(query: &Query, resolved: &Resolved) -> Tallies {
        let buckets = (query.interval != Interval::All).then(|| query.buckets());
        let sum = |range| Tally::new(range, None, false);
        Tallies {
            main: Tally::new(resolved.range, buckets, query.by == By::Site),
            compared: resolved
                .comparison
                .map(|sides| (sum(sides.current), sum(sides.previous))),
            context: Context {
                site_ids: query.site_ids.iter().copied().collect(),
                limit_micros: query.solve_within.micros(),
                pending_from: resolved.pending_from,
            },
        }
    }

    fn add(&mut self, event: &Event, judgement: Judgement) {
        let site_ids = &self.context.site_ids;
        if !site_ids.is_empty() && !site_ids.contains(&event.site_id) {
            return;
        }
        let others = self
            .compared
            .iter_mut()
            .flat_map(|(current, previous)| [current, previous]);
        for tally in [&mut self.main].into_iter().chain(others) {
            tally.add(event, judgement, &self.context);
        }
    }

    fn into_answer(
        self,
        query: &Query,
        resolved: &Resolved,
        complete_through_micros: i64,
    ) -> Result<Answer, AnswerError> {
        let compared = self.compared.map(|(current, previous)| Compared {
            current: Some(current.into_rows()),
            previous: previous.into_rows(),
        });
        query.answer(resolved, self.main.into_rows(), compared, Some(complete_through_micros))
    }
}

impl Tally {
    fn new(range: Range, buckets: Option<Buckets>, by_site: bool) -> Tally {
        Tally {
            range,
            buckets,
            by_site,
            rows: BTreeMap::new(),
        }
    }

    fn into_rows(self) -> Vec<CountRow> {
        let row = |((bucket, site_id), counts)| CountRow {
            bucket,
            site_id,
            counts,
        };
        self.rows.into_iter().map(row).collect()
    }

    /// The counts of a moment of a site, unless it is outside of the range.
    fn at(&mut self, micros: i64, site_id: Uuid) -> Option<&mut Counts> {
        let is_inside = self.range.from.is_none_or(|from| micros >= from) && self.range.to.is_none_or(|to| micros < to);
        let bucket = self.buckets.as_ref().map_or(0, |buckets| buckets.start_of(micros));
        let site_id = self.by_site.then_some(site_id);
        is_inside.then(|| self.rows.entry((bucket, site_id)).or_default())
    }

    fn add(&mut self, event: &Event, judgement: Judgement, context: &Context) {
        let (micros, site_id) = (event.time.micros(), event.site_id);
        let Judgement::First(judged) = judgement else {
            self.at(micros, site_id)
                .into_iter()
                .for_each(|counts| counts.retries += 1);
            return;
        };
        let is_pending = |micros| context.pending_from.is_some_and(|from| micros >= from);
        if let Some(counts) = self.at(micros, site_id) {
            match event.event_type {
                EventType::Serve => counts.served += 1,
                EventType::Solve => counts.solved += 1,
            }
            match (judged.role, event.event_type) {
                (Role::First, _) => {
                    counts.challenges += 1;
                    counts.pending += u64::from(is_pending(micros));
                }
                (Role::Again, EventType::Solve) => counts.solved_again += 1,
                (Role::Open, _) => counts.open_solves += 1,
                (Role::Again | Role::Answer, _) => {}
            }
        }
        self.add_pair(micros, site_id, judged, context);
    }

    /// Adds the pair that an event completes, in the buckets of its serve and of its solve.
    fn add_pair(&mut self, micros: i64, site_id: Uuid, judged: RoleAndPair, context: &Context) {
        let Some(pair) = judged.pair else { return };
        let after = pair.solve_after_micros;
        let serve_micros = match judged.role {
            Role::First => micros,
            _ => micros - after,
        };
        if let Some(counts) = self.at(serve_micros, site_id) {
            counts.pairs += 1;
            counts.pairs_within += u64::from(after <= context.limit_micros);
            counts.pairs_before_serve += u64::from(after < 0);
            counts.solve_times.add(solve_time_bucket(after), 1);
            // Its serve was counted as pending, when it came.
            counts.pending -= u64::from(context.pending_from.is_some_and(|from| serve_micros >= from));
        }
        if judged.role == Role::First
            && let Some(counts) = self.at(micros + after, site_id)
        {
            counts.open_solves_answered += 1;
        }
    }
}
