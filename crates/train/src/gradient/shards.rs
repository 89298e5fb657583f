//! The sum of an update's gradient over shards: its order depends on their number alone, not on who computes which.
//!
//! ```text
//! g₀   g₁   g₂   g₃    each from zero, over the completions that are dealt to the shard
//! └─┬──┘    └─┬──┘
//!   └────┬────┘        added two by two: a binary tree over their numbers
//! ```

use koan_backend::{Backend, Columns, OutOfMemory, Store};
use koan_model::{Config, TensorInfo, Transformer};

use super::Group;

/// Deals groups to shards, the longest first, each to the shard that has the fewest rows.
pub fn deal(groups: &mut [Group], shards: usize) {
    let rows = |group: &Group| {
        group.scored.rows(group.prompt.len(), group.completions.iter().map(|(_, tokens)| tokens.len()))
    };
    let mut longest_first: Vec<&mut Group> = groups.iter_mut().collect();
    longest_first.sort_by_key(|group| std::cmp::Reverse(rows(group)));
    let mut dealt = vec![0; shards];
    for group in longest_first {
        let fewest = (0..shards).min_by_key(|&shard| dealt[shard]).unwrap_or(0);
        dealt[fewest] += rows(group);
        group.shard = fewest;
    }
}

/// What adds the gradients of shards: sums of whole branches of the tree that wait for their neighbours, one a level.
pub(crate) struct Tree<B: Backend> {
    /// Features of a row of each tensor.
    widths: Vec<usize>,
    waiting: Vec<Transformer<B::Buf>>,
}

impl<B: Backend> Tree<B> {
    /// Of `shards`, a power of two.
    ///
    /// # Errors
    /// If the device refuses the memory.
    pub(crate) fn new(b: &B, config: &Config, shards: usize) -> Result<Self, OutOfMemory> {
        let zeros = |info: TensorInfo| b.zeros(info.gradient_len());
        let waiting = (0..levels(shards)).map(|_| Transformer::try_build(config, zeros));
        let widths = config.tensors().iter().map(|info| info.matrix()[1]).collect();
        Ok(Self { widths, waiting: waiting.collect::<Result<_, _>>()? })
    }

    /// Bytes of it.
    pub(crate) fn bytes(b: &B, config: &Config, shards: usize) -> usize {
        levels(shards) * config.gradient_bytes(b)
    }

    /// Shards that it adds.
    pub(crate) fn shards(&self) -> usize {
        1 << self.waiting.len()
    }

    /// Takes the gradient of shard `shard`, after those before it, and leaves `gradient` zero for the next one; after the last
    /// it holds the sum of all.
    pub(crate) fn add(&mut self, b: &B, shard: usize, gradient: &mut Transformer<B::Buf>) {
        // As a one is added to a binary number: the branches that end with this shard.
        let ends = shard.trailing_ones() as usize;
        for branch in &self.waiting[..ends] {
            add(b, &self.widths, gradient, branch);
        }
        if let Some(place) = self.waiting.get_mut(ends) {
            std::mem::swap(place, gradient);
            gradient.tensors_mut().for_each(|g| b.clear(g));
        }
    }
}

/// `y += x`, tensors of rows of these `widths`.
fn add<B: Backend>(b: &B, widths: &[usize], y: &mut Transformer<B::Buf>, x: &Transformer<B::Buf>) {
    for ((y, x), &width) in y.tensors_mut().zip(x.tensors()).zip(widths) {
        let rows = b.len(x) / width.max(1);
        b.columns(y, x, [Columns::from(0, width); 2], [1, width], rows, Store::Add);
    }
}

/// Levels of a binary tree with so many leaves.
fn levels(shards: usize) -> usize {
    shards.ilog2() as usize
}

#[cfg(test)]
mod tests {
    use koan_backend::{Reference, Scored};
    use koan_cpu::Cpu;
    use koan_model::testkit;

    use super::*;

    #[test]
    fn the_longest_go_first_to_the_shard_that_has_least() {
        let tokens = [0; 9];
        let lengths = [3, 9, 4, 4, 2];
        let group = |&n: &usize| Group {
            prompt: &tokens[..1],
            scored: Scored::Completions,
            shard: 7,
            completions: vec![(0, &tokens[..n])],
        };
        let mut groups: Vec<Group> = lengths.iter().map(group).collect();
        deal(&mut groups, 2);
        // 9 to 0; 4 and 4 to 1; 3 to 1 would be 11, and 0 has 9 against 8: 3 to 1, 2 to 0.
        assert_eq!(groups.iter().map(|g| g.shard).collect::<Vec<_>>(), [1, 0, 1, 1, 0]);
        deal(&mut groups, 1);
        assert!(groups.iter().all(|g| g.shard == 0));
    }

    /// Of the numbers from number `from` on, `n` of them.
    fn sum(of: &dyn Fn(usize) -> f32, from: usize, n: usize) -> f32 {
        if n == 1 { of(from) } else { sum(of, from, n / 2) + sum(of, from + n / 2, n / 2) }
    }

    #[test]
    fn shards_are_added_as_a_binary_tree() {
        let cpu = Cpu::best(Some(2)).expect("a processor");
        let config = testkit::config(11, true);
        // Of sizes at which the order of a sum shows.
        let value = |shard: usize, i: usize| (1.0 + i as f32).powi(shard as i32 * 3 - 8) / 3.0;
        for shards in [1, 2, 8] {
            let mut tree = Tree::new(&cpu, &config, shards).expect("memory");
            assert_eq!(tree.shards(), shards);
            let zeros = |info: TensorInfo| cpu.zeros(info.gradient_len());
            let mut gradient = Transformer::try_build(&config, zeros).expect("memory");
            for shard in 0..shards {
                for tensor in gradient.tensors_mut() {
                    let n = cpu.len(tensor);
                    assert!(cpu.read([(tensor, n)])[0].iter().all(|&x| x == 0.0), "each starts from zero");
                    let values: Vec<f64> = (0..n).map(|i| f64::from(value(shard, i))).collect();
                    cpu.write(tensor, &values);
                }
                tree.add(&cpu, shard, &mut gradient);
            }
            let mut differ = 0;
            for tensor in gradient.tensors() {
                for (i, x) in cpu.read([(tensor, cpu.len(tensor))])[0].iter().enumerate() {
                    let of = |shard| value(shard, i);
                    assert_eq!(*x, sum(&of, 0, shards), "element {i} of {shards} shards");
                    differ += usize::from(*x != (0..shards).map(of).sum::<f32>());
                }
            }
            assert!(differ > 0 || shards < 8, "another order would have other bits");
        }
        let one = Tree::<Reference>::bytes(&Reference, &config, 2);
        assert_eq!(Tree::<Reference>::bytes(&Reference, &config, 8), 3 * one);
        assert_eq!(
            (one, Tree::<Reference>::bytes(&Reference, &config, 1)),
            (config.gradient_bytes(&Reference), 0)
        );
    }
}
