//! What a shell and a reader of help see of the command line.

use crate::workplace::{Workplace, errors, on_digits};

const COMMANDS: [&str; 17] = [
    "inspect",
    "blocks",
    "merge",
    "plan",
    "info",
    "gradient",
    "product",
    "trace",
    "form",
    "error",
    "verify",
    "bench",
    "selftest",
    "show",
    "export-script",
    "completions",
    "man",
];

#[test]
fn every_command_has_an_example_that_it_takes() {
    let place = Workplace::new();
    let all = place.done(&["--help"]);
    assert!(
        all.contains("Example") && all.contains("Exit codes"),
        "{all}"
    );
    for command in COMMANDS {
        assert!(
            all.contains(&format!("\n  {command}")),
            "{command} is not in {all}"
        );
        let help = place.done(&[command, "--help"]);
        let example = help
            .find("Example")
            .unwrap_or_else(|| panic!("{command} has no example"));
        assert!(
            help[example..].contains(&format!("hessblock {command}")),
            "{command}: {help}"
        );
    }
    // None that is not listed here.
    let listed = all
        .split("Commands:")
        .nth(1)
        .and_then(|t| t.split("Options:").next())
        .expect("a list");
    let names = listed
        .lines()
        .filter(|l| l.starts_with("  ") && !l.starts_with("   "));
    assert_eq!(names.count(), COMMANDS.len() + 1, "{listed}");
}

#[test]
fn the_version_says_what_this_build_can_do() {
    let place = Workplace::new();
    let long = place.done(&["--version"]);
    for word in ["hessblock ", "features  ", "cli", "plot", "backends  CPU ("] {
        assert!(long.contains(word), "no {word:?} in {long}");
    }
    assert_eq!(long.contains("gpu"), cfg!(feature = "gpu"), "{long}");
    let short = place.done(&["-V"]);
    assert_eq!(
        short.trim(),
        format!("hessblock {}", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    let place = Workplace::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let text = place.done(&["completions", shell]);
        for word in COMMANDS.iter().chain(&["shard", "curvature"]) {
            assert!(text.contains(word), "{shell}: no {word}");
        }
    }
    assert!(
        place
            .refused(2, &["completions", "tcsh"], &["tcsh"])
            .contains("bash")
    );
    let page = place.done(&["man"]);
    assert!(
        page.contains(".TH hessblock 1") && page.contains("Exit codes"),
        "{page}"
    );
    place.done(&["man", "--out", "pages"]);
    for command in COMMANDS {
        let page = std::fs::read_to_string(place.path(&format!("pages/hessblock-{command}.1")));
        assert!(page.expect("a page").contains("Example"), "{command}");
    }
    std::fs::write(place.path("file"), "").expect("written");
    place.refused(1, &["man", "--out", "file/pages"], &["file/pages"]);
}

#[test]
fn rust_log_says_what_happens_and_no_color_says_it_plainly() {
    let place = Workplace::new();
    let command = on_digits("blocks", &["--part", "layer=head", "--out", "h.npy"]);
    let run = |log: Option<&str>| {
        let mut command = place.command(&command);
        command.args(["--force"]).env("NO_COLOR", "1");
        if let Some(log) = log {
            command.env("RUST_LOG", log);
        }
        let output = command.output().expect("the binary starts");
        assert!(output.status.success(), "{}", errors(&output));
        errors(&output)
    };
    let quiet = run(None);
    assert!(
        !quiet.contains("planned") && !quiet.contains("tile written"),
        "{quiet}"
    );
    let told = run(Some("hessblock=debug"));
    for word in ["opened", "planned", "tile written", "result begun"] {
        assert!(told.contains(word), "no {word:?} in {told}");
    }
    assert!(!told.contains('\u{1b}'), "{told:?}");
    // A filter that nobody understands is no reason to do nothing.
    run(Some("hessblock=loud,,=="));
}

/// As behind `2>&1 | head -1`: standard error is a pipe whose reader is gone.
#[test]
fn nobody_needs_to_read_standard_error() {
    let place = Workplace::new();
    let code = |arguments: &[&str]| {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = place.command(arguments);
        let ended = command.env("RUST_LOG", "trace").stderr(writer).status();
        ended.expect("the binary starts").code()
    };
    let blocks = on_digits("blocks", &["--part", "layer=head", "--out", "out"]);
    assert_eq!(code(&["show", "nowhere"]), Some(1));
    assert_eq!(code(&["show", "nowhere", "--size", "5"]), Some(2));
    // The second run has a note, that the result is there already.
    assert_eq!((code(&blocks), code(&blocks)), (Some(0), Some(0)));
}
