//! Reinforcement learning from verified answers, as one loop:
//!
//! ```text
//! for each step:
//!     draw a group of completions for each problem     (koan-generate)
//!     judge them: rewards                              (koan-reward)
//!     compare within each group: advantages            (advantage.rs)
//!     one update for each mini-batch of problems       (forward, loss, backward, AdamW)
//! ```
//!
//! The log-probabilities of generation are those of the policy to the bit, so they serve as π_old as they are: weights are
//! never synchronised, and nothing is computed twice.

use std::{
    borrow::Cow,
    ops::Range,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use koan_backend::Backend;
use koan_data::{Problem, read_problems};
use koan_eval::{Interval, PromptStyle, evaluate};
use koan_generate::{Completion, FinishReason, Generator, Prompt, Sampling, uniform};
use koan_model::{Config, checkpoint};
use koan_reward::{BadReference, Context, Job, Judgement, Outcome, Rewards, Term};
use koan_text::Tokenizer;
use serde::Serialize;

use crate::{
    RlConfig, TrainError,
    learner::{Learner, ScoredGroup, UpdateSums},
    optimizer::Optimizer,
    plan::{Plan, check_disk},
    run_dir::{self, Lineage, RunDir, TrainerState},
};

/// Keys the order of the data, apart from the keys of samples.
const ORDER_STREAM: u64 = u64::MAX;
/// Keys the samples of held-out measurements, apart from those of steps: each measurement draws with the same numbers.
const EVAL_STREAM: u64 = u64::MAX;
/// A run in which nothing was decided for so many steps learns nothing: it ends.
const MAX_STEPS_WITHOUT_A_VERDICT: usize = 3;
/// Words that say a model looks back on what it wrote (the list of arXiv:2501.12948, appendix C.2).
const REFLECTION_WORDS: [&str; 10] =
    ["wait", "mistake", "however", "but", "retry", "error", "verify", "wrong", "evaluate", "check"];

/// One line of metrics.jsonl.
#[derive(Clone, Debug, Serialize)]
pub struct Metrics {
    /// The step, from 1.
    pub step: u64,
    /// The loss, before the update.
    pub loss: f64,
    /// Mean reward of the completions that have one.
    pub reward: f64,
    /// Mean over problems of the standard deviation of their rewards.
    pub reward_std: f64,
    /// Share of completions whose first reward's verifier says correct.
    pub accuracy: f64,
    /// Share of completions whose format is right, if the format is rewarded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<f64>,
    /// Mean tokens of a completion.
    pub completion_tokens: f64,
    /// Share of completions cut at max_new_tokens.
    pub truncated: f64,
    /// Mean entropy of the distributions that tokens were drawn from, over the tokens that were learned from, nats.
    pub entropy: f64,
    /// Mean k3 estimate of the divergence from the reference policy, over those tokens; 0 if β is 0.
    pub kl: f64,
    /// Share of those tokens whose gradient the clip stopped.
    pub clip_fraction: f64,
    /// Norm of the gradient before clipping, mean over the step's updates.
    pub grad_norm: f64,
    /// Learning rate of the step's last update.
    pub lr: f32,
    /// Problems whose completions all earned the same.
    pub zero_spread_groups: usize,
    /// Completions whose reward was not decided: masked.
    pub undecided: usize,
    /// Words of reflection a completion.
    pub reflection_words: f64,
    /// Completion tokens drawn, this step.
    pub tokens: usize,
    /// Largest |sampled − recomputed| log-probability before the step's first update: 0 by construction.
    pub log_prob_gap: f32,
    /// Seconds of drawing.
    pub generate_s: f64,
    /// Seconds of waiting for verdicts when all completions are drawn: judging happens while others are drawn.
    pub reward_s: f64,
    /// Seconds of learning.
    pub train_s: f64,
    /// Seconds of the step.
    pub step_s: f64,
    /// Accuracy on held-out problems after the step, if it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval: Option<Interval>,
}

/// The line of metrics.jsonl before the first step: where the run starts from.
#[derive(Serialize)]
struct Baseline {
    step: u64,
    eval: Interval,
}

/// What a run tells while it goes.
#[derive(Debug)]
pub enum Event<'a> {
    /// Everything was checked; the run starts after `step` steps.
    Start {
        /// Steps made by an earlier part of the run.
        step: u64,
        /// Steps in all.
        steps: u64,
        /// What it will hold.
        plan: &'a Plan,
        /// The formula in force.
        formula: &'a str,
    },
    /// Problems that are left out, since their references are bad.
    BadReferences {
        /// Their file.
        data: &'a Path,
        /// Which, and why.
        bad: &'a [BadReference],
    },
    /// Held-out accuracy.
    Eval {
        /// After how many steps.
        step: u64,
        /// What it is.
        interval: Interval,
        /// Mean tokens of a completion.
        completion_tokens: f64,
        /// Seconds it took.
        seconds: f64,
    },
    /// A completion finished.
    Drawn {
        /// Finished so far, this step.
        done: usize,
        /// Of how many.
        of: usize,
    },
    /// A step is made.
    Step(&'a Metrics),
    /// A checkpoint is written.
    Checkpoint {
        /// Its directory.
        path: &'a Path,
        /// SHA-256 over its files.
        digest: &'a str,
    },
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct RunSummary {
    /// Steps made in all.
    pub step: u64,
    /// Whether it was asked to stop before its last step.
    pub stopped: bool,
    /// The final model's directory, unless it was stopped.
    pub model: Option<PathBuf>,
    /// Digest of the last checkpoint; empty if none was written, because all steps were made before.
    pub digest: String,
}

/// A completion with all that a step finds out about it.
struct Sample {
    /// Its problem's place in the data.
    problem: usize,
    completion: Completion,
    text: String,
    judgement: Judgement,
    advantage: Option<f32>,
}

/// A line of a rollout file.
#[derive(Serialize)]
struct RolloutLine<'a> {
    step: u64,
    id: &'a str,
    sample: usize,
    prompt: Cow<'a, [koan_data::Message]>,
    completion: &'a str,
    answer: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<&'a serde_json::Map<String, serde_json::Value>>,
    finish_reason: &'static str,
    completion_tokens: usize,
    log_prob_sum: f64,
    rewards: &'a [Term],
    reward: Option<f32>,
    advantage: Option<f32>,
}

/// Everything a step works with.
struct Trainer<'a, B: Backend> {
    b: &'a B,
    config: &'a RlConfig,
    tokenizer: Tokenizer,
    style: PromptStyle,
    rewards: Rewards,
    problems: Vec<Problem>,
    prompts: Vec<Vec<u32>>,
    held_out: Vec<Problem>,
    sampling: Sampling,
    generator: Generator<B>,
    learner: Learner<B>,
}

/// Runs `config` to its last step, or to the end of the step in which `stop` is set. With `resume` it goes on from the
/// newest checkpoint, and ends with the bits of a run that was never interrupted.
///
/// # Errors
/// All that can be known to be wrong is, before any work: files, sizes, memory, disk. Later only what the system
/// refuses, or a gradient that is not finite.
pub fn run<B: Backend>(
    b: &B,
    config: &RlConfig,
    resume: bool,
    stop: &AtomicBool,
    mut on: impl FnMut(Event),
) -> Result<RunSummary, TrainError> {
    // Everything that can be wrong, cheapest first.
    let max_new_tokens = Some(config.rollout.max_new_tokens);
    let context = Context { max_new_tokens, log_dir: Some(config.run_dir.clone()) };
    let rewards = Rewards::build(&config.reward, context)?;
    let model_config = Config::load(&config.model).map_err(checkpoint::CheckpointError::from)?;
    let tokenizer = Tokenizer::load(&config.model)?;
    let style = PromptStyle { raw: config.rollout.raw, system: config.rollout.system.clone() };
    let (problems, bad) = rewards.sift(read_problems(&config.data)?)?;
    let held_out = config.eval.as_ref().map_or(Ok(Vec::new()), |e| read_problems(&e.data))?;
    let (held_out, bad_held_out) = rewards.sift(held_out)?;
    let max = config.rollout.max_prompt_tokens;
    let prompts = encode(&tokenizer, &style, &problems, max)?;
    let held_out_prompts = encode(&tokenizer, &style, &held_out, max)?;
    let longest = prompts.iter().chain(&held_out_prompts).map(Vec::len).max().unwrap_or(1);
    let plan = Plan::new(config, &model_config, longest);
    let (asked, max) = (longest + plan.limits.new_tokens, model_config.max_position_embeddings);
    if asked > max {
        return Err(checkpoint::CheckpointError::Positions { asked, max, path: config.model.clone() }.into());
    }
    plan.check_memory()?;
    checkpoint::Weights::open(&config.model, &model_config)?;
    let (mut run, from) = if resume {
        RunDir::resume(&config.run_dir, config)?
    } else {
        (RunDir::create(&config.run_dir, config)?, None)
    };
    check_disk(config, &model_config)?;
    let mut state = TrainerState {
        step: 0,
        updates: 0,
        tokens: 0,
        seed: config.seed,
        config_sha256: run_dir::hash_config(config),
        model_sha256: run_dir::hash_weights(&config.model)?,
        data_sha256: run_dir::hash_file(&config.data)?,
    };
    if let Some(dir) = &from {
        state = resumed_state(dir, &state)?;
    }

    let policy = checkpoint::load(b, from.as_deref().unwrap_or(&config.model), Some(asked))?;
    let loss = config.loss();
    let every = config.reference_every();
    let refreshed = |updates: u64| every.map_or(0, |every| updates / every);
    let reference = match (loss.kl, &from) {
        (0.0, _) => None,
        (_, Some(dir)) if refreshed(state.updates) > 0 => {
            Some(checkpoint::load(b, &dir.join("reference"), Some(asked))?)
        }
        // What is never refreshed is never saved either, and held in half the memory.
        _ if every.is_none() => Some(checkpoint::load_for_inference(b, &config.model, Some(asked))?),
        _ => Some(checkpoint::load(b, &config.model, Some(asked))?),
    };
    let optimizer = match &from {
        Some(dir) => run_dir::load_optimizer(b, dir, &model_config, state.updates)?,
        None => Optimizer::new(b, &model_config),
    };
    let stop_ids = model_config.eos_token_ids.iter().copied().chain(tokenizer.eos()).collect();
    let mut trainer = Trainer {
        b,
        config,
        style,
        rewards,
        prompts,
        problems,
        held_out,
        sampling: Sampling {
            temperature: config.rollout.temperature,
            max_new_tokens: config.rollout.max_new_tokens,
            stop_ids,
            seed: config.seed,
            ..Sampling::default()
        },
        generator: Generator::new(b, &model_config, plan.limits),
        learner: Learner::new(
            b,
            policy,
            reference,
            optimizer,
            loss,
            config.rollout.temperature,
            plan.rows,
            config.optim.purpose(),
        ),
        tokenizer,
    };

    if !bad.is_empty() {
        on(Event::BadReferences { data: &config.data, bad: &bad });
    }
    if let Some(eval) = config.eval.as_ref().filter(|_| !bad_held_out.is_empty()) {
        on(Event::BadReferences { data: &eval.data, bad: &bad_held_out });
    }
    on(Event::Start { step: state.step, steps: config.steps, plan: &plan, formula: &config.explain() });
    if state.step == 0
        && let Some(eval) = trainer.evaluate(0, &mut on)?
    {
        run.write_metrics(&Baseline { step: 0, eval })?;
    }
    let mut digest = String::new();
    let mut steps_without_a_verdict = 0;
    while state.step < config.steps {
        let (metrics, samples) = trainer.step(state.step + 1, &mut on)?;
        steps_without_a_verdict =
            if metrics.undecided == samples.len() { steps_without_a_verdict + 1 } else { 0 };
        if steps_without_a_verdict == MAX_STEPS_WITHOUT_A_VERDICT {
            let masked = samples[0].judgement.terms.iter().find(|term| term.score.is_none());
            let reason = masked.map_or_else(String::new, |term| format!("`{}`: {}", term.name, term.reason));
            return Err(TrainError::NothingJudged { steps: steps_without_a_verdict, reason });
        }
        if refreshed(trainer.learner.optimizer.updates) > refreshed(state.updates) {
            trainer.learner.refresh_reference(b);
        }
        state = TrainerState {
            step: state.step + 1,
            updates: trainer.learner.optimizer.updates,
            tokens: state.tokens + metrics.tokens as u64,
            ..state
        };
        let step = state.step;
        let due = config.eval.as_ref().is_some_and(|e| step.is_multiple_of(e.every) || step == config.steps);
        let eval = if due { trainer.evaluate(step, &mut on)? } else { None };
        let metrics = Metrics { eval, ..metrics };
        run.write_rollouts(step, trainer.rollout_lines(step, &samples))?;
        run.write_metrics(&metrics)?;
        on(Event::Step(&metrics));
        let stopping = stop.load(Ordering::Relaxed);
        if step.is_multiple_of(config.checkpoint_every) || step == config.steps || stopping {
            let learner = &trainer.learner;
            let reference = learner.reference().filter(|_| refreshed(state.updates) > 0);
            let (policy, optimizer, kept) = (&learner.policy, &learner.optimizer, config.checkpoints_kept);
            let path;
            (path, digest) =
                run.save_checkpoint(b, policy, reference, optimizer, &state, &config.model, kept)?;
            on(Event::Checkpoint { path: &path, digest: &digest });
        }
        if stopping && step < config.steps {
            return Ok(RunSummary { step, stopped: true, model: None, digest });
        }
    }
    let lineage = Lineage {
        stage: "rl",
        base_model: config.model.clone(),
        base_model_sha256: state.model_sha256.clone(),
        data: config.data.clone(),
        data_sha256: state.data_sha256.clone(),
        config_sha256: state.config_sha256.clone(),
        weights_sha256: String::new(),
        koan_version: env!("CARGO_PKG_VERSION"),
        steps: state.step,
        tokens: state.tokens,
        seconds: run.seconds()?,
    };
    let model = run.finish(b, &trainer.learner.policy, &config.model, &lineage)?;
    Ok(RunSummary { step: state.step, stopped: false, model: Some(model), digest })
}

fn encode(
    tokenizer: &Tokenizer,
    style: &PromptStyle,
    problems: &[Problem],
    max: usize,
) -> Result<Vec<Vec<u32>>, TrainError> {
    let encode = |problem: &Problem| {
        let ids = style.encode(tokenizer, &problem.messages())?;
        match ids.len() {
            0 => Err(TrainError::PromptEmpty { id: problem.id.clone() }),
            tokens if tokens > max => Err(TrainError::PromptTooLong { id: problem.id.clone(), tokens, max }),
            _ => Ok(ids),
        }
    };
    problems.iter().map(encode).collect()
}

/// The state of a checkpoint, if it is one of this config and of these inputs.
fn resumed_state(dir: &Path, fresh: &TrainerState) -> Result<TrainerState, TrainError> {
    let state = run_dir::load_state(dir)?;
    let changed = [
        ("the model", state.model_sha256 != fresh.model_sha256),
        ("the data", state.data_sha256 != fresh.data_sha256),
        ("the config", state.config_sha256 != fresh.config_sha256),
    ];
    match changed.iter().find(|(_, changed)| *changed) {
        Some((what, _)) => Err(TrainError::InputsChanged { path: dir.into(), what }),
        None => Ok(state),
    }
}

impl<B: Backend> Trainer<'_, B> {
    /// Makes step `step`, from 1.
    fn step(&mut self, step: u64, on: &mut impl FnMut(Event)) -> Result<(Metrics, Vec<Sample>), TrainError> {
        let start = Instant::now();
        let (mut samples, generate_s) = self.draw(step, on)?;
        let reward_s = start.elapsed().as_secs_f64() - generate_s;
        let group_size = self.config.rollout.group_size;
        let pieces = self.config.algorithm.pieces();
        let groups: Vec<Range<usize>> =
            (0..samples.len()).step_by(group_size).map(|start| start..start + group_size).collect();
        let mut reward_stds = 0.0;
        let mut zero_spread_groups = 0;
        for group in &groups {
            let group = &mut samples[group.clone()];
            let rewards: Vec<Option<f32>> = group.iter().map(|s| s.judgement.reward).collect();
            let advantages = pieces.advantage.of(&rewards);
            zero_spread_groups += usize::from(advantages.iter().flatten().all(|&a| a == 0.0));
            reward_stds += std(rewards.iter().flatten().copied());
            for (sample, advantage) in group.iter_mut().zip(advantages) {
                let cut = sample.completion.finish_reason == FinishReason::Length;
                sample.advantage = advantage.filter(|_| !(cut && pieces.mask_truncated));
            }
        }
        let train_start = Instant::now();
        let scored: Vec<ScoredGroup> = groups
            .iter()
            .map(|group| ScoredGroup {
                prompt: &self.prompts[samples[group.start].problem],
                completions: samples[group.clone()].iter().map(|s| (&s.completion, s.advantage)).collect(),
            })
            .collect();
        let parts: Vec<&[ScoredGroup]> =
            scored.chunks(scored.len().div_ceil(self.config.algorithm.mini_batches())).collect();
        let per_step = parts.len() * self.config.algorithm.epochs();
        let (mut updates, mut lr) = (Vec::with_capacity(per_step), 0.0);
        for part in parts.iter().cycle().take(per_step) {
            let update = (step - 1) * per_step as u64 + updates.len() as u64;
            lr = self.config.optim.lr_at(update, self.config.steps * per_step as u64);
            updates.push(self.learner.update(self.b, part, &self.config.optim, lr)?);
        }
        let train_s = train_start.elapsed().as_secs_f64();

        let n = samples.len() as f64;
        let mean = |value: &dyn Fn(&Sample) -> f64| samples.iter().map(value).sum::<f64>() / n;
        let decided: Vec<f64> = samples.iter().filter_map(|s| s.judgement.reward).map(f64::from).collect();
        let is_right = |outcome: Outcome| f64::from(outcome == Outcome::Correct);
        let format =
            |s: &Sample| s.judgement.terms.iter().find(|t| t.name == "format").map(|t| is_right(t.outcome));
        let tokens = samples.iter().map(|s| s.completion.token_ids.len()).sum();
        let sum = |value: &dyn Fn(&UpdateSums) -> f64| updates.iter().map(value).sum::<f64>();
        let learned = sum(&|u| u.tokens as f64).max(1.0);
        let metrics = Metrics {
            step,
            loss: sum(&|u| u.loss) / updates.len() as f64,
            reward: decided.iter().sum::<f64>() / (decided.len() as f64).max(1.0),
            reward_std: reward_stds / groups.len() as f64,
            accuracy: mean(&|s| is_right(s.judgement.outcome())),
            format: format(&samples[0]).map(|_| mean(&|s| format(s).unwrap_or(0.0))),
            completion_tokens: tokens as f64 / n,
            truncated: mean(&|s| f64::from(s.completion.finish_reason == FinishReason::Length)),
            entropy: sum(&|u| u.entropy) / learned,
            kl: sum(&|u| u.kl) / learned,
            clip_fraction: sum(&|u| u.clipped as f64) / learned,
            grad_norm: sum(&|u| u.grad_norm) / updates.len() as f64,
            lr,
            zero_spread_groups,
            undecided: samples.len() - decided.len(),
            reflection_words: mean(&|s| reflection_words(&s.text) as f64),
            tokens,
            log_prob_gap: updates[0].log_prob_gap,
            generate_s,
            reward_s,
            train_s,
            step_s: start.elapsed().as_secs_f64(),
            eval: None,
        };
        Ok((metrics, samples))
    }

    /// Draws and judges the completions of a step: group after group, in the order of its problems. Also says how many
    /// seconds of that were drawing.
    fn draw(&mut self, step: u64, on: &mut impl FnMut(Event)) -> Result<(Vec<Sample>, f64), TrainError> {
        let start = Instant::now();
        let (problems, group_size) = (self.config.rollout.problems, self.config.rollout.group_size);
        let chosen = self.chosen(step);
        // Random numbers are keyed by the place in the step, so that a problem drawn twice is sampled twice.
        let prompt = |(place, &i): (usize, &usize)| Prompt {
            ids: self.prompts[i].clone(),
            problem: place as u64,
            samples: group_size,
        };
        let prompts: Vec<Prompt> = chosen.iter().enumerate().map(prompt).collect();
        self.sampling.step = step;
        let (mut done, mut failed) = (0, None);
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let (generate_s, mut judged) = self.rewards.judge_while(threads, |send| {
            self.generator.run(
                self.b,
                &self.learner.policy,
                &prompts,
                &self.sampling,
                |place, sample, completion| {
                    done += 1;
                    on(Event::Drawn { done, of: problems * group_size });
                    match self.tokenizer.decode(&completion.token_ids, true) {
                        Err(e) => failed = Some(e),
                        Ok(text) => send(Job {
                            problem: &self.problems[chosen[place]],
                            completion: text,
                            tokens: completion.token_ids.len(),
                            truncated: completion.finish_reason == FinishReason::Length,
                            key: (place, sample, completion),
                        }),
                    }
                },
            );
            start.elapsed().as_secs_f64()
        });
        if let Some(e) = failed {
            return Err(e.into());
        }
        judged.sort_by_key(|(job, _)| (job.key.0, job.key.1));
        let sample = |(job, judgement): (Job<(usize, usize, Completion)>, Judgement)| {
            let (place, _, completion) = job.key;
            Sample { problem: chosen[place], completion, text: job.completion, judgement, advantage: None }
        };
        Ok((judged.into_iter().map(sample).collect(), generate_s))
    }

    /// The problems of a step: the data in an order of its own each epoch.
    fn chosen(&self, step: u64) -> Vec<usize> {
        let (n, k) = (self.problems.len() as u64, self.config.rollout.problems as u64);
        let first = (step - 1) * k;
        let mut order: (u64, Vec<usize>) = (u64::MAX, Vec::new());
        (first..first + k)
            .map(|i| {
                let epoch = i / n;
                if order.0 != epoch {
                    let key = |p: &usize| uniform(self.config.seed, ORDER_STREAM, epoch, *p as u64, 0);
                    let mut all: Vec<usize> = (0..n as usize).collect();
                    all.sort_by(|a, b| key(a).total_cmp(&key(b)));
                    order = (epoch, all);
                }
                order.1[(i % n) as usize]
            })
            .collect()
    }

    /// Measures the policy on held-out problems, if there are any.
    fn evaluate(&mut self, step: u64, on: &mut impl FnMut(Event)) -> Result<Option<Interval>, TrainError> {
        let Some(eval) = &self.config.eval else { return Ok(None) };
        let sampling = Sampling { temperature: eval.temperature, step: EVAL_STREAM, ..self.sampling.clone() };
        let report = evaluate(
            self.b,
            &self.learner.policy,
            &mut self.generator,
            &self.tokenizer,
            &self.style,
            &self.held_out,
            eval.samples,
            &sampling,
            &self.rewards,
            |_| {},
            |_| {},
        )?;
        on(Event::Eval {
            step,
            interval: report.pass_at_1,
            completion_tokens: report.completion_tokens,
            seconds: report.seconds,
        });
        Ok(Some(report.pass_at_1))
    }

    fn rollout_lines<'s>(
        &'s self,
        step: u64,
        samples: &'s [Sample],
    ) -> impl Iterator<Item = RolloutLine<'s>> {
        let group_size = self.config.rollout.group_size;
        samples.iter().enumerate().map(move |(i, s)| {
            let problem = &self.problems[s.problem];
            RolloutLine {
                step,
                id: &problem.id,
                sample: i % group_size,
                prompt: problem.messages(),
                completion: &s.text,
                answer: &problem.answer,
                meta: problem.meta.as_ref(),
                finish_reason: s.completion.finish_reason.name(),
                completion_tokens: s.completion.token_ids.len(),
                log_prob_sum: s.completion.log_probs.iter().map(|&p| f64::from(p)).sum(),
                rewards: &s.judgement.terms,
                reward: s.judgement.reward,
                advantage: s.advantage,
            }
        })
    }
}

fn reflection_words(text: &str) -> usize {
    let words = text.split(|c: char| !c.is_alphabetic());
    words.filter(|word| REFLECTION_WORDS.iter().any(|r| r.eq_ignore_ascii_case(word))).count()
}

fn std(values: impl Iterator<Item = f32>) -> f64 {
    let values: Vec<f64> = values.map(f64::from).collect();
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n.max(1.0);
    (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0)).sqrt()
}
