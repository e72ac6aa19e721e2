//! The command stream: launches cut into submissions of a fraction of a second, by work and observed speed.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::device::{Device, lock};
use super::kernel::{FAMILIES, Kernel, PARAM_WORDS};

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
/// Launches per submission: slots of the parameter buffer.
pub(super) const SLOTS: usize = 256;

/// A submission under way.
struct Flight {
    index: wgpu::SubmissionIndex,
    work: [f64; FAMILIES],
    submitted: Instant,
    /// Nothing else was under way, so its time starts at its submission.
    alone: bool,
}

/// Commands recorded but not yet submitted, and how fast work gets done.
pub(super) struct Stream {
    encoder: Option<wgpu::CommandEncoder>,
    pass: Option<wgpu::ComputePass<'static>>,
    params: Vec<u32>,
    work: [f64; FAMILIES],
    /// Work per second and kind, as observed.
    rates: [f64; FAMILIES],
    flights: VecDeque<Flight>,
    /// When the last submission was seen to end, where that was observed as it happened.
    ended: Option<Instant>,
    writes: (usize, u64),
}

/// One kernel over one work list.
pub(super) struct Launch<'a> {
    pub kernel: Kernel,
    pub inputs: &'a [&'a wgpu::Buffer],
    pub output: &'a wgpu::Buffer,
    /// Launch parameters; the first two words are set per dispatch.
    pub words: [u32; PARAM_WORDS],
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
        let (group_layout, pipeline_layout) = self.layout(launch.inputs.len());
        let pipeline = self.pipeline(&launch.kernel, &pipeline_layout);
        let mut entries = vec![wgpu::BindGroupEntry {
            binding: 0,
            resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer: &self.params,
                offset: 0,
                size: wgpu::BufferSize::new(PARAM_WORDS as u64 * 4),
            }),
        }];
        let buffers = launch.inputs.iter().copied().chain([launch.output]);
        entries.extend(buffers.enumerate().map(|(k, buffer)| wgpu::BindGroupEntry {
            binding: k as u32 + 1,
            resource: buffer.as_entire_binding(),
        }));
        let bindings = self.wgpu.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &group_layout,
            entries: &entries,
        });
        if self.is_lost() {
            // The pipeline did not compile: recording it would only add to the first message.
            return;
        }
        let family = launch.kernel.family();
        let mut stream = lock(&self.stream);
        let mut first = 0;
        while first < launch.groups {
            let rate = stream.rates[family];
            let left = (TARGET_SECONDS - stream.seconds()) * rate / launch.work.max(1.0);
            if stream.encoder.is_some() && (left < 1.0 || stream.slots() == SLOTS) {
                self.submit(&mut stream);
                continue;
            }
            let count = (left.max(1.0) as u64)
                .min(launch.groups - first)
                .min(MAX_GRID * MAX_GRID);
            let (columns, rows) = fold(count);
            let mut words = launch.words;
            words[0] = first as u32;
            words[1] = count as u32;
            let offset = (stream.slots() * PARAM_WORDS * 4) as u32;
            stream.params.extend_from_slice(&words);
            stream.work[family] += count as f64 * launch.work;
            let pass = self.pass(&mut stream);
            pass.set_pipeline(&pipeline);
            pass.set_bind_group(0, &bindings, &[offset]);
            pass.dispatch_workgroups(columns, rows, 1);
            first += count;
        }
    }

    fn encoder<'a>(&self, stream: &'a mut Stream) -> &'a mut wgpu::CommandEncoder {
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
    pub fn copy(&self, from: (&wgpu::Buffer, u64), to: (&wgpu::Buffer, u64), bytes: u64) {
        let mut stream = lock(&self.stream);
        self.encoder(&mut stream)
            .copy_buffer_to_buffer(from.0, from.1, to.0, to.1, bytes);
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
        stream.writes.0 += 1;
        stream.writes.1 += bytes.len() as u64;
        if stream.writes.0 >= MAX_WRITES.0 || stream.writes.1 >= MAX_WRITES.1 {
            self.submit(&mut stream);
        }
    }

    /// Submits what was recorded; the index of the last submission.
    pub fn flush(&self) -> wgpu::SubmissionIndex {
        let mut stream = lock(&self.stream);
        self.submit(&mut stream)
    }

    /// Submits and waits for everything.
    pub fn finish(&self) {
        let index = self.flush();
        self.wait(index);
    }

    fn submit(&self, stream: &mut Stream) -> wgpu::SubmissionIndex {
        stream.pass = None;
        let commands = stream.encoder.take().map(wgpu::CommandEncoder::finish);
        if !stream.params.is_empty() {
            self.queue
                .write_buffer(&self.params, 0, bytemuck::cast_slice(&stream.params));
            stream.params.clear();
        }
        stream.writes = (0, 0);
        let index = self.queue.submit(commands);
        let alone = stream.flights.is_empty();
        stream.flights.push_back(Flight {
            index: index.clone(),
            work: std::mem::take(&mut stream.work),
            submitted: Instant::now(),
            alone,
        });
        while stream.flights.len() > IN_FLIGHT && !self.is_lost() {
            self.retire(stream);
        }
        if self.is_lost() {
            stream.flights.clear();
        }
        index
    }

    /// Waits for the oldest submission, and learns from the time it took.
    fn retire(&self, stream: &mut Stream) {
        let Some(flight) = stream.flights.pop_front() else {
            return;
        };
        let before = Instant::now();
        self.wait(flight.index);
        let after = Instant::now();
        // Only where this call saw it end is the end known.
        let seen = after - before > Duration::from_millis(1);
        let start = match (flight.alone, stream.ended) {
            (true, _) => Some(flight.submitted),
            (false, Some(ended)) => Some(ended.max(flight.submitted)),
            (false, None) => None,
        };
        if let (true, Some(start)) = (seen, start) {
            let took = (after - start).as_secs_f64();
            tracing::trace!(took, rates = ?stream.rates, "submission");
            stream.learn(flight.work, took);
        }
        stream.ended = seen.then_some(after);
    }

    /// Lets callbacks run, without waiting for long.
    pub fn poll(&self) {
        // Without a wait there is nothing to time out.
        let _ = self.wgpu.poll(wgpu::PollType::Poll);
        std::thread::yield_now();
    }

    /// Waits for a submission; silence beyond all patience counts as a lost device.
    pub fn wait(&self, index: wgpu::SubmissionIndex) {
        let waited = self.wgpu.poll(wgpu::PollType::Wait {
            submission_index: Some(index),
            timeout: Some(PATIENCE),
        });
        if let Err(error) = waited {
            self.fail_for_good(format!(
                "no answer within {} s ({error})",
                PATIENCE.as_secs()
            ));
        }
    }
}

impl Stream {
    /// An idle stream; `rates` are operations per second and family to start from.
    pub fn new(rates: [f64; FAMILIES]) -> Stream {
        Stream {
            encoder: None,
            pass: None,
            params: Vec::new(),
            work: [0.0; FAMILIES],
            rates,
            flights: VecDeque::new(),
            ended: None,
            writes: (0, 0),
        }
    }

    fn slots(&self) -> usize {
        self.params.len() / PARAM_WORDS
    }

    /// Estimated time of what is recorded.
    fn seconds(&self) -> f64 {
        seconds(&self.work, &self.rates)
    }

    fn learn(&mut self, work: [f64; FAMILIES], took: f64) {
        let expected = seconds(&work, &self.rates);
        // Short ones are mostly overhead.
        if expected < 1e-3 && took < 1e-2 {
            return;
        }
        // At most twice as fast at a time: too large a submission is worse than too small a one.
        let factor = (expected / took.max(1e-6)).clamp(0.1, 2.0);
        for (rate, work) in self.rates.iter_mut().zip(work) {
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

fn seconds(work: &[f64; FAMILIES], rates: &[f64; FAMILIES]) -> f64 {
    work.iter().zip(rates).map(|(w, r)| w / r).sum()
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
        lock(&gpu.device.stream).rates = [1e15; FAMILIES];
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
        stream.learn([6e7, 0.0, 0.0], 0.6);
        assert!((stream.rates[0] - 1e8).abs() < 1e3 && stream.rates[1] == 1e9);
        stream.learn([6e7, 0.0, 0.0], 0.01);
        assert!((stream.rates[0] - 2e8).abs() < 1e3);
    }
}
