//! What the tests and the demonstration run against: PostgreSQL servers and poolers that they start themselves, and
//! the single database that the CRM had before its tenants were told apart.
//!
//! This crate knows no tenant routing, no credential and no entity: what it builds is what an operator would bring.

pub mod cluster;
mod machine;
pub mod pooler;
pub mod sample;

pub use self::machine::MachineError;
