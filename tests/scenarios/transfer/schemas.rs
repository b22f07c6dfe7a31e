//! What schemas have beyond tables with a uuid in front of their key: each either travels, or is refused by name before the
//! first byte.

mod checks;
mod constraints;
mod figures;
mod keys;
mod reference_tables;
mod types;
