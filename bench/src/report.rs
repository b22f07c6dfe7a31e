//! What is said of a case: one line as it comes, then a table of the targets, or all of it as JSON.

use std::fmt;

use comfy_table::{LineStyle, Table, TableStyle};
use serde::{Serialize, Serializer};

use crate::method::Comparison;

/// One case's figure with the targets that it has.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// The case with its number of tasks or tenants, as `pk_read/1`.
    pub case: String,
    /// What was measured.
    pub figure: Figure,
    /// What it was to reach.
    pub targets: Vec<Target>,
}

/// What was measured.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Figure {
    /// Operations per second on both sides; a larger ratio is better.
    Throughput {
        /// Per second.
        #[serde(flatten)]
        comparison: Comparison,
    },
    /// The 99th percentile of latencies with and without a disturbance; a smaller ratio is better.
    Latency {
        /// Milliseconds; ours is the disturbed one.
        #[serde(flatten)]
        comparison: Comparison,
    },
    /// The time of one call; a smaller ratio is better.
    Time {
        /// Nanoseconds; the baseline is the same call at the smallest size.
        #[serde(flatten)]
        comparison: Comparison,
        /// Of one call, on average.
        allocations: f64,
    },
    /// The time of the whole of something on both sides; a larger ratio is better.
    Duration {
        /// Of each in a second.
        #[serde(flatten)]
        comparison: Comparison,
    },
    /// How much more memory a process needs for more rows.
    Growth {
        /// The difference of the peaks of resident memory.
        mebibytes: f64,
        /// The rows of the smaller.
        from_rows: u64,
        /// The rows of the larger.
        to_rows: u64,
        /// Its peak, in bytes.
        peak: u64,
    },
    /// Memory.
    Bytes {
        /// Bytes asked of the allocator, for each tenant.
        per_tenant: f64,
        /// The growth of the process's resident memory, for each tenant.
        resident_per_tenant: f64,
    },
}

/// A bound on a figure.
#[derive(Debug, Clone, Serialize)]
pub struct Target {
    /// What is bounded, with its unit.
    pub what: &'static str,
    /// What was measured.
    pub measured: f64,
    /// On which side of the bound it has to be.
    pub bound: Bound,
    /// Whether it is.
    pub reached: bool,
}

/// A bound.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

/// Everything that a run says.
#[derive(Debug, Serialize)]
pub struct Report {
    /// What it ran on, by name.
    #[serde(serialize_with = "by_name")]
    pub versions: Vec<(String, String)>,
    /// The server's settings.
    #[serde(serialize_with = "by_name")]
    pub server_settings: Vec<(String, String)>,
    /// How the figures were taken.
    pub method: Vec<String>,
    /// The cases, in the order in which they ran.
    pub cases: Vec<Line>,
}

impl Target {
    /// Compares what was measured with a bound.
    pub fn new(what: &'static str, measured: f64, bound: Bound) -> Self {
        let reached = match bound {
            Bound::AtLeast(least) => measured >= least,
            Bound::AtMost(most) => measured <= most,
        };
        Self { what, measured, bound, reached }
    }
}

impl Line {
    /// A case that compares operations per second.
    pub fn throughput(case: &str, tasks: usize, comparison: Comparison, least: Option<f64>) -> Self {
        let target = |least| Target::new("ratio", comparison.ratio.median, Bound::AtLeast(least));
        Self {
            case: format!("{case}/{tasks}"),
            figure: Figure::Throughput { comparison },
            targets: least.map(target).into_iter().collect(),
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = if self.case.starts_with("transfer/") { "" } else { "isolation/" };
        write!(f, "bench {subject}{}: ", self.case)?;
        match &self.figure {
            Figure::Throughput { comparison: Comparison { ratio, ours, baseline, rounds } } => write!(
                f,
                "ratio {:.2} (ours {ours:.0}/s, baseline {baseline:.0}/s, {rounds} rounds, spread {:.2}..{:.2})",
                ratio.median, ratio.low, ratio.high
            ),
            Figure::Latency { comparison: Comparison { ratio, ours, baseline, rounds } } => write!(
                f,
                "ratio {:.2} (p99 {ours:.2} ms in the storm, {baseline:.2} ms quiet, {rounds} rounds, \
                 spread {:.2}..{:.2}; smaller is better)",
                ratio.median, ratio.low, ratio.high
            ),
            Figure::Time { comparison: Comparison { ratio, ours, baseline, rounds }, allocations } => write!(
                f,
                "{ours:.0} ns with {allocations:.2} allocations (ratio {:.2} to {baseline:.0} ns at 10 tenants, {rounds} \
                 rounds, spread {:.2}..{:.2})",
                ratio.median, ratio.low, ratio.high
            ),
            Figure::Duration { comparison: Comparison { ratio, ours, baseline, rounds } } => write!(
                f,
                "ratio {:.2} (ours {:.0} ms, baseline {:.0} ms, {rounds} rounds, spread {:.2}..{:.2})",
                ratio.median,
                1_000.0 / ours,
                1_000.0 / baseline,
                ratio.low,
                ratio.high
            ),
            Figure::Growth { mebibytes, from_rows, to_rows, peak } => write!(
                f,
                "{mebibytes:.1} MiB more resident for {to_rows} rows than for {from_rows} (peak {:.1} MiB)",
                *peak as f64 / f64::from(1 << 20)
            ),
            Figure::Bytes { per_tenant, resident_per_tenant } => write!(
                f,
                "{per_tenant:.0} bytes per cached tenant (resident memory grew by {resident_per_tenant:.0} for each)"
            ),
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(least) => write!(f, "at least {least}"),
            Self::AtMost(most) => write!(f, "at most {most}"),
        }
    }
}

impl Report {
    /// What stands before the lines.
    pub fn heading(&self) -> String {
        let pairs = |pairs: &[(String, String)]| {
            pairs.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ")
        };
        let mut text = format!("# {}\n# {}\n", pairs(&self.versions), pairs(&self.server_settings));
        for line in &self.method {
            text += &format!("# {line}\n");
        }
        text
    }

    /// Every target and whether it was reached.
    pub fn table(&self) -> String {
        let style = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));
        let mut table = Table::new();
        table.load_style(style).set_header(["case", "measured", "", "target", "reached"]);
        for (line, target) in self.cases.iter().flat_map(|line| line.targets.iter().map(move |target| (line, target))) {
            let digits = if target.measured < 100.0 { 2 } else { 0 };
            table.add_row([
                line.case.clone(),
                format!("{:.digits$}", target.measured),
                target.what.to_owned(),
                target.bound.to_string(),
                if target.reached { "yes" } else { "no" }.to_owned(),
            ]);
        }
        table.trim_fmt()
    }

    /// Whether every target was.
    pub fn is_reached(&self) -> bool {
        self.cases.iter().flat_map(|line| &line.targets).all(|target| target.reached)
    }
}

fn by_name<S: Serializer>(pairs: &[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(name, value)| (name, value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method::Spread;

    const COMPARISON: Comparison = Comparison {
        ratio: Spread { low: 2.05, median: 2.314, high: 2.6 },
        ours: 31_200.4,
        baseline: 13_500.0,
        rounds: 15,
    };

    fn report(cases: Vec<Line>) -> Report {
        let pair = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        Report {
            versions: pair("PostgreSQL", "15"),
            server_settings: pair("fsync", "off"),
            method: vec!["one".to_owned()],
            cases,
        }
    }

    #[test]
    fn a_line_says_the_ratio_and_both_sides() {
        let line = Line::throughput("pk_read", 1, COMPARISON, Some(1.7));
        let said =
            "bench isolation/pk_read/1: ratio 2.31 (ours 31200/s, baseline 13500/s, 15 rounds, spread 2.05..2.60)";
        assert_eq!(line.to_string(), said);
    }

    #[test]
    fn a_target_is_compared_before_it_is_rounded() {
        assert!(!Target::new("ratio", 1.699, Bound::AtLeast(1.7)).reached);
        assert!(Target::new("ratio", 1.7, Bound::AtLeast(1.7)).reached);
        assert!(!Target::new("ratio", 3.001, Bound::AtMost(3.0)).reached);
        assert!(!Target::new("ratio", f64::NAN, Bound::AtMost(3.0)).reached, "no figure reaches nothing");
    }

    #[test]
    fn the_table_has_a_row_for_each_target_and_one_that_is_missed_is_told() {
        let reached = Line::throughput("pk_read", 1, COMPARISON, Some(1.7));
        let free = Line::throughput("insert_log", 1, COMPARISON, None);
        assert!(report(vec![reached.clone(), free.clone()]).is_reached());
        let missed = report(vec![reached, free, Line::throughput("pk_read", 8, COMPARISON, Some(2.4))]);
        assert!(!missed.is_reached());
        let table = missed.table();
        assert!(table.contains("pk_read/1") && table.contains("pk_read/8") && !table.contains("insert_log"), "{table}");
        assert!(table.contains("at least 2.4") && table.contains("no"), "{table}");
        assert_eq!(missed.heading(), "# PostgreSQL 15\n# fsync off\n# one\n");
    }

    #[test]
    fn json_names_what_it_shows() {
        let report = report(vec![Line::throughput("pk_read", 1, COMPARISON, Some(1.7))]);
        let json = serde_json::to_value(report).unwrap_or_default();
        assert_eq!(json["versions"]["PostgreSQL"], "15");
        let json = &json["cases"][0];
        assert_eq!(json["figure"]["kind"], "throughput");
        assert_eq!(json["figure"]["ratio"]["median"], 2.314);
        assert_eq!(json["targets"][0]["bound"]["at_least"], 1.7);
        assert_eq!(json["targets"][0]["reached"], true);
    }
}
