//! Passwords: hashed with argon2id, compared at the same cost whether the user exists or not.
//!
//! A hash costs memory and time on purpose, so that only a few are made at once; who waits for longer than a moment is told to
//! come back. It knows no user and no table.

use std::{sync::Arc, time::Duration};

use argon2::{
    Algorithm, Argon2,
    password_hash::{self, PasswordHash, PasswordHasher, PasswordVerifier, SaltString},
};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Hashes that are made at once, in this process: each takes 19 MiB.
const AT_ONCE: usize = 2;
/// How long somebody who signs in waits for a turn.
const PATIENCE: Duration = Duration::from_secs(5);

/// Makes and compares hashes of passwords, a few at once.
#[derive(Debug)]
pub struct Passwords {
    turns: Arc<Semaphore>,
    /// The hash of a password that nobody knows, for users that do not exist.
    nobodys: String,
}

/// A hash could not be made or compared.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// Too many people sign in at once. Retry.
    #[error("too many passwords are being compared at once; retry")]
    Busy,
    /// The machine gave no random bytes, or no memory.
    #[error("a password could not be hashed")]
    Hash,
}

impl Passwords {
    /// Ready to compare.
    ///
    /// # Errors
    /// [`HashError::Hash`].
    pub fn new() -> Result<Self, HashError> {
        let mut unknown = [0; 32];
        SystemRandom::new().fill(&mut unknown).map_err(|_| HashError::Hash)?;
        Ok(Self { turns: Arc::new(Semaphore::new(AT_ONCE)), nobodys: hash(&unknown)? })
    }

    /// The hash of a password, in the form that `users.password_hash` holds.
    ///
    /// # Errors
    /// [`HashError`].
    pub async fn hash(&self, password: String) -> Result<String, HashError> {
        let turn = self.turn().await?;
        blocking(turn, move || hash(password.as_bytes())).await?
    }

    /// Whether this is the password of the hash. Without a hash it is not, after the same work.
    ///
    /// # Errors
    /// [`HashError`]. A call that is dropped keeps its turn until its hash is made: nobody gets more turns by leaving.
    pub async fn verify(&self, password: String, stored: Option<String>) -> Result<bool, HashError> {
        let turn = self.turn().await?;
        let known = stored.as_deref().is_some_and(is_ours);
        let stored = stored.filter(|_| known).unwrap_or_else(|| self.nobodys.clone());
        let same = blocking(turn, move || {
            let stored = PasswordHash::new(&stored)?;
            Argon2::default().verify_password(password.as_bytes(), &stored)
        });
        match same.await? {
            Ok(()) => Ok(known),
            Err(password_hash::Error::Password) => Ok(false),
            Err(_) => Err(HashError::Hash),
        }
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit, HashError> {
        let turn = tokio::time::timeout(PATIENCE, Arc::clone(&self.turns).acquire_owned()).await;
        turn.map_err(|_| HashError::Busy)?.map_err(|_| HashError::Busy)
    }
}

async fn blocking<T: Send + 'static>(
    turn: OwnedSemaphorePermit,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, HashError> {
    let done = tokio::task::spawn_blocking(move || {
        let done = work();
        drop(turn);
        done
    });
    done.await.map_err(|_| HashError::Hash)
}

/// Whether it is one that can be compared. A user with one of another scheme is answered as nobody is.
fn is_ours(stored: &str) -> bool {
    PasswordHash::new(stored).is_ok_and(|stored| Algorithm::try_from(stored.algorithm).is_ok() && stored.hash.is_some())
}

fn hash(password: &[u8]) -> Result<String, HashError> {
    let mut salt = [0; 16];
    SystemRandom::new().fill(&mut salt).map_err(|_| HashError::Hash)?;
    let salt = SaltString::encode_b64(&salt).map_err(|_| HashError::Hash)?;
    // argon2id with 19 MiB, two passes and one lane, as OWASP recommends.
    let hash = Argon2::default().hash_password(password, &salt).map_err(|_| HashError::Hash)?;
    Ok(hash.to_string())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
    use super::*;

    /// Of a password scheme that this is not.
    const OTHER: &str = "$pbkdf2-sha256$i=1000$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo";

    #[tokio::test]
    async fn only_the_password_itself_is_accepted() {
        let passwords = Passwords::new().unwrap();
        let stored = passwords.hash("correct horse".to_owned()).await.unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert!(passwords.verify("correct horse".to_owned(), Some(stored.clone())).await.unwrap());
        for wrong in ["", "correct horse ", "Correct horse"] {
            assert!(!passwords.verify(wrong.to_owned(), Some(stored.clone())).await.unwrap(), "{wrong}");
        }
        for no_hash in [None, Some(String::new()), Some("correct horse".to_owned()), Some(OTHER.to_owned())] {
            assert!(!passwords.verify("correct horse".to_owned(), no_hash).await.unwrap());
        }
        assert_ne!(stored, passwords.hash("correct horse".to_owned()).await.unwrap(), "every hash has its own salt");
    }
}
