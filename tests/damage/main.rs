//! Data, weights, manifests and leftovers that are damaged, or made to do harm: an error or a value that works, never a
//! panic, and no more memory than their size allows. `fuzz/` does the same for longer; `tests/onnx_damage` for networks.

mod array;
mod change;
mod harm;
#[path = "../onnx_damage/heap.rs"]
mod heap;
mod leftover;
#[path = "../onnx_damage/random.rs"]
mod random;
mod result;
mod scratch;
mod seeds;
mod weights;

use change::changed;
use random::Random;

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;

/// Calls `check` with changed seeds, as often as is said.
fn each(seeds: &[Vec<u8>], count: usize, text: bool, mut check: impl FnMut(&[u8])) {
    let mut random = Random(count as u64);
    for _ in 0..count {
        let seed = &seeds[random.below(seeds.len())];
        check(&changed(seed, &mut random, text));
    }
}

#[test]
fn whole_files_are_read() {
    assert!(
        seeds::npy()
            .iter()
            .all(|bytes| array::check("tried.npy", bytes))
    );
    assert!(
        seeds::npz()
            .iter()
            .all(|bytes| array::check("tried.npz", bytes))
    );
    assert!(
        seeds::idx()
            .iter()
            .all(|bytes| array::check("tried", bytes))
    );
    for bytes in seeds::npy().iter().chain(&seeds::idx()) {
        assert!(array::check("tried.gz", &array::gzip(bytes)));
    }
    let weights: Vec<bool> = seeds::weights().iter().map(|b| weights::check(b)).collect();
    assert_eq!(weights, [true, true, true, true, false]);
    for (form, bytes) in seeds::manifests() {
        assert!(result::check(form, &bytes), "{form:?}");
    }
    // One of the last two is shared, and this run is not.
    let leftovers: Vec<bool> = seeds::leftovers()
        .iter()
        .map(|b| leftover::check(b))
        .collect();
    assert_eq!(leftovers, [false, false, false, true]);
}

#[test]
fn changed_arrays_never_panic() {
    let (npy, idx) = (seeds::npy(), seeds::idx());
    each(&npy, 6_000, false, |bytes| {
        _ = array::check("tried.npy", bytes)
    });
    each(&npy, 4_000, true, |bytes| {
        _ = array::check("tried.npy", bytes)
    });
    each(&idx, 6_000, false, |bytes| _ = array::check("tried", bytes));
}

#[test]
fn changed_compressed_arrays_never_panic() {
    let both = [seeds::npy(), seeds::idx()].concat();
    let compressed: Vec<Vec<u8>> = both.iter().map(|bytes| array::gzip(bytes)).collect();
    each(&compressed, 4_000, false, |bytes| {
        _ = array::check("tried.gz", bytes)
    });
    each(&both, 2_000, false, |bytes| {
        _ = array::check("tried.gz", &array::gzip(bytes))
    });
    each(&seeds::npz(), 6_000, false, |bytes| {
        _ = array::check("tried.npz", bytes)
    });
    each(&seeds::npy(), 2_000, false, |bytes| {
        array::check("tried.npz", &array::archive(&[("x.npy", bytes)], true));
        array::check("tried.npz", &array::archive(&[("x.npy", bytes)], false));
    });
}

#[test]
fn changed_weights_never_panic() {
    each(&seeds::weights(), 6_000, false, |bytes| {
        _ = weights::check(bytes)
    });
    // The header stays as long as it says.
    let headers = seeds::weights().into_iter().map(|bytes| {
        let length = u64::from_le_bytes(*bytes.first_chunk().expect("its length")) as usize;
        bytes[8..8 + length].to_vec()
    });
    each(&headers.collect::<Vec<_>>(), 6_000, true, |header| {
        let text = String::from_utf8_lossy(header);
        weights::check(&seeds::tensors(&text, 36));
    });
}

#[test]
fn changed_manifests_never_panic() {
    for form in result::Form::all() {
        let seeds = seeds::manifests().into_iter();
        let seeds: Vec<_> = seeds.filter(|s| s.0 == form).map(|s| s.1).collect();
        each(&seeds, 1_000, false, |bytes| _ = result::check(form, bytes));
        each(&seeds, 2_000, true, |bytes| _ = result::check(form, bytes));
        // Manifests are long: alone, what lies behind them is met as often.
        let behind = seeds.iter().filter_map(|seed| {
            let at = seed.iter().position(|byte| *byte == 0)?;
            Some((seed[..=at].to_vec(), seed[at + 1..].to_vec()))
        });
        for (manifest, behind) in behind {
            each(&[behind], 1_000, false, |bytes| {
                result::check(form, &[&manifest[..], bytes].concat());
            });
        }
    }
}

#[test]
fn changed_leftovers_never_panic() {
    let seeds = seeds::leftovers();
    each(&seeds, 500, false, |bytes| _ = leftover::check(bytes));
    each(&seeds, 1_000, true, |bytes| _ = leftover::check(bytes));
    // The plan as it was, so that its list is what is read, whatever was changed in it.
    let (plan, list) = split(&unsigned(&seeds[3]));
    each(&[list], 1_000, true, |list| {
        leftover::check(&[&plan[..], list].join(&0));
    });
}

/// The plan and the list of a leftover.
fn split(seed: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let at = seed
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(seed.len());
    (seed[..at].to_vec(), seed[at + 1..].to_vec())
}

/// The list of a leftover without its checksums, which are then made for what its lines say.
fn unsigned(seed: &[u8]) -> Vec<u8> {
    let (plan, list) = split(seed);
    let list = String::from_utf8_lossy(&list).into_owned();
    let lines = list
        .lines()
        .map(|line| line.split(" =").next().unwrap_or(line));
    let lines: Vec<&str> = lines.collect();
    [plan, lines.join("\n").into_bytes()].join(&0)
}

#[test]
#[ignore = "writes the first corpus of fuzz/, called by fuzz/seed.sh"]
fn the_first_corpus_is_written() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let manifests = seeds::manifests().into_iter().map(|(_, bytes)| bytes);
    let leftovers = seeds::leftovers();
    let gzipped = seeds::idx().into_iter().map(|bytes| array::gzip(&bytes));
    let all: [(&str, Vec<Vec<u8>>); 6] = [
        ("npy", seeds::npy()),
        ("npz", [seeds::npz(), seeds::npy()].concat()),
        ("idx", seeds::idx().into_iter().chain(gzipped).collect()),
        ("safetensors", seeds::weights()),
        ("manifest", manifests.collect()),
        (
            "leftover",
            leftovers.iter().map(|seed| unsigned(seed)).collect(),
        ),
    ];
    for (target, seeds) in all {
        let folder = folder.join(target);
        std::fs::create_dir_all(&folder).expect("a folder");
        for (k, seed) in seeds.iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{k}")), seed).expect("a file");
        }
    }
}
