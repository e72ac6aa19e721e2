//! What the system says of memory.

/// Anonymous resident memory of this process now, where the system tells (Linux).
///
/// Pages of mapped files and of the page cache do not count (DESIGN §4).
pub fn anonymous_resident() -> Option<u64> {
    proc_field("/proc/self/status", "RssAnon:")
}

/// Memory that this machine could still give, where the system tells (Linux).
pub fn available_memory() -> Option<u64> {
    proc_field("/proc/meminfo", "MemAvailable:")
}

fn proc_field(file: &str, field: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()
        .map(|kib| kib * 1024)
}
