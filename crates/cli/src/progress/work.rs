//! How far a transfer's step is: rows and bytes of all its tables, how fast, how long still, and which tables are worked on.
//!
//! Knows no terminal. Several tables are copied at a time, so that each is counted by itself.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use tenantry::transfer::{Plan, Step};

/// A rate over less than this says nothing.
const SOON: Duration = Duration::from_millis(500);

/// One step of a transfer.
#[derive(Debug, Default)]
pub(super) struct Work {
    step: Option<Step>,
    began: Option<Instant>,
    /// What the plan says of each table, once there is one.
    planned: BTreeMap<String, Size>,
    /// The tables that this step has begun.
    begun: BTreeMap<String, Begun>,
}

#[derive(Debug, Clone, Copy)]
struct Size {
    rows: u64,
    bytes: u64,
}

#[derive(Debug, Clone, Copy)]
struct Begun {
    done: u64,
    rows: u64,
}

impl Work {
    pub(super) fn step(&mut self, step: Step) {
        self.step = Some(step);
        self.began = Some(Instant::now());
        self.begun.clear();
    }

    pub(super) fn planned(&mut self, plan: &Plan) {
        let tables = plan.tables.iter();
        self.planned =
            tables.map(|table| (table.name.clone(), Size { rows: table.rows, bytes: table.bytes })).collect();
    }

    pub(super) fn table(&mut self, table: &str, rows: u64) {
        self.begun.insert(table.to_owned(), Begun { done: 0, rows });
    }

    pub(super) fn advance(&mut self, table: &str, rows: u64) {
        self.begun.entry(table.to_owned()).or_insert(Begun { done: 0, rows: 0 }).done += rows;
    }

    /// Rows done, and rows in all as far as they are known.
    pub(super) fn rows(&self) -> (u64, u64) {
        let done = self.begun.values().map(|table| table.done).sum();
        let begun: u64 = self.begun.values().map(|table| table.rows.max(table.done)).sum();
        let ahead = self.planned.iter().filter(|(name, _)| !self.begun.contains_key(*name));
        let ahead: u64 = if self.is_of_every_row() { ahead.map(|(_, size)| size.rows).sum() } else { 0 };
        (done, begun + ahead)
    }

    /// Bytes done and in all; `None` where they are not known.
    fn bytes(&self) -> Option<(u64, u64)> {
        if !self.is_of_every_row() || self.planned.is_empty() {
            return None;
        }
        let share = |(name, begun): (&String, &Begun)| {
            let size = self.planned.get(name)?;
            let (done, rows) = (u128::from(begun.done), u128::from(begun.rows.max(begun.done).max(1)));
            u64::try_from(u128::from(size.bytes) * done / rows).ok()
        };
        Some((self.begun.iter().filter_map(share).sum(), self.planned.values().map(|size| size.bytes).sum()))
    }

    fn is_of_every_row(&self) -> bool {
        matches!(self.step, Some(Step::Compare | Step::Copy | Step::Verify))
    }

    /// How far it is after so long.
    fn after(&self, elapsed: Duration) -> String {
        let (done, all) = self.rows();
        let mut text = self.step.map(|step| step.to_string()).unwrap_or_default();
        if all == 0 {
            return text;
        }
        text += &format!(": {done} of {all} rows");
        if let Some((done, all)) = self.bytes() {
            text += &format!(", {} of {}", Bytes(done), Bytes(all));
        }
        if elapsed >= SOON && done > 0 {
            let millis = elapsed.as_millis().max(1);
            let rate = u128::from(done) * 1000 / millis;
            text += &format!(", {rate} rows/s");
            let left = u128::from(all - done.min(all)) * millis / u128::from(done) / 1000;
            text += &format!(", {left} s left");
        }
        let busy = self.begun.iter().filter(|(_, table)| table.done < table.rows).map(|(name, _)| name.as_str());
        let busy = busy.collect::<Vec<_>>().join(", ");
        if busy.is_empty() { text } else { format!("{text} ({busy})") }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.after(self.began.map(|began| began.elapsed()).unwrap_or_default()))
    }
}

/// A number of bytes in the unit that fits.
pub(crate) struct Bytes(pub(crate) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
        let (mut tenths, mut unit) = (u128::from(self.0) * 10, 0);
        while tenths >= 10_240 && unit + 1 < UNITS.len() {
            tenths /= 1024;
            unit += 1;
        }
        let name = UNITS.get(unit).copied().unwrap_or_default();
        if unit == 0 { write!(f, "{} {name}", self.0) } else { write!(f, "{}.{} {name}", tenths / 10, tenths % 10) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(planned: &[(&str, u64, u64)]) -> Work {
        let planned =
            planned.iter().map(|(name, rows, bytes)| ((*name).to_owned(), Size { rows: *rows, bytes: *bytes }));
        let mut work = Work { planned: planned.collect(), ..Work::default() };
        work.step(Step::Copy);
        work
    }

    /// Catches a second table, copied at the same time, that sets the first one's count back.
    #[test]
    fn tables_that_are_copied_at_a_time_are_counted_together() {
        let mut work = work(&[("contacts", 1000, 4096), ("leads", 3000, 8192), ("notes", 0, 0)]);
        work.table("contacts", 1000);
        work.advance("contacts", 500);
        work.table("leads", 3000);
        work.advance("leads", 500);
        assert_eq!(work.rows(), (1000, 4000));
        let text = work.after(Duration::from_secs(2));
        assert_eq!(text, "copy: 1000 of 4000 rows, 3.3 KiB of 12.0 KiB, 500 rows/s, 6 s left (contacts, leads)");
        work.advance("contacts", 500);
        work.advance("leads", 2500);
        assert_eq!(work.after(Duration::ZERO), "copy: 4000 of 4000 rows, 12.0 KiB of 12.0 KiB");
        work.step(Step::Fence);
        assert_eq!(work.after(Duration::from_secs(9)), "fence");
    }

    /// A run that goes on may know no plan, and rows may have been written since it was made.
    #[test]
    fn what_no_plan_announced_is_counted_as_it_comes() {
        let mut work = work(&[]);
        work.advance("leads", 7);
        assert_eq!(work.after(Duration::ZERO), "copy: 7 of 7 rows");
        work.table("notes", 10);
        assert_eq!(work.after(Duration::from_secs(1)), "copy: 7 of 17 rows, 7 rows/s, 1 s left (notes)");
    }

    #[test]
    fn bytes_are_told_in_the_unit_that_fits() {
        let told = [0, 1023, 1024, 1536, 1_048_575, 5 * 1_073_741_824].map(|bytes| Bytes(bytes).to_string());
        assert_eq!(told, ["0 bytes", "1023 bytes", "1.0 KiB", "1.5 KiB", "1023.9 KiB", "5.0 GiB"]);
    }
}
