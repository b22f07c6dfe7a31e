//! Transfers of one tenant between any two databases: whatever an application's schema has in it.

mod random;
mod schemas;
mod world;
