//! The binary in a folder of its own.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The binary in a folder of its own, on the data of an example.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Place {
        Place(tempfile::tempdir().expect("a temporary folder"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hessblock"));
        command.args(arguments).current_dir(self.0.path());
        command.env_remove("RUST_LOG");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// `blocks` on the digits, on the CPU.
    pub fn digits(&self, more: &[&str]) -> Command {
        let example = format!("{}/examples/digits", env!("CARGO_MANIFEST_DIR"));
        let mut command = self.command(&["blocks"]);
        command.arg(format!("{example}/model.onnx"));
        command.arg(format!("--inputs={example}/images.npy"));
        command.arg(format!("--targets={example}/labels.npy"));
        command.args(["--loss", "cross-entropy", "--device", "cpu"]);
        command.args(more);
        command
    }

    /// Files below a folder, or the one file, with what they hold; manifests without their dates.
    pub fn content(&self, name: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        let mut open = vec![self.path(name)];
        while let Some(path) = open.pop() {
            if path.is_dir() {
                let entries = std::fs::read_dir(&path).expect("a folder");
                open.extend(entries.map(|e| e.expect("an entry").path()));
                continue;
            }
            let mut bytes = std::fs::read(&path).expect("a file");
            if let Some(at) = bytes.windows(8).position(|w| w == b"\"date\": ") {
                bytes.drain(at..at + 8 + 22);
            }
            let own = path.strip_prefix(self.path(name)).expect("below");
            found.push((own.to_path_buf(), bytes));
        }
        found.sort();
        assert!(!found.is_empty(), "{name} is empty");
        found
    }

    pub fn remove(&self, name: &str) {
        let path = self.path(name);
        if path.is_dir() {
            std::fs::remove_dir_all(path).expect("removed");
        } else {
            std::fs::remove_file(&path).expect("removed");
            let _ = std::fs::remove_file(self.path(&format!("{name}.json")));
        }
    }

    /// Lines of tiles in the list of what is done.
    pub fn done(&self, journal: &str) -> usize {
        std::fs::read_to_string(self.path(journal)).map_or(0, |text| {
            let tiles = text.lines().filter(|line| !line.starts_with('{'));
            tiles.filter(|line| line.contains(" =")).count()
        })
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn run(mut command: Command) -> Output {
    command.output().expect("the binary starts")
}

/// Runs what must end well; its standard output.
pub fn success(command: Command) -> String {
    let output = run(command);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// Runs what must be refused; its message.
pub fn refused(command: Command) -> String {
    let output = run(command);
    assert!(!output.status.success(), "{}", text(&output.stdout));
    text(&output.stderr)
}

/// Waits for a child until a moment, then kills it; its output where it ended before.
pub fn kill_after(mut child: Child, time: Duration) -> Option<Output> {
    let start = Instant::now();
    while start.elapsed() < time {
        if child.try_wait().expect("a status").is_some() {
            return Some(child.wait_with_output().expect("its output"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().expect("killed");
    let output = child.wait_with_output().expect("its output");
    output.status.code().is_some().then_some(output)
}

/// Kills a child once so many tiles are listed; its output where it ended before.
pub fn kill_at(place: &Place, mut child: Child, journal: &str, tiles: usize) -> Option<Output> {
    while place.done(journal) < tiles {
        if child.try_wait().expect("a status").is_some() {
            return Some(child.wait_with_output().expect("its output"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    kill_after(child, Duration::ZERO)
}
