//! The term `length`: a score for the length of a completion in tokens, L.
//!
//! `shape = "overlong"`, the default, is DAPO's soft overlong punishment (arXiv:2503.14476, Eq. 13), with the
//! longest length L_max (`max_tokens`; by default the run's `max_new_tokens`) and the width of the ramp before it,
//! L_cache (`cache_tokens`; by default a fifth of L_max, as 4,096 of 20,480 in the paper):
//!
//! ```text
//!  0                              where L ≤ L_max − L_cache
//!  ((L_max − L_cache) − L)/L_cache  where L_max − L_cache < L ≤ L_max
//! −1                              where L > L_max
//! ```
//!
//! `shape = "cosine"` is the cosine reward of arXiv:2502.03373 (§4.2). For a correct answer it falls from
//! `correct_short` at L = 0 to `correct_long` at L_max; for any other it goes from `wrong_short` to `wrong_long`; a
//! completion that reaches L_max without having ended gets `exceeded`:
//!
//! ```text
//! r(L) = r_long + ½ (r_short − r_long) (1 + cos(π L / L_max))
//! ```
//!
//! It uses the outcome of the run's first reward. If the length is not known, or that outcome not decided,
//! the term is undecided.

use crate::verifier::{Configured, Context, Sample, Verifier};
use crate::{Outcome, Verdict};
use koan_data::Problem;
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// Which formula.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// DAPO's penalty for completions that are too long.
    #[default]
    Overlong,
    /// Short is better for right answers, long for wrong ones.
    Cosine,
}

/// The options of `length`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Which formula.
    pub shape: Shape,
    /// L_max, tokens; none: the length at which the run cuts completions.
    pub max_tokens: Option<usize>,
    /// L_cache, tokens; none: a fifth of L_max. Only for `overlong`.
    pub cache_tokens: Option<usize>,
    /// The cosine reward of a correct answer of length 0.
    pub correct_short: f64,
    /// The cosine reward of a correct answer of length L_max.
    pub correct_long: f64,
    /// The cosine reward of a wrong answer of length 0.
    pub wrong_short: f64,
    /// The cosine reward of a wrong answer of length L_max.
    pub wrong_long: f64,
    /// The cosine reward of a completion that was cut at L_max.
    pub exceeded: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            shape: Shape::Overlong,
            max_tokens: None,
            cache_tokens: None,
            correct_short: 2.0,
            correct_long: 1.0,
            wrong_short: -10.0,
            wrong_long: 0.0,
            exceeded: -10.0,
        }
    }
}

/// Judges the length of completions.
#[derive(Clone, Copy, Debug)]
pub struct Length {
    options: Options,
    max: usize,
    cache: usize,
}

impl Configured for Length {
    type Options = Options;

    fn build(options: Options, context: &Context) -> Result<Self, String> {
        let max = options.max_tokens.or(context.max_new_tokens);
        let max = max.filter(|max| *max > 0).ok_or("write `max_tokens`, the longest length, at least 1")?;
        let cache = options.cache_tokens.unwrap_or(max.div_ceil(5));
        if !(1..=max).contains(&cache) {
            return Err(format!("`cache_tokens` is {cache}; write a number from 1 to `max_tokens`, {max}"));
        }
        let Options { correct_short, correct_long, wrong_short, wrong_long, exceeded, .. } = options;
        let rewards = [correct_short, correct_long, wrong_short, wrong_long, exceeded];
        if let Some(reward) = rewards.iter().find(|reward| !(**reward as f32).is_finite()) {
            return Err(format!("a reward of `length` is {reward}; write finite numbers"));
        }
        Ok(Self { options, max, cache })
    }
}

impl Verifier for Length {
    fn judge(&self, sample: &Sample) -> Verdict {
        let Some(tokens) = sample.tokens else {
            let reason = "the length in tokens is not known; give `completion_tokens` with the completion";
            return Verdict::without_answer(Outcome::Undecided, reason);
        };
        match self.options.shape {
            Shape::Overlong => self.overlong(tokens),
            Shape::Cosine => self.cosine(tokens, sample),
        }
    }

    fn check(&self, _: &Problem) -> Result<(), String> {
        Ok(())
    }
}

impl Length {
    fn overlong(&self, tokens: usize) -> Verdict {
        let (max, cache) = (self.max, self.cache);
        let free = max - cache;
        let (score, reason) = match tokens {
            _ if tokens <= free => (0.0, format!("{tokens} tokens, within {free}")),
            _ if tokens <= max => {
                let score = 0.0 - (tokens - free) as f32 / cache as f32;
                (score, format!("{tokens} tokens, {} beyond {free}", tokens - free))
            }
            _ => (-1.0, format!("{tokens} tokens, beyond {max}")),
        };
        Verdict::graded(score, 0.0, reason)
    }

    fn cosine(&self, tokens: usize, sample: &Sample) -> Verdict {
        let (o, max) = (&self.options, self.max);
        if tokens > max || tokens == max && sample.truncated != Some(false) {
            return Verdict::graded(
                o.exceeded as f32,
                f32::INFINITY,
                format!("{tokens} tokens, cut at {max}"),
            );
        }
        let (short, long, what) = match sample.answered {
            Some(Outcome::Correct) => (o.correct_short, o.correct_long, "correct"),
            Some(Outcome::Wrong | Outcome::Unparsable) => (o.wrong_short, o.wrong_long, "not correct"),
            Some(Outcome::Undecided | Outcome::BadReference) | None => {
                return Verdict::without_answer(
                    Outcome::Undecided,
                    "whether the answer is right is not decided",
                );
            }
        };
        let turn = 0.5 * (1.0 + (PI * tokens as f64 / max as f64).cos());
        let score = long + (short - long) * turn;
        let best = if what == "correct" { f32::MIN } else { f32::INFINITY };
        Verdict::graded(score as f32, best, format!("{what} in {tokens} of {max} tokens"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn length(options: Options) -> Length {
        Length::build(options, &Context::default()).expect("builds")
    }

    fn judge(length: &Length, tokens: usize, truncated: bool, answered: Outcome) -> Verdict {
        let problem = Problem::default();
        length.judge(&Sample {
            tokens: Some(tokens),
            truncated: Some(truncated),
            answered: Some(answered),
            ..Sample::new(&problem, "")
        })
    }

    #[test]
    fn the_overlong_penalty_is_dapos() {
        // L_max = 20, L_cache = 5: free up to 15, then −1/5 per token.
        let length = length(Options { max_tokens: Some(20), cache_tokens: Some(5), ..Options::default() });
        for (tokens, score) in
            [(0, 0.0), (15, 0.0), (16, -0.2), (18, -0.6), (20, -1.0), (21, -1.0), (usize::MAX, -1.0)]
        {
            let verdict = judge(&length, tokens, false, Outcome::Correct);
            assert_eq!(verdict.score, Some(score), "{tokens}");
            assert_eq!(verdict.outcome == Outcome::Correct, score == 0.0, "{tokens}");
        }
    }

    #[test]
    fn the_papers_sizes_are_the_default_ratio() {
        let context = Context { max_new_tokens: Some(20_480), ..Context::default() };
        let length = Length::build(Options::default(), &context).expect("builds");
        assert_eq!((length.max, length.cache), (20_480, 4_096));
    }

    #[test]
    fn the_cosine_reward_is_the_papers() {
        // cos(π/3) = 1/2 at a third of the length: r = r_long + ¾ (r_short − r_long); at a half, the mean.
        let length = length(Options { shape: Shape::Cosine, max_tokens: Some(300), ..Options::default() });
        for (tokens, outcome, score) in [
            (0, Outcome::Correct, 2.0),
            (100, Outcome::Correct, 1.75),
            (150, Outcome::Correct, 1.5),
            (0, Outcome::Wrong, -10.0),
            (100, Outcome::Wrong, -7.5),
            (150, Outcome::Unparsable, -5.0),
            (301, Outcome::Correct, -10.0),
        ] {
            let verdict = judge(&length, tokens, false, outcome);
            let got = verdict.score.expect("decided");
            assert!((got - score).abs() < 1e-6, "{tokens} {outcome:?}: {got}");
        }
        assert_eq!(judge(&length, 300, false, Outcome::Correct).score, Some(1.0), "ended at the last token");
        assert_eq!(judge(&length, 300, true, Outcome::Correct).score, Some(-10.0), "cut");
        assert_eq!(judge(&length, 9, false, Outcome::Undecided).outcome, Outcome::Undecided);
    }

    #[test]
    fn what_it_needs_it_asks_for() {
        let error = |options| Length::build(options, &Context::default()).expect_err("refused");
        assert!(error(Options::default()).contains("`max_tokens`"));
        let options = Options { max_tokens: Some(10), cache_tokens: Some(11), ..Options::default() };
        assert!(error(options).contains("`cache_tokens` is 11"));
        let options = Options { max_tokens: Some(10), exceeded: f64::NAN, ..Options::default() };
        assert!(error(options).contains("finite"));
        let length = length(Options { max_tokens: Some(10), ..Options::default() });
        let verdict = length.judge(&Sample::new(&Problem::default(), "text"));
        assert_eq!(verdict.outcome, Outcome::Undecided);
        assert!(verdict.reason.contains("completion_tokens"));
    }

    proptest! {
        #[test]
        fn scores_stay_in_their_range(tokens: usize, max in 1..=usize::MAX, cut: bool, right: bool) {
            let outcome = if right { Outcome::Correct } else { Outcome::Wrong };
            for (shape, range) in [(Shape::Overlong, -1.0..=0.0), (Shape::Cosine, -10.0..=2.0)] {
                let length = length(Options { shape, max_tokens: Some(max), ..Options::default() });
                for tokens in [tokens, tokens % max.saturating_add(1).max(1)] {
                    let score = judge(&length, tokens, cut, outcome).score.expect("decided");
                    prop_assert!(range.contains(&score), "{score}");
                }
            }
        }
    }
}
