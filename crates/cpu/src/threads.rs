//! How many threads to use when nobody says.

use std::collections::BTreeSet;

/// Physical cores that this process may use, by affinity and cgroup; two threads of one core share what a kernel needs.
pub fn default_threads() -> usize {
    let allowed = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    match physical_cores() {
        Some(cores) if cores > 0 => allowed.min(cores),
        _ => allowed,
    }
}

/// Distinct sibling sets in sysfs; `None` where there is no sysfs.
fn physical_cores() -> Option<usize> {
    let mut siblings = BTreeSet::new();
    for entry in std::fs::read_dir("/sys/devices/system/cpu").ok()? {
        let path = entry.ok()?.path().join("topology/thread_siblings_list");
        if let Ok(list) = std::fs::read_to_string(path) {
            siblings.insert(list);
        }
    }
    (!siblings.is_empty()).then_some(siblings.len())
}
