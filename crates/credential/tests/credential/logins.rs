//! How a login is written, what is refused, and that it never shows its password.

use secrecy::{ExposeSecret, SecretString};
use tenantry_credential::{Login, LoginError};

fn parse(text: &str) -> Result<(String, String), LoginError> {
    Login::parse(&SecretString::from(text)).map(|login| (login.user, login.password.expose_secret().to_owned()))
}

/// Catches: a password cut at its second colon, and a line ending of a file that becomes part of the password.
#[test]
fn both_forms_are_read() {
    let both = |user: &str, password: &str| Ok((user.to_owned(), password.to_owned()));
    assert_eq!(parse("app:secret"), both("app", "secret"));
    assert_eq!(parse("app:se:cr:et"), both("app", "se:cr:et"));
    assert_eq!(parse("app: spaced "), both("app", " spaced "));
    assert_eq!(parse("app:secret\n"), both("app", "secret"));
    assert_eq!(parse("app:secret\r\n"), both("app", "secret"));
    assert_eq!(parse("app:secret\n\n"), both("app", "secret\n"));
    assert_eq!(parse(r#" { "password": "a\n\"b", "user": "a:b" } "#), both("a:b", "a\n\"b"));
    assert_eq!(parse(r#"{"user":"v1","password":"//x"}"#), both("v1", "//x"));
}

/// Catches: half a login, or something else altogether, that fails only when the first connection is opened.
#[test]
fn everything_else_is_refused_with_its_reason() {
    for (text, reason) in [
        ("", LoginError::Empty),
        (" \n", LoginError::Empty),
        (":secret", LoginError::EmptyUser),
        ("app:", LoginError::EmptyPassword),
        ("app:se\0cret", LoginError::Nul),
        (r#"{"user":"a\u0000b","password":"secret"}"#, LoginError::Nul),
        (r#"{"user":"","password":"secret"}"#, LoginError::EmptyUser),
        (r#"{"user":"app","password":""}"#, LoginError::EmptyPassword),
        ("sbp_0123456789abcdef", LoginError::NoSeparator),
        (r#"{"user":"app"}"#, LoginError::Json),
        (r#"{"user":"app","password":17}"#, LoginError::Json),
        (r#"{"user":"app","password":"secret","host":"db"}"#, LoginError::Json),
        (r#"{"user":"app","password":"secret","password":"other"}"#, LoginError::Json),
        (r#"{"user":"app","password":"secret"} x"#, LoginError::Json),
        ("postgresql://app:secret@db/main", LoginError::Url),
        (crate::known_answers::THREE_PART_12, LoginError::Sealed),
        (crate::known_answers::THREE_PART_16, LoginError::Sealed),
        ("v1:default:AAAA:AAAA:AAAA", LoginError::Sealed),
        ("v1:default:cut", LoginError::Sealed),
    ] {
        assert_eq!(parse(text), Err(reason), "{text}");
    }
    assert_eq!(Login::new("", "secret").unwrap_err(), LoginError::EmptyUser);
    assert_eq!(Login::new("app", "").unwrap_err(), LoginError::EmptyPassword);
}

/// Catches: serde's own messages (`invalid type: string "hunter2"`, `unknown field …`) reaching the error.
#[test]
fn a_refused_text_is_not_quoted() {
    for text in [
        r#"{"user":"app","password":["hunter2-secret"]}"#,
        r#"{"user":"app","hunter2-secret":"x"}"#,
        r#"{"user":{"hunter2-secret":1},"password":"x"}"#,
        "hunter2-secret",
        "hunter2-secret:",
    ] {
        let error = Login::parse(&SecretString::from(text)).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
}

/// Catches: a login compared or fingerprinted by its fields run together.
#[test]
fn equality_and_fingerprint_keep_the_fields_apart() {
    let login = |user: &str, password: &str| Login::new(user, password).unwrap();
    assert_eq!(login("ab", "c"), login("ab", "c"));
    assert_ne!(login("ab", "c"), login("a", "bc"));
    assert_ne!(login("ab", "c"), login("ab", "d"));
    assert_ne!(login("ab", "c").fingerprint(), login("a", "bc").fingerprint());
}

/// Catches: a derived `Debug` that prints the password.
#[test]
fn debug_hides_the_password() {
    let shown = format!("{:?}", Login::new("app", "secret").unwrap());
    assert_eq!(shown, r#"Login { user: "app", password: [REDACTED] }"#);
}
