//! Events of a file, for a report without servers: NDJSON, one event on each line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::Path;

use anyhow::Context as _;

use crate::event::{Event, parse_line};
use crate::topic_partition::Offset;

/// Bytes of a line, as of a record by Kafka's default limit; an event has 200. Memory holds one line.
const LINE_BYTES_MAX: usize = 1 << 20;

/// Bad lines whose reasons are kept; more fill a screen.
const BAD_LINES_NAMED_MAX: usize = 5;

/// Characters of a reason that are kept: each field may be wrong, and repeat a name of the file.
const REASON_CHARS_MAX: usize = 500;

/// A file that is read line by line, as the one partition of a log: the number of a line, from 1, is its offset.
pub struct Input {
    /// For messages.
    name: String,
    reader: Box<dyn BufRead + Send>,
    line: Vec<u8>,
    /// The number of the last line that was read.
    number: i64,
    bad_lines: BadLines,
}

/// The lines that are not events.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct BadLines {
    count: u64,
    /// The first ones, by number, with the reason.
    named: Vec<(i64, String)>,
}

/// Some lines of a file are not events.
#[derive(Debug, thiserror::Error)]
#[error("{count} of {lines} lines of {name} are not events; the report counts the others")]
pub struct NotAllEvents {
    name: String,
    count: u64,
    lines: i64,
}

impl Input {
    /// Opens a file; `-` is stdin.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: &Path) -> anyhow::Result<Input> {
        if path == Path::new("-") {
            return Ok(Input::new("stdin", Box::new(BufReader::new(io::stdin()))));
        }
        let name = path.display().to_string();
        let file = File::open(path).with_context(|| format!("cannot read events from {name}"))?;
        Ok(Input::new(&name, Box::new(BufReader::new(file))))
    }

    fn new(name: &str, reader: Box<dyn BufRead + Send>) -> Input {
        Input {
            name: name.to_string(),
            reader,
            line: Vec::new(),
            number: 0,
            bad_lines: BadLines::default(),
        }
    }

    /// The next event, and its offset. Blank lines are skipped, and bad lines kept as [`Input::notes`] says them. Blocks
    /// while the file does.
    ///
    /// # Errors
    /// The file cannot be read on.
    pub fn next_event(&mut self) -> anyhow::Result<Option<(Offset, Event)>> {
        loop {
            let read = self.read_line();
            let is_whole =
                match read.with_context(|| format!("cannot read line {} of {}", self.number + 1, self.name))? {
                    None => return Ok(None),
                    Some(is_whole) => is_whole,
                };
            self.number += 1;
            if !is_whole {
                self.bad_lines
                    .add(self.number, &format!("longer than {LINE_BYTES_MAX} bytes"));
                continue;
            }
            if self.line.trim_ascii().is_empty() {
                continue;
            }
            match parse_line(&self.line) {
                Ok(event) => return Ok(Some((Offset::new(self.number), event))),
                Err(reason) => self.bad_lines.add(self.number, &reason),
            }
        }
    }

    /// Reads a line without its line break; `None` at the end of the file, `Some(false)` if the line is too long.
    fn read_line(&mut self) -> io::Result<Option<bool>> {
        self.line.clear();
        let limit = LINE_BYTES_MAX as u64 + 1;
        if self.reader.by_ref().take(limit).read_until(b'\n', &mut self.line)? == 0 {
            return Ok(None);
        }
        if self.line.last() == Some(&b'\n') {
            self.line.pop();
            return Ok(Some(true));
        }
        // The last line, or the beginning of one that is too long.
        let is_whole = self.line.len() <= LINE_BYTES_MAX;
        if !is_whole {
            self.reader.skip_until(b'\n')?;
        }
        Ok(Some(is_whole))
    }

    /// A note for each of the first bad lines, and the number of the others.
    pub fn notes(&self) -> Vec<String> {
        let BadLines { count, named } = &self.bad_lines;
        let note =
            |(number, reason): &(i64, String)| format!("line {number} of {} is not an event: {reason}", self.name);
        let mut notes: Vec<_> = named.iter().map(note).collect();
        match count - named.len() as u64 {
            0 => {}
            1 => notes.push(format!("1 more line of {} is not an event", self.name)),
            others => notes.push(format!("{others} more lines of {} are not events", self.name)),
        }
        notes
    }

    /// Checks that every line was an event.
    ///
    /// # Errors
    /// [`NotAllEvents`].
    pub fn check(&self) -> Result<(), NotAllEvents> {
        match self.bad_lines.count {
            0 => Ok(()),
            count => Err(NotAllEvents {
                name: self.name.clone(),
                count,
                lines: self.number,
            }),
        }
    }
}

impl BadLines {
    fn add(&mut self, number: i64, reason: &str) {
        self.count += 1;
        if self.named.len() < BAD_LINES_NAMED_MAX {
            self.named
                .push((number, reason.chars().take(REASON_CHARS_MAX).collect()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::event::numbered;
    use proptest::prelude::*;

    fn input(bytes: &[u8]) -> Input {
        Input::new("events.ndjson", Box::new(Cursor::new(bytes.to_vec())))
    }

    fn all(input: &mut Input) -> Vec<(i64, Event)> {
        let next = || input.next_event().unwrap();
        std::iter::from_fn(next)
            .map(|(offset, event)| (offset.get(), event))
            .collect()
    }

    #[test]
    fn the_number_of_a_line_is_the_offset_of_its_event() {
        let [a, b, c] = [1, 2, 3].map(|number| numbered(number).to_json());
        let mut input = input(format!("{a}\n\n \t\r\n  {b} \r\n{c}").as_bytes());
        assert_eq!(all(&mut input), [(1, numbered(1)), (4, numbered(2)), (5, numbered(3))]);
        assert!(input.notes().is_empty() && input.check().is_ok());
    }

    #[test]
    fn bad_lines_are_named_and_counted_and_the_others_are_read() {
        let good = numbered(1).to_json();
        let wrong = good.replace("serve", "served");
        let mut input =
            input(format!("{good}\n{wrong}\n{{\n[{good}]\nnull\n{good}{good}\n{good}\n{wrong}\nx\n").as_bytes());
        assert_eq!(all(&mut input), [(1, numbered(1)), (7, numbered(1))]);
        let line = |number: usize, reason: &str| format!("line {number} of events.ndjson is not an event: {reason}");
        assert_eq!(
            input.notes(),
            [
                line(2, "/type neither serve nor solve"),
                line(3, "not JSON: EOF while parsing an object at column 1"),
                line(4, "an array; expected an event object"),
                line(5, "null; expected an event object"),
                line(
                    6,
                    &format!("not JSON: trailing characters at column {}", good.len() + 1)
                ),
                "2 more lines of events.ndjson are not events".to_string(),
            ]
        );
        assert_eq!(
            input.check().unwrap_err().to_string(),
            "7 of 9 lines of events.ndjson are not events; the report counts the others"
        );
    }

    #[test]
    fn a_line_without_an_end_takes_no_memory() {
        let good = numbered(1).to_json();
        for (length, is_read) in [
            (LINE_BYTES_MAX, true),
            (LINE_BYTES_MAX + 1, false),
            (3 * LINE_BYTES_MAX, false),
        ] {
            for end in ["\n", ""] {
                let long = format!("{good}{}", " ".repeat(length - good.len()));
                let mut input = input(format!("{good}\n{long}\n{good}\n{long}{end}").as_bytes());
                let numbers: Vec<_> = all(&mut input).into_iter().map(|(number, _)| number).collect();
                let wanted: &[i64] = if is_read { &[1, 2, 3, 4] } else { &[1, 3] };
                assert_eq!(numbers, wanted, "{length}");
                assert!(
                    input.line.capacity() <= 2 * LINE_BYTES_MAX + 2,
                    "{}",
                    input.line.capacity()
                );
                let reason = "line 2 of events.ndjson is not an event: longer than 1048576 bytes";
                assert_eq!(input.notes().first().is_some_and(|note| note == reason), !is_read);
            }
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let refused = Input::open(Path::new("/nowhere/events.ndjson")).err().unwrap();
        let wanted = "cannot read events from /nowhere/events.ndjson: No such file or directory (os error 2)";
        assert_eq!(format!("{refused:#}"), wanted);
        let mut folder = Input::open(Path::new("/")).unwrap();
        let refused = folder.next_event().unwrap_err();
        assert!(
            format!("{refused:#}").starts_with("cannot read line 1 of /: "),
            "{refused:#}"
        );
    }

    proptest! {
        /// Each line is an event, blank or bad, wherever the reader's buffer ends.
        #[test]
        fn all_lines_are_accounted_for(
            lines in prop::collection::vec(prop_oneof![Just(numbered(1).to_json()), Just(String::new()), "[ -~\u{e9}]{1,20}"], 0..20),
            capacity in 1_usize..300,
        ) {
            let text = lines.join("\n");
            let reader = BufReader::with_capacity(capacity, Cursor::new(text.clone().into_bytes()));
            let mut input = Input::new("events.ndjson", Box::new(reader));
            let read = all(&mut input);
            let lines: Vec<&str> = text.split('\n').collect();
            let mut bad = lines.len() - lines.iter().filter(|line| line.trim_ascii().is_empty()).count();
            for (number, event) in read {
                prop_assert_eq!(parse_line(lines[number as usize - 1].as_bytes()), Ok(event));
                bad -= 1;
            }
            prop_assert_eq!(input.bad_lines.count, bad as u64);
        }
    }
}
