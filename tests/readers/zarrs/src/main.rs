//! Compares results in Zarr with the same parts in `.npy` files, as `tests/readers/read.py` does, by the crate `zarrs`.
//!
//! `cargo run --manifest-path tests/readers/zarrs/Cargo.toml -- FOLDER NAME.zarr…`

use std::path::Path;
use std::sync::Arc;
use zarrs::array::Array;
use zarrs::filesystem::FilesystemStore;
use zarrs::group::Group;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut paths = std::env::args().skip(1);
    let folder = paths.next().ok_or("FOLDER NAME.zarr…")?;
    let text = std::fs::read_to_string(Path::new(&folder).join("index.json"))?;
    let index: serde_json::Value = serde_json::from_str(&text)?;
    for path in paths {
        let store = Arc::new(FilesystemStore::new(&path)?);
        let group = Group::open(store.clone(), "/")?;
        let parts = group.attributes()["hessblock"]["parts"].as_array().ok_or("no parts")?.clone();
        for part in &parts {
            let same = |p: &&serde_json::Value| p["part"] == part["part"];
            let npy = index["parts"].as_array().ok_or("no parts")?.iter().find(same).ok_or("no such part")?;
            let expected = numbers(&Path::new(&folder).join(npy["file"].as_str().ok_or("no file")?))?;
            let name = format!("/{}", part["file"].as_str().ok_or("no array")?);
            let array = Array::open(store.clone(), &name)?;
            let all = array.subset_all();
            let found: Vec<f64> = match expected.size {
                4 => array.retrieve_array_subset::<Vec<f32>>(&all)?.into_iter().map(f64::from).collect(),
                _ => array.retrieve_array_subset::<Vec<f64>>(&all)?,
            };
            let triangle = array.attributes().get("triangle").is_some();
            assert_eq!(found.len(), expected.values.len(), "{path}{name}");
            let width = *array.shape().last().ok_or("no axes")? as usize;
            let mut compared = 0;
            for (k, (found, expected)) in found.iter().zip(&expected.values).enumerate() {
                if triangle && found.is_nan() && k / width > k % width {
                    continue;
                }
                assert_eq!(found.to_bits(), expected.to_bits(), "{path}{name}, entry {k}");
                compared += 1;
            }
            assert!(2 * compared >= found.len(), "{path}{name}");
        }
        println!("{path}: {} parts are as in {folder}", parts.len());
    }
    Ok(())
}

struct Numbers {
    size: usize,
    values: Vec<f64>,
}

/// The numbers of a `.npy` file of version 1.
fn numbers(path: &Path) -> Result<Numbers, Box<dyn std::error::Error>> {
    let bytes = std::fs::read(path)?;
    let end = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let size = if String::from_utf8_lossy(&bytes[10..end]).contains("<f4") { 4 } else { 8 };
    let number = |b: &[u8]| match size {
        4 => f32::from_le_bytes(b.try_into().expect("four bytes")).into(),
        _ => f64::from_le_bytes(b.try_into().expect("eight bytes")),
    };
    let values = bytes[end..].chunks_exact(size).map(number).collect();
    Ok(Numbers { size, values })
}
