//! The sum of an update's gradient over shards: its order depends on their number alone, not on which rank computes which.
//!
//! ```text
//! g₀   g₁   g₂   g₃    each from zero, over the completions that are dealt to the shard
//! └─┬──┘    └─┬──┘
//!   └────┬────┘        added two by two: a binary tree over their numbers; each rank has a branch
//! ```

use koan_backend::{Backend, Columns, OutOfMemory, Store};
use koan_model::{Config, TensorInfo, Transformer};

use super::{Group, PassError};
use crate::comm::{Parts, Shards};

/// Elements that are summed over ranks at once, at least: what is larger is a tensor by itself.
const AT_ONCE: usize = 1 << 23;

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
    shards: Shards,
}

impl<B: Backend> Tree<B> {
    /// Of these shards.
    ///
    /// # Errors
    /// If the device refuses the memory.
    pub(crate) fn new(b: &B, config: &Config, shards: Shards) -> Result<Self, OutOfMemory> {
        let zeros = |info: TensorInfo| b.zeros(info.gradient_len());
        let waiting = (0..levels(shards.parts())).map(|_| Transformer::try_build(config, zeros));
        let widths = config.tensors().iter().map(|info| info.matrix()[1]).collect();
        Ok(Self { widths, waiting: waiting.collect::<Result<_, _>>()?, shards })
    }

    /// Bytes of it, and of what is sent to other ranks at once.
    pub(crate) fn bytes(b: &B, config: &Config, parts: Parts) -> usize {
        let largest = config.tensors().iter().map(TensorInfo::gradient_len).max().unwrap_or(0);
        // What is summed, a half that is given, and a half that comes, each of these two as bytes and as elements.
        let sent = if parts.ranks > 1 { 12 * largest.max(2 * AT_ONCE) } else { 0 };
        levels(parts) * config.gradient_bytes(b) + sent
    }

    /// The shards that it adds.
    pub(crate) fn shards(&self) -> &Shards {
        &self.shards
    }

    /// Takes the gradient of shard `shard`, after this rank's before it, and leaves `gradient` zero for the next one; after the
    /// last it holds the sum of this rank's.
    pub(crate) fn add(&mut self, b: &B, shard: usize, gradient: &mut Transformer<B::Buf>) {
        // As a one is added to a binary number: the branches that end with this shard.
        let ends = (shard - self.shards.own().start).trailing_ones() as usize;
        for branch in &self.waiting[..ends] {
            add(b, &self.widths, gradient, branch);
        }
        if let Some(place) = self.waiting.get_mut(ends) {
            std::mem::swap(place, gradient);
            gradient.tensors_mut().for_each(|g| b.clear(g));
        }
    }

    /// After all shards of this rank: the sum of those of all ranks.
    ///
    /// # Errors
    /// If the device refuses memory, or a rank has ended.
    pub(crate) fn add_ranks(&self, b: &B, gradient: &mut Transformer<B::Buf>) -> Result<(), PassError> {
        let ranks = self.shards.ranks();
        if !ranks.are_several() {
            return Ok(());
        }
        ranks.meet()?;
        let (mut tensors, mut values) = (Vec::new(), Vec::new());
        let mut all = gradient.tensors_mut().peekable();
        while let Some(tensor) = all.next() {
            let [own] = b.read([(&*tensor, b.len(tensor))]);
            values.extend(own);
            tensors.push(tensor);
            if values.len() >= AT_ONCE || all.peek().is_none() {
                ranks.sum(&mut values)?;
                let mut rest = &values[..];
                for tensor in tensors.drain(..) {
                    let (own, after) = rest.split_at(b.len(tensor));
                    (*tensor, rest) = (b.upload(own)?, after);
                }
                values.clear();
            }
        }
        Ok(())
    }
}

/// `y += x`, tensors of rows of these `widths`.
fn add<B: Backend>(b: &B, widths: &[usize], y: &mut Transformer<B::Buf>, x: &Transformer<B::Buf>) {
    for ((y, x), &width) in y.tensors_mut().zip(x.tensors()).zip(widths) {
        let rows = b.len(x) / width.max(1);
        b.columns(y, x, [Columns::from(0, width); 2], [1, width], rows, Store::Add);
    }
}

/// Levels of the branch of each rank.
fn levels(parts: Parts) -> usize {
    parts.of_each_rank().ilog2() as usize
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
            let mut tree = Tree::new(&cpu, &config, Shards::of_one_rank(shards)).expect("memory");
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
        let bytes = |shards| Tree::bytes(&Reference, &config, Parts { shards, ranks: 1 });
        assert_eq!([1, 2, 8].map(bytes), [0, 1, 3].map(|n| n * config.gradient_bytes(&Reference)));
    }
}
