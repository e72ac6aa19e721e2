//! Any bytes as a safetensors file, and any text as the header of one: an error, or the weights of a network.
#![no_main]
#![allow(dead_code)] // modules that the ordinary tests use too

#[path = "../../tests/onnx_damage/heap.rs"]
mod heap;
#[path = "../../tests/damage/scratch.rs"]
mod scratch;
#[path = "../../tests/damage/weights.rs"]
mod weights;

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    weights::check(bytes);
    // The header as long as it says, with numbers behind it.
    let header = bytes.get(8..).unwrap_or(&[]);
    let length = (header.len() as u64).to_le_bytes();
    weights::check(&[&length, header, &[0; 36]].concat());
});
