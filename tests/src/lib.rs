//! The scenarios are in `scenarios/`. What stands here has the Rust blocks of the book compiled and run, as doc tests: this
//! package sees everything that an application may use, and every page that has such a block is named here.

/// The book's examples compile, or these do not.
#[cfg(doctest)]
#[allow(rustdoc::invalid_codeblock_attributes, reason = "`sh no-run` says it to the runner of shell blocks")]
mod book {
    #[doc = include_str!("../../docs/start.md")]
    struct Start;
    #[doc = include_str!("../../docs/concepts.md")]
    struct Concepts;
    #[doc = include_str!("../../docs/gradual-migration.md")]
    struct GradualMigration;
    #[doc = include_str!("../../docs/operators-commands.md")]
    struct OperatorsCommands;
    #[doc = include_str!("../../docs/own-tables.md")]
    struct OwnTables;
    #[doc = include_str!("../../docs/testing.md")]
    struct Testing;
    #[doc = include_str!("../../docs/http.md")]
    struct Requests;
    #[doc = include_str!("../../docs/benchmarks.md")]
    struct Benchmarks;
}
