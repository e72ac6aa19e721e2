//! Any text as the manifest of a result of every form, with or without what else its first array has: an error, or a result that
//! is read and shown.
#![no_main]
#![allow(dead_code)] // modules that the ordinary tests use too

#[path = "../../tests/onnx_damage/heap.rs"]
mod heap;
#[path = "../../tests/damage/result.rs"]
mod result;
#[path = "../../tests/damage/scratch.rs"]
mod scratch;

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for form in result::Form::all() {
        result::check(form, bytes);
    }
});
