//! What is expected of any safetensors file: an error, or the weights of a network.

use crate::{heap, scratch};
use hessblock::internals::import::weights::{Place, read};

/// Bytes that any file may take.
pub const ANY: usize = 1 << 20;
/// Those per byte of its own: the file, its header's entries by name, and its numbers twice over in double precision.
pub const PER_BYTE: usize = 64;

/// The places of a small network.
pub fn places() -> Vec<Place> {
    let place = |name: &str, shape: &[usize], required: bool| Place {
        name: name.into(),
        shape: shape.to_vec(),
        required,
    };
    vec![
        place("fc.weight", &[2, 3], true),
        place("fc.bias", &[2], true),
        place("scale", &[], false),
        place("none", &[0, 4], false),
    ]
}

/// Reads a file; says whether it fits the places.
pub fn check(bytes: &[u8]) -> bool {
    scratch::with(|scratch| {
        let path = scratch.write("tried.safetensors", bytes);
        let (values, peak) = heap::peak(|| read(&path, &places()));
        assert!(
            peak <= ANY + PER_BYTE * bytes.len(),
            "{peak} bytes for a file of {}",
            bytes.len()
        );
        match values {
            Ok(values) => {
                for (name, array) in &values {
                    let count: usize = array.shape.iter().product();
                    assert_eq!(array.to_f64().len(), count, "{name}");
                }
                true
            }
            Err(error) => {
                let message = error.to_string();
                assert!(message.contains("tried.safetensors"), "{message}");
                assert!(
                    message.len() <= (64 << 10) + 16 * bytes.len(),
                    "{} bytes",
                    message.len()
                );
                false
            }
        }
    })
}
