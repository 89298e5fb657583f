//! How a model does on the demo's held-out problems.

use std::path::Path;

use koan_backend::Backend;
use koan_data::Problem;
use koan_eval::{Interval, Judged};
use koan_generate::{Limits, Sampling, Stream};
use koan_infer::{Codec, Engine, Evaluation, PromptStyle};
use koan_reward::{Context, NoModels, Outcome, Rewards};
use koan_train::{TrainError, rl::RlConfig};
use serde::Serialize;

/// Answers to each held-out problem.
pub(super) const SAMPLES: usize = 4;

/// How a model does on held-out problems.
#[derive(Clone, Debug, Serialize)]
pub struct Measure {
    /// Share of answers that are right, with its 95% interval; at temperature 1, four answers a problem.
    #[serde(flatten)]
    pub interval: Interval,
    /// Mean tokens of an answer.
    pub completion_tokens: f64,
    /// Share of answers that are blurted.
    pub blurted: f64,
    /// Share of answers that are worked out.
    pub worked: f64,
    /// Share of answers that are worked out and checked.
    pub checked: f64,
}

/// Answers of the model in `dir` to each problem, at temperature 1: their measure, and the first of each problem.
pub(super) fn measure<B: Backend>(
    b: &B,
    dir: &Path,
    config: &RlConfig,
    problems: &[Problem],
    threads: usize,
) -> Result<(Measure, Vec<Judged>), TrainError> {
    let rewards = Rewards::build(&config.reward, Context::default())?;
    let codec = Codec::open(dir, PromptStyle { raw: config.rollout.raw, system: None })?;
    let new_tokens = config.rollout.max_new_tokens.most();
    let prompt_tokens = config.rollout.max_prompt_tokens.min(codec.config().longest_sequence() - new_tokens);
    let limits = Limits { sequences: config.sequences(), prompt_tokens, new_tokens };
    let sampling = Sampling {
        temperature: 1.0,
        max_new_tokens: new_tokens,
        stop_ids: codec.stop_ids(),
        seed: config.stage.seed,
        stream: Stream::Demo,
        ..Sampling::default()
    };
    let mut engine = Engine::load(b, codec, prompt_tokens + new_tokens, limits, None)?;
    let evaluation = Evaluation {
        problems,
        samples: SAMPLES,
        codec: &engine.codec,
        sampling: &sampling,
        rewards: &rewards,
        threads,
        models: &NoModels,
    };
    let answers = evaluation.sample_all(b, &engine.model, &mut engine.generator)?;
    let answers: Vec<Judged> = answers.into_iter().flatten().collect();
    let n = answers.len().max(1) as f64;
    let share = |is: &dyn Fn(&Judged) -> bool| answers.iter().filter(|judged| is(judged)).count() as f64 / n;
    let right = |judged: &&Judged| judged.outcome == Outcome::Correct;
    let shares: Vec<f64> = answers
        .chunks(SAMPLES)
        .map(|answers| answers.iter().filter(right).count() as f64 / answers.len() as f64)
        .collect();
    let works = |judged: &Judged| judged.completion.contains('=');
    let checks = |judged: &Judged| judged.completion.contains(" ok");
    let measure = Measure {
        interval: Interval::of(&shares, SAMPLES),
        completion_tokens: answers.iter().map(|judged| judged.completion_tokens as f64).sum::<f64>() / n,
        blurted: share(&|judged| !works(judged)),
        worked: share(&|judged| works(judged) && !checks(judged)),
        checked: share(&|judged| works(judged) && checks(judged)),
    };
    Ok((measure, answers.into_iter().step_by(SAMPLES).collect()))
}
