//! The reward `model`: a reward model in this process scores a completion.
//!
//! The text is the problem's conversation with the completion, or the part of it after the thinking, as the assistant's reply: through the reward model's own
//! chat template and tokenizer, whatever the policy's are, with the tokens that end a reply, as in training it. A run's system message is not part of
//! it.
//!
//! Scores are standardised by the mean and deviation of a fixed set, and clipped at `clip` deviations:
//!
//! ```text
//! clamp((score − mean)/deviation, −clip, clip)
//! ```
//!
//! The set is `reference`, files of replies; or, without it, the completions of the first training step that the reward takes part in, whose mean and
//! deviation every checkpoint keeps. Outside of a run, and in a run before that step, scores without a `reference` are taken as they are.
//!
//! A completion is correct where the standardised score is above 0, and otherwise wrong. An empty answer is not scored: it is unparsable and earns
//! −`clip`. One that is longer than the model reads is undecided, and so is a score that is not finite.

use crate::models::{Models, ModelsError, Needed, Reply, Role};
use crate::part::Part;
use crate::settle::{Asks, Candidate, not_asked};
use crate::standard::Standard;
use crate::verifier::{Configured, Context, Sample, Verifier};
use crate::{Outcome, Verdict};
use koan_data::{DataFiles, Problem, read_replies};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// The options of `model`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The reward model's directory.
    pub model: Option<PathBuf>,
    /// What of a completion is scored.
    pub part: Part,
    /// Whether the prompt itself ends in `<think>`.
    pub opened: bool,
    /// Replies whose scores are the scale.
    pub reference: Option<DataFiles>,
    /// Most deviations from the mean.
    pub clip: f64,
    /// Most tokens of a prompt and reply; longer ones are undecided.
    pub max_tokens: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { model: None, part: Part::Answer, opened: false, reference: None, clip: 5.0, max_tokens: 4096 }
    }
}

/// A reward model that scores completions.
pub struct RewardModel {
    options: Options,
    model: PathBuf,
    /// Replies whose scores are the scale; empty without a `reference`.
    reference: Vec<Reply>,
    standard: Mutex<Option<Standard>>,
}

impl Configured for RewardModel {
    type Options = Options;

    fn build(options: Options, _: &Context) -> Result<Self, String> {
        let model = options
            .model
            .clone()
            .ok_or("write `model`, the directory of a reward model, such as `koan prefer` makes with `loss = \"reward-model\"`")?;
        if !(options.clip > 0.0 && options.clip.is_finite()) {
            return Err(format!("`clip` is {}; write a number above 0", options.clip));
        }
        if !(2..=1 << 20).contains(&options.max_tokens) {
            return Err(format!("`max_tokens` is {}; write a number from 2 to 1048576", options.max_tokens));
        }
        let reference = match &options.reference {
            None => Vec::new(),
            Some(files) => {
                let replies = read_replies(files).map_err(|error| format!("`reference`: {error}"))?;
                let part = |text: &str| options.part.of(text, options.opened).to_owned();
                replies
                    .into_iter()
                    .map(|(prompt, reply)| Reply { prompt, text: part(&reply.content) })
                    .collect()
            }
        };
        if reference.len() == 1 {
            return Err("`reference` has one reply; a scale needs at least two".to_owned());
        }
        Ok(Self { options, model, reference, standard: Mutex::default() })
    }
}

impl Verifier for RewardModel {
    fn judge(&self, _: &Sample) -> Verdict {
        not_asked()
    }

    fn check(&self, _: &Problem) -> Result<(), String> {
        Ok(())
    }

    fn asks(&self) -> Option<&dyn Asks> {
        Some(self)
    }
}

impl Asks for RewardModel {
    fn needs(&self) -> Option<Needed> {
        let (model, max_tokens) = (self.model.clone(), self.options.max_tokens);
        Some(Needed { model, role: Role::Scores, max_tokens, reward: "model".to_owned() })
    }

    fn files(&self) -> Vec<(&'static str, PathBuf)> {
        let paths = self.options.reference.iter().filter_map(|files| files.paths().ok()).flatten();
        paths.map(|path| ("reward's reference", path)).collect()
    }

    fn settle(
        &self,
        models: &dyn Models,
        candidates: &[Candidate],
        learn: bool,
    ) -> Result<Vec<Verdict>, ModelsError> {
        let part = |candidate: &Candidate| {
            self.options.part.of(candidate.completion, self.options.opened).to_owned()
        };
        let replies =
            candidates.iter().map(|c| Reply { prompt: c.problem.messages().into_owned(), text: part(c) });
        let (mut asked, mut is_empty) = (Vec::new(), Vec::new());
        for reply in replies {
            is_empty.push(reply.text.trim().is_empty());
            if !reply.text.trim().is_empty() {
                asked.push(reply);
            }
        }
        let scores = self.scores(models, &asked)?;
        let standard = self.scale(models, &scores, learn)?;
        let (clip, mut scores) = (self.options.clip, scores.into_iter());
        let mut next = || scores.next().unwrap_or_else(|| Err("no model was asked".to_owned()));
        let verdict = |is_empty| {
            if is_empty {
                let score = Some(-clip as f32);
                return Verdict {
                    score,
                    ..Verdict::without_answer(Outcome::Unparsable, "the answer is empty")
                };
            }
            match next() {
                Err(reason) => Verdict::without_answer(Outcome::Undecided, reason),
                Ok(score) => {
                    let standardised = standard.standardise(score, clip);
                    let outcome = if standardised > 0.0 { Outcome::Correct } else { Outcome::Wrong };
                    let reason = format!("scored {score}");
                    Verdict { score: Some(standardised), ..Verdict::without_answer(outcome, reason) }
                }
            }
        };
        Ok(is_empty.into_iter().map(verdict).collect())
    }

    fn standard(&self) -> Option<Standard> {
        let standard = *self.standard.lock().unwrap_or_else(PoisonError::into_inner);
        standard.filter(|_| self.reference.is_empty())
    }

    fn set_standard(&self, standard: Standard) {
        if self.reference.is_empty() {
            *self.standard.lock().unwrap_or_else(PoisonError::into_inner) = Some(standard);
        }
    }
}

impl RewardModel {
    /// The model's scores, all finite.
    fn scores(
        &self,
        models: &dyn Models,
        replies: &[Reply],
    ) -> Result<Vec<Result<f64, String>>, ModelsError> {
        let finite = |score: Result<f64, String>| {
            score.and_then(|s| if s.is_finite() { Ok(s) } else { Err(format!("the score is {s}")) })
        };
        Ok(models.score(&self.model, replies)?.into_iter().map(finite).collect())
    }

    /// The scale in force for `scores`.
    fn scale(
        &self,
        models: &dyn Models,
        scores: &[Result<f64, String>],
        learn: bool,
    ) -> Result<Standard, ModelsError> {
        let mut standard = self.standard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(standard) = *standard {
            return Ok(standard);
        }
        let decided = |scores: &[Result<f64, String>]| scores.iter().flatten().copied().collect::<Vec<f64>>();
        let found = if !self.reference.is_empty() {
            let scores = decided(&self.scores(models, &self.reference)?);
            let few = || {
                let (n, of) = (scores.len(), self.reference.len());
                ModelsError(
                    format!(
                        "the reward model scores {n} of the {of} replies of `reference`; a scale needs two"
                    )
                    .into(),
                )
            };
            Some(Standard::of(&scores).ok_or_else(few)?)
        } else if learn {
            Standard::of(&decided(scores))
        } else {
            None
        };
        *standard = found;
        Ok(found.unwrap_or(Standard::NONE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{Question, Speech};
    use std::path::Path;

    /// Scores a reply by its length; one of four bytes is too long, one of five not finite.
    struct ByLength;

    impl Models for ByLength {
        fn score(&self, model: &Path, replies: &[Reply]) -> Result<Vec<Result<f64, String>>, ModelsError> {
            assert_eq!(model, Path::new("rm"));
            let score = |reply: &Reply| match reply.text.len() {
                4 => Err("too long".to_owned()),
                5 => Ok(f64::NAN),
                n => Ok(n as f64),
            };
            Ok(replies.iter().map(score).collect())
        }

        fn speak(
            &self,
            _: &Path,
            _: &[Question],
            _: Speech,
        ) -> Result<Vec<Result<String, String>>, ModelsError> {
            unreachable!("a reward model does not speak")
        }
    }

    fn model(options: Options) -> RewardModel {
        RewardModel::build(Options { model: Some("rm".into()), ..options }, &Context::default())
            .expect("builds")
    }

    fn settle(model: &RewardModel, completions: &[&str], learn: bool) -> Vec<Verdict> {
        let problem = Problem::default();
        let candidate = |completion| Candidate { problem: &problem, completion, group: 0 };
        let candidates: Vec<_> = completions.iter().copied().map(candidate).collect();
        model.settle(&ByLength, &candidates, learn).expect("asked")
    }

    #[test]
    fn scores_are_standardised_by_the_first_step_and_clipped() {
        let model = model(Options::default());
        let scores = |verdicts: Vec<Verdict>| verdicts.into_iter().map(|v| v.score).collect::<Vec<_>>();
        assert_eq!(scores(settle(&model, &["ab"], false)), [Some(2.0)], "taken as it is");
        assert_eq!(model.standard(), None);
        assert_eq!(scores(settle(&model, &["a", "abc"], true)), [Some(-1.0), Some(1.0)]);
        let standard = Standard { mean: 2.0, deviation: 1.0 };
        assert_eq!(model.standard(), Some(standard));
        let long = "a".repeat(100);
        assert_eq!(scores(settle(&model, &[&long, "ab"], true)), [Some(5.0), Some(0.0)], "the scale stays");
        let resumed = self::model(Options::default());
        resumed.set_standard(standard);
        assert_eq!(scores(settle(&resumed, &["abc"], true)), [Some(1.0)]);
    }

    #[test]
    fn what_can_not_be_scored_is_undecided_and_nothing_is_worst() {
        let model = model(Options::default());
        let verdicts =
            settle(&model, &["abcd", "abcde", "", "<think>abc", "ab", "<think>abcdef</think>a"], false);
        let outcomes: Vec<_> = verdicts.iter().map(|v| (v.outcome, v.score)).collect();
        assert_eq!(
            outcomes,
            [
                (Outcome::Undecided, None),
                (Outcome::Undecided, None),
                (Outcome::Unparsable, Some(-5.0)),
                (Outcome::Unparsable, Some(-5.0)),
                (Outcome::Correct, Some(2.0)),
                (Outcome::Correct, Some(1.0)),
            ]
        );
        assert_eq!(verdicts[0].reason, "too long");
    }

    #[test]
    fn a_reference_is_the_scale() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("pairs.jsonl");
        std::fs::write(&file, "{\"prompt\": \"p\", \"chosen\": \"abc\", \"rejected\": \"a\"}\n")
            .expect("written");
        let model = model(Options { reference: Some(file.clone().into()), ..Options::default() });
        assert_eq!(settle(&model, &["abc"], false)[0].score, Some(1.0));
        assert_eq!(model.standard(), None, "nothing for a checkpoint to keep");
        assert_eq!(model.files(), [("reward's reference", file.clone())]);
        std::fs::write(&file, "{\"prompt\": \"p\", \"completion\": \"abc\"}\n").expect("written");
        let one = Options { model: Some("rm".into()), reference: Some(file.into()), ..Options::default() };
        let error = RewardModel::build(one, &Context::default()).err().expect("refused");
        assert!(error.contains("at least two"), "{error}");
    }

    #[test]
    fn options_are_checked() {
        let rm = || Options { model: Some("rm".into()), ..Options::default() };
        for (options, expected) in [
            (Options::default(), "write `model`"),
            (Options { clip: 0.0, ..rm() }, "`clip` is 0"),
            (Options { clip: f64::NAN, ..rm() }, "`clip`"),
            (Options { max_tokens: 1, ..rm() }, "`max_tokens` is 1"),
            (Options { reference: Some(PathBuf::from("none.jsonl").into()), ..rm() }, "`reference`"),
        ] {
            let error = RewardModel::build(options, &Context::default()).err().expect("refused");
            assert!(error.contains(expected), "{error}");
        }
    }
}
