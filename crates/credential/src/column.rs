//! The two columns that hold a sealed credential. Knows their names, not the table's entity.

use std::fmt;

/// Which of a tenant's two credentials a sealed value is. The column is part of what is authenticated, so that the
/// service credential never passes for the restricted one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CredentialColumn {
    /// `data_source_anon_key`: the restricted role's login, to which row-level security applies.
    Anon,
    /// `data_source_service_key`: the service role's login, for migrations, transfers and administration.
    Service,
}

impl CredentialColumn {
    /// Both columns, in the table's order: what a rewrap walks over.
    pub const ALL: [Self; 2] = [Self::Anon, Self::Service];

    /// The column's name in the `tenants` table. It is bound into every sealed value: renaming it closes them all.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Anon => "data_source_anon_key",
            Self::Service => "data_source_service_key",
        }
    }
}

impl fmt::Display for CredentialColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
