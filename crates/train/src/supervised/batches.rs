//! Which texts each update has, and how many: a function of the settings and the step alone, so that nothing of it is saved.

use koan_generate::{Stream, uniform};
use serde::{Deserialize, Serialize};

use super::{next_token::Text, pieces::Piece};
use crate::config::{ConfigError, check};

/// `batch_growth`: updates that grow at the beginning of a run, as DeepSeek-V3's from 3,072 to 15,360 sequences
/// (arXiv:2412.19437).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchGrowth {
    /// The first update's share of `batch_tokens`.
    pub from: f64,
    /// The share of the run's steps after which an update has all of them; until then it grows by the same number of tokens
    /// each step.
    pub until: f64,
}

impl BatchGrowth {
    pub(super) fn check(self) -> Result<(), ConfigError> {
        let from = self.from > 0.0 && self.from <= 1.0;
        check(from, "batch_growth.from", &self.from, "above 0 and at most 1: a share of batch_tokens")?;
        let until = (0.0..=1.0).contains(&self.until);
        check(until, "batch_growth.until", &self.until, "0 to 1: a share of the steps")
    }

    /// The mean update's share of `batch_tokens`.
    pub(super) fn mean(self) -> f64 {
        1.0 - 0.5 * self.until * (1.0 - self.from)
    }

    /// The share of the steps in which a run reads this share of its tokens.
    pub(super) fn steps_of(self, tokens: f64) -> f64 {
        let (from, until, read) = (self.from, self.until, tokens * self.mean());
        // What is read in a share s of the steps is from · s + (1 − from) / (2 until) · s² while updates grow, then all of s
        // but what was spared before.
        let growing = 0.5 * until * (1.0 + from);
        if read >= growing {
            return read + 0.5 * until * (1.0 - from);
        }
        let slope = (1.0 - from) / until;
        2.0 * read / (from + (from * from + 2.0 * slope * read).sqrt())
    }
}

/// How many tokens each update predicts, at least.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchSize {
    tokens: u64,
    growth: Option<BatchGrowth>,
}

impl BatchSize {
    pub(crate) fn new(tokens: usize, growth: Option<BatchGrowth>) -> Self {
        Self { tokens: tokens as u64, growth }
    }

    /// The tokens of the first update, and the number of steps until updates have all.
    fn growing(self, steps: u64) -> (u64, u64) {
        self.growth.map_or((self.tokens, 0), |growth| {
            let first = (growth.from * self.tokens as f64).round().max(1.0);
            (first as u64, (growth.until * steps as f64).round() as u64)
        })
    }

    /// The tokens of step `step`, from 1, of `steps`.
    pub(crate) fn at(self, step: u64, steps: u64) -> u64 {
        let (first, growing) = self.growing(steps);
        if step > growing {
            return self.tokens;
        }
        let grown = u128::from(self.tokens - first) * u128::from(step - 1) / u128::from(growing);
        first + grown as u64
    }

    /// The tokens of all of `steps` steps.
    fn sum(self, steps: u64) -> u128 {
        let (first, growing) = self.growing(steps);
        let [grown, growing] = [self.tokens - first, growing].map(u128::from);
        let missing = match (grown, growing) {
            (0, _) | (_, 0) => 0,
            // Σ floor(grown · s / growing) for s from 0 to growing − 1 has a closed form.
            _ => grown * growing - ((grown - 1) * (growing - 1) + gcd(grown, growing) - 1) / 2,
        };
        u128::from(steps) * u128::from(self.tokens) - missing
    }

    /// The steps that it takes to read `tokens`, at least 1.
    fn steps_for(self, tokens: u64) -> u64 {
        // Updates that grow have half of the others' tokens at least, on average.
        let least = tokens.div_ceil(self.tokens).max(1);
        let (mut low, mut high) = (least, 2 * least + 1);
        while low < high {
            let middle = low.midpoint(high);
            if self.sum(middle) >= u128::from(tokens) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        low
    }
}

fn gcd(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The pieces of each update, in an order of its own each epoch: a function of the seed alone.
pub(crate) struct Batches<'a> {
    pieces: &'a [Piece],
    seed: u64,
    size: BatchSize,
    steps: u64,
    /// The step that comes next, from 1.
    step: u64,
    epoch: u64,
    /// The rest of the epoch, last piece first.
    rest: Vec<usize>,
}

impl<'a> Batches<'a> {
    /// Of a run of `steps` steps, or of as many as make `epochs` passes over the data.
    pub(crate) fn new(pieces: &'a [Piece], seed: u64, size: BatchSize, course: Course) -> Self {
        let steps = match course {
            Course::Steps(steps) => steps,
            Course::Epochs(epochs) => {
                let tokens: usize = pieces.iter().map(|piece| piece.tokens.len()).sum();
                size.steps_for(tokens as u64 * epochs)
            }
        };
        Self { pieces, seed, size, steps, step: 1, epoch: 0, rest: Vec::new() }
    }

    /// Updates in all.
    pub(crate) fn steps(&self) -> u64 {
        self.steps
    }
}

/// How long a run is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Course {
    Steps(u64),
    /// Passes over the data.
    Epochs(u64),
}

impl Course {
    /// By the settings `steps` and `epochs`, of which one is given.
    pub(crate) fn of(steps: Option<u64>, epochs: Option<u64>) -> Self {
        steps.map_or_else(|| Self::Epochs(epochs.unwrap_or(1)), Self::Steps)
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Vec<Text<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let (mut texts, mut tokens, wanted) = (Vec::new(), 0, self.size.at(self.step, self.steps));
        self.step += 1;
        while tokens < wanted {
            let Some(next) = self.rest.pop() else {
                let key = |&i: &usize| uniform(self.seed, Stream::TextOrder, self.epoch, i as u64, 0);
                self.rest = (0..self.pieces.len()).collect();
                self.rest.sort_by(|a, b| key(b).total_cmp(&key(a)));
                self.epoch += 1;
                continue;
            };
            tokens += self.pieces[next].tokens.len() as u64;
            texts.push(self.pieces[next].text());
        }
        Some(texts)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pieces(n: u32) -> Vec<Piece> {
        (0..n).map(|i| Piece { context: vec![0], tokens: vec![i, i, i] }).collect()
    }

    #[test]
    fn an_epoch_has_every_piece_once_in_an_order_of_its_own() {
        let (pieces, size) = (pieces(50), BatchSize::new(30, None));
        let batches = |seed| Batches::new(&pieces, seed, size, Course::Epochs(2));
        let drawn = |seed, skip| {
            batches(seed).skip(skip).take(5).flatten().map(|text| text.tokens[0]).collect::<Vec<u32>>()
        };
        let (first, second) = (drawn(1, 0), drawn(1, 5));
        let sorted = |mut ids: Vec<u32>| {
            ids.sort_unstable();
            ids
        };
        assert_eq!(sorted(first.clone()), (0..50).collect::<Vec<u32>>());
        assert_eq!(sorted(second.clone()), sorted(first.clone()));
        assert!(first != second && first != drawn(2, 0) && first == drawn(1, 0));
        assert_eq!(batches(1).steps(), 10);
    }

    #[test]
    fn updates_grow_in_a_straight_line_and_go_on_where_they_were() {
        let size = BatchSize::new(30, Some(BatchGrowth { from: 0.2, until: 0.5 }));
        let sizes: Vec<u64> = (1..=10).map(|step| size.at(step, 10)).collect();
        assert_eq!(sizes, [6, 10, 15, 20, 25, 30, 30, 30, 30, 30]);
        assert_eq!(size.sum(10), sizes.iter().sum::<u64>().into());
        let pieces = pieces(80);
        let batches = || Batches::new(&pieces, 1, size, Course::Steps(10));
        let tokens: Vec<usize> = batches().take(10).map(|texts| 3 * texts.len()).collect();
        assert_eq!(tokens, [6, 12, 15, 21, 27, 30, 30, 30, 30, 30], "whole texts");
        let ids = |texts: Vec<Text>| texts.iter().map(|text| text.tokens[0]).collect::<Vec<u32>>();
        let whole: Vec<_> = batches().take(10).map(ids).collect();
        for step in 0..10 {
            assert_eq!(batches().skip(step).take(10 - step).map(ids).collect::<Vec<_>>(), whole[step..]);
        }
    }

    proptest! {
        #[test]
        fn a_run_has_the_steps_that_its_tokens_take(
            tokens in 1u64..100_000, batch in 1usize..3000, from in 0.01f64..=1.0, until in 0.0f64..=1.0,
        ) {
            let growth = BatchGrowth { from, until };
            let size = BatchSize::new(batch, Some(growth));
            let steps = size.steps_for(tokens);
            let sum = |steps| (1..=steps).map(|step| size.at(step, steps)).sum::<u64>();
            prop_assert!(sum(steps) >= tokens && (steps == 1 || sum(steps - 1) < tokens));
            prop_assert_eq!(size.sum(steps), sum(steps).into());
            prop_assert!((1..steps).all(|step| size.at(step, steps) <= size.at(step + 1, steps)));
            prop_assert_eq!(size.at(steps + 1, steps), batch as u64);
            let constant = BatchSize::new(batch, Some(BatchGrowth { from: 1.0, until }));
            prop_assert_eq!(constant.steps_for(tokens), tokens.div_ceil(batch as u64));
            // Shares of the tokens and of the steps, by the sums of a long run.
            let size = BatchSize::new(1 << 24, Some(growth));
            for share in [0.1, 0.5, 0.9] {
                let step = (growth.steps_of(share) * 1000.0).round() as u64;
                let read: u64 = (1..=step).map(|step| size.at(step, 1000)).sum();
                let found = read as f64 / size.sum(1000) as f64;
                prop_assert!((found - share).abs() < 3e-3, "{} for {}", found, share);
            }
        }
    }
}
