//! Scenarios over several crates, against real servers and real files; a module per subject.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod adoption;
mod app_db;
mod attacks;
mod compile_fail;
mod connection;
mod documents;
mod http;
mod isolation;
mod isolation_matrix;
mod leases;
mod operations;
mod repository;
mod routing;
mod schema;
mod secrets;
mod split;
mod storage;
mod transfer;
mod world;
