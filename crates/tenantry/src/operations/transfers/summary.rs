//! What came of transfers, in a line each. Every number in it was measured.

use std::fmt;

use tenantry_app_db::entities::TransferStep;
use tenantry_transfer::Report;

use super::{TransferReport, TransfersReport};

/// What a comparison of both sides counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    tables: usize,
    copied: u64,
    verified: u64,
    missing: u64,
    extra: u64,
    different: u64,
}

impl Counts {
    /// Of the tenant's tables, or of its write log.
    fn of(report: &Report, log: bool) -> Self {
        report.tables.iter().filter(|table| table.log == log && (table.compared || !log)).fold(
            Self::default(),
            |sum, table| Self {
                tables: sum.tables + 1,
                copied: sum.copied + table.copied,
                verified: sum.verified + table.source.saturating_sub(table.missing + table.different),
                missing: sum.missing + table.missing,
                extra: sum.extra + table.extra,
                different: sum.different + table.different,
            },
        )
    }

    fn plus(self, other: Self) -> Self {
        Self {
            tables: self.tables + other.tables,
            copied: self.copied + other.copied,
            verified: self.verified + other.verified,
            missing: self.missing + other.missing,
            extra: self.extra + other.extra,
            different: self.different + other.different,
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tables: _, copied, verified, missing, extra, different } = self;
        write!(f, "{copied} rows copied, {verified} verified, {missing} missing, {extra} extra, {different} different")
    }
}

/// What is true of a tenant whose transfer did not come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// What the record of its transfer says, if it has one.
    AsRecorded,
    /// Nothing was begun. The tenant may be no more.
    NotBegun,
}

impl TransferReport {
    /// What was found of the write log, which is counted apart; `None` where no log was compared.
    pub fn write_log(&self) -> Option<String> {
        let counts = self.report.as_ref().map(|report| Counts::of(report, true)).filter(|counts| counts.tables > 0);
        counts.filter(|_| self.moved()).map(|counts| format!("write log: {counts}"))
    }

    fn moved(&self) -> bool {
        matches!(self.outcome, "moved" | "returned" | "failed")
    }

    /// What became of a tenant whose transfer did not come to its end.
    fn left(&self) -> String {
        if self.left == Left::NotBegun {
            return "nothing was begun".to_owned();
        }
        let step = self.step.unwrap_or_default();
        let is = |other: TransferStep| step == other.as_str();
        if step.is_empty() || is(TransferStep::Aborted) {
            "it is where it was".to_owned()
        } else if is(TransferStep::Placed) {
            "it has moved and its transfer is not finished: resume it".to_owned()
        } else if is(TransferStep::Finished) {
            "the rows that were kept are still there".to_owned()
        } else if is(TransferStep::Purged) || is(TransferStep::Returned) {
            format!("its transfer is {step}")
        } else {
            format!("its transfer is {step}: resume or abort it")
        }
    }
}

/// The last line of a transfer.
impl fmt::Display for TransferReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let passed = self.passed();
        write!(f, "transfer: {}, tenant {}, ", if passed { "ok" } else { "failed" }, self.subdomain)?;
        let counts = self.report.as_ref().map(|report| Counts::of(report, false));
        match (self.outcome, counts) {
            ("already_placed", _) => f.write_str("it is there already and nothing was copied"),
            ("aborted", _) => f.write_str("aborted, it is where it was"),
            ("purged", _) => write!(f, "{} kept rows deleted", self.purged.unwrap_or_default()),
            ("refused", _) => {
                let reasons = self.plan.as_ref().map_or(0, |plan| plan.refusals.len());
                write!(f, "refused for {reasons} reason(s), {}", self.left())
            }
            (_, Some(counts)) => {
                write!(f, "{} tables, {counts}", counts.tables)?;
                match self.held_ms {
                    Some(held) => write!(f, ", writes held {}", Seconds(held))?,
                    None if passed => f.write_str(", how long writes were held is not known")?,
                    None => {}
                }
                if passed { Ok(()) } else { write!(f, ", {}", self.left()) }
            }
            (_, None) => f.write_str(&self.left()),
        }
    }
}

/// The last line of many.
impl fmt::Display for TransfersReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let passed = self.tenants.iter().filter(|tenant| tenant.passed()).count();
        let verdict = if passed == self.tenants.len() { "ok" } else { "failed" };
        let moved = self.tenants.iter().filter(|tenant| tenant.moved());
        let counts = moved.filter_map(|tenant| tenant.report.as_ref()).map(|report| Counts::of(report, false));
        let counts = counts.fold(Counts::default(), Counts::plus);
        write!(
            f,
            "transfer: {verdict}, {passed} of {} tenants, {} tables, {counts}",
            self.tenants.len(),
            counts.tables
        )?;
        match self.tenants.iter().filter_map(|tenant| tenant.held_ms).max() {
            Some(held) => write!(f, ", writes held at most {}", Seconds(held))?,
            None => return Ok(()),
        }
        let unknown = |tenant: &TransferReport| tenant.passed() && tenant.moved() && tenant.held_ms.is_none();
        if self.tenants.iter().any(unknown) { f.write_str(" where it is known") } else { Ok(()) }
    }
}

/// Milliseconds, as seconds.
struct Seconds(u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} s", std::time::Duration::from_millis(self.0).as_secs_f64())
    }
}
