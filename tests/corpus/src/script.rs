//! The files of the corpus: how a case is written, and what it becomes.
//!
//! A line that begins with `##` is a comment. Everything else is cases, each of which is
//!
//! ```text
//! == what is odd about it
//! POST /v1/events HTTP/1.1
//! host: captcha
//! content-length: 150
//!
//! <EVENT><>
//! --> 200 open
//! ```
//!
//! The lines between `==` and `-->` are what a client sends, each with CRLF at its end. What stands in angle brackets is
//! something else: `<>` at the end of a line is no CRLF, `<0D>` a byte, `<a*300>` a text 300 times, `<LENGTH>` the bytes
//! after the first empty line, `<POST>` the head of a request with a JSON body, `<WAIT>` waiting for an answer before
//! the rest is sent, and `<FIN>` closing this side of the connection. `<EVENT>` is a good event of 150 bytes, and `<ID>`
//! the correlation id of one; they must be stored, once. `<EVIL>` and `<EVIL-ID>` are as good, but stand in what must be
//! refused, and must never be stored.
//!
//! After the arrow stand the answers, with `;` between them: a status and, of a 422, the pointers or parameters that it
//! names. `bare` is hyper's own answer, which has no body; every other from 400 on must be a problem document. `headless`
//! is the answer to a HEAD. At the end stands whether the connection is then `open` (a good request on it must be answered
//! 200) or `closed`; where there is no answer at all the word before is `silence`.

use uuid::Uuid;

use crate::SITE;

/// What a client does next.
#[derive(Debug)]
pub enum Step {
    Send(Vec<u8>),
    AwaitAnswer,
    Finish,
}

/// An answer that must come.
#[derive(Debug, PartialEq)]
pub struct Expected {
    pub status: u16,
    pub bare: bool,
    pub headless: bool,
    pub places: Vec<String>,
}

/// One case.
#[derive(Debug)]
pub struct Case {
    pub name: String,
    pub steps: Vec<Step>,
    pub answers: Vec<Expected>,
    pub stays_open: bool,
    /// The correlation ids of what must be stored.
    pub stored: Vec<String>,
}

/// Reads the cases of a file.
pub fn cases(file: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut name = "";
    let mut lines: Vec<&str> = Vec::new();
    for line in read(file).lines().filter(|line| !line.starts_with("##")) {
        if let Some(begins) = line.strip_prefix("== ") {
            assert!(lines.iter().all(|line| line.is_empty()), "{name}: no -->");
            (name, lines) = (begins, Vec::new());
        } else if let Some(verdict) = line.strip_prefix("--> ") {
            let name = format!("{file}: {name}");
            cases.push(Case::new(&name, &std::mem::take(&mut lines), verdict));
        } else {
            lines.push(line);
        }
    }
    assert!(!cases.is_empty(), "{file} has no cases");
    cases
}

/// The text of a file of the corpus.
pub fn read(file: &str) -> &'static str {
    match file {
        "chunks.http" => include_str!("../cases/chunks.http"),
        "heads.http" => include_str!("../cases/heads.http"),
        "lengths.http" => include_str!("../cases/lengths.http"),
        "targets.http" => include_str!("../cases/targets.http"),
        "json.txt" => include_str!("../cases/json.txt"),
        "lines.txt" => include_str!("../cases/lines.txt"),
        "members.txt" => include_str!("../cases/members.txt"),
        "mistakes.txt" => include_str!("../cases/mistakes.txt"),
        _ => panic!("{file} is not in the corpus"),
    }
}

impl Case {
    fn new(name: &str, lines: &[&str], verdict: &str) -> Case {
        let mut script = Script::default();
        for line in lines {
            script.line(line);
        }
        let (answers, stays_open) = expected(name, verdict);
        let (steps, stored) = script.done();
        Case {
            name: name.to_string(),
            steps,
            answers,
            stays_open,
            stored,
        }
    }
}

/// The bytes of one line of the corpus, as a client sends it.
pub fn bytes(line: &str) -> Vec<u8> {
    let mut script = Script::default();
    script.line(&format!("{line}<>"));
    script.bytes
}

/// One JSON body as a whole request.
pub fn body_case(name: &str, content_type: &str, body: &str, verdict: &str) -> Case {
    let head =
        format!("POST /v1/events HTTP/1.1\nhost: captcha\ncontent-type: {content_type}\ncontent-length: <LENGTH>\n");
    let mut lines: Vec<_> = head.split('\n').collect();
    let body = format!("{body}<>");
    lines.push(&body);
    Case::new(name, &lines, &format!("{verdict} open"))
}

fn expected(name: &str, verdict: &str) -> (Vec<Expected>, bool) {
    let (answers, end) = verdict.trim().rsplit_once(' ').unwrap();
    assert!(["open", "closed"].contains(&end), "{name}: {end}");
    let answer = |text: &str| {
        let mut words = text.split_whitespace();
        let status = words.next().unwrap().parse();
        let status = status.unwrap_or_else(|_| panic!("{name}: {text}"));
        let words: Vec<_> = words.collect();
        let is_flag = |word: &&str| ["bare", "headless"].contains(word);
        // The pointer of the whole body is empty.
        let place = |word: &&str| word.trim_matches('"').to_string();
        Expected {
            status,
            bare: words.contains(&"bare"),
            headless: words.contains(&"headless"),
            places: words.iter().filter(|word| !is_flag(word)).map(place).collect(),
        }
    };
    let answers = match answers {
        "silence" => Vec::new(),
        some => some.split(';').map(answer).collect(),
    };
    (answers, end == "open")
}

/// Makes bytes of lines.
#[derive(Default)]
struct Script {
    steps: Vec<Step>,
    bytes: Vec<u8>,
    stored: Vec<String>,
}

impl Script {
    fn line(&mut self, mut line: &str) {
        let mut ends = true;
        while let Some((before, rest)) = line.split_once('<') {
            self.bytes.extend_from_slice(before.as_bytes());
            let (word, after) = rest.split_once('>').unwrap_or_else(|| panic!("no > in {line}"));
            ends = !(word.is_empty() && after.is_empty());
            self.word(word);
            line = after;
        }
        self.bytes.extend_from_slice(line.as_bytes());
        if ends {
            self.bytes.extend_from_slice(b"\r\n");
        }
    }

    fn word(&mut self, word: &str) {
        match word {
            "" => {}
            "SITE" => self.bytes.extend_from_slice(SITE.as_bytes()),
            "EVENT" => {
                let id = self.id();
                self.bytes.extend(event(&id));
            }
            "ID" => {
                let id = self.id();
                self.bytes.extend(id.bytes());
            }
            "EVIL" => self.bytes.extend(event(&Uuid::now_v7().to_string())),
            "EVIL-ID" => self.bytes.extend(Uuid::now_v7().to_string().bytes()),
            "POST" => self
                .bytes
                .extend_from_slice(b"POST /v1/events HTTP/1.1\r\nhost: captcha\r\ncontent-type: application/json"),
            "LENGTH" => self.bytes.extend_from_slice(b"<LENGTH>"),
            "WAIT" => self.step(Step::AwaitAnswer),
            "FIN" => self.step(Step::Finish),
            other => match other.rsplit_once('*') {
                Some((text, times)) => {
                    let times = times.parse().unwrap_or_else(|_| panic!("<{other}>"));
                    let text = text.replace("CRLF", "\r\n");
                    self.bytes.extend(text.repeat(times).bytes());
                }
                None => self.bytes.extend(hex(other)),
            },
        }
    }

    fn id(&mut self) -> String {
        let id = Uuid::now_v7().to_string();
        self.stored.push(id.clone());
        id
    }

    fn step(&mut self, step: Step) {
        let bytes = std::mem::take(&mut self.bytes);
        self.steps.push(Step::Send(with_length(bytes)));
        self.steps.push(step);
    }

    fn done(mut self) -> (Vec<Step>, Vec<String>) {
        self.steps.push(Step::Send(with_length(self.bytes)));
        (self.steps, self.stored)
    }
}

fn hex(text: &str) -> Vec<u8> {
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).unwrap();
        u8::from_str_radix(pair, 16).unwrap_or_else(|_| panic!("<{text}>"))
    };
    text.as_bytes().chunks(2).map(byte).collect()
}

/// Writes how long the body is where that was left open.
fn with_length(bytes: Vec<u8>) -> Vec<u8> {
    let find = |part: &[u8]| bytes.windows(part.len()).position(|window| window == part);
    let (Some(at), Some(end)) = (find(b"<LENGTH>"), find(b"\r\n\r\n")) else {
        return bytes;
    };
    let length = (bytes.len() - end - 4).to_string();
    [&bytes[..at], length.as_bytes(), &bytes[at + 8..]].concat()
}

/// A good event of 150 bytes.
pub fn event(id: &str) -> Vec<u8> {
    let event =
        format!(r#"{{"site_id":"{SITE}","type":"serve","correlation_id":"{id}","time":"2001-01-01T05:55:07"}}"#);
    assert_eq!(event.len(), 150);
    event.into_bytes()
}
