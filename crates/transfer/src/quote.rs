//! Names and values inside SQL text: COPY takes no bound values, and identifiers never can be.

/// A quoted identifier, for both engines.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quoted identifiers, separated by commas.
pub(crate) fn identifiers<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(identifier).collect::<Vec<_>>().join(", ")
}

/// An untyped literal of PostgreSQL. The escape form means the same whatever `standard_conforming_strings` says.
pub(crate) fn postgres_literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// A text literal of SQLite.
pub(crate) fn sqlite_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_or_value_stays_inside_its_quotes() {
        assert_eq!(identifier(r#"a"; DROP TABLE b; --"#), r#""a""; DROP TABLE b; --""#);
        assert_eq!(postgres_literal(r"\'; DROP TABLE b; --"), r"E'\\\'; DROP TABLE b; --'");
        assert_eq!(sqlite_literal("x'; DROP TABLE b; --"), "'x''; DROP TABLE b; --'");
    }
}
