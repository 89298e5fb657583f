//! Packed batches: sequences back to back, a group's prompt once.

use koan_backend::Sequence;

/// Tokens of one forward pass, packed without padding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The token of each row.
    pub ids: Vec<u32>,
    /// Its position in its sequence, from 0.
    pub positions: Vec<u32>,
    /// The rows of each sequence, and the keys it attends to.
    pub sequences: Vec<Sequence>,
    /// The cache row that each row's key and value go to. Empty without a cache: then keys lie in the batch's own rows.
    pub cache_rows: Vec<u32>,
}

/// Rows whose hidden state predicts a token that is to be scored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scored {
    /// The rows of the batch.
    pub rows: Vec<u32>,
    /// The token that each of them is followed by.
    pub targets: Vec<u32>,
}

impl Batch {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Rows that [`Batch::push_group`] adds for completions of these lengths: every token of the prompt but its last
    /// once, and a row a completion token.
    pub fn group_rows(prompt: usize, completions: impl Iterator<Item = usize>) -> usize {
        prompt - 1 + completions.sum::<usize>()
    }

    /// Adds a prompt and the completions that share it, for scoring. The prompt's tokens but the last are computed once;
    /// the last is the first input of every completion, as it is when they are generated, and the row of each input
    /// predicts the completion's next token. A completion's last token is predicted, never an input.
    ///
    /// # Panics
    /// If the prompt is empty: a first token has nothing to be predicted from.
    pub fn push_group<'a>(
        &mut self,
        prompt: &[u32],
        completions: impl IntoIterator<Item = &'a [u32]>,
        scored: &mut Scored,
    ) {
        let (&last, shared) = prompt.split_last().expect("a prompt of at least one token");
        let prefix = self.push_run(shared.iter().copied(), 0, 0..0);
        for completion in completions {
            let Some((_, inputs)) = completion.split_last() else { continue };
            let inputs = std::iter::once(last).chain(inputs.iter().copied());
            let rows = self.push_run(inputs, shared.len(), prefix.clone());
            scored.rows.extend(rows.map(|row| row as u32));
            scored.targets.extend(completion);
        }
    }

    fn push_run(
        &mut self,
        ids: impl Iterator<Item = u32>,
        position: usize,
        prefix: std::ops::Range<usize>,
    ) -> std::ops::Range<usize> {
        let start = self.len();
        self.ids.extend(ids);
        let rows = start..self.len();
        self.positions.extend((position..).take(rows.len()).map(|p| p as u32));
        if !rows.is_empty() {
            let prefix = if prefix.is_empty() { vec![] } else { vec![prefix] };
            self.sequences.push(Sequence { rows: rows.clone(), prefix, keys: rows.clone() });
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_stores_its_prompt_once() {
        let (mut batch, mut scored) = (Batch::default(), Scored::default());
        batch.push_group(&[7, 8, 9], [&[1, 2, 3][..], &[4][..]], &mut scored);
        assert_eq!(batch.ids, [7, 8, 9, 1, 2, 9]);
        assert_eq!(batch.positions, [0, 1, 2, 3, 4, 2]);
        let prompt: Vec<std::ops::Range<usize>> = std::iter::once(0..2).collect();
        assert_eq!(batch.sequences[1], Sequence { rows: 2..5, prefix: prompt.clone(), keys: 2..5 });
        assert_eq!(batch.sequences[2], Sequence { rows: 5..6, prefix: prompt, keys: 5..6 });
        assert_eq!((scored.rows, scored.targets), (vec![2, 3, 4, 5], vec![1, 2, 3, 4]));
        assert_eq!(batch.ids.len(), Batch::group_rows(3, [3, 1].into_iter()));
    }

    #[test]
    fn a_prompt_of_one_token_has_no_shared_rows() {
        let (mut batch, mut scored) = (Batch::default(), Scored::default());
        batch.push_group(&[7], [&[1, 2][..]], &mut scored);
        assert_eq!(batch.sequences, [Sequence { rows: 0..2, prefix: vec![], keys: 0..2 }]);
    }
}
