//! Dates, times of day and instants over PostgreSQL's whole range, which is wider than that of any Rust calendar: years
//! before Christ, `infinity`, `24:00:00`. Instants are put into UTC with six fractional digits.

use super::Problem;

const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;
/// PostgreSQL's calendar begins in 4713 BC; its dates end in 5874897, its timestamps in 294276.
const FIRST_YEAR: i64 = -4712;
const LAST_YEAR_OF_DATES: i64 = 5_874_897;
const LAST_YEAR_OF_TIMESTAMPS: i64 = 294_276;

/// `YYYY-MM-DD`, with more digits of the year where needed, ` BC` behind years before Christ; or an infinity.
pub(super) fn date(text: &str) -> Result<String, Problem> {
    if is_infinite(text) {
        return Ok(text.to_owned());
    }
    let (rest, before_christ) = era(text);
    let (year, month, day, rest) = civil(rest, before_christ).ok_or(Problem::Date)?;
    if !rest.is_empty() || !(FIRST_YEAR..=LAST_YEAR_OF_DATES).contains(&year) {
        return Err(Problem::Date);
    }
    let (date, era) = print_date(year, month, day);
    Ok(date + era)
}

/// `HH:MM:SS.ffffff`, up to `24:00:00.000000`.
pub(super) fn time(text: &str) -> Result<String, Problem> {
    match clock(text) {
        Some((micros, "")) if micros <= MICROS_PER_DAY => Ok(print_time(micros)),
        _ => Err(Problem::Time),
    }
}

/// `YYYY-MM-DDTHH:MM:SS.ffffff+00:00`, ` BC` behind years before Christ; or an infinity. Reads a blank or `T` between date
/// and time, any offset, `Z`, `UTC` or no zone at all, which is UTC. Digits beyond microseconds are cut off.
pub(super) fn timestamp(text: &str) -> Result<String, Problem> {
    if is_infinite(text) {
        return Ok(text.to_owned());
    }
    let (days, micros) = instant(text).ok_or(Problem::Timestamp)?;
    let (year, month, day) = civil_from_days(days);
    if !(FIRST_YEAR..=LAST_YEAR_OF_TIMESTAMPS).contains(&year) {
        return Err(Problem::Timestamp);
    }
    let (date, era) = print_date(year, month, day);
    Ok(format!("{date}T{}+00:00{era}", print_time(micros)))
}

/// Days since 1970 and microseconds of the day. Kept apart: microseconds since 1970 overflow 64 bits before PostgreSQL's
/// calendar ends, because it counts from 2000.
fn instant(text: &str) -> Option<(i64, i64)> {
    let (rest, before_christ) = era(text);
    let (year, month, day, rest) = civil(rest, before_christ)?;
    let rest = rest.strip_prefix([' ', 'T', 't'])?;
    let (micros, zone) = clock(rest)?;
    if micros >= MICROS_PER_DAY {
        return None;
    }
    let micros = micros - offset_seconds(zone.trim_start_matches(' '))? * MICROS_PER_SECOND;
    Some((days_from_civil(year, month, day) + micros.div_euclid(MICROS_PER_DAY), micros.rem_euclid(MICROS_PER_DAY)))
}

fn is_infinite(text: &str) -> bool {
    matches!(text, "infinity" | "-infinity")
}

fn era(text: &str) -> (&str, bool) {
    text.strip_suffix(" BC").map_or((text, false), |rest| (rest, true))
}

/// Year (astronomical: 1 BC is 0), month, day, and what follows.
fn civil(text: &str, before_christ: bool) -> Option<(i64, i64, i64, &str)> {
    let year_digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if !(4..=7).contains(&year_digits) {
        return None;
    }
    let year: i64 = text.get(..year_digits)?.parse().ok()?;
    let rest = text.get(year_digits..)?.strip_prefix('-')?;
    let (month, rest) = two_digits(rest)?;
    let (day, rest) = two_digits(rest.strip_prefix('-')?)?;
    if year == 0 {
        return None;
    }
    let year = if before_christ { 1 - year } else { year };
    ((1..=12).contains(&month) && (1..=days_in_month(year, month)).contains(&day)).then_some((year, month, day, rest))
}

/// Microseconds since midnight, and what follows. Seconds and their fraction may be left out.
fn clock(text: &str) -> Option<(i64, &str)> {
    let (hours, rest) = two_digits(text)?;
    let (minutes, mut rest) = two_digits(rest.strip_prefix(':')?)?;
    let (mut seconds, mut micros) = (0, 0);
    if let Some(after) = rest.strip_prefix(':') {
        (seconds, rest) = two_digits(after)?;
        if let Some(after) = rest.strip_prefix('.') {
            let digits = after.bytes().take_while(u8::is_ascii_digit).count();
            let kept = after.get(..digits.min(6)).filter(|kept| !kept.is_empty())?;
            micros = kept.parse::<i64>().ok()? * 10_i64.pow(6 - u32::try_from(kept.len()).ok()?);
            rest = after.get(digits..)?;
        }
    }
    (hours <= 24 && minutes <= 59 && seconds <= 59)
        .then_some((((hours * 60 + minutes) * 60 + seconds) * MICROS_PER_SECOND + micros, rest))
}

fn offset_seconds(zone: &str) -> Option<i64> {
    if matches!(zone, "" | "Z" | "z" | "UTC") {
        return Some(0);
    }
    let (sign, rest) = match zone.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, mut rest) = two_digits(rest)?;
    let (mut minutes, mut seconds) = (0, 0);
    if !rest.is_empty() {
        (minutes, rest) = two_digits(rest.strip_prefix(':').unwrap_or(rest))?;
    }
    if !rest.is_empty() {
        (seconds, rest) = two_digits(rest.strip_prefix(':').unwrap_or(rest))?;
    }
    (rest.is_empty() && hours <= 23 && minutes <= 59 && seconds <= 59)
        .then_some(sign * ((hours * 60 + minutes) * 60 + seconds))
}

fn two_digits(text: &str) -> Option<(i64, &str)> {
    let (digits, rest) = text.split_at_checked(2)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| Some((digits.parse().ok()?, rest)))?
}

fn print_date(year: i64, month: i64, day: i64) -> (String, &'static str) {
    if year > 0 {
        (format!("{year:04}-{month:02}-{day:02}"), "")
    } else {
        (format!("{:04}-{month:02}-{day:02}", 1 - year), " BC")
    }
}

fn print_time(micros: i64) -> String {
    let seconds = micros / MICROS_PER_SECOND;
    format!("{:02}:{:02}:{:02}.{:06}", seconds / 3600, seconds / 60 % 60, seconds % 60, micros % MICROS_PER_SECOND)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar, counted in eras of 400 years that begin in March
/// (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year.div_euclid(400) * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + days.div_euclid(146_097) * 400;
    (if month <= 2 { year + 1 } else { year }, month, day_of_year - (153 * shifted_month + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Instant = (i64, i64);

    fn print((days, micros): Instant) -> String {
        let (year, month, day) = civil_from_days(days);
        let (date, era) = print_date(year, month, day);
        format!("{date}T{}+00:00{era}", print_time(micros))
    }

    fn between(first_year: i64, last_year: i64) -> impl Strategy<Value = Instant> {
        (days_from_civil(first_year, 1, 1)..days_from_civil(last_year + 1, 1, 1), 0..MICROS_PER_DAY)
    }

    proptest! {
        /// Over PostgreSQL's whole range of timestamps, 4713 BC to 294276 AD.
        #[test]
        fn every_instant_is_printed_and_read_back(instant in between(FIRST_YEAR, LAST_YEAR_OF_TIMESTAMPS)) {
            prop_assert_eq!(super::instant(&print(instant)), Some(instant));
            prop_assert_eq!(timestamp(&print(instant)), Ok(print(instant)));
        }

        #[test]
        fn an_offset_names_the_same_instant(
            (days, micros) in between(FIRST_YEAR + 1, LAST_YEAR_OF_TIMESTAMPS - 1), minutes in -15 * 60 + 1..15 * 60_i64,
        ) {
            let local = micros + minutes * 60 * MICROS_PER_SECOND;
            let local = print((days + local.div_euclid(MICROS_PER_DAY), local.rem_euclid(MICROS_PER_DAY)));
            let sign = if minutes < 0 { '-' } else { '+' };
            let offset = format!("{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60);
            prop_assert_eq!(super::instant(&local.replace("+00:00", &offset)), Some((days, micros)));
        }

        #[test]
        fn text_order_is_time_order_within_four_digit_years(a in between(1, 9999), b in between(1, 9999)) {
            prop_assert_eq!(a.cmp(&b), print(a).cmp(&print(b)));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC*", nearly in "[0-9]{0,8}[-T:. +Z0-9é]{0,30}( BC)?") {
            for text in [text, nearly] {
                let _ = (date(&text), time(&text), timestamp(&text));
            }
        }
    }

    #[test]
    fn older_forms_are_the_same_instant() {
        for form in [
            "2024-01-01T00:00:00+00:00",
            "2024-01-01T00:00:00Z",
            "2024-01-01 00:00:00",
            "2024-01-01 00:00:00+00",
            "2024-01-01 00:00:00.000000 UTC",
            "2024-01-01 00:00",
            "2024-01-01T02:00:00.0+02:00",
            "2023-12-31T19:30:00-0430",
        ] {
            assert_eq!(timestamp(form).as_deref(), Ok("2024-01-01T00:00:00.000000+00:00"), "{form}");
        }
        assert_eq!(timestamp("2024-01-01 00:00:00.1234567+00").as_deref(), Ok("2024-01-01T00:00:00.123456+00:00"));
        assert_eq!(timestamp("0044-03-15 12:00:00+00 BC").as_deref(), Ok("0044-03-15T12:00:00.000000+00:00 BC"));
        assert_eq!(timestamp("-infinity").as_deref(), Ok("-infinity"));
    }

    #[test]
    fn what_is_no_date_or_time_is_refused() {
        for text in [
            "",
            "2024-02-30",
            "2023-02-29",
            "2024-13-01",
            "0000-01-01",
            "24-01-01",
            "2024-01-01 ",
            "2024-1-1",
            "1704067200",
        ] {
            assert_eq!(date(text), Err(Problem::Date), "{text}");
        }
        for text in [
            "2024-01-01",
            "2024-01-01 25:00:00",
            "2024-01-01 00:00:60",
            "2024-01-01T00:00:00+",
            "2024-01-01 00:00:00 CET",
        ] {
            assert_eq!(timestamp(text), Err(Problem::Timestamp), "{text}");
        }
        for text in ["24:00:01", "12", "12:60:00", "12:00:00Z", "noon"] {
            assert_eq!(time(text), Err(Problem::Time), "{text}");
        }
        assert_eq!(time("24:00:00").as_deref(), Ok("24:00:00.000000"));
        assert_eq!(time("08:05").as_deref(), Ok("08:05:00.000000"));
        assert_eq!(date("0044-03-15 BC").as_deref(), Ok("0044-03-15 BC"));
        assert_eq!(date("10000-01-01").as_deref(), Ok("10000-01-01"));
        assert_eq!(date("2024-02-29").as_deref(), Ok("2024-02-29"));
    }
}
