//! Device memory: buffers in size classes, recycled when the last tensor that holds them drops.
//!
//! There is one queue and it runs in order, so a buffer may be given out again while commands that use it
//! are still under way: the new user's commands come after them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// Bytes of unused buffers kept at least, whatever the tensors in use.
const KEEP_BYTES: u64 = 256 << 20;

#[derive(Default)]
struct State {
    free: HashMap<u64, Vec<wgpu::Buffer>>,
    free_bytes: u64,
    live_bytes: u64,
    peak_bytes: u64,
    staging: Vec<wgpu::Buffer>,
}

/// All buffers of one device.
pub(super) struct Pool {
    device: wgpu::Device,
    /// Most bytes in all, where the caller set a limit.
    limit: Option<u64>,
    /// Largest buffer.
    largest: u64,
    state: Mutex<State>,
}

/// A buffer in use; goes back to its pool when dropped.
pub(super) struct Block {
    buffer: Option<wgpu::Buffer>,
    pool: Arc<Pool>,
}

impl Block {
    pub fn buffer(&self) -> &wgpu::Buffer {
        self.buffer.as_ref().expect("taken only by drop")
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.pool.release(buffer);
        }
    }
}

impl Pool {
    pub fn new(device: wgpu::Device, limit: Option<u64>, largest: u64) -> Arc<Pool> {
        Arc::new(Pool {
            device,
            limit,
            largest,
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves only counters behind, which stay usable.
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Size class of a request: four steps per power of two.
    fn class(&self, bytes: u64) -> u64 {
        let bytes = bytes.max(256);
        let step = (bytes.next_power_of_two() / 8).max(64);
        let class = bytes.div_ceil(step) * step;
        if class > self.largest { bytes } else { class }
    }

    /// A buffer of at least `bytes` bytes, or why there is none.
    pub fn acquire(self: &Arc<Self>, bytes: u64) -> Result<Block, String> {
        let class = self.class(bytes);
        let mut state = self.state();
        let block = |buffer| Block {
            buffer: Some(buffer),
            pool: self.clone(),
        };
        if let Some(limit) = self.limit
            && state.live_bytes + class > limit
        {
            return Err(format!(
                "out of the memory allowed: {class} bytes wanted, {} of {limit} in use",
                state.live_bytes
            ));
        }
        let recycled = state.free.get_mut(&class).and_then(Vec::pop);
        let buffer = match recycled {
            Some(buffer) => {
                state.free_bytes -= class;
                buffer
            }
            None => {
                if let Some(limit) = self.limit {
                    let allowed = limit - state.live_bytes - class;
                    state.trim(allowed);
                }
                self.create(class)?
            }
        };
        state.live_bytes += class;
        state.peak_bytes = state.peak_bytes.max(state.live_bytes);
        Ok(block(buffer))
    }

    fn create(&self, size: u64) -> Result<wgpu::Buffer, String> {
        let usage = wgpu::BufferUsages::STORAGE
            | wgpu::BufferUsages::COPY_SRC
            | wgpu::BufferUsages::COPY_DST;
        self.create_with(size, usage)
    }

    fn create_with(&self, size: u64, usage: wgpu::BufferUsages) -> Result<wgpu::Buffer, String> {
        let memory = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let validation = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size,
            usage,
            mapped_at_creation: false,
        });
        let refused = pollster::block_on(validation.pop());
        let exhausted = pollster::block_on(memory.pop());
        match refused.or(exhausted) {
            None => Ok(buffer),
            Some(error) => Err(format!("a buffer of {size} bytes: {error}")),
        }
    }

    fn release(&self, buffer: wgpu::Buffer) {
        let mut state = self.state();
        let size = buffer.size();
        state.live_bytes -= size;
        state.free_bytes += size;
        state.free.entry(size).or_default().push(buffer);
        let keep = state.live_bytes.max(KEEP_BYTES);
        if state.free_bytes > keep {
            // To half, so that this does not happen at every release.
            state.trim(keep / 2);
        }
    }

    /// Gives all unused buffers back to the driver.
    pub fn trim(&self) {
        let mut state = self.state();
        state.trim(0);
        state.staging.clear();
    }

    /// A buffer for reading back at least `bytes` bytes.
    pub fn acquire_staging(&self, bytes: u64) -> Result<wgpu::Buffer, String> {
        let class = self.class(bytes);
        {
            let mut state = self.state();
            if let Some(k) = state.staging.iter().position(|b| b.size() == class) {
                return Ok(state.staging.swap_remove(k));
            }
        }
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        self.create_with(class, usage)
    }

    /// Takes an unmapped staging buffer back; a ring of a few is kept.
    pub fn release_staging(&self, buffer: wgpu::Buffer) {
        let mut state = self.state();
        state.staging.push(buffer);
        if state.staging.len() > 4 {
            state.staging.remove(0);
        }
    }

    /// Bytes that tensors and tiles hold now, and the most they ever held.
    pub fn in_use(&self) -> (u64, u64) {
        let state = self.state();
        (state.live_bytes, state.peak_bytes)
    }
}

impl State {
    /// Drops unused buffers, the largest first, until at most `allowed` bytes of them are left.
    fn trim(&mut self, allowed: u64) {
        while self.free_bytes > allowed {
            let largest = self.free.iter().filter(|(_, list)| !list.is_empty());
            let Some(size) = largest.map(|(size, _)| *size).max() else {
                return;
            };
            self.free.get_mut(&size).and_then(Vec::pop);
            self.free_bytes -= size;
        }
    }
}
