//! Files that are read again when they change: when a change counts, and what is said once.

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Between two looks. What two in a row see alike is taken, so a change is in force within two of them. The content
/// is compared, not a date: Kubernetes swaps links, and copies keep dates. Such files are small.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(1);

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
    stop: CancellationToken,
) where
    T: Clone + PartialEq + Send + 'static,
{
    let mut sight = Sight::new(taken);
    let looking = async {
        loop {
            sleep(LOOK_INTERVAL).await;
            // Away from the threads that answer: a disk may take its time.
            let look = tokio::task::spawn_blocking(read.clone()).await;
            let look = look.unwrap_or_else(|_| Err("reading failed".to_string()));
            if let Some(news) = sight.look(look, &judge) {
                act(news);
            }
        }
    };
    stop.run_until_cancelled(looking).await;
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
    fn look<V>(
        &mut self,
        look: Look<T>,
        judge: impl Fn(&T) -> Result<V, String>,
    ) -> Option<News<V>> {
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
            told(&[
                gone, gone, gone, bad, gone, gone, bad, bad, bad, old, old, old
            ]),
            ["gone", &reason, "same"]
        );
        assert_eq!(
            told(&[gone, gone, new, new, gone, gone, new, new]),
            ["gone", "0 of # new", "gone", "same"]
        );
    }
}
