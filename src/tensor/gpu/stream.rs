//! The command stream: what is recorded and under way, and how fast each kernel has been.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use super::busy::Ended;
use super::kernel::FAMILIES;
use super::params::PARAM_WORDS;

/// The most launches of a submission, with that of its token: slots of the parameter buffer.
pub(super) const SLOTS: usize = 256;

/// Operations by number of their kernel.
pub(super) type Work = HashMap<usize, f64>;

/// A submission under way.
pub(super) struct Flight {
    pub index: wgpu::SubmissionIndex,
    pub work: Work,
    pub submitted: Instant,
    /// Set by a callback once it is over.
    pub ended: Ended,
}

/// Commands recorded but not yet submitted, and how fast work gets done.
pub(super) struct Stream {
    pub encoder: Option<wgpu::CommandEncoder>,
    pub pass: Option<wgpu::ComputePass<'static>>,
    pub params: Vec<u32>,
    pub work: Work,
    /// Operations per second of each kernel, as observed: a fast kernel says nothing about another's speed.
    rates: HashMap<usize, f64>,
    /// What a kernel is taken for before it ran, by family.
    pub first_rates: [f64; FAMILIES],
    pub flights: VecDeque<Flight>,
    /// When the last submission ended.
    pub ended: Option<Instant>,
    pub writes: (usize, u64),
    /// Number of the last submission that has a token, and whether what is recorded has its own already.
    pub token: u64,
    pub sealed: bool,
    /// Submissions made.
    pub submissions: u64,
}

impl Stream {
    /// An idle stream; `first_rates` are operations per second of a kernel of each family that has not run.
    pub fn new(first_rates: [f64; FAMILIES]) -> Stream {
        Stream {
            encoder: None,
            pass: None,
            params: Vec::new(),
            work: Work::new(),
            rates: HashMap::new(),
            first_rates,
            flights: VecDeque::new(),
            ended: None,
            writes: (0, 0),
            token: 0,
            sealed: false,
            submissions: 0,
        }
    }

    /// Sets what a product kernel is taken for before it ran, in multiply-adds per second.
    pub fn expect_products(&mut self, rate: f64) {
        self.first_rates[0] = rate;
    }

    /// Whether there are commands that were not submitted.
    pub fn is_recording(&self) -> bool {
        self.encoder.is_some()
    }

    /// The number of launches that are recorded.
    pub fn slots(&self) -> usize {
        self.params.len() / PARAM_WORDS
    }

    /// Operations per second of a kernel.
    pub fn rate(&mut self, kernel: usize, family: usize) -> f64 {
        let first = self.first_rates[family];
        *self.rates.entry(kernel).or_insert(first)
    }

    /// Estimated time of what is recorded.
    pub fn seconds(&self) -> f64 {
        seconds(&self.work, &self.rates)
    }

    /// Takes note of the submissions that ended, those seen at once as one.
    pub fn settle(&mut self) {
        let mut span: Option<(Instant, Instant)> = None;
        let mut work = Work::new();
        while let Some(flight) = self.flights.front()
            && let Some(&ended) = flight.ended.get()
        {
            let start = self
                .ended
                .map_or(flight.submitted, |last| last.max(flight.submitted));
            span = Some((span.map_or(start, |(first, _)| first), ended));
            for (&kernel, &operations) in &flight.work {
                *work.entry(kernel).or_default() += operations;
            }
            self.ended = Some(ended);
            self.flights.pop_front();
        }
        if let Some((start, ended)) = span {
            self.learn(&work, ended.saturating_duration_since(start).as_secs_f64());
        }
    }

    /// Adjusts the rates of kernels to what their work took.
    fn learn(&mut self, work: &Work, took: f64) {
        let expected = seconds(work, &self.rates);
        tracing::trace!(took, expected, kernels = work.len(), "submission");
        // Short ones are mostly overhead.
        if expected < 1e-3 && took < 1e-2 {
            return;
        }
        // At most twice as fast at a time: too large a submission is worse than too small a one.
        let factor = (expected / took.max(1e-6)).clamp(0.1, 2.0);
        for (kernel, work) in work {
            let Some(rate) = self.rates.get_mut(kernel) else {
                continue;
            };
            let share = work / *rate / expected.max(1e-9);
            *rate = (*rate * factor.powf(share.min(1.0))).clamp(1e6, 1e15);
        }
    }
}

/// Estimated time of work at these rates.
fn seconds(work: &Work, rates: &HashMap<usize, f64>) -> f64 {
    // Whatever was recorded asked for its rate before.
    let of = |(kernel, work): (&usize, &f64)| rates.get(kernel).map_or(0.0, |rate| work / rate);
    work.iter().map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_follow_what_was_seen_but_grow_slowly() {
        let mut stream = Stream::new([1e9; FAMILIES]);
        assert_eq!((stream.rate(3, 0), stream.rate(5, 0)), (1e9, 1e9));
        let work = Work::from([(3, 6e7)]);
        stream.learn(&work, 0.6);
        assert!((stream.rates[&3] - 1e8).abs() < 1e3 && stream.rates[&5] == 1e9);
        stream.learn(&work, 0.01);
        assert!((stream.rates[&3] - 2e8).abs() < 1e3);
        // Two kernels: neither more than twice as fast.
        stream.learn(&Work::from([(3, 6e7), (5, 6e6)]), 1e-3);
        assert!(stream.rates[&3] <= 4e8 && stream.rates[&5] <= 2e9);
    }
}
