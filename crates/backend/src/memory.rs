//! The host's memory: how much is free, and the error of an allocation that is refused.

use std::{fs, path::Path};

const GIB: f64 = (1u64 << 30) as f64;

/// A device refused to allocate a buffer.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error(
    "cannot allocate a buffer of {:.2} GiB{}: use a smaller model, shorter sequences or smaller batches",
    *bytes as f64 / GIB,
    free.map_or_else(String::new, |free| format!(", {:.2} GiB are free", free as f64 / GIB))
)]
pub struct OutOfMemory {
    /// Bytes that were asked for.
    pub bytes: u64,
    /// Bytes that were free, if the system says.
    pub free: Option<u64>,
}

impl OutOfMemory {
    /// The host refused `bytes`.
    pub fn of_host(bytes: usize) -> Self {
        Self { bytes: bytes as u64, free: free_host_memory() }
    }
}

/// Bytes of memory that are available without swapping: what Linux says is available, and what the control group allows.
/// None where the system does not say.
pub fn free_host_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let machine = line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024;
    Some(group_memory(Path::new("/sys/fs/cgroup")).map_or(machine, |group| group.min(machine)))
}

/// What the control group (cgroup v2) leaves: its limit less what is in use, page cache not counted.
fn group_memory(group: &Path) -> Option<u64> {
    let read = |name: &str| fs::read_to_string(group.join(name)).ok();
    let number = |text: String| text.trim().parse::<u64>().ok();
    let (limit, used) = (read("memory.max").and_then(number)?, read("memory.current").and_then(number)?);
    let stat = read("memory.stat")?;
    let cached = stat.lines().find_map(|line| line.strip_prefix("file "))?.parse::<u64>().ok()?;
    Some(limit.saturating_sub(used.saturating_sub(cached)))
}
