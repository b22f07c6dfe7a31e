//! The four tables of the application database: columns, rules, keys and indexes, as data.
//!
//! The same list creates a table and adopts an existing one, so that both end up with the same promises.

use crate::dialect::{Engine, literal, sqlite};
use crate::shape::Shape;

/// A table of the application database.
pub(super) struct Table {
    pub(super) name: &'static str,
    /// The primary key, which also names a row in messages.
    pub(super) key: &'static str,
    pub(super) columns: Vec<Column>,
    pub(super) rules: Vec<Rule>,
    pub(super) indexes: Vec<Index>,
}

pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    pub(super) nullable: bool,
    pub(super) default: Initial,
}

/// What a column holds where an insert does not say.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Initial {
    None,
    RandomUuid,
    Now,
    Text(&'static str),
    Json(&'static str),
    Number(i64),
}

/// A condition on one row; unknown (null) passes, as in a CHECK.
pub(super) struct Rule {
    pub(super) name: &'static str,
    pub(super) condition: Condition,
}

pub(super) enum Condition {
    OneOf(&'static str, &'static [&'static str]),
    /// The same text on both engines.
    Both(String),
    Each {
        postgres: String,
        sqlite: String,
    },
}

/// An index; columns and predicate as SQL.
pub(super) struct Index {
    pub(super) name: &'static str,
    pub(super) unique: bool,
    /// What makes two rows equal: expressions for each engine. `lower` in collation "C" folds ASCII alone, as SQLite does,
    /// and does not depend on the database's locale.
    pub(super) postgres: &'static str,
    pub(super) sqlite: &'static str,
    pub(super) predicate: Option<&'static str>,
}

/// The columns whose change is audited.
pub(super) const DATA_SOURCE_COLUMNS: [&str; 7] = [
    "data_source_url",
    "data_source_anon_key",
    "data_source_service_key",
    "data_source_region",
    "connection_pool_config",
    "data_source_notes",
    "tenant_id_in_data_source",
];

/// The columns of `tenants` that decide where or how a tenant is reached.
pub(super) const PLACEMENT_COLUMNS: [&str; 6] = [
    "data_source_url",
    "data_source_anon_key",
    "data_source_service_key",
    "tenant_id_in_data_source",
    "connection_pool_config",
    "status",
];

/// The columns of `data_sources` that decide how its tenants are reached.
pub(super) const REACH_COLUMNS: [&str; 5] = ["kind", "pooler_mode", "direct_url", "max_connections", "settings"];

/// The tables, those referred to first.
pub(super) fn tables() -> [Table; 4] {
    [tenants(), users(), audit_log(), data_sources()]
}

const TEXT: Shape = Shape::Text { longest: None };

fn column(name: &'static str, shape: Shape) -> Column {
    Column { name, shape, nullable: false, default: Initial::None }
}

fn optional(name: &'static str, shape: Shape) -> Column {
    Column { nullable: true, ..column(name, shape) }
}

impl Column {
    fn or(self, default: Initial) -> Self {
        Self { default, ..self }
    }

    /// The declared type.
    pub(super) fn declared(&self, engine: Engine) -> &'static str {
        match (engine, self.shape) {
            (Engine::Postgres, Shape::Uuid) => "uuid",
            (Engine::Postgres, Shape::Json) => "jsonb",
            (Engine::Postgres, Shape::Timestamp) => "timestamp with time zone",
            (Engine::Postgres, Shape::Integer { bits: 64 }) => "bigint",
            (Engine::Sqlite, Shape::Uuid) => "uuid_text",
            (Engine::Sqlite, Shape::Json) => "jsonb_text",
            (Engine::Sqlite, Shape::Timestamp) => "timestamp_with_timezone_text",
            (_, Shape::Integer { .. }) => "integer",
            _ => "text",
        }
    }

    /// PostgreSQL: the types of an existing column that serve as well.
    pub(super) fn serves(&self, type_name: &str) -> bool {
        match self.shape {
            Shape::Uuid => type_name == "uuid",
            Shape::Json => matches!(type_name, "jsonb" | "json"),
            Shape::Timestamp => type_name == "timestamptz",
            Shape::Integer { bits: 64 } => type_name == "int8",
            Shape::Integer { .. } => type_name == "int4",
            _ => matches!(type_name, "text" | "varchar" | "bpchar" | "citext"),
        }
    }
}

impl Initial {
    /// The default as SQL, in parentheses where SQLite asks for them.
    pub(super) fn sql(self, engine: Engine) -> Option<String> {
        Some(match (self, engine) {
            (Self::None, _) => return None,
            (Self::RandomUuid, Engine::Postgres) => "pg_catalog.gen_random_uuid()".to_owned(),
            (Self::RandomUuid, Engine::Sqlite) => format!("({})", sqlite::RANDOM_UUID),
            (Self::Now, Engine::Postgres) => "pg_catalog.now()".to_owned(),
            (Self::Now, Engine::Sqlite) => format!("({})", sqlite::NOW),
            (Self::Text(text) | Self::Json(text), _) => literal(text),
            (Self::Number(number), _) => number.to_string(),
        })
    }

    /// Whether SQLite can add a column with this default to a table with rows.
    pub(super) fn is_constant(self) -> bool {
        !matches!(self, Self::RandomUuid | Self::Now)
    }
}

impl Rule {
    pub(super) fn sql(&self, engine: Engine) -> String {
        match (&self.condition, engine) {
            (Condition::OneOf(column, values), _) => {
                let values = values.iter().map(|value| literal(value)).collect::<Vec<_>>().join(", ");
                format!("{{row}}{column} IN ({values})")
            }
            (Condition::Both(sql), _)
            | (Condition::Each { postgres: sql, .. }, Engine::Postgres)
            | (Condition::Each { sqlite: sql, .. }, Engine::Sqlite) => sql.clone(),
        }
    }
}

fn one_of(name: &'static str, column: &'static str, values: &'static [&'static str]) -> Rule {
    Rule { name, condition: Condition::OneOf(column, values) }
}

fn index(name: &'static str, columns: &'static str, predicate: Option<&'static str>) -> Index {
    Index { name, unique: false, postgres: columns, sqlite: columns, predicate }
}

/// `{row}` stands before every column, so that one text serves as a CHECK and in a trigger.
fn no_login_inside(name: &'static str, column: &str) -> Rule {
    let url = format!("{{row}}{column}");
    let forbidden =
        ["@", "password=", "?user=", "&user="].map(|part| format!("lower({url}) NOT LIKE '%{part}%'")).join(" AND ");
    Rule {
        name,
        condition: Condition::Both(format!("{url} <> '' AND (substr({url}, 1, 7) = 'sqlite:' OR ({forbidden}))")),
    }
}

fn timestamps() -> [Column; 2] {
    [column("created_at", Shape::Timestamp).or(Initial::Now), column("updated_at", Shape::Timestamp).or(Initial::Now)]
}

fn tenants() -> Table {
    let mut columns = vec![
        column("id", Shape::Uuid).or(Initial::RandomUuid),
        column("name", TEXT),
        column("subdomain", TEXT),
        optional("domain", TEXT),
        column("plan", TEXT).or(Initial::Text("starter")),
        column("status", TEXT).or(Initial::Text("active")),
        column("settings", Shape::Json).or(Initial::Json("{}")),
        optional("subscription_id", TEXT),
        optional("data_source_url", TEXT),
        optional("data_source_anon_key", TEXT),
        optional("data_source_service_key", TEXT),
        optional("data_source_region", TEXT),
        column("connection_pool_config", Shape::Json).or(Initial::Json(r#"{"min":2,"max":10}"#)),
        optional("data_source_notes", TEXT),
        optional("tenant_id_in_data_source", TEXT),
    ];
    columns.extend(timestamps());
    columns.push(column("placement_epoch", Shape::Integer { bits: 64 }).or(Initial::Number(0)));
    Table {
        name: "tenants",
        key: "id",
        columns,
        rules: vec![
            Rule {
                name: "tenants_subdomain_check",
                condition: Condition::Each {
                    postgres:
                        r#"{row}subdomain COLLATE pg_catalog."C" ~ '^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$'"#
                            .to_owned(),
                    sqlite: "length({row}subdomain) BETWEEN 1 AND 63 AND {row}subdomain NOT GLOB '*[^A-Za-z0-9-]*' \
                             AND {row}subdomain NOT GLOB '-*' AND {row}subdomain NOT GLOB '*-'"
                        .to_owned(),
                },
            },
            one_of("tenants_plan_check", "plan", &["starter", "professional", "enterprise"]),
            one_of("tenants_status_check", "status", &["active", "suspended", "cancelled"]),
            no_login_inside("tenants_data_source_url_check", "data_source_url"),
            // Both keys with a URL, none without one, and none with a file, which has no logins.
            Rule {
                name: "tenants_data_source_keys_check",
                condition: Condition::Both(
                    "CASE WHEN {row}data_source_url IS NULL OR substr({row}data_source_url, 1, 7) = 'sqlite:' \
                     THEN {row}data_source_anon_key IS NULL AND {row}data_source_service_key IS NULL \
                     ELSE {row}data_source_anon_key IS NOT NULL AND {row}data_source_anon_key <> '' \
                     AND {row}data_source_service_key IS NOT NULL AND {row}data_source_service_key <> '' END"
                        .to_owned(),
                ),
            },
            Rule {
                name: "tenants_tenant_id_in_data_source_check",
                condition: Condition::Both("{row}tenant_id_in_data_source <> ''".to_owned()),
            },
        ],
        indexes: vec![
            Index {
                name: "tenants_subdomain_key",
                unique: true,
                postgres: r#"pg_catalog.lower(subdomain COLLATE pg_catalog."C")"#,
                sqlite: "lower(subdomain)",
                predicate: None,
            },
            Index {
                name: "tenants_domain_key",
                unique: true,
                postgres: r#"pg_catalog.lower(domain COLLATE pg_catalog."C")"#,
                sqlite: "lower(domain)",
                predicate: Some("domain IS NOT NULL"),
            },
            index("tenants_data_source_url_idx", "data_source_url", Some("data_source_url IS NOT NULL")),
            index("tenants_data_source_region_idx", "data_source_region", Some("data_source_region IS NOT NULL")),
        ],
    }
}

fn users() -> Table {
    let mut columns = vec![
        column("id", Shape::Uuid).or(Initial::RandomUuid),
        column("tenant_id", Shape::Uuid),
        column("email", TEXT),
        optional("first_name", TEXT),
        optional("last_name", TEXT),
        column("role", TEXT).or(Initial::Text("user")),
        column("permissions", Shape::Json).or(Initial::Json("{}")),
        column("status", TEXT).or(Initial::Text("active")),
        optional("password_hash", TEXT),
        optional("last_login", Shape::Timestamp),
    ];
    columns.extend(timestamps());
    Table {
        name: "users",
        key: "id",
        columns,
        rules: vec![
            one_of("users_role_check", "role", &["admin", "manager", "user"]),
            one_of("users_status_check", "status", &["active", "inactive", "suspended"]),
        ],
        indexes: vec![Index {
            name: "users_tenant_id_email_key",
            unique: true,
            postgres: r#"tenant_id, pg_catalog.lower(email COLLATE pg_catalog."C")"#,
            sqlite: "tenant_id, lower(email)",
            predicate: None,
        }],
    }
}

fn audit_log() -> Table {
    Table {
        name: "audit_log",
        key: "id",
        columns: vec![
            column("id", Shape::Uuid).or(Initial::RandomUuid),
            optional("tenant_id", Shape::Uuid),
            optional("user_id", Shape::Uuid),
            column("action", TEXT),
            column("entity_type", TEXT),
            optional("entity_id", TEXT),
            optional("changes", Shape::Json),
            optional("ip_address", TEXT),
            optional("user_agent", TEXT),
            column("created_at", Shape::Timestamp).or(Initial::Now),
        ],
        rules: vec![],
        indexes: vec![
            index("audit_log_tenant_id_created_at_idx", "tenant_id, created_at", None),
            index("audit_log_created_at_idx", "created_at", None),
        ],
    }
}

fn data_sources() -> Table {
    let mut columns = vec![
        column("url", TEXT),
        optional("region", TEXT),
        column("kind", TEXT).or(Initial::Text("shared")),
        column("pooler_mode", TEXT).or(Initial::Text("auto")),
        optional("direct_url", TEXT),
        column("max_connections", Shape::Integer { bits: 32 }).or(Initial::Number(10)),
        column("settings", Shape::Json).or(Initial::Json("{}")),
        optional("notes", TEXT),
        optional("admitted_at", Shape::Timestamp),
        optional("schema_version", TEXT),
    ];
    columns.extend(timestamps());
    Table {
        name: "data_sources",
        key: "url",
        columns,
        rules: vec![
            no_login_inside("data_sources_url_check", "url"),
            one_of("data_sources_kind_check", "kind", &["shared", "dedicated", "customer"]),
            one_of("data_sources_pooler_mode_check", "pooler_mode", &["auto", "direct", "session", "transaction"]),
            no_login_inside("data_sources_direct_url_check", "direct_url"),
            Rule {
                name: "data_sources_max_connections_check",
                condition: Condition::Both("{row}max_connections >= 1".to_owned()),
            },
        ],
        indexes: vec![],
    }
}
