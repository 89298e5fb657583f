//! Energy as Linux reports it: the counters of RAPL (running average power limit), which processors of Intel and AMD have.
//!
//! ```text
//! /sys/class/powercap/intel-rapl:0/{name, energy_uj, max_energy_range_uj}      a package: cores, caches, graphics
//! /sys/class/powercap/intel-rapl:0:1/…                                          a part of it, or beside it: dram
//! ```
//!
//! Packages and memory are summed. `psys`, the whole machine where it exists, holds them again and is left out, as are the
//! parts of packages. A counter starts over at its range, some minutes of work later: it is read every few seconds.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where the kernel shows them.
const ROOT: &str = "/sys/class/powercap";

/// The energy counters of this machine.
#[derive(Debug)]
pub(super) struct Rapl {
    counters: Vec<EnergyCounter>,
}

#[derive(Debug)]
struct EnergyCounter {
    path: PathBuf,
    /// Microjoules at which it starts over.
    range: u64,
    last: u64,
    /// Microjoules since it was opened.
    sum: u64,
}

impl Rapl {
    /// The counters of this machine, from now on; none where there are none, or they can't be read (they belong to root on
    /// many machines).
    pub(super) fn open() -> Option<Self> {
        Self::open_in(Path::new(ROOT))
    }

    fn open_in(root: &Path) -> Option<Self> {
        let mut counters = Vec::new();
        for entry in fs::read_dir(root).ok()? {
            let dir = entry.ok()?.path();
            let name = dir.file_name()?.to_string_lossy().into_owned();
            if !name.starts_with("intel-rapl:") {
                continue;
            }
            let zone = fs::read_to_string(dir.join("name")).unwrap_or_default();
            if zone.starts_with("package") || zone.trim() == "dram" {
                let path = dir.join("energy_uj");
                let (last, range) = (number(&path)?, number(&dir.join("max_energy_range_uj"))?);
                counters.push(EnergyCounter { path, range, last, sum: 0 });
            }
        }
        (!counters.is_empty()).then_some(Self { counters })
    }

    /// Joules since it was opened; none if a counter can't be read any more.
    pub(super) fn joules(&mut self) -> Option<f64> {
        for counter in &mut self.counters {
            let now = number(&counter.path)?;
            counter.sum += match now.checked_sub(counter.last) {
                Some(more) => more,
                // It started over.
                None => counter.range.saturating_sub(counter.last) + now,
            };
            counter.last = now;
        }
        Some(self.counters.iter().map(|counter| counter.sum).sum::<u64>() as f64 / 1e6)
    }
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(root: &Path, zone: &str, name: &str, energy: u64) {
        let dir = root.join(zone);
        fs::create_dir_all(&dir).expect("a folder");
        for (file, text) in [("name", name), ("max_energy_range_uj", "1000000000")] {
            fs::write(dir.join(file), format!("{text}\n")).expect("written");
        }
        fs::write(dir.join("energy_uj"), format!("{energy}\n")).expect("written");
    }

    #[test]
    fn packages_and_memory_are_summed_over_a_counter_that_starts_over() {
        let root = tempfile::tempdir().expect("a folder");
        let write = |package: u64, dram: u64| {
            zone(root.path(), "intel-rapl:0", "package-0", package);
            zone(root.path(), "intel-rapl:0:0", "core", package);
            zone(root.path(), "intel-rapl:0:1", "dram", dram);
            zone(root.path(), "intel-rapl:1", "psys", package * 2);
            zone(root.path(), "intel-rapl-mmio:0", "package-0", package);
        };
        write(999_000_000, 5);
        let mut rapl = Rapl::open_in(root.path()).expect("counters");
        assert_eq!(rapl.joules(), Some(0.0));
        write(999_500_000, 250_005);
        assert_eq!(rapl.joules(), Some(0.75));
        write(1_000_000, 250_005);
        assert_eq!(rapl.joules(), Some(2.25), "half a joule to its range, one beyond");
        fs::remove_file(root.path().join("intel-rapl:0/energy_uj")).expect("there");
        assert_eq!(rapl.joules(), None);
    }

    #[test]
    fn a_machine_without_counters_measures_nothing() {
        let root = tempfile::tempdir().expect("a folder");
        assert!(Rapl::open_in(root.path()).is_none());
        assert!(Rapl::open_in(&root.path().join("none")).is_none());
        zone(root.path(), "intel-rapl:0", "package-0", 1);
        fs::remove_file(root.path().join("intel-rapl:0/energy_uj")).expect("there");
        assert!(Rapl::open_in(root.path()).is_none(), "a counter that can't be read");
    }
}
