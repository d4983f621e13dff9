//! How much memory this process may use and has used, and how fast it reads.

use crate::Error;

/// Far larger than the caches of today's processors.
const READ_BYTES_MAX: u64 = 1 << 30;

/// The rate in 10⁹ bytes a second at which `threads` threads together read memory: what bounds decoding on a CPU.
///
/// Takes 1 GiB for the time of the measurement, or a quarter of what is available where that is less.
pub fn measure_read_gb_s(threads: usize) -> Result<f64, Error> {
    let bytes = available_bytes().map_or(READ_BYTES_MAX, |available| READ_BYTES_MAX.min(available / 4));
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    Ok(cpu::measure_read_gb_s(threads, bytes).map_err(session::SessionError::from)?)
}

/// The most memory that this process has ever held at once, in bytes; `None` where the system does not say.
pub fn peak_resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    kib(text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?)
}

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
    kib(line)
}

/// A figure such as ` 1234 kB`, in bytes.
fn kib(text: &str) -> Option<u64> {
    text.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// What is left below the limit of the process's cgroup (version 2).
fn cgroup_available() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let folder = std::path::Path::new("/sys/fs/cgroup").join(path.trim_start_matches('/'));
    let number = |name: &str| std::fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
    Some(number("memory.max")?.saturating_sub(number("memory.current")?))
}
