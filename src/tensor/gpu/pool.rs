//! Device memory: buffers in size classes, recycled when the last tensor that holds them drops.
//!
//! There is one queue and it runs in order, so a buffer may be given out again while commands that use it
//! are still under way: the new user's commands come after them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// Bytes of unused buffers kept at least where there is no budget, whatever the tensors in use.
const KEEP_BYTES: u64 = 256 << 20;
/// A request is rounded up by at most one part in this many.
const CLASS_PARTS: u64 = 16;
/// Tensors in use may exceed the budget by one part in this many, for the rounding and for what a plan
/// does not foresee.
const TOLERANCE_PARTS: u64 = 10;

#[derive(Default)]
struct State {
    /// Most bytes of buffers, in use or not, where the caller set any.
    budget: Option<u64>,
    free: HashMap<u64, Vec<wgpu::Buffer>>,
    free_bytes: u64,
    live_bytes: u64,
    peak_bytes: u64,
    staging: Vec<wgpu::Buffer>,
}

/// All buffers of one device.
pub(super) struct Pool {
    device: wgpu::Device,
    /// Largest buffer.
    largest: u64,
    /// Bytes of buffers beyond which the driver is taken to refuse more, for tests.
    refused_above: Option<u64>,
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
    pub fn new(
        device: wgpu::Device,
        budget: Option<u64>,
        largest: u64,
        refused_above: Option<u64>,
    ) -> Arc<Pool> {
        Arc::new(Pool {
            device,
            largest,
            refused_above,
            state: Mutex::new(State {
                budget,
                ..State::default()
            }),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves only counters behind, which stay usable.
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Sets the most bytes of buffers, in use or not.
    pub fn set_budget(&self, bytes: u64) {
        let mut state = self.state();
        state.budget = Some(bytes);
        let unused = bytes.saturating_sub(state.live_bytes);
        state.trim(unused);
    }

    /// Size class of a request, so that buffers of nearly the same size serve each other's tensors.
    fn class(&self, bytes: u64) -> u64 {
        let bytes = bytes.max(256);
        let power = 1 << bytes.ilog2();
        let step = (power / CLASS_PARTS).max(16);
        let class = bytes.div_ceil(step) * step;
        if class > self.largest { bytes } else { class }
    }

    /// A buffer of at least `bytes` bytes, or why there is none. Where unused buffers stand in the budget's
    /// way, [`Pool::make_room`] helps.
    pub fn acquire(self: &Arc<Self>, bytes: u64) -> Result<Block, String> {
        let class = self.class(bytes);
        let mut state = self.state();
        let recycled = state.free.get_mut(&class).and_then(Vec::pop);
        if recycled.is_some() {
            state.free_bytes -= class;
        }
        let live = state.live_bytes + class;
        if let Some(budget) = state.budget {
            let most = match recycled.is_some() || state.free_bytes == 0 {
                true => budget.saturating_add(budget / TOLERANCE_PARTS),
                false => budget.saturating_sub(state.free_bytes),
            };
            if live > most {
                let message = format!(
                    "out of the memory allowed: {class} bytes wanted, {} of {budget} in use",
                    state.live_bytes
                );
                if let Some(buffer) = recycled {
                    state.put(buffer);
                }
                return Err(message);
            }
        }
        let buffer = match recycled {
            Some(buffer) => buffer,
            None => {
                let held = live + state.free_bytes;
                if self.refused_above.is_some_and(|most| held > most) {
                    return Err(format!(
                        "a buffer of {class} bytes beside {}: refused, as a test asked for",
                        held - class
                    ));
                }
                self.create(class)?
            }
        };
        state.live_bytes = live;
        state.peak_bytes = state.peak_bytes.max(live + state.free_bytes);
        Ok(Block {
            buffer: Some(buffer),
            pool: self.clone(),
        })
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
        state.live_bytes -= buffer.size();
        state.put(buffer);
        let keep = state.live_bytes.max(KEEP_BYTES);
        if state.budget.is_none() && state.free_bytes > keep {
            // To half, so that this does not happen at every release.
            state.trim(keep / 2);
        }
    }

    /// Gives unused buffers back to the driver until `bytes` more fit the budget; some beyond that, so that
    /// it is not needed at every turn. The commands that used them should be through: the driver keeps a
    /// buffer as long.
    pub fn make_room(&self, bytes: u64) {
        let class = self.class(bytes);
        let mut state = self.state();
        let budget = state.budget.unwrap_or(0);
        let unused = budget.saturating_sub(state.live_bytes + class);
        state.trim(unused / 2);
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

    /// Bytes that tensors and tiles hold now.
    pub fn live_bytes(&self) -> u64 {
        self.state().live_bytes
    }

    /// Bytes of buffers kept for new tensors.
    pub fn free_bytes(&self) -> u64 {
        self.state().free_bytes
    }

    /// The most bytes of buffers there ever were, in use or not.
    pub fn peak_bytes(&self) -> u64 {
        self.state().peak_bytes
    }
}

impl State {
    /// Keeps an unused buffer.
    fn put(&mut self, buffer: wgpu::Buffer) {
        self.free_bytes += buffer.size();
        self.free.entry(buffer.size()).or_default().push(buffer);
    }

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
