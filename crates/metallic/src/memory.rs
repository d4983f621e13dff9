//! How much memory this process may use.

/// Bytes available without swapping, by the system's and the cgroup's count; `None` where neither is known.
pub(crate) fn available_bytes() -> Option<u64> {
    match (system_available(), cgroup_available()) {
        (Some(system), Some(group)) => Some(system.min(group)),
        (known, None) | (None, known) => known,
    }
}

/// `MemAvailable` of /proc/meminfo.
fn system_available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// What is left below the limit of the process's cgroup (version 2).
fn cgroup_available() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let folder = std::path::Path::new("/sys/fs/cgroup").join(path.trim_start_matches('/'));
    let number = |name: &str| std::fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
    Some(number("memory.max")?.saturating_sub(number("memory.current")?))
}
