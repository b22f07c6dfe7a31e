//! Database logins, and how they are kept: sealed, bound to one tenant and one column.
//!
//! A tenant's row in the application database holds two credentials, each a [`Login`] sealed by a [`Keyring`] into one
//! line of text. The URL beside them holds neither user nor password.
//!
//! ```text
//!              seal(tenant, column)                      open(tenant, column)
//!   Login  ───────────────────────▶  v1:<key id>:<iv>:<authTag>:<encrypted>  ──────▶  Login
//!                                    iv:authTag:encrypted  (the original's, read only)  ──▶
//! ```
//!
//! This crate knows no database, no URL, no settings file and no environment: it is given text and gives back text. It
//! logs nothing. No error, no `Debug` and no `Display` of it holds a password, a key or a piece of an opened value.
//!
//! # What is promised about memory
//!
//! Passwords, keys and opened plaintext live in buffers that are overwritten when they are dropped. Three copies are
//! out of reach and are not: the expanded key that `ring` and `aes-gcm` hold on the stack during one call, the scratch
//! space in which `serde_json` resolves the escapes of a password that has any, and whatever the caller keeps.
//!
//! # Example
//!
//! ```
//! use secrecy::{ExposeSecret, SecretString};
//! use tenantry_credential::{CredentialColumn, Form, Keyring, Login};
//! use uuid::Uuid;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let encryption_key = SecretString::from("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f");
//! let keyring = Keyring::from_hex(&encryption_key)?;
//! let tenant = Uuid::from_u128(0x6f1c2a34_5b6d_4e8f_9a01_23456789abcd);
//!
//! let login = Login::new("app_restricted", "correct horse")?;
//! let sealed = keyring.seal(tenant, CredentialColumn::Anon, &login)?;
//! assert_eq!(keyring.form(&sealed), Form::Current { key_id: "default".into() });
//!
//! let opened = keyring.open(tenant, CredentialColumn::Anon, &sealed)?;
//! assert_eq!(opened.password.expose_secret(), "correct horse");
//!
//! // Copied to another tenant or another column, the value does not open.
//! assert!(keyring.open(Uuid::nil(), CredentialColumn::Anon, &sealed).is_err());
//! assert!(keyring.open(tenant, CredentialColumn::Service, &sealed).is_err());
//! # Ok(())
//! # }
//! ```

mod column;
mod envelope;
mod keyring;
mod login;
mod original;

pub use column::CredentialColumn;
pub use envelope::{OpenError, Part, SealError};
pub use keyring::{DEFAULT_KEY_ID, Form, Keyring, KeyringError};
pub use login::{Login, LoginError};
