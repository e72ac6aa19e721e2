//! Small files made to take memory or time, by hand.

use crate::result::Form;
use crate::{array, heap, leftover, result, scratch, seeds, weights};
use hessblock::data::ArraySource;
use hessblock::internals::files::npy::write_header;
use hessblock::internals::sink::Blocks;
use serde_json::{Value, json};

/// A `.npy` file of version 2 with that text as its header.
fn npy(text: &str) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x02\x00".to_vec();
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes
}

#[test]
fn arrays_that_claim_too_much_take_nothing() {
    for shape in [
        &[1usize << 60][..],
        &[1 << 40, 1 << 40],
        &[usize::MAX, usize::MAX, 0],
        &[0, usize::MAX],
        &[0, 1 << 32, 1 << 32],
        &[usize::MAX],
        &[1 << 60, 0],
    ] {
        for name in ["<f8", "|u1"] {
            let bytes = write_header(name, shape);
            array::check("tried.npy", &bytes);
            array::check("tried.gz", &array::gzip(&bytes));
            array::check("tried.npz", &array::archive(&[("x.npy", &bytes)], true));
            array::check("tried.npz", &array::archive(&[("x.npy", &bytes)], false));
        }
    }
    // A header of 4 GiB in 16 bytes, one of a mebibyte of brackets, of extents, of one string.
    let mut long = npy("");
    long[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(!array::check("tried.npy", &long));
    for piece in ["(", "1,", "\u{fffd}", " ", "'", "{"] {
        let text = format!("{{'shape': ({}", piece.repeat((1 << 20) / piece.len() - 20));
        assert!(!array::check("tried.npy", &npy(&text)));
        assert!(!array::check("tried.gz", &array::gzip(&npy(&text))));
    }
    let mut idx = vec![0, 0, 0x0e, 255];
    idx.extend([0xff; 4 * 255]);
    assert!(!array::check("tried", &idx));
    idx[4..].fill(0);
    array::check("tried", &idx);
    // No number, but as many rows of none as there are: found by fuzz/.
    let mut idx = vec![0, 0, 0x0e, 4];
    idx.extend(
        [0xff_ff_ff_04u32, 0x1_02_ff, 0, 0xff]
            .map(u32::to_be_bytes)
            .as_flattened(),
    );
    assert!(array::check("tried", &idx));
}

/// What is compressed a thousandfold is read within the memory of what is asked for.
#[test]
fn compressed_files_are_read_as_far_as_is_asked_for() {
    let mut bytes = write_header("|u1", &[1 << 12, 1 << 12]);
    bytes.resize(bytes.len() + (1 << 24), 0);
    for (name, bytes) in [
        ("tried.gz", array::gzip(&bytes)),
        ("tried.npz", array::archive(&[("x.npy", &bytes)], true)),
    ] {
        assert!(bytes.len() < 200_000);
        assert!(array::check(name, &bytes));
    }
}

/// One that says more than comes out of it is refused, and what it says is never taken.
#[test]
fn compressed_files_that_lie_take_no_memory() {
    let honest = 1 << 16;
    let mut bytes = write_header("|u1", &[40_000_000]);
    bytes.resize(bytes.len() + honest, 7);
    // What is random does not shrink, so that the file is long enough to be believed.
    let mut state = 1u32;
    bytes.extend((0..honest).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    }));
    for (name, bytes) in [
        ("tried.gz", array::gzip(&bytes)),
        ("tried.npz", array::archive(&[("x.npy", &bytes)], true)),
    ] {
        scratch::with(|scratch| {
            let path = scratch.write(name, &bytes);
            // An archive says how long its members are, so that a lie is seen when it is opened.
            let (read, peak) = heap::peak(|| {
                ArraySource::open(&path).and_then(|source| source.read_f64(0..40_000_000))
            });
            let message = read.expect_err("it ends before").to_string();
            assert!(message.contains("truncated"), "{message}");
            assert!(peak < 8 << 20, "{peak} bytes");
        });
    }
}

#[test]
fn archives_that_claim_too_much_take_nothing() {
    let array = &seeds::npy()[0];
    let whole = array::archive(&[("x.npy", array)], false);
    let end = whole.len() - 22;
    // Numbers of members, length and place of the directory.
    for at in [8, 10, 12, 14, 16, 18] {
        for value in [0u16, 1, 2, 0x7fff, 0xffff] {
            let mut bytes = whole.clone();
            bytes[end + at..end + at + 2].copy_from_slice(&value.to_le_bytes());
            array::check("tried.npz", &bytes);
        }
    }
    // Lengths of the member, in its own header and in the directory.
    let directory = u32::from_le_bytes(whole[end + 16..end + 20].try_into().expect("4 bytes"));
    for at in [
        18,
        22,
        directory as usize + 20,
        directory as usize + 24,
        directory as usize + 42,
    ] {
        for value in [0u32, 1, 0x7fff_ffff, u32::MAX - 1, u32::MAX] {
            let mut bytes = whole.clone();
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            array::check("tried.npz", &bytes);
        }
    }
    // Many members, of which a message lists some.
    let names: Vec<String> = (0..5_000).map(|k| format!("a{k}.npy")).collect();
    let members: Vec<(&str, &[u8])> = names.iter().map(|n| (n.as_str(), &[][..])).collect();
    assert!(!array::check("tried.npz", &array::archive(&members, false)));
    // An archive in an archive is none of arrays.
    assert!(!array::check(
        "tried.npz",
        &array::archive(&[("x.npy", &whole)], true)
    ));
}

#[test]
fn weights_that_claim_too_much_take_nothing() {
    for length in [0u64, 1, 99_999_999, 100_000_001, 1 << 60, u64::MAX] {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend(b"{\"a\":0}");
        assert!(!weights::check(&bytes));
    }
    for (shape, offsets) in [
        ("[4294967296,4294967296]", "[0,0]"),
        ("[18446744073709551615,2]", "[0,8]"),
        ("[0,18446744073709551615]", "[0,0]"),
        ("[2]", "[8,0]"),
        ("[2]", "[18446744073709551608,18446744073709551615]"),
    ] {
        let header = format!(
            "{{\"fc.bias\":{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":{offsets}}}}}"
        );
        assert!(!weights::check(&seeds::tensors(&header, 8)));
    }
    for open in ["[", "{\"a\":", "{\"__metadata__\":"] {
        assert!(!weights::check(&seeds::tensors(&open.repeat(100_000), 0)));
    }
    // Names that no network has: a message lists some.
    let entry = |k: usize| {
        format!(
            "\"a{k}\":{{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[{},{}]}}",
            4 * k,
            4 * k + 4
        )
    };
    let entries: Vec<String> = (0..20_000).map(entry).collect();
    let header = format!("{{{}}}", entries.join(","));
    assert!(!weights::check(&seeds::tensors(&header, 80_000)));
}

/// The seed's manifest with one thing set.
fn manifest(pointer: &str, value: Value) -> Vec<u8> {
    let seed = &seeds::manifests()[0].1;
    let mut manifest: Value = serde_json::from_slice(seed).expect("JSON");
    *manifest.pointer_mut(pointer).expect("it is there") = value;
    manifest.to_string().into_bytes()
}

#[test]
fn manifests_reach_no_other_folder() {
    for name in [
        "../0000.npy",
        "/etc/hostname",
        "..",
        ".",
        "",
        "a/../../0000.npy",
        "..\\0000.npy",
    ] {
        let manifest = manifest("/parts/0/file", json!(name));
        assert!(!result::check(Form::Folder, &manifest), "{name}");
    }
}

#[test]
fn manifests_that_claim_too_much_take_nothing() {
    let most = usize::MAX;
    let ranges = [
        json!([[0, most]]),
        json!([[most, most]]),
        json!([[0, 1], [0, 2]]),
        json!([[3, 1]]),
        json!([[0, 2], [2, 3]]),
        json!([]),
        json!((0..200_000).map(|k| [k, k + 1]).collect::<Vec<_>>()),
        json!(
            (0..200_000)
                .map(|k| [200_000 - k, 200_001 - k])
                .collect::<Vec<_>>()
        ),
        json!((0..200_000).map(|_| [3, 3]).collect::<Vec<_>>()),
    ];
    for ranges in &ranges {
        for pointer in ["/parts/0/rows", "/parts/0/columns", "/parts/1/rows"] {
            for form in Form::all() {
                result::check(form, &manifest(pointer, ranges.clone()));
            }
        }
    }
    // Many parts, all of one file: as many as files may be open, or an error.
    let part = json!({"part": "a", "file": "0001.npy", "rows": [[0, 5]]});
    let many = manifest("/parts", json!(vec![part; 20_000]));
    scratch::alone(|scratch| result::check_in(scratch, Form::Folder, &many));
    for value in [
        json!(vec![json!([]); 100_000]),
        json!(vec![json!({"": 0}); 100_000]),
        json!(vec![0; 200_000]),
    ] {
        assert!(result::check(Form::Folder, &manifest("/provenance", value)));
    }
    let far =
        json!([{"name": "w", "layer": "l", "offset": most, "count": most, "shape": [most, most]}]);
    assert!(result::check(Form::Folder, &manifest("/parameters", far)));
    for open in ["[", "{\"parts\":", "{\"provenance\":{\"a\":["] {
        assert!(!result::check(Form::Folder, open.repeat(50_000).as_bytes()));
    }
}

/// Of a matrix of no rows by as many columns as there are numbers no view exists, though it has no entries.
#[test]
fn a_part_without_entries_is_read_or_refused() {
    let most = usize::MAX;
    let mut manifest: Value =
        serde_json::from_slice(&manifest("/parts/0/rows", json!([[7, 7]]))).expect("JSON");
    manifest["parts"][0]["columns"] = json!([[0, most]]);
    let tried = [
        manifest.to_string().into_bytes(),
        write_header("<f4", &[0, most]),
    ]
    .join(&0);
    result::check(Form::Folder, &tried);
}

/// The seed of all tiles, its plan changed at one place, with other lines behind those it has.
fn leftover(pointer: &str, value: Value, lines: &str) -> Vec<u8> {
    let seeds = seeds::leftovers();
    let (plan, list) = crate::split(&seeds[3]);
    let mut plan: Value = serde_json::from_slice(&plan).expect("JSON");
    *plan.pointer_mut(pointer).expect("it is there") = value;
    [plan.to_string().into_bytes(), [list, lines.into()].concat()].join(&0)
}

#[test]
fn plans_that_claim_too_much_take_nothing() {
    let most = usize::MAX;
    for shards in [0, 100_001, 1 << 40, most] {
        assert!(!leftover::check(&leftover("/shards", json!(shards), "")));
    }
    for ranges in [
        json!([[0, most]]),
        json!([[0, 1usize << 62]]),
        json!([[0, 1usize << 60]]),
    ] {
        for pointer in ["/parts/0/rows", "/parts/1/rows", "/parts/2/columns"] {
            leftover::check(&leftover(pointer, ranges.clone(), ""));
        }
    }
    for (pointer, value) in [
        ("/order", json!(7)),
        ("/order", json!([1, 2])),
        (
            "/order",
            json!({"unit_samples": 0, "unit_directions": most}),
        ),
        ("/precision", json!("f16")),
        ("/parts", json!([])),
        (
            "/provenance",
            json!({"options": {"source": vec![json!([]); 10_000]}}),
        ),
        // A manifest would speak of files that are not there.
        ("/parts/0/file", json!("0007.npy")),
        ("/plan", json!(vec![json!([]); 10_000])),
    ] {
        leftover::check(&leftover(
            pointer,
            value,
            "{\"replanned\":{\"tiles_done\":1}}\n",
        ));
    }
}

#[test]
fn lists_of_tiles_that_are_none_take_nothing() {
    let most = usize::MAX;
    let lines = [
        format!("0 0 {most} 0 {most} 0 00000000"),
        format!("0 0 {most} 0 0 0 00000000"),
        format!("0 {most} 0 {most} 0 1 00000000"),
        "0 3 1 4 0 0 00000000".into(),
        "0 0 3 0 4 1 00000000".into(),
        "1 0 5 0 5 0 00000000".into(),
        format!(
            "1 0 5 0 1 0 00000000{}",
            " 18446744073709551615".repeat(20_000)
        ),
        format!("{most} 0 1 0 1 0 00000000"),
        "7".into(),
        "{\"share\":18446744073709551615}".into(),
        "[".repeat(100_000),
        "0 0 1 0 1 0 00000000\n".repeat(10_000),
    ];
    for line in &lines {
        // As a later line, and as the first, where the header is.
        leftover::check(&leftover("/shards", json!(1), &format!("{line}\n")));
        leftover::check(&leftover("/shards", json!(2), &format!("{line}\n")));
        let (plan, list) = crate::split(&seeds::leftovers()[3]);
        leftover::check(&[plan, [format!("{line}\n").into_bytes(), list].concat()].join(&0));
    }
}

/// The length of a header of safetensors, and what it says of tensors.
#[test]
fn results_as_tensors_that_claim_too_much_take_nothing() {
    let whole = &seeds::manifests()[4].1;
    assert!(result::check(Form::Tensors, whole));
    for length in [0u64, 1, 99_999_999, 100_000_001, 1 << 60, u64::MAX] {
        scratch::with(|scratch| {
            let mut bytes = length.to_le_bytes().to_vec();
            bytes.extend(b"{\"a\":0}");
            let path = scratch.write("tried.safetensors", &bytes);
            let (opened, peak) = heap::peak(|| Blocks::open(&path));
            assert!(opened.is_err() && peak < 1 << 20, "{peak} bytes");
        });
    }
    for tensor in [
        r#""shape":[18446744073709551615,2],"data_offsets":[0,8]"#,
        r#""shape":[3,4],"data_offsets":[18446744073709551568,18446744073709551615]"#,
        r#""shape":[3,4],"data_offsets":[48,0]"#,
        r#""shape":[3,4],"data_offsets":[1000,1048]"#,
    ] {
        let places = format!("{{\"range=0..3,5..9\":{{\"dtype\":\"F32\",{tensor}}}}}");
        let tried = [&whole[..], places.as_bytes(), &[7; 48]].join(&0);
        assert!(!result::check(Form::Tensors, &tried), "{tensor}");
    }
}

/// A matrix of no columns has as many rows as there are numbers, which no loop counts to.
#[test]
fn a_part_without_columns_is_shown_or_refused() {
    let rows = 1usize << 63;
    let part = json!({"part": "none", "file": "0000.npy", "rows": [[0, rows]], "columns": []});
    let manifest = manifest("/parts", json!([part])).into_iter();
    let array = write_header("<f4", &[rows, 0]);
    let tried: Vec<u8> = manifest.chain([0]).chain(array).collect();
    result::check(Form::Folder, &tried);
}

/// Of as many layers as entries there are as many pairs as their square.
#[cfg(feature = "plot")]
#[test]
fn as_many_layers_as_entries_are_shown() {
    let side = 2_000usize;
    let parameter = |k: usize| json!({"name": format!("w{k}"), "layer": format!("l{k}"), "offset": k, "count": 1, "shape": []});
    let all = manifest("/parameters", (0..side).map(parameter).collect());
    let mut all: Value = serde_json::from_slice(&all).expect("JSON");
    all["parts"] =
        json!([{"part": "full", "file": "0000.npy", "rows": [[0, side]], "columns": [[0, side]]}]);
    let tried = [all.to_string().into_bytes(), result::array(&[side, side])].join(&0);
    assert!(result::check(Form::Folder, &tried));
}

#[cfg(feature = "zarr")]
#[test]
fn arrays_of_zarr_that_claim_too_much_take_nothing() {
    use crate::result::zarr::Lay;
    let most = u64::MAX;
    for lay in Lay::ALL {
        let manifests = seeds::manifests().into_iter();
        let mut own = manifests.filter(|seed| seed.0 == Form::Zarr(lay));
        let manifest = own.next().expect("a seed").1;
        let (metadata, files) = &lay.arrays()[0];
        let metadata: Value = serde_json::from_slice(metadata).expect("JSON");
        let file = &files[0].1;
        let tried = |metadata: &Value, file: &[u8]| {
            let tried = [&manifest[..], metadata.to_string().as_bytes(), file].join(&0);
            result::check(Form::Zarr(lay), &tried)
        };
        assert!(tried(&metadata, file), "{lay:?}");
        for (pointer, value) in [
            ("/shape", json!([most, most])),
            ("/shape", json!([0, most])),
            ("/chunk_grid/configuration/chunk_shape", json!([0, 0])),
            ("/chunk_grid/configuration/chunk_shape", json!([most, most])),
            (
                "/chunk_grid/configuration/chunk_shape",
                json!([1u64 << 32, 1u64 << 32]),
            ),
            ("/codecs", json!([])),
            ("/codecs", json!(vec![json!({"name": "bytes"}); 10_000])),
            ("/codecs/0/configuration/chunk_shape", json!([1, 1])),
            ("/codecs/0/configuration/chunk_shape", json!([0, 2])),
            ("/codecs/1/configuration/typesize", json!(most)),
            ("/codecs/1/configuration/blocksize", json!(most)),
            ("/fill_value", json!("0x1")),
            ("/attributes/triangle", json!("upper")),
            ("/data_type", json!("float64")),
        ] {
            let mut changed = metadata.clone();
            let mut place = pointer.rsplitn(2, '/');
            let (key, parent) = (place.next().expect("a key"), place.next().unwrap_or(""));
            if let Some(Value::Object(parent)) = changed.pointer_mut(parent) {
                parent.insert(key.into(), value);
                tried(&changed, file);
            }
        }
        // Each word of a file: places and lengths in an index, sizes in a frame's header.
        for at in (0..file.len()).step_by(4) {
            for value in [0u32, 1, 15, 16, 17, 1 << 20, i32::MAX as u32, u32::MAX] {
                let mut changed = file.clone();
                for (byte, new) in changed[at..].iter_mut().zip(value.to_le_bytes()) {
                    *byte = new;
                }
                tried(&metadata, &changed);
            }
            tried(&metadata, &file[..at]);
        }
    }
}
