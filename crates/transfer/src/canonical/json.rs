//! JSON by value: compact, keys sorted by their bytes, the last of duplicate keys, numbers normalised without ever passing
//! through a binary floating-point number. `1.0`, `1` and `1e0` are one number; `0.1` and `0.10` too.
//!
//! The usual JSON crates keep numbers as doubles or as their text; PostgreSQL's `jsonb` keeps them as exact decimals.

use std::{collections::BTreeMap, fmt::Write as _};

use super::Problem;

/// PostgreSQL refuses far deeper nesting than anybody writes; this keeps the reader's stack small.
const DEEPEST: usize = 500;

/// Plain notation is used while the number has no more than this many digits in front of or zeros behind the point.
const LONGEST_PLAIN: i64 = 21;

/// The canonical text of a JSON document.
pub(super) fn canonical(text: &str) -> Result<String, Problem> {
    let mut reader = Reader { rest: text, depth: 0 };
    reader.skip_blanks();
    let mut out = String::with_capacity(text.len());
    reader.value(&mut out).ok_or(Problem::Json)?;
    reader.skip_blanks();
    if reader.rest.is_empty() { Ok(out) } else { Err(Problem::Json) }
}

/// Whether a canonical document has a NUL character in one of its strings, which `jsonb` does not store.
pub(super) fn contains_nul(canonical: &str) -> bool {
    let mut rest = canonical;
    while let Some((_, escape)) = rest.split_once('\\') {
        if escape.starts_with("u0000") {
            return true;
        }
        // The escaped character itself may be a backslash; in canonical text it is one byte long.
        rest = escape.get(1..).unwrap_or("");
    }
    false
}

struct Reader<'a> {
    rest: &'a str,
    depth: usize,
}

impl Reader<'_> {
    fn value(&mut self, out: &mut String) -> Option<()> {
        match self.rest.bytes().next()? {
            b'{' => self.nested(|reader| reader.object(out)),
            b'[' => self.nested(|reader| reader.array(out)),
            b'"' => {
                let string = self.string()?;
                print_string(&string, out);
                Some(())
            }
            b't' => self.word("true", out),
            b'f' => self.word("false", out),
            b'n' => self.word("null", out),
            _ => self.number(out),
        }
    }

    fn nested(&mut self, read: impl FnOnce(&mut Self) -> Option<()>) -> Option<()> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return None;
        }
        self.rest = self.rest.get(1..)?;
        self.skip_blanks();
        read(self)?;
        self.depth -= 1;
        Some(())
    }

    fn object(&mut self, out: &mut String) -> Option<()> {
        let mut members = BTreeMap::new();
        if !self.take('}') {
            loop {
                let key = self.string()?;
                self.skip_blanks();
                self.take(':').then_some(())?;
                self.skip_blanks();
                let mut value = String::new();
                self.value(&mut value)?;
                members.insert(key, value);
                self.skip_blanks();
                if self.take('}') {
                    break;
                }
                self.take(',').then_some(())?;
                self.skip_blanks();
            }
        }
        out.push('{');
        for (index, (key, value)) in members.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            print_string(key, out);
            out.push(':');
            out.push_str(value);
        }
        out.push('}');
        Some(())
    }

    fn array(&mut self, out: &mut String) -> Option<()> {
        out.push('[');
        if !self.take(']') {
            loop {
                self.value(out)?;
                self.skip_blanks();
                if self.take(']') {
                    break;
                }
                self.take(',').then_some(())?;
                self.skip_blanks();
                out.push(',');
            }
        }
        out.push(']');
        Some(())
    }

    fn string(&mut self) -> Option<String> {
        self.take('"').then_some(())?;
        let mut string = String::new();
        loop {
            let end = self.rest.find(['"', '\\'])?;
            let (plain, rest) = self.rest.split_at_checked(end)?;
            if plain.bytes().any(|byte| byte < 0x20) {
                return None;
            }
            string.push_str(plain);
            self.rest = rest;
            if self.take('"') {
                return Some(string);
            }
            string.push(self.escaped()?);
        }
    }

    fn escaped(&mut self) -> Option<char> {
        self.take('\\').then_some(())?;
        let escape = self.rest.chars().next()?;
        self.rest = self.rest.get(escape.len_utf8()..)?;
        Some(match escape {
            '"' | '\\' | '/' => escape,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let unit = self.code_unit()?;
                if (0xD800..0xDC00).contains(&unit) {
                    self.rest = self.rest.strip_prefix("\\u")?;
                    let low = self.code_unit().filter(|low| (0xDC00..0xE000).contains(low))?;
                    char::from_u32(0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00))?
                } else {
                    char::from_u32(unit)?
                }
            }
            _ => return None,
        })
    }

    fn code_unit(&mut self) -> Option<u32> {
        let (digits, rest) = self.rest.split_at_checked(4)?;
        let unit = digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())?;
        self.rest = rest;
        unit
    }

    fn word(&mut self, word: &str, out: &mut String) -> Option<()> {
        self.rest = self.rest.strip_prefix(word)?;
        out.push_str(word);
        Some(())
    }

    fn number(&mut self, out: &mut String) -> Option<()> {
        let negative = self.take('-');
        let whole = self.digits();
        // JSON writes neither an empty whole part nor a leading zero.
        if whole.is_empty() || (whole.len() > 1 && whole.starts_with('0')) {
            return None;
        }
        let mut digits = whole;
        let mut exponent: i64 = 0;
        if self.take('.') {
            let fraction = self.digits();
            exponent = -i64::try_from(fraction.len()).ok()?;
            (!fraction.is_empty()).then_some(())?;
            digits.push_str(&fraction);
        }
        if self.take('e') || self.take('E') {
            let sign = if self.take('-') { -1 } else { 1 };
            if sign == 1 {
                self.take('+');
            }
            let written = self.digits();
            exponent =
                exponent.checked_add(sign * written.parse::<i64>().ok().filter(|exponent| *exponent < 1 << 40)?)?;
        }
        print_number(negative, &digits, exponent, out);
        Some(())
    }

    fn digits(&mut self) -> String {
        let end = self.rest.bytes().take_while(u8::is_ascii_digit).count();
        let (digits, rest) = self.rest.split_at(end);
        self.rest = rest;
        digits.to_owned()
    }

    fn take(&mut self, expected: char) -> bool {
        match self.rest.strip_prefix(expected) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }
}

fn print_number(negative: bool, digits: &str, exponent: i64, out: &mut String) {
    let significant = digits.trim_start_matches('0');
    let shortest = significant.trim_end_matches('0');
    if shortest.is_empty() {
        out.push('0');
        return;
    }
    let exponent = exponent + (significant.len() - shortest.len()) as i64;
    // The number is 0.d₁d₂d₃… × 10^point.
    let length = shortest.len() as i64;
    let point = length + exponent;
    if negative {
        out.push('-');
    }
    if exponent >= 0 && point <= LONGEST_PLAIN {
        out.push_str(shortest);
        (0..exponent).for_each(|_| out.push('0'));
    } else if point > 0 && point <= LONGEST_PLAIN && exponent < 0 {
        let (whole, fraction) = shortest.split_at(point as usize);
        out.push_str(whole);
        out.push('.');
        out.push_str(fraction);
    } else if point <= 0 && -point <= LONGEST_PLAIN {
        out.push_str("0.");
        (0..-point).for_each(|_| out.push('0'));
        out.push_str(shortest);
    } else {
        let (first, rest) = shortest.split_at(1);
        out.push_str(first);
        if !rest.is_empty() {
            out.push('.');
            out.push_str(rest);
        }
        let _ = write!(out, "e{}", point - 1);
    }
}

fn print_string(string: &str, out: &mut String) {
    out.push('"');
    for character in string.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if (control as u32) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", control as u32);
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_value_has_one_text() {
        for (written, expected) in [
            (r#" {"b" : 1, "a":[ true , null ] } "#, r#"{"a":[true,null],"b":1}"#),
            (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
            ("[1.0,1,1e0,10e-1,0.1e+1]", "[1,1,1,1,1]"),
            ("[-0,0.0,-0.00e5]", "[0,0,0]"),
            ("[0.10,1.50,100]", "[0.1,1.5,100]"),
            ("12345678901234567890.12345678901234567890", "12345678901234567890.1234567890123456789"),
            ("[1e21,1e20,1e-23,123e-23]", "[1e21,100000000000000000000,1e-23,0.00000000000000000000123]"),
            (r#""\u0041\u00e9\ud83d\ude00\/\u001f\n""#, "\"Aé😀/\\u001f\\n\""),
            (r#"{"é":1,"z":2,"Z":3}"#, r#"{"Z":3,"z":2,"é":1}"#),
            ("{}", "{}"),
            ("[]", "[]"),
        ] {
            assert_eq!(canonical(written).as_deref(), Ok(expected), "{written}");
        }
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in [
            "",
            "01",
            "1.",
            ".5",
            "+1",
            "1e",
            "nul",
            "[1,]",
            "{\"a\":1,}",
            "{a:1}",
            "[1 2]",
            "\"\n\"",
            "\"\\ud800\"",
            "\"\\x\"",
            "1 2",
            "NaN",
            "{\"a\"}",
            "1e99999999999999999999",
        ] {
            assert_eq!(canonical(text), Err(Problem::Json), "{text}");
        }
        assert_eq!(canonical(&"[".repeat(100_000)), Err(Problem::Json), "hostile nesting must not end the process");
        assert_eq!(
            canonical("1e1000000000").as_deref(),
            Ok("1e1000000000"),
            "a short text must not grow to a gigabyte"
        );
    }

    #[test]
    fn a_nul_is_found_and_an_escaped_backslash_is_not_taken_for_one() {
        assert!(contains_nul(&canonical(r#"{"a":"x\u0000"}"#).unwrap_or_default()));
        assert!(!contains_nul(&canonical(r#"{"a":"x\\u0000"}"#).unwrap_or_default()));
        assert!(contains_nul(&canonical(r#"{"a":"é\\\u0000"}"#).unwrap_or_default()));
    }

    proptest! {
        #[test]
        fn canonical_text_is_its_own_canonical_text(text in "\\PC*", number in "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,30})?([eE][+-]?[0-9]{1,4})?") {
            let mut document = String::from("[");
            print_string(&text, &mut document);
            document.push(',');
            document.push_str(&number);
            document.push(']');
            let once = canonical(&document);
            prop_assert!(once.is_ok());
            let once = once.unwrap_or_default();
            prop_assert_eq!(canonical(&once), Ok(once.clone()));
        }

        #[test]
        fn an_integer_written_with_any_exponent_is_one_number(digits in 1_u64.., zeros in 0_usize..40) {
            let shifted = format!("{digits}{}e-{zeros}", "0".repeat(zeros));
            prop_assert_eq!(canonical(&shifted), canonical(&digits.to_string()));
        }

        #[test]
        fn different_decimals_keep_different_texts(a in 0_i64..1_000_000_000, b in 0_i64..1_000_000_000, scale in 0_u32..12) {
            let print = |number: i64| canonical(&format!("{number}e-{scale}"));
            prop_assert_eq!(a == b, print(a) == print(b));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC*", nearly in "[\\[\\]{}:,\"\\\\ue0-9. truefalsn-]{0,40}") {
            let _ = (canonical(&text), canonical(&nearly));
        }
    }
}
