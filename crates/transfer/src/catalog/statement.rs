//! The statement that made a table of SQLite, word by word: its catalogs tell nothing of a CHECK but this text.
//!
//! Read as SQLite reads it: the same quotes, comments and words. It is no parser, and knows no table.

/// A piece of a statement, without the blanks and comments between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    /// A name or a text, without its quotes.
    Quoted(&'a str),
    Sign(char),
}

struct Tokens<'a>(&'a str);

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            self.0 = self.0.trim_start_matches(|character: char| character.is_ascii_whitespace());
            let first = self.0.chars().next()?;
            // A quote within quotes is written twice and begins another, which comes to the same.
            match first {
                '\'' => return self.until(1, "'").map(Token::Quoted),
                '"' => return self.until(1, "\"").map(Token::Quoted),
                '`' => return self.until(1, "`").map(Token::Quoted),
                '[' => return self.until(1, "]").map(Token::Quoted),
                '-' if self.0.starts_with("--") => drop(self.until(2, "\n")?),
                '/' if self.0.starts_with("/*") => drop(self.until(2, "*/")?),
                _ => {
                    let length = self.0.find(|character| !is_word(character)).unwrap_or(self.0.len());
                    let (token, rest) = self.0.split_at(length.max(first.len_utf8()));
                    self.0 = rest;
                    return Some(if length == 0 { Token::Sign(first) } else { Token::Word(token) });
                }
            }
        }
    }
}

impl<'a> Tokens<'a> {
    /// What stands between a beginning of so many bytes and this end, or the end of all.
    fn until(&mut self, begin: usize, end: &str) -> Option<&'a str> {
        let inside = self.0.get(begin..)?;
        let (inside, rest) = inside.split_once(end).unwrap_or((inside, ""));
        self.0 = rest;
        Some(inside)
    }
}

fn is_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | '$') || !character.is_ascii()
}

/// Whether a table that was made by this statement has a CHECK. It is a reserved word, so that whatever is called so is quoted.
pub(super) fn has_check(sql: &str) -> bool {
    Tokens(sql).any(|token| matches!(token, Token::Word(word) if word.eq_ignore_ascii_case("check")))
}

/// Whether running this text makes one table of the columns it names, and does nothing else. The text is whatever the owner of
/// the file has written into its catalog, and another statement behind it would be run as well.
pub(crate) fn makes_one_table(sql: &str) -> bool {
    let begins = |at: usize, expected: &str| matches!(Tokens(sql).nth(at), Some(Token::Word(word)) if word.eq_ignore_ascii_case(expected));
    begins(0, "create")
        && begins(1, "table")
        && !sql.contains('\0')
        && Tokens(sql).all(|token| match token {
            // What begins a parameter's name goes on in ways of its own, quotes and all. No column has one.
            Token::Sign(sign) => !matches!(sign, ';' | '@' | '#' | ':' | '?'),
            Token::Word(word) => !word.starts_with('$') && !word.eq_ignore_ascii_case("select"),
            Token::Quoted(_) => true,
        })
}

/// Whether what the text computes may depend on more than a row's columns: on chance, on the session, or on the number that SQLite
/// gives the row, unless a column is called so.
pub(crate) fn depends_on_more_than_columns(sql: &str, is_column: &dyn Fn(&str) -> bool) -> bool {
    const NUMBER: &[&str] = &["rowid", "_rowid_", "oid"];
    const OTHER: &[&str] = &["random", "randomblob", "changes", "total_changes", "last_insert_rowid"];
    let mut before = Token::Sign(' ');
    Tokens(sql).any(|token| {
        let option =
            matches!(std::mem::replace(&mut before, token), Token::Word(word) if word.eq_ignore_ascii_case("without"));
        let (Token::Word(word) | Token::Quoted(word)) = token else { return false };
        let is = |names: &[&str]| names.iter().any(|name| word.eq_ignore_ascii_case(name));
        (is(OTHER) || (is(NUMBER) && !option)) && !is_column(word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_a_word_and_no_text() {
        for sql in [
            "CREATE TABLE t (a CHECK (a > 0))",
            "CREATE TABLE t (a, CONSTRAINT c check(a))",
            "create table [ä] (é Check(1))",
        ] {
            assert!(has_check(sql), "{sql}");
        }
        for sql in [
            "CREATE TABLE t (a, checked, a_check, check$, €check)",
            "CREATE TABLE \"check\" (a DEFAULT 'it''s a check', [check], `check`)",
            "CREATE TABLE t (a -- check (a)\n, b /* check (b) */)",
            "CREATE TABLE t (a /* check",
        ] {
            assert!(!has_check(sql), "{sql}");
        }
    }

    #[test]
    fn what_does_more_than_make_a_table_is_seen() {
        for sql in [
            "CREATE TABLE t (a CHECK (a > 0))",
            "CREATE TABLE \"a;b\" (a DEFAULT ';' CHECK (a <> 'x;''y;') -- not; this\n) /* nor; this */ STRICT",
            "create\ttable [a;b'c] (a, `select;` CHECK (a -> '$.b' <> ':x'))",
        ] {
            assert!(makes_one_table(sql), "{sql}");
        }
        for sql in [
            "",
            "DROP TABLE t",
            "CREATE TEMP TABLE t (a)",
            "CREATE VIRTUAL TABLE t USING fts5(a)",
            "CREATE TABLE t (a); ATTACH 'other.db' AS other",
            "CREATE TABLE t (a DEFAULT 'it''s'); DROP TABLE u",
            "CREATE TABLE t (a /* ' */); DROP TABLE u --'",
            "CREATE TABLE t (a CHECK (a <> $x(')); ATTACH 'other.db' AS other --')",
            "CREATE TABLE t (a CHECK (a <> :x::y(')); ATTACH 'other.db' AS other --')",
            "CREATE TABLE t AS SELECT zeroblob(1000000000) AS a",
            "CREATE TABLE t (a)\0; DROP TABLE u",
        ] {
            assert!(!makes_one_table(sql), "{sql}");
        }
    }

    #[test]
    fn a_row_alone_does_not_decide_everything() {
        let is_column = |name: &str| name.eq_ignore_ascii_case("oid");
        for sql in [
            "CREATE TABLE t (a CHECK (RowId < 5))",
            "CREATE TABLE t (a CHECK (\"_rowid_\" < 5))",
            "CREATE TABLE t (a DEFAULT (random()) CHECK (a > 0))",
        ] {
            assert!(depends_on_more_than_columns(sql, &is_column), "{sql}");
        }
        for sql in [
            "CREATE TABLE t (Oid PRIMARY KEY CHECK (oid > 0)) WITHOUT ROWID",
            "CREATE TABLE t (a CHECK (a /* rowid */))",
        ] {
            assert!(!depends_on_more_than_columns(sql, &is_column), "{sql}");
        }
    }
}
