//! One meaning on two engines: the same rows written through the repository to an SQLite file and to a PostgreSQL server read
//! back alike, are ordered alike and are found alike. Where the engines differ, a test here says how, and `docs/storage.md`
//! tells it to the user.

mod json;
mod log;
mod money;
mod text;
mod time;
mod unrepresentable;
mod violations;
mod world;
