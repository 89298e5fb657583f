//! What the rows of a pass are: made from a batch on the host, and put on the device once, before the pass.

use std::ops::Range;

use crate::{Draw, Sequence};

/// The rows of a pass. Operations read it from the device ([`Backend::upload_layout`](crate::Backend::upload_layout)); none
/// takes a slice of the host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layout {
    /// The token of each row.
    pub ids: Vec<u32>,
    /// Its position in its sequence, from 0.
    pub positions: Vec<u32>,
    /// The rows of each sequence, and the keys it attends to.
    pub sequences: Vec<Sequence>,
    /// The row of [`Keys`](crate::Backend::Keys) that each row's key and value go to, each another one. Empty without a
    /// cache: row `i` of the pass then goes to row `i`.
    pub cache_rows: Vec<u32>,
    /// The rows whose hidden states a head reads, each another one.
    pub head_rows: Vec<u32>,
    /// The token whose probability is asked for at each head row; empty where none is.
    pub targets: Vec<u32>,
    /// How a token is sampled at each head row; empty where none is.
    pub draws: Vec<Draw>,
}

/// What of a prompt and its completions a head reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scored {
    /// What predicts each token of the completions.
    #[default]
    Completions,
    /// What predicts each token of the prompt after its first too; these come ahead of the completions'.
    PromptsToo,
    /// The last token of each completion, which then is an input as all others are: a row more per completion. There are no
    /// targets.
    Ends,
}

impl Scored {
    /// Rows that [`Layout::push_group_as`] adds for completions of these lengths.
    pub fn rows(self, prompt: usize, completions: impl Iterator<Item = usize>) -> usize {
        Layout::group_rows(prompt, completions.map(|n| n + usize::from(self == Self::Ends)))
    }
}

impl Layout {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Rows that [`push_group`](Self::push_group) adds for completions of these lengths: every token of the prompt except its
    /// last once, and a row for each completion token.
    pub fn group_rows(prompt: usize, completions: impl Iterator<Item = usize>) -> usize {
        prompt - 1 + completions.sum::<usize>()
    }

    /// Adds a prompt and the completions that share it, whose tokens become the targets. The prompt's tokens except the last
    /// are computed once; the last is the first input of every completion, as it is when they are sampled, and the row of each
    /// input predicts the completion's next token. A completion's last token is predicted, never an input.
    ///
    /// # Panics
    /// If the prompt is empty: a first token has nothing to be predicted from.
    pub fn push_group<'a>(&mut self, prompt: &[u32], completions: impl IntoIterator<Item = &'a [u32]>) {
        self.push_group_as(Scored::Completions, prompt, completions);
    }

    /// As [`push_group`](Self::push_group), for a head that reads what `scored` says.
    ///
    /// # Panics
    /// If the prompt is empty.
    pub fn push_group_as<'a>(
        &mut self,
        scored: Scored,
        prompt: &[u32],
        completions: impl IntoIterator<Item = &'a [u32]>,
    ) {
        let (&last, shared) = prompt.split_last().expect("a prompt of at least one token");
        let prefix = self.push_run(shared.iter().copied(), 0, 0..0);
        if scored == Scored::PromptsToo {
            self.head_rows.extend(prefix.clone().map(|row| row as u32));
            self.targets.extend(&prompt[1..]);
        }
        for completion in completions {
            let inputs = match (scored, completion.split_last()) {
                (Scored::Ends, _) => completion,
                (_, Some((_, inputs))) => inputs,
                (_, None) => continue,
            };
            let inputs = std::iter::once(last).chain(inputs.iter().copied());
            let rows = self.push_run(inputs, shared.len(), prefix.clone());
            if scored == Scored::Ends {
                self.head_rows.push(rows.end as u32 - 1);
            } else {
                self.head_rows.extend(rows.map(|row| row as u32));
                self.targets.extend(completion);
            }
        }
    }

    /// The pass of a module that predicts `k` tokens further ahead: the token of each row is the one `k` after it, a head reads the
    /// rows `k` before those that it reads of this pass, and asks for the same targets there. Where a sequence has no such
    /// token, its row keeps its own; nothing is predicted there, and no row before sees it.
    ///
    /// # Panics
    /// If several completions share a prompt: its last tokens would be followed by several.
    #[must_use]
    pub fn ahead(&self, k: usize) -> Self {
        let mut target_of = vec![None; self.len()];
        for (&row, &target) in self.head_rows.iter().zip(&self.targets) {
            target_of[row as usize] = Some(target);
        }
        let (mut ids, mut head) = (self.ids.clone(), Vec::new());
        for rows in self.texts() {
            let last = rows.last().and_then(|&row| target_of[row]);
            let tokens: Vec<u32> = rows.iter().map(|&row| self.ids[row]).chain(last).collect();
            for (i, &row) in rows.iter().enumerate() {
                if let Some(&token) = tokens.get(i + k) {
                    ids[row] = token;
                }
                if let Some(target) = rows.get(i + k).and_then(|&row| target_of[row]) {
                    head.push((row as u32, target));
                }
            }
        }
        let (head_rows, targets) = head.into_iter().unzip();
        Self { ids, head_rows, targets, ..self.clone() }
    }

    /// The rows of each text: of a prompt, if it stands apart, and of its completion.
    fn texts(&self) -> Vec<Vec<usize>> {
        let mut texts: Vec<Vec<usize>> = Vec::new();
        for sequence in &self.sequences {
            match &sequence.prefix[..] {
                [] => texts.push(sequence.rows.clone().collect()),
                [prompt] => {
                    let text = texts.last_mut().filter(|text| text.iter().copied().eq(prompt.clone()));
                    text.expect("a prompt, then its only completion").extend(sequence.rows.clone());
                }
                _ => panic!("a prompt that lies in pages"),
            }
        }
        texts
    }

    fn push_run(
        &mut self,
        ids: impl Iterator<Item = u32>,
        position: usize,
        prefix: Range<usize>,
    ) -> Range<usize> {
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

    /// Asserts what operations rely on. Backends call it as they upload a layout.
    ///
    /// # Panics
    /// If the parts are of different lengths, a sequence or a head names a row that the pass does not have, two sequences
    /// have a common row, or a sequence has fewer keys than rows.
    pub fn check(&self) {
        let n = self.len();
        assert!(self.positions.is_empty() || self.positions.len() == n, "a position for each row");
        assert!(self.cache_rows.is_empty() || self.cache_rows.len() == n, "a cache row for each row");
        assert!(self.head_rows.iter().all(|&row| (row as usize) < n), "a head row beyond the pass");
        for (what, len) in [("target", self.targets.len()), ("draw", self.draws.len())] {
            assert!(len == 0 || len == self.head_rows.len(), "a {what} for each head row");
        }
        assert!(self.sequences.iter().all(|s| s.rows.end <= n), "a sequence beyond the pass");
        let own = |s: &Sequence| s.rows.len() <= s.keys.len();
        assert!(self.sequences.iter().all(own), "a sequence with fewer keys than rows");
        let apart = |a: &Sequence, b: &Sequence| a.rows.end <= b.rows.start || b.rows.end <= a.rows.start;
        let ascend = self.sequences.windows(2).all(|s| s[0].rows.end <= s[1].rows.start);
        let disjoint = |(i, s)| self.sequences[..i].iter().all(|other| apart(s, other));
        assert!(ascend || self.sequences.iter().enumerate().all(disjoint), "sequences with common rows");
    }

    /// Pairs of a row and a key that it attends to: what attention computes.
    pub fn pairs(&self) -> usize {
        let of = |s: &Sequence| {
            let n = s.rows.len();
            n * (s.context() - n) + n * (n + 1) / 2
        };
        self.sequences.iter().map(of).sum()
    }

    /// The rows of the cache, or of the pass itself, up to the last that a sequence attends to.
    pub fn key_rows(&self) -> usize {
        let end = |s: &Sequence| s.prefix.iter().chain([&s.keys]).map(|r| r.end).max().unwrap_or(0);
        self.sequences.iter().map(end).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_stores_its_prompt_once() {
        let mut layout = Layout::default();
        layout.push_group(&[7, 8, 9], [&[1, 2, 3][..], &[4][..]]);
        assert_eq!(layout.ids, [7, 8, 9, 1, 2, 9]);
        assert_eq!(layout.positions, [0, 1, 2, 3, 4, 2]);
        let prompt: Vec<Range<usize>> = std::iter::once(0..2).collect();
        assert_eq!(layout.sequences[1], Sequence { rows: 2..5, prefix: prompt.clone(), keys: 2..5 });
        assert_eq!(layout.sequences[2], Sequence { rows: 5..6, prefix: prompt, keys: 5..6 });
        assert_eq!((&layout.head_rows[..], &layout.targets[..]), (&[2, 3, 4, 5][..], &[1, 2, 3, 4][..]));
        assert_eq!(layout.len(), Layout::group_rows(3, [3, 1].into_iter()));
        assert_eq!(layout.pairs(), (1 + 2) + (3 + 4 + 5) + 3);
        layout.check();
    }

    #[test]
    fn a_scored_prompt_is_predicted_from_its_own_rows() {
        let mut layout = Layout::default();
        layout.push_group_as(Scored::PromptsToo, &[7, 8, 9], [&[1, 2][..]]);
        assert_eq!((&layout.head_rows[..], &layout.targets[..]), (&[0, 1, 2, 3][..], &[8, 9, 1, 2][..]));
        layout.check();
    }

    #[test]
    fn the_last_token_of_a_completion_is_read_where_its_end_is_scored() {
        let mut layout = Layout::default();
        layout.push_group_as(Scored::Ends, &[7, 8, 9], [&[1, 2][..], &[]]);
        assert_eq!(layout.ids, [7, 8, 9, 1, 2, 9]);
        assert_eq!((&layout.head_rows[..], layout.targets.len()), (&[4, 5][..], 0));
        assert_eq!(layout.len(), Scored::Ends.rows(3, [2, 0].into_iter()));
        layout.check();
    }

    #[test]
    fn a_prompt_of_one_token_has_no_shared_rows() {
        let mut layout = Layout::default();
        layout.push_group(&[7], [&[1, 2][..]]);
        assert_eq!(layout.sequences, [Sequence { rows: 0..2, prefix: vec![], keys: 0..2 }]);
    }

    #[test]
    #[should_panic(expected = "sequences with common rows")]
    fn sequences_with_common_rows_are_refused() {
        let run = |rows: Range<usize>| Sequence { keys: rows.clone(), rows, prefix: vec![] };
        Layout { ids: vec![0; 4], sequences: vec![run(0..3), run(2..4)], ..Layout::default() }.check();
    }

    #[test]
    fn the_tokens_ahead_of_each_row_are_those_of_its_text() {
        let mut layout = Layout::default();
        layout.push_group(&[1, 2, 3], [&[4, 5, 6][..]]); // rows 1 2 | 3 4 5, which predict 4 5 6
        layout.push_group(&[7], [&[8, 9][..]]); // rows 7 8, which predict 8 9
        let ahead = layout.ahead(1);
        assert_eq!(ahead.ids, [2, 3, 4, 5, 6, 8, 9]);
        assert_eq!((&ahead.head_rows[..], &ahead.targets[..]), (&[1, 2, 3, 5][..], &[4, 5, 6, 9][..]));
        let ahead = layout.ahead(2);
        assert_eq!(ahead.ids, [3, 4, 5, 6, 5, 9, 8]);
        assert_eq!((&ahead.head_rows[..], &ahead.targets[..]), (&[0, 1, 2][..], &[4, 5, 6][..]));
        assert_eq!(ahead.sequences, layout.sequences);
        assert!(layout.ahead(9).head_rows.is_empty());
    }

    #[test]
    #[should_panic(expected = "a target for each head row")]
    fn a_missing_target_is_refused() {
        Layout { ids: vec![0; 4], head_rows: vec![1, 2], targets: vec![0], ..Layout::default() }.check();
    }
}
