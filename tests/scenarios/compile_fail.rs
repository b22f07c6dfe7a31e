//! What must not compile: the two kinds of database are kept apart by types (the programs are in `tests/compile-fail/`).
//!
//! A program here that starts to compile is a way from one database into the other, or past a tenant's handle.

#[test]
fn databases_are_kept_apart_by_types() {
    trybuild::TestCases::new().compile_fail("compile-fail/*.rs");
}
