//! Canonical text over whole ranges of values, on both engines.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use proptest::prelude::*;

use super::*;

const MONEY: Kind = Kind::Decimal { precision: 15, scale: 2 };

fn print_money(cents: i64) -> String {
    format!("{}{}.{:02}", if cents < 0 { "-" } else { "" }, cents.abs() / 100, cents.abs() % 100)
}

proptest! {
    /// Regression: money that passed through a double lost cents near the end of its range.
    #[test]
    fn money_survives_sqlite_over_its_whole_range(cents in -999_999_999_999_999_i64..=999_999_999_999_999) {
        let text = print_money(cents);
        let stored = to_sqlite(MONEY, &text).unwrap();
        prop_assert_eq!(from_sqlite(MONEY, stored).unwrap(), Some(text));
    }

    #[test]
    fn every_uuid_integer_and_byte_string_survives_sqlite(id in any::<u128>(), number in any::<i64>(), blob in any::<Vec<u8>>()) {
        for (kind, text) in [
            (Kind::Uuid, Uuid::from_u128(id).to_string()),
            (Kind::BigInt, number.to_string()),
            (Kind::Bytes, hex(&blob)),
        ] {
            let stored = to_sqlite(kind, &text).unwrap();
            prop_assert_eq!(from_sqlite(kind, stored).unwrap(), Some(text));
        }
    }

    /// Both engines are read in the order of the canonical text; for uuids that must be the order of their bytes.
    #[test]
    fn the_order_of_uuid_texts_is_the_order_of_their_bytes(a in any::<u128>(), b in any::<u128>()) {
        prop_assert_eq!(Uuid::from_u128(a).to_string().cmp(&Uuid::from_u128(b).to_string()), a.cmp(&b));
    }
}

#[test]
fn a_uuid_is_read_as_bytes_or_text_in_either_case() {
    let id = "a1b2c3d4-e5f6-4789-abcd-ef0123456789";
    let expected = Ok(Some(id.to_owned()));
    assert_eq!(from_sqlite(Kind::Uuid, to_sqlite(Kind::Uuid, id).unwrap()), expected);
    assert_eq!(from_sqlite(Kind::Uuid, Stored::Text(id.to_uppercase())), expected);
    assert_eq!(from_sqlite(Kind::Uuid, Stored::Text(id.replace('-', ""))), expected);
    assert_eq!(from_sqlite(Kind::Uuid, Stored::Blob(vec![1; 15])), Err(Problem::Uuid));
    assert_eq!(from_sqlite(Kind::Uuid, Stored::Integer(7)), Err(Problem::Uuid));
}

#[test]
fn a_decimal_that_a_double_only_approximates_is_named_not_rounded() {
    assert_eq!(from_sqlite(MONEY, Stored::Real(12.345)), Err(Problem::Decimal));
    assert_eq!(from_sqlite(MONEY, Stored::Real(f64::NAN)), Err(Problem::Decimal));
    assert_eq!(from_sqlite(MONEY, Stored::Real(1e13)), Err(Problem::Decimal));
    assert_eq!(from_sqlite(MONEY, Stored::Real(-0.0)), Ok(Some("0.00".to_owned())));
    assert_eq!(from_sqlite(MONEY, Stored::Integer(-7)), Ok(Some("-7.00".to_owned())));
    assert_eq!(from_sqlite(Kind::Decimal { precision: 5, scale: 0 }, Stored::Integer(123_456)), Err(Problem::Decimal));
    assert_eq!(to_sqlite(MONEY, "NaN"), Err(Problem::Decimal));
    assert_eq!(from_sqlite(Kind::Decimal { precision: 2, scale: 2 }, Stored::Real(0.25)), Ok(Some("0.25".to_owned())));
}

#[test]
fn a_value_that_the_target_cannot_hold_is_found_beforehand() {
    assert_eq!(fits(Kind::Integer, Engine::Postgres, "2147483648"), Err(Problem::Integer));
    assert_eq!(fits(Kind::Integer, Engine::Postgres, "-2147483648"), Ok(()));
    assert_eq!(fits(Kind::Text, Engine::Postgres, "a\0b"), Err(Problem::Nul));
    assert_eq!(fits(Kind::Text, Engine::Sqlite, "a\0b"), Ok(()));
    assert_eq!(fits(Kind::Json, Engine::Postgres, r#"{"a":"\u0000"}"#), Err(Problem::Nul));
    assert_eq!(fits(Kind::SmallInt, Engine::Postgres, "32768"), Err(Problem::Integer));
    assert_eq!(fits(Kind::Varchar { longest: 2 }, Engine::Postgres, "éé"), Ok(()));
    assert_eq!(fits(Kind::Varchar { longest: 2 }, Engine::Sqlite, "abc"), Err(Problem::Length));
    assert_eq!(fits(Kind::Date, Engine::Sqlite, "infinity"), Ok(()));
    assert_eq!(fits(Kind::Date, Engine::Sqlite, "0044-03-15 BC"), Err(Problem::Year));
    assert_eq!(fits(Kind::Date, Engine::Postgres, "0044-03-15 BC"), Ok(()));
    assert_eq!(fits(Kind::Timestamp, Engine::Sqlite, "10000-01-01T00:00:00.000000+00:00"), Err(Problem::Year));
    assert_eq!(fits(Kind::Timestamp, Engine::Sqlite, "-infinity"), Ok(()));
}
