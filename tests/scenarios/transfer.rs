//! Transfers of one tenant between any two databases: whatever an application's schema has in it.

mod cascades;
mod copying;
mod ends;
mod faults;
mod few_rows;
mod random;
mod schemas;
mod storm;
mod under_way;
mod unexplained;
mod unrecorded;
mod waves;
mod world;
