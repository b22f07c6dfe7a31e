//! What it costs to move a tenant, against copying its rows with PostgreSQL's own programs, which verify nothing.

use std::time::Duration;

use crate::Error;
use crate::method::{Comparison, Plan};
use crate::report::{Bound, Figure, Line, Target};
use crate::world::moves::{Moves, SMALLEST, Tenant};

/// Rows of the tenant; fewer where rounds are short.
const ROWS: u64 = 1_000_000;
const QUICK_ROWS: u64 = 100_000;
const MEBIBYTE: f64 = (1 << 20) as f64;

/// The large tenant's moves and psql's, taken in turns once for all cases that show them.
pub(super) struct Large {
    copy: Comparison,
    pg_dump: Comparison,
    peak: u64,
}

pub(super) async fn moves(plan: Plan) -> Result<Moves, Error> {
    Moves::new(if is_quick(plan) { QUICK_ROWS } else { ROWS }).await
}

fn is_quick(plan: Plan) -> bool {
    plan.length < Duration::from_millis(500)
}

/// Rounds of something that takes seconds, after one that is dropped.
fn rounds(plan: Plan) -> usize {
    if is_quick(plan) { 3 } else { 5 }
}

/// Moves in a second.
fn rate(took: Duration) -> f64 {
    1.0 / took.as_secs_f64()
}

pub(super) fn large(moves: &Moves, plan: Plan) -> Result<Large, Error> {
    let (mut copy, mut pg_dump, mut peak) = (Vec::new(), Vec::new(), 0);
    for round in 0..=rounds(plan) {
        let moved = || moves.move_tenant(Tenant::Part(1));
        let theirs = || Ok::<_, Error>((moves.psql()?, moves.pg_dump()?));
        let ((took, moved), (psql, dumped)) = if round % 2 == 0 {
            let moved = moved()?;
            (moved, theirs()?)
        } else {
            let theirs = theirs()?;
            (moved()?, theirs)
        };
        if round > 0 {
            copy.push((1.0 / moved.copying, rate(psql)));
            pg_dump.push((rate(took), rate(dumped)));
            peak = peak.max(moved.peak);
        }
    }
    Ok(Large { copy: Comparison::of(&copy), pg_dump: Comparison::of(&pg_dump), peak })
}

pub(super) fn copy(large: &Large) -> Line {
    line("transfer/copy".to_owned(), large.copy, Some(0.9))
}

pub(super) fn pg_dump(large: &Large) -> Line {
    line("transfer/pgdump".to_owned(), large.pg_dump, Some(1.0))
}

/// The peak of a process that moves many rows, less that of one that moves few.
pub(super) fn memory(moves: &Moves, large: &Large) -> Result<Line, Error> {
    let (_, smallest) = moves.move_tenant(Tenant::Smallest)?;
    let grown = (large.peak as f64 - smallest.peak as f64) / MEBIBYTE;
    Ok(Line {
        case: "transfer/memory".to_owned(),
        figure: Figure::Growth { mebibytes: grown, from_rows: SMALLEST, to_rows: moves.rows, peak: large.peak },
        targets: vec![Target::new("MiB", grown, Bound::AtMost(64.0))],
    })
}

pub(super) fn small(moves: &Moves, plan: Plan) -> Result<Line, Error> {
    let mut figures = Vec::new();
    for round in 0..=4 * rounds(plan) {
        let (ours, theirs) = if round % 2 == 0 {
            let ours = moves.move_tenant(Tenant::Sample)?.0;
            (ours, moves.pg_dump_sample()?)
        } else {
            let theirs = moves.pg_dump_sample()?;
            (moves.move_tenant(Tenant::Sample)?.0, theirs)
        };
        if round > 0 {
            figures.push((rate(ours), rate(theirs)));
        }
    }
    Ok(line("transfer/small".to_owned(), Comparison::of(&figures), Some(1.0)))
}

/// Rows in a second, against those of a sixteenth of the rows: 1 is a cost that grows as the rows do.
pub(super) fn scaling(moves: &Moves, plan: Plan, times: usize) -> Result<Line, Error> {
    let times = times as u64;
    let mut figures = Vec::new();
    for round in 0..=rounds(plan) {
        let (ours, _) = moves.move_tenant(Tenant::Part(16 / times))?;
        let (one, _) = moves.move_tenant(Tenant::Part(16))?;
        if round > 0 {
            figures.push((rate(ours) * times as f64, rate(one)));
        }
    }
    let comparison = Comparison::of(&figures);
    let rows = (moves.rows / 16) as f64;
    let per_row = Comparison { ours: comparison.ours * rows, baseline: comparison.baseline * rows, ..comparison };
    Ok(Line::throughput("transfer/scaling", usize::try_from(times).unwrap_or_default(), per_row, None))
}

/// The same rows among ten times the neighbours.
pub(super) fn neighbours(moves: &Moves, plan: Plan, times: usize) -> Result<Line, Error> {
    let mut figures = Vec::new();
    for round in 0..=rounds(plan) {
        let (many, _) = moves.move_tenant(Tenant::Part(16))?;
        let (few, _) = moves.move_tenant(Tenant::Quiet)?;
        if round > 0 {
            figures.push((rate(many), rate(few)));
        }
    }
    Ok(line(format!("transfer/neighbours/{times}"), Comparison::of(&figures), None))
}

fn line(case: String, comparison: Comparison, least: Option<f64>) -> Line {
    let target = |least| Target::new("ratio", comparison.ratio.median, Bound::AtLeast(least));
    Line { case, figure: Figure::Duration { comparison }, targets: least.map(target).into_iter().collect() }
}
