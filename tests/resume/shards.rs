//! Results that several processes make.

use crate::place::{Place, kill_at, refused, run, success, text};
use hessblock::data::Dataset;
use hessblock::internals::control::Control;
use hessblock::internals::plan::Plan;
use hessblock::internals::plan::RunOptions;
use hessblock::internals::plan::request::resolve;
use hessblock::internals::plan::tiles::Tiling;
use hessblock::internals::sink::merge;
use hessblock::loss::CrossEntropy;
use hessblock::onnx::{self, OnnxOptions};
use hessblock::{Device, Error, Output, Part, Precision, Session};
use serde_json::Value;

const PARTS: [&str; 8] = [
    "--part", "full", "--part", "layers", "--part", "diag", "--tile", "100",
];

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    PARTS.into_iter().chain(more.iter().copied()).collect()
}

#[test]
fn processes_that_know_nothing_of_each_other_make_the_bits_that_one_makes() {
    let place = Place::new();
    success(place.digits(&with(&["--out", "one"])));
    let expected = place.content("one");
    for of in [2, 5] {
        let shards: Vec<String> = (1..=of).map(|k| format!("{k}/{of}")).collect();
        let start = |shard: &String| {
            let options = with(&["--out", "many", "--json", "--shard", shard]);
            place.digits(&options).spawn().expect("the binary starts")
        };
        // At once: they make the folder, the plan and the files against each other.
        let children: Vec<_> = shards.iter().map(start).collect();
        let mut tiles = Vec::new();
        for child in children {
            let output = child.wait_with_output().expect("its output");
            assert!(output.status.success(), "{}", text(&output.stderr));
            let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
            tiles.push(report["tiles"].as_u64().expect("a number"));
        }
        assert!(tiles.iter().all(|t| *t > 0), "{tiles:?}");
        assert!(!place.path("many").exists(), "nobody finishes it unasked");
        let merged = success(place.command(&["merge", "many", "--json"]));
        let merged: Value = serde_json::from_str(&merged).expect("JSON");
        // And a vector.
        assert_eq!(merged["tiles"], tiles.iter().sum::<u64>() + 1);
        assert_eq!(
            (&merged["shards"], &merged["was_whole"]),
            (&of.into(), &false.into())
        );
        assert!(
            place.content("many") == expected,
            "{of} shards make other bits"
        );
        let again = run(place.command(&["merge", "many"]));
        assert!(again.status.success() && text(&again.stderr).contains("whole already"));
        place.remove("many");
    }
}

#[test]
fn processes_that_plan_at_once_for_unlike_memory_take_the_units_of_the_first() {
    let example = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/digits");
    let network = onnx::load(example.join("model.onnx"), &OnnxOptions::default());
    let data = Dataset::open(example.join("images.npy")).expect("images");
    let data = data.with_targets(example.join("labels.npy"));
    let loss = Box::new(CrossEntropy::mean());
    let session = Session::builder(network.expect("a network"))
        .data(data.expect("labels"))
        .boxed_loss(loss)
        .device(Device::cpu(Precision::F32))
        .build();
    let session = session.expect("a session");
    let g = session.ggn();
    let plan = |host_memory: Option<u64>| {
        let options = RunOptions {
            host_memory,
            tiling: Tiling {
                side: 100,
                ..Tiling::default()
            },
            ..RunOptions::default()
        };
        let parts = resolve(session.network(), &[Part::Full, Part::Diagonal]);
        g.plan_with(parts.expect("parts"), options)
    };
    let wide = plan(None).expect("a plan");
    let mut budget = wide.host_bytes + wide.device_bytes;
    let narrow = loop {
        budget -= budget / 16;
        let narrow = plan(Some(budget)).expect("units that fit");
        if narrow.units() != wide.units() {
            break narrow;
        }
    };
    let folder = tempfile::tempdir().expect("a folder");
    let run = |plan: &Plan, name: &str, index: usize, of: usize| {
        let output = Output::folder(folder.path().join(name)).shard(index, of)?;
        g.write_plan(plan, &output, &Control::none())
    };
    let numbers = |name: &str| {
        let read = |k: usize| std::fs::read(folder.path().join(format!("{name}/000{k}.npy")));
        [0, 1].map(|k| read(k).expect("a result"))
    };
    // The second process made its plan before the first one's was there.
    for (first, second, name) in [(&narrow, &wide, "narrow"), (&wide, &narrow, "wide")] {
        run(first, &format!("{name}-alone"), 1, 1).expect("a run");
        run(first, name, 1, 2).expect("a share");
        let shared = run(second, name, 2, 2);
        if name == "wide" {
            // For units of which its memory holds none it is told so.
            let refused = shared.expect_err("too little memory");
            assert!(matches!(refused, Error::Budget { .. }), "{refused}");
            continue;
        }
        shared.expect("the other share");
        merge(folder.path().join(name), false, &mut |_, _| Ok(())).expect("a whole result");
        assert!(numbers(name) == numbers(&format!("{name}-alone")), "{name}");
    }
    assert!(numbers("narrow-alone") != numbers("wide-alone"));
}

#[test]
fn what_is_missing_or_damaged_is_named_before_a_result_is_finished() {
    let place = Place::new();
    let shard = |shard: &str| place.digits(&with(&["--out", "h", "--shard", shard]));
    let merge = || place.command(&["merge", "h"]);
    assert!(refused(merge()).contains("nothing to merge"));
    let output = run(shard("1/3"));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let told = text(&output.stdout);
    assert!(
        told.contains("shard 1/3 is done") && told.contains("hessblock merge h"),
        "{told}"
    );
    // One is stopped in the middle, one has not begun.
    let child = shard("2/3").spawn().expect("the binary starts");
    let ended = kill_at(&place, child, "h.partial/done-2-of-3", 1);
    assert!(ended.is_none(), "too quick to be stopped");
    let message = refused(merge());
    assert!(
        message.contains("shard 2/3 made") && message.contains("3/3 has not begun"),
        "{message}"
    );
    assert!(
        !message.contains("1/3 made") && !place.path("h").exists(),
        "{message}"
    );
    let message = refused(place.command(&["verify", "h"]));
    assert!(message.contains("h.partial"), "{message}");
    // Another number of shards, or other options, are another run.
    let message = refused(shard("3/4"));
    assert!(
        message.contains("N of --shard K/N was 3 and is 4") && message.contains("every shard"),
        "{message}"
    );
    success(shard("2/3"));
    success(shard("3/3"));
    // A disk that forgot something.
    let data = place.path("h.partial/0000.npy");
    let mut bytes = std::fs::read(&data).expect("the data");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    std::fs::write(&data, &bytes).expect("written");
    let message = refused(merge());
    assert!(
        message.contains("were written") && message.contains("again"),
        "{message}"
    );
    for each in ["1/3", "2/3", "3/3"] {
        success(shard(each));
    }
    success(merge());
    success(place.digits(&with(&["--out", "one"])));
    assert!(place.content("h") == place.content("one"));
}

#[test]
fn shares_are_from_one_to_their_number() {
    let place = Place::new();
    for bad in ["0/3", "4/3", "3", "1/0", "a/b", "-1/3", "1/1000000000"] {
        let option = format!("--shard={bad}");
        let output = run(place.digits(&with(&["--out", "h", &option])));
        assert_eq!(output.status.code(), Some(2), "{bad}");
        assert!(
            text(&output.stderr).contains("K/N"),
            "{}",
            text(&output.stderr)
        );
    }
    // More shards than tiles: some have nothing to do.
    for k in 1..=4 {
        let shard = format!("{k}/4");
        success(place.digits(&["--part", "layer=head", "--out", "h.npy", "--shard", &shard]));
    }
    success(place.command(&["merge", "h.npy"]));
    success(place.digits(&["--part", "layer=head", "--out", "one.npy"]));
    let read = |name: &str| std::fs::read(place.path(name)).expect("a result");
    assert!(read("h.npy") == read("one.npy"));
    let left: Vec<_> = std::fs::read_dir(place.path(""))
        .expect("a folder")
        .collect();
    assert_eq!(left.len(), 4, "{left:?}");
}
