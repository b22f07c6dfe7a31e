//! The rows of a random schema: how they are filled in, changed by whoever writes there, and spelled by a server.

use std::fmt::Write as _;

use uuid::Uuid;

use super::{Form, Schema, Table, UniqueKind, kinds, quoted};
use crate::transfer::{random::rng::Rng, world::Db};

/// Rows that are made at once. A copy of this many is several transactions.
const BULK: usize = 20_000;

/// Something that is written to a tenant's rows, in words of both engines.
pub(in crate::transfer::random) struct Change {
    /// The table that is written to.
    pub(in crate::transfer::random) table: String,
    /// A row that was there may be another afterwards, or gone.
    pub(in crate::transfer::random) overwrites: bool,
    set: Set,
    at: usize,
    row: usize,
}

enum Set {
    /// A column becomes what it is in another row.
    Like(usize, usize),
    Null(usize),
    /// One of its type's values, which only PostgreSQL can read.
    Value(usize, &'static str),
    /// A number that no row had.
    Fresh(usize, usize),
    Refers(usize, Option<usize>),
    New(usize),
    Gone,
}

impl Schema {
    /// Rows of a tenant, on PostgreSQL; `owner` is who moves, and may have many.
    pub(in crate::transfer::random) fn fill(&self, tenant: Uuid, owner: bool, rng: &mut Rng) -> String {
        let mut sql = String::new();
        for table in &self.tables {
            for row in 0..table.rows {
                let mut cells = table.cells(row, tenant, (tenant, Form::Plain));
                for column in &table.columns {
                    let literal = rng.one_of(column.of.2);
                    let null = column.not_null.is_none() && rng.chance(4);
                    let value = if null { "NULL".to_owned() } else { format!("({literal})::{}", column.of.0) };
                    cells.push((quoted(&column.name), value));
                }
                for (number, unique) in table.uniques.iter().enumerate() {
                    let (value, other) = unique.kind.values(row, tenant, rng);
                    let text = |value: Option<i64>| value.map_or("NULL".to_owned(), |value| value.to_string());
                    cells.extend([(format!("\"U{number}\""), text(value)), (format!("\"U{number} b\""), text(other))]);
                }
                if table.computed {
                    cells.push(("\"Base\"".to_owned(), (*rng.one_of(kinds::TEXTS)).to_owned()));
                }
                let _ = writeln!(sql, "{};", table.insert(cells));
            }
        }
        for table in self.tables.iter().filter(|table| table.bulk && owner) {
            let _ = writeln!(sql, "{};", table.bulk(tenant));
        }
        // References last: whatever they refer to is there by then.
        for (at, table) in self.tables.iter().enumerate() {
            for (index, reference) in table.references.iter().enumerate() {
                let parent = &self.tables[reference.parent];
                for row in 0..table.rows {
                    if parent.rows == 0 || rng.chance(4) {
                        continue;
                    }
                    let set = Set::Refers(index, Some(rng.below(parent.rows)));
                    let change = Change { table: table.name.clone(), overwrites: true, set, at, row };
                    let _ = writeln!(sql, "{};", self.statement(&change, tenant, (tenant, Form::Plain)));
                }
            }
        }
        sql
    }

    /// What somebody writes there next; nothing, where no table has a row. `fresh` is a number that was not drawn before.
    pub(in crate::transfer::random) fn change(&self, rng: &mut Rng, form: Form, fresh: usize) -> Option<Change> {
        let at = rng.below(self.tables.len());
        let table = &self.tables[at];
        let column = |rng: &mut Rng| (!table.columns.is_empty()).then(|| rng.below(table.columns.len()));
        let set = match rng.below(7) {
            // There are values that a file cannot be asked to make.
            6 if form != Form::File || table.columns.iter().all(|column| column.not_null.is_none()) => Set::New(fresh),
            _ if table.rows == 0 => return None,
            0 => Set::Gone,
            1 => Set::Null(column(rng).filter(|&column| table.columns[column].not_null.is_none())?),
            2 if form != Form::File => {
                let column = column(rng)?;
                let values = table.columns[column].of.2;
                Set::Value(column, values[rng.below(values.len())])
            }
            3 if !table.uniques.is_empty() => Set::Fresh(rng.below(table.uniques.len()), fresh),
            4 if !table.references.is_empty() => {
                let index = rng.below(table.references.len());
                let rows = self.tables[table.references[index].parent].rows;
                Set::Refers(index, (rows > 0 && !rng.chance(3)).then(|| rng.below(rows)))
            }
            _ => Set::Like(column(rng)?, rng.below(table.rows)),
        };
        let overwrites = !matches!(set, Set::New(_));
        let row = rng.below(table.rows.max(1));
        Some(Change { table: table.name.clone(), overwrites, set, at, row })
    }

    /// The same as a statement that is refused nowhere. `once` is whose keys the tenant's rows were given.
    pub(in crate::transfer::random) fn statement(&self, change: &Change, once: Uuid, place: (Uuid, Form)) -> String {
        let table = &self.tables[change.at];
        let name = table.quoted();
        let row = |row: usize| table.found(row, once, place);
        let set = match change.set {
            Set::Like(column, other) => {
                let column = quoted(&table.columns[column].name);
                format!("{column} = coalesce((SELECT {column} FROM {name} WHERE {}), {column})", row(other))
            }
            Set::Null(column) => format!("{} = NULL", quoted(&table.columns[column].name)),
            Set::Value(column, value) => {
                let column = &table.columns[column];
                format!("{} = ({value})::{}", quoted(&column.name), column.of.0)
            }
            Set::Fresh(unique, fresh) => format!("\"U{unique}\" = {}", table.fresh(unique, fresh, once)),
            Set::Refers(index, to) => {
                let parent = &self.tables[table.references[index].parent];
                let second = |value: String| {
                    if parent.two { format!(", \"Ref {index} b\" = {value}") } else { String::new() }
                };
                let Some(to) = to else {
                    let null = second("NULL".to_owned());
                    return format!("UPDATE {name} SET \"Ref {index}\" = NULL{null} WHERE {}", row(change.row));
                };
                let (key, other) = (parent.key_value(to, once, place.1), second((to % 4).to_string()));
                let there =
                    format!("EXISTS (SELECT 1 FROM {} WHERE {})", parent.quoted(), parent.found(to, once, place));
                return format!(
                    "UPDATE {name} SET \"Ref {index}\" = {key}{other} WHERE {} AND {there}",
                    row(change.row)
                );
            }
            Set::New(fresh) => return self.new_row(change.at, fresh, once, place),
            Set::Gone => return self.gone(change.at, change.row, once, place),
        };
        format!("UPDATE {name} SET {set} WHERE {}", row(change.row))
    }

    /// A row that was not there, of the table of this place.
    fn new_row(&self, at: usize, fresh: usize, once: Uuid, place: (Uuid, Form)) -> String {
        let table = &self.tables[at];
        let mut cells = table.cells(table.rows + fresh, once, place);
        for column in table.columns.iter().filter(|column| column.not_null.is_some()) {
            cells.push((quoted(&column.name), format!("({})::{}", column.of.2[0], column.of.0)));
        }
        for unique in 0..table.uniques.len() {
            cells.push((format!("\"U{unique}\""), table.fresh(unique, fresh, once)));
        }
        table.insert(cells)
    }

    /// Deletes a row that nothing refers to.
    fn gone(&self, at: usize, row: usize, once: Uuid, place: (Uuid, Form)) -> String {
        let table = &self.tables[at];
        let mut sql = format!("DELETE FROM {} WHERE {}", table.quoted(), table.found(row, once, place));
        for child in &self.tables {
            for index in (0..child.references.len()).filter(|&index| child.references[index].parent == at) {
                let mut condition = format!("\"Ref {index}\" = {}", table.key_value(row, once, place.1));
                if table.two {
                    let _ = write!(condition, " AND \"Ref {index} b\" = {}", row % 4);
                }
                let (child, tenant) = (child.quoted(), uuid(place.0, place.1));
                let _ = write!(
                    sql,
                    " AND NOT EXISTS (SELECT 1 FROM {child} AS c WHERE c.tenant_id = {tenant} AND {condition})"
                );
            }
        }
        sql
    }

    /// Every row of a tenant but its id, as the server spells it; the same columns in the same order, wherever they are.
    pub(in crate::transfer::random) async fn rows(&self, db: &Db, (tenant, form): (Uuid, Form)) -> Vec<String> {
        let parts = self.tables.iter().map(|table| {
            let (names, from) = (table.compared(self), table.quoted());
            let row = match form {
                Form::File => {
                    let quoted = names.iter().map(|name| format!("quote({name})"));
                    quoted.collect::<Vec<_>>().join(" || ',' || ")
                }
                Form::Plain | Form::Turned => format!("ROW({}, 0)::text", names.join(", ")),
            };
            let (name, tenant) = (table.name.replace('\'', "''"), uuid(tenant, form));
            if !table.bulk {
                return format!("SELECT '{name}: ' || {row} AS t FROM {from} WHERE tenant_id = {tenant}");
            }
            // Many are one line.
            let (one, many) = (table.is_bulk("NOT"), table.is_bulk(""));
            format!(
                "SELECT '{name}: ' || {row} AS t FROM {from} WHERE tenant_id = {tenant} AND {one} UNION ALL \
                 SELECT '{name}: ' || count(*) || ' ' || coalesce(md5(string_agg({row}, ',' ORDER BY {row})), '') \
                 FROM {from} WHERE tenant_id = {tenant} AND {many} HAVING count(*) > 0"
            )
        });
        let mut rows = db.texts(&parts.collect::<Vec<_>>().join(" UNION ALL ")).await;
        rows.sort();
        rows
    }

    /// An insert into each table, by its name.
    pub(in crate::transfer::random) fn trials(
        &self,
        fresh: usize,
        once: Uuid,
        place: (Uuid, Form),
    ) -> impl Iterator<Item = (&str, String)> {
        let of = move |at: usize| (self.tables[at].name.as_str(), self.new_row(at, fresh, once, place));
        (0..self.tables.len()).map(of)
    }

    /// Rows that are added later get numbers of their own. Adds one to each table that counts, and takes it away again.
    pub(in crate::transfer::random) async fn can_go_on(&self, db: &Db, fresh: usize, once: Uuid, place: (Uuid, Form)) {
        for (at, table) in self.tables.iter().enumerate().filter(|(_, table)| table.identity.is_some()) {
            db.execute(&self.new_row(at, fresh, once, place)).await;
            let (from, tenant) = (table.quoted(), place.0);
            let twice = format!(
                "SELECT \"No\"::text AS t FROM {from} WHERE tenant_id = '{tenant}' GROUP BY \"No\" HAVING count(*) > 1"
            );
            assert_eq!(db.texts(&twice).await, [] as [String; 0], "{}: a number was given twice", table.name);
            db.execute(&self.gone(at, table.rows + fresh, once, place)).await;
        }
    }

    /// Takes one row away that nothing refers to, and says from where.
    pub(in crate::transfer::random) fn lose_one(&self, once: Uuid, place: (Uuid, Form)) -> Option<(String, String)> {
        let is_parent =
            |at: usize| self.tables.iter().any(|table| table.references.iter().any(|reference| reference.parent == at));
        let (at, table) = self.tables.iter().enumerate().find(|(at, table)| table.rows > 0 && !is_parent(*at))?;
        Some((table.name.clone(), self.gone(at, 0, once, place)))
    }
}

impl Table {
    fn insert(&self, cells: Vec<(String, String)>) -> String {
        let (names, values): (Vec<String>, Vec<String>) = cells.into_iter().unzip();
        format!("INSERT INTO {} ({}) VALUES ({})", self.quoted(), names.join(", "), values.join(", "))
    }

    /// Many rows, of which nothing is drawn.
    fn bulk(&self, tenant: Uuid) -> String {
        let mut cells = vec![("tenant_id".to_owned(), uuid(tenant, Form::Plain))];
        let key = if self.key.0 == "text" { "'bulk' || n" } else { "1000000 + n" };
        cells.push((self.key_name().to_owned(), key.to_owned()));
        cells.extend(self.two.then(|| ("\"Second\"".to_owned(), "n % 4".to_owned())));
        for column in self.columns.iter().filter(|column| column.not_null.is_some()) {
            cells.push((quoted(&column.name), format!("({})::{}", column.of.2[0], column.of.0)));
        }
        cells.extend((0..self.uniques.len()).map(|unique| (format!("\"U{unique}\""), "1000000000 + n".to_owned())));
        let (names, values): (Vec<String>, Vec<String>) = cells.into_iter().unzip();
        let (from, names, values) = (self.quoted(), names.join(", "), values.join(", "));
        format!("INSERT INTO {from} ({names}) SELECT {values} FROM generate_series(1, {BULK}) AS n")
    }

    fn is_bulk(&self, not: &str) -> String {
        match self.key.0 {
            "text" => format!("{} {not} LIKE 'bulk%'", self.key_name()),
            _ => format!("{not} {} > 1000000", self.key_name()),
        }
    }

    /// The tenant and the key of a row.
    fn cells(&self, row: usize, once: Uuid, (tenant, form): (Uuid, Form)) -> Vec<(String, String)> {
        let mut cells = vec![
            ("tenant_id".to_owned(), uuid(tenant, form)),
            (self.key_name().to_owned(), self.key_value(row, once, form)),
        ];
        cells.extend(self.two.then(|| ("\"Second\"".to_owned(), (row % 4).to_string())));
        cells
    }

    fn found(&self, row: usize, once: Uuid, place: (Uuid, Form)) -> String {
        let cells = self.cells(row, once, place).into_iter().map(|(name, value)| format!("{name} = {value}"));
        cells.collect::<Vec<_>>().join(" AND ")
    }

    /// The key of a tenant's row of this number: of every tenant the same, but for uuids.
    fn key_value(&self, row: usize, tenant: Uuid, form: Form) -> String {
        match self.key.0 {
            "integer" | "bigint" => (row as i64 * 7 - 3).to_string(),
            "uuid" => uuid(Uuid::from_u128(tenant.as_u128().wrapping_add(row as u128 * 0x0101_0000_0001)), form),
            _ => format!("'{}{row}'", ["ä", "B", "_", "z", ""][row % 5]),
        }
    }

    /// A number for what is unique that no row has.
    fn fresh(&self, unique: usize, fresh: usize, once: Uuid) -> String {
        let number = 500 + fresh as i64;
        let global = self.uniques[unique].kind == UniqueKind::Global;
        (if global { base(once) + number } else { number }).to_string()
    }
}

impl UniqueKind {
    /// Its two numbers in a row.
    fn values(self, row: usize, tenant: Uuid, rng: &mut Rng) -> (Option<i64>, Option<i64>) {
        let number = row as i64;
        let mut some = |value: i64| (!rng.chance(4)).then_some(value);
        match self {
            Self::One | Self::Deferred | Self::Including => (some(number), None),
            Self::Two => (some(number % 3), some(number / 3)),
            Self::Partial => {
                let within = rng.below(3) as i64;
                (Some(if within > 0 { number } else { 7 }), (!rng.chance(4)).then_some(within))
            }
            Self::Expression => (some(if row.is_multiple_of(2) { number } else { -number }), None),
            Self::Global => (some(base(tenant) + number), None),
            Self::Nulls => ((row > 0).then_some(number), None),
        }
    }
}

/// Where a tenant's numbers begin among those of all tenants.
fn base(tenant: Uuid) -> i64 {
    (tenant.as_u128() & 0x1fff_ff00) as i64
}

fn uuid(id: Uuid, form: Form) -> String {
    match form {
        Form::File => format!("x'{}'", id.simple()),
        Form::Plain | Form::Turned => format!("'{id}'"),
    }
}
