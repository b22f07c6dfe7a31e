//! The session's cookie: who has signed in and until when, signed with a key of the application's.
//!
//! ```text
//! __Host-session = key id . base64url(session as JSON) . base64url(HMAC-SHA256 of what stands before)
//! ```
//!
//! Nothing in it is secret, and nothing in it can be changed. Keys have ids, so that they can be rotated: the first one signs,
//! all of them verify. Take an old one away when its sessions have expired.

use std::{fmt, time::Duration};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use moka::{policy::EvictionPolicy, sync::Cache};
use ring::{hmac, rand::SystemRandom};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A browser accepts a cookie of such a name only from this very host, over TLS, for all paths.
pub(super) const NAME: &str = "__Host-session";
/// The most sessions that are remembered as ended.
const MOST_ENDED: u64 = 100_000;

/// The keys that sign sessions; the first one signs.
pub struct SessionKeys(Vec<(String, hmac::Key)>);

/// The text has no keys in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("session keys are written as id:key,id:key with 64 hexadecimal digits for each key; the {0}. one is not")]
pub struct InvalidKeys(usize);

impl SessionKeys {
    /// Reads `id:key,id:key`, the one that signs first; each key is 64 hexadecimal digits.
    ///
    /// # Errors
    /// [`InvalidKeys`], which says where and never what.
    pub fn parse(text: &str) -> Result<Self, InvalidKeys> {
        let key = |(index, pair): (usize, &str)| {
            let (id, hex) = pair.trim().split_once(':').ok_or(InvalidKeys(index + 1))?;
            let usable = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            let bytes = bytes_of(hex).filter(|bytes| usable && bytes.len() == 32).ok_or(InvalidKeys(index + 1))?;
            Ok((id.to_owned(), hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
        };
        text.split(',').enumerate().map(key).collect::<Result<_, _>>().map(Self)
    }

    /// A key of this process alone: its sessions end with it. None when the machine gives no random bytes.
    pub fn random() -> Option<Self> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok()?;
        Some(Self(vec![("process".to_owned(), key)]))
    }
}

impl fmt::Debug for SessionKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(id, _)| id)).finish()
    }
}

/// Begins, reads and ends sessions.
#[derive(Debug)]
pub struct Sessions {
    keys: SessionKeys,
    lifetime: Duration,
    /// Sessions that were ended before their time, in this process.
    ended: Cache<Uuid, ()>,
}

/// A session whose signature holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Session {
    id: Uuid,
    tenant: Uuid,
    user: Uuid,
    /// Of the user's password.
    fingerprint: Uuid,
    /// In seconds since 1970.
    expires: i64,
}

impl Sessions {
    /// Sessions of this length, in whole seconds.
    pub fn new(keys: SessionKeys, lifetime: Duration) -> Self {
        // The oldest is forgotten first. By default a full cache would rather not take a new one.
        let latest = EvictionPolicy::lru();
        let ended = Cache::builder().max_capacity(MOST_ENDED).eviction_policy(latest).time_to_live(lifetime).build();
        Self { keys, lifetime, ended }
    }

    pub(super) fn begin(&self, tenant: Uuid, user: Uuid, fingerprint: Uuid) -> Session {
        let expires = Utc::now().timestamp().saturating_add_unsigned(self.lifetime.as_secs());
        Session { id: Uuid::new_v4(), tenant, user, fingerprint, expires }
    }

    /// The session of a cookie's value, unless it is forged, expired or ended.
    pub(super) fn read(&self, value: &str) -> Option<Session> {
        let (signed, mac) = value.rsplit_once('.')?;
        let (id, payload) = signed.split_once('.')?;
        let (_, key) = self.keys.0.iter().find(|(known, _)| known == id)?;
        hmac::verify(key, signed.as_bytes(), &BASE64_URL_SAFE_NO_PAD.decode(mac).ok()?).ok()?;
        let session: Session = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
        (session.expires > Utc::now().timestamp() && !self.ended.contains_key(&session.id)).then_some(session)
    }

    /// The `Set-Cookie` of a session.
    pub(super) fn cookie(&self, session: &Session) -> String {
        let payload = BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(session).unwrap_or_default());
        let value = match self.keys.0.first() {
            Some((id, key)) => {
                let signed = format!("{id}.{payload}");
                let mac = BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(key, signed.as_bytes()));
                format!("{signed}.{mac}")
            }
            None => String::new(),
        };
        set_cookie(&value, self.lifetime.as_secs())
    }

    /// The `Set-Cookie` that takes it away.
    pub(super) fn no_cookie(&self) -> String {
        set_cookie("", 0)
    }

    pub(super) fn end(&self, session: &Session) {
        self.ended.insert(session.id, ());
    }
}

impl Session {
    pub(super) fn tenant(&self) -> Uuid {
        self.tenant
    }

    pub(super) fn user(&self) -> Uuid {
        self.user
    }

    pub(super) fn fingerprint(&self) -> Uuid {
        self.fingerprint
    }

    pub(super) fn expires_at(&self) -> DateTime<Utc> {
        DateTime::from_timestamp(self.expires, 0).unwrap_or_default()
    }
}

fn set_cookie(value: &str, seconds: u64) -> String {
    format!("{NAME}={value}; Path=/; Max-Age={seconds}; HttpOnly; Secure; SameSite=Lax")
}

fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        hex.chars().map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
    use super::*;

    const OLD: &str = "old:a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90";
    const NEW: &str = "new:0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";

    fn sessions(keys: &str, seconds: u64) -> Sessions {
        Sessions::new(SessionKeys::parse(keys).unwrap(), Duration::from_secs(seconds))
    }

    fn value(sessions: &Sessions, session: &Session) -> String {
        let cookie = sessions.cookie(session);
        cookie.strip_prefix("__Host-session=").unwrap().split_once(';').unwrap().0.to_owned()
    }

    #[test]
    fn only_what_was_signed_is_read() {
        let sessions = sessions(OLD, 60);
        let session = sessions.begin(Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3));
        let text = value(&sessions, &session);
        assert_eq!(sessions.read(&text), Some(session.clone()));
        let (signed, mac) = text.rsplit_once('.').unwrap();
        let other = Session { tenant: Uuid::from_u128(9), ..session };
        let forged = BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(&other).unwrap());
        for attack in [
            String::new(),
            "..".to_owned(),
            signed.to_owned(),
            format!("{signed}."),
            format!("old.{forged}.{mac}"),
            format!("new.{}", text.strip_prefix("old.").unwrap()),
            format!("{text}A"),
            text.to_uppercase(),
        ] {
            assert_eq!(sessions.read(&attack), None, "{attack}");
        }
        let another = self::sessions(&NEW.replace("new:", "old:"), 60);
        assert_eq!(another.read(&text), None, "signed with another key of the same id");
    }

    #[test]
    fn a_session_ends_when_it_expires_or_is_ended() {
        let expired = sessions(OLD, 0);
        let session = expired.begin(Uuid::nil(), Uuid::nil(), Uuid::nil());
        assert_eq!(expired.read(&value(&expired, &session)), None);
        let sessions = sessions(OLD, 60);
        let (session, other) = [(); 2].map(|()| sessions.begin(Uuid::nil(), Uuid::nil(), Uuid::nil())).into();
        sessions.end(&session);
        assert_eq!(sessions.read(&value(&sessions, &session)), None);
        assert!(sessions.read(&value(&sessions, &other)).is_some(), "the user's other session goes on");
    }

    /// Attack: somebody signs in and out so often that nobody else's end is remembered.
    #[test]
    fn the_latest_ends_are_remembered() {
        let sessions = sessions(OLD, 60);
        let end = || {
            let session = sessions.begin(Uuid::nil(), Uuid::nil(), Uuid::nil());
            sessions.end(&session);
            session
        };
        for _ in 0..MOST_ENDED {
            end();
        }
        sessions.ended.run_pending_tasks();
        let session = end();
        sessions.ended.run_pending_tasks();
        assert_eq!(sessions.read(&value(&sessions, &session)), None);
    }

    #[test]
    fn keys_are_rotated_without_signing_anybody_out() {
        let before = sessions(OLD, 60);
        let session = before.begin(Uuid::nil(), Uuid::nil(), Uuid::nil());
        let old = value(&before, &session);
        let during = sessions(&format!("{NEW}, {OLD}"), 60);
        assert!(during.read(&old).is_some());
        let new = value(&during, &session);
        assert!(new.starts_with("new."));
        let after = sessions(NEW, 60);
        assert!(after.read(&old).is_none() && after.read(&new).is_some());
    }

    #[test]
    fn keys_that_cannot_be_read_are_counted_and_never_shown() {
        for (text, at) in [("", 1), ("abc", 1), ("a:12", 1), (":00", 1), (&*format!("{OLD},b:zz"), 2)] {
            let error = SessionKeys::parse(text).unwrap_err();
            assert_eq!(error, InvalidKeys(at), "{text}");
            assert!(!error.to_string().contains("zz"));
        }
        assert_eq!(format!("{:?}", SessionKeys::parse(&format!("{OLD},{NEW}")).unwrap()), r#"["old", "new"]"#);
    }
}
