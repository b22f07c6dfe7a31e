//! The keys that credentials are sealed with: several, each with a name, one of them active.
//!
//! A key is rotated by adding the new one, making it active, rewrapping what [`Keyring::needs_rewrap`] names, and only
//! then leaving out the old one. This module knows where no credential is stored; walking over them is the caller's.

use std::fmt;

use secrecy::{ExposeSecret, ExposeSecretMut, SecretBox, SecretString};
use uuid::Uuid;

use crate::envelope::{self, Sealed, is_key_id};
use crate::original::Iv;
use crate::{CredentialColumn, Login, OpenError, SealError};

/// The id of the only key of a ring made by [`Keyring::from_hex`].
pub const DEFAULT_KEY_ID: &str = "default";

/// Named 256-bit keys, one of them active: it seals, the others only open.
///
/// `Debug` shows the ids. The keys are overwritten when the ring is dropped; the ring is not `Clone`, so that they
/// exist once (share it in an `Arc`).
pub struct Keyring {
    keys: Vec<Key>,
    active: usize,
}

impl Keyring {
    /// A ring of one key, called [`DEFAULT_KEY_ID`]: the `ENCRYPTION_KEY` setting, 64 hexadecimal digits in either
    /// case. White space around them is dropped.
    ///
    /// # Errors
    ///
    /// [`KeyringError::Missing`], [`KeyringError::Length`] or [`KeyringError::NotHex`]: correct the setting. Do not put
    /// a newly made key in the place of a lost one; it opens nothing that is already sealed.
    ///
    /// ```
    /// use secrecy::SecretString;
    /// use tenantry_credential::{Keyring, KeyringError};
    ///
    /// assert!(Keyring::from_hex(&SecretString::from("a5".repeat(32))).is_ok());
    /// let short = Keyring::from_hex(&SecretString::from("a5a5")).unwrap_err();
    /// assert_eq!(short, KeyringError::Length { key_id: "default".into(), found: 4 });
    /// ```
    pub fn from_hex(hex: &SecretString) -> Result<Self, KeyringError> {
        if hex.expose_secret().trim().is_empty() {
            return Err(KeyringError::Missing);
        }
        Ok(Self { keys: vec![Key::from_hex(DEFAULT_KEY_ID.to_owned(), hex)?], active: 0 })
    }

    /// A ring of several keys, each an id and 64 hexadecimal digits; `active` names the one that seals.
    ///
    /// An id is 1 to 64 of `A-Z a-z 0-9 _ -`. It is written into every value and bound by it: a key that is given
    /// another id no longer opens what it sealed under the old one. The same key may stand under two ids, which is how
    /// an id is changed: rewrap, then leave out the old one.
    ///
    /// # Errors
    ///
    /// Any [`KeyringError`]: correct the setting. None holds a key.
    ///
    /// ```
    /// use secrecy::SecretString;
    /// use tenantry_credential::Keyring;
    ///
    /// # fn main() -> Result<(), tenantry_credential::KeyringError> {
    /// let old = ("default".to_owned(), SecretString::from("a5".repeat(32)));
    /// let new = ("2026-02".to_owned(), SecretString::from("c3".repeat(32)));
    /// let keyring = Keyring::new("2026-02", [old, new])?;
    /// assert_eq!(keyring.active_key_id(), "2026-02");
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(active: &str, keys: impl IntoIterator<Item = (String, SecretString)>) -> Result<Self, KeyringError> {
        let mut ring: Vec<Key> = Vec::new();
        for (index, (id, hex)) in keys.into_iter().enumerate() {
            if !is_key_id(&id) {
                return Err(KeyringError::BadId { place: format!("key {}", index + 1) });
            }
            if ring.iter().any(|key| key.id == id) {
                return Err(KeyringError::DuplicateId { key_id: id });
            }
            ring.push(Key::from_hex(id, &hex)?);
        }
        if ring.is_empty() {
            return Err(KeyringError::Missing);
        }
        if !is_key_id(active) {
            return Err(KeyringError::BadId { place: "the active key".to_owned() });
        }
        match ring.iter().position(|key| key.id == active) {
            Some(active) => Ok(Self { keys: ring, active }),
            None => Err(KeyringError::UnknownActive { key_id: active.to_owned() }),
        }
    }

    /// The id of the key that seals.
    pub fn active_key_id(&self) -> &str {
        &self.active().id
    }

    /// The ids of all keys, in the order given.
    pub fn key_ids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|key| key.id.as_str())
    }

    /// Seals a login with the active key, for one tenant and one column: `v1:<key id>:<iv>:<authTag>:<encrypted>`, the
    /// three last in base64. Sealing the same login again gives another text.
    ///
    /// # Errors
    ///
    /// Any [`SealError`]; nothing was sealed then.
    pub fn seal(&self, tenant: Uuid, column: CredentialColumn, login: &Login) -> Result<String, SealError> {
        login.check().map_err(SealError::Login)?;
        let key = self.active();
        envelope::seal(&key.id, key.bytes(), tenant, column, login.to_json())
    }

    /// Opens what [`Keyring::seal`] sealed for this tenant and this column, and the original's `iv:authTag:encrypted`,
    /// which names no key and so is tried with each, the active one first. A login that was stored unsealed is never
    /// taken for an opened one.
    ///
    /// The original's form is bound to no tenant and no column: rewrap it ([`Keyring::needs_rewrap`]).
    ///
    /// # Errors
    ///
    /// Any [`OpenError`]; each says what to do. Trying again doesn't help, the answer depends on nothing but the
    /// arguments.
    pub fn open(&self, tenant: Uuid, column: CredentialColumn, sealed: &str) -> Result<Login, OpenError> {
        let plaintext = match Sealed::read(sealed)? {
            Sealed::V1(parts) => {
                let unknown = || OpenError::UnknownKey { key_id: parts.key_id.to_owned() };
                let key = self.keys.iter().find(|key| key.id == parts.key_id).ok_or_else(unknown)?;
                parts.open(key.bytes(), tenant, column)?
            }
            Sealed::Original(parts) => {
                self.active_first().find_map(|key| parts.open(key.bytes()).ok()).ok_or(OpenError::Authentication)?
            }
        };
        Login::from_json(&plaintext).map_err(|_| OpenError::NotALogin)
    }

    /// What a stored text looks like, without opening it. A right look is no proof: only [`Keyring::open`] tells
    /// whether the value is whole and stands in its place.
    pub fn form(&self, sealed: &str) -> Form {
        match Sealed::read(sealed) {
            Ok(Sealed::V1(parts)) if parts.key_id == self.active_key_id() => {
                Form::Current { key_id: parts.key_id.to_owned() }
            }
            Ok(Sealed::V1(parts)) => Form::Retired { key_id: parts.key_id.to_owned() },
            Ok(Sealed::Original(parts)) => match parts.iv {
                Iv::Twelve(_) => Form::ThreePart12,
                Iv::Sixteen(_) => Form::ThreePart16,
            },
            Err(_) if Login::parse(&SecretString::from(sealed)).is_ok() => Form::Plain,
            Err(_) => Form::Unknown,
        }
    }

    /// Whether a stored text should be opened and sealed anew: it isn't in the current form, or not of the active key.
    /// Also true of what can't be opened at all, so that a rewrap meets it and reports it.
    ///
    /// ```
    /// # use secrecy::SecretString;
    /// # use tenantry_credential::{CredentialColumn, Keyring, Login};
    /// # use uuid::Uuid;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (tenant, column) = (Uuid::nil(), CredentialColumn::Service);
    /// # let key = |id: &str, pair: &str| (id.to_owned(), SecretString::from(pair.repeat(32)));
    /// let before = Keyring::new("2025", [key("2025", "a5")])?;
    /// let sealed = before.seal(tenant, column, &Login::new("app_service", "correct horse")?)?;
    ///
    /// let after = Keyring::new("2026", [key("2025", "a5"), key("2026", "c3")])?;
    /// assert!(after.needs_rewrap(&sealed));
    /// let rewrapped = after.seal(tenant, column, &after.open(tenant, column, &sealed)?)?;
    /// assert!(!after.needs_rewrap(&rewrapped));
    /// # Ok(())
    /// # }
    /// ```
    pub fn needs_rewrap(&self, sealed: &str) -> bool {
        !matches!(self.form(sealed), Form::Current { .. })
    }

    fn active(&self) -> &Key {
        &self.keys[self.active]
    }

    fn active_first(&self) -> impl Iterator<Item = &Key> {
        let others = self.keys.iter().enumerate().filter(|(index, _)| *index != self.active);
        std::iter::once(self.active()).chain(others.map(|(_, key)| key))
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<&str> = self.key_ids().collect();
        f.debug_struct("Keyring").field("active", &self.active_key_id()).field("key_ids", &ids).finish_non_exhaustive()
    }
}

/// What a stored credential looks like. Holds nothing secret: it can be printed and counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Form {
    /// The current envelope, of the active key.
    Current {
        /// The active key's id.
        key_id: String,
    },
    /// The current envelope, of a key that isn't the active one. Whether the ring still has it, [`Keyring::key_ids`]
    /// tells.
    Retired {
        /// That key's id.
        key_id: String,
    },
    /// The original's three parts with a 12-byte iv.
    ThreePart12,
    /// The original's three parts with a 16-byte iv.
    ThreePart16,
    /// A login that was never sealed. [`Keyring::open`] refuses it: seal it, and change the password.
    Plain,
    /// None of these: empty, damaged, of a newer version, or no login at all. [`Keyring::open`] says which.
    Unknown,
}

/// Why a keyring could not be made. No variant holds a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// No key was given. Set `ENCRYPTION_KEY`, or name at least one key.
    #[error(
        "no encryption key is given; set ENCRYPTION_KEY to 64 hexadecimal digits (`openssl rand -hex 32` makes one)"
    )]
    Missing,
    /// A key has the wrong length. Give all 64 digits, and nothing but them.
    #[error("encryption key `{key_id}` has {found} characters, expected 64 hexadecimal digits without a prefix")]
    Length {
        /// The key's id.
        key_id: String,
        /// Characters found.
        found: usize,
    },
    /// A key holds something else than hexadecimal digits. A key in base64 has to be converted.
    #[error("encryption key `{key_id}` has a character that is not a hexadecimal digit at position {position}")]
    NotHex {
        /// The key's id.
        key_id: String,
        /// Where the first such character stands, counted from 1. The character itself is not told.
        position: usize,
    },
    /// The active key's id is none of the ring's. Add that key, or name another as the active one.
    #[error("the active encryption key `{key_id}` is not among the keys given")]
    UnknownActive {
        /// The id asked for.
        key_id: String,
    },
    /// Two keys have the same id. Values name their key by it, so it has to be one key's alone.
    #[error("two encryption keys have the id `{key_id}`; give each its own")]
    DuplicateId {
        /// The id given twice.
        key_id: String,
    },
    /// An id that can't be used. It is not quoted, since it may be a key that was put in the place of its id.
    #[error(
        "the id of {place} can't be used; expected 1 to 64 of A-Z a-z 0-9 _ -, and not 64 hexadecimal digits, which \
         would be a key"
    )]
    BadId {
        /// Which id: `key 2` (counted from 1, in the order given) or `the active key`.
        place: String,
    },
}

struct Key {
    id: String,
    /// Boxed, so that a ring that is moved or grows leaves no copy of the key behind.
    bytes: SecretBox<[u8; 32]>,
}

impl Key {
    fn from_hex(id: String, hex: &SecretString) -> Result<Self, KeyringError> {
        let hex = hex.expose_secret().trim();
        let found = hex.chars().count();
        if found != 64 {
            return Err(KeyringError::Length { key_id: id, found });
        }
        if let Some(index) = hex.chars().position(|digit| !digit.is_ascii_hexdigit()) {
            return Err(KeyringError::NotHex { key_id: id, position: index + 1 });
        }
        // Decoded in place: a key that is built elsewhere and moved in would stay behind on the stack.
        let mut bytes = SecretBox::new(Box::new([0; 32]));
        for (byte, pair) in bytes.expose_secret_mut().iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            *byte = hex_value(pair[0]) << 4 | hex_value(pair[1]);
        }
        Ok(Self { id, bytes })
    }

    fn bytes(&self) -> &[u8; 32] {
        self.bytes.expose_secret()
    }
}

/// A hexadecimal digit's value; the caller has checked that it is one.
fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}
