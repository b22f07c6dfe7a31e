//! A search as a pattern of each engine, in which nothing of the text has a meaning of its own.

use tenantry_realm::TenantEntity;

use super::{Matching, SearchOptions, fold::same_letter};

/// An advanced regular expression of PostgreSQL: sets compare code points, whatever the locale.
pub(super) fn regex<E: TenantEntity>(search: &SearchOptions<E>) -> String {
    let letters = search.text.chars().fold(String::new(), |mut pattern, character| {
        match letters(search, character).as_slice() {
            [single] if single.is_ascii() && !single.is_ascii_alphanumeric() => pattern.extend(['\\', *single]),
            [single] => pattern.push(*single),
            several => bracket(&mut pattern, several),
        }
        pattern
    });
    match search.matching {
        Matching::Exact => format!("^{letters}$"),
        // A pattern must not begin with the text: `***` and `(?` at its beginning are directives.
        Matching::Contains => format!("(?:){letters}"),
    }
}

/// A GLOB pattern of SQLite.
pub(super) fn glob<E: TenantEntity>(search: &SearchOptions<E>) -> String {
    let letters = search.text.chars().fold(String::new(), |mut pattern, character| {
        match letters(search, character).as_slice() {
            // A bracket is the only escape that GLOB has.
            [single @ ('*' | '?' | '[')] => bracket(&mut pattern, &[*single]),
            [single] => pattern.push(*single),
            several => bracket(&mut pattern, several),
        }
        pattern
    });
    match search.matching {
        Matching::Exact => letters,
        Matching::Contains => format!("*{letters}*"),
    }
}

fn letters<E: TenantEntity>(search: &SearchOptions<E>, character: char) -> Vec<char> {
    if search.case_sensitive { vec![character] } else { same_letter(character) }
}

/// A set. Only letters come in sets, and the three wildcards of GLOB alone, so that nothing in it needs an escape.
fn bracket(pattern: &mut String, characters: &[char]) {
    pattern.push('[');
    pattern.extend(characters);
    pattern.push(']');
}
