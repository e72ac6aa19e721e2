//! What every target does with a file.

use crate::{heap, run};
use hessblock::import::onnx::{OnnxOptions, load_bytes};
use std::sync::Once;

/// As in `tests/onnx_damage`.
const ANY: usize = 256 << 20;
const PER_BYTE: usize = 1 << 10;

/// Loads a file, and runs what comes out of it where that is small.
pub fn check(bytes: &[u8]) {
    static ONE_THREAD: Once = Once::new();
    // SAFETY: nothing else runs before the first file.
    ONE_THREAD.call_once(|| unsafe { std::env::set_var("RAYON_NUM_THREADS", "1") });
    let load = || load_bytes(bytes, "nowhere/fuzzed.onnx", &OnnxOptions::default());
    let (network, peak) = heap::peak(load);
    assert!(
        peak <= ANY + PER_BYTE * bytes.len(),
        "{peak} bytes for a file of {}",
        bytes.len()
    );
    if let Ok(network) = network
        && run::small(&network)
    {
        let _ = run::run(network);
    }
}
