//! The speed of this machine, on work of fixed sizes: what `koan bench` prints.

mod generate;
mod product;
mod rl;
mod train;

pub use generate::{GenerateShape, generate};
pub use product::{Product, ProductSeconds, products};
pub use rl::{RlShape, StepSeconds, rl};
pub use train::{TrainShape, train};

/// The most memory that this process has held, bytes; `None` where the system does not tell.
pub fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// The middle value, or the mean of the two middle ones; NaN of none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match (values.len() / 2, values.len() % 2) {
        (0, 0) => f64::NAN,
        (middle, 1) => values[middle],
        (middle, _) => f64::midpoint(values[middle - 1], values[middle]),
    }
}
