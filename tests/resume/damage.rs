//! What a power failure takes.

use crate::place::{Place, kill_at, refused, run, success, text};
use serde_json::Value;
use std::path::Path;

#[test]
fn what_a_power_failure_takes_is_made_again() {
    let place = Place::new();
    let options = ["--part", "full", "--tile", "64", "--json", "--out", "h"];
    success(place.digits(&options));
    let expected = place.content("h");
    // A run that stopped one step before its end: all is there but the last name.
    let stopped = || {
        let _ = std::fs::remove_dir_all(place.path("h"));
        let _ = std::fs::remove_dir_all(place.path("h.partial"));
        loop {
            let child = place.digits(&options).spawn().expect("the binary starts");
            let ended = kill_at(&place, child, "h.partial/done", 21);
            if ended.is_none() && !place.path("h").exists() {
                return place.done("h.partial/done");
            }
            std::fs::remove_dir_all(place.path("h")).expect("removed");
        }
    };
    let data = place.path("h.partial/0000.npy");
    let list = place.path("h.partial/done");
    let plan = place.path("h.partial/plan.json");
    let damage = |path: &Path, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = std::fs::read(path).expect("a file");
        change(&mut bytes);
        std::fs::write(path, bytes).expect("written");
    };
    let finish = |least: usize| {
        let output = run(place.digits(&options));
        assert!(output.status.success(), "{}", text(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let found = report["found_tiles"].as_u64().expect("a number");
        assert!(found as usize >= least, "{found} of {least}");
        assert!(place.content("h") == expected);
        found as usize
    };
    // Nothing is taken: all that is listed is there.
    let done = stopped();
    assert_eq!(finish(done), done);
    // Pages of the data that never reached the disk.
    let done = stopped();
    damage(&data, &|bytes| bytes[9000..200_000].fill(0));
    assert!(finish(0) < done);
    // The data's end.
    stopped();
    damage(&data, &|bytes| bytes.truncate(300_000));
    finish(0);
    // The data altogether.
    stopped();
    std::fs::remove_file(&data).expect("removed");
    assert_eq!(finish(0), 0);
    // The end of the list, torn; a block of it, never written.
    let done = stopped();
    damage(&list, &|bytes| bytes.truncate(bytes.len() - 7));
    finish(done - 1);
    stopped();
    damage(&list, &|bytes| bytes[300..700].fill(0));
    finish(1);
    // The list altogether: its tiles are made again.
    stopped();
    damage(&list, &|bytes| bytes.clear());
    assert_eq!(finish(0), 0);
    // The plan: it is written whole before anything else, so that another hand was at it.
    stopped();
    damage(&plan, &|bytes| bytes.truncate(100));
    let message = refused(place.digits(&options));
    assert!(
        message.contains("plan.json") && message.contains("--restart"),
        "{message}"
    );
    success(place.digits(&[&options[..], &["--restart"]].concat()));
    assert!(place.content("h") == expected);
}
