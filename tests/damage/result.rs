//! What is expected of any manifest: an error, or a result whose entries can be read.
//!
//! A file that is tried is a manifest, and behind a zero byte, which no JSON has, the bytes of its first array; without one
//! the arrays are those of [`ARRAYS`].

use crate::scratch::Scratch;
use crate::{heap, scratch};
use hessblock::files::npy::write_header;
use hessblock::sink::Blocks;
use std::path::PathBuf;

/// Bytes that any manifest may take.
pub const ANY: usize = 2 << 20;
/// Those per byte of its own: two bytes are a value of JSON, of which a list doubles.
pub const PER_BYTE: usize = 256;
/// Entries that are read at once.
const MOST: usize = 1 << 16;

/// How a result lies on disk. Another format is one more of these, with its arm in [`Form::lay`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `index.json` in a folder.
    Folder,
    /// `FILE.npy.json` beside `FILE.npy`.
    File,
}

/// The arrays beside a manifest: names, shapes.
pub const ARRAYS: [(&str, &[usize]); 3] = [
    ("0000.npy", &[3, 4]),
    ("0001.npy", &[5]),
    ("0002.npy", &[3, 3]),
];

/// An array of ascending numbers.
pub fn array(shape: &[usize]) -> Vec<u8> {
    let mut bytes = write_header("<f4", shape);
    let count: usize = shape.iter().product();
    bytes.extend((0..count).flat_map(|k| (k as f32).to_le_bytes()));
    bytes
}

impl Form {
    pub const ALL: [Form; 2] = [Form::Folder, Form::File];

    /// Writes a result, and returns the path that it is opened by.
    fn lay(self, scratch: &Scratch, manifest: &[u8], first: Option<&[u8]>) -> PathBuf {
        let own = |k: usize| match first {
            Some(bytes) if k == 0 => bytes.to_vec(),
            _ => array(ARRAYS[k].1),
        };
        match self {
            Form::Folder => {
                std::fs::create_dir(scratch.path("tried")).expect("an empty folder");
                for (k, (name, _)) in ARRAYS.iter().enumerate() {
                    scratch.write(&format!("tried/{name}"), &own(k));
                }
                scratch.write("tried/index.json", manifest);
                scratch.path("tried")
            }
            Form::File => {
                scratch.write("tried.npy.json", manifest);
                scratch.write("tried.npy", &own(0))
            }
        }
    }
}

/// Opens a result and reads of it where it is one; says whether all could be read.
pub fn check(form: Form, tried: &[u8]) -> bool {
    let zero = tried.iter().position(|byte| *byte == 0);
    let (manifest, first) = match zero {
        Some(at) => (&tried[..at], Some(&tried[at + 1..])),
        None => (tried, None),
    };
    scratch::with(|scratch| {
        let path = form.lay(scratch, manifest, first);
        let (blocks, peak) = heap::peak(|| Blocks::open(&path));
        assert!(
            peak <= ANY + PER_BYTE * tried.len(),
            "{peak} bytes for a manifest of {}",
            manifest.len()
        );
        match blocks {
            Ok(blocks) => read(&blocks),
            Err(error) => {
                let message = error.to_string();
                assert!(message.contains("tried"), "{message}");
                assert!(
                    message.len() <= (8 << 10) + 4 * manifest.len(),
                    "{} bytes",
                    message.len()
                );
                false
            }
        }
    })
}

/// Reads corners of every part; what is not in it is refused.
pub fn read(blocks: &Blocks) -> bool {
    for place in blocks.parameters() {
        let _ = place.range();
    }
    let _ = blocks.provenance().to_string();
    assert!(blocks.find("no part is named so\n").is_err());
    assert!(blocks.entry(blocks.parts().len(), 0, 0).is_err());
    let mut whole = true;
    for (k, part) in blocks.parts().iter().enumerate().take(8) {
        let (rows, columns) = (part.layout.row_count(), part.layout.column_count());
        assert!(blocks.entry(k, rows, 0).is_err());
        assert!(blocks.entry(k, 0, columns).is_err());
        assert!(blocks.find(&part.layout.name).is_ok());
        let corners = [
            (0..rows.min(2), 0..columns.min(3)),
            (rows - rows.min(2)..rows, columns - columns.min(3)..columns),
            (0..0, 0..columns),
            (0..rows, columns..columns),
            (0..rows, 0..columns),
        ];
        for (rows, columns) in corners {
            let count = rows.len().saturating_mul(columns.len());
            if count > MOST {
                continue;
            }
            let (values, peak) = heap::peak(|| blocks.block(k, rows.clone(), columns.clone()));
            assert!(peak <= ANY, "{peak} bytes for {count} entries");
            whole &= values.is_ok();
        }
        if rows <= MOST {
            let vector = blocks.vector(k);
            whole &= vector.is_ok() == (columns == 1);
        }
    }
    whole
}
