//! What looking at the key file again and again comes to: when a change counts, and what is said once. Pure.

use super::{Entry, parse};

/// What a look at the file sees: its bytes, or why it cannot be read.
pub type Look = Result<Vec<u8>, String>;

/// What is worth acting on, and a line in the log.
#[derive(Debug)]
pub enum News {
    /// Other bytes than before, and the keys that they are.
    Keys(Vec<u8>, Vec<Entry>),
    /// After trouble the file is again what was taken before.
    Same,
    /// The file cannot be taken.
    Bad(String),
}

/// What was seen so far.
pub struct Sight {
    taken: Vec<u8>,
    last: Look,
    judged: bool,
    complaint: Option<String>,
}

impl Sight {
    /// Begins with the bytes that are in force.
    pub fn new(taken: Vec<u8>) -> Sight {
        Sight {
            last: Ok(taken.clone()),
            taken,
            judged: true,
            complaint: None,
        }
    }

    /// Takes one more look. A change counts when a second look sees the same: the first may have met a writer
    /// at work, and half a file of good lines would withdraw the keys of the other half.
    pub fn look(&mut self, look: Look) -> Option<News> {
        if look != self.last {
            self.last = look;
            self.judged = false;
            return None;
        }
        if std::mem::replace(&mut self.judged, true) {
            return None;
        }
        match &self.last {
            Ok(bytes) if *bytes == self.taken => self.complaint.take().map(|_| News::Same),
            Ok(bytes) => match parse(bytes) {
                Ok(entries) => {
                    self.complaint = None;
                    self.taken.clone_from(bytes);
                    Some(News::Keys(bytes.clone(), entries))
                }
                Err(reason) => self.complain(reason),
            },
            Err(reason) => self.complain(reason.clone()),
        }
    }

    /// Says a reason once, until there is another.
    fn complain(&mut self, reason: String) -> Option<News> {
        if self.complaint.as_ref() == Some(&reason) {
            return None;
        }
        self.complaint = Some(reason.clone());
        Some(News::Bad(reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "# old";

    /// What is told of looks at these texts; `None` is a file that is gone.
    fn told(looks: &[Option<&str>]) -> Vec<String> {
        let mut sight = Sight::new(OLD.as_bytes().to_vec());
        let looks = looks.iter().map(|text| match text {
            Some(text) => Ok(text.as_bytes().to_vec()),
            None => Err("gone".to_string()),
        });
        let news = looks.filter_map(|look| sight.look(look));
        news.map(|news| match news {
            News::Keys(bytes, entries) => {
                format!("{} of {}", entries.len(), String::from_utf8(bytes).unwrap())
            }
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
        let reason = parse(b"k3y").err().unwrap();
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
