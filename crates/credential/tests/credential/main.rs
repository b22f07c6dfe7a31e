//! The crate's promises, from outside: values that other programs sealed, what is refused and how, and properties that
//! hold for every input. Knows no database.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod errors;
mod known_answers;
mod logins;
mod properties;
mod rotation;

use secrecy::SecretString;
use tenantry_credential::Keyring;
use uuid::Uuid;

/// The tenant that values are sealed for.
const TENANT: Uuid = Uuid::from_u128(0x6f1c2a34_5b6d_4e8f_9a01_23456789abcd);
/// Its neighbour, for which none may open.
const NEIGHBOUR: Uuid = Uuid::from_u128(0x6f1c2a34_5b6d_4e8f_9a01_23456789abce);

/// Bytes 00 01 … 1f.
const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
/// Bytes ff fe … e0.
const OTHER_KEY: &str = "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0efeeedecebeae9e8e7e6e5e4e3e2e1e0";

/// [`KEY`] as the ring's only key, called `default`.
fn keyring() -> Keyring {
    Keyring::from_hex(&SecretString::from(KEY)).unwrap()
}

/// A ring of the given ids and keys.
fn ring_of(active: &str, keys: &[(&str, &str)]) -> Keyring {
    Keyring::new(active, keys.iter().map(|(id, hex)| (id.to_string(), SecretString::from(*hex)))).unwrap()
}
