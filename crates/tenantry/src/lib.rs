//! Routes every tenant of a SaaS application to the database that holds its rows.

pub mod settings;
