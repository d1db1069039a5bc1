//! What a worker knows of the log below its head: the events of the repeat window, and how long that is in time.

pub mod age;
pub mod fingerprint;
pub mod index;

use self::age::Window;
use self::fingerprint::Repeats;
use super::batch::Batch;
use super::session::Session;

/// Of one partition.
pub struct Memory {
    records: i64,
    /// The events.
    pub repeats: Repeats,
    window: Window,
}

impl Memory {
    /// Of a window of so many records; it knows nothing yet.
    pub fn new(records: i64) -> Memory {
        Memory {
            records,
            repeats: Repeats::new(records),
            window: Window::new(records),
        }
    }

    /// Forgets everything: the log is another one.
    pub fn begin_anew(&mut self) {
        *self = Memory::new(self.records);
    }

    /// Reads the events below the head that it does not know.
    ///
    /// # Errors
    /// ClickHouse is away.
    pub async fn learn(&mut self, session: &Session) -> anyhow::Result<()> {
        let missing = self.repeats.missing(session.head);
        if missing.is_empty() {
            return Ok(());
        }
        let repeats = &mut self.repeats;
        let note = |offset, event| {
            let fingerprint = repeats.fingerprint(&event);
            repeats.note(fingerprint, offset);
        };
        let (from, to) = (missing.start, missing.end);
        session
            .clickhouse
            .for_each_event(&session.topic_partition, from, to, note)
            .await?;
        self.repeats.complete_to(session.head);
        Ok(())
    }

    /// Notes the events of a batch that is stored.
    pub fn note(&mut self, batch: Batch) {
        for (fingerprint, offset) in batch.seen {
            self.repeats.note(fingerprint, offset);
        }
        self.repeats.complete_to(batch.end);
    }

    /// How many milliseconds the window before the head spans, at least; `None` while there is no row.
    pub fn window_millis(&mut self, session: &Session) -> Option<i64> {
        let arrival_millis = session.last_arrival_millis?;
        Some(self.window.reached(session.head, arrival_millis))
    }
}
