//! Files that are damaged, or made to do harm: an error or a network that runs, never a panic, and no more memory
//! than their size allows. `fuzz/` does the same for longer.

mod change;
mod check;
mod harm;
mod heap;
#[allow(dead_code)] // the importer's own, of which this uses a part
#[path = "../../src/import/onnx/proto.rs"]
mod proto;
mod random;
mod run;

use change::{change, open_up};
use check::{check, check_with};
use hessblock::onnx::OnnxOptions;
use proptest::prelude::*;
use proptest::sample::Index;
use prost::Message;
use random::Random;
use std::collections::HashSet;
use std::path::Path;
use std::sync::LazyLock;

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;

/// The golden models with their names.
static MODELS: LazyLock<Vec<(String, Vec<u8>)>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models");
    let files = std::fs::read_dir(folder).expect("the golden models");
    let mut files: Vec<_> = files.map(|f| f.expect("a file").path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "onnx"));
    files.sort();
    let name = |path: &Path| {
        path.file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    let read = |path: &std::path::PathBuf| (name(path), std::fs::read(path).expect("a file"));
    files.iter().map(read).collect()
});

#[test]
fn most_of_the_golden_models_run_as_they_are() {
    let options = OnnxOptions::default();
    let within: Vec<_> = MODELS.iter().step_by(5).collect();
    let failed: Vec<_> = within
        .iter()
        .filter(|(_, bytes)| !check_with(bytes, &options))
        .map(|(name, _)| name)
        .collect();
    assert!(failed.len() * 10 < within.len(), "{failed:?}");
}

/// The first node of each kind, with each number of inputs, loses them one by one.
#[test]
fn nodes_without_one_of_their_inputs_never_panic() {
    let mut met = HashSet::new();
    for (_, bytes) in MODELS.iter() {
        let whole = proto::Model::decode(bytes.as_slice()).expect("a golden model");
        for (k, node) in whole.graph.iter().flat_map(|g| g.node.iter()).enumerate() {
            let count = node.input.len();
            if !met.insert((node.op_type.clone(), count)) {
                continue;
            }
            for input in 0..count {
                let mut model = whole.clone();
                let graph = model.graph.as_mut().expect("a graph");
                graph.node[k].input[input].clear();
                check(&model.encode_to_vec());
            }
        }
    }
    assert!(met.len() > 100, "{} kinds of nodes", met.len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    #[test]
    fn changed_bytes_never_panic(
        which in any::<Index>(),
        flips in prop::collection::vec((any::<Index>(), 1u8..=255), 1..6),
    ) {
        let mut bytes = which.get(&MODELS).1.clone();
        for (at, mask) in &flips {
            let at = at.index(bytes.len());
            bytes[at] ^= mask;
        }
        check(&bytes);
    }

    #[test]
    fn changed_graphs_never_panic(
        which in any::<Index>(),
        changes in prop::collection::vec(any::<u64>(), 1..4),
    ) {
        let bytes = &which.get(&MODELS).1;
        let mut model = proto::Model::decode(bytes.as_slice()).expect("a golden model");
        open_up(&mut model);
        for seed in changes {
            change(&mut model, &mut Random(seed));
        }
        check(&model.encode_to_vec());
    }
}
