//! Disks that are full, and writes that are short.

use crate::place::{Place, refused, run, success, text};
use hessblock::data::Dataset;
use hessblock::internals::bytes::Bytes;
use hessblock::internals::files::WriteFaults;
use hessblock::internals::sink::FilesOptions;
use hessblock::loss::CrossEntropy;
use hessblock::network::builder::Builder;
use hessblock::{Device, Error, Memory, Output, Part, Precision, Session};
use ndarray::{Array1, Array2};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// A network of some 900 parameters.
fn session() -> Session {
    let network = Builder::new(&[12])
        .linear("one", 30)
        .tanh()
        .linear("two", 15)
        .relu()
        .linear("head", 5)
        .initialize(4)
        .build()
        .expect("a network");
    let inputs =
        Array2::from_shape_fn((40, 12), |(n, i)| ((n * 7 + i * 3) % 11) as f64 / 5.0 - 1.0);
    let labels = Array1::from_shape_fn(40, |n| ((n * 3) % 5) as i64);
    let data = Dataset::from_arrays(inputs, labels);
    let loss = Box::new(CrossEntropy::mean());
    Session::builder(network)
        .data(data)
        .boxed_loss(loss)
        .device(Device::cpu(Precision::F32))
        .build()
        .expect("a session")
}

#[test]
fn a_full_disk_and_short_writes_cost_nothing_that_is_done() {
    let folder = tempfile::tempdir().expect("a folder");
    let session = session();
    let parts = [Part::Full, Part::Diagonal];
    for name in ["folder", "file.npy"] {
        let parts = if name == "folder" {
            &parts[..]
        } else {
            &parts[..1]
        };
        let run = |path: PathBuf, faults: WriteFaults, host: Option<u128>| {
            let options = FilesOptions {
                faults,
                ..FilesOptions::default()
            };
            let host = host.map(|bytes| Memory::default().host(Bytes(bytes)));
            let session = session.with_memory(host.unwrap_or_default());
            let request = session.ggn().parts(parts.to_vec())?.tile_rows(100);
            request.write(Output::new(path).with_options(options))
        };
        let whole = folder.path().join(format!("whole-{name}"));
        run(whole.clone(), WriteFaults::default(), None).expect("a run");
        let bytes = |path: &Path| match path.is_dir() {
            true => std::fs::read(path.join("0000.npy")).expect("a file"),
            false => std::fs::read(path).expect("a file"),
        };
        let expected = bytes(&whole);
        let short = WriteFaults {
            short_writes: true,
            full_after: None,
        };
        let path = folder.path().join(format!("short-{name}"));
        run(path.clone(), short, None).expect("a run");
        assert!(bytes(&path) == expected, "short writes");
        // The disk is full again and again, at other places.
        let path = folder.path().join(format!("full-{name}"));
        let (mut stops, mut found) = (0, 0);
        for full_after in (0..).map(|k| 150 + 260_001 * k) {
            let full = WriteFaults {
                short_writes: stops % 2 == 1,
                full_after: Some(full_after),
            };
            match run(path.clone(), full, None) {
                Ok(report) => {
                    // One of the found is a vector.
                    assert!(report.found_tiles + 1 >= found);
                    break;
                }
                Err(Error::Io { source, .. }) => {
                    assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
                }
                Err(other) => panic!("{other}"),
            }
            stops += 1;
            let left = Output::new(&path).left();
            let tiles = left.map_or(0, |left| left.tiles);
            assert!(tiles >= found, "{tiles} after {found}");
            found = tiles;
            assert!(!path.exists());
        }
        assert!(stops >= 3 && found > 3, "{stops} stops, {found} tiles");
        assert!(bytes(&path) == expected, "a full disk");
        // Whatever memory there is later, sums are cut where they were.
        let path = folder.path().join(format!("memory-{name}"));
        let full = WriteFaults {
            short_writes: false,
            full_after: Some(900_000),
        };
        run(path.clone(), full, None).expect_err("a full disk");
        let report = run(path.clone(), WriteFaults::default(), Some(8 << 20)).expect("a run");
        assert!(
            report.found_tiles > 0 && bytes(&path) == expected,
            "less memory"
        );
        let path = folder.path().join(format!("little-{name}"));
        run(path.clone(), full, None).expect_err("a full disk");
        let refused = run(path, WriteFaults::default(), Some(100_000));
        let refused = refused.expect_err("too little memory").to_string();
        assert!(refused.contains("restart"), "{refused}");
    }
}

/// A file system of so many bytes that is gone at the end; `None` where this process may not mount one.
struct Small(tempfile::TempDir);

impl Small {
    fn new(bytes: usize) -> Option<Small> {
        let folder = tempfile::tempdir().expect("a folder");
        let size = format!("size={bytes}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(folder.path())
            .stderr(Stdio::null())
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then_some(Small(folder))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_disk_that_fills_up_on_the_way_is_gone_on_with_once_it_has_room() {
    let Some(small) = Small::new(24 << 20) else {
        eprintln!("no file system can be mounted here: skipped");
        return;
    };
    let place = Place::new();
    let options = |out: &str| -> Vec<String> {
        [
            "--part",
            "full",
            "--tile",
            "32",
            "--precision",
            "f64",
            "--out",
            out,
        ]
        .map(String::from)
        .to_vec()
    };
    let digits = |out: &str| {
        let options = options(out);
        place.digits(&options.iter().map(String::as_str).collect::<Vec<_>>())
    };
    success(digits("whole"));
    let expected = std::fs::read(place.path("whole/0000.npy")).expect("a result");
    let out = small.0.path().join("h");
    let out = out.to_str().expect("a path");
    let child = digits(out).spawn().expect("the binary starts");
    // The room was there when the run began; then somebody else takes it.
    let list = small.0.path().join("h.partial/done");
    while std::fs::metadata(&list).map_or(0, |meta| meta.len()) < 2000 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let filler = small.0.path().join("filler");
    let mut file = std::fs::File::create(&filler).expect("a file");
    while std::io::Write::write(&mut file, &[1; 4096]).is_ok() {}
    drop(file);
    let output = child.wait_with_output().expect("its output");
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(
        message.contains("No space left") && message.contains("are kept in"),
        "{message}"
    );
    // Still full: refused, with what is missing.
    let message = refused(digits(out));
    assert!(
        message.contains("free") || message.contains("No space left"),
        "{message}"
    );
    std::fs::remove_file(filler).expect("removed");
    let output = run(digits(out));
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("went on from"));
    assert!(std::fs::read(format!("{out}/0000.npy")).expect("a result") == expected);
}

#[test]
fn a_command_that_a_full_disk_stops_leaves_nothing_on_it() {
    let Some(small) = Small::new(1 << 20) else {
        eprintln!("no file system can be mounted here: skipped");
        return;
    };
    let place = Place::new();
    let example = format!("{}/examples/digits", env!("CARGO_MANIFEST_DIR"));
    let mut vector = hessblock::internals::files::npy::write_header("<f4", &[1374]);
    vector.resize(vector.len() + 4 * 1374, 0);
    std::fs::write(place.path("v.npy"), vector).expect("a file");
    // All but a few bytes are taken, then all.
    for left in [8192, 4096, 0] {
        let filler = small.0.path().join("filler");
        let mut file = std::fs::File::create(&filler).expect("a file");
        while std::io::Write::write(&mut file, &[1; 4096]).is_ok() {}
        let length = file.metadata().expect("a file").len();
        file.set_len(length - left).expect("shorter");
        drop(file);
        let out = |name: &str| {
            small
                .0
                .path()
                .join(name)
                .to_str()
                .expect("a path")
                .to_string()
        };
        for (command, name) in [
            ("product", "x.npy"),
            ("gradient", "x.npy"),
            ("blocks", "x.npy"),
            ("blocks", "x"),
            ("blocks", "x.safetensors"),
            ("error", "study"),
        ] {
            let mut command_line = place.command(&[command]);
            command_line.arg(format!("{example}/model.onnx"));
            command_line.arg(format!("--inputs={example}/images.npy"));
            command_line.arg(format!("--targets={example}/labels.npy"));
            command_line.args([
                "--loss",
                "cross-entropy",
                "--device",
                "cpu",
                "--samples",
                "0..2",
            ]);
            command_line.args(["--out", &out(name)]);
            match command {
                "product" => command_line.args(["--vector", "v.npy"]),
                "blocks" => command_line.args(["--part", "diag"]),
                "error" => command_line.args(["--draws", "2", "--no-pairs"]),
                _ => &mut command_line,
            };
            let output = run(command_line);
            let message = text(&output.stderr);
            // The smallest may have room in what is left.
            assert!(
                output.status.code() == Some(1) || left > 0 && output.status.success(),
                "{command}: {message}"
            );
            // A result that was under way stays where a tile of it is done, and then with its plan.
            let partial = small.0.path().join(format!("{name}.partial"));
            let plan = match partial.is_dir() {
                true => partial.join("plan.json"),
                false => small.0.path().join(format!("{name}.partial.plan.json")),
            };
            let kept = left > 0 && (plan.is_file() || output.status.success());
            for entry in std::fs::read_dir(small.0.path()).expect("the folder") {
                let (entry, what) = (
                    entry.expect("an entry").path(),
                    format!("{command} {name}, {left} bytes left"),
                );
                if entry == filler {
                    continue;
                }
                assert!(
                    kept && entry.metadata().expect("it is there").len() > 0,
                    "{what}: {entry:?}"
                );
                match entry.is_dir() {
                    true => std::fs::remove_dir_all(&entry).expect("removed"),
                    false => std::fs::remove_file(&entry).expect("removed"),
                }
            }
        }
    }
}
