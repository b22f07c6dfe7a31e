//! Decimals from JSON, exactly: no amount goes by way of a floating-point number whose digits are not sure.
//!
//! `serde_json` reads a number with a point as a double. A decimal of up to 15 significant digits comes back from a double as it
//! was written; one with more may not, and is refused with the advice to write it as a text, which never is a double.

use sea_orm::prelude::Decimal;
use serde_json::Value as Json;

/// What a double keeps of a decimal, whatever the decimal.
const DOUBLE_DIGITS: usize = 15;
/// What a [`Decimal`] holds, whatever the digits.
const MAX_DIGITS: usize = 28;

/// Why JSON is no decimal.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoDecimal {
    /// Neither a number nor a text.
    WrongType,
    /// A text that is no number.
    NotANumber,
    /// A number whose digits a double may have changed.
    UnsureDigits,
    /// More digits than a decimal has.
    TooLong,
}

/// The decimal that stands there, without trailing zeros.
pub(super) fn read(json: &Json) -> Result<Decimal, NoDecimal> {
    match json {
        Json::Number(number) => {
            let digits = Digits::read(&number.to_string()).ok_or(NoDecimal::NotANumber)?;
            let integer = number.is_i64() || number.is_u64();
            if !integer && digits.significant.len() > DOUBLE_DIGITS {
                return Err(NoDecimal::UnsureDigits);
            }
            digits.decimal()
        }
        Json::String(text) => {
            let plain = text.len() <= 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'-'));
            let digits = if plain { Digits::read(text) } else { None };
            digits.ok_or(NoDecimal::NotANumber)?.decimal()
        }
        _ => Err(NoDecimal::WrongType),
    }
}

/// How many digits a decimal has before and after the point, and how many from the first to the last that is not zero.
pub(super) struct Size {
    pub(super) before_point: u32,
    pub(super) after_point: u32,
    pub(super) significant: u32,
}

pub(super) fn size(decimal: &Decimal) -> Size {
    let decimal = decimal.normalize();
    let digits = |number: u128| number.checked_ilog10().map_or(0, |log| log + 1);
    Size {
        before_point: digits(decimal.trunc().mantissa().unsigned_abs()),
        after_point: decimal.scale(),
        significant: digits(decimal.mantissa().unsigned_abs()),
    }
}

/// A number as JSON spells it: digits and a power of ten.
struct Digits {
    negative: bool,
    /// Neither the first nor the last is a zero.
    significant: String,
    exponent: i64,
}

impl Digits {
    fn read(text: &str) -> Option<Self> {
        let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (number, exponent) = match text.split_once(['e', 'E']) {
            Some((number, exponent)) => (number, exponent.parse().ok()?),
            None => (text, 0_i64),
        };
        let (before, after) = match number.split_once('.') {
            Some((_, "")) => return None,
            Some((before, after)) => (before, after),
            None => (number, ""),
        };
        let leading_zero = before.len() > 1 && before.starts_with('0');
        let all_digits = before.bytes().chain(after.bytes()).all(|byte| byte.is_ascii_digit());
        if before.is_empty() || leading_zero || !all_digits {
            return None;
        }
        let digits = format!("{before}{after}");
        let kept = digits.trim_end_matches('0');
        let exponent = exponent
            .checked_sub(i64::try_from(after.len()).ok()?)?
            .checked_add(i64::try_from(digits.len() - kept.len()).ok()?)?;
        Some(Self { negative, significant: kept.trim_start_matches('0').to_owned(), exponent })
    }

    fn decimal(&self) -> Result<Decimal, NoDecimal> {
        if self.significant.is_empty() {
            return Ok(Decimal::ZERO);
        }
        let zeros = usize::try_from(self.exponent.max(0)).map_err(|_| NoDecimal::TooLong)?;
        let scale = u32::try_from(-self.exponent.min(0)).map_err(|_| NoDecimal::TooLong)?;
        let too_long = self.significant.len().checked_add(zeros).is_none_or(|digits| digits > MAX_DIGITS);
        if too_long {
            return Err(NoDecimal::TooLong);
        }
        let sign = if self.negative { "-" } else { "" };
        let mantissa = format!("{sign}{}{}", self.significant, "0".repeat(zeros));
        let mantissa: i128 = mantissa.parse().map_err(|_| NoDecimal::NotANumber)?;
        Decimal::try_from_i128_with_scale(mantissa, scale).map_err(|_| NoDecimal::TooLong)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(json: Json) -> Result<String, NoDecimal> {
        read(&json).map(|decimal| decimal.to_string())
    }

    #[test]
    fn what_is_written_is_what_is_meant() {
        for (json, decimal) in [
            (json!("0.10"), "0.1"),
            (json!(0.1), "0.1"),
            (json!(-12.50), "-12.5"),
            (json!(9_999_999_999_999.99), "9999999999999.99"),
            (json!("-1234567890123456789012345.678"), "-1234567890123456789012345.678"),
            (json!(1e3), "1000"),
            (json!(2.5e-7), "0.00000025"),
            (json!(u64::MAX), "18446744073709551615"),
            (json!(0), "0"),
            (json!("-0.00"), "0"),
            (json!(100), "100"),
            (json!("0.0000000000000000000000000001"), "0.0000000000000000000000000001"),
        ] {
            assert_eq!(text(json.clone()), Ok(decimal.to_owned()), "{json}");
        }
    }

    #[test]
    fn what_may_have_lost_a_digit_is_refused() {
        let lost: Json = serde_json::from_str("12345678901234567.89").unwrap_or_default();
        assert_eq!(text(lost), Err(NoDecimal::UnsureDigits));
        assert_eq!(text(json!(0.1 + 0.2)), Err(NoDecimal::UnsureDigits));
        assert_eq!(text(json!("12345678901234567890123456789")), Err(NoDecimal::TooLong));
        assert_eq!(text(json!(1e300)), Err(NoDecimal::TooLong));
        assert_eq!(text(json!(1e-300)), Err(NoDecimal::TooLong));
        for none in ["", "-", ".5", "5.", "1e3", "+1", "1_000", "0x1", " 1", "01", "NaN", "1.2.3", "--1", "1-", "٣"] {
            assert_eq!(text(json!(none)), Err(NoDecimal::NotANumber), "{none:?}");
        }
        assert_eq!(text(json!(true)), Err(NoDecimal::WrongType));
    }

    #[test]
    fn digits_are_counted_without_zeros_that_say_nothing() {
        for (decimal, counted) in [("0", (0, 0, 0)), ("-12.50", (2, 1, 3)), ("0.007", (0, 3, 1)), ("1000", (4, 0, 4))] {
            let size = size(&decimal.parse().unwrap_or_default());
            assert_eq!((size.before_point, size.after_point, size.significant), counted, "{decimal}");
        }
    }
}
