//! What is expected of what a run left, if another hand was at it: an error, or a result that is gone on with or merged.
//!
//! What is tried is a `plan.json`, and behind a zero byte the lines of the list of tiles that are done. Lines get their
//! checksum here, so that what they say is read; one that has a checksum keeps it.

use crate::scratch::Scratch;
use crate::{heap, result, scratch};
use hessblock::internals::sink::{Begun, Blocks, Files, PartLayout, Provenance, Sink, Tile, merge};
use std::cell::OnceCell;
use std::path::PathBuf;

/// Bytes that any leftover may take: pieces of a tile and of its mirror, that are compared with their checksum.
pub const ANY: usize = 80 << 20;
/// Those per byte of its own: two bytes are a value of JSON; a line is read, listed and sorted.
pub const PER_BYTE: usize = 256;
/// Entries of a part that is merged here: a file may say that it is as long as it likes, and is read to its end.
const MOST: usize = 1 << 20;

/// The parts of the run that is gone on with: a matrix, a vector, a symmetric matrix.
fn parts() -> Vec<PartLayout> {
    #[allow(clippy::single_range_in_vec_init)] // which is what a part has
    let (three, four, five) = (vec![0..3], vec![5..9], vec![0..5]);
    vec![
        PartLayout::matrix("a", three.clone(), four),
        PartLayout::vector("d", five),
        PartLayout::matrix("s", three.clone(), three),
    ]
}

/// The tiles of that run, and whether each is mirrored.
fn tiles() -> Vec<(Tile, bool)> {
    let tile = |part, rows, columns| Tile {
        part,
        rows,
        columns,
    };
    vec![
        (tile(0, 0..2, 0..4), false),
        (tile(0, 2..3, 0..4), false),
        (tile(1, 0..5, 0..1), false),
        (tile(2, 0..1, 0..1), false),
        (tile(2, 1..3, 0..1), true),
        (tile(2, 1..3, 1..3), false),
    ]
}

fn sink(path: &std::path::Path) -> hessblock::Result<Files<f32>> {
    let provenance = Provenance {
        loss: Some("mse(mean)".into()),
        device: Some("none".into()),
        ..Provenance::now()
    };
    Ok(Files::<f32>::create(path)?
        .provenance(provenance)
        .order(serde_json::json!({"unit_samples": 4, "unit_directions": 2, "tile": 3})))
}

/// An entry of a part: the matrix and the vector count up, the symmetric one is r + c.
fn entry(part: usize, row: usize, column: usize) -> f32 {
    match part {
        0 => (row * 4 + column) as f32,
        1 => row as f32,
        _ => (row + column) as f32,
    }
}

/// Begins the run, or goes on with it, makes the first `stop` tiles that are not there, and ends it if asked to.
fn run(path: &std::path::Path, stop: usize, finish: bool) -> hessblock::Result<()> {
    let mut files = sink(path)?;
    files.begin(&parts())?;
    for (tile, mirror) in tiles().into_iter().take(stop) {
        if files.has(&tile)? {
            continue;
        }
        let row = |row| tile.columns.clone().map(move |column| (row, column));
        let places = tile.rows.clone().flat_map(row);
        let values: Vec<f32> = places.map(|(r, c)| entry(tile.part, r, c)).collect();
        if tile.part == 1 {
            files.vector(1, &values)?;
        } else {
            let Tile {
                part,
                rows,
                columns,
            } = tile;
            files.tile(part, rows, columns, &values, mirror)?;
        }
    }
    if finish {
        files.finish()?;
    }
    Ok(())
}

/// The leftover of that run after so many tiles, as it is tried here.
pub fn seed(stop: usize) -> Vec<u8> {
    scratch::with(|scratch| {
        run(&scratch.path("tried"), stop, false).expect("an empty folder");
        let read = |name: &str| {
            std::fs::read(scratch.path("tried.partial").join(name)).expect("it was left")
        };
        [read("plan.json"), read("done")].join(&0)
    })
}

/// Lines with their checksums.
fn signed(lines: &[u8]) -> Vec<u8> {
    let mut result = Vec::new();
    for line in lines.split(|byte| *byte == b'\n') {
        result.extend(line);
        if !line.is_empty() && !line.windows(2).any(|two| two == b" =") {
            // What is hashed is the text that is read, in which bytes that are none were replaced.
            let text = String::from_utf8_lossy(line);
            result.extend(format!(" ={:08x}", crc32fast::hash(text.as_bytes())).bytes());
        }
        result.push(b'\n');
    }
    result
}

fn lay(scratch: &Scratch, tried: &[u8]) -> PathBuf {
    scratch.clear();
    let at = tried.iter().position(|byte| *byte == 0);
    let (plan, lines) = tried.split_at(at.unwrap_or(tried.len()));
    let lines = signed(lines.get(1..).unwrap_or(&[]));
    std::fs::create_dir(scratch.path("tried.partial")).expect("an empty folder");
    scratch.write("tried.partial/plan.json", plan);
    for list in ["done", "done-1-of-2", "done-2-of-2"] {
        scratch.write(&format!("tried.partial/{list}"), &lines);
    }
    for (k, (name, shape)) in result::ARRAYS.iter().enumerate() {
        // The numbers that the run's tiles hold, so that their checksums agree.
        let mut bytes = result::array(shape);
        if k == 2 {
            bytes.truncate(bytes.len() - 9 * 4);
            let numbers = (0..9).map(|at| entry(k, at / 3, at % 3));
            bytes.extend(numbers.flat_map(f32::to_le_bytes));
        }
        scratch.write(&format!("tried.partial/{name}"), &bytes);
    }
    scratch.path("tried")
}

/// Entries of the largest part that the plan speaks of, as far as it can be read.
fn largest(tried: &[u8]) -> usize {
    let plan = tried.split(|byte| *byte == 0).next().unwrap_or(&[]);
    let plan: serde_json::Value = serde_json::from_slice(plan).unwrap_or_default();
    let count = |ranges: &serde_json::Value| {
        let each = ranges.as_array().into_iter().flatten();
        let last = each.flat_map(|pair| pair[1].as_u64()).max();
        last.unwrap_or(1) as usize
    };
    let parts = plan["parts"].as_array().into_iter().flatten();
    parts
        .map(|part| count(&part["rows"]).saturating_mul(count(&part["columns"])))
        .max()
        .unwrap_or(0)
}

/// Goes on with a leftover, and merges it; says whether both came to an end.
pub fn check(tried: &[u8]) -> bool {
    if largest(tried) > MOST {
        // Its arrays would be made as long as it says, sparse; what is refused is refused before.
        return scratch::with(|scratch| {
            let path = lay(scratch, tried);
            measured(tried, || Begun::at(&path)).is_ok()
        });
    }
    scratch::with(|scratch| {
        let path = lay(scratch, tried);
        let begun = measured(tried, || Begun::at(&path));
        let stopped = measured(tried, || run(&path, 4, false));
        let path = lay(scratch, tried);
        let ended = measured(tried, || run(&path, usize::MAX, true));
        if ended.is_ok() {
            assert!(result::read(&Blocks::open(&path).expect("it was finished")));
        }
        let path = lay(scratch, tried);
        let merged = measured(tried, || merge(&path, false, &mut |_, _| Ok(())));
        if merged.is_ok() {
            // What is merged need not be what this run makes, but is a result.
            result::read(&Blocks::open(&path).expect("it was merged"));
        }
        begun.is_ok() && stopped.is_ok() && ended.is_ok() && merged.is_ok()
    })
}

thread_local! {
    /// Work that would be shared between threads is done by this one, whose memory is counted.
    static ALONE: OnceCell<rayon::ThreadPool> = const { OnceCell::new() };
}

/// Runs something within the memory that the size of what is tried allows.
fn measured<T>(
    tried: &[u8],
    run: impl FnOnce() -> hessblock::Result<T> + Send,
) -> hessblock::Result<T>
where
    T: Send,
{
    let (result, peak) = ALONE.with(|alone| {
        let pool = alone.get_or_init(|| {
            rayon::ThreadPoolBuilder::new()
                .num_threads(1)
                .use_current_thread()
                .build()
                .expect("a pool of this thread")
        });
        pool.install(|| heap::peak(run))
    });
    assert!(
        peak <= ANY + PER_BYTE * tried.len(),
        "{peak} bytes for a leftover of {}",
        tried.len()
    );
    if let Err(error) = &result {
        let message = error.to_string();
        assert!(
            message.len() <= (8 << 10) + 4 * tried.len(),
            "{} bytes",
            message.len()
        );
    }
    result
}
