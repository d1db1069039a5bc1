//! Files that are read again when they change: when a change counts, and what is said once.

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

/// Between two looks. What two in a row see alike is taken, so a change is in force within two of them. The content
/// is compared, not a date: Kubernetes swaps links, and copies keep dates. Such files are small.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A look that takes longer is a look at what cannot be read: the file system hangs. It goes on all the same.
const LOOK_TIMEOUT: Duration = Duration::from_secs(30);

/// What a look sees: the content, or why it cannot be read.
pub type Look<T> = Result<T, String>;

/// What is worth acting on, and a line in the log.
#[derive(Debug)]
pub enum News<V> {
    /// Another content than before, as it was judged.
    New(V),
    /// After trouble the content is again what was taken before.
    Same,
    /// The content cannot be taken.
    Bad(String),
}

/// Looks again and again until `stop` is cancelled. `taken` is the content in force; `judge` makes something of another
/// one or says why it cannot be taken.
pub async fn watch<T, V>(
    taken: T,
    read: impl Fn() -> Look<T> + Clone + Send + 'static,
    judge: impl Fn(&T) -> Result<V, String>,
    mut act: impl FnMut(News<V>),
    sightings: Sightings,
    stop: CancellationToken,
) where
    T: Clone + PartialEq + Send + 'static,
{
    let mut sight = Sight::new(taken);
    let mut see = |look: Look<T>| {
        sightings.looked(look.is_ok());
        if let Some(news) = sight.look(look, &judge) {
            sightings.took(!matches!(news, News::Bad(_)));
            act(news);
        }
    };
    let looking = async {
        loop {
            sleep(LOOK_INTERVAL).await;
            // Away from the threads that answer: a disk may take its time.
            let mut reading = tokio::task::spawn_blocking(read.clone());
            let look = loop {
                match timeout(LOOK_TIMEOUT, &mut reading).await {
                    Ok(look) => break look,
                    Err(_) => see(Err("reading it does not come to an end".to_string())),
                }
            };
            see(look.unwrap_or_else(|_| Err("reading failed".to_string())));
        }
    };
    stop.run_until_cancelled(looking).await;
}

/// The outcome of the looks at a file, for metrics. Clones share it.
#[derive(Debug, Clone)]
pub struct Sightings(Arc<Seen>);

#[derive(Debug)]
struct Seen {
    /// What the file is for.
    role: &'static str,
    is_taken: AtomicBool,
    /// Seconds since 1970.
    read_at: AtomicI64,
}

impl Sightings {
    /// Of a file that was read and taken just now.
    pub fn new(role: &'static str) -> Sightings {
        Sightings(Arc::new(Seen {
            role,
            is_taken: AtomicBool::new(true),
            read_at: AtomicI64::new(Utc::now().timestamp()),
        }))
    }

    fn looked(&self, is_read: bool) {
        if is_read {
            let now = Utc::now().timestamp();
            self.0.read_at.store(now, Ordering::Relaxed);
        }
    }

    fn took(&self, is_taken: bool) {
        self.0.is_taken.store(is_taken, Ordering::Relaxed);
    }

    /// Whether what is in force is what the file holds.
    pub fn is_taken(&self) -> bool {
        self.0.is_taken.load(Ordering::Relaxed)
    }
}

/// The files that a process looks at again, as metrics.
#[derive(Debug, Default)]
pub struct Watched(Vec<Sightings>);

impl Watched {
    /// Adds a file that is read and taken now.
    pub fn add(&mut self, role: &'static str) -> Sightings {
        let sightings = Sightings::new(role);
        self.0.push(sightings.clone());
        sightings
    }
}

impl Collector for Watched {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        let mut gauge = |name, help, unit: Option<Unit>, value: fn(&Sightings) -> i64| {
            let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
            self.0.iter().try_for_each(|sightings| {
                let label = [("file", sightings.0.role)];
                ConstGauge::new(value(sightings)).encode(family.encode_family(&label)?)
            })
        };
        gauge(
            "file_loaded",
            "1 if what is in force is what the file holds.",
            None,
            |sightings| i64::from(sightings.is_taken()),
        )?;
        gauge(
            "file_read_timestamp",
            "When the file could last be read, since 1970.",
            Some(Unit::Seconds),
            |sightings| sightings.0.read_at.load(Ordering::Relaxed),
        )
    }
}

/// What was seen so far.
struct Sight<T> {
    taken: T,
    last: Look<T>,
    judged: bool,
    complaint: Option<String>,
}

impl<T: Clone + PartialEq> Sight<T> {
    /// Begins with the content that is in force.
    fn new(taken: T) -> Sight<T> {
        Sight {
            last: Ok(taken.clone()),
            taken,
            judged: true,
            complaint: None,
        }
    }

    /// Takes one more look. A change counts when a second look sees the same: the first may have met a writer
    /// at work, and half a file of good lines would withdraw the keys of the other half.
    fn look<V>(&mut self, look: Look<T>, judge: impl Fn(&T) -> Result<V, String>) -> Option<News<V>> {
        if look != self.last {
            self.last = look;
            self.judged = false;
            return None;
        }
        if std::mem::replace(&mut self.judged, true) {
            return None;
        }
        let judged = match &self.last {
            Ok(content) if *content == self.taken => {
                return self.complaint.take().map(|_| News::Same);
            }
            Ok(content) => judge(content).map(|made| (content.clone(), made)),
            Err(reason) => Err(reason.clone()),
        };
        match judged {
            Ok((content, made)) => {
                self.complaint = None;
                self.taken = content;
                Some(News::New(made))
            }
            // Said once, until there is another reason.
            Err(reason) if self.complaint.as_ref() == Some(&reason) => None,
            Err(reason) => {
                self.complaint = Some(reason.clone());
                Some(News::Bad(reason))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "# old";

    /// Takes comments alone.
    fn judge(text: &String) -> Result<String, String> {
        match text.starts_with('#') {
            true => Ok(format!("0 of {text}")),
            false => Err("no comment".to_string()),
        }
    }

    /// What is told of looks at these texts; `None` is a file that is gone.
    fn told(looks: &[Option<&str>]) -> Vec<String> {
        let mut sight = Sight::new(OLD.to_string());
        let looks = looks.iter().map(|text| match text {
            Some(text) => Ok(text.to_string()),
            None => Err("gone".to_string()),
        });
        let news = looks.filter_map(|look| sight.look(look, judge));
        news.map(|news| match news {
            News::New(made) => made,
            News::Same => "same".to_string(),
            News::Bad(reason) => reason,
        })
        .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_does_not_end_has_a_reason_and_goes_on() {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let held = Arc::new(std::sync::Mutex::new(held));
        let read = move || {
            let _ = held.lock().unwrap().recv();
            Ok("# new".to_string())
        };
        let (sightings, stop) = (Sightings::new("keys"), CancellationToken::new());
        let (sender, mut news) = tokio::sync::mpsc::unbounded_channel();
        let act = move |news: News<String>| sender.send(format!("{news:?}")).unwrap();
        let watching = watch(OLD.to_string(), read, judge, act, sightings.clone(), stop.clone());
        let watching = tokio::spawn(watching);
        // Time does not pass by itself while a thread is blocked.
        let stuck = loop {
            match news.try_recv() {
                Ok(stuck) => break stuck,
                Err(_) => tokio::time::advance(LOOK_TIMEOUT).await,
            }
        };
        assert!(stuck.contains("does not come to an end"), "{stuck}");
        assert!(!sightings.is_taken());
        drop(release);
        assert_eq!(news.recv().await.unwrap(), "New(\"0 of # new\")");
        assert!(sightings.is_taken());
        stop.cancel();
        watching.await.unwrap();
    }

    #[test]
    fn a_change_counts_when_it_is_seen_twice() {
        let (old, half, new) = (Some(OLD), Some("# ha"), Some("# new"));
        assert!(told(&[old, old, half, new, old, half]).is_empty());
        assert_eq!(
            told(&[half, new, new, new, old, old, old]),
            ["0 of # new", "0 of # old"]
        );
    }

    #[test]
    fn a_broken_file_is_told_once_and_its_end_once() {
        let (old, new, bad, gone) = (Some(OLD), Some("# new"), Some("k3y"), None);
        let reason = judge(&"k3y".to_string()).unwrap_err();
        assert_eq!(
            told(&[gone, gone, gone, bad, gone, gone, bad, bad, bad, old, old, old]),
            ["gone", &reason, "same"]
        );
        assert_eq!(
            told(&[gone, gone, new, new, gone, gone, new, new]),
            ["gone", "0 of # new", "gone", "same"]
        );
    }
}
