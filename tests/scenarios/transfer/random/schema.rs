//! A random schema: tables with what tables can have, alike in all databases and yet not the same.

mod kinds;
mod rows;

use std::{collections::BTreeMap, fmt::Write as _};

use self::kinds::{ALL, CHECKS, Type};
use super::rng::Rng;

/// What every database has besides tables.
const TYPES: &str = "CREATE TYPE \"Mood\" AS ENUM ('sad', 'it''s, \"ok\"', 'ÄÖ'); CREATE DOMAIN percent AS numeric CHECK (VALUE <> 101); \
     CREATE TYPE pair AS (\"A\" int, b text); CREATE TYPE spans AS RANGE (subtype = double precision);";

/// Names that need quotes or would be something else without them.
const NAMES: &[&str] = &["items", "Order Items", "select", "Ünï", "a\"b", "user", "x.y", "it's", "%s"];

/// Whose tables something belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As they were written down.
    Plain,
    /// In another order of columns, partitioned in another way, and with a column more.
    Turned,
    /// On SQLite.
    File,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Layout {
    Plain,
    ByHash,
    /// By the second column of the key, with a default partition.
    ByList,
    ByRange,
}

#[derive(Clone)]
struct Reference {
    parent: usize,
    deferrable: bool,
}

/// Where a rule stands. The rows meet it everywhere.
#[derive(Clone, Copy, PartialEq)]
enum Where {
    Everywhere,
    Plain,
    Turned,
    /// On SQLite only.
    File,
}

#[derive(Clone)]
struct Column {
    name: String,
    of: Type,
    not_null: Option<Where>,
    checks: Vec<(&'static str, bool, Where)>,
}

/// What is unique, of the numbers in columns of its own.
#[derive(Debug, Clone, Copy, PartialEq)]
enum UniqueKind {
    One,
    /// A constraint that is checked at the commit.
    Deferred,
    Two,
    /// An index over some of the rows.
    Partial,
    /// An index over an expression.
    Expression,
    /// Over all tenants.
    Global,
    /// Of nulls, too.
    Nulls,
    /// An index with another column beside.
    Including,
}

#[derive(Clone)]
struct Unique {
    kind: UniqueKind,
    place: Where,
}

#[derive(Clone)]
struct Table {
    number: usize,
    name: String,
    key: Type,
    /// The key has a second column.
    two: bool,
    /// Its writes are logged. Then the key is `id`, as the write log wants it.
    logged: bool,
    layout: Layout,
    turned_layout: Layout,
    columns: Vec<Column>,
    uniques: Vec<Unique>,
    references: Vec<Reference>,
    identity: Option<&'static str>,
    computed: bool,
    rows: usize,
    /// It has so many more that its copy is more than one transaction.
    bulk: bool,
}

#[derive(Clone)]
pub(super) struct Schema {
    /// What it has is known to SQLite too.
    pub(super) portable: bool,
    /// The column that only the turned tables have is one that is written. There is no way back then.
    pub(super) one_way: bool,
    /// The fence is on the tables before anything is moved.
    pub(super) fenced: bool,
    tables: Vec<Table>,
}

impl Schema {
    pub(super) fn random(rng: &mut Rng, portable: bool) -> Self {
        let types: Vec<Type> = ALL.iter().filter(|of| !portable || of.1.is_some()).copied().collect();
        let count = 1 + rng.below(6);
        let tables = (0..count).map(|number| Table::random(rng, number, count, &types, portable));
        let mut tables: Vec<Table> = tables.collect();
        if let Some(table) = tables.iter_mut().find(|table| !portable && !table.logged && table.key.0 != "uuid")
            && rng.chance(3)
        {
            table.bulk = true;
        }
        Self { portable, one_way: rng.chance(8), fenced: rng.chance(2), tables }
    }

    /// Every schema that lacks one thing of this one.
    pub(super) fn smaller(&self) -> Vec<Self> {
        let mut smaller = Vec::new();
        for at in 0..self.tables.len() {
            let mut without = self.clone();
            without.tables.remove(at);
            for table in &mut without.tables {
                table.references.retain(|reference| reference.parent != at);
                table
                    .references
                    .iter_mut()
                    .filter(|reference| reference.parent > at)
                    .for_each(|reference| reference.parent -= 1);
            }
            if !without.tables.is_empty() {
                smaller.push(without);
            }
            let mut change = |change: &mut dyn FnMut(&mut Table) -> bool| {
                let mut changed = self.clone();
                if change(&mut changed.tables[at]) {
                    smaller.push(changed);
                }
            };
            for column in 0..self.tables[at].columns.len() {
                change(&mut |table| {
                    table.columns.remove(column);
                    true
                });
                change(&mut |table| !std::mem::take(&mut table.columns[column].checks).is_empty());
                change(&mut |table| table.columns[column].not_null.take().is_some());
            }
            for unique in 0..self.tables[at].uniques.len() {
                change(&mut |table| {
                    table.uniques.remove(unique);
                    true
                });
            }
            for reference in 0..self.tables[at].references.len() {
                change(&mut |table| {
                    table.references.remove(reference);
                    true
                });
            }
            change(&mut |table| std::mem::take(&mut table.computed));
            change(&mut |table| std::mem::take(&mut table.logged));
            change(&mut |table| std::mem::take(&mut table.bulk));
            change(&mut |table| table.identity.take().is_some());
            change(&mut |table| {
                let rows = table.rows;
                table.rows = rows.min(1);
                rows > 1
            });
        }
        smaller
    }

    pub(super) fn describe(&self) -> String {
        format!("{}\nand turned:\n{}", self.create(Form::Plain), self.create(Form::Turned))
    }

    /// The tables' names, and how many rows a tenant begins with.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.tables.iter().map(|table| table.name.as_str())
    }

    /// Whether what is written to a table is in the write log, in a database of this form.
    pub(super) fn is_logged(&self, table: &str, form: Form) -> bool {
        form != Form::File && self.tables.iter().any(|found| found.name == table && found.logged)
    }

    /// Its tables.
    pub(super) fn create(&self, form: Form) -> String {
        let mut sql = String::new();
        if !self.portable {
            sql.push_str(TYPES);
        }
        for table in &self.tables {
            table.create(self, form, &mut sql);
        }
        for table in &self.tables {
            // SQLite takes them with the table only.
            for index in (0..table.references.len()).filter(|_| form != Form::File) {
                let _ = writeln!(sql, "ALTER TABLE {} ADD {};", table.quoted(), table.foreign_key(self, index));
            }
            table.more(form, &mut sql);
            if self.fenced {
                let backend = match form {
                    Form::File => sea_orm::DbBackend::Sqlite,
                    Form::Plain | Form::Turned => sea_orm::DbBackend::Postgres,
                };
                let name = if form == Form::File { table.name.clone() } else { format!("public.{}", table.name) };
                let attach = tenantry_migrations::fence::attach_sql(backend, &name, "tenant_id").unwrap();
                let _ = writeln!(sql, "{attach};");
            }
        }
        sql
    }
}

impl Where {
    fn random(rng: &mut Rng) -> Self {
        *rng.one_of(&[Self::Everywhere, Self::Everywhere, Self::Plain, Self::Turned])
    }

    fn is(self, form: Form) -> bool {
        match self {
            Self::Everywhere => true,
            Self::Plain => form == Form::Plain,
            Self::Turned => form == Form::Turned,
            Self::File => form == Form::File,
        }
    }
}

impl Column {
    fn random(rng: &mut Rng, number: usize, types: &[Type], portable: bool) -> Self {
        let (name, of) = (format!("{} {number}", rng.one_of(NAMES)), *rng.one_of(types));
        let fitting: Vec<_> = CHECKS.iter().filter(|check| check.0 == of.0).collect();
        let mut checks = Vec::new();
        if !fitting.is_empty() && rng.chance(2) {
            let check = rng.one_of(&fitting);
            let only_in_files = portable && check.2 && rng.chance(3);
            let place = if only_in_files { Where::File } else { Where::random(rng) };
            checks.push((check.1, check.2, place));
        }
        // A value that only some of the columns of this type on SQLite can hold is not looked for there.
        let not_null = (!portable && rng.chance(4)).then(|| Where::random(rng));
        Self { name, of, not_null, checks }
    }
}

impl Table {
    fn random(rng: &mut Rng, number: usize, tables: usize, types: &[Type], portable: bool) -> Self {
        let keys: [Type; 4] = [ALL[0], ALL[1], ALL[4], ALL[11]];
        let layout = match portable || rng.chance(2) {
            true => Layout::Plain,
            false => *rng.one_of(&[Layout::ByHash, Layout::ByList, Layout::ByRange]),
        };
        let two = matches!(layout, Layout::ByList | Layout::ByRange) || rng.chance(3);
        let layouts = [Layout::Plain, Layout::ByHash, Layout::ByList, Layout::ByRange];
        let turned_layout = match portable || rng.chance(2) {
            true => layout,
            false => layouts[rng.below(if two { 4 } else { 2 })],
        };
        let plain = layout == Layout::Plain && turned_layout == Layout::Plain;
        let columns = (0..rng.below(6)).map(|column| Column::random(rng, column, types, portable)).collect();
        let kinds: &[UniqueKind] = &[
            UniqueKind::One,
            UniqueKind::Deferred,
            UniqueKind::Two,
            UniqueKind::Partial,
            UniqueKind::Expression,
            UniqueKind::Including,
            UniqueKind::Nulls,
            UniqueKind::Global,
        ];
        let kinds = if plain { kinds } else { &kinds[..kinds.len() - 1] };
        let uniques = (0..rng.below(3)).map(|_| Unique { kind: *rng.one_of(kinds), place: Where::random(rng) });
        let uniques = uniques.collect();
        let references = (0..rng.below(3)).map(|_| Reference { parent: rng.below(tables), deferrable: rng.chance(3) });
        let references = references.collect();
        Self {
            number,
            name: format!("{} {number}", rng.one_of(NAMES)),
            key: *rng.one_of(&keys),
            two,
            // A partition's entries would name the partition.
            logged: plain && !two && rng.chance(2),
            layout,
            turned_layout,
            columns,
            uniques,
            references,
            // A partitioned table has none before PostgreSQL 17.
            identity: (!portable && plain && rng.chance(3)).then(|| *rng.one_of(&["ALWAYS", "BY DEFAULT"])),
            computed: !portable && rng.chance(4),
            rows: *rng.one_of(&[0, 1, 3, 20]),
            bulk: false,
        }
    }

    fn quoted(&self) -> String {
        quoted(&self.name)
    }

    fn layout(&self, form: Form) -> Layout {
        if form == Form::Turned { self.turned_layout } else { self.layout }
    }

    fn key_name(&self) -> &'static str {
        if self.logged { "id" } else { "\"Key\"" }
    }

    fn key_columns(&self) -> String {
        format!("tenant_id, {}{}", self.key_name(), if self.two { ", \"Second\"" } else { "" })
    }

    fn create(&self, schema: &Schema, form: Form, sql: &mut String) {
        let mut parts = self.declared(schema, form);
        match form {
            Form::Plain => {}
            Form::Turned => {
                parts.reverse();
                let value =
                    if schema.one_way { "DEFAULT 'written'" } else { "GENERATED ALWAYS AS ('computed') STORED" };
                parts.push(format!("\"Only here\" text {value}"));
            }
            Form::File => {}
        }
        if self.computed {
            parts.push("\"Sum\" int GENERATED ALWAYS AS (length(\"Base\") * 2) STORED, \"Base\" text".to_owned());
        }
        if let Some(identity) = self.identity {
            parts.push(format!("\"No\" bigint GENERATED {identity} AS IDENTITY"));
        }
        parts.push(format!("PRIMARY KEY ({})", self.key_columns()));
        for column in &self.columns {
            let checks =
                column.checks.iter().filter(|(_, portable, at)| at.is(form) && (*portable || form != Form::File));
            parts.extend(checks.map(|(check, ..)| format!("CHECK ({})", check.replace("{}", &quoted(&column.name)))));
        }
        if form == Form::File {
            parts.extend((0..self.references.len()).map(|index| self.foreign_key(schema, index)));
        }
        let (name, layout) = (self.quoted(), self.layout(form));
        let (partition, partitions): (&str, &[&str]) = match layout {
            Layout::Plain => ("", &[]),
            Layout::ByHash => (
                " PARTITION BY HASH (tenant_id)",
                &["FOR VALUES WITH (MODULUS 2, REMAINDER 0)", "FOR VALUES WITH (MODULUS 2, REMAINDER 1)"],
            ),
            Layout::ByList => (" PARTITION BY LIST (\"Second\")", &["FOR VALUES IN (0, 1)", "DEFAULT"]),
            Layout::ByRange => (
                " PARTITION BY RANGE (\"Second\")",
                &["FOR VALUES FROM (MINVALUE) TO (2)", "FOR VALUES FROM (2) TO (MAXVALUE)"],
            ),
        };
        let _ = writeln!(sql, "CREATE TABLE {name} ({}){partition};", parts.join(", "));
        for (index, bounds) in partitions.iter().enumerate() {
            let _ = writeln!(sql, "CREATE TABLE part_{}_{index} PARTITION OF {name} {bounds};", self.number);
        }
    }

    /// What is unique, and the log.
    fn more(&self, form: Form, sql: &mut String) {
        let (name, file) = (self.quoted(), form == Form::File);
        let second = matches!(self.layout(form), Layout::ByList | Layout::ByRange);
        let mine = if second { "tenant_id, \"Second\"" } else { "tenant_id" };
        for (number, unique) in self.uniques.iter().enumerate().filter(|(_, unique)| unique.place.is(form)) {
            let (value, other) = (format!("\"U{number}\""), format!("\"U{number} b\""));
            let nulls = if file { "" } else { " NULLS NOT DISTINCT" };
            let (columns, rest) = match unique.kind {
                UniqueKind::One | UniqueKind::Deferred => (format!("{mine}, {value}"), String::new()),
                UniqueKind::Two => (format!("{value}, {mine}, {other}"), String::new()),
                UniqueKind::Partial => (format!("{mine}, {value}"), format!(" WHERE {other} > 0")),
                UniqueKind::Expression => (format!("{mine}, abs({value})"), String::new()),
                UniqueKind::Global => (value, String::new()),
                UniqueKind::Nulls => (format!("{mine}, {value}"), nulls.to_owned()),
                UniqueKind::Including if file => (format!("{mine}, {value}"), String::new()),
                UniqueKind::Including => (format!("{mine}, {value}"), format!(" INCLUDE ({})", self.key_name())),
            };
            let _ = match unique.kind {
                UniqueKind::Deferred if !file => {
                    writeln!(sql, "ALTER TABLE {name} ADD UNIQUE ({columns}) DEFERRABLE INITIALLY DEFERRED;")
                }
                UniqueKind::Two if !file => writeln!(sql, "ALTER TABLE {name} ADD UNIQUE ({columns});"),
                _ => {
                    let table = self.number;
                    writeln!(sql, "CREATE UNIQUE INDEX unique_{table}_{number} ON {name} ({columns}){rest};")
                }
            };
        }
        if self.logged && !file {
            let _ = writeln!(
                sql,
                "CREATE TRIGGER tenantry_write_log AFTER INSERT OR UPDATE OR DELETE ON {name} FOR EACH ROW WHEN \
                 (pg_catalog.current_setting('tenantry.transfer', true) IS DISTINCT FROM 'on' OR NOT tenantry.is_service()) \
                 EXECUTE FUNCTION tenantry.write_log();"
            );
        }
    }

    /// The tenant column, the key, the columns and the references.
    fn declared(&self, schema: &Schema, form: Form) -> Vec<String> {
        let of = |of: Type| if form == Form::File { of.1.unwrap() } else { of.0 };
        let mut declared = vec![
            format!("tenant_id {} NOT NULL", of(ALL[11])),
            format!("{} {} NOT NULL", self.key_name(), of(self.key)),
        ];
        declared.extend(self.two.then(|| "\"Second\" integer NOT NULL".to_owned()));
        for column in &self.columns {
            let not_null = if column.not_null.is_some_and(|at| at.is(form)) { " NOT NULL" } else { "" };
            declared.push(format!("{} {}{not_null}", quoted(&column.name), of(column.of)));
        }
        for number in 0..self.uniques.len() {
            declared.extend([format!("\"U{number}\" integer"), format!("\"U{number} b\" integer")]);
        }
        for (index, reference) in self.references.iter().enumerate() {
            let parent = &schema.tables[reference.parent];
            declared.push(format!("\"Ref {index}\" {}", of(parent.key)));
            declared.extend(parent.two.then(|| format!("\"Ref {index} b\" integer")));
        }
        declared
    }

    fn foreign_key(&self, schema: &Schema, index: usize) -> String {
        let reference = &self.references[index];
        let parent = &schema.tables[reference.parent];
        let second = if parent.two { format!(", \"Ref {index} b\"") } else { String::new() };
        let deferrable = if reference.deferrable { " DEFERRABLE INITIALLY DEFERRED" } else { "" };
        format!(
            "FOREIGN KEY (tenant_id, \"Ref {index}\"{second}) REFERENCES {} ({}){deferrable}",
            parent.quoted(),
            parent.key_columns()
        )
    }

    fn compared(&self, schema: &Schema) -> Vec<String> {
        let mut names = vec![self.key_name().to_owned()];
        names.extend(self.two.then(|| "\"Second\"".to_owned()));
        names.extend(self.columns.iter().map(|column| quoted(&column.name)));
        names.extend((0..self.uniques.len()).flat_map(|number| [format!("\"U{number}\""), format!("\"U{number} b\"")]));
        for (index, reference) in self.references.iter().enumerate() {
            names.push(format!("\"Ref {index}\""));
            names.extend(schema.tables[reference.parent].two.then(|| format!("\"Ref {index} b\"")));
        }
        names.extend(self.computed.then_some(["\"Sum\"", "\"Base\""]).into_iter().flatten().map(str::to_owned));
        names.extend(self.identity.map(|_| "\"No\"".to_owned()));
        names
    }
}

/// Which of these lines begin with each table's name.
pub(super) fn by_table<'r>(schema: &'r Schema, rows: &'r [String]) -> BTreeMap<&'r str, Vec<&'r str>> {
    let of = |name: &str| -> Vec<&'r str> {
        let head = format!("{name}: ");
        rows.iter().filter_map(|row| row.strip_prefix(head.as_str())).collect()
    };
    schema.names().map(|name| (name, of(name))).collect()
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
