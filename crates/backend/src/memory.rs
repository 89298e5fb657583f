//! The host's memory: how much is free, and the error of an allocation that is refused.

use std::{
    fs,
    path::{Path, PathBuf},
};

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

/// Work that was planned and does not fit.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "{what} needs {:.1} GiB of memory, {:.1} are free: {breakdown}; {remedy}",
    *needed as f64 / GIB,
    *available as f64 / GIB
)]
pub struct DoesNotFit {
    /// What was planned.
    pub what: &'static str,
    /// Planned, bytes.
    pub needed: u64,
    /// Free, bytes.
    pub available: u64,
    /// What takes how much.
    pub breakdown: String,
    /// What to change.
    pub remedy: &'static str,
}

/// Refuses `what`, before it begins, if it needs more bytes of memory than are `available`. Where the device does not say
/// what is free, nothing is refused.
///
/// # Errors
/// [`DoesNotFit`], with what takes how much, and the remedy.
pub fn check_memory(
    what: &'static str,
    needed: u64,
    available: Option<u64>,
    breakdown: String,
    remedy: &'static str,
) -> Result<(), DoesNotFit> {
    match available {
        Some(available) if available < needed => {
            Err(DoesNotFit { what, needed, available, breakdown, remedy })
        }
        _ => Ok(()),
    }
}

/// Bytes of memory that are available without swapping: what Linux says is available, what the control groups that this
/// process is in allow, and what its address space has left (`ulimit -v`). None where the system does not say.
pub fn free_host_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let machine = line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024;
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let groups = groups(&own).into_iter().filter_map(|group| group_memory(&group));
    Some(groups.chain(address_space()).fold(machine, u64::min))
}

/// The control groups with a limit on memory that a process is in, by its `/proc/self/cgroup`: each with all above it. In a
/// container the paths may be those outside of it, which are not there; the root then is the container's own.
fn groups(own: &str) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let root = match controllers {
            "" => Path::new("/sys/fs/cgroup"),
            _ if controllers.split(',').any(|name| name == "memory") => Path::new("/sys/fs/cgroup/memory"),
            _ => continue,
        };
        let path = root.join(path.trim_start_matches('/'));
        all.extend(path.ancestors().take_while(|dir| dir.starts_with(root)).map(Path::to_owned));
    }
    if all.is_empty() {
        all.push("/sys/fs/cgroup".into());
    }
    all
}

/// What a control group leaves: its limit less what is in use, page cache not counted. By the files of cgroup v2, or v1.
fn group_memory(group: &Path) -> Option<u64> {
    let read = |name: &str| fs::read_to_string(group.join(name)).ok();
    let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
    let either = |v2, v1| number(v2).or_else(|| number(v1));
    let limit = either("memory.max", "memory.limit_in_bytes")?;
    let used = either("memory.current", "memory.usage_in_bytes")?;
    let stat = read("memory.stat")?;
    let line = stat.lines().find_map(|line| line.strip_prefix("file ").or(line.strip_prefix("total_cache ")));
    let cached = line?.trim().parse::<u64>().ok()?;
    Some(limit.saturating_sub(used.saturating_sub(cached)))
}

/// What is left of a limit on this process's address space.
fn address_space() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    let limit = line.split_whitespace().next()?.parse::<u64>().ok()?;
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let used = status.lines().find_map(|line| line.strip_prefix("VmSize:"))?;
    let used = used.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024;
    Some(limit.saturating_sub(used))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_control_group_above_a_process_counts() {
        let paths = |own| -> Vec<String> { groups(own).iter().map(|p| p.display().to_string()).collect() };
        let root = "/sys/fs/cgroup";
        assert_eq!(paths("0::/\n"), [format!("{root}/")]);
        let slice = format!("{root}/user.slice");
        assert_eq!(
            paths("0::/user.slice/run.scope\n"),
            [format!("{slice}/run.scope"), slice, root.to_owned()]
        );
        let v1 = "5:cpu,cpuacct:/a\n4:memory:/docker/b\n";
        let memory = format!("{root}/memory");
        assert_eq!(paths(v1), [format!("{memory}/docker/b"), format!("{memory}/docker"), memory]);
        assert_eq!(paths(""), [root]);
    }

    #[test]
    fn a_group_leaves_its_limit_without_what_is_used_and_not_cached() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("written");
        assert_eq!(group_memory(folder.path()), None);
        write("memory.current", "700\n");
        write("memory.stat", "anon 400\nfile 300\n");
        write("memory.max", "max\n");
        assert_eq!(group_memory(folder.path()), None, "no limit");
        write("memory.max", "1000\n");
        assert_eq!(group_memory(folder.path()), Some(600));
        for name in ["memory.max", "memory.current"] {
            fs::remove_file(folder.path().join(name)).expect("there");
        }
        write("memory.limit_in_bytes", "900\n");
        write("memory.usage_in_bytes", "500\n");
        write("memory.stat", "cache 1\ntotal_cache 100\n");
        assert_eq!(group_memory(folder.path()), Some(500));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_plan() {
        let check = |available| check_memory("a step", 3 << 30, available, "weights 3.0".into(), "use less");
        assert_eq!((check(None), check(Some(3 << 30))), (Ok(()), Ok(())));
        let error = check(Some(1 << 30)).expect_err("too much").to_string();
        assert_eq!(error, "a step needs 3.0 GiB of memory, 1.0 are free: weights 3.0; use less");
    }
}
