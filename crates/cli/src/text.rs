//! What people read: lines and tables with marks that stand out. What a script reads is JSON, never this.
//!
//! Styles are always written; the stream that prints them takes them away where `NO_COLOR`, `CLICOLOR` or the lack of a
//! terminal says so. Text that came from a database or a server is written with its control characters escaped: a tenant's
//! name must not clear an operator's screen, nor pass for something that the program said.

mod table;

use std::{borrow::Cow, fmt};

use anstyle::{AnsiColor, Style};

pub use table::{Cell, table};

/// How a state stands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// As it should be.
    Good,
    /// To be looked at.
    Warning,
    /// Wrong.
    Bad,
}

impl Mark {
    /// [`Mark::Good`] or [`Mark::Bad`].
    pub fn of(good: bool) -> Self {
        if good { Self::Good } else { Self::Bad }
    }

    fn style(self) -> Style {
        match self {
            Self::Good => AnsiColor::Green.on_default(),
            Self::Warning => AnsiColor::Yellow.on_default(),
            Self::Bad => AnsiColor::Red.on_default().bold(),
        }
    }

    /// The text in this mark's style, its control characters escaped.
    pub fn paint(self, text: &str) -> String {
        let style = self.style();
        format!("{style}{}{style:#}", printable(text))
    }
}

/// An answer under construction: lines one after the other.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Text {
    lines: String,
}

impl Text {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a table.
    pub fn table<const N: usize, C: Into<Cell> + Clone>(&mut self, heading: [&str; N], rows: &[[C; N]]) {
        self.push(&table(heading, rows));
    }

    /// Adds a line.
    pub fn line(&mut self, line: impl AsRef<str>) {
        self.push(&printable(line.as_ref()));
    }

    /// Adds a line that begins with a marked word: `error: …`.
    pub fn marked(&mut self, mark: Mark, word: &str, line: impl AsRef<str>) {
        self.push(&format!("{}: {}", mark.paint(word), printable(line.as_ref())));
    }

    /// Adds a line that says what to do.
    pub fn help(&mut self, line: impl AsRef<str>) {
        self.marked(Mark::Good, "help", line);
    }

    /// Adds a line that ends with a marked word: `acme: FAILED`.
    pub fn ending(&mut self, line: impl AsRef<str>, mark: Mark, word: &str) {
        self.push(&format!("{}{}", printable(line.as_ref()), mark.paint(word)));
    }

    fn push(&mut self, lines: &str) {
        if !self.lines.is_empty() {
            self.lines.push('\n');
        }
        self.lines.push_str(lines);
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines)
    }
}

/// The text with every character escaped that would move a cursor, change a terminal or turn the direction of reading. Line
/// ends stay.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    let harmful = |c: char| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
    };
    if !text.contains(harmful) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if harmful(c) { escaped.extend(c.escape_default()) } else { escaped.push(c) }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The attack: a tenant's name, or a server's answer, that clears the operator's screen or hides what follows.
    #[test]
    fn what_comes_from_elsewhere_cannot_steer_the_terminal() {
        let hostile = "acme\u{1b}[2J\u{9b}31m\r\u{202e}gnp";
        let mut text = Text::new();
        text.line(hostile);
        text.marked(Mark::Bad, "error", hostile);
        text.table(["tenant"], &[[Cell::marked(Mark::Good, hostile)], [Cell::from(hostile)]]);
        let shown = anstream::adapter::strip_str(&text.to_string()).to_string();
        assert!(!shown.contains(|c: char| (c.is_control() && c != '\n') || c == '\u{202e}'), "{shown:?}");
        assert_eq!(shown.matches(r"acme\u{1b}[2J\u{9b}31m\r\u{202e}gnp").count(), 4, "{shown}");
    }
}
