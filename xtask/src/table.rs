//! Tables for people. What a script reads is JSON, never this.

use comfy_table::{Cell, CellAlignment, LineStyle, Table, TableStyle};

/// A line under the heading and nothing else, so that a row can be copied as it stands.
const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// A table with a heading and rows; columns whose every cell is a number stand to the right.
pub(crate) fn render<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> String {
    let mut table = Table::new();
    table.load_style(STYLE).set_header(heading);
    for row in rows {
        table.add_row(row.iter().map(Cell::new));
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        let cells = || rows.iter().map(|row| row[index].as_str()).filter(|cell| !matches!(*cell, "" | "-"));
        if cells().next().is_some() && cells().all(is_number) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

fn is_number(cell: &str) -> bool {
    let cell = cell.strip_suffix(" s").or_else(|| cell.strip_suffix(" ms")).unwrap_or(cell);
    cell == "-"
        || (cell.starts_with(|c: char| c.is_ascii_digit()) && cell.chars().all(|c| c.is_ascii_digit() || c == '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_to_the_right() {
        let rows = [["accounts".to_owned(), "13".to_owned()], ["notes".to_owned(), "2".to_owned()]];
        let table = render(["table", "copied"], &rows);
        assert!(table.contains("     13"), "{table}");
        assert!(table.contains(" accounts"), "{table}");
    }
}
