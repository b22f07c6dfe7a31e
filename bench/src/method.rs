//! How a figure is taken: interleaved rounds, the median of the per-round ratios, and how far the rounds lie apart.
//!
//! ```text
//! warm-up │ ours baseline │ baseline ours │ ours baseline │ …      one ratio per round, the order alternates
//! ```
//! A machine that slows down for a while slows both sides of a round, so that the ratio of the round stays; a median is not
//! moved by the one round that something else disturbed. This module knows no database.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::Error;

/// How many rounds, and how long one side of one round takes.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Rounds that count.
    pub rounds: usize,
    /// Rounds before them, which are dropped.
    pub warm_up: usize,
    /// One side of one round.
    pub length: Duration,
}

/// The median of the rounds, and the 10th and 90th percentile.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The 10th percentile.
    pub low: f64,
    /// The median.
    pub median: f64,
    /// The 90th percentile.
    pub high: f64,
}

/// What came of the rounds of two sides.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Comparison {
    /// Ours by the baseline's, round by round.
    pub ratio: Spread,
    /// The median of ours.
    pub ours: f64,
    /// The median of the baseline's.
    pub baseline: f64,
    /// The rounds that counted.
    pub rounds: usize,
}

impl Spread {
    /// Of at least one figure.
    pub fn of(figures: &[f64]) -> Self {
        Self { low: quantile(figures, 0.1), median: quantile(figures, 0.5), high: quantile(figures, 0.9) }
    }
}

/// The value that this part of the figures does not exceed, between two figures by their distance; NaN of none.
pub fn quantile(figures: &[f64], part: f64) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = part.clamp(0.0, 1.0) * last as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(last);
    sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64)
}

/// Runs both sides in interleaved rounds; each returns its figure for a given length.
///
/// # Errors
/// The first that either side returns.
pub async fn compare(
    plan: Plan,
    mut ours: impl AsyncFnMut(Duration) -> Result<f64, Error>,
    mut baseline: impl AsyncFnMut(Duration) -> Result<f64, Error>,
) -> Result<Comparison, Error> {
    let mut figures = Vec::with_capacity(plan.rounds);
    for round in 0..plan.warm_up + plan.rounds {
        let figure = if round % 2 == 0 {
            let ours = ours(plan.length).await?;
            (ours, baseline(plan.length).await?)
        } else {
            let baseline = baseline(plan.length).await?;
            (ours(plan.length).await?, baseline)
        };
        if round >= plan.warm_up {
            figures.push(figure);
        }
    }
    Ok(Comparison::of(&figures))
}

impl Comparison {
    /// Of rounds as (ours, baseline).
    pub fn of(rounds: &[(f64, f64)]) -> Self {
        let all = |pick: fn(&(f64, f64)) -> f64| rounds.iter().map(pick).collect::<Vec<_>>();
        Self {
            ratio: Spread::of(&all(|(ours, baseline)| ours / baseline)),
            ours: quantile(&all(|(ours, _)| *ours), 0.5),
            baseline: quantile(&all(|(_, baseline)| *baseline), 0.5),
            rounds: rounds.len(),
        }
    }
}

/// One of the tasks that work at the same time: asks [`Task::goes_on`] before each operation and returns itself at the end.
#[derive(Debug)]
pub struct Task {
    /// Counted from 0.
    pub index: usize,
    /// Chooses rows and tenants.
    pub random: Random,
    end: Instant,
    begun: u64,
}

impl Task {
    /// Whether there is time for another operation; counts it.
    pub fn goes_on(&mut self) -> bool {
        let goes_on = Instant::now() < self.end;
        self.begun += u64::from(goes_on);
        goes_on
    }
}

/// Lets tasks work at the same time for a while and returns their operations per second. Each is spawned, so that no task
/// runs on a thread that the runtime does not schedule.
///
/// # Errors
/// The first that a task returns.
pub async fn throughput<F>(tasks: usize, length: Duration, work: impl Fn(Task) -> F) -> Result<f64, Error>
where
    F: Future<Output = Result<Task, Error>> + Send + 'static,
{
    // No two rounds read the same rows in the same order, nor write the same values twice.
    static SEED: AtomicU64 = AtomicU64::new(0);
    let begin = Instant::now();
    let spawned: Vec<_> = (0..tasks)
        .map(|index| {
            let random = Random::new(SEED.fetch_add(1, Ordering::Relaxed));
            tokio::spawn(work(Task { index, random, end: begin + length, begun: 0 }))
        })
        .collect();
    let mut operations = 0;
    for task in spawned {
        operations += task.await.map_err(Error::doing("run a task of a round"))??.begun;
    }
    Ok(operations as f64 / begin.elapsed().as_secs_f64())
}

/// Cheap numbers without a pattern that a cache could learn; never for anything secret (xorshift64*, Vigna 2016).
#[derive(Debug, Clone)]
pub struct Random {
    state: u64,
}

impl Random {
    /// Another sequence for each seed, the same in each run.
    pub fn new(seed: u64) -> Self {
        // Small seeds lie apart after a multiplication by an odd number; the state must not be 0.
        Self { state: (seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) }
    }

    /// A number below `end`, which is at least 1.
    pub fn below(&mut self, end: usize) -> usize {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let number = self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32;
        (number as usize) % end
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
    use super::*;

    const PLAN: Plan = Plan { rounds: 3, warm_up: 1, length: Duration::from_millis(1) };

    #[test]
    fn quantiles_lie_between_the_figures() {
        assert_eq!(quantile(&[3.0, 1.0, 2.0], 0.5), 2.0);
        assert_eq!(quantile(&[1.0, 2.0], 0.5), 1.5);
        assert_eq!(quantile(&[7.0], 0.99), 7.0);
        assert_eq!(quantile(&[0.0, 10.0], 0.9), 9.0);
        assert!(quantile(&[], 0.5).is_nan());
    }

    /// Catches a ratio of the medians in the place of the median of the ratios.
    #[test]
    fn the_ratio_is_taken_in_each_round() {
        let comparison = Comparison::of(&[(1.0, 1.0), (20.0, 10.0), (300.0, 100.0)]);
        assert_eq!((comparison.ratio.median, comparison.ours, comparison.baseline), (2.0, 20.0, 10.0));
        let disturbed = Comparison::of(&[(2.0, 1.0), (2.0, 1.0), (0.1, 1.0)]);
        assert_eq!(disturbed.ratio.median, 2.0);
        assert!(disturbed.ratio.low < 2.0 && disturbed.ratio.high == 2.0);
    }

    #[tokio::test]
    async fn the_order_alternates_and_the_warm_up_is_dropped() {
        let order = std::sync::Mutex::new(String::new());
        let mut turn = 0.0;
        let ours = async |_| {
            order.lock().unwrap().push('o');
            turn += 1.0;
            Ok(turn)
        };
        let baseline = async |_| {
            order.lock().unwrap().push('b');
            Ok(1.0)
        };
        let comparison = compare(PLAN, ours, baseline).await.unwrap();
        assert_eq!(*order.lock().unwrap(), "obboobbo");
        assert_eq!((comparison.ratio.median, comparison.rounds), (3.0, 3));
    }

    #[tokio::test]
    async fn every_operation_is_counted_and_an_error_ends_the_round() {
        let counted = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
        let length = Duration::from_millis(20);
        let begin = Instant::now();
        let rate = throughput(3, length, |mut task| {
            let counted = std::sync::Arc::clone(&counted);
            async move {
                while task.goes_on() {
                    counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    tokio::task::yield_now().await;
                }
                Ok(task)
            }
        })
        .await
        .unwrap();
        let counted = counted.load(std::sync::atomic::Ordering::Relaxed) as f64;
        assert!(rate <= counted / length.as_secs_f64() && rate >= counted / begin.elapsed().as_secs_f64());
        let failed = throughput(1, length, |_| async { Err(Error::Wrong("no".to_owned())) }).await;
        assert_eq!(failed.unwrap_err().to_string(), "no");
    }

    #[test]
    fn random_numbers_reach_every_place() {
        let mut random = Random::new(0);
        let mut seen = [0; 10];
        for _ in 0..1_000 {
            seen[random.below(10)] += 1;
        }
        assert!(seen.iter().all(|count| (50..200).contains(count)), "{seen:?}");
        assert_ne!(Random::new(1).below(1 << 30), Random::new(2).below(1 << 30));
    }
}
