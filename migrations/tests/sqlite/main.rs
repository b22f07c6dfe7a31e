//! The schema on SQLite: what PostgreSQL promises as well, and what SQLite needs triggers for. The same scenarios run against
//! PostgreSQL in the workspace's `tests` package, which has the servers.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod adoption;
mod app_db;
mod database;
mod fence;
mod shapes;
mod tenant_data;
