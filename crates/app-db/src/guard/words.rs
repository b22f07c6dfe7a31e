//! Reads the words of a finished statement. Values are bound, so what is left is keywords, functions, quoted names,
//! placeholders and operators; anything else is refused.

use std::collections::BTreeSet;

use sea_orm::DbBackend;

use super::Refusal;

/// Keywords, functions and types that the builders write for what an [`AppSelect`](crate::AppSelect) and the store say.
/// Functions that run SQL given as text (`query_to_xml`), reach files or change settings are not among them, and neither
/// are `WITH`, `TABLE` and `LATERAL`, whose tables this reading would not follow.
#[rustfmt::skip] // One word a line would hide the rest of the file.
const KNOWN: &[&str] = &[
    "ABS", "ALL", "AND", "ANY", "AS", "ASC", "AVG", "BETWEEN", "BIGINT", "BOOLEAN", "BY", "CASE", "CAST",
    "CHAR_LENGTH", "COALESCE", "CONFLICT", "COUNT", "CROSS", "CURRENT_TIMESTAMP", "DEFAULT", "DELETE", "DESC",
    "DISTINCT", "DO", "ELSE", "END", "ESCAPE", "EXCEPT", "EXCLUDED", "EXISTS", "FALSE", "FIRST", "FOR", "FROM",
    "FULL", "GROUP", "HAVING", "ILIKE", "IN", "INNER", "INSERT", "INTEGER", "INTERSECT", "INTO", "IS", "JOIN", "JSON",
    "JSONB", "LAST", "LEFT", "LENGTH", "LIKE", "LIMIT", "LOWER", "MAX", "MIN", "NOT", "NOTHING", "NULL", "NULLS",
    "OFFSET", "ON", "OR", "ORDER", "OUTER", "RETURNING", "RIGHT", "ROUND", "SELECT", "SET", "SHARE", "SOME", "SUBSTR",
    "SUM", "TEXT", "THEN", "TIMESTAMPTZ", "TRUE", "UNION", "UPDATE", "UPPER", "UUID", "VALUES", "WHEN", "WHERE",
];

/// After one of these no comma continues a list of tables.
#[rustfmt::skip] // One word a line would hide the rest of the file.
const ENDS_TABLES: &[&str] = &[
    "DEFAULT", "EXCEPT", "FOR", "GROUP", "HAVING", "INTERSECT", "LIMIT", "OFFSET", "ORDER", "RETURNING", "SELECT",
    "SET", "UNION", "VALUES", "WHERE",
];

/// What is known at one depth of parentheses.
#[derive(Default, Clone, Copy)]
struct Level {
    /// Within `FROM a, b JOIN c`: a comma is followed by another table.
    lists_tables: bool,
    /// The next word must be a table.
    wants_table: bool,
}

enum Token<'a> {
    Word(&'a str),
    Name(String),
    Symbol(char),
}

/// Refuses the statement unless every table in it is one of `tables` and every word is known.
pub(super) fn check(backend: DbBackend, sql: &str, tables: &BTreeSet<String>) -> Result<(), Refusal> {
    let mut levels = vec![Level::default()];
    let mut previous_word = String::new();
    // The name just read and whether it stood where a table belongs: what follows it decides whether it is allowed.
    let mut previous_name: Option<(String, bool)> = None;
    let mut rest = sql;
    while let Some((token, remainder)) = next_token(backend, rest)? {
        rest = remainder;
        let depth = levels.len();
        let level = levels.last_mut().ok_or(Refusal::Unreadable(')'))?;
        let name_before = previous_name.take();
        match token {
            Token::Word(word) => {
                let word = word.to_ascii_uppercase();
                if KNOWN.binary_search(&word.as_str()).is_err() {
                    return Err(Refusal::UnknownWord(word));
                }
                if level.wants_table && word != "SELECT" && word != "VALUES" {
                    return Err(Refusal::UnknownWord(word));
                }
                level.wants_table = match word.as_str() {
                    "FROM" | "JOIN" | "INTO" => true,
                    // `DO UPDATE SET` and `FOR UPDATE` name no table.
                    "UPDATE" => previous_word != "DO" && previous_word != "FOR",
                    _ => false,
                };
                if level.wants_table {
                    level.lists_tables = true;
                } else if ENDS_TABLES.contains(&word.as_str()) {
                    level.lists_tables = false;
                }
                previous_word = word;
            }
            Token::Name(name) => {
                if level.wants_table && !tables.contains(&name) {
                    return Err(Refusal::ForeignTable(name));
                }
                previous_name = Some((name, level.wants_table));
                level.wants_table = false;
            }
            Token::Symbol(symbol) => match (symbol, name_before) {
                ('.', Some((name, true))) => return Err(Refusal::QualifiedTable(name)),
                ('.', Some((_, false))) => {}
                // A quoted name in front of a parenthesis is a function, but for `INSERT INTO "table" (`.
                ('(', Some((name, false))) => return Err(Refusal::UnknownWord(name)),
                ('(', _) => {
                    let inner = Level { lists_tables: level.wants_table, wants_table: level.wants_table };
                    level.wants_table = false;
                    levels.push(inner);
                }
                (')', _) if depth > 1 && !level.wants_table => {
                    levels.pop();
                }
                (',', _) if !level.wants_table => level.wants_table = level.lists_tables,
                (symbol, _) if level.wants_table || ".,)".contains(symbol) => return Err(Refusal::Unreadable(symbol)),
                _ => {}
            },
        }
    }
    match levels.as_slice() {
        [Level { wants_table: false, .. }] => Ok(()),
        _ => Err(Refusal::Unreadable('(')),
    }
}

fn next_token(backend: DbBackend, sql: &str) -> Result<Option<(Token<'_>, &str)>, Refusal> {
    let sql = sql.trim_start();
    let Some(first) = sql.chars().next() else { return Ok(None) };
    Ok(Some(match first {
        '"' => {
            let (name, rest) = quoted_name(sql)?;
            (Token::Name(name), rest)
        }
        // What the builder writes on PostgreSQL for LIKE … ESCAPE with a backslash; no other escape string is read.
        'E' if backend == DbBackend::Postgres && sql.starts_with(r"E'\\'") => (Token::Symbol('\''), &sql[5..]),
        'a'..='z' | 'A'..='Z' | '_' => {
            let end = sql.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(sql.len());
            (Token::Word(&sql[..end]), &sql[end..])
        }
        // A placeholder: `$1` on PostgreSQL, `?` on SQLite. A dollar without digits would open a literal.
        '$' => {
            let rest = sql[1..].trim_start_matches(|c: char| c.is_ascii_digit());
            if rest.len() == sql.len() - 1 || rest.starts_with('$') {
                return Err(Refusal::Unreadable('$'));
            }
            (Token::Symbol('$'), rest)
        }
        '0'..='9' => {
            let rest = sql.trim_start_matches(|c: char| c.is_ascii_digit());
            if rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
                return Err(Refusal::Unreadable(first));
            }
            (Token::Symbol('0'), rest)
        }
        // A constant that the builder wrote. Whether a backslash escapes the quote depends on a setting of PostgreSQL.
        '\'' => {
            let end = sql[1..].find('\'').ok_or(Refusal::Unreadable('\''))?;
            let (literal, rest) = (&sql[1..=end], &sql[end + 2..]);
            if (literal.contains('\\') && backend == DbBackend::Postgres) || rest.starts_with('\'') {
                return Err(Refusal::Unreadable('\''));
            }
            (Token::Symbol('\''), rest)
        }
        '-' if sql.starts_with("--") => return Err(Refusal::Unreadable('-')),
        '/' if sql.starts_with("/*") => return Err(Refusal::Unreadable('/')),
        '(' | ')' | ',' | '.' | '?' | '*' | '=' | '<' | '>' | '!' | '+' | '-' | '/' | '%' | '|' | ':' | '@' | '#'
        | '&' | '~' => (Token::Symbol(first), &sql[1..]),
        other => return Err(Refusal::Unreadable(other)),
    }))
}

/// A quoted name with its doubled quotes undone.
fn quoted_name(sql: &str) -> Result<(String, &str), Refusal> {
    let mut name = String::new();
    let mut characters = sql[1..].char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        if character != '"' {
            name.push(character);
        } else if characters.next_if(|(_, next)| *next == '"').is_some() {
            name.push('"');
        } else {
            return Ok((name, &sql[at + 2..]));
        }
    }
    Err(Refusal::Unreadable('"'))
}
