//! Which examples each update has.

use koan_generate::{Stream, uniform};

/// The examples of each update, in an order of its own each epoch: a function of the seed alone.
pub(crate) struct Batches {
    examples: usize,
    seed: u64,
    batch: usize,
}

impl Batches {
    /// Of `batch` examples each, or as many as there are.
    pub(crate) fn new(examples: usize, seed: u64, batch: usize) -> Self {
        Self { examples, seed, batch: batch.min(examples) }
    }

    /// Updates that `epochs` passes over the data take. The last of an epoch takes the first examples of the next.
    pub(crate) fn in_epochs(&self, epochs: u64) -> u64 {
        (self.examples as u64 * epochs).div_ceil(self.batch as u64).max(1)
    }

    /// The examples of step `step`, from 1.
    pub(crate) fn of_step(&self, step: u64) -> Vec<usize> {
        let (n, first) = (self.examples as u64, (step - 1) * self.batch as u64);
        let mut order = (u64::MAX, Vec::new());
        (first..first + self.batch as u64)
            .map(|at| {
                let epoch = at / n;
                if order.0 != epoch {
                    let key = |&i: &usize| uniform(self.seed, Stream::TextOrder, epoch, i as u64, 0);
                    let mut all: Vec<usize> = (0..self.examples).collect();
                    all.sort_by(|a, b| key(a).total_cmp(&key(b)));
                    order = (epoch, all);
                }
                order.1[(at % n) as usize]
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_has_every_example_once_in_an_order_of_its_own() {
        let batches = Batches::new(10, 3, 4);
        assert_eq!(batches.in_epochs(2), 5);
        let drawn: Vec<usize> = (1..=5).flat_map(|step| batches.of_step(step)).collect();
        let (first, second) = drawn.split_at(10);
        let sorted = |part: &[usize]| {
            let mut part = part.to_vec();
            part.sort_unstable();
            part
        };
        assert_eq!((sorted(first), sorted(second)), ((0..10).collect(), (0..10).collect()));
        assert_ne!(first, second);
        assert_eq!(Batches::new(2, 3, 4).of_step(1).len(), 2, "no example twice in an update");
    }
}
