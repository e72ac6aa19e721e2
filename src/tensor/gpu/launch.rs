//! Launches: kernels recorded and cut into submissions of a fraction of a second, by work and observed speed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::device::Device;
use super::kernel::Kernel;
use super::lock::lock;
use super::params::{PARAM_WORDS, Words, common};
use super::stream::{Flight, SLOTS, Stream};
use super::token::Tokens;

/// Estimated seconds of work per submission. Operating systems kill what takes seconds and stutter above
/// a quarter of one; below a few milliseconds the submission itself shows.
const TARGET_SECONDS: f64 = 0.06;
/// The most submissions under way.
const IN_FLIGHT: usize = 2;
/// Longest wait for one submission. Work is cut to a fraction of a second, so silence this long is a fault.
const PATIENCE: Duration = Duration::from_secs(120);
/// The most workgroups along one axis of a dispatch.
const MAX_GRID: u64 = 65_535;
/// The most uploads, and bytes of them, between submissions: wgpu frees their copies only then.
const MAX_WRITES: (usize, u64) = (32, 64 << 20);

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

impl Drop for Device {
    fn drop(&mut self) {
        // A pass or encoder left open would be reported as an error of the callers'.
        let mut stream = lock(&self.stream);
        stream.pass = None;
        stream.encoder = None;
    }
}

/// Grid of at least `count` workgroups, each side within the limit; kernels skip what is too many.
fn fold(count: u64) -> (u32, u32) {
    let rows = count.div_ceil(MAX_GRID).max(1);
    (count.div_ceil(rows) as u32, rows as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::gpu::kernel::FAMILIES;
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
}
