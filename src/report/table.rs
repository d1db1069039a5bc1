//! Tables for people.

use std::ops::Range;

use comfy_table::{CellAlignment, Table, presets};

use crate::terminal::escape;

/// A table for people, with these columns of numbers.
pub fn table(header: &[&str], rows: impl Iterator<Item = Vec<String>>, numbers: Range<usize>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
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
        .lines()
        .map(|line| line.trim_end().to_string())
        .collect::<Vec<_>>()
        .join("\n")
}
