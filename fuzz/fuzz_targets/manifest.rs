//! Any text as the manifest of a result, with or without the bytes of its first array: an error, or a result that is read.
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
    for form in result::Form::ALL {
        result::check(form, bytes);
    }
});
