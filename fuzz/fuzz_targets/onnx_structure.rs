//! As `onnx`, with changes that leave a model a model: sizes, names, operations, nodes more and less.
#![no_main]

#[path = "../../tests/onnx_damage/change.rs"]
mod change;
#[path = "../../tests/onnx_damage/check.rs"]
mod check;
#[path = "../../tests/onnx_damage/heap.rs"]
mod heap;
#[allow(dead_code)]
#[path = "../../src/import/onnx/proto.rs"]
mod proto;
#[path = "../../tests/onnx_damage/random.rs"]
mod random;
#[path = "../../tests/onnx_damage/run.rs"]
mod run;

use prost::Message;
use random::Random;

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| check::check(bytes));

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let Ok(mut model) = proto::Model::decode(&data[..size]) else {
        return libfuzzer_sys::fuzzer_mutate(data, size, max_size);
    };
    let mut random = Random(seed.into());
    change::open_up(&mut model);
    for _ in 0..=random.below(4) {
        change::change(&mut model, &mut random);
    }
    let bytes = model.encode_to_vec();
    if bytes.len() > max_size {
        return size;
    }
    data[..bytes.len()].copy_from_slice(&bytes);
    bytes.len()
});
