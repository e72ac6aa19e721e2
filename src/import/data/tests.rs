//! Every format read in ragged pieces gives the array; damaged files give errors.

use super::*;
use crate::error::{Error, Result};
use crate::files::npy::write_header;
use proptest::prelude::*;
use std::io::Write;
use std::path::{Path, PathBuf};

/// `.npy` bytes of i32 numbers.
fn npy_bytes(shape: &[usize], values: &[i32]) -> Vec<u8> {
    let mut bytes = write_header("<i4", shape);
    bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    bytes
}

fn idx_bytes(shape: &[usize], values: &[i32]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 0x0c, shape.len() as u8];
    bytes.extend(shape.iter().flat_map(|e| (*e as u32).to_be_bytes()));
    bytes.extend(values.iter().flat_map(|v| v.to_be_bytes()));
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn npz(members: &[(&str, &[u8])], compression: zip::CompressionMethod) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(compression);
    for (name, bytes) in members {
        writer.start_file(*name, options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn message<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => panic!("this was to be refused"),
        Err(error) => error.to_string(),
    }
}

/// The same array in every format; the paths to open.
fn every_format(folder: &Path, shape: &[usize], values: &[i32]) -> Vec<PathBuf> {
    let npy = npy_bytes(shape, values);
    let idx = idx_bytes(shape, values);
    let two: [(&str, &[u8]); 2] = [("other.npy", &npy_bytes(&[1], &[7])), ("x.npy", &npy)];
    let shards = folder.join("shards");
    std::fs::create_dir(&shards).unwrap();
    let inner: usize = shape[1..].iter().product();
    let cut = shape[0] / 3;
    let mut part = shape.to_vec();
    for (name, from, to) in [("a", 0, cut), ("b", cut, cut), ("c", cut, shape[0])] {
        part[0] = to - from;
        let bytes = npy_bytes(&part, &values[from * inner..to * inner]);
        write(&shards, &format!("{name}.npy"), &bytes);
    }
    write(&shards, "readme.txt", b"not a shard");
    let stored = npz(&two, zip::CompressionMethod::Stored);
    let deflated = npz(&two, zip::CompressionMethod::Deflated);
    let with_key = |path: PathBuf| PathBuf::from(format!("{}:x", path.display()));
    vec![
        write(folder, "x.npy", &npy),
        write(folder, "x.npy.gz", &gzip(&npy)),
        write(folder, "x-idx2-int", &idx),
        write(folder, "x-idx2-int.gz", &gzip(&idx)),
        with_key(write(folder, "stored.npz", &stored)),
        with_key(write(folder, "deflated.npz", &deflated)),
        write(
            folder,
            "one.npz",
            &npz(&[("x.npy", &npy)], zip::CompressionMethod::Deflated),
        ),
        shards,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_range_of_any_format_is_that_of_the_array(
        samples in 1usize..40, rest in prop::collection::vec(1usize..5, 0..3),
        ranges in prop::collection::vec((0usize..40, 0usize..40), 1..6),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut shape = vec![samples];
        shape.extend(&rest);
        let inner: usize = rest.iter().product();
        let values: Vec<i32> = (0..samples * inner).map(|k| k as i32 * 31 - 400).collect();
        for path in every_format(folder.path(), &shape, &values) {
            let source = ArraySource::open(&path).unwrap();
            prop_assert_eq!(source.shape(), &shape[..]);
            prop_assert!(source.integer());
            for (a, b) in &ranges {
                let (start, end) = ((*a.min(b)).min(samples), (*a.max(b)).min(samples));
                let expected = &values[start * inner..end * inner];
                let floats = source.read_f64(start..end).unwrap();
                prop_assert_eq!(floats, expected.iter().map(|v| f64::from(*v)).collect::<Vec<_>>());
                let integers = source.read_i64(start..end).unwrap();
                prop_assert_eq!(integers, expected.iter().map(|v| i64::from(*v)).collect::<Vec<_>>());
            }
            prop_assert!(source.read_f64(0..samples + 1).is_err());
        }
    }

    #[test]
    fn damaged_files_give_errors_not_panics(cut in 0.0..1.0f64, at in 0.0..1.0f64, byte: u8) {
        let folder = tempfile::tempdir().unwrap();
        let values: Vec<i32> = (0..60).collect();
        for path in every_format(folder.path(), &[12, 5], &values) {
            let (file, key) = super::formats::split_key(&path);
            if file.is_dir() {
                continue;
            }
            let whole = std::fs::read(&file).unwrap();
            std::fs::write(&file, &whole[..(whole.len() as f64 * cut) as usize]).unwrap();
            let read = ArraySource::open(&path).and_then(|s| s.read_f64(0..12));
            prop_assert!(read.is_err(), "{} with {:?}", path.display(), key);
            let mut damaged = whole.clone();
            damaged[(whole.len() as f64 * at) as usize] = byte;
            std::fs::write(&file, &damaged).unwrap();
            if let Ok(source) = ArraySource::open(&path) {
                let _ = source.read_f64(0..source.shape().first().copied().unwrap_or(0).min(12));
            }
        }
    }
}

#[test]
fn files_that_claim_too_much_are_refused_before_anything_is_allocated() {
    let folder = tempfile::tempdir().unwrap();
    let mut claims = npy_bytes(&[1 << 40, 1 << 10], &[1, 2, 3]);
    let path = write(folder.path(), "a.npy", &claims);
    let text = message(ArraySource::open(&path));
    assert!(
        text.contains("4503599627370624 bytes") && text.contains("140 are found"),
        "{text}"
    );
    let path = write(folder.path(), "a.npy.gz", &gzip(&claims));
    assert!(message(ArraySource::open(&path)).contains("can come out"));
    claims = npy_bytes(&[usize::MAX, usize::MAX], &[]);
    let path = write(folder.path(), "b.npy", &claims);
    assert!(message(ArraySource::open(&path)).contains("more than 2^64"));
    claims = npy_bytes(&[0, usize::MAX, usize::MAX], &[]);
    let path = write(folder.path(), "c.npy", &claims);
    assert!(ArraySource::open(&path).is_err());
    // Within the ratio, but cut: found on reading.
    let whole = npy_bytes(&[100], &(0..100).collect::<Vec<_>>());
    let path = write(folder.path(), "d.npy.gz", &gzip(&whole[..whole.len() - 4]));
    let text = message(ArraySource::open(&path).unwrap().read_f64(0..100));
    assert!(
        text.contains("528 bytes or more") && text.contains("524 are found"),
        "{text}"
    );
}

#[test]
fn archives_list_their_keys() {
    let folder = tempfile::tempdir().unwrap();
    let array = npy_bytes(&[2], &[1, 2]);
    let members: [(&str, &[u8]); 2] = [("x.npy", &array), ("labels.npy", &array)];
    let bytes = npz(&members, zip::CompressionMethod::Stored);
    let path = write(folder.path(), "a.npz", &bytes);
    let text = message(ArraySource::open(&path));
    assert!(
        text.contains("x, labels") && text.contains("a.npz:KEY"),
        "{text}"
    );
    let with = |key: &str| PathBuf::from(format!("{}:{key}", path.display()));
    assert!(message(ArraySource::open(with("y"))).contains("it has x, labels"));
    let source = ArraySource::open(with("labels.npy")).unwrap();
    assert_eq!(source.file().unwrap(), path);
    let plain = write(folder.path(), "b.npz", &array);
    let keyed = PathBuf::from(format!("{}:x", plain.display()));
    assert!(message(ArraySource::open(keyed)).contains("no .npz archive"));
}

#[test]
fn other_formats_and_orders_are_refused_with_the_cure() {
    let folder = tempfile::tempdir().unwrap();
    let at =
        |name: &str, bytes: &[u8]| message(ArraySource::open(write(folder.path(), name, bytes)));
    let fortran =
        String::from_utf8_lossy(&write_header("<i4", &[2, 3])[10..]).replace("False", "True ");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((fortran.len() as u16).to_le_bytes());
    bytes.extend(fortran.as_bytes());
    bytes.extend([0; 24]);
    assert!(at("fortran.npy", &bytes).contains("ascontiguousarray"));
    assert!(at("text.csv", b"1,2,3\n4,5,6\n").contains("no known format"));
    assert!(at("empty.npy", b"").contains("too short"));
    assert!(message(ArraySource::open(folder.path().join("absent.npy"))).contains("absent.npy"));
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    assert!(message(ArraySource::open(&empty)).contains("without .npy"));
    write(&empty, "a.npy", &npy_bytes(&[1, 2], &[1, 2]));
    write(&empty, "b.npy", &npy_bytes(&[1, 3], &[1, 2, 3]));
    let text = message(ArraySource::open(&empty));
    assert!(text.contains("b.npy") && text.contains("a.npy"), "{text}");
}

#[test]
fn going_back_in_a_compressed_stream_starts_it_again() {
    let folder = tempfile::tempdir().unwrap();
    // Larger than a piece, so that a read takes several.
    let values: Vec<i32> = (0..300_000).collect();
    let bytes = gzip(&npy_bytes(&[3000, 100], &values));
    let source = ArraySource::open(write(folder.path(), "x.npy.gz", &bytes)).unwrap();
    for range in [10..2990, 0..1, 2999..3000, 5..6] {
        let expected: Vec<i64> = (range.start * 100..range.end * 100)
            .map(|k| k as i64)
            .collect();
        assert_eq!(source.read_i64(range).unwrap(), expected);
    }
}

#[test]
fn a_number_that_is_no_integer_is_named_by_sample() {
    let source = ArraySource::from(ndarray::array![[1.0, 2.0], [3.0, 4.5]]);
    assert!(!source.integer());
    let error = source.read_i64(0..2).unwrap_err();
    assert!(
        matches!(&error, Error::Value(text) if text.contains("sample 1 holds 4.5")),
        "{error}"
    );
}
