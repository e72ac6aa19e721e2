//! The command stream: launches cut into submissions of a fraction of a second, by work and observed speed.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::busy::Ended;
use super::device::{Device, lock};
use super::kernel::{FAMILIES, Kernel};
use super::params::{PARAM_WORDS, Words, common};
use super::token::Tokens;

/// Estimated seconds of work per submission. Operating systems kill what takes seconds and stutter above
/// a quarter of one; below a few milliseconds the submission itself shows.
const TARGET_SECONDS: f64 = 0.06;
/// Submissions under way at most.
const IN_FLIGHT: usize = 2;
/// Longest wait for one submission. Work is cut to a fraction of a second, so silence this long is a fault.
const PATIENCE: Duration = Duration::from_secs(120);
/// Workgroups along one axis of a dispatch.
const MAX_GRID: u64 = 65_535;
/// Uploads and their bytes between submissions: wgpu frees their copies only then.
const MAX_WRITES: (usize, u64) = (32, 64 << 20);
/// Launches per submission, with that of its token: slots of the parameter buffer.
pub(super) const SLOTS: usize = 256;

/// Operations by number of their kernel.
type Work = HashMap<usize, f64>;

/// A submission under way.
struct Flight {
    index: wgpu::SubmissionIndex,
    work: Work,
    submitted: Instant,
    /// Set by a callback once it is over.
    ended: Ended,
}

/// Commands recorded but not yet submitted, and how fast work gets done.
pub(super) struct Stream {
    encoder: Option<wgpu::CommandEncoder>,
    pass: Option<wgpu::ComputePass<'static>>,
    params: Vec<u32>,
    work: Work,
    /// Operations per second of each kernel, as observed: a fast kernel says nothing about another's speed.
    rates: HashMap<usize, f64>,
    /// What a kernel is taken for before it ran, by family.
    first_rates: [f64; FAMILIES],
    flights: VecDeque<Flight>,
    /// When the last submission ended.
    ended: Option<Instant>,
    writes: (usize, u64),
    /// Number of the last submission that has a token, and whether what is recorded has its own already.
    pub token: u64,
    pub sealed: bool,
    /// Submissions made.
    submissions: u64,
}

/// One kernel over one work list.
pub(super) struct Launch<'a> {
    pub kernel: Kernel,
    pub inputs: &'a [&'a wgpu::Buffer],
    pub output: &'a wgpu::Buffer,
    /// A second output.
    pub beside: Option<&'a wgpu::Buffer>,
    /// Launch parameters; which workgroups it has is set per dispatch.
    pub words: Words,
    /// Workgroups.
    pub groups: u64,
    /// Operations per workgroup.
    pub work: f64,
}

impl Device {
    /// Records a kernel, in as many dispatches and submissions as its work asks for.
    pub fn launch(&self, launch: Launch<'_>) {
        if self.is_lost() || launch.groups == 0 {
            return;
        }
        let (group_layout, pipeline_layout) = self.layout(
            launch.inputs.len(),
            1 + usize::from(launch.beside.is_some()),
        );
        let (number, pipeline) = self.pipeline(&launch.kernel, &pipeline_layout);
        let buffers: Vec<&wgpu::Buffer> = launch
            .inputs
            .iter()
            .copied()
            .chain([launch.output])
            .chain(launch.beside)
            .collect();
        let bindings = self.bind(&group_layout, &buffers);
        if self.is_lost() {
            // The pipeline did not compile: recording it would only add to the first message.
            return;
        }
        let family = launch.kernel.family();
        let mut stream = lock(&self.stream);
        let mut first = 0;
        while first < launch.groups {
            let rate = stream.rate(number, family);
            let left = (TARGET_SECONDS - stream.seconds()) * rate / launch.work.max(1.0);
            if stream.encoder.is_some() && (left < 1.0 || stream.slots() >= SLOTS - 1) {
                self.submit(&mut stream);
                continue;
            }
            let count = (left.max(1.0) as u64)
                .min(launch.groups - first)
                .min(MAX_GRID * MAX_GRID);
            let (columns, rows) = fold(count);
            let mut words = launch.words;
            words.set(common::FIRST_GROUP, first as usize);
            words.set(common::GROUPS, count as usize);
            *stream.work.entry(number).or_default() += count as f64 * launch.work;
            self.dispatch(&mut stream, &pipeline, &bindings, words, (columns, rows));
            first += count;
        }
    }

    /// Launch parameters and buffers as a kernel sees them.
    pub fn bind(
        &self,
        layout: &wgpu::BindGroupLayout,
        buffers: &[&wgpu::Buffer],
    ) -> wgpu::BindGroup {
        let mut entries = vec![wgpu::BindGroupEntry {
            binding: 0,
            resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer: &self.params,
                offset: 0,
                size: wgpu::BufferSize::new(PARAM_WORDS as u64 * 4),
            }),
        }];
        let buffers = buffers.iter().enumerate();
        entries.extend(buffers.map(|(k, buffer)| wgpu::BindGroupEntry {
            binding: k as u32 + 1,
            resource: buffer.as_entire_binding(),
        }));
        self.wgpu.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout,
            entries: &entries,
        })
    }

    /// Records one dispatch with its launch parameters.
    pub fn dispatch(
        &self,
        stream: &mut Stream,
        pipeline: &wgpu::ComputePipeline,
        bindings: &wgpu::BindGroup,
        words: Words,
        (columns, rows): (u32, u32),
    ) {
        let offset = (stream.slots() * PARAM_WORDS * 4) as u32;
        stream.params.extend_from_slice(words.as_slice());
        let pass = self.pass(stream);
        pass.set_pipeline(pipeline);
        pass.set_bind_group(0, bindings, &[offset]);
        pass.dispatch_workgroups(columns, rows, 1);
    }

    pub fn encoder<'a>(&self, stream: &'a mut Stream) -> &'a mut wgpu::CommandEncoder {
        stream.pass = None;
        stream
            .encoder
            .get_or_insert_with(|| self.wgpu.create_command_encoder(&Default::default()))
    }

    fn pass<'a>(&self, stream: &'a mut Stream) -> &'a mut wgpu::ComputePass<'static> {
        if stream.pass.is_none() {
            let pass = self
                .encoder(stream)
                .begin_compute_pass(&Default::default())
                .forget_lifetime();
            stream.pass = Some(pass);
        }
        stream.pass.as_mut().expect("set just above")
    }

    /// Records a copy between buffers; offsets and size in bytes.
    #[cfg(test)]
    pub fn copy(&self, from: (&wgpu::Buffer, u64), to: (&wgpu::Buffer, u64), bytes: u64) {
        let mut stream = lock(&self.stream);
        self.encoder(&mut stream)
            .copy_buffer_to_buffer(from.0, from.1, to.0, to.1, bytes);
    }

    /// Records a read: a copy to a staging buffer, with the tokens of all that was submitted before and of itself; and
    /// submits it.
    pub fn copy_out(
        &self,
        from: (&wgpu::Buffer, u64),
        bytes: u64,
        staging: impl FnOnce(u64) -> Option<wgpu::Buffer>,
    ) -> Option<(wgpu::Buffer, wgpu::SubmissionIndex, Tokens)> {
        let mut stream = lock(&self.stream);
        // Its own token, also where nothing else is recorded.
        self.encoder(&mut stream);
        self.seal(&mut stream);
        let tokens = self.tokens_behind(&stream, bytes);
        let Some(staging) = staging(tokens.end()) else {
            // What comes next has a token of its own.
            self.submit(&mut stream);
            return None;
        };
        self.encoder(&mut stream)
            .copy_buffer_to_buffer(from.0, from.1, &staging, 0, bytes);
        self.copy_tokens(&mut stream, &tokens, &staging);
        let index = self.submit(&mut stream)?;
        Some((staging, index, tokens))
    }

    /// Records zeros over a whole buffer.
    pub fn clear(&self, buffer: &wgpu::Buffer) {
        let mut stream = lock(&self.stream);
        self.encoder(&mut stream).clear_buffer(buffer, 0, None);
    }

    /// Writes host bytes at the start of a buffer that no recorded command is to read as it was.
    pub fn write(&self, buffer: &wgpu::Buffer, bytes: &[u8]) {
        let mut stream = lock(&self.stream);
        // Queue writes overtake recorded commands, which may still use this buffer's previous life.
        if stream.encoder.is_some() {
            self.submit(&mut stream);
        }
        self.queue.write_buffer(buffer, 0, bytes);
        self.busy.uploaded(bytes.len() as u64);
        stream.writes.0 += 1;
        stream.writes.1 += bytes.len() as u64;
        if stream.writes.0 >= MAX_WRITES.0 || stream.writes.1 >= MAX_WRITES.1 {
            self.submit(&mut stream);
        }
    }

    /// Submits what was recorded; the index of the last submission, where the device is not lost.
    pub fn flush(&self) -> Option<wgpu::SubmissionIndex> {
        let mut stream = lock(&self.stream);
        self.submit(&mut stream)
    }

    /// Submits and waits for everything.
    pub fn finish(&self) {
        if let Some(index) = self.flush() {
            self.wait(index);
        }
    }

    fn submit(&self, stream: &mut Stream) -> Option<wgpu::SubmissionIndex> {
        self.seal(stream);
        stream.sealed = false;
        stream.submissions += 1;
        let most = self.options.faults.lost_after_submissions;
        if most.is_some_and(|most| stream.submissions > most) {
            self.lose("lost, as a test asked for".into());
        }
        stream.pass = None;
        let commands = stream.encoder.take().map(wgpu::CommandEncoder::finish);
        if !stream.params.is_empty() {
            self.queue
                .write_buffer(&self.params, 0, bytemuck::cast_slice(&stream.params));
            stream.params.clear();
        }
        stream.writes = (0, 0);
        let before = Instant::now();
        let Some(index) = self.guarded(|| self.queue.submit(commands)) else {
            stream.flights.clear();
            return None;
        };
        let (done, ended) = self.busy.submitted(before);
        self.queue.on_submitted_work_done(done);
        stream.flights.push_back(Flight {
            index: index.clone(),
            work: std::mem::take(&mut stream.work),
            submitted: before,
            ended,
        });
        // Also frees what finished submissions held.
        self.poll();
        stream.settle();
        while stream.flights.len() > IN_FLIGHT && !self.is_lost() {
            let oldest = stream.flights.len();
            self.wait(stream.flights[0].index.clone());
            stream.settle();
            if stream.flights.len() == oldest {
                // It is over, even where nobody said so.
                stream.flights.pop_front();
                stream.ended = None;
            }
        }
        if self.is_lost() {
            stream.flights.clear();
        }
        Some(index)
    }

    /// What wgpu does, or nothing on a lost device: there it panics, after it has told the callback.
    fn guarded<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        if self.is_lost() {
            return None;
        }
        let done = catch_unwind(AssertUnwindSafe(work));
        if done.is_err() {
            self.lose("the driver gave it up".into());
        }
        done.ok()
    }

    /// Lets callbacks run, without waiting for long.
    pub fn poll(&self) {
        // Without a wait there is nothing to time out.
        self.guarded(|| _ = self.wgpu.poll(wgpu::PollType::Poll));
        std::thread::yield_now();
    }

    /// Waits for a submission; silence beyond all patience counts as a lost device.
    pub fn wait(&self, index: wgpu::SubmissionIndex) {
        let waited = self.guarded(|| {
            self.wgpu.poll(wgpu::PollType::Wait {
                submission_index: Some(index),
                timeout: Some(PATIENCE),
            })
        });
        if let Some(Err(error)) = waited {
            self.lose(format!(
                "no answer within {} s ({error})",
                PATIENCE.as_secs()
            ));
        }
    }
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

    fn slots(&self) -> usize {
        self.params.len() / PARAM_WORDS
    }

    /// Operations per second of a kernel.
    fn rate(&mut self, kernel: usize, family: usize) -> f64 {
        let first = self.first_rates[family];
        *self.rates.entry(kernel).or_insert(first)
    }

    /// Estimated time of what is recorded.
    fn seconds(&self) -> f64 {
        seconds(&self.work, &self.rates)
    }

    /// Takes note of the submissions that ended, those seen at once as one.
    fn settle(&mut self) {
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

/// Grid of at least `count` workgroups, each side within the limit; kernels skip what is too many.
fn fold(count: u64) -> (u32, u32) {
    let rows = count.div_ceil(MAX_GRID).max(1);
    (count.div_ceil(rows) as u32, rows as u32)
}

fn seconds(work: &Work, rates: &HashMap<usize, f64>) -> f64 {
    // Whatever was recorded asked for its rate before.
    let of = |(kernel, work): (&usize, &f64)| rates.get(kernel).map_or(0.0, |rate| work / rate);
    work.iter().map(of).sum()
}

impl Drop for Device {
    fn drop(&mut self) {
        // A pass or encoder left open would be reported as an error of the callers'.
        let mut stream = lock(&self.stream);
        stream.pass = None;
        stream.encoder = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::gpu::{Gpu, Selector, adapters};
    use crate::tensor::{Backend, HostSlice, Shape};

    fn gpu() -> Option<Gpu> {
        let index = adapters().iter().position(|r| r.is_software())?;
        Some(Gpu::open(&Selector::Index(index), None).expect("the adapter opens"))
    }

    #[test]
    fn grids_fold_within_the_limit() {
        for count in [1, 65_535, 65_536, 70_001, 65_535 * 65_535] {
            let (columns, rows) = fold(count);
            let (x, y) = (u64::from(columns), u64::from(rows));
            assert!(x <= MAX_GRID && y <= MAX_GRID && x * y >= count, "{count}");
            assert!(x * y < count + y, "{count}");
        }
    }

    #[test]
    fn a_folded_dispatch_reaches_every_element_once() {
        let Some(gpu) = gpu() else { return };
        // So fast a device gets everything in one dispatch.
        lock(&gpu.device.stream).first_rates = [1e15; FAMILIES];
        let len = (MAX_GRID as usize + 300) * super::super::kernel::THREADS + 17;
        let x = gpu.fill(&Shape::new(1, 1, &[len]), 3.0);
        let values = gpu.read(&x).unwrap();
        assert!(values.iter().all(|&v| v == 3.0));
    }

    #[test]
    fn an_error_of_the_device_reaches_the_next_read() {
        let Some(gpu) = gpu() else { return };
        let x = gpu.upload(&Shape::new(1, 1, &[4]), HostSlice::F32(&[1.0; 4]));
        let buffer = x.view().expect("it has elements").buffer;
        // Beyond the end of the buffer: a validation error.
        gpu.device.copy((buffer, 1 << 20), (buffer, 0), 256);
        let sum = gpu.add(&x, &x);
        assert!(gpu.read(&sum).is_err());
        assert!(gpu.read(&gpu.fill(&Shape::new(1, 1, &[2]), 0.0)).is_err());
    }

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
