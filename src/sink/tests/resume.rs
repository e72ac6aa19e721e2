//! Results under way: resumed, replaced, merged, and stopped at any point.

use super::*;

#[test]
fn a_sink_dropped_before_its_end_leaves_what_is_done() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.npy", "b"] {
        let path = folder.path().join(name);
        let mut sink = Files::<f32>::create(&path).unwrap();
        sink.begin(&[square("a", 4)]).unwrap();
        assert!(!names(folder.path()).is_empty());
        // Nothing is done: nothing remains.
        drop(sink);
        assert!(names(folder.path()).is_empty());
        let mut sink = Files::<f32>::create(&path).unwrap();
        sink.begin(&[square("a", 4)]).unwrap();
        sink.tile(0, 0..1, 0..4, &[1.0; 4], false).unwrap();
        // Entries are missing: refused, under no final name, and what is there stays.
        assert!(message(sink.finish()).contains("16 entries, but 4 were written"));
        drop(sink);
        assert!(!path.exists());
        let mut sink = Files::<f32>::create(&path).unwrap();
        sink.begin(&[square("a", 4)]).unwrap();
        let tile = |rows: Range<usize>| Tile {
            part: 0,
            rows,
            columns: 0..4,
        };
        assert!(sink.has(&tile(0..1)).unwrap() && !sink.has(&tile(1..4)).unwrap());
        sink.tile(0, 1..4, 0..4, &[2.0; 12], false).unwrap();
        sink.finish().unwrap();
        let found = Blocks::open(&path).unwrap().rows(0, 0..2).unwrap();
        assert_eq!(found, ndarray::array![[1.0; 4], [2.0; 4]]);
        std::fs::remove_dir_all(&path)
            .or_else(|_| std::fs::remove_file(&path))
            .unwrap();
        let _ = std::fs::remove_file(folder.path().join("a.npy.json"));
    }
}

#[test]
fn a_leftover_is_started_again_and_a_run_under_way_is_not() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.npy", "b"] {
        let path = folder.path().join(name);
        let mut first = Files::<f32>::create(&path).unwrap();
        first.begin(&[square("a", 2)]).unwrap();
        let mut second = Files::<f32>::create(&path).unwrap();
        assert!(message(second.begin(&[square("a", 2)])).contains("another run"));
        feed_symmetric(&first, 0, 2, 2);
        first.finish().unwrap();
        assert_eq!(Blocks::open(&path).unwrap().entry(0, 0, 1).unwrap(), 1.0);
    }
    // A failure tears what was written last.
    let torn: [(&str, &[u8]); 5] = [
        ("c.npy.partial", b"\x93NUM"),
        ("c.npy.partial.done", b"{\"sha"),
        ("d.partial/0007.npy", b"leftover"),
        ("d.partial/done", b"\0\0\0"),
        ("d.partial/plan.json", b"{\n  \"form"),
    ];
    std::fs::create_dir(folder.path().join("d.partial")).unwrap();
    for (name, bytes) in torn {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    // Without the list of done tiles it is somebody else's file.
    std::fs::write(folder.path().join("f.npy.partial"), "mine").unwrap();
    assert!(message(Files::<f32>::create(folder.path().join("f.npy"))).contains("not a result"));
    for name in ["c.npy", "d"] {
        let path = folder.path().join(name);
        assert!(message(Blocks::open(&path)).contains(".partial"));
        let mut sink = Files::<f32>::create(&path).unwrap();
        if name == "d" {
            // A plan that nobody can read is not thrown away unasked.
            assert!(message(sink.begin(&[square("a", 3)])).contains("restart"));
            let options = FilesOptions {
                restart: true,
                ..FilesOptions::default()
            };
            sink = Files::with_options(&path, options).unwrap();
        }
        sink.begin(&[square("a", 3)]).unwrap();
        feed_symmetric(&sink, 0, 3, 2);
        sink.finish().unwrap();
        assert_eq!(Blocks::open(&path).unwrap().entry(0, 2, 1).unwrap(), 1002.0);
    }
    assert_eq!(names(&folder.path().join("d")), ["0000.npy", "index.json"]);
    std::fs::create_dir(folder.path().join("e.partial")).unwrap();
    std::fs::write(folder.path().join("e.partial/thesis.tex"), "mine").unwrap();
    let mut sink = Files::<f32>::create(folder.path().join("e")).unwrap();
    assert!(message(sink.begin(&[square("a", 2)])).contains("thesis.tex"));
    assert!(folder.path().join("e.partial/thesis.tex").exists());
}

#[test]
fn a_list_that_another_plan_left_counts_for_nothing_and_is_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("h");
    let sink = |index: usize, order: &str| {
        let options = FilesOptions {
            shard: Shard { index, of: 2 },
            ..FilesOptions::default()
        };
        let sink = Files::<f32>::with_options(&path, options).unwrap();
        sink.order(serde_json::json!({ "tile": order }))
    };
    let parts = [square("a", 4)];
    sink(1, "one").begin(&parts).unwrap();
    // A hand that takes the plan away leaves the lists, of which this one has a header alone.
    std::fs::remove_file(folder.path().join("h.partial/plan.json")).unwrap();
    sink(2, "another").begin(&parts).unwrap();
    let tile = Tile {
        part: 0,
        rows: 0..4,
        columns: 0..4,
    };
    let mut first = sink(1, "another");
    first.begin(&parts).unwrap();
    first.tile(0, 0..4, 0..4, &[1.0; 16], false).unwrap();
    drop(first);
    let mut again = sink(1, "another");
    again.begin(&parts).unwrap();
    assert!(again.has(&tile).unwrap());
    drop(again);
    assert_eq!(merge(&path, false, &mut |_, _| Ok(())).unwrap().tiles, 1);
}

/// A sink to that place that has taken its only tile, of 4 × 4 numbers `value`.
fn one_tile(path: &Path, options: FilesOptions, value: f32) -> Files<f32> {
    let mut sink = Files::<f32>::with_options(path, options).unwrap();
    sink.begin(&[square("a", 4)]).unwrap();
    sink.tile(0, 0..4, 0..4, &[value; 16], false).unwrap();
    sink
}

fn by_force() -> FilesOptions {
    FilesOptions {
        force: true,
        ..FilesOptions::default()
    }
}

fn may_be_whole(path: &Path) -> bool {
    let options = FilesOptions {
        may_be_whole: true,
        ..FilesOptions::default()
    };
    let sink = Files::<f32>::with_options(path, options).unwrap();
    sink.is_finished(&[square("a", 4)]).unwrap()
}

#[test]
fn a_run_that_is_to_replace_a_result_is_not_tidied_away_when_that_is_found_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("h.npy");
    one_tile(&path, FilesOptions::default(), 1.0)
        .finish()
        .unwrap();
    drop(one_tile(&path, by_force(), 2.0));
    let under_way = names(folder.path());
    assert!(may_be_whole(&path));
    assert_eq!(names(folder.path()), under_way);
    // What replaces it is merged, where it is whole, and not the older one taken for it.
    let merged = merge(&path, true, &mut |_, _| Ok(())).unwrap();
    assert_eq!((merged.was_whole, merged.tiles), (false, 1));
    assert_eq!(Blocks::open(&path).unwrap().entry(0, 1, 2).unwrap(), 2.0);
    assert_eq!(names(folder.path()), ["h.npy", "h.npy.json"]);
}

#[test]
fn what_others_put_into_a_result_is_neither_tidied_away_nor_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("h");
    one_tile(&path, FilesOptions::default(), 1.0)
        .finish()
        .unwrap();
    // A workflow's own marks.
    for name in ["done", "plan.json"] {
        std::fs::write(path.join(name), "{}").unwrap();
    }
    assert!(may_be_whole(&path));
    assert_eq!(
        names(&path),
        ["0000.npy", "done", "index.json", "plan.json"]
    );
    std::fs::write(path.join("0007.npy"), "somebody's").unwrap();
    let refused = message(Files::<f32>::force(&path));
    assert!(refused.contains("not a result of hessblock"), "{refused}");
    std::fs::remove_file(path.join("0007.npy")).unwrap();
    one_tile(&path, by_force(), 2.0).finish().unwrap();
    assert_eq!(names(folder.path()), ["h"]);
}

#[test]
fn an_older_result_that_stepped_aside_goes_whenever_the_run_was_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("h");
    let aside = folder.path().join("h.partial.old");
    one_tile(&path, FilesOptions::default(), 1.0)
        .finish()
        .unwrap();
    // Stopped between the two renames: the new one is whole under its other name.
    drop(one_tile(&path, by_force(), 2.0));
    std::fs::rename(&path, &aside).unwrap();
    let mut sink = Files::<f32>::force(&path).unwrap();
    sink.begin(&[square("a", 4)]).unwrap();
    let tile = Tile::whole(0, &square("a", 4));
    assert!(sink.has(&tile).unwrap());
    sink.finish().unwrap();
    assert_eq!(names(folder.path()), ["h"]);
    // And after them.
    let older = folder.path().join("g");
    one_tile(&older, FilesOptions::default(), 1.0)
        .finish()
        .unwrap();
    std::fs::rename(&older, &aside).unwrap();
    assert!(may_be_whole(&path));
    assert_eq!(names(folder.path()), ["h"]);
}

#[test]
fn a_run_goes_on_where_files_have_other_names_and_little_else_was_summed_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("h");
    let sink = |name: &str, cut: f64, directions: usize| {
        let mut provenance = Provenance::now();
        provenance.data = vec![HashedFile {
            path: name.into(),
            sha256: "00".into(),
            shards: Vec::new(),
        }];
        let rank = serde_json::json!({"tolerance": 0.001, "directions": directions, "cut": cut});
        provenance.options.insert("rank".into(), rank);
        Files::<f32>::create(&path).unwrap().provenance(provenance)
    };
    let mut first = sink("a/images.npy", 0.123_456_789_012_345_68, 4);
    first.begin(&[square("a", 4), square("b", 2)]).unwrap();
    first.tile(0, 0..4, 0..4, &[1.0; 16], false).unwrap();
    drop(first);
    let mut again = sink("b/pictures.npy", 0.123_456_789_012_345_7, 4);
    again.begin(&[square("a", 4), square("b", 2)]).unwrap();
    assert!(again.has(&Tile::whole(0, &square("a", 4))).unwrap());
    drop(again);
    let refused = message(sink("a/images.npy", 0.1, 5).begin(&[square("a", 4), square("b", 2)]));
    assert!(
        refused.contains("rank_tolerance left 4 directions then and leaves 5 now"),
        "{refused}"
    );
}

#[test]
fn what_file_systems_hide_in_a_result_under_way_stops_no_run_and_what_is_somebody_s_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("h");
    let partial = folder.path().join("h.partial");
    drop(one_tile(&path, FilesOptions::default(), 1.0));
    std::fs::write(partial.join(".nfs0001"), "").unwrap();
    std::fs::write(partial.join("notes"), "").unwrap();
    let begin = || {
        let mut sink = Files::<f32>::create(&path).unwrap();
        sink.begin(&[square("a", 4)]).map(|()| sink)
    };
    let refused = message(begin());
    assert!(
        refused.contains("\"notes\"") && refused.contains("move that away"),
        "{refused}"
    );
    std::fs::remove_file(partial.join("notes")).unwrap();
    #[cfg(unix)]
    {
        // Through a link numbers would go where nobody expects them.
        let data = partial.join("0000.npy");
        std::fs::rename(&data, folder.path().join("elsewhere.npy")).unwrap();
        std::os::unix::fs::symlink("../elsewhere.npy", &data).unwrap();
        assert!(message(begin()).contains("\"0000.npy\""));
        std::fs::rename(folder.path().join("elsewhere.npy"), &data).unwrap();
    }
    let mut sink = begin().unwrap();
    assert!(sink.has(&Tile::whole(0, &square("a", 4))).unwrap());
    sink.finish().unwrap();
    assert_eq!(names(&path), [".nfs0001", "0000.npy", "index.json"]);
}

#[test]
fn a_share_that_is_refused_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let share = |path: &Path, index: usize| {
        let options = FilesOptions {
            shard: Shard { index, of: 3 },
            ..FilesOptions::default()
        };
        Files::<f32>::with_options(path, options).unwrap()
    };
    for name in ["a", "b.npy"] {
        let path = folder.path().join(name);
        let mut first = share(&path, 1);
        first.begin(&[square("a", 4)]).unwrap();
        let all = || {
            let below = folder.path().join("a.partial");
            [
                names(folder.path()),
                if below.is_dir() {
                    names(&below)
                } else {
                    Vec::new()
                },
            ]
        };
        let before = all();
        assert!(message(share(&path, 2).begin(&[square("a", 5)])).contains("another command"));
        assert_eq!(all(), before);
        // A list that was there is not removed.
        share(&path, 3).begin(&[square("a", 4)]).unwrap();
        let before = all();
        assert!(message(share(&path, 3).begin(&[square("a", 5)])).contains("another command"));
        assert_eq!(all(), before);
    }
    // Nor does a place that is refused.
    std::fs::write(folder.path().join("c.npy.partial.plan.json"), "mine").unwrap();
    let before = names(folder.path());
    let path = folder.path().join("c.npy");
    assert!(
        message(
            Files::<f32>::create(&path)
                .unwrap()
                .begin(&[square("a", 4)])
        )
        .contains("plan")
    );
    assert_eq!(names(folder.path()), before);
}

#[test]
fn tiles_of_files_that_changed_are_not_listed_and_those_that_may_be_are_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let (path, input) = (folder.path().join("h"), folder.path().join("x.npy"));
    let sink = |watch: Watch| {
        let files = Files::<f32>::create(&path).unwrap();
        let mut files = files.watch(Arc::new(watch));
        files.begin(&[square("a", 4), square("b", 2)]).unwrap();
        files
    };
    let watch = || {
        std::fs::write(&input, "input").unwrap();
        let watch = Watch::new([input.clone()]);
        watch.hash(&input).unwrap();
        watch
    };
    let first = sink(watch());
    first.tile(0, 0..4, 0..4, &[1.0; 16], false).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(30));
    std::fs::write(&input, "other").unwrap();
    let refused = message(first.tile(1, 0..2, 0..2, &[1.0; 4], false));
    assert!(refused.contains("x.npy: was changed while"), "{refused}");
    drop(first);
    let mut again = sink(watch());
    assert!(again.has(&Tile::whole(0, &square("a", 4))).unwrap());
    assert!(!again.has(&Tile::whole(1, &square("b", 2))).unwrap());
    again.tile(1, 0..2, 0..2, &[2.0; 4], false).unwrap();
    std::fs::write(&input, "other").unwrap();
    assert!(message(again.finish()).contains("x.npy"));
    drop(again);
    assert!(!path.exists() && folder.path().join("h.partial/done").exists());
    // A change that times do not tell may have been at any time.
    let mut unseen = watch();
    std::fs::write(&input, "other").unwrap();
    unseen.forget_times();
    let mut last = sink(unseen);
    assert!(last.has(&Tile::whole(0, &square("a", 4))).unwrap());
    assert!(last.has(&Tile::whole(1, &square("b", 2))).unwrap());
    assert!(message(last.finish()).contains("x.npy"));
    drop(last);
    assert_eq!(names(folder.path()), ["x.npy"]);
}
