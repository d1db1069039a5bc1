//! Tables for people.

use std::ops::Range;

use comfy_table::{CellAlignment, ColumnConstraint, Table, Width, presets};

use crate::terminal::escape;

/// Spaces between two columns: one at the end of the left one, one at the beginning of the right one.
const SPACES: u16 = 2;

/// Ends a text that is cut.
const CUT: &str = "...";

/// Columns of the terminal that the last column of a table keeps, however wide those before it are.
const LAST_WIDTH_MIN: u16 = 20;

/// A table for people, with these columns of numbers.
pub fn table(header: &[&str], rows: impl Iterator<Item = Vec<String>>, numbers: Range<usize>) -> String {
    lines(&new_table(header, rows, numbers)).join("\n")
}

/// A table with one line for each row after that of the header. The last column is cut, so that a line fits a terminal
/// of this many columns.
pub fn cut_table(
    header: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
    numbers: Range<usize>,
    columns: u16,
) -> Vec<String> {
    let mut table = new_table(header, rows, numbers);
    if let [before @ .., last] = &table.column_max_content_widths()[..] {
        let before: u16 = before.iter().map(|width| width + SPACES).sum();
        let left = columns.saturating_sub(before).max(LAST_WIDTH_MIN);
        if *last > left {
            cut_column(&mut table, left);
        }
    }
    lines(&table)
}

/// A text on one line, cut to this many columns of a terminal.
pub fn cut(text: String, columns: u16) -> String {
    cut_table(&[], [vec![text]].into_iter(), 0..0, columns).concat()
}

fn new_table(header: &[&str], rows: impl Iterator<Item = Vec<String>>, numbers: Range<usize>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if !header.is_empty() {
        table.set_header(header);
    }
    let escaped = |cell: String| escape::line(&cell).into_owned();
    table.add_rows(rows.map(|row| row.into_iter().map(escaped).collect::<Vec<_>>()));
    for index in numbers {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    if let Some(first) = table.column_mut(0) {
        first.set_padding((0, 1));
    }
    table
}

/// Cuts what is wider than this in the last column.
fn cut_column(table: &mut Table, width: u16) {
    table.set_truncation_indicator(CUT);
    if let Some(last) = table.column_iter_mut().last() {
        let width = Width::Fixed(width + last.padding_width());
        last.set_constraint(ColumnConstraint::Absolute(width));
    }
    for row in table.row_iter_mut() {
        row.max_height(1);
    }
}

fn lines(table: &Table) -> Vec<String> {
    table.lines().map(|line| line.trim_end().to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_column_is_cut_to_what_the_others_leave() {
        let row = |last: &str| vec!["captcha:0:1".to_string(), last.to_string()];
        let cut = |last: &str| cut_table(&["record", "reason"], [row(last)].into_iter(), 0..0, 40);
        assert_eq!(cut("short"), ["record       reason", "captcha:0:1  short"]);
        let fits = "x".repeat(27);
        assert_eq!(cut(&fits)[1], format!("captcha:0:1  {fits}"));
        assert_eq!(cut(&"x".repeat(28))[1], format!("captcha:0:1  {}...", "x".repeat(24)));
        assert_eq!(
            cut("words of a reason that is too long")[1],
            "captcha:0:1  words of a reason that i..."
        );
        assert_eq!(
            cut(&"\u{65e5}".repeat(14))[1],
            format!("captcha:0:1  {}...", "\u{65e5}".repeat(12))
        );
        assert_eq!(cut("a\nb\u{1b}")[1], "captcha:0:1  a\\nb\\u001b");
    }

    #[test]
    fn the_last_column_keeps_some_width_after_wide_ones() {
        let row = ["x".repeat(70), "y".repeat(70)];
        let lines = cut_table(&["wide", "last"], [row.to_vec()].into_iter(), 0..0, 80);
        assert_eq!(lines[1], format!("{}  {}...", "x".repeat(70), "y".repeat(17)));
    }

    #[test]
    fn a_text_alone_is_cut_too() {
        assert_eq!(cut("x".repeat(10), 10), "x".repeat(10));
        assert_eq!(cut("x".repeat(100), 40), format!("{}...", "x".repeat(37)));
        assert_eq!(cut(String::new(), 40), "");
    }
}
