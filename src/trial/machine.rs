//! What the numbers were measured on, as far as the system tells.

use serde::{Deserialize, Serialize};
use std::process::Command;

/// Processor and operating system.
///
/// ```
/// use hessblock::bench::System;
/// let system = System::here();
/// println!("{}, {} threads, {}", system.processor, system.threads, system.os);
/// assert_eq!(system.architecture, std::env::consts::ARCH);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct System {
    /// The processor's name.
    pub processor: String,
    /// Its architecture: `x86_64`, `aarch64`.
    pub architecture: String,
    /// Operating system with its version.
    pub os: String,
    /// Threads that work runs on.
    pub threads: usize,
}

impl System {
    /// This machine.
    pub fn here() -> System {
        let architecture = std::env::consts::ARCH;
        System {
            processor: processor().unwrap_or_else(|| format!("{architecture} processor")),
            architecture: architecture.into(),
            os: os().unwrap_or_else(|| std::env::consts::OS.into()),
            threads: rayon::current_num_threads(),
        }
    }
}

/// What a program of the system prints, in one line.
fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    line(text.lines().find(|line| !line.trim().is_empty())?)
}

/// A line without the spaces that vendors pad their names with; `None` for an empty one.
fn line(text: &str) -> Option<String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    (!words.is_empty()).then(|| words.join(" "))
}

/// The value of a field in a text of `name separator value` lines.
fn field(text: &str, name: &str, separator: char) -> Option<String> {
    text.lines().find_map(|at| {
        let (key, value) = at.split_once(separator)?;
        (key.trim() == name).then(|| line(value.trim().trim_matches('"')))?
    })
}

fn processor() -> Option<String> {
    if cfg!(target_os = "macos") {
        return said("/usr/sbin/sysctl", &["-n", "machdep.cpu.brand_string"]);
    }
    if cfg!(windows) {
        let key = r"HKLM\HARDWARE\DESCRIPTION\System\CentralProcessor\0";
        let output = Command::new("reg")
            .args(["query", key, "/v", "ProcessorNameString"])
            .output();
        let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
        let name = text.ok().and_then(|text| {
            let (_, name) = text.split_once("REG_SZ")?;
            line(name)
        });
        return name.or_else(|| std::env::var("PROCESSOR_IDENTIFIER").ok());
    }
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let of_board = || {
        let model = std::fs::read_to_string("/proc/device-tree/model").ok()?;
        line(model.trim_end_matches('\0'))
    };
    field(&text, "model name", ':')
        .or_else(|| field(&text, "Model", ':'))
        .or_else(of_board)
}

fn os() -> Option<String> {
    if cfg!(target_os = "macos") {
        return said("/usr/bin/sw_vers", &["-productVersion"]).map(|v| format!("macOS {v}"));
    }
    if cfg!(windows) {
        return said("cmd", &["/c", "ver"]);
    }
    let release = std::fs::read_to_string("/etc/os-release").ok()?;
    let name = field(&release, "PRETTY_NAME", '=')?;
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").ok();
    Some(match kernel.as_deref().and_then(line) {
        Some(kernel) => format!("{name}, kernel {kernel}"),
        None => name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_as_files_of_the_system_write_them() {
        let cpuinfo = "processor\t: 0\nmodel name\t: AMD EPYC  7763\n";
        assert_eq!(field(cpuinfo, "model name", ':').unwrap(), "AMD EPYC 7763");
        let release = "NAME=\"Debian\"\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n";
        assert_eq!(
            field(release, "PRETTY_NAME", '=').unwrap(),
            "Debian GNU/Linux 12"
        );
        assert_eq!(field(release, "VERSION", '='), None);
        let here = System::here();
        assert!(!here.processor.is_empty() && !here.os.is_empty() && here.threads > 0);
    }
}
