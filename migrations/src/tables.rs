//! The names of the tables that the migrators create.

/// The tables of the application database.
pub const APP_DB_TABLES: [&str; 4] = ["tenants", "users", "audit_log", "data_sources"];

/// The 13 business tables, parents before children.
pub const BUSINESS_TABLES: [&str; 13] = [
    "accounts",
    "contacts",
    "contact_accounts",
    "leads",
    "opportunities",
    "opportunity_line_items",
    "locations",
    "events",
    "event_dates",
    "tasks",
    "notes",
    "attachments",
    "communications",
];

/// Each tenant's before/after record of its business writes; it travels with the tenant and is counted apart.
pub const WRITE_LOG: &str = "write_log";

/// The table that a connection test writes to and rolls back; not logged.
pub const ROUTING_PROBE: &str = "routing_probe";

/// SQLite: the stand-in for PostgreSQL's session settings, which both migrators create.
pub const SESSION: &str = "tenantry_session";

/// The application database's record of transfers. Its name begins as all of Tenantry's bookkeeping does, so that no application's
/// table of transfers is in its way.
pub const TRANSFERS: &str = "tenantry_transfers";
