//! What came of transfers, in a line each. Every number in it was measured.

use std::fmt;

use tenantry_app_db::entities::TransferStep;
use tenantry_transfer::{Error as TransferError, FenceAfter, Report};

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

const BACK: &str = "it is where it was";
const UNFINISHED: &str = "it has moved and its transfer is not finished: resume it";

/// What is true of a tenant whose transfer did not come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// What the record of its transfer says, if it has one.
    AsRecorded,
    /// Nothing was begun. The tenant may be no more.
    NotBegun,
    /// So many kept rows are deleted, whatever its record says.
    Deleted(u64),
    /// The tenant is where it was, with nothing left of the transfer. What the run itself knows, as the following are.
    Back,
    /// The tenant is where it was, and something is left of the transfer.
    Unfinished,
    /// The tenant has moved.
    Placed,
    /// Its writes are held.
    Held,
    /// Nobody can tell.
    Unknown,
}

impl Left {
    /// As far as an error tells.
    pub(super) fn of(error: &TransferError) -> Self {
        match error {
            TransferError::Deleted { rows, .. } => Self::Deleted(*rows),
            TransferError::Failed { fence, .. } => match fence {
                FenceAfter::Lowered => Self::Back,
                FenceAfter::Unfinished { .. } => Self::Unfinished,
                FenceAfter::Placed => Self::Placed,
                FenceAfter::Raised { .. } => Self::Held,
            },
            _ => Self::AsRecorded,
        }
    }

    /// The record knows what came after the error.
    pub(super) fn with_record(self) -> Self {
        if matches!(self, Self::Deleted(_)) { self } else { Self::AsRecorded }
    }

    pub(super) fn without_record(self) -> Self {
        if self == Self::AsRecorded { Self::Unknown } else { self }
    }
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
        match self.left {
            Left::AsRecorded => {}
            Left::NotBegun => return "nothing was begun".to_owned(),
            Left::Deleted(rows) => return format!("{rows} kept rows deleted, which is not recorded: purge it again"),
            Left::Back => return BACK.to_owned(),
            Left::Unfinished => return format!("{BACK}, and its transfer is not taken back to the end: abort it"),
            Left::Placed => return UNFINISHED.to_owned(),
            Left::Held => {
                return "its writes are held, and how far its transfer is is not known: see `transfer status`"
                    .to_owned();
            }
            Left::Unknown => return "what became of it is not known: see `transfer status`".to_owned(),
        }
        let step = self.step.unwrap_or_default();
        let is = |other: TransferStep| step == other.as_str();
        if step.is_empty() || is(TransferStep::Aborted) {
            BACK.to_owned()
        } else if is(TransferStep::Placed) {
            UNFINISHED.to_owned()
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
            // An earlier run may have deleted them that could not say so.
            ("purged", _) if self.purged == Some(0) => f.write_str("no kept rows were left to delete"),
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
