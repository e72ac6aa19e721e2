//! Results as Zarr and safetensors, and reading them back: as sinks take them and as sessions make them.
#![cfg(feature = "zarr")]
#![allow(clippy::single_range_in_vec_init)] // ranges of parameters, of which there is often one

use hessblock::data::Dataset;
use hessblock::internals::control::Control;
use hessblock::internals::files::WriteFaults;
use hessblock::internals::plan::RunOptions;
use hessblock::internals::plan::request::resolve;
use hessblock::internals::plan::tiles::Tiling;
use hessblock::internals::sink::{
    Blocks, Files, FilesOptions, ParameterPlace, PartLayout, Shard, Sink, StorageOptions, Tensors,
    Tile, merge,
};
use hessblock::internals::tensor::Real;
use hessblock::loss::CrossEntropy;
use hessblock::network::builder::Builder;
use hessblock::{Device, Output, Part, Precision, Session};
use ndarray::{Array2, s};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zarrs::array::Array;
use zarrs::filesystem::FilesystemStore;
use zarrs::group::Group;

/// What a part's entry is; symmetric where flat rows and columns are.
fn value(row: usize, column: usize) -> f64 {
    let (a, b) = (row.min(column) as f64, row.max(column) as f64);
    f64::from((1.0 / (1.0 + a) + (b * 0.37).sin()) as f32)
}

fn flat(ranges: &[Range<usize>]) -> Vec<usize> {
    ranges.iter().cloned().flatten().collect()
}

fn expected(layout: &PartLayout) -> Array2<f64> {
    let (rows, columns) = (flat(&layout.rows), layout.columns.as_deref().map(flat));
    Array2::from_shape_fn((layout.row_count(), layout.column_count()), |(i, j)| {
        let column = columns.as_ref().map_or(rows[i], |columns| columns[j]);
        value(rows[i], column)
    })
}

/// Three matrices, one of them square and two ragged, and a vector.
fn layouts() -> Vec<PartLayout> {
    vec![
        PartLayout::matrix("full", vec![0..75], vec![0..75]),
        PartLayout::matrix("layer=a,b/c", vec![0..21, 30..40], vec![40..90]),
        PartLayout::vector("diag", vec![0..75]),
        PartLayout::matrix("layer=A,b/c", vec![3..8], vec![3..8]),
    ]
}

fn tiles(layouts: &[PartLayout], side: usize) -> Vec<Tile> {
    let mut tiles = Vec::new();
    for (part, layout) in layouts.iter().enumerate() {
        if layout.columns.is_none() {
            tiles.push(Tile::whole(part, layout));
            continue;
        }
        let (height, width) = (layout.row_count(), layout.column_count());
        let symmetric = layout.columns.as_ref() == Some(&layout.rows);
        for row in (0..height).step_by(side) {
            for column in (0..width).step_by(side) {
                if !symmetric || row <= column {
                    let (rows, columns) = (
                        row..height.min(row + side),
                        column..width.min(column + side),
                    );
                    tiles.push(Tile {
                        part,
                        rows,
                        columns,
                    });
                }
            }
        }
    }
    tiles
}

/// Writes what is not there and this process's; stops after `most` tiles. How many were written.
fn write<R: Real>(sink: &mut Files<R>, side: usize, most: usize) -> hessblock::Result<usize> {
    let layouts = layouts();
    sink.begin(&layouts)?;
    let tiles = tiles(&layouts, side);
    let own = sink.share(&tiles);
    let mut written = 0;
    for (tile, _) in tiles.iter().zip(own).filter(|(_, own)| *own) {
        if sink.has(tile)? {
            continue;
        }
        if written == most {
            break;
        }
        let layout = &layouts[tile.part];
        let values = expected(layout);
        let values = values.slice(s![tile.rows.clone(), tile.columns.clone()]);
        let values: Vec<R> = values.iter().map(|v| R::from_f64(*v)).collect();
        match &layout.columns {
            None => sink.vector(tile.part, &values)?,
            Some(columns) => {
                let mirror = *columns == layout.rows;
                sink.tile(
                    tile.part,
                    tile.rows.clone(),
                    tile.columns.clone(),
                    &values,
                    mirror,
                )?;
            }
        }
        written += 1;
    }
    Ok(written)
}

fn parameters() -> Vec<ParameterPlace> {
    let place = |(name, layer, offset, count): (&str, &str, usize, usize)| ParameterPlace {
        name: name.into(),
        layer: layer.into(),
        offset,
        count,
        shape: vec![count],
    };
    let all = [
        ("a.weight", "a", 0, 20),
        ("b.weight", "b", 20, 50),
        ("a.bias", "a", 70, 5),
        ("c", "c", 75, 15),
    ];
    all.map(place).to_vec()
}

fn sink<R: Real>(path: &Path, side: usize, options: FilesOptions) -> Files<R> {
    let sink = Files::with_options(path, options).expect("a place");
    sink.chunk_side(side).parameters(parameters())
}

/// Every form of storage.
fn forms() -> Vec<StorageOptions> {
    let mut forms = Vec::new();
    for compression in [None, Some(3)] {
        for chunks_per_file in [None, Some(2), Some(3)] {
            for triangle in [false, true] {
                forms.push(StorageOptions {
                    compression,
                    chunks_per_file,
                    triangle,
                });
            }
        }
    }
    forms
}

fn with(storage: StorageOptions) -> FilesOptions {
    FilesOptions {
        storage,
        ..FilesOptions::default()
    }
}

/// Compares a result with what was written into it, whole and by pieces.
#[track_caller]
fn check(path: &Path, what: &str) {
    let blocks = Blocks::open(path).unwrap_or_else(|e| panic!("{what}: {e}"));
    for (k, layout) in layouts().iter().enumerate() {
        let expected = expected(layout);
        assert_eq!(blocks.parts()[k].layout, *layout, "{what}");
        let (height, width) = expected.dim();
        assert_eq!(
            blocks.rows(k, 0..height).expect("rows"),
            expected,
            "{what}, {}",
            layout.name
        );
        for (rows, columns) in [
            (height / 3..height, 0..width.div_ceil(2)),
            (1..2, width / 2..width),
            (0..0, 0..1),
        ] {
            let found = blocks
                .block(k, rows.clone(), columns.clone())
                .expect("a block");
            assert_eq!(
                found,
                expected.slice(s![rows, columns]),
                "{what}, {}",
                layout.name
            );
        }
        assert_eq!(
            blocks.entry(k, height - 1, 0).expect("an entry"),
            expected[[height - 1, 0]]
        );
    }
    let leftovers = std::fs::read_dir(path).expect("a folder").flatten();
    let leftovers = leftovers.filter(|e| e.path().is_file() && e.file_name() != "zarr.json");
    assert_eq!(leftovers.count(), 0, "{what}");
}

/// Regular files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        match entry.path().is_dir() {
            true => all.extend(files(&entry.path())),
            false => all.push(entry.path()),
        }
    }
    all.sort();
    all
}

fn chunk_files(folder: &Path) -> Vec<PathBuf> {
    let chunk = |path: &PathBuf| {
        path.file_name()
            .is_some_and(|n| n.to_string_lossy().parse::<u32>().is_ok())
    };
    files(folder).into_iter().filter(chunk).collect()
}

#[test]
fn every_form_of_storage_reads_back_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    for (k, form) in forms().into_iter().enumerate() {
        for side in [7, 100] {
            let path = folder.path().join(format!("f32-{k}-{side}.zarr"));
            let mut files = sink::<f32>(&path, side, with(form));
            write(&mut files, side, usize::MAX).unwrap();
            files.finish().unwrap();
            check(&path, &format!("{form:?} of side {side}"));
        }
        let path = folder.path().join(format!("f64-{k}.zarr"));
        let mut files = sink::<f64>(&path, 16, with(form));
        write(&mut files, 16, usize::MAX).unwrap();
        files.finish().unwrap();
        check(&path, &format!("{form:?} in f64"));
    }
}

#[test]
fn a_triangle_has_no_chunk_below_the_diagonal_and_half_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.zarr");
    let triangle = StorageOptions {
        triangle: true,
        ..StorageOptions::default()
    };
    let mut files = sink::<f32>(&path, 16, with(triangle));
    write(&mut files, 16, usize::MAX).unwrap();
    files.finish().unwrap();
    let chunks = chunk_files(&path.join("full"));
    assert_eq!(chunks.len(), 15);
    assert!(!path.join("full/c/1/0").exists() && path.join("full/c/0/1").exists());
    let text = std::fs::read_to_string(path.join("full/zarr.json")).unwrap();
    let metadata: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(metadata["attributes"]["triangle"], "upper");
    assert_eq!(metadata["fill_value"], "NaN");
}

#[test]
fn a_run_goes_on_from_where_it_stopped_whatever_was_torn() {
    let folder = tempfile::tempdir().unwrap();
    let all = tiles(&layouts(), 16).len();
    for (k, form) in forms().into_iter().enumerate() {
        let path = folder.path().join(format!("{k}.zarr"));
        let partial = folder.path().join(format!("{k}.zarr.partial"));
        let again = || sink::<f32>(&path, 16, with(form));
        // Stopped after some tiles: these are not wanted again.
        let mut files = again();
        assert_eq!(write(&mut files, 16, 9).unwrap(), 9);
        drop(files);
        // What a kill leaves of a chunk that no line vouches for.
        std::fs::write(partial.join("full/c/2/4"), b"torn").unwrap_or_default();
        let mut files = again();
        assert_eq!(write(&mut files, 16, 3).unwrap(), 3, "{form:?}");
        drop(files);
        // A byte of every file but one changed, another file cut off: those tiles are made again, and no others.
        let chunks = chunk_files(&partial);
        let changed = chunks
            .iter()
            .find(|path| path.ends_with("0/0"))
            .expect("a first chunk");
        let mut bytes = std::fs::read(changed).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 0x10;
        std::fs::write(changed, &bytes).unwrap();
        let cut = chunks
            .iter()
            .rfind(|path| *path != changed)
            .expect("a last chunk");
        let length = std::fs::metadata(cut).unwrap().len();
        std::fs::OpenOptions::new()
            .write(true)
            .open(cut)
            .unwrap()
            .set_len(length / 2)
            .unwrap();
        let mut files = again();
        let written = write(&mut files, 16, usize::MAX).unwrap();
        assert!(
            written > all - 12 && written < all,
            "{form:?}: {written} of {all}"
        );
        files.finish().unwrap();
        check(&path, &format!("{form:?}"));
    }
}

#[test]
fn a_full_disk_and_short_writes_lose_nothing_that_was_done() {
    let folder = tempfile::tempdir().unwrap();
    for (k, form) in forms().into_iter().enumerate() {
        let path = folder.path().join(format!("{k}.zarr"));
        let options = |full_after| FilesOptions {
            faults: WriteFaults {
                short_writes: true,
                full_after,
            },
            ..with(form)
        };
        let mut files = sink::<f32>(&path, 16, options(Some(6000)));
        let error = write(&mut files, 16, usize::MAX).unwrap_err();
        assert!(error.to_string().contains(".partial"), "{error}");
        let left = files.leave().unwrap().expect("tiles were done");
        assert!(left.tiles > 0, "{form:?}");
        let mut files = sink::<f32>(&path, 16, options(None));
        let written = write(&mut files, 16, usize::MAX).unwrap();
        assert_eq!(
            written + left.tiles,
            tiles(&layouts(), 16).len(),
            "{form:?}"
        );
        files.finish().unwrap();
        check(&path, &format!("{form:?}"));
    }
}

#[test]
fn shards_never_share_a_file_and_are_merged() {
    let folder = tempfile::tempdir().unwrap();
    for (k, form) in forms().into_iter().enumerate() {
        let path = folder.path().join(format!("{k}.zarr"));
        let mut before: Vec<PathBuf> = Vec::new();
        for index in [2, 1, 3] {
            let options = FilesOptions {
                shard: Shard { index, of: 3 },
                ..with(form)
            };
            let sizes = |files: &[PathBuf]| -> Vec<u64> {
                files
                    .iter()
                    .map(|f| std::fs::metadata(f).unwrap().len())
                    .collect()
            };
            let earlier = sizes(&before);
            let mut files = sink::<f64>(&path, 7, options);
            write(&mut files, 7, usize::MAX).unwrap();
            assert!(files.finish().is_err(), "a share is no result");
            drop(files);
            assert_eq!(
                sizes(&before),
                earlier,
                "{form:?}: a shard wrote into another's file"
            );
            before = chunk_files(&folder.path().join(format!("{k}.zarr.partial")));
        }
        let merged = merge(&path, false, &mut |_, _| Ok(())).unwrap();
        assert_eq!(merged.tiles, tiles(&layouts(), 7).len());
        check(&path, &format!("{form:?} of three processes"));
        assert!(merge(&path, false, &mut |_, _| Ok(())).unwrap().was_whole);
    }
}

#[test]
fn what_a_zarr_cannot_hold_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.zarr");
    let mut files = sink::<f32>(&path, 16, FilesOptions::default());
    files.begin(&layouts()).unwrap();
    let error = files
        .tile(0, 0..16, 0..75, &[0.0; 16 * 75], false)
        .unwrap_err();
    assert!(error.to_string().contains("no chunk of 16 × 16"), "{error}");
    drop(files);
    // Below the diagonal of a triangle.
    let triangle = with(StorageOptions {
        triangle: true,
        ..StorageOptions::default()
    });
    let mut files = sink::<f32>(&path, 16, triangle);
    files.begin(&layouts()).unwrap();
    let error = files
        .tile(0, 16..32, 0..16, &[0.0; 256], false)
        .unwrap_err();
    assert!(error.to_string().contains("triangle"), "{error}");
    drop(files);
    // Compressed chunks beyond 2 GiB.
    let huge = [PartLayout::matrix("full", vec![0..32_768], vec![0..32_768])];
    let compressed = with(StorageOptions {
        compression: Some(1),
        ..StorageOptions::default()
    });
    let mut files = sink::<f32>(&path, 32_768, compressed);
    let error = files.begin(&huge).unwrap_err();
    assert!(
        error.to_string().contains("4.0 GiB") && error.to_string().contains("tile"),
        "{error}"
    );
    drop(files);
    // Another chunk side is another result.
    let mut files = sink::<f32>(&path, 16, FilesOptions::default());
    write(&mut files, 16, 3).unwrap();
    drop(files);
    let error = write(&mut sink::<f32>(&path, 32, FilesOptions::default()), 32, 1).unwrap_err();
    assert!(
        error.to_string().contains("tile was 16 and is 32"),
        "{error}"
    );
}

#[test]
fn nothing_of_the_users_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.zarr");
    let mut files = sink::<f32>(&path, 16, FilesOptions::default());
    write(&mut files, 16, usize::MAX).unwrap();
    files.finish().unwrap();
    let force = FilesOptions {
        force: true,
        ..FilesOptions::default()
    };
    for own in [
        "notes.txt",
        "full/notes.txt",
        "full/c/notes.txt",
        "full/c/0/notes.txt",
    ] {
        let own = path.join(own);
        std::fs::write(&own, "mine").unwrap();
        assert!(
            Files::<f32>::with_options(&path, force).is_err(),
            "{}",
            own.display()
        );
        assert!(own.exists());
        std::fs::remove_file(&own).unwrap();
    }
    let partial = folder.path().join("x.zarr.partial");
    std::fs::create_dir_all(partial.join("data/c/0")).unwrap();
    std::fs::write(partial.join("data/mine"), "mine").unwrap();
    assert!(write(&mut sink::<f32>(&path, 16, force), 16, 1).is_err());
    assert!(partial.join("data/mine").exists());
    std::fs::remove_dir_all(&partial).unwrap();
    let mut files = sink::<f32>(&path, 32, force);
    write(&mut files, 32, usize::MAX).unwrap();
    files.finish().unwrap();
    check(&path, "replaced");
}

#[test]
fn a_damaged_or_foreign_result_is_an_error_and_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    for (k, form) in forms().into_iter().enumerate() {
        let path = folder.path().join(format!("{k}.zarr"));
        let mut sink = sink::<f32>(&path, 16, with(form));
        write(&mut sink, 16, usize::MAX).unwrap();
        sink.finish().unwrap();
        let read = || -> hessblock::Result<()> {
            let blocks = Blocks::open(&path)?;
            (0..4).try_for_each(|k| {
                let height = blocks.parts()[k].layout.row_count();
                blocks.rows(k, 0..height).map(|_| ())
            })
        };
        read().unwrap();
        for file in files(&path) {
            let bytes = std::fs::read(&file).unwrap();
            std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
            let error = read().unwrap_err().to_string();
            assert!(error.contains(&*file.display().to_string()), "{error}");
            std::fs::remove_file(&file).unwrap();
            assert!(read().is_err(), "{}", file.display());
            std::fs::write(&file, &bytes).unwrap();
        }
        read().unwrap();
        // Metadata that lies.
        for array in ["zarr.json", "full/zarr.json"] {
            let file = path.join(array);
            let text = std::fs::read_to_string(&file).unwrap();
            for (from, to) in [
                ("75", "18446744073709551615"),
                ("75", "7500000000"),
                ("16", "0"),
                ("16", "18446744073709551615"),
                ("\"full\"", "\"../full\""),
                ("\"full\"", "\"..\""),
                ("\"bytes\"", "\"transpose\""),
                ("little", "big"),
                ("float32", "float64"),
                ("float32", "int32"),
            ] {
                let changed = text.replace(from, to);
                // A part's name in its array is for people; the manifest has no sides, but hashes.
                let harmless = match array.contains('/') {
                    true => from == "\"full\"",
                    false => from == "16",
                };
                if changed != text && !harmless {
                    std::fs::write(&file, &changed).unwrap();
                    assert!(read().is_err(), "{form:?}: {array} with {to} for {from}");
                }
            }
            std::fs::write(&file, &text).unwrap();
        }
        read().unwrap();
    }
}

#[test]
fn views_find_layers_and_ranges_in_the_smallest_part() {
    let folder = tempfile::tempdir().unwrap();
    let zarr = folder.path().join("x.zarr");
    let form = StorageOptions {
        compression: Some(1),
        chunks_per_file: Some(2),
        triangle: true,
    };
    let npy = folder.path().join("x");
    for path in [&zarr, &npy] {
        let options = if path == &zarr {
            with(form)
        } else {
            FilesOptions::default()
        };
        let mut files = sink::<f32>(path, 16, options);
        write(&mut files, 16, usize::MAX).unwrap();
        files.finish().unwrap();
        let blocks = Blocks::open(path).unwrap();
        let by = |rows: &[Range<usize>], columns: &[Range<usize>]| {
            let (rows, columns) = (flat(rows), flat(columns));
            Array2::from_shape_fn((rows.len(), columns.len()), |(i, j)| {
                value(rows[i], columns[j])
            })
        };
        // A layer whose parameters lie apart.
        let a = blocks.layer("a").unwrap();
        assert_eq!((a.part(), a.dim()), ("full", (25, 25)));
        assert_eq!(a.flat_rows(), [0..20, 70..75]);
        assert_eq!(
            a.to_array().unwrap(),
            by(&[0..20, 70..75], &[0..20, 70..75])
        );
        assert_eq!(
            a.read::<f32>().unwrap().mapv(f64::from),
            a.to_array().unwrap()
        );
        let bands: Vec<Array2<f64>> = a.bands(9).map(|band| band.to_array().unwrap()).collect();
        assert_eq!(
            bands.iter().map(Array2::nrows).collect::<Vec<_>>(),
            [9, 9, 7]
        );
        let views: Vec<_> = bands.iter().map(|band| band.view()).collect();
        assert_eq!(
            ndarray::concatenate(ndarray::Axis(0), &views).unwrap(),
            a.to_array().unwrap()
        );
        let cut = a.rows(18..23).unwrap().columns(2..21).unwrap();
        assert_eq!(cut.flat_rows(), [18..20, 70..73]);
        assert_eq!(
            cut.to_array().unwrap(),
            a.to_array().unwrap().slice(s![18..23, 2..21])
        );
        let ab = blocks.between("a", "b").unwrap();
        assert_eq!(ab.to_array().unwrap(), by(&[0..20, 70..75], &[20..70]));
        assert_eq!(
            blocks.between("b.weight", "a").unwrap().to_array().unwrap(),
            ab.to_array().unwrap().reversed_axes()
        );
        // In the smallest part, and as the transpose of what a part holds.
        let small = blocks.range(4..7, 5..8).unwrap();
        assert_eq!(
            (small.part(), small.to_array().unwrap()),
            ("layer=A,b/c", by(&[4..7], &[5..8]))
        );
        let across = blocks.range(80..90, 30..35).unwrap();
        assert_eq!((across.part(), across.dim()), ("layer=a,b/c", (10, 5)));
        assert_eq!(across.to_array().unwrap(), by(&[80..90], &[30..35]));
        // What is not there is said with what is.
        let error = |found: hessblock::Result<hessblock::internals::sink::View<'_>>| {
            found.unwrap_err().to_string()
        };
        let text = error(blocks.layer("d"));
        assert!(
            text.contains("no layer \"d\"") && text.contains("a, b, a, c"),
            "{text}"
        );
        let text = error(blocks.layer("c"));
        assert!(
            text.contains("no part") && text.contains("full, layer=a,b/c"),
            "{text}"
        );
        assert!(blocks.range(0..usize::MAX, 0..1).is_err() && blocks.range(0..0, 0..1).is_err());
        assert!(a.rows(20..26).is_err());
    }
}

/// A result of a session: `tiling` is regular, as that of a Zarr is.
fn run(
    session: &Session,
    precision: Precision,
    path: &Path,
    side: usize,
    options: FilesOptions,
) -> hessblock::Result<()> {
    let g = session.with_device(Device::cpu(precision)).ggn();
    let parts = [
        Part::Full,
        Part::Layers,
        Part::Diagonal,
        Part::between("one", "three"),
        Part::range(3..40, 11..60),
    ];
    let output = Output::new(path).with_options(options);
    output.check()?;
    let mut asked = output.run_options(RunOptions::default())?;
    asked.tiling = Tiling {
        side,
        regular: true,
    };
    let plan = g.plan_with(resolve(session.network(), &parts)?, asked)?;
    g.write_plan(&plan, &output, &Control::none()).map(|_| ())
}

fn session() -> Session {
    let network = Builder::new(&[5])
        .linear("one", 7)
        .tanh()
        .linear_without_bias("two", 6)
        .relu()
        .linear("three", 4)
        .initialize(1)
        .build()
        .expect("a network");
    let inputs = Array2::from_shape_fn((9, 5), |(i, j)| value(i + 3, j));
    let targets = ndarray::Array1::from_iter((0..9).map(|k| (k * 7 + 2) % 4));
    let data = Dataset::from_arrays(inputs, targets);
    Session::builder(network)
        .data(data)
        .loss(CrossEntropy::mean())
        .device(Device::cpu(Precision::F64))
        .build()
        .expect("a session")
}

/// Compares a result with the same in `.npy` files, by zarrs as anyone uses it.
fn check_by_zarrs(path: &Path, npy: &Blocks) {
    let store = Arc::new(FilesystemStore::new(path).expect("a store"));
    let group = Group::open(store.clone(), "/").expect("a group");
    let manifest = group.attributes()["hessblock"].clone();
    let files = manifest["parts"].as_array().expect("parts").iter();
    for (k, record) in files.enumerate() {
        let name = format!("/{}", record["file"].as_str().expect("a name"));
        let array = Array::open(store.clone(), &name).expect("an array");
        let layout = &npy.parts()[k].layout;
        let shape: Vec<usize> = array.shape().iter().map(|n| *n as usize).collect();
        assert_eq!(shape, layout.shape());
        let all = array.subset_all();
        let found: Vec<f64> = match array.data_type().fixed_size() {
            Some(4) => {
                let found = array.retrieve_array_subset::<Vec<f32>>(&all);
                found.expect("numbers").into_iter().map(f64::from).collect()
            }
            _ => array.retrieve_array_subset(&all).expect("numbers"),
        };
        let expected = npy.rows(k, 0..layout.row_count()).expect("rows");
        assert_eq!(found.len(), expected.len());
        let triangle = array.attributes().get("triangle").is_some();
        for (((i, j), expected), found) in expected.indexed_iter().zip(&found) {
            let absent = triangle && found.is_nan() && i > j;
            assert!(
                absent || found.to_bits() == expected.to_bits(),
                "{}{name}, {i}, {j}",
                path.display()
            );
        }
    }
}

/// A Python with the libraries that read these files, where this machine has one.
fn python() -> Option<String> {
    let python = std::env::var("HESSBLOCK_PYTHON").unwrap_or("python3".into());
    let known = std::process::Command::new(&python)
        .args(["-c", "import numpy, zarr, xarray, dask.array, safetensors; assert zarr.__version__[0] >= '3'"])
        .output();
    known
        .is_ok_and(|output| output.status.success())
        .then_some(python)
}

#[test]
fn sessions_write_the_same_bits_in_every_kind_of_result_and_python_reads_them() {
    let folder = tempfile::tempdir().unwrap();
    let session = session();
    let python = python();
    if python.is_none() {
        eprintln!(
            "no Python with zarr 3, xarray, dask and safetensors (HESSBLOCK_PYTHON): only Rust reads the results"
        );
    }
    for (precision, name, sides) in [
        (Precision::F32, "f32", &[16, 100][..]),
        (Precision::F64, "f64", &[32]),
    ] {
        for &side in sides {
            let at = |kind: &str| folder.path().join(format!("{name}-{side}{kind}"));
            run(&session, precision, &at(""), side, FilesOptions::default()).unwrap();
            let npy = Blocks::open(at("")).unwrap();
            let mut all = vec![at(".safetensors")];
            run(&session, precision, &all[0], side, FilesOptions::default()).unwrap();
            for (k, form) in forms().into_iter().enumerate() {
                all.push(at(&format!("-{k}.zarr")));
                run(&session, precision, &all[k + 1], side, with(form)).unwrap();
            }
            for path in &all {
                let blocks = Blocks::open(path).unwrap();
                assert_eq!(blocks.parameters(), npy.parameters());
                assert_eq!(blocks.parts().len(), npy.parts().len());
                for (k, part) in npy.parts().iter().enumerate() {
                    let rows = 0..part.layout.row_count();
                    let (found, expected) = (
                        blocks.rows(k, rows.clone()).unwrap(),
                        npy.rows(k, rows).unwrap(),
                    );
                    let bits = |block: &Array2<f64>| block.mapv(f64::to_bits);
                    assert_eq!(
                        bits(&found),
                        bits(&expected),
                        "{} of {}",
                        part.layout.name,
                        path.display()
                    );
                }
                if path.is_dir() {
                    check_by_zarrs(path, &npy);
                }
                let view = blocks.between("three", "one").unwrap();
                assert_eq!(view.part(), "layer=one,three");
                assert_eq!(
                    view.to_array().unwrap(),
                    npy.between("one", "three").unwrap().to_array().unwrap().t()
                );
            }
            let Some(python) = &python else {
                continue;
            };
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/readers/read.py");
            let output = std::process::Command::new(python)
                .arg(script)
                .arg(at(""))
                .args(&all)
                .output()
                .unwrap();
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
}

#[test]
fn a_safetensors_file_is_for_what_fits_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let session = session();
    run(&session, Precision::F64, &path, 16, FilesOptions::default()).unwrap();
    // It is not replaced unasked, and not anew where it is the same.
    assert!(run(&session, Precision::F64, &path, 16, FilesOptions::default()).is_err());
    let force = FilesOptions {
        force: true,
        ..FilesOptions::default()
    };
    run(&session, Precision::F32, &path, 16, force).unwrap();
    assert_eq!(files(folder.path()), std::slice::from_ref(&path));
    let refused = |error: hessblock::Error, words: &str| {
        assert!(error.to_string().contains(words), "{error}");
    };
    let shard = FilesOptions {
        shard: Shard { index: 1, of: 2 },
        ..force
    };
    let check = |path: &Path, options| Output::new(path).with_options(options).check();
    refused(check(&path, shard).unwrap_err(), "shard");
    let triangle = StorageOptions {
        triangle: true,
        ..StorageOptions::default()
    };
    refused(check(&path, with(triangle)).unwrap_err(), "triangle");
    let mut large = Tensors::<f64>::create(folder.path().join("y.safetensors")).unwrap();
    let layout = PartLayout::matrix("full", vec![0..20_000], vec![0..20_000]);
    refused(large.begin(&[layout]).unwrap_err(), "needs 3.0 GiB");
    // A disk that is full leaves neither the file nor a part of it.
    let full = FilesOptions {
        faults: WriteFaults {
            full_after: Some(1000),
            ..WriteFaults::default()
        },
        ..FilesOptions::default()
    };
    let other = folder.path().join("z.safetensors");
    assert!(run(&session, Precision::F64, &other, 16, full).is_err());
    // Files of others are left alone, those that a kill left are not in the way.
    let partial = folder.path().join("z.safetensors.partial");
    std::fs::write(&partial, "mine, and longer than a header").unwrap();
    assert!(
        run(
            &session,
            Precision::F64,
            &other,
            16,
            FilesOptions::default()
        )
        .is_err()
    );
    std::fs::write(&partial, std::fs::read(&path).unwrap()).unwrap();
    run(
        &session,
        Precision::F64,
        &other,
        16,
        FilesOptions::default(),
    )
    .unwrap();
    assert_eq!(files(folder.path()), [path.clone(), other.clone()]);
    std::fs::write(&other, std::fs::read(&path).unwrap().split_at(200).0).unwrap();
    assert!(Blocks::open(&other).is_err());
    refused(check(&other, force).unwrap_err(), "not a result");
}

#[test]
fn files_of_several_chunks_hold_the_same_bytes_whatever_became_of_their_runs() {
    let folder = tempfile::tempdir().unwrap();
    let forms = forms().into_iter().enumerate();
    for (k, form) in forms.filter(|(_, form)| form.chunks_per_file.is_some()) {
        let place = |name: &str| folder.path().join(format!("{k}-{name}.zarr"));
        let bytes = |path: &Path| -> Vec<(PathBuf, Vec<u8>)> {
            let own = |file: PathBuf| file.strip_prefix(path).unwrap().to_path_buf();
            let read = |file: PathBuf| std::fs::read(&file).map(|bytes| (own(file), bytes));
            let read = chunk_files(path).into_iter().map(read);
            read.collect::<std::io::Result<_>>().unwrap()
        };
        let whole = place("whole");
        let mut files = sink::<f32>(&whole, 16, with(form));
        write(&mut files, 16, usize::MAX).unwrap();
        files.finish().unwrap();
        let expected = bytes(&whole);
        // A chunk that was damaged is made anew, behind the others.
        let torn = place("torn");
        let mut files = sink::<f32>(&torn, 16, with(form));
        write(&mut files, 16, 12).unwrap();
        drop(files);
        let first = chunk_files(&torn.with_extension("zarr.partial")).remove(0);
        let mut damaged = std::fs::read(&first).unwrap();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 0x20;
        std::fs::write(&first, damaged).unwrap();
        let mut files = sink::<f32>(&torn, 16, with(form));
        write(&mut files, 16, usize::MAX).unwrap();
        files.finish().unwrap();
        assert!(bytes(&torn) == expected, "{form:?}, damaged");
        // Killed while files were packed: of some the copy has the name, of one it was under way.
        let stopped = place("stopped");
        let partial = stopped.with_extension("zarr.partial");
        let mut files = sink::<f32>(&stopped, 16, with(form));
        write(&mut files, 16, usize::MAX).unwrap();
        drop(files);
        for (number, (own, bytes)) in expected.iter().enumerate() {
            match number % 3 {
                0 => std::fs::write(partial.join(own), bytes).unwrap(),
                1 => std::fs::write(partial.join(own).with_extension("new"), b"half").unwrap(),
                _ => {}
            }
        }
        let mut files = sink::<f32>(&stopped, 16, with(form));
        assert_eq!(write(&mut files, 16, usize::MAX).unwrap(), 0, "{form:?}");
        files.finish().unwrap();
        assert!(bytes(&stopped) == expected, "{form:?}, packed");
        let copies = files_of_copies(&stopped);
        assert!(copies.is_empty(), "{copies:?}");
    }
}

fn files_of_copies(folder: &Path) -> Vec<PathBuf> {
    let copy = |path: &PathBuf| path.extension().is_some_and(|e| e == "new");
    files(folder).into_iter().filter(copy).collect()
}

#[test]
fn shares_of_parts_whose_names_differ_in_capitals_are_merged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.zarr");
    let layouts = [
        PartLayout::matrix("layer=W", vec![0..4], vec![0..4]),
        PartLayout::matrix("layer=w", vec![4..9], vec![4..9]),
    ];
    for index in [1, 2] {
        let options = FilesOptions {
            shard: Shard { index, of: 2 },
            ..FilesOptions::default()
        };
        let mut files = sink::<f32>(&path, 16, options);
        files.begin(&layouts).unwrap();
        let tiles = [0, 1].map(|part| Tile::whole(part, &layouts[part]));
        let own = files.share(&tiles);
        for (tile, _) in tiles.iter().zip(own).filter(|(_, own)| *own) {
            let values = vec![tile.part as f32; tile.entries()];
            let (rows, columns) = (tile.rows.clone(), tile.columns.clone());
            files.tile(tile.part, rows, columns, &values, true).unwrap();
        }
        files.leave().unwrap();
    }
    merge(&path, false, &mut |_, _| Ok(())).unwrap();
    let blocks = Blocks::open(&path).unwrap();
    for part in [0, 1] {
        assert_eq!(blocks.entry(part, 3, 3).unwrap(), part as f64);
    }
}
