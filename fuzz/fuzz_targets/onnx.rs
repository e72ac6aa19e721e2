//! Any bytes as an ONNX file: an error, or a network that runs; libFuzzer's own changes of bytes.
#![no_main]

#[path = "../../tests/onnx_damage/check.rs"]
mod check;
#[path = "../../tests/onnx_damage/heap.rs"]
mod heap;
#[path = "../../tests/onnx_damage/run.rs"]
mod run;

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| check::check(bytes));
