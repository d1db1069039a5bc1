//! Text for a terminal or a log. It may have text from outside, so what does not show is escaped, in the way of JSON: a
//! page of JSON stays JSON, with the same values.

use std::borrow::Cow;

use unicode_width::UnicodeWidthChar as _;

use super::redact::redact;

/// Blank letters: the fillers of Hangul, which count as printable.
const BLANK: [char; 4] = ['\u{115f}', '\u{1160}', '\u{3164}', '\u{ffa0}'];

/// Escapes a part of a line, line breaks too.
pub fn line(text: &str) -> Cow<'_, str> {
    escape(text, is_hidden)
}

/// Escapes text of several lines, which stay lines.
pub fn page(text: &str) -> Cow<'_, str> {
    escape(text, |c| is_hidden(c) && c != '\n')
}

/// Escapes a line for a log, and redacts keys in it.
pub fn log_line(text: &str) -> String {
    redact(&line(text)).into_owned()
}

/// Escapes lines for a log, and redacts keys in them.
pub fn log_page(text: &str) -> String {
    redact(&page(text)).into_owned()
}

/// Whether a character does not show as itself: controls, marks that turn the direction of text, everything of no
/// width, what is not assigned. The standard library keeps the table, for its `Debug`.
pub fn is_hidden(c: char) -> bool {
    match c {
        ' '..='~' => false,
        _ => c.escape_debug().len() > 1 || BLANK.contains(&c),
    }
}

/// The columns of a terminal that escaped text takes. Terminals place each character by itself; they draw none of the
/// ligatures by which a whole text may be narrower.
pub fn display_width(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

fn escape(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    let Some(first) = text.find(&is_escaped) else {
        return Cow::Borrowed(text);
    };
    let (clean, rest) = text.split_at(first);
    let mut escaped = clean.to_string();
    for c in rest.chars() {
        match c {
            _ if !is_escaped(c) => escaped.push(c),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    escaped.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// General category Cc, Cf, Zl or Zp, and what else Unicode says is ignored when shown: by ranges, from its own
    /// tables (16.0), to hold the standard library's against.
    const NEVER_SHOWN: [(u32, u32); 34] = [
        (0x00, 0x1f),
        (0x7f, 0x9f),
        (0xad, 0xad),
        (0x34f, 0x34f),
        (0x600, 0x605),
        (0x61c, 0x61c),
        (0x6dd, 0x6dd),
        (0x70f, 0x70f),
        (0x890, 0x891),
        (0x8e2, 0x8e2),
        (0x115f, 0x1160),
        (0x17b4, 0x17b5),
        (0x180b, 0x180f),
        (0x200b, 0x200f),
        (0x2028, 0x202e),
        (0x2060, 0x206f),
        (0x3164, 0x3164),
        (0xfe00, 0xfe0f),
        (0xfeff, 0xfeff),
        (0xffa0, 0xffa0),
        (0xfff0, 0xfffb),
        (0x110bd, 0x110bd),
        (0x110cd, 0x110cd),
        (0x13430, 0x1343f),
        (0x1bca0, 0x1bca3),
        (0x1d173, 0x1d17a),
        (0xe0000, 0xe0000),
        (0xe0001, 0xe0001),
        (0xe0002, 0xe001f),
        (0xe0020, 0xe007f),
        (0xe0080, 0xe00ff),
        (0xe0100, 0xe01ef),
        (0xe01f0, 0xe0fff),
        (0xf0000, 0x10ffff),
    ];

    fn never_shown() -> impl Iterator<Item = char> {
        let ranges = NEVER_SHOWN.iter();
        ranges.flat_map(|(first, last)| (*first..=*last).filter_map(char::from_u32))
    }

    #[test]
    fn everything_that_never_shows_is_hidden() {
        let shown: Vec<_> = never_shown().filter(|c| !is_hidden(*c)).collect();
        assert!(shown.is_empty(), "{shown:?}");
    }

    #[test]
    fn what_people_write_stays_as_it_is() {
        for text in [
            "cannot connect to kafka at [::1]:9092: 'refused' \"\\\"",
            "m\u{fc}ller \u{65e5}\u{672c}\u{8a9e} \u{645}\u{631}\u{62d}\u{628}\u{627} \u{1f980} \u{fffd}",
        ] {
            assert!(matches!(line(text), Cow::Borrowed(same) if same == text));
        }
    }

    #[test]
    fn escapes_are_those_of_json() {
        assert_eq!(line("a\n\r\t\u{1b}[2J"), "a\\n\\r\\t\\u001b[2J");
        assert_eq!(page("a\nb\u{7f}\r\n"), "a\nb\\u007f\\r\n");
        assert_eq!(line("\u{e0041}"), "\\udb40\\udc41");
    }

    #[test]
    fn each_character_has_its_own_columns() {
        // Lam and alef, which a book would draw as one.
        assert_eq!(display_width("\u{644}\u{627}"), 2);
        assert_eq!(display_width("\u{65e5}a\u{e9}e\u{301}"), 5);
    }

    proptest! {
        #[test]
        fn nothing_printed_has_what_does_not_show(
            mixed in prop::collection::vec(prop_oneof![any::<char>(), prop::sample::select(never_shown().collect::<Vec<_>>())], 0..64),
        ) {
            let text: String = mixed.into_iter().collect();
            for (printed, is_page) in [(line(&text), false), (page(&text), true)] {
                let hidden = |c: &char| is_hidden(*c) && !(is_page && *c == '\n');
                prop_assert_eq!(printed.chars().find(hidden), None);
            }
            let json = serde_json::json!({ text.as_str(): [text.as_str()] });
            let printed = page(&json.to_string()).into_owned();
            prop_assert_eq!(printed.chars().find(|c| is_hidden(*c)), None);
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&printed).unwrap(), json);
        }
    }
}
