//! Files that are read again when they change. A change counts once two reads in a row see it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use chrono::Utc;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Between two reads. A content that two reads in a row find is loaded, so a change is in force within two intervals.
/// The content is compared, not a date: Kubernetes swaps links, and copies keep dates. Such files are small.
pub const READ_INTERVAL: Duration = Duration::from_secs(1);

/// A read that takes longer counts as failed: the file system hangs. The read goes on all the same.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// The content of a file, or why it cannot be read.
pub type ReadResult<T> = Result<T, String>;

/// What changed about a file.
#[derive(Debug)]
pub enum FileChange<V> {
    /// It has a new content, which was parsed.
    Loaded(V),
    /// After a failure it has the loaded content again.
    Restored,
    /// Its content cannot be loaded.
    Failed(String),
}

/// Reads a file again and again until `stop` is cancelled. `loaded` is the content in force; `parse` parses another one
/// or returns why it cannot be loaded; `apply` gets each change.
pub async fn watch<T, V>(
    loaded: T,
    read: impl Fn() -> ReadResult<T> + Clone + Send + 'static,
    parse: impl Fn(&T) -> Result<V, String>,
    mut apply: impl FnMut(FileChange<V>),
    status: FileStatus,
    stop: CancellationToken,
) where
    T: Clone + PartialEq + Send + 'static,
{
    let mut debounce = Debounce::new(loaded);
    let mut record = |read: ReadResult<T>| {
        status.record_read(read.is_ok());
        if let Some(change) = debounce.record(read, &parse) {
            status.record_load(!matches!(change, FileChange::Failed(_)));
            apply(change);
        }
    };
    let reading = async {
        loop {
            sleep(READ_INTERVAL).await;
            // On a thread for blocking work: a disk may take its time.
            let mut task = tokio::task::spawn_blocking(read.clone());
            let read = loop {
                match timeout(READ_TIMEOUT, &mut task).await {
                    Ok(read) => break read,
                    Err(_) => record(Err("reading it does not come to an end".to_string())),
                }
            };
            record(read.unwrap_or_else(|_| Err("reading failed".to_string())));
        }
    };
    stop.run_until_cancelled(reading).await;
}

/// Whether and when a file was read and loaded, for metrics. Clones share it.
#[derive(Debug, Clone)]
pub struct FileStatus(Arc<Status>);

#[derive(Debug)]
struct Status {
    /// The value of the label `file`.
    role: &'static str,
    is_loaded: AtomicBool,
    /// Seconds since 1970.
    read_at: AtomicI64,
}

impl FileStatus {
    /// The status of a file that was loaded just now.
    pub fn new(role: &'static str) -> FileStatus {
        FileStatus(Arc::new(Status {
            role,
            is_loaded: AtomicBool::new(true),
            read_at: AtomicI64::new(Utc::now().timestamp()),
        }))
    }

    fn record_read(&self, is_read: bool) {
        if is_read {
            let now = Utc::now().timestamp();
            self.0.read_at.store(now, Ordering::Relaxed);
        }
    }

    fn record_load(&self, is_loaded: bool) {
        self.0.is_loaded.store(is_loaded, Ordering::Relaxed);
    }

    /// Whether the content in force is the content of the file.
    pub fn is_loaded(&self) -> bool {
        self.0.is_loaded.load(Ordering::Relaxed)
    }
}

/// The watched files of a process, as metrics.
#[derive(Debug, Default)]
pub struct WatchedFiles(Vec<FileStatus>);

impl WatchedFiles {
    /// Adds a file that is loaded now.
    pub fn add(&mut self, role: &'static str) -> FileStatus {
        let status = FileStatus::new(role);
        self.0.push(status.clone());
        status
    }
}

impl Collector for WatchedFiles {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        let mut gauge = |name, help, unit: Option<Unit>, value: fn(&FileStatus) -> i64| {
            let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
            self.0.iter().try_for_each(|status| {
                let label = [("file", status.0.role)];
                ConstGauge::new(value(status)).encode(family.encode_family(&label)?)
            })
        };
        gauge(
            "file_loaded",
            "1 if what is in force is what the file holds.",
            None,
            |status| i64::from(status.is_loaded()),
        )?;
        gauge(
            "file_read_timestamp",
            "When the file could last be read, since 1970.",
            Some(Unit::Seconds),
            |status| status.0.read_at.load(Ordering::Relaxed),
        )
    }
}

/// Tells a change of a file from a file that is being written.
struct Debounce<T> {
    loaded: T,
    last: ReadResult<T>,
    /// Whether `last` was parsed or refused already.
    is_handled: bool,
    failure: Option<String>,
}

impl<T: Clone + PartialEq> Debounce<T> {
    fn new(loaded: T) -> Debounce<T> {
        Debounce {
            last: Ok(loaded.clone()),
            loaded,
            is_handled: true,
            failure: None,
        }
    }

    /// Records one more read. A change counts when a second read finds the same: the first may have met a writer
    /// at work, and half a file of good lines would withdraw the keys of the other half.
    fn record<V>(&mut self, read: ReadResult<T>, parse: impl Fn(&T) -> Result<V, String>) -> Option<FileChange<V>> {
        if read != self.last {
            self.last = read;
            self.is_handled = false;
            return None;
        }
        if std::mem::replace(&mut self.is_handled, true) {
            return None;
        }
        let parsed = match &self.last {
            Ok(content) if *content == self.loaded => {
                return self.failure.take().map(|_| FileChange::Restored);
            }
            Ok(content) => parse(content).map(|value| (content.clone(), value)),
            Err(reason) => Err(reason.clone()),
        };
        match parsed {
            Ok((content, value)) => {
                self.failure = None;
                self.loaded = content;
                Some(FileChange::Loaded(value))
            }
            // Reported once, until there is another reason.
            Err(reason) if self.failure.as_ref() == Some(&reason) => None,
            Err(reason) => {
                self.failure = Some(reason.clone());
                Some(FileChange::Failed(reason))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "# old";

    /// Accepts comments alone.
    fn parse(text: &String) -> Result<String, String> {
        match text.starts_with('#') {
            true => Ok(format!("0 of {text}")),
            false => Err("no comment".to_string()),
        }
    }

    /// The changes after reads of these texts; `None` is a file that is gone.
    fn changes(reads: &[Option<&str>]) -> Vec<String> {
        let mut debounce = Debounce::new(OLD.to_string());
        let reads = reads.iter().map(|text| match text {
            Some(text) => Ok(text.to_string()),
            None => Err("gone".to_string()),
        });
        let changes = reads.filter_map(|read| debounce.record(read, parse));
        changes
            .map(|change| match change {
                FileChange::Loaded(value) => value,
                FileChange::Restored => "same".to_string(),
                FileChange::Failed(reason) => reason,
            })
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_does_not_end_has_a_reason_and_goes_on() {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let held = Arc::new(parking_lot::Mutex::new(held));
        let read = move || {
            let _ = held.lock().recv();
            Ok("# new".to_string())
        };
        let (status, stop) = (FileStatus::new("keys"), CancellationToken::new());
        let (sender, mut changes) = tokio::sync::mpsc::unbounded_channel();
        let apply = move |change: FileChange<String>| sender.send(format!("{change:?}")).unwrap();
        let watching = watch(OLD.to_string(), read, parse, apply, status.clone(), stop.clone());
        let watching = tokio::spawn(watching);
        // Time does not pass by itself while a thread is blocked.
        let stuck = loop {
            match changes.try_recv() {
                Ok(stuck) => break stuck,
                Err(_) => tokio::time::advance(READ_TIMEOUT).await,
            }
        };
        assert!(stuck.contains("does not come to an end"), "{stuck}");
        assert!(!status.is_loaded());
        drop(release);
        assert_eq!(changes.recv().await.unwrap(), "Loaded(\"0 of # new\")");
        assert!(status.is_loaded());
        stop.cancel();
        watching.await.unwrap();
    }

    #[test]
    fn a_change_counts_when_it_is_seen_twice() {
        let (old, half, new) = (Some(OLD), Some("# ha"), Some("# new"));
        assert!(changes(&[old, old, half, new, old, half]).is_empty());
        assert_eq!(
            changes(&[half, new, new, new, old, old, old]),
            ["0 of # new", "0 of # old"]
        );
    }

    #[test]
    fn a_broken_file_is_reported_once_and_its_end_once() {
        let (old, new, bad, gone) = (Some(OLD), Some("# new"), Some("k3y"), None);
        let reason = parse(&"k3y".to_string()).unwrap_err();
        assert_eq!(
            changes(&[gone, gone, gone, bad, gone, gone, bad, bad, bad, old, old, old]),
            ["gone", &reason, "same"]
        );
        assert_eq!(
            changes(&[gone, gone, new, new, gone, gone, new, new]),
            ["gone", "0 of # new", "gone", "same"]
        );
    }
}
