//! How sure a difference between two models is, from what it is on each problem.
//!
//! - **The interval** is the percentile bootstrap (Efron 1979) over problems: problems are drawn again with replacement, as many as there
//!   are, [`RESAMPLES`] times, and the middle 95% of the mean differences is taken. Whatever completions of one problem have to do with one
//!   another is in the problem's difference, so it is allowed for (arXiv:2411.00640, paired differences).
//! - **The test** asks how often a mean difference this large comes about if either model could have had either result on each problem: the
//!   signs of the differences are flipped at random. With one completion each it is McNemar's exact test. Where few problems
//!   changed, the bootstrap's interval is too narrow, and the test is what says so.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use rayon::prelude::*;
use serde::Serialize;

/// How often problems are drawn again.
pub const RESAMPLES: usize = 10_000;
/// The share of resamples beyond each end of the interval.
const TAIL: f64 = 0.025;
/// Differences of at most so many problems are flipped in every way; of more, at random.
const MAX_ENUMERATED: usize = 16;
/// Differences are multiples of this, so that sums of shares are exact, and thirds cancel.
const GRID: f64 = 1.0 / (1 << 30) as f64;
/// What rounding to the grid may leave of a difference of nothing.
const NOTHING: f64 = 1e-8;

/// A mean difference with its 95% interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The mean over problems.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Difference {
    /// Of the differences on each problem, by the resamples that `seed` keys. Of no problems nothing is known: 0, from −∞ to ∞.
    pub fn of(differences: &[f64], seed: u64) -> Self {
        if differences.is_empty() {
            return Self { value: 0.0, low: f64::NEG_INFINITY, high: f64::INFINITY };
        }
        let differences = on_grid(differences);
        let n = differences.len();
        let mut means: Vec<f64> = (0..RESAMPLES as u64)
            .into_par_iter()
            .map(|resample| {
                let mut random = random(seed, Stream::Resample, resample);
                (0..n).map(|_| differences[below(&mut random, n)]).sum::<f64>() / n as f64
            })
            .collect();
        means.sort_unstable_by(f64::total_cmp);
        let cut = (TAIL * RESAMPLES as f64) as usize;
        let value = differences.iter().sum::<f64>() / n as f64;
        Self { value, low: means[cut], high: means[RESAMPLES - 1 - cut] }
    }

    /// Whether 0 lies outside the interval.
    pub fn excludes_zero(&self) -> bool {
        self.low > NOTHING || self.high < -NOTHING
    }
}

/// The chance of a mean difference at least this far from 0, either way, if the sign of each were a coin's.
pub fn sign_flip_p(differences: &[f64], seed: u64) -> f64 {
    let changed: Vec<f64> = on_grid(differences).into_iter().filter(|d| d.abs() > NOTHING).collect();
    let observed = changed.iter().sum::<f64>().abs();
    let is_as_far = |flips: &dyn Fn(usize) -> bool| {
        let sum: f64 = changed.iter().enumerate().map(|(i, d)| if flips(i) { -d } else { *d }).sum();
        sum.abs() >= observed - NOTHING
    };
    if changed.len() <= MAX_ENUMERATED {
        let all = 1_u32 << changed.len();
        let far = (0..all).filter(|signs| is_as_far(&|i| signs >> i & 1 == 1)).count();
        return far as f64 / f64::from(all);
    }
    let far = (0..RESAMPLES as u64).into_par_iter().filter(|&resample| {
        let mut random = random(seed, Stream::Flip, resample);
        let words: Vec<u64> = (0..changed.len().div_ceil(64)).map(|_| random.next_u64()).collect();
        is_as_far(&|i| words[i / 64] >> (i % 64) & 1 == 1)
    });
    (far.count() + 1) as f64 / (RESAMPLES + 1) as f64
}

fn on_grid(values: &[f64]) -> Vec<f64> {
    values.iter().map(|value| (value / GRID).round() * GRID).collect()
}

/// What random numbers are for: no two uses share any.
#[derive(Clone, Copy)]
enum Stream {
    Resample,
    Flip,
}

fn random(seed: u64, stream: Stream, resample: u64) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(resample << 1 | stream as u64);
    random
}

/// A place below `n`, uniform up to one part in 2³² (Lemire, arXiv:1805.10941, without the rejection step).
fn below(random: &mut ChaCha8Rng, n: usize) -> usize {
    ((u128::from(random.next_u64()) * n as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_test_is_mcnemars_exact_one_where_each_problem_has_one_completion() {
        // Binomial, two-sided: of 5 changes all one way 2/32; of 10, 8 and 2: 2 (1 + 10 + 45)/1024.
        let changes =
            |up: usize, down: usize, same: usize| [vec![1.0; up], vec![-1.0; down], vec![0.0; same]].concat();
        for (differences, p) in [
            (changes(5, 0, 100), 2.0 / 32.0),
            (changes(8, 2, 3), 112.0 / 1024.0),
            (changes(3, 3, 0), 1.0),
            (changes(0, 0, 7), 1.0),
            (vec![], 1.0),
        ] {
            assert!((sign_flip_p(&differences, 0) - p).abs() < 1e-12, "{differences:?}");
        }
        let many = sign_flip_p(&changes(60, 40, 0), 1); // exactly 0.0569
        assert!((many - 0.0569).abs() < 0.01, "{many}");
        assert!(sign_flip_p(&changes(400, 100, 500), 1) < 0.001);
    }

    #[test]
    fn the_interval_has_the_width_of_the_standard_error() {
        // 400 problems, a quarter better by 1, a tenth worse: mean 0.15, deviation 0.573, standard error 0.02864.
        let differences: Vec<f64> = (0..400)
            .map(|i| {
                if i < 100 {
                    1.0
                } else if i < 140 {
                    -1.0
                } else {
                    0.0
                }
            })
            .collect();
        let got = Difference::of(&differences, 3);
        assert_eq!(got.value, 0.15);
        assert!((got.low - (0.15 - 1.96 * 0.02864)).abs() < 0.006, "{got:?}");
        assert!((got.high - (0.15 + 1.96 * 0.02864)).abs() < 0.006, "{got:?}");
        assert!(got.excludes_zero());
        assert_eq!(Difference::of(&differences, 3), got, "the seed decides");
    }

    #[test]
    fn thirds_that_cancel_are_no_difference() {
        let third = 1.0 / 3.0;
        let got = Difference::of(&[third, third, -2.0 * third, 1.0 - third - 2.0 * third], 0);
        assert!(got.value.abs() < NOTHING && !got.excludes_zero(), "{got:?}");
        assert!(!Difference::of(&[2.0 * third - third - third; 50], 0).excludes_zero());
        assert!(!Difference::of(&[], 0).excludes_zero());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn the_interval_covers_the_difference_and_turns_round_with_the_models(
            counts in prop::collection::vec((0_u8..=4, 0_u8..=4), 1..60), seed: u64,
        ) {
            let differences: Vec<f64> =
                counts.iter().map(|&(a, b)| f64::from(b) / 4.0 - f64::from(a) / 4.0).collect();
            let there = Difference::of(&differences, seed);
            let plug_in = differences.iter().sum::<f64>() / differences.len() as f64;
            prop_assert!((there.value - plug_in).abs() < 1e-9);
            prop_assert!(there.low <= there.value && there.value <= there.high, "{there:?}");
            let back: Vec<f64> = differences.iter().map(|d| -d).collect();
            let back = Difference::of(&back, seed);
            prop_assert!(
                back.low == -there.high && back.high == -there.low && back.value == -there.value,
                "{there:?}, {back:?}"
            );
            let p = [&differences, &differences.iter().map(|d| -d).collect()].map(|d| sign_flip_p(d, seed));
            prop_assert!(p[0] == p[1] && p[0] > 0.0 && p[0] <= 1.0);
        }
    }
}
