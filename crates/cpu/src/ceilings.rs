//! What this machine reaches at most, measured by loops of nothing else.

use std::{hint::black_box, time::Instant};

use koan_backend::{AlignedVec, Ceilings, OutOfMemory};

use crate::cpu::Cpu;

/// Seconds that a measurement takes, at least.
const SECONDS: f64 = 0.05;
/// Measurements, of which the best counts: what else the machine does only makes them worse.
const MEASUREMENTS: usize = 5;
/// Elements that a thread reads: 64 MB, more than caches hold.
const READ: usize = 1 << 24;

impl Cpu {
    /// Measures, for half a second, how many operations a second the multiply-adds of products come to on all threads, and how many bytes
    /// are read from memory.
    ///
    /// # Errors
    /// If there is no memory to read.
    pub fn ceilings(&self) -> Result<Ceilings, OutOfMemory> {
        let threads = self.threads.count();
        let multiply_adds = |turns: usize| {
            self.threads.run(threads, |_| {
                black_box(self.kernels.multiply_adds(turns));
            });
        };
        let mut turns = 1 << 16;
        while seconds(|| multiply_adds(turns)) < SECONDS {
            turns *= 2;
        }
        let best = best_of(|| multiply_adds(turns));
        let flops = (threads * turns * self.kernels.operations_of_turn) as f64 / best;

        let memory = AlignedVec::<f32>::zeros(threads * READ)?;
        let best = best_of(|| {
            self.threads.run(threads, |i| {
                black_box(self.kernels.read(&memory[i * READ..(i + 1) * READ]));
            });
        });
        Ok(Ceilings { flops, read_bytes_per_s: (4 * memory.len()) as f64 / best })
    }
}

fn seconds(run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_secs_f64()
}

/// The fewest seconds of some runs, after one that is not counted.
fn best_of(run: impl Fn()) -> f64 {
    run();
    (0..MEASUREMENTS).map(|_| seconds(&run)).fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use crate::{Cpu, Isa};

    #[test]
    fn every_instruction_set_has_ceilings_that_a_machine_can_have() {
        for isa in Isa::available() {
            let ceilings = Cpu::new(isa, 1).expect("available").ceilings().expect("memory");
            assert!((1e7..1e14).contains(&ceilings.flops), "{isa}: {ceilings:?}");
            assert!((1e6..1e13).contains(&ceilings.read_bytes_per_s), "{isa}: {ceilings:?}");
        }
    }
}
