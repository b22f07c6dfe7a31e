//! The business tables' rows: each cell follows from its tenant, table, column and number alone.
//!
//! Row 0 of a table has every column set, row 1 has NULL wherever that is allowed; the others mix. Text follows from
//! the table and number without the tenant, so that tenants look alike.

use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeDelta, Utc};
use uuid::Uuid;

use super::cell::Cell;
use super::dictionary::{Check, Column, Kind, Table, business_tables};
use super::words::*;
use super::{SampleTenant, TENANTS};

/// The one text of more than 64 KiB: content of the note with this number, which only `default` has.
const LONG_NOTE: u32 = 3;
/// The note that points at a lead which is no longer there: nothing but a foreign key would prevent it.
const DANGLING_NOTE: u32 = 11;
/// Number of the first user; every tenant has at least two.
const USERS: u64 = 2;

pub(super) fn rows(table: &'_ Table, tenant: &SampleTenant) -> Vec<Vec<Cell>> {
    let index = business_tables().iter().position(|candidate| candidate.name == table.name).unwrap_or(0);
    (0..tenant.records_in(table.name))
        .map(|number| Row { tenant, table, index, number })
        .map(|row| table.columns.iter().enumerate().map(|(position, column)| row.cell(position, column)).collect())
        .collect()
}

/// The id of a row, in any table.
pub(super) fn row_id(tenant: &SampleTenant, table: &str, number: u32) -> Uuid {
    let half = |salt: &str| hash(&[tenant.id.as_bytes(), table.as_bytes(), &number.to_le_bytes(), salt.as_bytes()]);
    let bytes = (u128::from(half("high")) << 64 | u128::from(half("low"))).to_be_bytes();
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

/// An e-mail address; the same for every tenant.
pub(super) fn email(number: u64) -> String {
    let first = pick(&FIRST_NAMES, number).to_lowercase();
    // Now and then in another case, which a search must not mind.
    let first = if number % 5 == 4 { first.to_uppercase() } else { first };
    format!("{first}.{}@example.com", pick(&LAST_NAMES, number / 2).to_lowercase().replace([' ', '\''], ""))
}

struct Row<'a> {
    tenant: &'a SampleTenant,
    table: &'a Table,
    /// The table's position.
    index: usize,
    number: u32,
}

impl Row<'_> {
    fn cell(&self, position: usize, column: &Column) -> Cell {
        if let Some(cell) = self.particular(column) {
            return cell;
        }
        if column.nullable && (self.number == 1 || (self.number > 1 && self.is_null_by_chance(column))) {
            return Cell::Null;
        }
        if let Some(reference) = column.references {
            return match self.tenant.records_in(reference.table) {
                0 => Cell::Null,
                records => self.id_in(reference.table, (self.own_chance(column) % u64::from(records)) as u32),
            };
        }
        match (&column.check, column.kind) {
            (Some(Check::OneOf(values)), _) => Cell::Text(values[self.number as usize % values.len()].to_owned()),
            (Some(Check::Between(first, last)), _) => Cell::Integer(match self.number % 4 {
                0 => *first,
                2 => *last,
                _ => first + (self.chance(column) % (last - first + 1) as u64) as i32,
            }),
            (None, Kind::Uuid) => self.user(column),
            (None, Kind::Text) => Cell::Text(self.text(position, column)),
            (None, Kind::Integer) => Cell::Integer(self.integer(column)),
            (None, Kind::Boolean) => Cell::Boolean(self.number == 0 || self.chance(column).is_multiple_of(2)),
            (None, Kind::Numeric { precision }) => Cell::Hundredths(self.hundredths(column, precision)),
            (None, Kind::Date) => self.date(position, column),
            (None, Kind::Time) => self.time(position, column),
            (None, Kind::Timestamp) => Cell::Timestamp(self.instant(position, column)),
            (None, Kind::Json) => Cell::Json(self.json(column)),
        }
    }

    /// The cells that must agree with others, or that a rule of their own decides.
    fn particular(&self, column: &Column) -> Option<Cell> {
        let number = self.number;
        Some(match (self.table.name, column.name) {
            (_, "id") => Cell::Uuid(row_id(self.tenant, self.table.name, number)),
            (_, "tenant_id") => Cell::Uuid(self.tenant.id),
            (_, "updated_at") if number != 1 => self.updated_at(),
            ("contact_accounts", "contact_id") => self.id_in("contacts", self.pair().0),
            ("contact_accounts", "account_id") => self.id_in("accounts", self.pair().1),
            ("leads", "is_converted" | "status" | "converted_at" | "converted_account_id" | "converted_contact_id") => {
                return self.conversion_of_lead(column);
            }
            ("opportunities", "is_converted" | "converted_at" | "converted_event_id") => {
                return self.conversion_of_opportunity(column);
            }
            ("events", "opportunity_id" | "converted_from_opportunity_id") if number != 1 => {
                self.id_in("opportunities", number)
            }
            ("opportunity_line_items", "total") if number > 5 => self.total(),
            ("tasks" | "notes" | "attachments", "entity_type") => self.entity(column)?.0,
            ("tasks" | "notes" | "attachments", "entity_id") => self.entity(column)?.1,
            ("notes", "content") if number == LONG_NOTE => Cell::Text(long_text()),
            _ => return None,
        })
    }

    /// Every fifth lead was converted; row 1 stays all null, and so does its status.
    fn conversion_of_lead(&self, column: &Column) -> Option<Cell> {
        let converted = self.number.is_multiple_of(5);
        match (column.name, converted) {
            _ if self.number == 1 => Some(Cell::Null),
            ("is_converted", true) => Some(Cell::Boolean(true)),
            ("status", true) => Some(Cell::Text("converted".into())),
            ("converted_at", true) => None,
            ("converted_account_id", true) => Some(self.parent("accounts")),
            ("converted_contact_id", true) => Some(self.parent("contacts")),
            ("is_converted", false) => Some(self.unset_or_false()),
            ("status", false) => {
                let others = ["new", "contacted", "qualified", "lost"];
                Some(Cell::Text(others[self.number as usize % others.len()].into()))
            }
            _ => Some(Cell::Null),
        }
    }

    /// The first opportunities became the events of the same numbers, and both say so.
    fn conversion_of_opportunity(&self, column: &Column) -> Option<Cell> {
        let converted = self.number < self.tenant.records_in("events");
        match (column.name, converted) {
            _ if self.number == 1 => Some(Cell::Null),
            ("is_converted", true) => Some(Cell::Boolean(true)),
            ("converted_at", true) => None,
            ("converted_event_id", true) => Some(self.id_in("events", self.number)),
            ("is_converted", false) => Some(self.unset_or_false()),
            _ => Some(Cell::Null),
        }
    }

    fn unset_or_false(&self) -> Cell {
        if self.number % 3 == 1 { Cell::Null } else { Cell::Boolean(false) }
    }

    /// Type and id of what a task, note or attachment hangs on: every type in turn, also those without a table.
    fn entity(&self, column: &Column) -> Option<(Cell, Cell)> {
        if column.nullable && self.number == 1 {
            return Some((Cell::Null, Cell::Null));
        }
        let types = self.table.columns.iter().find_map(|column| match &column.check {
            Some(Check::OneOf(types)) if column.name == "entity_type" => Some(types),
            _ => None,
        })?;
        // A later tenant goes on where the first stopped, so that five attachments need not show eight types.
        let before = TENANTS.iter().take_while(|tenant| tenant.id != self.tenant.id);
        let before: u32 = before.map(|tenant| tenant.records_in(self.table.name)).sum();
        let kind = types[(before + self.number) as usize % types.len()];
        let plural = match kind {
            "opportunity" => "opportunities".to_owned(),
            kind => format!("{kind}s"),
        };
        let dangling = self.table.name == "notes" && self.number == DANGLING_NOTE;
        let id = match self.tenant.records_in(&plural) {
            0 => row_id(self.tenant, kind, self.number),
            records if dangling => row_id(self.tenant, &plural, records),
            records => row_id(self.tenant, &plural, self.number % records),
        };
        Some((Cell::Text(kind.to_owned()), Cell::Uuid(id)))
    }

    /// Few contacts with several accounts each, which several contacts share; no pair twice.
    fn pair(&self) -> (u32, u32) {
        let contacts = self.tenant.records_in("contacts").clamp(1, 3);
        let contact = self.number % contacts;
        (contact, (self.number / contacts + contact) % self.tenant.records_in("accounts").max(1))
    }

    fn parent(&self, table: &str) -> Cell {
        match self.tenant.records_in(table) {
            0 => Cell::Null,
            records => self.id_in(table, self.number % records),
        }
    }

    fn id_in(&self, table: &str, number: u32) -> Cell {
        Cell::Uuid(row_id(self.tenant, table, number))
    }

    /// Ids without a foreign key name users, but for those of catalogues that the sample does not have.
    fn user(&self, column: &Column) -> Cell {
        match column.name {
            "product_id" | "package_id" | "add_on_id" | "event_type_id" | "event_category_id" => {
                self.id_in(column.name, self.number % 3)
            }
            _ => self.id_in("users", (self.own_chance(column) % USERS) as u32),
        }
    }

    fn text(&self, position: usize, column: &Column) -> String {
        let number = u64::from(self.number);
        if self.number > 1
            && let Some(turn) = self.turn(position, 4)
        {
            return AWKWARD_TEXTS[turn % AWKWARD_TEXTS.len()].to_owned();
        }
        let any = self.chance(column);
        let last = column.name.rsplit_once('_').map_or(column.name, |(_, last)| last);
        match (column.name, last) {
            ("first_name", _) => pick(&FIRST_NAMES, number).into(),
            ("last_name", _) => pick(&LAST_NAMES, number / 2).into(),
            (_, "email") => email(number),
            (_, "phone") => format!("+1 (555) 01{:02}-{:04}", number % 100, any % 10_000),
            (_, "city") => pick(&CITIES, any).into(),
            (_, "state") => pick(&STATES, any).into(),
            (_, "country") => pick(&COUNTRIES, any).into(),
            (_, "code") => format!("{:05}", any % 100_000),
            (_, "1" | "line1") => pick(&STREETS, any).into(),
            (_, "2" | "line2") => format!("Suite {}", any % 900),
            (_, "url") | ("website", _) => format!("https://example.com/{}?id={}#top", column.name, any % 1000),
            ("industry" | "department", _) => pick(&TRADES, any).into(),
            ("job_title" | "role", _) => pick(&JOBS, any).into(),
            ("stage", _) => pick(&STAGES, number).into(),
            ("event_type" | "date_type" | "item_type", _) => pick(&KINDS, any).into(),
            ("payment_terms", _) => format!("net_{}", 15 * (1 + any % 4)),
            ("tax_id", _) => format!("{:02}-{:07}", any % 100, any % 9_999_999),
            ("file_name", _) => format!("Résumé {number} (final) v{}.pdf", any % 10),
            ("file_type", _) => "application/pdf".into(),
            ("storage_path", _) => format!("uploads/{}/ü {:x}.pdf", self.tenant.subdomain, any),
            ("name", _) if matches!(self.table.name, "accounts" | "locations") => pick(&COMPANIES, number).into(),
            ("company", _) => pick(&COMPANIES, any).into(),
            (_, "name") if column.name != "name" => {
                format!("{} {}", pick(&FIRST_NAMES, any), pick(&LAST_NAMES, any / 12))
            }
            (_, "status" | "source" | "reason") => pick(&TRADES, any).into(),
            ("description" | "notes" | "content", _) => {
                format!("{} with {}. {}.", pick(&SUBJECTS, any), pick(&FIRST_NAMES, any / 8), pick(&SUBJECTS, any / 96))
            }
            _ => format!("{} {}", pick(&SUBJECTS, any), number),
        }
    }

    fn integer(&self, column: &Column) -> i32 {
        match self.number {
            0 => i32::MAX,
            2 => i32::MIN,
            3 => 0,
            4 => -1,
            _ => (self.chance(column) % 100_000) as i32,
        }
    }

    /// The type's limits and the smallest amounts first, then amounts that differ by cents between tenants.
    fn hundredths(&self, column: &Column, precision: u32) -> i64 {
        let limit = 10_i64.pow(precision) - 1;
        match self.number {
            0 => limit,
            2 => -limit,
            3 => 0,
            4 => 1,
            5 => -1,
            _ => (self.chance(column) % 5_000_000) as i64 + i64::from(self.tenant.id.as_bytes()[15]),
        }
    }

    /// Quantity times price, rounded to cents.
    fn total(&self) -> Cell {
        let value = |name: &str| match self.table.columns.iter().position(|column| column.name == name) {
            Some(position) => match self.cell(position, &self.table.columns[position]) {
                Cell::Hundredths(hundredths) => hundredths,
                _ => 0,
            },
            None => 0,
        };
        Cell::Hundredths(value("quantity") * value("unit_price") / 100)
    }

    /// Every kind once before any comes again, counted over the columns; row 1 has none.
    fn json(&self, column: &Column) -> &'static str {
        let start = match column.name {
            "billing_address" => 0,
            "shipping_address" => 12,
            "address" => 24,
            _ => 4,
        };
        JSON_TEXTS[(start + self.number.saturating_sub(1) as usize) % JSON_TEXTS.len()]
    }

    fn date(&self, position: usize, column: &Column) -> Cell {
        let ordinary = NaiveDate::default() + Days::new(17_000 + self.own_chance(column) % 4_000);
        let (year, month, day) = match self.turn(position, 3) {
            Some(turn) => DATES[turn % DATES.len()],
            None => return Cell::Date(ordinary),
        };
        Cell::Date(NaiveDate::from_ymd_opt(year, month, day).unwrap_or(ordinary))
    }

    /// Edges and quarters of an hour by turns.
    fn time(&self, position: usize, column: &Column) -> Cell {
        let ordinary = ((self.chance(column) % 96 * 900) as u32, 0);
        let turn = (self.number as usize * 7 + position) % (2 * TIMES.len());
        let (seconds, micros) = TIMES.get(turn).copied().unwrap_or(ordinary);
        Cell::Time(NaiveTime::from_num_seconds_from_midnight_opt(seconds, micros * 1000).unwrap_or(NaiveTime::MIN))
    }

    fn instant(&self, position: usize, column: &Column) -> DateTime<Utc> {
        if self.number > 1
            && let Some(turn) = self.turn(position, 6)
        {
            return instant(INSTANTS[turn % INSTANTS.len()]);
        }
        let any = self.own_chance(column);
        // Five years from 2019; whole seconds, milliseconds and microseconds.
        let micros = 1_546_300_800_000_000 + (any % 157_680_000_000_000) as i64;
        instant(micros - micros % [1_000_000, 1_000, 1][(any >> 60) as usize % 3])
    }

    /// Mostly later than created_at, now and then earlier, as clocks and imports make it.
    fn updated_at(&self) -> Cell {
        let position = self.table.columns.iter().position(|column| column.name == "created_at");
        let created = position.map(|position| self.cell(position, &self.table.columns[position]));
        let Some(Cell::Timestamp(created)) = created else {
            return Cell::Timestamp(instant(INSTANTS[7]));
        };
        let later = if self.number % 7 == 3 { TimeDelta::days(-1) } else { TimeDelta::microseconds(86_400_000_001) };
        let edges = [instant(INSTANTS[0]), instant(INSTANTS[1])];
        let updated = created.checked_add_signed(later).filter(|updated| *updated >= edges[0] && *updated <= edges[1]);
        Cell::Timestamp(updated.unwrap_or(created))
    }

    /// Chance may not replace an edge: the first rows of money and integers, every kind of JSON.
    fn is_null_by_chance(&self, column: &Column) -> bool {
        let has_edges = match column.kind {
            Kind::Numeric { .. } | Kind::Integer => self.number < 6,
            Kind::Json => true,
            _ => false,
        };
        !has_edges && self.chance(column) % 5 == 1
    }

    /// Every nth cell of a kind, counted so that neighbours in a row or a column take different turns.
    fn turn(&self, position: usize, every: usize) -> Option<usize> {
        let count = self.number as usize * 7 + position * 5 + self.index * 3;
        count.is_multiple_of(every).then_some(count / every)
    }

    /// The same for every tenant.
    fn chance(&self, column: &Column) -> u64 {
        hash(&[self.table.name.as_bytes(), column.name.as_bytes(), &self.number.to_le_bytes()])
    }

    fn own_chance(&self, column: &Column) -> u64 {
        hash(&[self.tenant.id.as_bytes(), &self.chance(column).to_le_bytes()])
    }
}

pub(super) fn instant(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).unwrap_or_default()
}

fn pick<'a>(words: &[&'a str], chance: u64) -> &'a str {
    words[(chance % words.len() as u64) as usize]
}

fn long_text() -> String {
    let line = "A long note, line after line: naïve café, 漢字, \"quotes\", 'more', \\ and 👍.\n";
    line.repeat(65_536 / line.len() + 2)
}

/// FNV-1a with a finish that spreads it (splitmix64): fixed here for ever, unlike the standard library's hasher.
fn hash(parts: &[&[u8]]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for part in parts {
        for byte in part.iter().chain(&[0xff]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}
