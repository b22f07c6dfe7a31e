//! A search as a pattern of each engine, in which nothing of the text has a meaning of its own.

use super::{Matching, Needle, fold::same_letter};

/// An advanced regular expression of PostgreSQL: sets compare code points, whatever the locale.
pub(super) fn regex(needle: &Needle) -> String {
    let letters = needle.text.chars().fold(String::new(), |mut pattern, character| {
        match letters(needle, character).as_slice() {
            [single] if single.is_ascii() && !single.is_ascii_alphanumeric() => pattern.extend(['\\', *single]),
            [single] => pattern.push(*single),
            several => bracket(&mut pattern, several),
        }
        pattern
    });
    match needle.matching {
        Matching::Exact => format!("^{letters}$"),
        // A pattern must not begin with the text: `***` and `(?` at its beginning are directives.
        Matching::Contains => format!("(?:){letters}"),
        Matching::StartsWith => format!("^{letters}"),
    }
}

/// A GLOB pattern of SQLite.
pub(super) fn glob(needle: &Needle) -> String {
    let letters = needle.text.chars().fold(String::new(), |mut pattern, character| {
        match letters(needle, character).as_slice() {
            // A bracket is the only escape that GLOB has.
            [single @ ('*' | '?' | '[')] => bracket(&mut pattern, &[*single]),
            [single] => pattern.push(*single),
            several => bracket(&mut pattern, several),
        }
        pattern
    });
    match needle.matching {
        Matching::Exact => letters,
        Matching::Contains => format!("*{letters}*"),
        Matching::StartsWith => format!("{letters}*"),
    }
}

fn letters(needle: &Needle, character: char) -> Vec<char> {
    if needle.case_sensitive { vec![character] } else { same_letter(character) }
}

/// A set. Only letters come in sets, and the three wildcards of GLOB alone, so that nothing in it needs an escape.
fn bracket(pattern: &mut String, characters: &[char]) {
    pattern.push('[');
    pattern.extend(characters);
    pattern.push(']');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needle(text: &str, matching: Matching, case_sensitive: bool) -> Needle {
        Needle { text: text.to_owned(), matching, case_sensitive }
    }

    #[test]
    fn nothing_of_the_text_has_a_meaning_of_its_own() {
        let contains = needle(r"a%*[?]^-\", Matching::Contains, false);
        assert_eq!(regex(&contains), r"(?:)[Aa]\%\*\[\?\]\^\-\\");
        assert_eq!(glob(&contains), r"*[Aa]%[*][[][?]]^-\*");
        let exact = needle("Äx_", Matching::Exact, true);
        assert_eq!(regex(&exact), r"^Äx\_$");
        assert_eq!(glob(&exact), "Äx_");
        let start = needle("(?i)*", Matching::StartsWith, true);
        assert_eq!(regex(&start), r"^\(\?i\)\*");
        assert_eq!(glob(&start), "([?]i)[*]*");
    }
}
