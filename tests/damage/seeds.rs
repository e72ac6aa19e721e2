//! Whole files of every kind, from which damaged ones are made; `fuzz/` begins with them too.

use crate::{array, leftover, result};
use hessblock::internals::files::npy::write_header;
use serde_json::json;

/// `.npy` files.
pub fn npy() -> Vec<Vec<u8>> {
    let of = |name: &str, shape: &[usize], size: usize| {
        let mut bytes = write_header(name, shape);
        let count: usize = shape.iter().product();
        bytes.extend((0..count * size).map(|k| (k % 7) as u8));
        bytes
    };
    let mut other = b"\x93NUMPY\x02\x00".to_vec();
    let text = r#"{"descr":">i2","fortran_order":True,"shape":(3L,1L)}"#;
    other.extend((text.len() as u32).to_le_bytes());
    other.extend(text.as_bytes());
    other.extend([0; 6]);
    vec![
        of("<f4", &[3, 4], 4),
        of(">f8", &[5], 8),
        of("<f2", &[2, 3, 2], 2),
        of("|u1", &[4, 2, 2], 1),
        of("|b1", &[6], 1),
        of("<i8", &[2, 2], 8),
        of("<i4", &[], 4),
        of("<i4", &[0, 3], 4),
        other,
    ]
}

/// `.npz` archives of them.
pub fn npz() -> Vec<Vec<u8>> {
    let all = npy();
    let (first, second) = (("x.npy", &all[0][..]), ("other.npy", &all[3][..]));
    vec![
        array::archive(&[first], true),
        array::archive(&[first], false),
        array::archive(&[second, first], true),
        array::archive(&[second, first], false),
    ]
}

/// IDX files, not gzipped.
pub fn idx() -> Vec<Vec<u8>> {
    let of = |kind: u8, shape: &[u32], size: usize| {
        let mut bytes = vec![0, 0, kind, shape.len() as u8];
        bytes.extend(shape.iter().flat_map(|extent| extent.to_be_bytes()));
        let count = shape.iter().product::<u32>() as usize;
        bytes.extend((0..count * size).map(|k| (k % 5) as u8));
        bytes
    };
    vec![
        of(0x08, &[3, 2, 2], 1),
        of(0x09, &[4], 1),
        of(0x0b, &[2, 2], 2),
        of(0x0c, &[3], 4),
        of(0x0d, &[2, 3], 4),
        of(0x0e, &[2], 8),
    ]
}

/// A safetensors file of that header and so many bytes of numbers.
pub fn tensors(header: &str, bytes: usize) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(vec![0; bytes]);
    file
}

/// safetensors files; all but the last fit the network.
pub fn weights() -> Vec<Vec<u8>> {
    let of = |kind: &str, size: usize| {
        let header = json!({
            "__metadata__": {"format": "pt"},
            "fc.weight": {"dtype": kind, "shape": [2, 3], "data_offsets": [0, 6 * size]},
            "fc.bias": {"dtype": kind, "shape": [2], "data_offsets": [6 * size, 8 * size]},
            "scale": {"dtype": kind, "shape": [], "data_offsets": [8 * size, 9 * size]},
            "none": {"dtype": kind, "shape": [0, 4], "data_offsets": [9 * size, 9 * size]},
        });
        tensors(&header.to_string(), 9 * size)
    };
    vec![
        of("F32", 4),
        of("F64", 8),
        of("F16", 2),
        of("BF16", 2),
        of("I32", 4),
    ]
}

/// Manifests for each form of a result.
pub fn manifests() -> Vec<(result::Form, Vec<u8>)> {
    let provenance = json!({
        "crate_version": "0.1.0",
        "date": "2026-11-24T22:05:00Z",
        "model": [{"path": "model.onnx", "sha256": "00"}],
        "data": [],
        "samples": [0, 5],
        "options": {"source": {"model": "model.onnx"}},
    });
    let parameters = json!([
        {"name": "fc.weight", "layer": "fc", "offset": 0, "count": 6, "shape": [2, 3]},
        {"name": "fc.bias", "layer": "fc", "offset": 6, "count": 3, "shape": [3]},
    ]);
    let folder = json!({
        "parts": [
            {"part": "range=0..3,5..9", "file": "0000.npy", "rows": [[0, 3]], "columns": [[5, 9]], "shape": [3, 4]},
            {"part": "diag", "file": "0001.npy", "rows": [[0, 5]], "shape": [5]},
            {"part": "layer=fc", "file": "0002.npy", "rows": [[0, 2], [4, 5]], "columns": [[0, 1], [6, 8]]},
        ],
        "parameters": parameters,
        "provenance": provenance,
        "key": "00",
    });
    let file = json!({
        "parts": [
            {"part": "range=0..3,5..9", "file": "tried.npy", "rows": [[0, 3]], "columns": [[5, 9]], "shape": [3, 4]},
        ],
        "parameters": parameters,
        "provenance": provenance,
    });
    let text = |manifest: &serde_json::Value| manifest.to_string().into_bytes();
    let with = |manifest: &serde_json::Value, more: &[&[u8]]| {
        [&[&text(manifest)[..]], more].concat().join(&0)
    };
    let [places, numbers] = result::tensors();
    #[cfg_attr(not(feature = "zarr"), allow(unused_mut))]
    let mut all = vec![
        (result::Form::Folder, text(&folder)),
        (
            result::Form::Folder,
            with(&folder, &[&result::array(&[3, 4])]),
        ),
        (result::Form::File, text(&file)),
        (result::Form::File, with(&file, &[&result::array(&[3, 4])])),
        (result::Form::Tensors, text(&folder)),
        (result::Form::Tensors, with(&folder, &[&places, &numbers])),
    ];
    #[cfg(feature = "zarr")]
    for lay in result::zarr::Lay::ALL {
        let mut manifest = folder.clone();
        if lay == result::zarr::Lay::Triangle {
            manifest["parts"][0] = json!(
                {"part": "range=0..3,0..3", "file": "0000.npy", "rows": [[0, 3]], "columns": [[0, 3]], "shape": [3, 3]}
            );
        }
        let (metadata, files) = &lay.arrays()[0];
        let form = result::Form::Zarr(lay);
        all.push((form, text(&manifest)));
        all.push((form, with(&manifest, &[metadata])));
        all.push((form, with(&manifest, &[metadata, &files[0].1])));
    }
    all
}

/// What a run left: some and all of its tiles, and these shared by two.
pub fn leftovers() -> Vec<Vec<u8>> {
    let shared = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        text.replace("\"shards\": 1", "\"shards\": 2").into_bytes()
    };
    let all = leftover::seed(usize::MAX);
    vec![leftover::seed(1), leftover::seed(4), shared(&all), all]
}
