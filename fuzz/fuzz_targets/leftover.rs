//! Any text as `plan.json` and the list of done tiles that a run left: an error, or a result that is gone on with or merged.
#![no_main]
#![allow(dead_code)] // modules that the ordinary tests use too

#[path = "../../tests/onnx_damage/heap.rs"]
mod heap;
#[path = "../../tests/damage/leftover.rs"]
mod leftover;
#[path = "../../tests/damage/result.rs"]
mod result;
#[path = "../../tests/damage/scratch.rs"]
mod scratch;

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    leftover::check(bytes);
});
