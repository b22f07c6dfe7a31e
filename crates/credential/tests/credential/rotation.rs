//! Several keys, one active: what opens, what needs a rewrap, and what a ring refuses to be made of.

use secrecy::SecretString;
use tenantry_credential::{CredentialColumn, Form, Keyring, KeyringError, Login, OpenError};

use crate::known_answers::{THREE_PART_12, THREE_PART_16, THREE_PART_OTHER_KEY};
use crate::{KEY, OTHER_KEY, TENANT, keyring, ring_of};

const COLUMN: CredentialColumn = CredentialColumn::Anon;

fn login() -> Login {
    Login::new("app_restricted", "correct horse").unwrap()
}

/// Catches: a rotation that never ends (a rewrapped value still asks for it) or that ends too early.
#[test]
fn a_rotation_rewraps_each_value_once() {
    let sealed = keyring().seal(TENANT, COLUMN, &login()).unwrap();
    assert!(!keyring().needs_rewrap(&sealed));

    let rotated = ring_of("new", &[("default", KEY), ("new", OTHER_KEY)]);
    assert_eq!(rotated.form(&sealed), Form::Retired { key_id: "default".into() });
    for old in [sealed.as_str(), THREE_PART_12, THREE_PART_16] {
        assert!(rotated.needs_rewrap(old));
        let opened = rotated.open(TENANT, COLUMN, old).unwrap();
        let rewrapped = rotated.seal(TENANT, COLUMN, &opened).unwrap();
        assert_eq!(rotated.form(&rewrapped), Form::Current { key_id: "new".into() });
        assert!(!rotated.needs_rewrap(&rewrapped));
        assert_eq!(rotated.open(TENANT, COLUMN, &rewrapped), Ok(opened));
    }

    let without_old = ring_of("new", &[("new", OTHER_KEY)]);
    let missing = OpenError::UnknownKey { key_id: "default".into() };
    assert_eq!(without_old.open(TENANT, COLUMN, &sealed), Err(missing));
}

/// Catches: three-part values, which name no key, being tried with the active key only.
#[test]
fn the_originals_values_are_tried_with_every_key() {
    assert_eq!(keyring().open(TENANT, COLUMN, THREE_PART_OTHER_KEY), Err(OpenError::Authentication));
    for active in ["default", "new"] {
        let ring = ring_of(active, &[("default", KEY), ("new", OTHER_KEY)]);
        assert!(ring.open(TENANT, COLUMN, THREE_PART_OTHER_KEY).is_ok());
        assert!(ring.open(TENANT, COLUMN, THREE_PART_16).is_ok());
    }
}

/// Catches: an iv that is drawn once, or derived from the login; two equal ivs under one key give the key stream away.
#[test]
fn each_sealing_draws_its_own_iv() {
    let ivs: std::collections::HashSet<String> = (0..256)
        .map(|_| keyring().seal(TENANT, COLUMN, &login()).unwrap().split(':').nth(2).unwrap().to_owned())
        .collect();
    assert_eq!(ivs.len(), 256);
}

/// Catches: a rewrap that passes over what it can't read.
#[test]
fn what_is_not_sealed_needs_a_rewrap_too() {
    for text in ["", "app_restricted:correct horse", "no form at all", "v1:default:AAAA"] {
        assert!(keyring().needs_rewrap(text), "{text}");
    }
}

/// Catches: a setting that is accepted and fails at the first tenant, and messages that don't say which key is meant.
#[test]
fn a_ring_is_refused_with_its_reason() {
    let ring = |active: &str, keys: &[(&str, &str)]| {
        Keyring::new(active, keys.iter().map(|(id, hex)| (id.to_string(), SecretString::from(*hex)))).unwrap_err()
    };
    let bad = |place: &str| KeyringError::BadId { place: place.into() };

    for blank in ["", " \n"] {
        assert_eq!(Keyring::from_hex(&SecretString::from(blank)).unwrap_err(), KeyringError::Missing);
    }
    assert_eq!(ring("a", &[]), KeyringError::Missing);
    assert_eq!(ring("a", &[("a", KEY), ("b", "")]), KeyringError::Length { key_id: "b".into(), found: 0 });
    assert_eq!(ring("a", &[("a", &KEY[1..])]), KeyringError::Length { key_id: "a".into(), found: 63 });
    let prefixed = format!("0x{KEY}");
    assert_eq!(ring("a", &[("a", &prefixed)]), KeyringError::Length { key_id: "a".into(), found: 66 });
    let base64ish = format!("{}+{}", &KEY[..9], &KEY[10..]);
    assert_eq!(ring("a", &[("a", &base64ish)]), KeyringError::NotHex { key_id: "a".into(), position: 10 });
    // Sixty-four characters of more bytes: a length counted in bytes would cut one in two.
    let wide = format!("{}ü", &KEY[..63]);
    assert_eq!(ring("a", &[("a", &wide)]), KeyringError::NotHex { key_id: "a".into(), position: 64 });
    assert_eq!(ring("b", &[("a", KEY)]), KeyringError::UnknownActive { key_id: "b".into() });
    assert_eq!(ring("a", &[("a", KEY), ("a", OTHER_KEY)]), KeyringError::DuplicateId { key_id: "a".into() });
    let too_long = "k".repeat(65);
    for id in ["", "a:b", "a b", "ä", &too_long] {
        assert_eq!(ring("a", &[("a", KEY), (id, OTHER_KEY)]), bad("key 2"), "{id}");
        assert_eq!(ring(id, &[("a", KEY)]), bad("the active key"), "{id}");
    }
    assert!(Keyring::from_hex(&SecretString::from(format!("  {}\n", KEY.to_uppercase()))).is_ok());
}

/// Catches: key and id given in the wrong order, and the key printed as the name of a key.
#[test]
fn a_key_in_the_place_of_its_id_is_not_printed() {
    let swapped = Keyring::new("default", [(KEY.to_owned(), SecretString::from("default"))]).unwrap_err();
    assert_eq!(swapped, KeyringError::BadId { place: "key 1".into() });
    let active = Keyring::new(KEY, [("default".to_owned(), SecretString::from(OTHER_KEY))]).unwrap_err();
    assert!(!format!("{swapped} {swapped:?} {active} {active:?}").contains(KEY));
}

/// Catches: a derived `Debug` that prints the keys.
#[test]
fn debug_shows_ids_and_no_key() {
    let shown = format!("{:?}", ring_of("new", &[("default", KEY), ("new", OTHER_KEY)]));
    assert_eq!(shown, r#"Keyring { active: "new", key_ids: ["default", "new"], .. }"#);
}
