//! Lengths of time as people write them in settings: `250ms`, `30s`, `5m`, `1h`, or a bare number of seconds.
//!
//! One unit per value: `1h30m` is written `90m`. Knows no setting.

use std::time::Duration;

/// The longest that a setting may say: a year. Longer is a slip of the unit, and far beyond it timers overflow.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Reads a length of time; the error says why the text is none.
pub(super) fn parse(text: &str) -> Result<Duration, &'static str> {
    let duration = parse_or_zero(text)?;
    if duration.is_zero() { Err("it is zero") } else { Ok(duration) }
}

/// As [`parse`], and zero is one.
pub(super) fn parse_or_zero(text: &str) -> Result<Duration, &'static str> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| "it does not begin with a whole number")?;
    let milliseconds = match unit.trim_start() {
        "ms" => Some(number),
        "" | "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        "d" => number.checked_mul(86_400_000),
        _ => return Err("its unit is unknown"),
    };
    let duration = milliseconds.map(Duration::from_millis).filter(|duration| *duration <= LONGEST);
    duration.ok_or("it is longer than a year")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_and_limits() {
        for (text, seconds) in
            [("30", 30), ("30s", 30), (" 5m ", 300), ("1h", 3_600), ("2 d", 172_800), ("365d", 31_536_000)]
        {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(parse("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_or_zero("0"), Ok(Duration::ZERO));
        for text in [
            "",
            "m",
            "-1s",
            "1.5h",
            "5 minutes",
            "1h30m",
            "0s",
            "366d",
            "99999999999999999999",
            "18446744073709551615h",
        ] {
            assert!(parse(text).is_err(), "{text} was accepted");
        }
    }
}
