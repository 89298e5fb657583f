//! How sequences lie in a packed batch, and which keys each of its rows attends to.

use std::ops::Range;

/// The heads of grouped-query attention (arXiv:2305.13245): `query` heads in groups that share one of `key_value`
/// heads; a head of queries or keys has `dim` features, one of values or of attention's output `value_dim`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Number of query heads; a multiple of `key_value`.
    pub query: usize,
    /// Number of key and value heads.
    pub key_value: usize,
    /// Features of a head of queries or keys.
    pub dim: usize,
    /// Features of a head of values; latent attention has others than of keys.
    pub value_dim: usize,
}

impl Heads {
    /// Features of a row of queries.
    pub fn query_features(&self) -> usize {
        self.query * self.dim
    }

    /// Features of a row of keys.
    pub fn key_features(&self) -> usize {
        self.key_value * self.dim
    }

    /// Features of a row of attention's output.
    pub fn output_features(&self) -> usize {
        self.query * self.value_dim
    }

    /// Features of a row of values.
    pub fn value_features(&self) -> usize {
        self.key_value * self.value_dim
    }

    /// Query heads that share one key head.
    pub fn group(&self) -> usize {
        self.query / self.key_value
    }
}

/// A run of consecutive tokens of one sequence within a batch.
///
/// Batches are packed: the rows of all runs lie back to back, without padding. Keys and values lie in buffers with rows
/// of their own, which are the batch's rows in training and those of a cache when generating. The keys of a run are
/// those of `prefix` (a prompt that several sequences share, pages of a cache; none if it begins here) followed by `keys`,
/// in the order of the tokens' positions. The last `rows.len()` of `keys` belong to `rows` themselves, so that row `i` of the run attends to all of
/// `prefix` and to `keys[..keys.len() - rows.len() + i + 1]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// The run's rows in the batch.
    pub rows: Range<usize>,
    /// Key rows that come before the sequence's own, range after range.
    pub prefix: Vec<Range<usize>>,
    /// The sequence's own key rows, up to and including the run's last token.
    pub keys: Range<usize>,
}

impl Sequence {
    /// How many of the own keys the run's row `i` attends to.
    pub fn visible(&self, i: usize) -> usize {
        self.keys.len() - self.rows.len() + i + 1
    }

    /// How many keys come before the sequence's own.
    pub fn before(&self) -> usize {
        self.prefix.iter().map(Range::len).sum()
    }

    /// How many keys, shared and own, the run's last row attends to.
    pub fn context(&self) -> usize {
        self.before() + self.keys.len()
    }
}

/// Splits `sequences` into runs of neighbours that share no key rows with each other, so that the gradients of their
/// keys can be summed in parallel without a race. Relies on a prompt standing directly before the sequences that share
/// it, as every batch lays them out.
///
/// # Panics
/// If two of the returned groups touch a common key row.
pub fn sharing_groups(sequences: &[Sequence]) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    let mut owner = Vec::new(); // the key rows that the current group may share
    let mut touched: Vec<Range<usize>> = Vec::new(); // by each group, its owner's and its sequences' own
    for (i, s) in sequences.iter().enumerate() {
        match groups.last_mut() {
            Some(group) if !s.prefix.is_empty() && s.prefix == owner => group.end = i + 1,
            _ => {
                groups.push(i..i + 1);
                owner = if s.prefix.is_empty() { vec![s.keys.clone()] } else { s.prefix.clone() };
                touched.extend(owner.iter().cloned());
            }
        }
        if !s.prefix.is_empty() {
            touched.push(s.keys.clone());
        }
    }
    touched.retain(|r| !r.is_empty());
    touched.sort_by_key(|r| r.start);
    assert!(
        touched.windows(2).all(|w| w[0].end <= w[1].start),
        "sequences that share keys must stand side by side, their prompt first"
    );
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(rows: Range<usize>, prefix: Range<usize>) -> Sequence {
        let prefix = if prefix.is_empty() { vec![] } else { vec![prefix] };
        Sequence { keys: rows.clone(), rows, prefix }
    }

    #[test]
    fn a_prompt_and_its_completions_form_one_group() {
        let batch = [run(0..3, 0..0), run(3..5, 0..3), run(5..6, 0..3), run(6..9, 0..0), run(9..10, 6..9)];
        assert_eq!(sharing_groups(&batch), [0..3, 3..5]);
    }

    #[test]
    fn lone_sequences_stand_alone() {
        assert_eq!(sharing_groups(&[run(0..2, 0..0), run(2..4, 0..0)]), [0..1, 1..2]);
    }

    #[test]
    #[should_panic(expected = "side by side")]
    fn scattered_sharing_is_refused() {
        sharing_groups(&[run(0..3, 0..0), run(3..5, 0..3), run(5..6, 0..0), run(6..7, 0..3)]);
    }
}
