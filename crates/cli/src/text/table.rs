//! Tables for people: a line under the heading and nothing else, so that a row can be copied as it stands.

use unicode_width::UnicodeWidthStr;

use super::{Mark, printable};

/// What stands in a row under one heading. Line ends in it make the row taller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    text: String,
    mark: Option<Mark>,
}

impl Cell {
    /// A state that stands out.
    pub fn marked(mark: Mark, text: impl AsRef<str>) -> Self {
        Self { text: printable(text.as_ref()).into_owned(), mark: Some(mark) }
    }

    /// `yes`, `NO`, or `-` where the question does not arise: what is wrong stands out.
    pub fn yes_no(answer: impl Into<Option<bool>>) -> Self {
        match answer.into() {
            Some(true) => Self::marked(Mark::Good, "yes"),
            Some(false) => Self::marked(Mark::Bad, "NO"),
            None => Self::from("-"),
        }
    }

    /// The text, or `-` where there is none.
    pub fn optional(text: Option<impl ToString>) -> Self {
        text.map_or_else(|| Self::from("-"), |text| Self::from(text.to_string()))
    }

    fn lines(&self) -> impl Iterator<Item = &str> {
        self.text.split('\n')
    }

    fn width(&self) -> usize {
        self.lines().map(UnicodeWidthStr::width).max().unwrap_or_default()
    }

    fn is_number(&self) -> bool {
        let text = self.text.strip_suffix(" s").or_else(|| self.text.strip_suffix(" ms")).unwrap_or(&self.text);
        text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(|c| c.is_ascii_digit() || c == '.')
    }

    fn is_empty(&self) -> bool {
        matches!(self.text.as_str(), "" | "-")
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self { text: printable(text).into_owned(), mark: None }
    }
}

impl From<usize> for Cell {
    fn from(number: usize) -> Self {
        Self::from(number.to_string())
    }
}

/// A table with a heading and rows; columns whose every cell is a number stand to the right.
pub fn table<const N: usize, C: Into<Cell> + Clone>(heading: [&str; N], rows: &[[C; N]]) -> String {
    let heading = heading.map(Cell::from);
    let rows: Vec<[Cell; N]> = rows.iter().map(|row| row.clone().map(Into::into)).collect();
    let columns: [Column; N] = std::array::from_fn(|index| {
        let cells = || rows.iter().map(|row| &row[index]);
        let width = cells().chain([&heading[index]]).map(Cell::width).max().unwrap_or_default();
        let numbers = || cells().filter(|cell| !cell.is_empty());
        Column { width, right: numbers().next().is_some() && numbers().all(Cell::is_number) }
    });
    let line = "─".repeat(columns.iter().map(|column| column.width + 2).sum());
    let mut lines = vec![row_text(&heading, &columns), line];
    lines.extend(rows.iter().map(|row| row_text(row, &columns)));
    lines.join("\n")
}

struct Column {
    width: usize,
    right: bool,
}

/// A row: as many lines as its tallest cell has, each without blanks at its end.
fn row_text<const N: usize>(row: &[Cell; N], columns: &[Column; N]) -> String {
    let height = row.iter().map(|cell| cell.lines().count()).max().unwrap_or_default();
    let line = |index| {
        let mut text = String::new();
        for (cell, column) in row.iter().zip(columns) {
            let part = cell.lines().nth(index).unwrap_or_default();
            let blanks = " ".repeat(column.width - part.width());
            let part = match cell.mark {
                Some(mark) if !part.is_empty() => mark.paint(part),
                _ => part.to_owned(),
            };
            let (before, after) = if column.right { (blanks.as_str(), "") } else { ("", blanks.as_str()) };
            text += &format!(" {before}{part}{after} ");
        }
        text.trim_end().to_owned()
    };
    (0..height).map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_to_the_right() {
        let rows = [["accounts", "13"], ["notes", "2"], ["tasks", "-"]];
        let table = table(["table", "copied"], &rows);
        assert_eq!(
            table,
            " table     copied\n──────────────────\n accounts      13\n notes          2\n tasks          -"
        );
    }

    /// Catches styles that are counted as columns, and a wide character that is counted as one.
    #[test]
    fn marks_and_wide_characters_do_not_shift_a_column() {
        let rows = [
            [Cell::marked(Mark::Bad, "NO"), Cell::from("x")],
            [Cell::from("日本"), Cell::from("y\nz")],
            [Cell::from("-"), Cell::yes_no(true)],
        ];
        let table = table(["a", "b"], &rows);
        assert!(table.contains('\u{1b}'), "{table:?}");
        let plain = anstream::adapter::strip_str(&table).to_string();
        assert_eq!(plain, " a     b\n───────────\n NO    x\n 日本  y\n       z\n -     yes");
    }
}
