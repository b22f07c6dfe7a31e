//! How a sealed credential is written, and the current form's sealing and opening with one key.
//!
//! ```text
//!   v1 : <key id> : <iv> : <authTag> : <encrypted>       iv 12 bytes, authTag 16 bytes; base64
//!                    <iv> : <authTag> : <encrypted>      the original's; iv 12 or 16 bytes
//! ```
//!
//! AES-256-GCM. `v1` draws its iv at random and authenticates, besides the plaintext, this associated data:
//! `tenantry:v1:`, then the key id, the tenant's sixteen UUID bytes and the column's name, each preceded by its length
//! as four big-endian bytes. Length prefixes, because joined fields could be cut in two ways.
//!
//! Base64 is the padded standard alphabet in its only canonical spelling, which is what Node's `toString('base64')`
//! writes: one value has one text, so that a changed byte is never a second spelling of the same value.
//!
//! This module knows no ring of keys: which key to take is the keyring's to decide.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, Tag, UnboundKey};
use ring::error::Unspecified;
use ring::rand::{SecureRandom, SystemRandom};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::original::{Iv, Original};
use crate::{CredentialColumn, LoginError};

/// Why a login could not be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The login breaks a rule of [`Login::new`](crate::Login::new): its fields were set directly. Make it with `new`.
    #[error("the login can't be sealed")]
    Login(#[source] LoginError),
    /// The operating system gave no random bytes. Nothing was sealed; try again, and look at the machine if it stays.
    #[error("the operating system gave no random bytes for the iv; nothing was sealed")]
    Random,
    /// The cipher refused: the login is longer than AES-GCM's limit of 64 GiB.
    #[error("the login is too long to be sealed")]
    TooLong,
}

/// Why a sealed credential could not be opened. No variant holds a part of the opened value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The column holds an empty text. Store a sealed credential, or NULL where there is none.
    #[error("the sealed credential is empty; store a sealed value, or NULL where there is none")]
    Empty,
    /// The text has neither form. Often a login that was stored unsealed: seal it, store that, and change the password,
    /// which has been lying open.
    #[error(
        "the credential is not sealed: expected `v1:<key id>:<iv>:<authTag>:<encrypted>` or the original's \
         `iv:authTag:encrypted`"
    )]
    NotAnEnvelope,
    /// The envelope's version is one that this build can't read. Run the version of Tenantry that wrote it, or newer.
    #[error("the sealed credential has envelope version {version}, this build reads version 1; use a newer build")]
    Version {
        /// The version found.
        version: u16,
    },
    /// A part isn't padded standard base64. The value was damaged, or is a login with colons that was never sealed:
    /// restore it, or seal the login.
    #[error(
        "the sealed credential's {part} is not padded standard base64: damaged, or never sealed; restore the value or \
         seal the login"
    )]
    Base64 {
        /// The part that failed.
        part: Part,
    },
    /// The initialisation vector has a length that its form doesn't know. Damaged, or of another program.
    #[error("the sealed credential's iv has {found} bytes, expected 12 (16 only in the original's three-part form)")]
    IvLength {
        /// Bytes found.
        found: usize,
    },
    /// The authentication tag isn't 16 bytes. A shorter tag is easier to forge, so it is refused, not compared.
    #[error("the sealed credential's authTag has {found} bytes, expected 16")]
    TagLength {
        /// Bytes found.
        found: usize,
    },
    /// Sealed with a key that this keyring lacks. Add that key to the ring as a retired one, then rewrap.
    #[error("the sealed credential needs key `{key_id}`, which is not in the keyring; add it as a retired key")]
    UnknownKey {
        /// The missing key's id.
        key_id: String,
    },
    /// No key authenticates the value: the key differs, the value was changed, or it belongs to another tenant or
    /// column. The cipher can't tell these apart. Check the key first, then where the value was copied from.
    #[error(
        "the sealed credential does not authenticate: wrong key, changed value, or a value of another tenant or column"
    )]
    Authentication,
    /// It opened, but the plaintext isn't `{"user":"…","password":"…"}`. The original stored API tokens here: make a
    /// database login for the tenant and seal that in its place.
    #[error("the sealed credential opened, but holds no database login (perhaps an API token); seal a login instead")]
    NotALogin,
}

/// One part of a sealed value, by the name that both forms give it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// The initialisation vector.
    Iv,
    /// The authentication tag.
    AuthTag,
    /// The encrypted login.
    Encrypted,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Iv => "iv",
            Self::AuthTag => "authTag",
            Self::Encrypted => "encrypted part",
        })
    }
}

/// A sealed value taken apart, with every length checked and nothing opened.
pub(crate) enum Sealed<'a> {
    V1(V1<'a>),
    Original(Original),
}

impl<'a> Sealed<'a> {
    pub(crate) fn read(sealed: &'a str) -> Result<Self, OpenError> {
        if sealed.trim().is_empty() {
            return Err(OpenError::Empty);
        }
        // A login in JSON has colons as well, and would be told that its first part is no base64.
        if sealed.trim_start().starts_with('{') {
            return Err(OpenError::NotAnEnvelope);
        }
        // One more than the longest form has, so that a longer text matches none.
        let parts: Vec<&str> = sealed.splitn(6, ':').collect();
        match parts[..] {
            [iv, tag, encrypted] => {
                let (iv, tag, encrypted) = decode(iv, tag, encrypted)?;
                let iv = Iv::read(&iv).ok_or(OpenError::IvLength { found: iv.len() })?;
                Ok(Self::Original(Original { iv, tag, encrypted }))
            }
            [version, key_id, iv, tag, encrypted] => match version_of(version) {
                None => Err(OpenError::NotAnEnvelope),
                Some(1) if is_key_id(key_id) => {
                    let (iv, tag, encrypted) = decode(iv, tag, encrypted)?;
                    let iv = iv.try_into().map_err(|iv: Vec<u8>| OpenError::IvLength { found: iv.len() })?;
                    Ok(Self::V1(V1 { key_id, iv, tag, encrypted }))
                }
                Some(1) => Err(OpenError::NotAnEnvelope),
                Some(version) => Err(OpenError::Version { version }),
            },
            _ => Err(OpenError::NotAnEnvelope),
        }
    }
}

/// The current form's parts.
pub(crate) struct V1<'a> {
    pub(crate) key_id: &'a str,
    iv: [u8; NONCE_LEN],
    tag: [u8; TAG_LEN],
    encrypted: Vec<u8>,
}

impl V1<'_> {
    /// The plaintext, if `key` sealed exactly this for exactly this tenant and column.
    pub(crate) fn open(
        &self,
        key: &[u8; 32],
        tenant: Uuid,
        column: CredentialColumn,
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let aad = associated_data(self.key_id, tenant, column);
        open_with_ring(key, self.iv, &aad, self.tag, &self.encrypted)
    }
}

/// Seals `plaintext`, which it overwrites, and writes the current form.
pub(crate) fn seal(
    key_id: &str,
    key: &[u8; 32],
    tenant: Uuid,
    column: CredentialColumn,
    mut plaintext: Zeroizing<Vec<u8>>,
) -> Result<String, SealError> {
    let mut iv = [0; NONCE_LEN];
    SystemRandom::new().fill(&mut iv).map_err(|Unspecified| SealError::Random)?;
    let tag = cipher(key)
        .and_then(|cipher| {
            let aad = Aad::from(associated_data(key_id, tenant, column));
            cipher.seal_in_place_separate_tag(Nonce::assume_unique_for_key(iv), aad, &mut plaintext)
        })
        .map_err(|Unspecified| SealError::TooLong)?;
    let (iv, tag, encrypted) = (STANDARD.encode(iv), STANDARD.encode(tag), STANDARD.encode(&*plaintext));
    Ok(format!("v1:{key_id}:{iv}:{tag}:{encrypted}"))
}

/// Opens a value with a 12-byte iv, the only length that `ring` takes.
pub(crate) fn open_with_ring(
    key: &[u8; 32],
    iv: [u8; NONCE_LEN],
    associated_data: &[u8],
    tag: [u8; TAG_LEN],
    encrypted: &[u8],
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let mut buffer = Zeroizing::new(encrypted.to_vec());
    cipher(key)
        .and_then(|cipher| {
            let (nonce, aad) = (Nonce::assume_unique_for_key(iv), Aad::from(associated_data));
            cipher.open_in_place_separate_tag(nonce, aad, Tag::from(tag), &mut buffer, 0..).map(|_| ())
        })
        .map_err(|Unspecified| OpenError::Authentication)?;
    Ok(buffer)
}

/// Whether a text that stands where a login is expected is more likely a sealed value, whole or damaged: it begins like
/// an envelope, or has three parts of which the first is an iv. Reading such a text as `user:password` would connect
/// as a user called `v1`.
pub(crate) fn looks_sealed(text: &str) -> bool {
    let parts: Vec<&str> = text.splitn(4, ':').collect();
    match parts[..] {
        [_] => false,
        [version, ..] if version_of(version).is_some() => true,
        [iv, _, _] => STANDARD.decode(iv).is_ok_and(|iv| Iv::read(&iv).is_some()),
        _ => false,
    }
}

/// Whether a text can name a key: 1 to 64 of `A-Z a-z 0-9 _ -`. Sixty-four hexadecimal digits are refused, because that
/// is a key in the place of its name, and names are printed.
pub(crate) fn is_key_id(text: &str) -> bool {
    let spelled = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    let is_key = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    (1..=64).contains(&text.len()) && spelled && !is_key
}

pub(crate) const TAG_LEN: usize = 16;

fn cipher(key: &[u8; 32]) -> Result<LessSafeKey, Unspecified> {
    UnboundKey::new(&AES_256_GCM, key).map(LessSafeKey::new)
}

fn associated_data(key_id: &str, tenant: Uuid, column: CredentialColumn) -> Vec<u8> {
    let mut data = b"tenantry:v1:".to_vec();
    for field in [key_id.as_bytes(), tenant.as_bytes(), column.as_str().as_bytes()] {
        data.extend((field.len() as u32).to_be_bytes());
        data.extend(field);
    }
    data
}

/// `v` and a number without leading zeros: `v1` has one spelling.
fn version_of(text: &str) -> Option<u16> {
    let digits = text.strip_prefix('v')?;
    let canonical = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    digits.parse().ok().filter(|_| canonical)
}

type Decoded = (Vec<u8>, [u8; TAG_LEN], Vec<u8>);

fn decode(iv: &str, tag: &str, encrypted: &str) -> Result<Decoded, OpenError> {
    let decode = |text: &str, part| STANDARD.decode(text).map_err(|_| OpenError::Base64 { part });
    let (iv, tag, encrypted) =
        (decode(iv, Part::Iv)?, decode(tag, Part::AuthTag)?, decode(encrypted, Part::Encrypted)?);
    let tag = tag.try_into().map_err(|tag: Vec<u8>| OpenError::TagLength { found: tag.len() })?;
    Ok((iv, tag, encrypted))
}
