//! What is expected of any manifest: an error, or a result whose entries can be read.
//!
//! What is tried is a manifest, and behind zero bytes, which no JSON has, what else a [`Form`] has of its own; what is not
//! there is that of a whole result.

use crate::scratch::Scratch;
use crate::{heap, scratch};
use hessblock::internals::files::npy::write_header;
use hessblock::internals::sink::Blocks;
use std::path::PathBuf;

/// Bytes that any manifest may take.
pub const ANY: usize = 2 << 20;
/// Those per byte of its own: two bytes are a value of JSON, of which a list doubles.
pub const PER_BYTE: usize = 256;
/// Bytes that showing a result may take: its entries and a picture, on top of what its manifest may.
#[cfg(feature = "plot")]
const SHOWN: usize = 100 << 20;
/// Entries that are read at once.
const MOST: usize = 1 << 16;

/// How a result lies on disk. Another format is one more of these, with its arm in [`Form::lay`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `index.json` in a folder; behind the manifest the first array.
    Folder,
    /// `FILE.npy.json` beside `FILE.npy`; behind the manifest the array.
    File,
    /// A `.safetensors` file, whose metadata have the manifest; behind it the places of the tensors, and their numbers.
    Tensors,
    /// A folder with `zarr.json`, whose attributes have the manifest; behind it the first array's `zarr.json`, and what lies in
    /// each file of that array.
    #[cfg(feature = "zarr")]
    Zarr(zarr::Lay),
}

/// The arrays beside a manifest: names, shapes.
pub const ARRAYS: [(&str, &[usize]); 3] = [
    ("0000.npy", &[3, 4]),
    ("0001.npy", &[5]),
    ("0002.npy", &[3, 3]),
];

/// An array of ascending numbers.
pub fn array(shape: &[usize]) -> Vec<u8> {
    [write_header("<f4", shape), numbers(shape)].concat()
}

fn numbers(shape: &[usize]) -> Vec<u8> {
    let count: usize = shape.iter().product();
    (0..count).flat_map(|k| (k as f32).to_le_bytes()).collect()
}

/// The places of the tensors of those arrays, and their numbers.
pub fn tensors() -> [Vec<u8>; 2] {
    let places = r#"{"range=0..3,5..9":{"dtype":"F32","shape":[3,4],"data_offsets":[0,48]},
        "diag":{"dtype":"F32","shape":[5],"data_offsets":[48,68]},
        "layer=fc":{"dtype":"F32","shape":[3,3],"data_offsets":[68,104]}}"#;
    [
        places.into(),
        ARRAYS.map(|(_, shape)| numbers(shape)).concat(),
    ]
}

impl Form {
    /// All that this build reads.
    pub fn all() -> Vec<Form> {
        let all = vec![Form::Folder, Form::File, Form::Tensors];
        #[cfg(feature = "zarr")]
        let all = [all, zarr::Lay::ALL.map(Form::Zarr).to_vec()].concat();
        all
    }

    /// Writes a result, and returns the path that it is opened by.
    fn lay(self, scratch: &Scratch, tried: &[u8]) -> PathBuf {
        let mut pieces = tried.splitn(2, |byte| *byte == 0);
        let (manifest, more) = (pieces.next().unwrap_or(&[]), pieces.next());
        let own = |k: usize| match more {
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
            Form::Tensors => {
                let [places, numbers] = tensors();
                let (places, numbers) = match more {
                    Some(more) => halves(more),
                    None => (places, Some(numbers)),
                };
                let text = String::from_utf8_lossy(manifest);
                let text = serde_json::to_vec(&text).expect("a text is JSON");
                let start = &br#"{"__metadata__":{"hessblock":"#[..];
                let rest = places.get(1..).unwrap_or(&[]);
                let header = [start, &text, b"},", rest].concat();
                let length = (header.len() as u64).to_le_bytes();
                let numbers = numbers.unwrap_or_default();
                scratch.write(
                    "tried.safetensors",
                    &[&length, &header[..], &numbers].concat(),
                )
            }
            #[cfg(feature = "zarr")]
            Form::Zarr(lay) => {
                let own = more.map(halves);
                lay.write(scratch, manifest, own)
            }
        }
    }
}

/// What is before and behind the first zero byte.
fn halves(bytes: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
    let mut pieces = bytes.splitn(2, |byte| *byte == 0);
    let first = pieces.next().unwrap_or(&[]).to_vec();
    (first, pieces.next().map(<[u8]>::to_vec))
}

/// Results as Zarr.
#[cfg(feature = "zarr")]
pub mod zarr {
    use super::ARRAYS;
    use crate::scratch::Scratch;
    use hessblock::internals::sink::{Files, FilesOptions, PartLayout, Sink, StorageOptions};
    use std::path::{Path, PathBuf};
    use std::sync::LazyLock;

    /// How chunks of 2 × 2 lie in files.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Lay {
        /// Each in its own.
        Plain,
        /// Each in its own, compressed.
        Compressed,
        /// Four in one, behind an index with a checksum, which is made here for what the index says.
        Sharded,
        /// As [`Lay::Compressed`], of a symmetric array those on and above the diagonal alone.
        Triangle,
    }

    /// An array: its `zarr.json`, and its files.
    pub type Array = (Vec<u8>, Vec<(String, Vec<u8>)>);

    impl Lay {
        pub const ALL: [Lay; 4] = [Lay::Plain, Lay::Compressed, Lay::Sharded, Lay::Triangle];

        /// The arrays as hessblock writes them.
        pub fn arrays(self) -> &'static [Array] {
            static ALL: LazyLock<[Vec<Array>; 4]> = LazyLock::new(|| Lay::ALL.map(Lay::made));
            &ALL[self as usize]
        }

        fn made(self) -> Vec<Array> {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("whole.zarr");
            let storage = StorageOptions {
                compression: matches!(self, Lay::Compressed | Lay::Triangle).then_some(1),
                chunks_per_file: matches!(self, Lay::Sharded).then_some(2),
                triangle: matches!(self, Lay::Triangle),
            };
            let options = FilesOptions {
                storage,
                ..FilesOptions::default()
            };
            let files = Files::<f32>::with_options(&path, options).expect("an empty folder");
            let mut files = files.chunk_side(2);
            let columns = match self {
                Lay::Triangle => 0..3,
                _ => 5..9,
            };
            #[allow(clippy::single_range_in_vec_init)] // which is what a part has
            let parts = [
                PartLayout::matrix("a", vec![0..3], vec![columns]),
                PartLayout::vector("b", vec![0..5]),
                PartLayout::matrix("c", vec![0..2, 4..5], vec![0..1, 6..8]),
            ];
            files.begin(&parts).expect("an empty folder");
            for (k, part) in parts.iter().enumerate() {
                let (height, width) = (part.row_count(), part.column_count());
                if part.columns.is_none() {
                    files.vector(k, &vec![1.0; height]).expect("its entries");
                    continue;
                }
                let mirror = part.columns.as_ref() == Some(&part.rows);
                for row in (0..height).step_by(2) {
                    for column in (if mirror { row } else { 0 }..width).step_by(2) {
                        let rows = row..height.min(row + 2);
                        let columns = column..width.min(column + 2);
                        let values = vec![2.0; rows.len() * columns.len()];
                        let tile = files.tile(k, rows, columns, &values, mirror);
                        tile.expect("its entries");
                    }
                }
            }
            files.finish().expect("all is there");
            let mut folders: Vec<PathBuf> = std::fs::read_dir(&path)
                .expect("it was finished")
                .map(|entry| entry.expect("an entry").path())
                .filter(|path| path.is_dir())
                .collect();
            folders.sort();
            let array = |folder: &PathBuf| {
                let metadata = std::fs::read(folder.join("zarr.json")).expect("an array");
                let mut files = Vec::new();
                chunks(&folder.join("c"), "c", &mut files);
                (metadata, files)
            };
            folders.iter().map(array).collect()
        }

        /// Writes a result, of whose first array the metadata and what lies in each file may be given.
        pub fn write(
            self,
            scratch: &Scratch,
            manifest: &[u8],
            own: Option<(Vec<u8>, Option<Vec<u8>>)>,
        ) -> PathBuf {
            let start = br#"{"zarr_format":3,"node_type":"group","attributes":{"hessblock":"#;
            let group = [&start[..], manifest, b"}}"].concat();
            for (k, (name, _)) in ARRAYS.iter().enumerate() {
                let (metadata, files) = &self.arrays()[k];
                let own = own.as_ref().filter(|_| k == 0);
                let folder = scratch.path("tried").join(name);
                for (key, bytes) in files {
                    let file = folder.join(key);
                    let parent = file.parent().expect("a folder of chunks");
                    std::fs::create_dir_all(parent).expect("an empty folder");
                    let given = own.and_then(|own| own.1.clone());
                    let bytes = given.unwrap_or_else(|| bytes.clone());
                    std::fs::write(file, self.signed(bytes)).expect("room for a small file");
                }
                let metadata = own.map_or(metadata, |own| &own.0);
                scratch.write(&format!("tried/{name}/zarr.json"), metadata);
            }
            scratch.write("tried/zarr.json", &group);
            scratch.path("tried")
        }

        /// A file whose index, of two numbers for each of four chunks, has its checksum.
        fn signed(self, mut bytes: Vec<u8>) -> Vec<u8> {
            if self == Lay::Sharded
                && let Some((index, rest)) = bytes.split_at_mut_checked(4 * 16)
                && let Some(sum) = rest.first_chunk_mut()
            {
                *sum = crc32c(index).to_le_bytes();
            }
            bytes
        }
    }

    /// All files of a folder, by their names from `key` on.
    fn chunks(folder: &Path, key: &str, files: &mut Vec<(String, Vec<u8>)>) {
        for entry in std::fs::read_dir(folder).expect("chunks") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy();
            let key = format!("{key}/{name}");
            match path.is_dir() {
                true => chunks(&path, &key, files),
                false => files.push((key, std::fs::read(&path).expect("a chunk"))),
            }
        }
    }

    /// Castagnoli's checksum, bit by bit.
    fn crc32c(bytes: &[u8]) -> u32 {
        let step = |crc: u32| crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
        !bytes.iter().fold(u32::MAX, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc))
        })
    }
}

/// Opens a result and reads of it where it is one; says whether all could be read.
pub fn check(form: Form, tried: &[u8]) -> bool {
    scratch::with(|scratch| check_in(scratch, form, tried))
}

/// The same in an empty folder.
pub fn check_in(scratch: &Scratch, form: Form, tried: &[u8]) -> bool {
    let path = form.lay(scratch, tried);
    let (blocks, peak) = heap::peak(|| Blocks::open(&path));
    assert!(
        peak <= ANY + PER_BYTE * tried.len(),
        "{peak} bytes for a manifest of {}",
        tried.len()
    );
    match blocks {
        Ok(blocks) => {
            shown(&blocks, tried.len());
            read(&blocks)
        }
        Err(error) => {
            let message = error.to_string();
            assert!(message.contains("tried"), "{message}");
            assert!(
                message.len() <= (8 << 10) + 4 * tried.len(),
                "{} bytes",
                message.len()
            );
            false
        }
    }
}

/// Shows a result as a table, a drawing and a page, or not: it need not be whole.
#[cfg(feature = "plot")]
fn shown(blocks: &Blocks, bytes: usize) {
    use hessblock::show::{ShowOptions, show};
    let options = ShowOptions {
        size: 64,
        ..ShowOptions::default()
    };
    let (all, peak) = heap::peak(|| {
        let shown = show(blocks, "tried", &options).ok()?;
        Some((shown.table(), shown.drawing().svg(), shown.html()))
    });
    assert!(
        peak <= SHOWN + PER_BYTE * bytes,
        "{peak} bytes to show a result with a manifest of {bytes}"
    );
    if let Some((_, svg, html)) = all {
        assert!(svg.is_ok() && html.is_ok());
    }
}

#[cfg(not(feature = "plot"))]
fn shown(_: &Blocks, _: usize) {}

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
