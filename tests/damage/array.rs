//! What is expected of any file of data (`.npy`, `.npz`, IDX, gzipped ones): an error, or an array whose samples can be
//! read, within the memory that its size and the numbers asked for take.

use crate::{heap, scratch};
use hessblock::data::ArraySource;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Bytes that opening any file may take: the longest header of a `.npy` beside its text, and a decompressor.
pub const ANY: usize = 5 << 20;
/// Those per byte of its own: entries of an archive's directory, and their names.
pub const PER_BYTE: usize = 64;
/// Numbers that are read of one array at most.
const MOST: usize = 1 << 20;
/// Bytes per number that is read: a double, twice while the vector grows, once more while axes are turned.
const PER_NUMBER: usize = 8 * 4;

/// Opens a file and reads of it where it is one; says whether all that was asked for could be read.
pub fn check(name: &str, bytes: &[u8]) -> bool {
    scratch::with(|scratch| {
        let path = scratch.write(name, bytes);
        let keyed = PathBuf::from(format!("{}:x", path.display()));
        // An archive of several arrays needs the name of one.
        let found = check_path(&path, bytes.len());
        match name.ends_with(".npz") {
            true => check_path(&keyed, bytes.len()) || found,
            false => found,
        }
    })
}

fn check_path(path: &Path, size: usize) -> bool {
    let (source, peak) = heap::peak(|| ArraySource::open(path));
    assert!(
        peak <= ANY + PER_BYTE * size,
        "{peak} bytes to open a file of {size}"
    );
    match source {
        Ok(source) => read(&source),
        Err(error) => {
            let message = error.to_string();
            // It names the file, and does not repeat it.
            assert!(message.contains("tried"), "{message}");
            assert!(message.len() < 8 << 10, "{} bytes", message.len());
            false
        }
    }
}

/// Reads the first and the last samples, and all where they are few; what is no sample is refused.
fn read(source: &ArraySource) -> bool {
    let _ = (source.integer(), source.file());
    let shape = source.shape().to_vec();
    let samples = shape[0];
    let inner = shape[1..]
        .iter()
        .fold(1usize, |all, &extent| all.saturating_mul(extent));
    assert!(source.read_f64(0..samples.saturating_add(1)).is_err() || samples == usize::MAX);
    #[allow(clippy::reversed_empty_ranges)] // which a caller may ask for
    let reversed = source.read_i64(1..0);
    assert!(reversed.is_err());
    assert!(source.read_f64_along(shape.len(), 0..1).is_err());
    let mut whole = true;
    let few = MOST.checked_div(inner).unwrap_or(MOST).min(samples);
    let ranges = [0..few.min(1), samples - few.min(2)..samples, 0..few];
    for range in ranges {
        let numbers = range.len() * inner;
        let (values, peak) = heap::peak(|| source.read_f64(range.clone()));
        assert!(
            peak <= ANY + PER_NUMBER * numbers,
            "{peak} bytes for {numbers} numbers"
        );
        whole &= values.is_ok_and(|values| values.len() == numbers);
        let (values, peak) = heap::peak(|| source.read_i64(range.clone()));
        assert!(
            peak <= ANY + PER_NUMBER * numbers,
            "{peak} bytes for {numbers} integers"
        );
        let _ = values;
    }
    if let Some(second) = shape.get(1).copied().filter(|second| *second > 0) {
        let numbers = samples.saturating_mul(inner / second);
        if numbers <= MOST {
            let (values, peak) = heap::peak(|| source.read_f64_along(1, second - 1..second));
            assert!(
                peak <= ANY + PER_NUMBER * numbers,
                "{peak} bytes for {numbers} numbers"
            );
            whole &= values.is_ok();
        }
    }
    whole
}

/// Gzipped.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory takes all");
    encoder.finish().expect("memory takes all")
}

/// An archive of arrays.
pub fn archive(members: &[(&str, &[u8])], deflated: bool) -> Vec<u8> {
    let method = match deflated {
        true => zip::CompressionMethod::Deflated,
        false => zip::CompressionMethod::Stored,
    };
    let options = zip::write::SimpleFileOptions::default().compression_method(method);
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in members {
        writer.start_file(*name, options).expect("a new name");
        writer.write_all(bytes).expect("memory takes all");
    }
    writer.finish().expect("memory takes all").into_inner()
}
