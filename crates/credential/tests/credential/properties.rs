//! What holds for every input, checked on generated ones.

use proptest::prelude::*;
use secrecy::SecretString;
use tenantry_credential::{CredentialColumn, Form, Keyring, Login, LoginError, OpenError};
use uuid::Uuid;

use crate::known_answers::{THREE_PART_12, THREE_PART_16, THREE_PART_TOKEN};
use crate::{KEY, NEIGHBOUR, OTHER_KEY, TENANT, keyring, ring_of};

/// Any text without NUL: quotes, backslashes, control characters and all planes of Unicode.
fn any_text() -> impl Strategy<Value = String> {
    prop::collection::vec(any::<char>().prop_filter("NUL is refused", |c| *c != '\0'), 1..40)
        .prop_map(|characters| characters.into_iter().collect())
}

fn any_login() -> impl Strategy<Value = Login> {
    (any_text(), any_text()).prop_map(|(user, password)| Login::new(user, password).unwrap())
}

fn any_column() -> impl Strategy<Value = CredentialColumn> {
    prop::sample::select(CredentialColumn::ALL.to_vec())
}

/// Texts near to a sealed value: a few parts, each of them right, nearly right or wild.
fn any_near_miss() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("v1".to_owned()),
        Just("default".to_owned()),
        Just("sLGys7S1tre4ubq7".to_owned()),
        Just("oKGio6SlpqeoqaqrrK2urw==".to_owned()),
        "[A-Za-z0-9+/]{0,24}={0,2}",
        "\\PC{0,12}",
    ];
    prop::collection::vec(part, 0..7).prop_map(|parts| parts.join(":"))
}

/// `text` with one byte replaced, where that leaves it UTF-8.
fn replace_byte(text: &str, at: prop::sample::Index, by: u8) -> Option<String> {
    let mut bytes = text.as_bytes().to_vec();
    let at = at.index(bytes.len());
    bytes[at] = by;
    String::from_utf8(bytes).ok().filter(|changed| changed != text)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_is_sealed_opens(login in any_login(), tenant in any::<u128>(), column in any_column()) {
        let tenant = Uuid::from_u128(tenant);
        let sealed = keyring().seal(tenant, column, &login).unwrap();
        prop_assert_eq!(keyring().form(&sealed), Form::Current { key_id: "default".into() });
        prop_assert!(Login::parse(&SecretString::from(sealed.as_str())).is_err());
        prop_assert_eq!(keyring().open(tenant, column, &sealed), Ok(login));
    }

    #[test]
    fn it_opens_nowhere_else(
        login in any_login(), tenant in any::<u128>(), other in any::<u128>(), column in any_column(),
    ) {
        prop_assume!(tenant != other);
        let (tenant, other) = (Uuid::from_u128(tenant), Uuid::from_u128(other));
        let sealed = keyring().seal(tenant, column, &login).unwrap();
        let elsewhere = CredentialColumn::ALL.into_iter().find(|candidate| *candidate != column).unwrap();
        let wrong_key = ring_of("default", &[("default", OTHER_KEY)]);
        for (ring, tenant, column) in
            [(&keyring(), other, column), (&keyring(), tenant, elsewhere), (&wrong_key, tenant, column)]
        {
            prop_assert_eq!(ring.open(tenant, column, &sealed), Err(OpenError::Authentication));
        }
    }

    #[test]
    fn a_changed_byte_does_not_open(at in any::<prop::sample::Index>(), by in any::<u8>()) {
        let ring = ring_of("default", &[("default", KEY), ("defaulu", OTHER_KEY)]);
        let current = ring.seal(TENANT, CredentialColumn::Anon, &Login::new("app", "secret").unwrap()).unwrap();
        for sealed in [current.as_str(), THREE_PART_12, THREE_PART_16, THREE_PART_TOKEN] {
            if let Some(changed) = replace_byte(sealed, at, by) {
                let error = ring.open(TENANT, CredentialColumn::Anon, &changed).unwrap_err();
                prop_assert_ne!(error, OpenError::NotALogin, "a changed value was opened");
            }
        }
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let text = String::from_utf8_lossy(&bytes);
        prop_assert!(keyring().open(TENANT, CredentialColumn::Anon, &text).is_err());
        prop_assert!(keyring().needs_rewrap(&text));
        let _ = Login::parse(&SecretString::from(text.as_ref()));
        let _ = Keyring::from_hex(&SecretString::from(text.as_ref()));
    }

    #[test]
    fn near_misses_are_refused_without_a_panic(text in any_near_miss()) {
        prop_assert!(keyring().open(NEIGHBOUR, CredentialColumn::Service, &text).is_err());
        // What one reader takes for sealed, the other must not take for a login.
        let sealed = !matches!(keyring().form(&text), Form::Plain | Form::Unknown);
        prop_assert!(!(sealed && Login::parse(&SecretString::from(text.as_str())).is_ok()), "{}", text);
    }

    #[test]
    fn the_short_form_is_read_as_written(user in "[a-z_][a-z0-9_]{3,20}", password in "[!-~]{1,40}") {
        prop_assume!(!password.starts_with("//"));
        let login = Login::parse(&SecretString::from(format!("{user}:{password}")));
        // Two things are left in doubt: a user name that is an iv, before a password with one colon, and one that is a version.
        let version = user.strip_prefix('v').and_then(|digits| digits.parse::<u16>().ok());
        if let Ok(login) = login {
            prop_assert_eq!(login, Login::new(user, password).unwrap());
        } else {
            prop_assert!(version.is_some() || (user.len() == 16 && password.matches(':').count() == 1));
        }
    }

    #[test]
    fn a_user_called_as_a_version_is_refused(version in 1..=u16::MAX, password in "[!-~]{1,40}") {
        let login = Login::parse(&SecretString::from(format!("v{version}:{password}")));
        prop_assert_eq!(login.unwrap_err(), LoginError::Sealed);
        let json = serde_json::json!({ "user": format!("v{version}"), "password": password }).to_string();
        prop_assert!(Login::parse(&SecretString::from(json)).is_ok());
    }

    #[test]
    fn nothing_printed_holds_a_password(password in "[!-~]{12,40}", user in "[a-z]{1,8}") {
        let login = Login::new(user.as_str(), password.as_str()).unwrap();
        let shown = format!("{login:?}");
        prop_assert!(!shown.contains(&password));
        let short = format!("{user}:{password}");
        let cut = format!("v1:{user}:{password}");
        let brace = format!("{{{password}");
        for text in [password.clone(), short, cut, brace] {
            let opened = keyring().open(TENANT, CredentialColumn::Anon, &text);
            let (parsed, form) = (Login::parse(&SecretString::from(text)), keyring().form(&password));
            let mut shown = format!("{opened:?} {parsed:?} {form:?}");
            shown.extend(opened.err().map(|error| error.to_string()));
            shown.extend(parsed.err().map(|error| error.to_string()));
            prop_assert!(!shown.contains(&password), "{}", shown);
        }
    }
}

/// Every byte of every form, each changed in its lowest bit: none is outside of what is authenticated.
#[test]
fn no_byte_is_left_unprotected() {
    let current = keyring().seal(TENANT, CredentialColumn::Anon, &Login::new("app", "secret").unwrap()).unwrap();
    for sealed in [current.as_str(), THREE_PART_12, THREE_PART_16] {
        for at in 0..sealed.len() {
            let mut bytes = sealed.as_bytes().to_vec();
            bytes[at] ^= 1;
            let changed = String::from_utf8(bytes).unwrap();
            assert!(keyring().open(TENANT, CredentialColumn::Anon, &changed).is_err(), "{at} of {sealed}");
        }
    }
}
