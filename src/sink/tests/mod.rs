//! Every sink fed with ragged tiles gives back the array; results appear whole or not at all.
#![allow(clippy::single_range_in_vec_init)] // Parts are lists of ranges.

mod resume;

use super::*;
use crate::Error;
use crate::files::npy;
use crate::files::watch::Watch;
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;

/// The entry at (row, column), symmetric.
fn entry(row: usize, column: usize) -> f64 {
    (row.min(column) * 1000 + row.max(column)) as f64
}

/// Cuts `0..count` at multiples of `side`.
fn cuts(count: usize, side: usize) -> Vec<Range<usize>> {
    (0..count)
        .step_by(side)
        .map(|s| s..(s + side).min(count))
        .collect()
}

/// Feeds part `part`, `count` × `count`, by tiles on and above the diagonal with their mirrors.
fn feed_symmetric<R: Real>(sink: &dyn Sink<R>, part: usize, count: usize, side: usize) {
    for rows in cuts(count, side) {
        for columns in cuts(count, side) {
            if columns.start < rows.start {
                continue;
            }
            let values: Vec<R> = rows
                .clone()
                .flat_map(|r| columns.clone().map(move |c| R::from_f64(entry(r, c))))
                .collect();
            sink.tile(part, rows.clone(), columns, &values, true)
                .unwrap();
        }
    }
}

fn square(name: &str, count: usize) -> PartLayout {
    PartLayout::matrix(name, vec![5..5 + count], vec![5..5 + count])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn mirrored_tiles_fill_the_whole_part(count in 1usize..200, side in 1usize..150) {
        let mut memory = Memory::<f32>::new();
        memory.begin(&[square("a", count)]).unwrap();
        feed_symmetric(&memory, 0, count, side);
        memory.finish().unwrap();
        let (_, array) = memory.into_parts().remove(0);
        for ((r, c), value) in array.indexed_iter() {
            prop_assert_eq!(*value as f64, f64::from(entry(r, c) as f32));
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("h.npy");
        let mut file = Files::<f32>::create(&path).unwrap();
        file.begin(&[square("a", count)]).unwrap();
        feed_symmetric(&file, 0, count, side);
        file.finish().unwrap();
        let blocks = Blocks::open(&path).unwrap();
        prop_assert_eq!(blocks.rows(0, 0..count).unwrap(), array.mapv(f64::from));
        let part = blocks.block(0, count / 2..count, count / 3..count).unwrap();
        prop_assert_eq!(part, array.slice(ndarray::s![count / 2.., count / 3..]).mapv(f64::from));
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn message<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => panic!("this was to be refused"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_folder_holds_every_part_with_its_ranges_and_provenance() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blocks");
    let mut sink = Files::<f64>::create(&path)
        .unwrap()
        .plan(serde_json::json!("the plan"))
        .provenance(Provenance {
            loss: Some("bce(mean)".into()),
            ..Provenance::now()
        });
    let rectangle = PartLayout::matrix("a,b", vec![0..2, 7..8], vec![4..6]);
    let diagonal = PartLayout::vector("diagonal", vec![0..4]);
    // More parts than are kept open.
    let mut parts = vec![rectangle.clone(), diagonal];
    parts.extend((0..70).map(|k| square(&format!("s{k}"), 3)));
    sink.begin(&parts).unwrap();
    let partial = folder.path().join("blocks.partial");
    let plan = std::fs::read_to_string(partial.join("plan.json")).unwrap();
    assert!(plan.contains("\"the plan\"") && plan.contains("a,b"));
    sink.tile(0, 0..3, 1..2, &[2.0, 4.0, 6.0], false).unwrap();
    sink.tile(0, 0..3, 0..1, &[1.0, 3.0, 5.0], false).unwrap();
    let done = std::fs::read_to_string(partial.join("done")).unwrap();
    let lines: Vec<&str> = done.lines().collect();
    assert!(
        lines[0].contains("\"shard\":1") && lines.len() == 3,
        "{done}"
    );
    assert!(lines[1].starts_with("0 0 3 1 2 0 ") && lines[2].starts_with("0 0 3 0 1 0 "));
    sink.vector(1, &[1.0, 2.0, 3.0, 4.0]).unwrap();
    for k in 0..70 {
        feed_symmetric(&sink, k + 2, 3, 2);
    }
    sink.finish().unwrap();
    assert_eq!(names(folder.path()), ["blocks"]);
    assert_eq!(names(&path).len(), 73);

    let blocks = Blocks::open(&path).unwrap();
    assert_eq!(blocks.parts()[0].layout, rectangle);
    assert_eq!(
        blocks.rows(0, 0..3).unwrap(),
        ndarray::array![[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    );
    assert_eq!(blocks.entry(0, 2, 0).unwrap(), 5.0);
    assert_eq!(
        blocks.vector(blocks.find("diagonal").unwrap()).unwrap()[3],
        4.0
    );
    assert_eq!(blocks.entry(71, 1, 2).unwrap(), entry(1, 2));
    assert_eq!(blocks.provenance()["loss"], "bce(mean)");
    assert!(message(blocks.find("c")).contains("a,b, diagonal"));
    assert!(message(blocks.block(0, 0..4, 0..1)).contains("[3, 2]"));
    let text = std::fs::read_to_string(path.join("index.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        manifest["parts"][0],
        serde_json::json!({
            "part": "a,b", "file": "0000.npy", "rows": [[0, 2], [7, 8]], "columns": [[4, 6]], "shape": [3, 2]
        })
    );
    assert!(manifest["parts"][1].get("columns").is_none());
}

#[test]
fn an_older_result_is_replaced_only_by_force_and_only_when_the_new_one_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.npy", "b"] {
        let path = folder.path().join(name);
        for (round, count) in [2, 3].into_iter().enumerate() {
            if round == 1 {
                assert!(message(Files::<f32>::create(&path)).contains("exists already"));
                let mut dropped = Files::<f32>::force(&path).unwrap();
                dropped.begin(&[square("x", 4)]).unwrap();
                drop(dropped);
                assert_eq!(Blocks::open(&path).unwrap().parts()[0].layout.name, "p0");
            }
            let mut sink = Files::<f32>::force(&path).unwrap();
            sink.begin(&[square(&format!("p{round}"), count)]).unwrap();
            feed_symmetric(&sink, 0, count, 2);
            sink.finish().unwrap();
        }
        assert_eq!(Blocks::open(&path).unwrap().parts()[0].layout.name, "p1");
    }
    assert_eq!(names(folder.path()), ["a.npy", "a.npy.json", "b"]);
    let other = folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("thesis.tex"), "mine").unwrap();
    assert!(message(Files::<f32>::force(&other)).contains("not a result"));
}

#[test]
fn places_that_cannot_be_written_are_refused_before_work() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let create = |name: &str| message(Files::<f32>::create(at(name)));
    std::fs::write(at("file"), "precious").unwrap();
    assert!(create("file/such/a.npy").contains("not a folder"));
    std::fs::remove_file(at("file")).unwrap();
    assert!(create("a.csv").contains(".csv"));
    assert!(Files::<f32>::create(at("run-1.5/")).is_ok());
    assert!(message(Files::<f32>::create("..")).contains("no name"));
    let mut single = Files::<f32>::create(at("a.npy")).unwrap();
    let two = [square("a", 2), square("b", 2)];
    assert!(message(single.begin(&two)).contains("name a folder"));
    // 10^12 parameters: 4·10^24 bytes are beyond any file.
    let huge = [square("a", 1_000_000_000_000)];
    assert!(matches!(single.begin(&huge), Err(Error::Request(_))));
    // 4·10^14 bytes: beyond this disk.
    let large = [square("a", 10_000_000)];
    let text = message(single.begin(&large));
    assert!(text.contains("363.8 TiB") && text.contains("free"));
    assert!(matches!(
        Memory::<f64>::new().begin(&[square("a", 2_000_000_000)]),
        Err(Error::Budget { .. })
    ));
    assert!(names(folder.path()).is_empty());
}

#[test]
fn tiles_that_do_not_fit_are_refused() {
    let mut sink = Memory::<f32>::new();
    sink.begin(&[
        PartLayout::matrix("a", vec![0..2], vec![0..3]),
        PartLayout::vector("v", vec![0..2]),
    ])
    .unwrap();
    assert!(sink.tile(0, 0..2, 2..4, &[0.0; 4], false).is_err());
    assert!(sink.tile(0, 0..2, 0..1, &[0.0; 3], false).is_err());
    assert!(sink.tile(0, 0..2, 0..1, &[0.0; 2], true).is_err());
    assert!(sink.tile(1, 0..2, 0..1, &[0.0; 2], false).is_err());
    assert!(sink.tile(2, 0..2, 0..1, &[0.0; 2], false).is_err());
    assert!(sink.vector(0, &[0.0; 6]).is_err());
    assert!(sink.vector(1, &[0.0; 3]).is_err());
    assert!(message(sink.finish()).contains("\"a\""));
}

#[test]
fn damaged_results_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    let mut sink = Files::<f64>::create(&path).unwrap();
    sink.begin(&[square("a", 3)]).unwrap();
    feed_symmetric(&sink, 0, 3, 3);
    sink.finish().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    assert!(message(Blocks::open(&path)).contains("199 bytes"));
    std::fs::write(&path, npy::write_header("<f8", &[2, 3])).unwrap();
    assert!(message(Blocks::open(&path)).contains("[2, 3]"));
    std::fs::remove_file(folder.path().join("a.npy.json")).unwrap();
    assert!(message(Blocks::open(&path)).contains("a.npy.json"));
    let index = folder.path().join("index.json");
    let out = r#"{"parts":[{"part":"a","file":"../a.npy","rows":[[0,3]]}]}"#;
    std::fs::write(&index, out).unwrap();
    assert!(message(Blocks::open(folder.path())).contains("outside"));
    let descending = r#"{"parts":[{"part":"a","file":"a.npy","rows":[[3,0]]}]}"#;
    std::fs::write(&index, descending).unwrap();
    assert!(message(Blocks::open(folder.path())).contains("ascend"));
}

#[test]
fn tensors_of_one_name_are_refused_before_work() {
    let folder = tempfile::tempdir().unwrap();
    let mut sink = Tensors::<f32>::create(folder.path().join("x.safetensors")).unwrap();
    let refused = message(sink.begin(&[square("a", 4), square("a", 4)]));
    assert!(refused.contains("two parts are named \"a\""), "{refused}");
}
