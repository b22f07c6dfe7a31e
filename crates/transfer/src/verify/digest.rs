//! The digest of a table: how many rows, and two sums over two 64-bit hashes of each row.
//!
//! A sum depends on no order, and two equal rows do not cancel each other as they would in an exclusive or. The hash is the one that
//! PostgreSQL's `hashtextextended` computes over the text that it writes for a row, so that a server digests a table without sending
//! it anywhere; here the same is computed from canonical texts. (Two servers that are compared with each other hash their rows as they
//! are.) It finds what a copy may lose or change, and is no signature: whoever can choose rows could find two with the same hash.

use sha2::{Digest as _, Sha256};

use crate::{
    canonical::hex,
    kind::Kind,
    rows::{Reading, Row},
};

/// The seeds of the two hashes.
pub(super) const SEEDS: [u64; 2] = [0, 1];

/// What a table's rows come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Digest {
    pub(super) rows: u64,
    pub(super) sums: [u64; 2],
}

impl Digest {
    /// Adds a row in canonical texts. The buffer is only kept from row to row.
    pub(super) fn add(&mut self, reading: &Reading, row: &Row, buffer: &mut Vec<u8>) {
        buffer.clear();
        buffer.push(b'(');
        for (place, ((_, kind), value)) in reading.columns.iter().zip(&row.values).enumerate() {
            if place > 0 {
                buffer.push(b',');
            }
            if let Some(value) = value {
                field(*kind, value, buffer);
            }
        }
        buffer.push(b')');
        self.rows += 1;
        for (sum, seed) in self.sums.iter_mut().zip(SEEDS) {
            *sum = sum.wrapping_add(hash(buffer, seed));
        }
    }

    /// In hexadecimal digits.
    pub(super) fn print(&self) -> String {
        self.sums.map(|sum| hex(&sum.to_be_bytes())).concat()
    }
}

/// A value as PostgreSQL writes it within a row. Null is nothing at all, an empty text two quotes. Bytes are written as their
/// SHA-256, which is short however many they are.
fn field(kind: Kind, canonical: &str, buffer: &mut Vec<u8>) {
    match kind {
        Kind::Boolean => buffer.extend_from_slice(canonical.get(..1).unwrap_or_default().as_bytes()),
        Kind::Bytes => {
            let bytes = bytes(canonical.as_bytes());
            quoted(format!("\\x{}", hex(&Sha256::digest(bytes))).as_bytes(), buffer);
        }
        Kind::Time => quoted(without_zeros(canonical).as_bytes(), buffer),
        Kind::Timestamp => {
            match canonical.split_once('T').and_then(|(date, rest)| Some((date, rest.split_once("+00:00")?))) {
                Some((date, (time, era))) => {
                    quoted(format!("{date} {}+00{era}", without_zeros(time)).as_bytes(), buffer);
                }
                None => quoted(canonical.as_bytes(), buffer),
            }
        }
        _ => quoted(canonical.as_bytes(), buffer),
    }
}

/// Within quotes where PostgreSQL needs them to read the row again.
fn quoted(text: &[u8], buffer: &mut Vec<u8>) {
    let needs = |byte: &u8| matches!(byte, b'"' | b'\\' | b'(' | b')' | b',' | b' ' | b'\t'..=b'\r');
    if !text.is_empty() && !text.iter().any(needs) {
        return buffer.extend_from_slice(text);
    }
    buffer.push(b'"');
    for byte in text {
        if matches!(byte, b'"' | b'\\') {
            buffer.push(*byte);
        }
        buffer.push(*byte);
    }
    buffer.push(b'"');
}

/// A time of day without the zeros at the end of its fraction.
fn without_zeros(time: &str) -> &str {
    if time.contains('.') { time.trim_end_matches('0').trim_end_matches('.') } else { time }
}

fn bytes(digits: &[u8]) -> Vec<u8> {
    let value = |digit: u8| char::from(digit).to_digit(16).unwrap_or(0) as u8;
    digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | value(*digit))).collect()
}

/// `hash_bytes_extended` of PostgreSQL, which is Bob Jenkins' lookup3 of 2006, on a machine that keeps the low byte first.
fn hash(text: &[u8], seed: u64) -> u64 {
    let begin = 0x9e37_79b9_u32.wrapping_add(text.len() as u32).wrapping_add(3_923_095);
    let mut state = [begin; 3];
    if seed != 0 {
        state[0] = state[0].wrapping_add((seed >> 32) as u32);
        state[1] = state[1].wrapping_add(seed as u32);
        mix(&mut state);
    }
    let mut chunks = text.chunks_exact(12);
    for chunk in &mut chunks {
        for (part, bytes) in state.iter_mut().zip(chunk.chunks_exact(4)) {
            *part = part.wrapping_add(word(bytes));
        }
        mix(&mut state);
    }
    for (place, bytes) in chunks.remainder().chunks(4).enumerate() {
        // The lowest byte of the last word is reserved for the length.
        let part = word(bytes);
        state[place] = state[place].wrapping_add(if place == 2 { part << 8 } else { part });
    }
    let [mut a, mut b, mut c] = state;
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    c = (c ^ b).wrapping_sub(b.rotate_left(24));
    u64::from(b) << 32 | u64::from(c)
}

fn mix([a, b, c]: &mut [u32; 3]) {
    *a = a.wrapping_sub(*c) ^ c.rotate_left(4);
    *c = c.wrapping_add(*b);
    *b = b.wrapping_sub(*a) ^ a.rotate_left(6);
    *a = a.wrapping_add(*c);
    *c = c.wrapping_sub(*b) ^ b.rotate_left(8);
    *b = b.wrapping_add(*a);
    *a = a.wrapping_sub(*c) ^ c.rotate_left(16);
    *c = c.wrapping_add(*b);
    *b = b.wrapping_sub(*a) ^ a.rotate_left(19);
    *a = a.wrapping_add(*c);
    *c = c.wrapping_sub(*b) ^ b.rotate_left(4);
    *b = b.wrapping_add(*a);
}

/// Up to four bytes, the first the lowest.
fn word(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use proptest::prelude::*;

    use super::*;
    use crate::Side;

    /// What a server of PostgreSQL answers to `hashtextextended`.
    #[test]
    fn the_hash_is_postgresqls() {
        for (text, seed, expected) in [
            ("", 0, -6_939_563_903_564_495_251_i64),
            ("a", 0, 3_591_986_179_850_072_241),
            ("abcdefghijklmnopqrstuvwxyz", 1, 1_507_071_677_509_843_718),
            ("äöü", 1, 9_028_749_383_435_402_402),
            ("abcdefghijk", 7, -4_615_438_900_308_943_748),
        ] {
            assert_eq!(hash(text.as_bytes(), seed).cast_signed(), expected, "{text}");
        }
    }

    #[test]
    fn values_are_written_as_the_server_writes_them_in_a_row() {
        for (kind, canonical, expected) in [
            (Kind::Text, "", r#""""#),
            (Kind::Text, "plain", "plain"),
            (Kind::Text, "a \"b\" \\ c", r#""a ""b"" \\ c""#),
            (Kind::Text, "(", "\"(\""),
            (Kind::Boolean, "true", "t"),
            (Kind::Time, "24:00:00.000000", "24:00:00"),
            (Kind::Time, "01:02:03.450000", "01:02:03.45"),
            (Kind::Timestamp, "2024-01-02T03:04:05.000000+00:00", r#""2024-01-02 03:04:05+00""#),
            (Kind::Timestamp, "0044-03-15T12:00:00.100000+00:00 BC", r#""0044-03-15 12:00:00.1+00 BC""#),
            (Kind::Timestamp, "-infinity", "-infinity"),
            (Kind::Bytes, "616263", r#""\\xba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad""#),
        ] {
            let mut buffer = Vec::new();
            field(kind, canonical, &mut buffer);
            assert_eq!(String::from_utf8(buffer).unwrap(), expected);
        }
    }

    fn digest(rows: &[Vec<Option<String>>]) -> Digest {
        let reading = Reading {
            side: Side::Source,
            table: String::new(),
            from: String::new(),
            filter: String::new(),
            columns: vec![("a".to_owned(), Kind::Text); 3],
            key: Vec::new(),
            ordered: false,
            limit: None,
        };
        let mut digest = Digest::default();
        for values in rows {
            digest.add(&reading, &Row { values: values.clone(), problems: Vec::new() }, &mut Vec::new());
        }
        digest
    }

    fn rows() -> impl Strategy<Value = Vec<Vec<Option<String>>>> {
        // Few values, so that many are alike: nulls, empty ones, and what needs quotes.
        let value = prop::option::weighted(0.7, "[ab,()\" \\\\]{0,2}");
        prop::collection::vec(prop::collection::vec(value, 3), 1..8)
    }

    proptest! {
        /// What a digest is for: nothing that a copy may do to rows leaves it as it was, but to send them in another order.
        #[test]
        fn whatever_happens_to_a_row_changes_the_digest(
            rows in rows(), at in any::<prop::sample::Index>(), column in 0..3_usize, other in any::<prop::sample::Index>(), value in "[a-c]{0,2}"
        ) {
            let before = digest(&rows);
            let (at, other) = (at.index(rows.len()), other.index(rows.len()));
            let mut reversed = rows.clone();
            reversed.reverse();
            prop_assert_eq!(before, digest(&reversed));

            let mut dropped = rows.clone();
            let row = dropped.remove(at);
            prop_assert_ne!(before, digest(&dropped));
            let mut twice = rows.clone();
            twice.push(row);
            prop_assert_ne!(before, digest(&twice));
            prop_assert_ne!(before.sums, digest(&twice).sums);

            let mut changed = rows.clone();
            changed[at][column] = Some(value);
            prop_assert_eq!(before == digest(&changed), rows == changed);
            let mut swapped = rows.clone();
            let (left, right) = (rows[at][column].clone(), rows[other][column].clone());
            swapped[at][column] = right;
            swapped[other][column] = left;
            let sorted = |rows: &[Vec<Option<String>>]| { let mut rows = rows.to_vec(); rows.sort(); rows };
            prop_assert_eq!(before == digest(&swapped), sorted(&rows) == sorted(&swapped));
            let mut moved = rows.clone();
            moved[at].rotate_left(1);
            prop_assert_eq!(before == digest(&moved), rows == moved);
        }
    }
}
