//! A random schema, its rows, and how a server spells them.

use std::fmt::Write as _;

use uuid::Uuid;

use super::rng::Rng;
use crate::transfer::world::Db;

/// What every database has besides tables.
const TYPES: &str = "CREATE TYPE \"Mood\" AS ENUM ('sad', 'it''s, \"ok\"', 'ÄÖ'); CREATE DOMAIN percent AS numeric CHECK (VALUE <> 101); \
     CREATE TYPE pair AS (\"A\" int, b text); CREATE TYPE spans AS RANGE (subtype = double precision);";

/// A type of both engines: on PostgreSQL, on SQLite, and literals of PostgreSQL, the ends of its range among them.
type Type = (&'static str, Option<&'static str>, &'static [&'static str]);

const TEXTS: &[&str] = &[
    "''",
    "'x'",
    "'ä€😀'",
    r"E'\t\n\r\\'",
    "'null'",
    r"'\N'",
    "' blank '",
    "'\"quoted\", (comma)'",
    "repeat('long', 5000)",
    "'İstanbul'",
];

const ALL: &[Type] = &[
    ("integer", Some("integer"), &["0", "-2147483648", "2147483647"]),
    ("bigint", Some("integer"), &["0", "-9223372036854775808", "9223372036854775807"]),
    ("smallint", Some("smallint"), &["-32768", "32767"]),
    ("numeric(12,2)", Some("real(12,2)"), &["0", "-0.01", "9999999999.99", "-9999999999.99", "0.10"]),
    ("text", Some("text"), TEXTS),
    ("character varying(10)", Some("varchar(10)"), &["''", "'0123456789'", "'ääääääääää'", "'x '"]),
    ("bytea", Some("blob"), &["''", r"'\x00'", r"'\xff00ff5c'", "decode(repeat('0a5c09', 20000), 'hex')"]),
    ("boolean", Some("boolean"), &["true", "false"]),
    ("date", Some("date_text"), &["'2024-02-29'", "'infinity'", "'-infinity'", "'0001-01-01'", "'9999-12-31'"]),
    ("time", Some("time_text"), &["'00:00'", "'24:00:00'", "'23:59:59.999999'"]),
    (
        "timestamptz",
        Some("timestamp_with_timezone_text"),
        &["'2024-02-29 12:00:00.000001+05:45'", "'infinity'", "'-infinity'", "'0001-01-01 00:00:00+00'"],
    ),
    ("uuid", Some("uuid_text"), &["'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"]),
    (
        "jsonb",
        Some("jsonb_text"),
        &["'null'", "'{}'", "'[1, {\"b\": [], \"a\": \"\\u00e4\"}]'", "'\"text\"'", "'-12345678901234567890'"],
    ),
    ("date", None, &["'4713-01-01 BC'", "'5874897-12-31'"]),
    ("timestamptz", None, &["'4713-01-01 00:00:00+00 BC'", "'294276-12-31 23:59:59.999999+00'"]),
    ("numeric", None, &["'NaN'", "'Infinity'", "'-Infinity'", "0.00", "1e-30", "123456789012345678901234567890.1"]),
    ("double precision", None, &["'NaN'", "'Infinity'", "'-0'", "0.1", "1e308", "'4.9e-324'"]),
    ("real", None, &["'NaN'", "'-Infinity'", "0.1", "3.4e38"]),
    ("timestamp", None, &["'infinity'", "'0044-03-15 12:00:00 BC'", "'2024-10-27 02:30:00.123456'"]),
    ("timetz", None, &["'24:00:00-12'", "'12:00:00.5+05:45'"]),
    ("interval", None, &["'1 mon -3 days 00:00:00.000001'", "'-178000000 years'", "'0'"]),
    ("json", None, &["'{ \"b\": 1.0, \"b\": 2 }'", "'null'"]),
    ("char(5)", None, &["'ab'", "''"]),
    ("integer[]", None, &["'{}'", "'{1,NULL,3}'", "'[0:1][-1:0]={{1,2},{3,4}}'"]),
    ("text[]", None, &["ARRAY['', 'null', NULL, E'a\\\\\"b']", "'{}'"]),
    ("\"Mood\"", None, &["'sad'", "'it''s, \"ok\"'", "'ÄÖ'"]),
    ("\"Mood\"[]", None, &["ARRAY['ÄÖ', NULL]::\"Mood\"[]"]),
    ("percent", None, &["0", "99.5", "'NaN'"]),
    ("pair", None, &["ROW(1, 'a,\"b')", "ROW(NULL, NULL)", "ROW(0, '')"]),
    ("pair[]", None, &["ARRAY[ROW(1, NULL)::pair, NULL]"]),
    ("tstzrange", None, &["'empty'", "'[2024-01-01,infinity)'", "'(,)'"]),
    ("spans", None, &["'[-Infinity,0.1)'", "'empty'"]),
    ("int4multirange", None, &["'{}'", "'{[1,3),[5,)}'"]),
    ("inet", None, &["'10.0.0.1/8'", "'::1'"]),
    ("macaddr", None, &["'08:00:2b:01:02:03'"]),
    ("bit varying", None, &["''", "B'101'"]),
    ("point", None, &["'(1,-0)'", "'(NaN,Infinity)'"]),
    ("tsvector", None, &["'a:1A b:2'", "''"]),
    ("xml", None, &["'<a>ä</a>'"]),
    ("money", None, &["'-92233720368547758.08'", "'0.10'"]),
    ("pg_lsn", None, &["'0/0'", "'FFFFFFFF/FFFFFFFF'"]),
];

/// Names that need quotes or would be something else without them.
const NAMES: &[&str] = &["items", "Order Items", "select", "Ünï", "a\"b", "user", "x.y", "it's", "%s"];

#[derive(Clone, Copy, PartialEq)]
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

#[derive(Clone)]
struct Table {
    number: usize,
    name: String,
    key: Type,
    /// The key has a second column.
    two: bool,
    layout: Layout,
    columns: Vec<(String, Type)>,
    references: Vec<Reference>,
    identity: Option<&'static str>,
    computed: bool,
    rows: usize,
}

#[derive(Clone)]
pub(super) struct Schema {
    portable: bool,
    tables: Vec<Table>,
}

impl Schema {
    pub(super) fn random(rng: &mut Rng, way: &str) -> Self {
        let portable = way == "sqlite";
        let types: Vec<Type> = ALL.iter().filter(|of| !portable || of.1.is_some()).copied().collect();
        let keys: [Type; 4] = [ALL[0], ALL[1], ALL[4], ALL[11]];
        let count = 1 + rng.below(6);
        let tables = (0..count).map(|number| {
            let layout = match portable || rng.chance(2) {
                true => Layout::Plain,
                false => *rng.one_of(&[Layout::ByHash, Layout::ByList, Layout::ByRange]),
            };
            let columns =
                (0..rng.below(6)).map(|column| (format!("{} {column}", rng.one_of(NAMES)), *rng.one_of(&types)));
            let columns = columns.collect();
            let references =
                (0..rng.below(3)).map(|_| Reference { parent: rng.below(count), deferrable: rng.chance(3) });
            let references = references.collect();
            Table {
                number,
                name: format!("{} {number}", rng.one_of(NAMES)),
                key: *rng.one_of(&keys),
                two: matches!(layout, Layout::ByList | Layout::ByRange) || rng.chance(3),
                layout,
                columns,
                references,
                // A partitioned table has none before PostgreSQL 17.
                identity: (!portable && layout == Layout::Plain && rng.chance(3))
                    .then(|| *rng.one_of(&["ALWAYS", "BY DEFAULT"])),
                computed: !portable && rng.chance(4),
                rows: *rng.one_of(&[0, 1, 3, 20]),
            }
        });
        Self { portable, tables: tables.collect() }
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
            }
            for reference in 0..self.tables[at].references.len() {
                change(&mut |table| {
                    table.references.remove(reference);
                    true
                });
            }
            change(&mut |table| std::mem::take(&mut table.computed));
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
        self.create(false)
    }

    /// Its tables on PostgreSQL; turned about, in another order and with a column more, which is no reason not to move.
    pub(super) fn create(&self, turned: bool) -> String {
        let mut sql = if self.portable { String::new() } else { TYPES.to_owned() };
        for table in &self.tables {
            let mut columns = table.declared(self, false);
            if turned {
                columns.reverse();
                columns.push("\"Only here\" text DEFAULT 'default'".to_owned());
            }
            if table.computed {
                columns.push("\"Sum\" int GENERATED ALWAYS AS (length(\"Base\") * 2) STORED, \"Base\" text".to_owned());
            }
            if let Some(identity) = table.identity {
                columns.push(format!("\"No\" bigint GENERATED {identity} AS IDENTITY"));
            }
            let partition = match table.layout {
                Layout::Plain => "",
                Layout::ByHash => " PARTITION BY HASH (tenant_id)",
                Layout::ByList => " PARTITION BY LIST (\"Second\")",
                Layout::ByRange => " PARTITION BY RANGE (\"Second\")",
            };
            let (name, columns, key) = (table.quoted(), columns.join(", "), table.key_columns());
            let _ = writeln!(sql, "CREATE TABLE {name} ({columns}, PRIMARY KEY ({key})){partition};");
            let number = table.number;
            let partitions: &[&str] = match table.layout {
                Layout::Plain => &[],
                Layout::ByHash => {
                    &["FOR VALUES WITH (MODULUS 2, REMAINDER 0)", "FOR VALUES WITH (MODULUS 2, REMAINDER 1)"]
                }
                Layout::ByList => &["FOR VALUES IN (0, 1)", "DEFAULT"],
                Layout::ByRange => &["FOR VALUES FROM (MINVALUE) TO (2)", "FOR VALUES FROM (2) TO (MAXVALUE)"],
            };
            for (index, bounds) in partitions.iter().enumerate() {
                let _ = writeln!(sql, "CREATE TABLE part_{number}_{index} PARTITION OF {name} {bounds};");
            }
        }
        for table in &self.tables {
            for (index, reference) in table.references.iter().enumerate() {
                let constraint = table.constraint(self, index);
                let deferrable = if reference.deferrable { " DEFERRABLE INITIALLY DEFERRED" } else { "" };
                let _ = writeln!(sql, "ALTER TABLE {} ADD {constraint}{deferrable};", table.quoted());
            }
        }
        sql
    }

    /// Its tables on SQLite.
    pub(super) fn create_in_file(&self) -> String {
        let mut sql = String::new();
        for table in &self.tables {
            let mut parts = table.declared(self, true);
            parts.push(format!("PRIMARY KEY ({})", table.key_columns()));
            parts.extend((0..table.references.len()).map(|index| table.constraint(self, index)));
            let _ = writeln!(sql, "CREATE TABLE {} ({});", table.quoted(), parts.join(", "));
        }
        sql
    }

    /// Rows of a tenant, on PostgreSQL.
    pub(super) fn fill(&self, tenant: Uuid, rng: &mut Rng) -> String {
        let mut sql = String::new();
        for table in &self.tables {
            let mut names = vec!["tenant_id".to_owned(), "\"Key\"".to_owned()];
            names.extend(table.two.then(|| "\"Second\"".to_owned()));
            names.extend(table.columns.iter().map(|(name, _)| quoted(name)));
            names.extend(table.computed.then(|| "\"Base\"".to_owned()));
            for row in 0..table.rows {
                let mut values = vec![format!("'{tenant}'"), table.key_value(row, tenant)];
                values.extend(table.two.then(|| (row % 4).to_string()));
                for (_, of) in &table.columns {
                    let literal = rng.one_of(of.2);
                    values.push(if rng.chance(4) { "NULL".to_owned() } else { format!("({literal})::{}", of.0) });
                }
                values.extend(table.computed.then(|| (*rng.one_of(TEXTS)).to_owned()));
                let _ = writeln!(
                    sql,
                    "INSERT INTO {} ({}) VALUES ({});",
                    table.quoted(),
                    names.join(", "),
                    values.join(", ")
                );
            }
        }
        // References last: whatever they refer to is there by then.
        for table in &self.tables {
            for (index, reference) in table.references.iter().enumerate() {
                let parent = &self.tables[reference.parent];
                for row in 0..table.rows {
                    if parent.rows == 0 || rng.chance(4) {
                        continue;
                    }
                    let to = rng.below(parent.rows);
                    let mut set = format!("\"Ref {index}\" = {}", parent.key_value(to, tenant));
                    if parent.two {
                        let _ = write!(set, ", \"Ref {index} b\" = {}", to % 4);
                    }
                    let key = table.key_value(row, tenant);
                    let _ = writeln!(
                        sql,
                        "UPDATE {} SET {set} WHERE tenant_id = '{tenant}' AND \"Key\" = {key};",
                        table.quoted()
                    );
                }
            }
        }
        sql
    }

    /// Every row of a tenant but its id, as the server spells it; the same columns in the same order, wherever they are.
    pub(super) async fn rows(&self, db: &Db, tenant: Uuid) -> Vec<String> {
        let mut rows = Vec::new();
        for table in &self.tables {
            let names = table.compared().join(", ");
            let name = format!("{}: ", table.name.replace('\'', "''"));
            let (from, filter) = (table.quoted(), format!("tenant_id = '{tenant}'"));
            let sql = format!("SELECT '{name}' || ROW({names}, 0)::text AS t FROM {from} WHERE {filter}");
            let mut found = db.texts(&sql).await;
            found.sort();
            rows.extend(found);
        }
        rows
    }

    /// Rows that are added later get numbers of their own.
    pub(super) async fn can_go_on(&self, db: &Db, tenant: Uuid, rng: &mut Rng) {
        for table in self.tables.iter().filter(|table| table.identity.is_some()) {
            let key = match table.key.0 {
                "integer" | "bigint" => "123456".to_owned(),
                "uuid" => format!("'{}'", rng.uuid()),
                _ => "'new'".to_owned(),
            };
            let second = if table.two { (", \"Second\"", ", 0") } else { ("", "") };
            let insert = format!(
                "INSERT INTO {} (tenant_id, \"Key\"{}) VALUES ('{tenant}', {key}{})",
                table.quoted(),
                second.0,
                second.1
            );
            db.execute(&insert).await;
            let twice = format!(
                "SELECT \"No\"::text AS t FROM {} WHERE tenant_id = '{tenant}' GROUP BY \"No\" HAVING count(*) > 1",
                table.quoted()
            );
            assert_eq!(db.texts(&twice).await, [] as [String; 0], "{}: a number was given twice", table.name);
            db.execute(&format!("DELETE FROM {} WHERE tenant_id = '{tenant}' AND \"Key\" = {key}", table.quoted()))
                .await;
        }
    }

    /// Takes one row away that nothing refers to, and says from where. `once` is whose keys the tenant's rows were given.
    pub(super) async fn lose_one(&self, db: &Db, tenant: Uuid, once: Uuid) -> Option<String> {
        let is_parent =
            |at: usize| self.tables.iter().any(|table| table.references.iter().any(|reference| reference.parent == at));
        let (_, table) = self.tables.iter().enumerate().find(|(at, table)| table.rows > 0 && !is_parent(*at))?;
        let key = table.key_value(0, once);
        db.execute(&format!("DELETE FROM {} WHERE tenant_id = '{tenant}' AND \"Key\" = {key}", table.quoted())).await;
        Some(table.name.clone())
    }
}

impl Table {
    fn quoted(&self) -> String {
        quoted(&self.name)
    }

    fn key_columns(&self) -> &'static str {
        if self.two { "tenant_id, \"Key\", \"Second\"" } else { "tenant_id, \"Key\"" }
    }

    /// The tenant column, the key, the columns and the references.
    fn declared(&self, schema: &Schema, in_file: bool) -> Vec<String> {
        let of = |of: Type| if in_file { of.1.unwrap() } else { of.0 };
        let mut declared =
            vec![format!("tenant_id {} NOT NULL", of(ALL[11])), format!("\"Key\" {} NOT NULL", of(self.key))];
        declared.extend(self.two.then(|| "\"Second\" integer NOT NULL".to_owned()));
        declared.extend(self.columns.iter().map(|(name, kind)| format!("{} {}", quoted(name), of(*kind))));
        for (index, reference) in self.references.iter().enumerate() {
            let parent = &schema.tables[reference.parent];
            declared.push(format!("\"Ref {index}\" {}", of(parent.key)));
            declared.extend(parent.two.then(|| format!("\"Ref {index} b\" integer")));
        }
        declared
    }

    fn constraint(&self, schema: &Schema, index: usize) -> String {
        let parent = &schema.tables[self.references[index].parent];
        let second = if parent.two { format!(", \"Ref {index} b\"") } else { String::new() };
        format!(
            "FOREIGN KEY (tenant_id, \"Ref {index}\"{second}) REFERENCES {} ({})",
            parent.quoted(),
            parent.key_columns()
        )
    }

    fn compared(&self) -> Vec<String> {
        let mut names = vec!["\"Key\"".to_owned()];
        names.extend(self.two.then(|| "\"Second\"".to_owned()));
        names.extend(self.columns.iter().map(|(name, _)| quoted(name)));
        names.extend((0..self.references.len()).map(|index| format!("\"Ref {index}\"")));
        names.extend(self.computed.then(|| "\"Sum\", \"Base\"".to_owned()));
        names.extend(self.identity.map(|_| "\"No\"".to_owned()));
        names
    }

    /// The key of a tenant's row of this number: of every tenant the same, but for uuids.
    fn key_value(&self, row: usize, tenant: Uuid) -> String {
        match self.key.0 {
            "integer" | "bigint" => (row as i64 * 7 - 3).to_string(),
            "uuid" => format!("'{}'", Uuid::from_u128(tenant.as_u128().wrapping_add(row as u128 * 0x0101_0000_0001))),
            _ => format!("'{}{row}'", ["ä", "B", "_", "z", ""][row % 5]),
        }
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
