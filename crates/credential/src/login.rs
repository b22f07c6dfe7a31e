//! A database login: a user and a password. Knows how it is written (JSON, or `user:password`), not where it is used.

use std::borrow::Cow;
use std::fmt;

use ring::digest;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::envelope;

/// The user and password that a data source is opened with.
///
/// `Debug` shows the user and hides the password. There is no `Serialize` and no `Display`, so that a login can't reach
/// a log, a report or an API answer by way of a derived trait:
///
/// ```compile_fail,E0277
/// fn is_serialize<T: serde::Serialize>() {}
/// is_serialize::<tenantry_credential::Login>();
/// ```
///
/// Two logins are compared by digest in constant time, so that a comparison tells nothing about how much of a password
/// was right.
#[derive(Clone)]
pub struct Login {
    /// The role to connect as.
    pub user: String,
    /// Its password.
    pub password: SecretString,
}

impl Login {
    /// Makes a login.
    ///
    /// # Errors
    ///
    /// [`LoginError::EmptyUser`], [`LoginError::EmptyPassword`] and [`LoginError::Nul`]: ask for the login again.
    ///
    /// ```
    /// use tenantry_credential::{Login, LoginError};
    ///
    /// assert!(Login::new("app_restricted", "correct horse").is_ok());
    /// assert_eq!(Login::new("app_restricted", ""), Err(LoginError::EmptyPassword));
    /// ```
    pub fn new(user: impl Into<String>, password: impl Into<SecretString>) -> Result<Self, LoginError> {
        let login = Self { user: user.into(), password: password.into() };
        login.check()?;
        Ok(login)
    }

    /// Reads a login as people and settings write it: `{"user":"…","password":"…"}`, or `user:password` split at the
    /// first colon.
    ///
    /// One line ending after the text is dropped, because that is what a file or a pipe adds. What the short form can't
    /// say without doubt is refused and has to be written as JSON: a user with a colon in it, a password that begins
    /// with `//` (it would be a URL) or that ends in a line ending, and anything that looks like a sealed value.
    ///
    /// # Errors
    ///
    /// Any [`LoginError`]; each says what to write instead. None holds a part of the text.
    ///
    /// ```
    /// use secrecy::{ExposeSecret, SecretString};
    /// use tenantry_credential::Login;
    ///
    /// # fn main() -> Result<(), tenantry_credential::LoginError> {
    /// let short = Login::parse(&SecretString::from("app_restricted:correct:horse\n"))?;
    /// assert_eq!(short.password.expose_secret(), "correct:horse");
    /// let json = r#"{"user":"app_restricted","password":"correct:horse"}"#;
    /// assert_eq!(short, Login::parse(&SecretString::from(json))?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn parse(text: &SecretString) -> Result<Self, LoginError> {
        let text = text.expose_secret();
        let text = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
        if text.trim().is_empty() {
            return Err(LoginError::Empty);
        }
        if text.trim_start().starts_with('{') {
            return Self::from_json(text.as_bytes());
        }
        if envelope::looks_sealed(text) {
            return Err(LoginError::Sealed);
        }
        let (user, password) = text.split_once(':').ok_or(LoginError::NoSeparator)?;
        if password.starts_with("//") {
            return Err(LoginError::Url);
        }
        Self::new(user, password)
    }

    /// SHA-256 over user and password, each preceded by its length as eight big-endian bytes: a key for maps of pools,
    /// equal exactly when the logins are equal.
    ///
    /// It is a digest of a password without salt or stretching, so a weak password can be guessed from it: keep it in
    /// memory, never print or store it.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut context = digest::Context::new(&digest::SHA256);
        for field in [self.user.as_bytes(), self.password.expose_secret().as_bytes()] {
            context.update(&(field.len() as u64).to_be_bytes());
            context.update(field);
        }
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(context.finish().as_ref());
        fingerprint
    }

    /// Both fields are public, so what [`Login::new`] refuses has to be refused again where a login is sealed.
    pub(crate) fn check(&self) -> Result<(), LoginError> {
        let password = self.password.expose_secret();
        if self.user.is_empty() {
            Err(LoginError::EmptyUser)
        } else if password.is_empty() {
            Err(LoginError::EmptyPassword)
        } else if self.user.contains('\0') || password.contains('\0') {
            Err(LoginError::Nul)
        } else {
            Ok(())
        }
    }

    /// The plaintext of an envelope.
    pub(crate) fn to_json(&self) -> Zeroizing<Vec<u8>> {
        let wire = Wire { user: Cow::Borrowed(&self.user), password: Cow::Borrowed(self.password.expose_secret()) };
        // Six bytes is the longest escape of one byte: the buffer never grows, and so leaves no copy behind.
        let longest = 6 * (wire.user.len() + wire.password.len()) + br#"{"user":"","password":""}"#.len();
        let mut json = Zeroizing::new(Vec::with_capacity(longest));
        serde_json::to_writer(&mut *json, &wire).expect("strings are written to memory");
        json
    }

    /// Reads exactly the object that [`Login::to_json`] writes, in any order and spacing. A further field is refused,
    /// because a rewrap would lose it without a word.
    pub(crate) fn from_json(json: &[u8]) -> Result<Self, LoginError> {
        // Serde would also take the array `["user","password"]` for the struct.
        if json.trim_ascii_start().first() != Some(&b'{') {
            return Err(LoginError::Json);
        }
        // serde_json's error quotes what it stumbled over (`invalid type: string "…"`), so it is dropped here.
        let wire: Wire<'_> = serde_json::from_slice(json).map_err(|_| LoginError::Json)?;
        let password = match wire.password {
            Cow::Borrowed(password) => SecretString::from(password),
            Cow::Owned(password) => SecretString::from(password),
        };
        Self::new(wire.user, password)
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).field("password", &format_args!("[REDACTED]")).finish()
    }
}

impl PartialEq for Login {
    fn eq(&self, other: &Self) -> bool {
        let (mine, theirs) = (Zeroizing::new(self.fingerprint()), Zeroizing::new(other.fingerprint()));
        let difference = mine.iter().zip(theirs.iter()).fold(0, |seen, (a, b)| std::hint::black_box(seen | (a ^ b)));
        difference == 0
    }
}

impl Eq for Login {}

/// Why a login was refused. No variant holds a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// Nothing was given. Give a login, or leave the setting out altogether.
    #[error("the login is empty; write it as `user:password` or {SHAPE}")]
    Empty,
    /// There is a password and no user. Name the role to connect as.
    #[error("the login has no user; name the database role to connect as")]
    EmptyUser,
    /// There is a user and no password. A role without a password can't be used: give it one.
    #[error("the login has no password; give its role one, an empty password is not accepted")]
    EmptyPassword,
    /// User or password holds a NUL character, which no PostgreSQL connection can carry. Change it.
    #[error("the login's user or password holds a NUL character, which PostgreSQL can't be sent")]
    Nul,
    /// Neither JSON nor a colon: a bare token or a bare user. Write both halves.
    #[error("the login is neither `user:password` nor {SHAPE}; an API token is not a database login")]
    NoSeparator,
    /// It begins like JSON, but isn't one object with exactly `user` and `password`, both strings. Correct it.
    #[error("the login is not a JSON object with exactly two strings, {SHAPE}")]
    Json,
    /// A connection URL. Give its user and password alone; a password that begins with `//` is written as JSON.
    #[error("the login looks like a URL; give user and password alone, as `user:password` or {SHAPE}")]
    Url,
    /// A sealed value. Open it with a keyring; a login that happens to look like one is written as JSON.
    #[error("the login looks like a sealed credential; open it first, or write the login as {SHAPE}")]
    Sealed,
}

const SHAPE: &str = r#"{"user":"…","password":"…"}"#;

/// The JSON form. Private, and apart from [`Login`], so that a login itself has no `Serialize`. Borrows where it can,
/// so that a password without escapes is copied once, into its `SecretString`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire<'a> {
    #[serde(borrow)]
    user: Cow<'a, str>,
    #[serde(borrow)]
    password: Cow<'a, str>,
}
