//! Text with styles. It is escaped before it gets a style, so that the only escape sequences in it are our own.

use anstyle::{AnsiColor, Style as AnsiStyle};

use super::escape;

/// The meaning of a part of a text. Every style but [`Style::Plain`] is a colour or a weight.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Style {
    #[default]
    Plain,
    /// Heads and totals.
    Strong,
    /// Said again, or of less interest.
    Faint,
    Warning,
    /// A change that people want.
    Good,
    /// A change that people do not want.
    Bad,
}

impl Style {
    fn ansi(self) -> AnsiStyle {
        let style = AnsiStyle::new();
        match self {
            Style::Plain => style,
            Style::Strong => style.bold(),
            Style::Faint => style.dimmed(),
            Style::Warning => style.fg_color(Some(AnsiColor::Yellow.into())),
            Style::Good => style.fg_color(Some(AnsiColor::Green.into())),
            Style::Bad => style.fg_color(Some(AnsiColor::Red.into())),
        }
    }
}

/// Lines of styled text.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct StyledText {
    text: String,
    has_styles: bool,
}

/// Ends the influence of a text from the right to the left on the numbers after it.
const LEFT_TO_RIGHT_MARK: char = '\u{200e}';

impl StyledText {
    /// An empty text that writes its styles, or leaves them out.
    pub fn new(has_styles: bool) -> StyledText {
        StyledText {
            text: String::new(),
            has_styles,
        }
    }

    /// Adds a part of a line, escaped.
    pub fn push(&mut self, style: Style, part: &str) {
        let part = escape::line(part);
        if self.has_styles && style != Style::Plain && !part.is_empty() {
            let ansi = style.ansi();
            self.text.push_str(&format!("{ansi}{part}{ansi:#}"));
        } else {
            self.text.push_str(&part);
        }
        if part.chars().any(is_right_to_left) {
            self.text.push(LEFT_TO_RIGHT_MARK);
        }
    }

    /// Adds blanks.
    pub fn pad(&mut self, blanks: usize) {
        self.text.extend(std::iter::repeat_n(' ', blanks));
    }

    pub fn end_line(&mut self) {
        self.text.push('\n');
    }

    /// Adds another text.
    pub fn append(&mut self, other: &StyledText) {
        self.text.push_str(&other.text);
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The text so far; what is left is empty.
    pub fn take(&mut self) -> StyledText {
        std::mem::replace(self, StyledText::new(self.has_styles))
    }
}

/// Whether a letter belongs to a script that is written from the right to the left: by Unicode's blocks for those.
fn is_right_to_left(c: char) -> bool {
    const BLOCKS: [(char, char); 5] = [
        ('\u{590}', '\u{8ff}'),
        ('\u{fb1d}', '\u{fdff}'),
        ('\u{fe70}', '\u{feff}'),
        ('\u{10800}', '\u{10fff}'),
        ('\u{1e800}', '\u{1efff}'),
    ];
    BLOCKS.iter().any(|(first, last)| (*first..=*last).contains(&c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_escaped_before_it_gets_its_style() {
        let mut text = StyledText::new(true);
        text.push(Style::Strong, "a\u{1b}[31m");
        text.pad(2);
        text.push(Style::Plain, "b\nc");
        text.push(Style::Faint, "");
        text.end_line();
        assert_eq!(text.as_str(), "\u{1b}[1ma\\u001b[31m\u{1b}[0m  b\\nc\n");
        let mut plain = StyledText::new(false);
        plain.push(Style::Bad, "x");
        assert_eq!(plain.take().as_str(), "x");
        assert_eq!(plain, StyledText::new(false));
    }

    #[test]
    fn numbers_after_a_name_from_the_right_to_the_left_stay_where_they_are() {
        let mut text = StyledText::new(false);
        text.push(Style::Plain, "\u{5d0}\u{5d1} 1");
        text.push(Style::Plain, "m\u{fc}ller");
        assert_eq!(text.as_str(), "\u{5d0}\u{5d1} 1\u{200e}m\u{fc}ller");
    }
}
