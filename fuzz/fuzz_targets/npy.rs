//! Any bytes as a `.npy` file: an error, or an array whose samples can be read.
#![no_main]
#![allow(dead_code)] // modules that the ordinary tests use too

#[path = "../../tests/damage/array.rs"]
mod array;
#[path = "../../tests/onnx_damage/heap.rs"]
mod heap;
#[path = "../../tests/damage/scratch.rs"]
mod scratch;

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    array::check("tried.npy", bytes);
});
