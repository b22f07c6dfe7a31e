//! Every setting as data: its name, what it holds, its default and its meaning.
//!
//! `docs/settings.md` is generated from this table and the reader refuses what is not in it, so that neither can drift from
//! the other. Knows no value that anybody has set.

/// What kind of value a setting holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A PostgreSQL or SQLite URL.
    Url,
    /// A database login.
    Login,
    /// An encryption key.
    Key,
    /// Several encryption keys, each with its id.
    Keys,
    /// `true` or `false`.
    Flag,
    /// A length of time.
    Duration,
    /// A length of time, or none.
    Patience,
    /// A whole number, at least one.
    Count,
    /// A lower-case SQL name.
    Identifier,
    /// The type of the tenant column.
    TenantType,
    /// Names of objects as findings print them.
    Names,
    /// Any text.
    Text,
    /// A path of a file.
    Path,
}

impl Kind {
    /// How the value is written, as errors and the reference say it.
    pub const fn expected(self) -> &'static str {
        match self {
            Self::Url => "`postgresql://host:5432/database` or `sqlite:/absolute/path.db`",
            Self::Login => "`user:password` or `{\"user\":\"…\",\"password\":\"…\"}`",
            Self::Key => "64 hexadecimal digits (`openssl rand -hex 32` makes them)",
            Self::Keys => "`id=64 hexadecimal digits`, several separated by commas",
            Self::Flag => "`true` or `false`",
            Self::Duration => "a number with a unit such as `250ms`, `30s`, `5m` or `1h` (a bare number is seconds)",
            Self::Patience => "a number with a unit such as `250ms` or `2s` (a bare number is seconds), or `0`",
            Self::Count => "a whole number of at least 1",
            Self::Identifier => "lower-case letters, digits and underscores, at most 63, not beginning with a digit",
            Self::TenantType => "`uuid`, `bigint` or `text`",
            Self::Names => "names separated by semicolons; in the file also a list of texts",
            Self::Text => "text",
            Self::Path => "a path",
        }
    }
}

/// One setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// The environment variable.
    pub variable: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// What holds when it is not set, as a person would write it; `None`: nothing.
    pub default: Option<&'static str>,
    /// Whether the value may never be shown.
    pub secret: bool,
    /// What it does.
    pub meaning: &'static str,
}

impl Setting {
    /// The key in `tenantry.toml`: the variable in lower case without the prefix `TENANTRY_`.
    pub fn key(&self) -> String {
        self.variable.strip_prefix("TENANTRY_").unwrap_or(self.variable).to_lowercase()
    }

    /// Whether the settings file may hold it; only the file's own path cannot stand inside it.
    pub fn is_in_file(&self) -> bool {
        self.variable != CONFIG.variable
    }
}

const fn setting(variable: &'static str, kind: Kind, default: Option<&'static str>, meaning: &'static str) -> Setting {
    Setting { variable, kind, default, secret: false, meaning }
}

const fn secret(variable: &'static str, kind: Kind, default: Option<&'static str>, meaning: &'static str) -> Setting {
    Setting { variable, kind, default, secret: true, meaning }
}

/// `TENANTRY_CONFIG`
pub const CONFIG: Setting = setting(
    "TENANTRY_CONFIG",
    Kind::Path,
    Some("tenantry.toml in the working directory, where there is one"),
    "The settings file. The environment wins over it, setting by setting.",
);
/// `APPLICATION_DATABASE_URL`
pub const APPLICATION_DATABASE_URL: Setting = secret(
    "APPLICATION_DATABASE_URL",
    Kind::Url,
    None,
    "Required. The application database: tenants, users, audit log, data sources. A PostgreSQL URL carries the login of \
     the service that owns the schema: `postgresql://user:password@host:5432/database`.",
);
/// `DEFAULT_TENANT_DATA_URL`
pub const DEFAULT_TENANT_DATA_URL: Setting = secret(
    "DEFAULT_TENANT_DATA_URL",
    Kind::Url,
    None,
    "Where a new tenant's rows go unless it is told otherwise. Holds no login. An SQLite path may contain `{tenant_id}`: \
     one file per tenant. Not set: a new tenant needs a data source of its own.",
);
/// `DEFAULT_TENANT_DATA_ANON_KEY`
pub const DEFAULT_TENANT_DATA_ANON_KEY: Setting = secret(
    "DEFAULT_TENANT_DATA_ANON_KEY",
    Kind::Login,
    None,
    "The restricted login of the default data source: the policies of tenant tables are written for its user. Required for \
     a PostgreSQL URL, refused for SQLite, which has no logins.",
);
/// `DEFAULT_TENANT_DATA_SERVICE_KEY`
pub const DEFAULT_TENANT_DATA_SERVICE_KEY: Setting = secret(
    "DEFAULT_TENANT_DATA_SERVICE_KEY",
    Kind::Login,
    None,
    "The service login of the default data source: it owns the schema, migrates and transfers. Required and refused as \
     the restricted login is.",
);
/// `DEFAULT_TENANT_DATA_REGION`
pub const DEFAULT_TENANT_DATA_REGION: Setting = setting(
    "DEFAULT_TENANT_DATA_REGION",
    Kind::Text,
    None,
    "The region that is noted for tenants on the default data source, for example `us-east-1`.",
);
/// `ENCRYPTION_KEY`
pub const ENCRYPTION_KEY: Setting = secret(
    "ENCRYPTION_KEY",
    Kind::Key,
    None,
    "The key that seals the tenants' logins; its id is `default`. This or `ENCRYPTION_KEYS` is required as soon as a \
     data source has logins.",
);
/// `ENCRYPTION_KEYS`
pub const ENCRYPTION_KEYS: Setting = secret(
    "ENCRYPTION_KEYS",
    Kind::Keys,
    None,
    "Several named keys, for a rotation: all of them open, the active one seals. May stand beside `ENCRYPTION_KEY`, \
     which then is one more key, named `default`.",
);
/// `ENCRYPTION_KEY_ACTIVE`
pub const ENCRYPTION_KEY_ACTIVE: Setting = setting(
    "ENCRYPTION_KEY_ACTIVE",
    Kind::Text,
    Some("the only key, where there is one"),
    "The id of the key that seals. Required as soon as there are several keys.",
);
/// `FALLBACK_TO_APPLICATION_DATABASE`
pub const FALLBACK_TO_APPLICATION_DATABASE: Setting = setting(
    "FALLBACK_TO_APPLICATION_DATABASE",
    Kind::Flag,
    Some("false"),
    "Whether a tenant without a data source is served from the application database. For the time of a gradual split \
     only: no row-level security stands behind it, and its isolation is reported as `predicate only`.",
);
/// `TENANTRY_PLACEMENT_CACHE`
pub const PLACEMENT_CACHE: Setting = setting(
    "TENANTRY_PLACEMENT_CACHE",
    Kind::Duration,
    Some("5m"),
    "How long a process trusts what it has read about where a tenant is. The application database announces every change, so \
     that this is a bound for the time when it cannot be reached.",
);
/// `TENANTRY_PLACEMENT_POLL`
pub const PLACEMENT_POLL: Setting = setting(
    "TENANTRY_PLACEMENT_POLL",
    Kind::Duration,
    Some("2s"),
    "How often a process asks the application database which tenants were moved, where it cannot be notified of that: an \
     SQLite file, and PostgreSQL behind a pooler in transaction mode.",
);
/// `TENANTRY_FENCED_WRITE_PATIENCE`
pub const FENCED_WRITE_PATIENCE: Setting = setting(
    "TENANTRY_FENCED_WRITE_PATIENCE",
    Kind::Patience,
    Some("1s"),
    "How long a single write waits while its tenant is being moved, before it gets an error that says to try again. It holds \
     no connection meanwhile, and goes to the new place as soon as the tenant is there. `0`: it waits for nothing.",
);
/// `TENANTRY_POOL_CACHE`
pub const POOL_CACHE: Setting = setting(
    "TENANTRY_POOL_CACHE",
    Kind::Duration,
    Some("1h"),
    "How long the pool of a data source that nobody uses is kept.",
);
/// `TENANTRY_MAX_CONNECTIONS`
pub const MAX_CONNECTIONS: Setting = setting(
    "TENANTRY_MAX_CONNECTIONS",
    Kind::Count,
    Some("10"),
    "The most connections of one pool. The row of a data source may say otherwise for that data source.",
);
/// `TENANTRY_ACQUIRE_TIMEOUT`
pub const ACQUIRE_TIMEOUT: Setting = setting(
    "TENANTRY_ACQUIRE_TIMEOUT",
    Kind::Duration,
    Some("10s"),
    "How long a request waits for a connection before it gets an error.",
);
/// `TENANTRY_IDLE_TIMEOUT`
pub const IDLE_TIMEOUT: Setting =
    setting("TENANTRY_IDLE_TIMEOUT", Kind::Duration, Some("10m"), "How long a connection that nobody uses stays open.");
/// `TENANTRY_TENANT_COLUMN`
pub const TENANT_COLUMN: Setting = setting(
    "TENANTRY_TENANT_COLUMN",
    Kind::Identifier,
    Some("tenant_id"),
    "The column of every tenant table that names the tenant.",
);
/// `TENANTRY_TENANT_TYPE`
pub const TENANT_TYPE: Setting =
    setting("TENANTRY_TENANT_TYPE", Kind::TenantType, Some("uuid"), "The type of the tenant column.");
/// `TENANTRY_ISOLATION_EXCEPTIONS`
pub const ISOLATION_EXCEPTIONS: Setting = setting(
    "TENANTRY_ISOLATION_EXCEPTIONS",
    Kind::Names,
    None,
    "Objects of data sources that are as they are on purpose, each named as a finding of `check-isolation` names it, for \
     example `every_account; report(integer, text)`. Whatever is found of them is shown as accepted, and no data source is \
     refused for it.",
);
/// Every setting, in the order the reference lists them.
pub const SETTINGS: [&Setting; 20] = [
    &APPLICATION_DATABASE_URL,
    &DEFAULT_TENANT_DATA_URL,
    &DEFAULT_TENANT_DATA_ANON_KEY,
    &DEFAULT_TENANT_DATA_SERVICE_KEY,
    &DEFAULT_TENANT_DATA_REGION,
    &ENCRYPTION_KEY,
    &ENCRYPTION_KEYS,
    &ENCRYPTION_KEY_ACTIVE,
    &FALLBACK_TO_APPLICATION_DATABASE,
    &PLACEMENT_CACHE,
    &PLACEMENT_POLL,
    &FENCED_WRITE_PATIENCE,
    &POOL_CACHE,
    &MAX_CONNECTIONS,
    &ACQUIRE_TIMEOUT,
    &IDLE_TIMEOUT,
    &TENANT_COLUMN,
    &TENANT_TYPE,
    &ISOLATION_EXCEPTIONS,
    &CONFIG,
];
