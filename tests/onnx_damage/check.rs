//! What is expected of any file: an error, or a network that runs, within the memory that its size allows.

use crate::{heap, run};
use hessblock::onnx::{OnnxOptions, load_bytes};

/// Bytes that any file may take, and those per byte of its own: folding one node, besides all that the importer lets
/// a file make, and protobuf, where two bytes are an empty node.
pub const ANY: usize = 512 << 20;
pub const PER_BYTE: usize = 1 << 10;

/// As [`check_with`], with patterns by the size: a file always takes the same way.
pub fn check(bytes: &[u8]) {
    let mut options = OnnxOptions::default();
    match bytes.len() % 8 {
        0 => options.trainable = vec!["*".into()],
        1 => options.constant = vec!["*".into()],
        _ => {}
    }
    check_with(bytes, &options);
}

/// Loads a file, and runs what comes out of it where that is small. Says whether it ran.
pub fn check_with(bytes: &[u8], options: &OnnxOptions) -> bool {
    let load = || load_bytes(bytes, "nowhere/damaged.onnx", options);
    let (network, peak) = heap::peak(load);
    assert!(
        peak <= ANY + PER_BYTE * bytes.len(),
        "{peak} bytes for a file of {}",
        bytes.len()
    );
    let Ok(network) = network else { return false };
    run::describe(&network);
    run::small(&network) && run::run(network).is_ok()
}
