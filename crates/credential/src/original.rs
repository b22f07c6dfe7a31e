//! Reading what the original application sealed: `iv:authTag:encrypted`, AES-256-GCM without associated data, with an
//! iv of 16 bytes (Node's `randomBytes(16)`) or of 12.
//!
//! Nothing here binds a value to a tenant, a column or a key: until it is rewrapped, such a value opens wherever it is
//! copied to. So this module only reads; it can't write the form.
//!
//! `ring` takes no iv but one of 12 bytes, so the 16-byte ones are opened by `aes-gcm`, and nothing else is.

use aes_gcm::aead::consts::U16;
use aes_gcm::aes::Aes256;
use aes_gcm::{AeadInOut, AesGcm, KeyInit};
use zeroize::Zeroizing;

use crate::OpenError;
use crate::envelope::{TAG_LEN, open_with_ring};

/// A three-part value's parts.
pub(crate) struct Original {
    pub(crate) iv: Iv,
    pub(crate) tag: [u8; TAG_LEN],
    pub(crate) encrypted: Vec<u8>,
}

/// The two iv lengths that the original wrote.
pub(crate) enum Iv {
    Twelve([u8; 12]),
    Sixteen([u8; 16]),
}

impl Iv {
    /// `None` for any other length.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let twelve = bytes.try_into().map(Self::Twelve);
        twelve.or_else(|_| bytes.try_into().map(Self::Sixteen)).ok()
    }
}

impl Original {
    /// The plaintext, if `key` sealed it: for whichever tenant, in whichever column.
    pub(crate) fn open(&self, key: &[u8; 32]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        match self.iv {
            Iv::Twelve(iv) => open_with_ring(key, iv, &[], self.tag, &self.encrypted),
            Iv::Sixteen(iv) => {
                let mut buffer = Zeroizing::new(self.encrypted.clone());
                AesGcm::<Aes256, U16>::new(key.into())
                    .decrypt_inout_detached(&iv.into(), &[], buffer.as_mut_slice().into(), &self.tag.into())
                    .map_err(|_| OpenError::Authentication)?;
                Ok(buffer)
            }
        }
    }
}
