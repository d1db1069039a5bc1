//! The body that a webhook gets. Pure.

use anyhow::ensure;
use serde::Serialize;

use crate::report::page::Format;

/// Characters of a table in a message. Google Chat takes 4,096 of a message, Slack advises 4,000 at most, Rocket.Chat
/// takes 5,000 and Mattermost 16,383.
const TABLE_CHARS_MAX: usize = 3_500;

/// Bytes of a body: more rows than a program wants to get at once. A file is better for more.
const BODY_BYTES_MAX: usize = 1 << 20;

/// A message that Slack, Mattermost, Rocket.Chat and Google Chat accept.
#[derive(Serialize)]
struct ChatMessage {
    text: String,
}

/// The body of a request.
#[derive(Debug, Clone)]
pub struct Message {
    pub content_type: &'static str,
    pub body: String,
}

impl Message {
    /// A report in a format. A table becomes a chat message with the table in a code block.
    ///
    /// # Errors
    /// It is larger than [`BODY_BYTES_MAX`].
    pub fn new(format: Format, report: String) -> anyhow::Result<Message> {
        let (content_type, body) = match format {
            Format::Table => ("application/json", chat_message(&report)?),
            Format::Json => ("application/json", report),
            Format::Ndjson => ("application/x-ndjson", report),
            Format::Csv => ("text/csv; charset=utf-8", report),
        };
        ensure!(
            body.len() <= BODY_BYTES_MAX,
            "the report has {} bytes, and a webhook gets {BODY_BYTES_MAX} at most; ask for fewer rows, such as by \
             --period, --interval or --top",
            body.len()
        );
        Ok(Message { content_type, body })
    }
}

fn chat_message(table: &str) -> serde_json::Result<String> {
    let lines: Vec<_> = table.trim_end().lines().collect();
    let mut text = String::from("```\n");
    // Backquotes of a name would end the block, and `<!channel>` in one would call everybody.
    for character in cut(&lines).chars() {
        text.push(match character {
            '`' => '\'',
            '<' => '\u{2039}',
            '>' => '\u{203a}',
            other => other,
        });
    }
    text.push_str("\n```");
    serde_json::to_string(&ChatMessage { text })
}

/// As many whole lines as a message has room for, and a line that counts the others.
fn cut(lines: &[&str]) -> String {
    let mut chars = 0;
    let fits = |line: &&&str| {
        chars += line.chars().count() + 1;
        chars <= TABLE_CHARS_MAX
    };
    let kept = lines.iter().take_while(fits).count();
    match lines.len() - kept {
        0 => lines.join("\n"),
        left_out => {
            let kept = lines[..kept].join("\n");
            let lines = if left_out == 1 { "line" } else { "lines" };
            format!("{kept}\n... {left_out} more {lines}, which a message has no room for")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(table: &str) -> String {
        let message = Message::new(Format::Table, table.to_string()).unwrap();
        assert_eq!(message.content_type, "application/json");
        let value: serde_json::Value = serde_json::from_str(&message.body).unwrap();
        assert_eq!(value.as_object().unwrap().len(), 1);
        value["text"].as_str().unwrap().to_string()
    }

    #[test]
    fn a_table_is_a_code_block() {
        assert_eq!(
            text("date  served\n2001-01-01  \"1\"\n"),
            "```\ndate  served\n2001-01-01  \"1\"\n```"
        );
        assert_eq!(text("a ``` b\n"), "```\na ''' b\n```");
        assert_eq!(text("x <!channel>\n"), "```\nx \u{2039}!channel\u{203a}\n```");
    }

    #[test]
    fn a_long_table_is_cut_at_a_line_and_says_so() {
        let row = format!("{}\n", "x".repeat(99));
        let fits = row.repeat(35);
        assert!(!text(&fits).contains("more lines"));
        let long = text(&row.repeat(38));
        assert!(
            long.ends_with("\n... 3 more lines, which a message has no room for\n```"),
            "{long}"
        );
        assert_eq!(long.matches('x').count(), 35 * 99);
        let wide = text(&"\u{65e5}".repeat(TABLE_CHARS_MAX));
        assert!(
            wide.ends_with("... 1 more line, which a message has no room for\n```"),
            "{wide}"
        );
    }

    #[test]
    fn rows_are_posted_as_they_are_up_to_a_size() {
        for (format, content_type) in [
            (Format::Csv, "text/csv; charset=utf-8"),
            (Format::Json, "application/json"),
            (Format::Ndjson, "application/x-ndjson"),
        ] {
            let message = Message::new(format, "a ``` b\n".to_string()).unwrap();
            assert_eq!(
                (message.content_type, message.body.as_str()),
                (content_type, "a ``` b\n")
            );
            let most = "x".repeat(BODY_BYTES_MAX);
            assert!(Message::new(format, most.clone()).is_ok());
            let refusal = Message::new(format, most + "x").unwrap_err().to_string();
            assert!(refusal.starts_with("the report has 1048577 bytes"), "{refusal}");
        }
    }
}
