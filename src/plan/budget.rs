//! What the system says of memory.

/// Anonymous resident memory of this process now, where the system tells (Linux).
///
/// Pages of mapped files and of the page cache do not count (DESIGN §4).
pub fn anonymous_resident() -> Option<u64> {
    proc_field("/proc/self/status", "RssAnon:")
}

/// Memory that this process could still get, where the system tells (Linux): what the machine has free, and no more than the
/// limit on its address space leaves (`ulimit -v`) beside what its threads are yet to take.
pub fn available_memory() -> Option<u64> {
    let free = proc_field("/proc/meminfo", "MemAvailable:");
    let left = address_space().map(|limit| {
        let taken = proc_field("/proc/self/status", "VmSize:").unwrap_or(0);
        limit
            .saturating_sub(taken)
            .saturating_sub(space_of(rayon::current_num_threads()))
    });
    match (free, left) {
        (Some(free), Some(left)) => Some(free.min(left)),
        (free, left) => free.or(left),
    }
}

/// Memory that threads and the allocator take beyond what is counted: stacks, packed operands, and sizes rounded up. Measured.
pub const ALLOWANCE: u64 = 4 << 20;

/// The limit on this process's address space (`ulimit -v`), where there is one.
pub fn address_space() -> Option<u64> {
    #[cfg(unix)]
    return rustix::process::getrlimit(rustix::process::Resource::As).current;
    #[cfg(not(unix))]
    None
}

/// Address space that so many threads take while they work, beside the one that shares out the work: each has a stack, and
/// 64 MiB in which the matrix product packs its operands (little of it is ever touched).
pub fn space_of(threads: usize) -> u64 {
    const PACKED: u64 = 64 << 20;
    const STACK: u64 = 4 << 20;
    (threads as u64 + 1) * (PACKED + STACK)
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
