//! Each way in which a stored value is no good has its own error and, where it can be told without opening, its form.

use secrecy::SecretString;
use tenantry_credential::{CredentialColumn, Form, Login, LoginError, OpenError, Part, SealError};

use crate::{TENANT, keyring};

const IV_12: &str = "sLGys7S1tre4ubq7";
const IV_16: &str = "oKGio6SlpqeoqaqrrK2urw==";
const TAG: &str = "rTLFzkDliVdJ4isgSbcf4w==";

/// Catches: one error for everything, which leaves the operator to guess, and a plain login that opens.
#[test]
fn each_cause_has_its_error() {
    let base64 = |part| OpenError::Base64 { part };
    for (sealed, error, form) in [
        (String::new(), OpenError::Empty, Form::Unknown),
        (" \n".into(), OpenError::Empty, Form::Unknown),
        ("app:secret".into(), OpenError::NotAnEnvelope, Form::Plain),
        (r#"{"user":"app","password":"secret"}"#.into(), OpenError::NotAnEnvelope, Form::Plain),
        // Two colons of a password: three parts, but no iv.
        ("app:se:cret".into(), base64(Part::Iv), Form::Plain),
        ("sbp_0123456789abcdef".into(), OpenError::NotAnEnvelope, Form::Unknown),
        ("a:b:c:d:e:f".into(), OpenError::NotAnEnvelope, Form::Plain),
        (format!("v1:default:{IV_12}:{TAG}:AAAA:AAAA"), OpenError::NotAnEnvelope, Form::Unknown),
        (format!("v1:not an id:{IV_12}:{TAG}:AAAA"), OpenError::NotAnEnvelope, Form::Unknown),
        (format!("v01:default:{IV_12}:{TAG}:AAAA"), OpenError::NotAnEnvelope, Form::Plain),
        (format!("v2:default:{IV_12}:{TAG}:AAAA"), OpenError::Version { version: 2 }, Form::Unknown),
        (format!("{IV_16}:{TAG}:AAA"), base64(Part::Encrypted), Form::Unknown),
        (format!("{IV_16}:{}:AAAA", TAG.trim_end_matches('=')), base64(Part::AuthTag), Form::Unknown),
        (format!("v1:default:{IV_12}!:{TAG}:AAAA"), base64(Part::Iv), Form::Unknown),
        (format!("v1:default:{IV_12}:{TAG}:AAAA\n"), base64(Part::Encrypted), Form::Unknown),
        // The URL-safe alphabet is not what was written.
        (format!("{IV_16}:{TAG}:AA_-"), base64(Part::Encrypted), Form::Unknown),
        (format!("v1:default:{IV_16}:{TAG}:AAAA"), OpenError::IvLength { found: 16 }, Form::Unknown),
        (format!("v1:default::{TAG}:AAAA"), OpenError::IvLength { found: 0 }, Form::Unknown),
        (format!("{IV_12}AAAA:{TAG}:AAAA"), OpenError::IvLength { found: 15 }, Form::Plain),
        (format!("{IV_12}:{IV_12}:AAAA"), OpenError::TagLength { found: 12 }, Form::Unknown),
        (format!("v1:default:{IV_12}::AAAA"), OpenError::TagLength { found: 0 }, Form::Unknown),
        (
            format!("v1:lost:{IV_12}:{TAG}:AAAA"),
            OpenError::UnknownKey { key_id: "lost".into() },
            Form::Retired { key_id: "lost".into() },
        ),
        (
            format!("v1:default:{IV_12}:{TAG}:AAAA"),
            OpenError::Authentication,
            Form::Current { key_id: "default".into() },
        ),
        (format!("{IV_12}:{TAG}:AAAA"), OpenError::Authentication, Form::ThreePart12),
        (format!("{IV_16}:{TAG}:AAAA"), OpenError::Authentication, Form::ThreePart16),
    ] {
        assert_eq!(keyring().open(TENANT, CredentialColumn::Anon, &sealed), Err(error), "{sealed}");
        assert_eq!(keyring().form(&sealed), form, "{sealed}");
    }
}

/// Catches: a login whose public fields were emptied, sealed into a value that then can't be opened.
#[test]
fn a_login_that_could_not_be_opened_is_not_sealed() {
    let mut login = Login::new("app", "secret").unwrap();
    login.password = SecretString::from("");
    let error = keyring().seal(TENANT, CredentialColumn::Anon, &login).unwrap_err();
    assert_eq!(error, SealError::Login(LoginError::EmptyPassword));
    assert!(!error.to_string().contains("password"), "the source says it, so the message must not repeat it");
}
