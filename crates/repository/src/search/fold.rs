//! Unicode's simple case folding, the other way round: which characters fold to the same one.

use std::{collections::HashMap, sync::LazyLock};

/// The characters that differ from `character` in case only, itself included, in code point order.
pub(super) fn same_letter(character: char) -> Vec<char> {
    SAME_LETTER.get(&fold(character)).cloned().unwrap_or_else(|| vec![character])
}

/// Sets of more than one character, by what they fold to. Made once per process, by looking at every character.
static SAME_LETTER: LazyLock<HashMap<char, Vec<char>>> = LazyLock::new(|| {
    let mut sets: HashMap<char, Vec<char>> = HashMap::new();
    for character in '\0'..=char::MAX {
        let folded = fold(character);
        if folded != character {
            sets.entry(folded).or_insert_with(|| vec![folded]).push(character);
        }
    }
    for set in sets.values_mut() {
        set.sort_unstable();
    }
    sets
});

/// By way of upper case, so that letters with two lower-case forms (σ and ς) meet. A mapping to more than one character is not
/// made.
fn fold(character: char) -> char {
    // Turkish alone takes ı for a form of I.
    if character == 'ı' {
        return character;
    }
    let upper = single(character.to_uppercase()).unwrap_or(character);
    single(upper.to_lowercase()).unwrap_or(upper)
}

fn single(mut characters: impl ExactSizeIterator<Item = char>) -> Option<char> {
    if characters.len() == 1 { characters.next() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_meet_whatever_their_case_and_nothing_else_does() {
        assert_eq!(same_letter('Ä'), vec!['Ä', 'ä']);
        assert_eq!(same_letter('ä'), vec!['Ä', 'ä']);
        assert_eq!(same_letter('ς'), vec!['Σ', 'ς', 'σ']);
        assert_eq!(same_letter('k'), vec!['K', 'k', '\u{212a}'], "the Kelvin sign");
        assert_eq!(same_letter('ß'), vec!['ß', 'ẞ']);
        assert_eq!(same_letter('Ж'), vec!['Ж', 'ж']);
        for alone in ['1', '%', '_', '中', 'ı', 'İ', '😀', ']', '^', '-', '\\'] {
            assert_eq!(same_letter(alone), vec![alone]);
        }
        assert_eq!(same_letter('i'), vec!['I', 'i']);
    }
}
