//! Transfers of one tenant between any two databases: whatever an application's schema has in it.

mod copying;
mod ends;
mod random;
mod schemas;
mod unexplained;
mod world;
