//! What a device can do at most, measured: multiply-adds from registers, writing and copying memory.

use super::measure::time;
use crate::control::CancelToken;
use crate::device::{Device, Kind};
use crate::error::Result;
use crate::plan::budget::available_memory;
#[cfg(feature = "gpu")]
use crate::tensor::{Backend, Expr, Shape, gpu::Gpu};
#[cfg(feature = "gpu")]
use crate::trial::wait;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
#[cfg(feature = "gpu")]
use std::cell::RefCell;
use std::hint::black_box;
use std::sync::atomic::AtomicBool;

/// Seconds that each number is measured for.
const SECONDS: f64 = 0.25;
/// Bytes of a buffer that is well beyond every cache.
const BYTES: u64 = 256 << 20;
/// Bytes that a thread writes or copies at a time.
const PIECE: usize = 1 << 20;
/// Multiply-adds under way: more than latency × units of today's cores, fewer than there are registers.
const CHAINS: usize = if cfg!(target_arch = "aarch64") {
    20
} else {
    12
};
/// Where the chains start: apart, or equal ones would be computed once.
const STARTS: [f32; CHAINS] = {
    let mut starts = [2.0; CHAINS];
    let mut k = 0;
    while k < CHAINS {
        starts[k] += k as f32;
        k += 1;
    }
    starts
};
/// Steps of a chain between looks at the clock.
const STEPS: usize = 100_000;

/// The rates of a device; `None` where they were not measured.
///
/// ```
/// use hessblock::bench::Peak;
/// let peak = Peak {
///     flops: Some(4e11),
///     one_thread_flops: Some(1e11),
///     write: Some(2e10),
///     copy: Some(3e10),
/// };
/// assert_eq!((peak.scaling(), peak.bandwidth()), (Some(4.0), Some(3e10)));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Peak {
    /// Floating-point operations per second of multiply-adds (two each) on all threads.
    pub flops: Option<f64>,
    /// The same on one thread of a CPU. Two virtual cores are at times one physical core: the ratio says so.
    pub one_thread_flops: Option<f64>,
    /// Bytes per second written.
    pub write: Option<f64>,
    /// Bytes per second read and written by a copy.
    pub copy: Option<f64>,
}

impl Peak {
    /// The faster of writing and copying.
    pub fn bandwidth(&self) -> Option<f64> {
        match (self.write, self.copy) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        }
    }

    /// All threads over one.
    pub fn scaling(&self) -> Option<f64> {
        Some(self.flops? / self.one_thread_flops?)
    }

    /// Measures a device, in the precision that it has here.
    ///
    /// # Errors
    /// What the device reports; [`crate::Error::Interrupted`].
    pub fn measure(device: &Device, cancel: &CancelToken) -> Result<Peak> {
        Peak::measure_until(device, cancel.flag())
    }

    pub(super) fn measure_until(device: &Device, cancel: &AtomicBool) -> Result<Peak> {
        match device.kind() {
            Kind::CpuF32(_) => cpu(false, cancel),
            Kind::CpuF64(_) => cpu(true, cancel),
            #[cfg(feature = "gpu")]
            Kind::Gpu(gpu) => of_gpu(gpu, cancel),
            #[cfg(feature = "gpu")]
            Kind::Gpus(gpus) => of_gpu(gpus.first(), cancel),
        }
    }
}

/// Chains of multiply-adds in the machine's vectors.
struct Chains {
    double: bool,
}

impl WithSimd for Chains {
    /// Operations.
    type Output = u64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> u64 {
        // x ← x·0.999 + 0.001 goes to 1: no denormal number slows it, and no compiler knows where it starts.
        if self.double {
            let [scale, shift] = black_box([0.999, 0.001]).map(|x| simd.splat_f64s(x));
            let mut sums = black_box(STARTS).map(|x| simd.splat_f64s(x.into()));
            for _ in 0..STEPS {
                for sum in &mut sums {
                    *sum = simd.mul_add_e_f64s(*sum, scale, shift);
                }
            }
            black_box(sums);
            (2 * STEPS * CHAINS * S::F64_LANES) as u64
        } else {
            let [scale, shift] = black_box([0.999, 0.001]).map(|x| simd.splat_f32s(x));
            let mut sums = black_box(STARTS).map(|x| simd.splat_f32s(x));
            for _ in 0..STEPS {
                for sum in &mut sums {
                    *sum = simd.mul_add_e_f32s(*sum, scale, shift);
                }
            }
            black_box(sums);
            (2 * STEPS * CHAINS * S::F32_LANES) as u64
        }
    }
}

/// The same in vectors of 512 bits, which faer's products take where there are any, and `pulp` as built here does not.
#[cfg(target_arch = "x86_64")]
mod wide {
    use super::{CHAINS, STARTS, STEPS};
    use std::arch::x86_64::*;
    use std::hint::black_box;

    #[target_feature(enable = "avx512f")]
    fn single() -> u64 {
        let (scale, shift) = black_box((0.999, 0.001));
        let (scale, shift) = (_mm512_set1_ps(scale), _mm512_set1_ps(shift));
        let mut sums = [_mm512_setzero_ps(); CHAINS];
        for (sum, start) in sums.iter_mut().zip(black_box(STARTS)) {
            *sum = _mm512_set1_ps(start);
        }
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, scale, shift);
            }
        }
        black_box(sums);
        (2 * STEPS * CHAINS * 16) as u64
    }

    #[target_feature(enable = "avx512f")]
    fn double() -> u64 {
        let (scale, shift) = black_box((0.999, 0.001));
        let (scale, shift) = (_mm512_set1_pd(scale), _mm512_set1_pd(shift));
        let mut sums = [_mm512_setzero_pd(); CHAINS];
        for (sum, start) in sums.iter_mut().zip(black_box(STARTS)) {
            *sum = _mm512_set1_pd(f64::from(start));
        }
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = _mm512_fmadd_pd(*sum, scale, shift);
            }
        }
        black_box(sums);
        (2 * STEPS * CHAINS * 8) as u64
    }

    /// Operations; `None` on a processor without such vectors.
    pub(super) fn chains(of_double: bool) -> Option<u64> {
        if !std::is_x86_feature_detected!("avx512f") {
            return None;
        }
        // SAFETY: the processor has AVX-512F, which is all that these functions need.
        Some(unsafe { if of_double { double() } else { single() } })
    }
}

/// Operations of the widest vectors of this machine, or of those of `pulp`.
fn chains(double: bool, widest: bool) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if let Some(operations) = wide::chains(double).filter(|_| widest) {
        return operations;
    }
    let _ = widest;
    Arch::new().dispatch(Chains { double })
}

/// Operations per second of one thread or all, the best of both kinds of vectors: wide ones may lower the clock.
fn fma(double: bool, all: bool, cancel: &AtomicBool) -> Result<f64> {
    let mut best = 0.0f64;
    for widest in [false, true] {
        let work = || match all {
            true => rayon::broadcast(|_| chains(double, widest)).iter().sum(),
            false => chains(double, widest),
        };
        let operations: u64 = work();
        let start = || {
            black_box(work());
            Ok(())
        };
        let timing = time(&start, &|| Ok(()), SECONDS / 2.0, cancel)?;
        best = best.max(operations as f64 / timing.least_seconds);
    }
    Ok(best)
}

fn cpu(double: bool, cancel: &AtomicBool) -> Result<Peak> {
    // An eighth of what is free at most, so that a small machine does not swap.
    let bytes = available_memory().map_or(BYTES, |free| BYTES.min(free / 8));
    let count = (bytes / 8) as usize;
    let mut from = vec![0u64; count];
    let mut to = vec![0u64; count];
    let pieces = PIECE / 8;
    from.par_chunks_mut(pieces).for_each(|piece| piece.fill(1));
    let to_lock = std::sync::Mutex::new(&mut to);
    let locked = |work: &dyn Fn(&mut [u64])| {
        let mut to = to_lock
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        work(to.as_mut_slice());
        black_box(to.last());
        Ok(())
    };
    let write = || {
        locked(&|to| {
            to.par_chunks_mut(pieces)
                .for_each(|piece| piece.fill(black_box(2)))
        })
    };
    let copy = || {
        locked(&|to| {
            let pairs = to.par_chunks_mut(pieces).zip(from.par_chunks(pieces));
            pairs.for_each(|(to, from)| to.copy_from_slice(from));
        })
    };
    write()?;
    let wrote = time(&write, &|| Ok(()), SECONDS, cancel)?.least_seconds;
    let copied = time(&copy, &|| Ok(()), SECONDS, cancel)?.least_seconds;
    let bytes = (count * 8) as f64;
    Ok(Peak {
        flops: Some(fma(double, true, cancel)?),
        one_thread_flops: Some(fma(double, false, cancel)?),
        write: Some(bytes / wrote),
        copy: Some(2.0 * bytes / copied),
    })
}

/// A GPU by kernels of this crate: a chain of multiply-adds at every position, a fill, and a negation as the copy.
#[cfg(feature = "gpu")]
fn of_gpu(gpu: &Gpu, cancel: &AtomicBool) -> Result<Peak> {
    /// Multiply-adds at a position; its number is read and written once.
    const LENGTH: usize = 256;
    /// Positions at least, and at most: as many as keep the device busy for [`LONG`], or a large GPU would be through
    /// before the next start reaches it.
    const WIDE: (usize, usize) = (1 << 21, 1 << 25);
    const LONG: f64 = 5e-4;
    let timed = |work: &dyn Fn() -> <Gpu as Backend>::Tensor| {
        let last = RefCell::new(None);
        let start = || {
            *last.borrow_mut() = Some(work());
            Ok(())
        };
        let wait = || match last.borrow_mut().take() {
            Some(tensor) => wait(gpu, &tensor),
            None => Ok(()),
        };
        start()?;
        wait()?;
        Ok::<f64, crate::Error>(time(&start, &wait, SECONDS, cancel)?.least_seconds)
    };
    // Read from memory, so that no compiler knows them.
    let scale = gpu.fill(&Shape::new(1, 1, &[1]), 0.999);
    let shift = gpu.fill(&Shape::new(1, 1, &[1]), 0.001);
    let mut chain = Expr::input(0);
    for _ in 0..LENGTH {
        chain = chain * Expr::input(1) + Expr::input(2);
    }
    let mut wide = WIDE.0;
    let flops = loop {
        let x = gpu.fill(&Shape::new(1, 1, &[wide]), 1.0);
        let seconds = timed(&|| gpu.map(&chain, &[&x, &scale, &shift]))?;
        if seconds >= LONG || wide >= WIDE.1 {
            break (2 * LENGTH * wide) as f64 / seconds;
        }
        wide *= 4;
    };
    // Beyond the caches of a large GPU too, and three of them are held at a time.
    let free = gpu.memory().free_bytes.map_or(BYTES, |free| free / 16);
    let bytes = (4 * BYTES).min(free.max(BYTES)).min(gpu.max_tensor_bytes());
    let shape = Shape::new(1, 1, &[(bytes / 4) as usize]);
    let bytes = (shape.len() * 4) as f64;
    let from = gpu.fill(&shape, 1.0);
    let negated = Expr::constant(-1.0) * Expr::input(0);
    Ok(Peak {
        flops: Some(flops),
        one_thread_flops: None,
        write: Some(bytes / timed(&|| gpu.fill(&shape, 2.0))?),
        copy: Some(2.0 * bytes / timed(&|| gpu.map(&negated, &[&from]))?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_count_what_they_do_and_peaks_are_told_apart() {
        let lanes = chains(false, false) / chains(true, false);
        assert_eq!(lanes, 2);
        let peak = Peak {
            flops: Some(3.0),
            one_thread_flops: Some(2.0),
            write: None,
            copy: Some(5.0),
        };
        assert_eq!((peak.scaling(), peak.bandwidth()), (Some(1.5), Some(5.0)));
        assert_eq!(Peak::default().bandwidth(), None);
    }
}
