//! The legacy tables, read from the dictionaries beside this file.

use std::sync::LazyLock;

/// The three tables that later make the application database.
const APPLICATION_TABLES: &str = include_str!("application-tables.tsv");
/// The 13 tables of tenants' rows.
const BUSINESS_TABLES: &str = include_str!("business-tables.tsv");

/// A table of the legacy database.
#[derive(Debug, Clone)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// Its columns in order; the first is `id`.
    pub columns: Vec<Column>,
}

/// A column of the legacy database.
#[derive(Debug, Clone)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Whether NULL is allowed.
    pub nullable: bool,
    /// What it holds when nothing is given: `random uuid`, `now`, an SQL literal, or empty.
    pub default: &'static str,
    /// What it points at by a foreign key.
    pub references: Option<Reference>,
    /// What else its values must satisfy.
    pub check: Option<Check>,
}

/// A column's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `uuid`
    Uuid,
    /// `text`
    Text,
    /// `integer`
    Integer,
    /// `boolean`
    Boolean,
    /// `numeric(precision, 2)`
    Numeric {
        /// Digits in all.
        precision: u32,
    },
    /// `date`
    Date,
    /// `time without time zone`
    Time,
    /// `timestamp with time zone`
    Timestamp,
    /// `jsonb`
    Json,
}

/// A foreign key on one column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reference {
    /// The table that is pointed at, by its `id`.
    pub table: &'static str,
    /// `CASCADE`, `SET NULL` or `no action`.
    pub on_delete: &'static str,
}

/// A column's check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// One of these texts.
    OneOf(Vec<&'static str>),
    /// An integer from the first to the last, both included.
    Between(i32, i32),
}

/// The 13 tables of tenants' rows, parents before children.
pub fn business_tables() -> &'static [Table] {
    static TABLES: LazyLock<Vec<Table>> = LazyLock::new(|| parse(BUSINESS_TABLES));
    &TABLES
}

/// `tenants`, `users` and `audit_log`.
pub fn application_tables() -> &'static [Table] {
    static TABLES: LazyLock<Vec<Table>> = LazyLock::new(|| parse(APPLICATION_TABLES));
    &TABLES
}

/// All tables, parents before children.
pub(super) fn all_tables() -> impl Iterator<Item = &'static Table> {
    application_tables().iter().chain(business_tables())
}

impl Kind {
    fn parse(text: &str) -> Self {
        match text {
            "uuid" => Self::Uuid,
            "text" => Self::Text,
            "integer" => Self::Integer,
            "boolean" => Self::Boolean,
            "date" => Self::Date,
            "time without time zone" => Self::Time,
            "timestamp with time zone" => Self::Timestamp,
            "jsonb" => Self::Json,
            _ => {
                let precision = text.strip_prefix("numeric(").and_then(|rest| rest.strip_suffix(",2)"));
                let precision = precision.and_then(|digits| digits.parse().ok());
                Self::Numeric { precision: precision.unwrap_or_else(|| panic!("the dictionary has a type {text:?}")) }
            }
        }
    }

    /// The type in PostgreSQL's words.
    pub fn postgres(self) -> String {
        match self {
            Self::Uuid => "uuid".into(),
            Self::Text => "text".into(),
            Self::Integer => "integer".into(),
            Self::Boolean => "boolean".into(),
            Self::Numeric { precision } => format!("numeric({precision},2)"),
            Self::Date => "date".into(),
            Self::Time => "time without time zone".into(),
            Self::Timestamp => "timestamp with time zone".into(),
            Self::Json => "jsonb".into(),
        }
    }

    /// The type that SeaORM's schema builder declares on SQLite.
    pub fn sqlite(self) -> String {
        match self {
            Self::Uuid => "uuid_text".into(),
            Self::Text => "text".into(),
            Self::Integer => "integer".into(),
            Self::Boolean => "boolean".into(),
            Self::Numeric { precision } => format!("real({precision}, 2)"),
            Self::Date => "date_text".into(),
            Self::Time => "time_text".into(),
            Self::Timestamp => "timestamp_with_timezone_text".into(),
            Self::Json => "jsonb_text".into(),
        }
    }
}

impl Table {
    /// `CREATE TABLE` as the legacy application had it.
    pub(super) fn create(&self, kind: fn(Kind) -> String, defaults: [(&str, &str); 2]) -> String {
        let mut lines: Vec<String> = self.columns.iter().map(|column| column.define(kind, defaults)).collect();
        if self.name == "contact_accounts" {
            lines.push("UNIQUE (\"tenant_id\", \"contact_id\", \"account_id\")".into());
        }
        if self.name == "tenants" {
            lines.extend(["UNIQUE (\"subdomain\")".into(), "UNIQUE (\"domain\")".into()]);
        }
        format!("CREATE TABLE \"{}\" (\n  {}\n)", self.name, lines.join(",\n  "))
    }

    /// `INSERT` of one row, with a placeholder per column.
    pub(super) fn insert(&self, placeholder: impl Fn(usize, &Column) -> String) -> String {
        let names: Vec<String> = self.columns.iter().map(|column| format!("\"{}\"", column.name)).collect();
        let places: Vec<String> =
            self.columns.iter().enumerate().map(|(index, column)| placeholder(index + 1, column)).collect();
        format!("INSERT INTO \"{}\" ({}) VALUES ({})", self.name, names.join(", "), places.join(", "))
    }
}

impl Column {
    fn define(&self, kind: fn(Kind) -> String, defaults: [(&str, &str); 2]) -> String {
        let mut definition = format!("\"{}\" {}", self.name, kind(self.kind));
        if !self.nullable {
            definition.push_str(" NOT NULL");
        }
        if self.name == "id" {
            definition.push_str(" PRIMARY KEY");
        }
        let default = defaults.iter().find(|(word, _)| *word == self.default).map_or(self.default, |(_, sql)| sql);
        if !default.is_empty() {
            definition.push_str(&format!(" DEFAULT {default}"));
        }
        if let Some(Reference { table, on_delete }) = self.references {
            definition.push_str(&format!(" REFERENCES \"{table}\" (\"id\") ON DELETE {}", on_delete.to_uppercase()));
        }
        match &self.check {
            Some(Check::OneOf(values)) => {
                definition.push_str(&format!(" CHECK (\"{}\" IN ('{}'))", self.name, values.join("', '")));
            }
            Some(Check::Between(first, last)) => {
                definition.push_str(&format!(" CHECK (\"{}\" BETWEEN {first} AND {last})", self.name));
            }
            None => {}
        }
        definition
    }

    fn parse(fields: &[&'static str]) -> Self {
        let &[_, name, kind, nullable, default, references, check] = fields else {
            panic!("the dictionary has a line of {} fields: {fields:?}", fields.len());
        };
        let references = references.split_once(" on delete ").map(|(table, on_delete)| Reference { table, on_delete });
        let one_of = check.strip_prefix("one of ").map(|values| Check::OneOf(values.split(" | ").collect()));
        let between = check
            .split_once("..=")
            .and_then(|(first, last)| Some(Check::Between(first.parse().ok()?, last.parse().ok()?)));
        Self {
            name,
            kind: Kind::parse(kind),
            nullable: nullable == "null",
            default,
            references,
            check: one_of.or(between),
        }
    }
}

/// Lines of tab-separated fields below a heading; a table's lines are together.
fn parse(dictionary: &'static str) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    for line in dictionary.lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        let column = Column::parse(&fields);
        match tables.last_mut() {
            Some(table) if table.name == fields[0] => table.columns.push(column),
            _ => tables.push(Table { name: fields[0], columns: vec![column] }),
        }
    }
    tables
}
