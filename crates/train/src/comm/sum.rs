//! Sums over ranks, as the upper levels of a binary tree of which each rank has a branch.
//!
//! ```text
//! halving:   with each partner in turn, rank XOR 1, 2, 4, …: keep one half of what is left, give the other, add what is given
//! doubling:  back the same way: give the half that is summed, take the other
//! ```
//!
//! Each element is summed in the order of the tree, whoever adds it: a + b and b + a have the same bits. And each rank sends
//! and receives hardly more than twice the elements, as little as any such sum (Rabenseifner, 2004).

use super::{CommError, Ranks};

impl Ranks {
    /// Sums `values`, of which each rank has as many, element by element, on all ranks.
    ///
    /// # Errors
    /// If a rank has ended, or the transport fails.
    pub fn sum(&self, values: &mut [f32]) -> Result<(), CommError> {
        let (mut left, mut halves) = (0..values.len(), Vec::new());
        for peer in self.peers() {
            let middle = left.start.midpoint(left.end);
            let (lower, upper) = (left.start..middle, middle..left.end);
            let (own, given) = if self.rank() < peer { (lower, upper) } else { (upper, lower) };
            let theirs = self.exchange(peer, &values[given.clone()], own.len())?;
            values[own.clone()].iter_mut().zip(theirs).for_each(|(sum, x)| *sum += x);
            halves.push((peer, own.clone(), given));
            left = own;
        }
        for (peer, own, given) in halves.into_iter().rev() {
            let summed = self.exchange(peer, &values[own], given.len())?;
            values[given].copy_from_slice(&summed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comm::threads;

    /// Of sizes at which the order of a sum shows.
    fn value(rank: usize, i: usize) -> f32 {
        (1.0 + i as f32).powi(rank as i32 * 3 - 8) / 3.0
    }

    fn tree(from: usize, n: usize, i: usize) -> f32 {
        if n == 1 { value(from, i) } else { tree(from, n / 2, i) + tree(from + n / 2, n / 2, i) }
    }

    #[test]
    fn elements_are_summed_as_a_tree_on_every_rank() {
        for (ranks, n) in [(1, 5), (2, 0), (2, 1), (4, 3), (4, 1000), (8, 77)] {
            let sums: Vec<Vec<f32>> = std::thread::scope(|scope| {
                let run = |ranks: Ranks| {
                    scope.spawn(move || {
                        let mut values: Vec<f32> = (0..n).map(|i| value(ranks.rank(), i)).collect();
                        ranks.sum(&mut values).map(|()| values)
                    })
                };
                let all: Vec<_> = threads(ranks).into_iter().map(run).collect();
                all.into_iter().map(|thread| thread.join().expect("no panic").expect("sums")).collect()
            });
            let expected: Vec<f32> = (0..n).map(|i| tree(0, ranks, i)).collect();
            assert!(sums.iter().all(|sum| *sum == expected), "{ranks} ranks, {n} elements");
        }
    }
}
