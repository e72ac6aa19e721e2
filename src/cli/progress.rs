//! Progress on standard error: a bar with rate and time left on a terminal, a plain line now and then elsewhere.

use super::tell;
use crate::control::Progress;
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Seconds between plain lines.
const INTERVAL: f64 = 10.0;

/// Shows how far a run has come. Clones are one reporter.
#[derive(Clone)]
pub struct Reporter {
    bar: Option<ProgressBar>,
    plain: bool,
    start: Instant,
    last: Arc<Mutex<f64>>,
    unit: &'static str,
}

impl Reporter {
    /// A reporter that counts `unit`s (`"flop"`, `"samples"`).
    pub fn new(quiet: bool, unit: &'static str) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = (terminal && !quiet).then(|| {
            let bar = ProgressBar::new(100);
            if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent:>3} %  {msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self {
            bar,
            plain: !terminal && !quiet,
            start: Instant::now(),
            last: Arc::default(),
            unit,
        }
    }

    /// A function that tells this reporter of progress, for whatever thread computes.
    pub fn watch(&self) -> impl Fn(Progress) + Send + Sync + 'static {
        let reporter = self.clone();
        move |progress| reporter.update(progress)
    }

    /// The seconds since the start, where so many have gone by since something was shown.
    fn due(&self, interval: f64) -> Option<f64> {
        let seconds = self.start.elapsed().as_secs_f64();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        (seconds - *last >= interval).then(|| {
            *last = seconds;
            seconds
        })
    }

    /// Takes note of progress.
    pub fn update(&self, progress: Progress) {
        let interval = if self.bar.is_some() { 0.1 } else { INTERVAL };
        let Some(seconds) = self.due(interval) else {
            return;
        };
        if self.bar.is_none() && !self.plain {
            return;
        }
        let fraction = progress.done as f64 / progress.total.max(1) as f64;
        let left = if fraction > 0.0 {
            let left = Duration::from_secs_f64(seconds * (1.0 - fraction) / fraction);
            format!("{} left", HumanDuration(left))
        } else {
            "time left unknown".into()
        };
        let rate = progress.done as f64 / seconds.max(1e-9);
        let tiles = if progress.tile_count > 0 {
            format!(", tile {} of {}", progress.tiles, progress.tile_count)
        } else {
            String::new()
        };
        let text = format!("{}/s{tiles}, {left}", engineering(rate, self.unit));
        match &self.bar {
            Some(bar) => {
                bar.set_position((fraction * 100.0) as u64);
                bar.set_message(text);
            }
            None => tell(&format!("{:.0} %: {text}", fraction * 100.0)),
        }
    }

    /// Takes note of a step of a few, which are no measure of the time left.
    pub fn step(&self, done: usize, total: usize, text: &str) {
        match &self.bar {
            Some(bar) => {
                bar.set_position((100 * done / total.max(1)) as u64);
                bar.set_message(text.to_string());
            }
            None if self.plain && self.due(INTERVAL).is_some() => {
                tell(&format!("{done} of {total}: {text}"));
            }
            None => {}
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// `12.3 Gflop`.
pub fn engineering(value: f64, unit: &str) -> String {
    const PREFIXES: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
    let mut value = value;
    let mut step = 0;
    while value >= 1000.0 && step + 1 < PREFIXES.len() {
        value /= 1000.0;
        step += 1;
    }
    let digits = if value < 10.0 { 2 } else { 1 };
    format!("{value:.digits$} {}{unit}", PREFIXES[step])
}
