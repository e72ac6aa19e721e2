//! Times of what can be started and waited for: medians of several runs within a given time.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Seconds that a run should take at least: what is quicker is started several times before it is waited for.
const RUN: f64 = 5e-3;
/// The most starts of a run.
const BATCH: usize = 4096;
/// The most runs.
const RUNS: usize = 51;
/// Runs that are made even where they take up to [`PATIENCE`] times the time given.
const LEAST: usize = 3;
const PATIENCE: f64 = 3.0;

/// What was measured.
///
/// ```
/// use hessblock::bench::BenchReport;
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("bench.json");
/// # let text = r#"{"format": "hessblock bench", "format_version": 1, "set": 1, "version": "0.1.0",
/// #     "system": {"processor": "Example CPU", "architecture": "x86_64", "os": "Debian 12", "threads": 8},
/// #     "devices": [{"name": "Example CPU", "kind": "cpu", "precision": "f32", "backend": "cpu", "threads": 8,
/// #         "peak": {"flops": 4e11}, "cases": [{"name": "lenet5/gradient", "outcome": "passed", "error": 2e-7,
/// #             "tolerance": 1e-5, "operations": 200000000, "gflops": 100.0, "timing": {"median_seconds": 2e-3,
/// #             "least_seconds": 1.9e-3, "most_seconds": 2.2e-3, "runs": 51, "batch": 3}}]}]}"#;
/// # std::fs::write(&path, text).map_err(hessblock::Error::io(&path))?;
/// let report = BenchReport::read(&path)?; // written by `hessblock bench --out bench.json`
/// if let Some(timing) = report.devices[0].cases[0].timing {
///     println!("{:.2e} s, the median of {} runs", timing.median_seconds, timing.runs);
///     assert!(timing.least_seconds <= timing.median_seconds);
/// }
/// # Ok::<(), hessblock::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Seconds of one start, the median over the runs.
    pub median_seconds: f64,
    /// The same, the least.
    pub least_seconds: f64,
    /// The same, the most; `None` in reports of releases that did not keep it.
    #[serde(default)]
    pub most_seconds: Option<f64>,
    /// Runs.
    pub runs: usize,
    /// Starts per run.
    pub batch: usize,
}

/// Times what was run once before, for about `seconds`.
///
/// # Errors
/// What it reports; [`Error::Interrupted`].
pub(super) fn time(
    start: &dyn Fn() -> Result<()>,
    wait: &dyn Fn() -> Result<()>,
    seconds: f64,
    cancel: &AtomicBool,
) -> Result<Timing> {
    let run = |batch: usize| {
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        let clock = Instant::now();
        for _ in 0..batch {
            start()?;
        }
        wait()?;
        Ok(clock.elapsed().as_secs_f64())
    };
    let clock = Instant::now();
    let mut batch = 1;
    let mut taken = run(batch)?;
    while taken < RUN && batch < BATCH {
        // A device answers late: the first runs say more of the way there than of the work.
        let more = (RUN / taken.max(1e-9)).ceil().min(16.0) as usize;
        batch = (batch * more.max(2)).min(BATCH);
        taken = run(batch)?;
    }
    let mut times = vec![taken / batch as f64];
    let goes_on = |runs: usize, elapsed: f64| {
        elapsed < seconds && runs < RUNS || runs < LEAST && elapsed < PATIENCE * seconds
    };
    while goes_on(times.len(), clock.elapsed().as_secs_f64()) {
        times.push(run(batch)? / batch as f64);
    }
    times.sort_by(f64::total_cmp);
    Ok(Timing {
        median_seconds: times[times.len() / 2],
        least_seconds: times[0],
        most_seconds: times.last().copied(),
        runs: times.len(),
        batch,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::time::Duration;

    static GO_ON: AtomicBool = AtomicBool::new(false);

    #[test]
    fn quick_work_is_batched_and_slow_work_runs_few_times() {
        let count = Cell::new(0);
        let quick = || {
            count.set(count.get() + 1);
            Ok(())
        };
        let timing = time(&quick, &|| Ok(()), 0.02, &GO_ON).unwrap();
        assert_eq!(timing.batch, BATCH);
        assert!(timing.runs > 1 && timing.least_seconds <= timing.median_seconds);
        assert!(count.get() >= timing.batch * timing.runs);
        let slow = || {
            std::thread::sleep(Duration::from_millis(20));
            Ok(())
        };
        let timing = time(&slow, &|| Ok(()), 0.001, &GO_ON).unwrap();
        assert_eq!((timing.batch, timing.runs), (1, 1));
        assert!(timing.median_seconds >= 0.02);
        let cancelled = AtomicBool::new(true);
        assert!(matches!(
            time(&slow, &|| Ok(()), 0.001, &cancelled),
            Err(Error::Interrupted)
        ));
    }
}
