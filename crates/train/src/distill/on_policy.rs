//! The method `on-policy`: the student samples, and learns each token by what the teacher says of it.
//!
//! ```text
//! for each step:
//!     sample completions of the next problems
//!     A = ln p(y) − ln q(y) of each token y: p the teacher's, one forward; q the student's, as it sampled   (teacher.rs)
//!     one update of the policy by these advantages                                                    (rl::learner)
//! ```
//!
//! In expectation that lowers KL(q‖p) at each token, given those before it: each token answers for itself (discount 0). There
//! are no groups to compare and no reference policy (Qwen3, arXiv:2505.09388, §4.5; Thinking Machines, 2025).

use std::time::Instant;

use koan_backend::{Backend, Divergence, DivergenceForm, Scored, Support};
use koan_data::{Problem, read_problems};
use koan_generate::{Completion, Counters, FinishReason, Finished, Generator, Prompt, Sampling, Stream};
use koan_infer::{Codec, PromptStyle, check_drafts};
use koan_model::{HeadKind, Model, Purpose};
use koan_reward::Judgement;
use serde::Serialize;

use super::{
    DistillConfig, DistillError, DistillState, Event, Metrics, Sampled,
    learner::DivergencePasses,
    teacher::{Teacher, log_probs},
};
use crate::{
    TrainError,
    gradient::Group,
    rl::{
        DraftMetrics, RolloutConfig, RolloutLine, Sample, encode,
        learner::{Learner, ScoredGroup, UpdateSums},
        plan::Plan,
        policy_loss::{Aggregation, Credit, PolicyLoss, Ratio, Surrogate},
    },
    stage::{Batches, Course, GIB, Input, Launch, RunSummary, Session, check_model_and_disk, disk_bytes},
    supervised::{Limits, Piece, next_token::Text, next_token::Update, read_pieces},
};

/// The policy loss: a token weighs by its advantage and its importance ratio, clipped as PPO does; all tokens of an update
/// share one denominator. There is one update a step, so the ratio is 1.
pub(super) fn loss(max_tokens: usize) -> PolicyLoss {
    PolicyLoss {
        ratio: Ratio::Token,
        surrogate: Surrogate::Clip,
        clip_low: 0.2,
        clip_high: 0.2,
        aggregation: Aggregation::TokenMean,
        kl: 0.0,
        max_tokens,
    }
}

/// The advantage of a token that the teacher has no embedding for: students may sample one where their embedding has more
/// rows. What follows it is not learned from.
const UNKNOWN: f64 = -20.0;

/// What a run reads, and what it will hold.
struct Inputs {
    codec: Codec,
    problems: Vec<Problem>,
    /// The tokens of each problem's prompt.
    prompts: Vec<Vec<u32>>,
    held_out: Vec<Piece>,
    plan: Plan,
    /// Tokens of the longest sequence.
    positions: usize,
    memory: String,
}

/// Everything a step works with.
struct Trainer<'a, B: Backend> {
    b: &'a B,
    config: &'a DistillConfig,
    rollout: RolloutConfig,
    inputs: Inputs,
    batches: Batches,
    sampling: Sampling,
    teacher: Model<B>,
    learner: Learner<B>,
}

/// The completions of one problem.
struct Rollout {
    /// Its place in the data.
    problem: usize,
    samples: Vec<Sample>,
    /// Of each sample, the advantages of its tokens: ln p − ln q.
    advantages: Vec<Vec<f64>>,
}

/// A line of a rollout file.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    rollout: RolloutLine<'a>,
    /// ln p − ln q of each token, where tokens are shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    teacher_log_ratios: Option<&'a [f64]>,
}

impl Rollout {
    fn completions(&self) -> impl Iterator<Item = &Completion> {
        self.samples.iter().map(|sample| &sample.completion)
    }
}

/// See [`super::run`].
pub(super) fn run<B: Backend>(
    b: &B,
    config: &DistillConfig,
    launch: Launch,
    on: &mut impl FnMut(Event),
) -> Result<RunSummary, TrainError> {
    launch.ranks.refuse_several("distillation `on-policy` works")?;
    let inputs = Inputs::read(b, config, launch.ranks.ranks())?;
    let mut all = Input::all(&config.stage, config.eval.as_ref().map(|eval| &eval.data))?;
    all.push(Teacher::inputs(config)?);
    let course = Course { stage: "distill", steps: config.steps.unwrap_or(1), inputs: all };
    let mut session = Session::open(b, course, config, launch, DistillState {})?;
    let ended = train(b, config, inputs, &mut session, on);
    session.record_outcome(ended)
}

fn train<B: Backend>(
    b: &B,
    config: &DistillConfig,
    inputs: Inputs,
    session: &mut Session<DistillState>,
    on: &mut impl FnMut(Event),
) -> Result<RunSummary, TrainError> {
    let (rollout, optim) = (config.rollout(), &config.stage.optim);
    let teacher = Teacher::load(b, config, inputs.positions)?;
    let policy = session.load_model(b, inputs.positions)?;
    let optimizer = session.load_optimizer(b, inputs.codec.config())?;
    let (loss, rows) = (loss(rollout.max_new_tokens.most()), inputs.plan.rows);
    let sampling = Sampling {
        temperature: rollout.temperature,
        max_new_tokens: rollout.max_new_tokens.most(),
        stop_ids: inputs.codec.stop_ids(),
        seed: config.stage.seed,
        ..Sampling::default()
    };
    let mut trainer = Trainer {
        b,
        config,
        batches: Batches::new(inputs.problems.len(), config.stage.seed, rollout.problems),
        sampling,
        teacher,
        learner: Learner::new(policy, None, optimizer, loss, rollout.temperature, rows, optim.purpose())
            .sharded(session.shards()?),
        rollout,
        inputs,
    };
    let (step, steps, task) = (session.state().step, session.steps(), config.explain());
    on(Event::Start { step, steps, memory: &trainer.inputs.memory, task: &task });
    while let Some(step) = session.next_step() {
        let (metrics, rollouts) = trainer.step(step, steps, on).map_err(|e| e.in_step(step))?;
        session.write_rollouts(step, trainer.lines(step, &rollouts)?.into_iter())?;
        session.after_step(
            b,
            trainer.learner.trained(false),
            metrics.tokens,
            DistillState {},
            &metrics,
            on,
        )?;
    }
    Ok(session.finish(b, &trainer.learner.policy)?)
}

impl Inputs {
    /// Reads and checks everything that `config` names, the cheapest first.
    fn read<B: Backend>(b: &B, config: &DistillConfig, ranks: usize) -> Result<Self, TrainError> {
        let (stage, rollout) = (&config.stage, config.rollout());
        let style = PromptStyle { raw: rollout.raw, system: rollout.system.clone() };
        let codec = Codec::of(&stage.model, stage.trained_config()?, style)?;
        let (model, tokenizer) = (codec.config(), codec.tokenizer()?);
        let problems = read_problems(&stage.data)?;
        let prompts = encode(&codec, &problems, rollout.max_prompt_tokens)?;
        let limits = Limits { max_tokens: config.max_tokens(), too_long: config.too_long() };
        let held_out = match &config.eval {
            Some(eval) => read_pieces(&eval.data, tokenizer, limits, model)?.pieces,
            None => Vec::new(),
        };
        let longest = prompts.iter().map(Vec::len).max().unwrap_or(1);
        let of_held_out = held_out.iter().map(Piece::rows).max().unwrap_or(1);
        let positions = longest.saturating_add(rollout.max_new_tokens.most()).max(of_held_out);
        let teacher = Teacher::open(config, tokenizer, positions)?;
        let ids = prompts.iter().flatten();
        if let Some(&id) = ids.max().filter(|&&id| id as usize >= teacher.config.vocab_size) {
            let (files, vocab_size) = (stage.data.to_string(), teacher.config.vocab_size);
            return Err(DistillError::NoSuchToken { id, vocab_size, files }.into());
        }
        let of_step = rollout.problems.min(problems.len()).saturating_mul(rollout.group_size);
        let sequences = if rollout.sequences == 0 { of_step } else { rollout.sequences.min(of_step) };
        let limits = koan_generate::Limits {
            sequences,
            prompt_tokens: longest,
            new_tokens: rollout.max_new_tokens.most(),
            drafts: rollout.drafts,
        };
        check_drafts(&stage.model, model, limits.drafts)?;
        let mut plan = Plan::of(b, model, limits, &stage.optim, stage.parts(ranks), false);
        plan.rows = plan.rows.max(of_held_out);
        // The teacher stays; it scores between sampling and learning, and measures after that.
        let scoring = teacher.scoring_bytes(b, plan.rows);
        let measuring = match &config.eval {
            Some(_) => DivergencePasses::bytes(b, [model, &teacher.config], plan.rows, Purpose::Inference),
            None => 0,
        };
        plan.learning = plan.learning.max(scoring as u64).max(measuring as u64);
        plan.weights = plan.weights.saturating_add(teacher.bytes(b) as u64);
        plan.check_memory()?;
        let memory = format!(
            "{}, of the weights the teacher's {:.2}",
            plan.breakdown(),
            teacher.bytes(b) as f64 / GIB
        );
        let disk = disk_bytes(stage.checkpoints_kept, false, model, stage.optim.moments);
        check_model_and_disk(stage, model, &[HeadKind::Language], positions, disk)?;
        Ok(Self { codec, problems, prompts, held_out, plan, positions, memory })
    }
}

impl<B: Backend> Trainer<'_, B> {
    /// Makes step `step`, from 1.
    fn step(
        &mut self,
        step: u64,
        steps: u64,
        on: &mut impl FnMut(Event),
    ) -> Result<(Metrics, Vec<Rollout>), TrainError> {
        let start = Instant::now();
        let (mut rollouts, counters) = self.sample(step, on)?;
        let generate_s = start.elapsed().as_secs_f64();
        self.learner.policy.unpack(self.b);
        self.judge(&mut rollouts)?;
        let judged_s = start.elapsed().as_secs_f64();
        let (optim, lr) = (&self.config.stage.optim, self.config.stage.optim.lr_at(step - 1, steps));
        let scored: Vec<ScoredGroup> = rollouts
            .iter()
            .enumerate()
            .map(|(place, rollout)| ScoredGroup {
                place,
                prompt: &self.inputs.prompts[rollout.problem],
                completions: rollout
                    .completions()
                    .zip(&rollout.advantages)
                    .map(|(completion, advantages)| (completion, Some(Credit::Tokens(advantages))))
                    .collect(),
            })
            .collect();
        let sums = self.learner.update(self.b, &scored, optim, lr)?;
        let step_s = start.elapsed().as_secs_f64();
        let (generate_s, teacher_s, train_s) = (generate_s, judged_s - generate_s, step_s - judged_s);
        let drafts = DraftMetrics::of(counters);
        let sampled = Sampled { drafts, generate_s, teacher_s, train_s, ..found(&rollouts, &sums) };
        let (tokens, grad_norm) = (tokens(&rollouts), sums.grad_norm);
        let update = Update { loss: sums.loss, further_loss: None, tokens, grad_norm };
        let mut metrics = Metrics { sampled: Some(sampled), ..Metrics::of(step, &update, lr, step_s) };
        if self.config.eval.as_ref().is_some_and(|e| step.is_multiple_of(e.every) || step == steps) {
            metrics.eval_loss = Some(self.measure()?);
        }
        Ok((metrics, rollouts))
    }

    /// Samples the completions of the step's problems; says what was computed.
    fn sample(
        &mut self,
        step: u64,
        on: &mut impl FnMut(Event),
    ) -> Result<(Vec<Rollout>, Counters), TrainError> {
        let chosen = self.batches.of_step(step);
        // Random numbers are keyed by the place in the step.
        let prompt = |(place, &i): (usize, &usize)| Prompt {
            ids: self.inputs.prompts[i].clone(),
            problem: place as u64,
            samples: self.rollout.group_size,
        };
        let prompts: Vec<Prompt> = chosen.iter().enumerate().map(prompt).collect();
        self.sampling.stream = Stream::Rollout { step };
        let (of, mut done, mut all) = (chosen.len() * self.rollout.group_size, 0, Vec::new());
        let mut generator = Generator::new(self.b, self.inputs.codec.config(), self.inputs.plan.limits)?;
        let policy = self.learner.packed(self.b)?;
        let counters = generator.run(self.b, policy, &prompts, &self.sampling, |finished| {
            let Finished { request, completion, .. } = finished;
            done += 1;
            on(Event::Completed { done, of });
            all.push((request.problem, request.sample, completion));
        })?;
        all.sort_by_key(|(place, sample, _)| (*place, *sample));
        let mut all = all.into_iter().map(|(_, _, completion)| {
            let text = self.inputs.codec.decode(&completion.token_ids)?;
            let judgement = Judgement { terms: Vec::new(), reward: None };
            Ok::<_, TrainError>(Sample { completion, text, judgement, advantage: None })
        });
        let rollout = |problem| {
            let samples = all.by_ref().take(self.rollout.group_size).collect::<Result<_, _>>()?;
            Ok(Rollout { problem, samples, advantages: Vec::new() })
        };
        let rollouts = chosen.into_iter().map(rollout).collect::<Result<_, TrainError>>()?;
        Ok((rollouts, counters))
    }

    /// Asks the teacher about every token.
    fn judge(&self, rollouts: &mut [Rollout]) -> Result<(), TrainError> {
        let vocab = self.teacher.config().vocab_size;
        let known = |c: &'_ Completion| c.token_ids.iter().take_while(|&&id| (id as usize) < vocab).count();
        let groups: Vec<Group> = rollouts
            .iter()
            .map(|rollout| Group {
                prompt: &self.inputs.prompts[rollout.problem],
                scored: Scored::Completions,
                shard: 0,
                completions: rollout.completions().map(|c| (0, &c.token_ids[..known(c)])).collect(),
            })
            .collect();
        let rows = self.inputs.plan.rows;
        let of_teacher = log_probs(self.b, &self.teacher, &groups, rows, self.rollout.temperature)?;
        if of_teacher.iter().flatten().any(|p| !p.is_finite()) {
            return Err(DistillError::TeacherNotFinite { path: self.config.teacher.clone() }.into());
        }
        let mut of_teacher = of_teacher.into_iter();
        for rollout in rollouts {
            for (sample, p) in rollout.samples.iter_mut().zip(of_teacher.by_ref()) {
                let q = &sample.completion.log_probs;
                let mut advantages: Vec<f64> = p.iter().zip(q).map(|(p, &q)| p - f64::from(q)).collect();
                if advantages.len() < q.len() {
                    advantages.push(UNKNOWN);
                    advantages.resize(q.len(), 0.0);
                }
                // What the completion earned, of all its tokens.
                sample.judgement.reward =
                    Some((advantages.iter().sum::<f64>() / advantages.len().max(1) as f64) as f32);
                rollout.advantages.push(advantages);
            }
        }
        Ok(())
    }

    /// The mean reverse divergence at the tokens of held-out demonstrations.
    fn measure(&self) -> Result<f64, TrainError> {
        let (form, support) = (DivergenceForm::Reverse, Support::Whole);
        let of = Divergence { form, temperature: self.rollout.temperature, support };
        let (student, teacher) = (&self.learner.policy, &self.teacher);
        let (configs, rows) = ([student.config(), teacher.config()], self.inputs.plan.rows);
        let mut passes = DivergencePasses::new(self.b, configs, rows, Purpose::Inference, of)?;
        let texts: Vec<Text> = self.inputs.held_out.iter().map(Piece::text).collect();
        Ok(passes.mean(self.b, [student, teacher], &texts)?)
    }

    fn lines<'s>(&'s self, step: u64, rollouts: &'s [Rollout]) -> Result<Vec<Line<'s>>, TrainError> {
        let tokenizer = self.rollout.log_probs.then(|| self.inputs.codec.tokenizer()).transpose()?;
        let mut lines = Vec::new();
        for rollout in rollouts {
            let problem = &self.inputs.problems[rollout.problem];
            for (i, (sample, advantages)) in rollout.samples.iter().zip(&rollout.advantages).enumerate() {
                let rollout = RolloutLine::new(step, problem, i, sample, tokenizer)?;
                lines.push(Line { rollout, teacher_log_ratios: tokenizer.map(|_| &advantages[..]) });
            }
        }
        Ok(lines)
    }
}

fn tokens(rollouts: &[Rollout]) -> usize {
    rollouts.iter().flat_map(Rollout::completions).map(|c| c.token_ids.len()).sum()
}

/// What a step found out, without its seconds.
fn found(rollouts: &[Rollout], sums: &UpdateSums) -> Sampled {
    let completions = || rollouts.iter().flat_map(Rollout::completions);
    let (n, tokens) = (completions().count().max(1) as f64, tokens(rollouts).max(1) as f64);
    let cut = completions().filter(|c| c.finish_reason == FinishReason::Length).count();
    let advantage: f64 = rollouts.iter().flat_map(|rollout| &rollout.advantages).flatten().sum();
    let log_q: f64 = completions().flat_map(|c| &c.log_probs).map(|&q| f64::from(q)).sum();
    Sampled {
        teacher_kl: -advantage / tokens,
        teacher_nll: -(log_q + advantage) / tokens,
        completion_tokens: tokens / n,
        truncated: cut as f64 / n,
        entropy: sums.entropy / sums.tokens.max(1) as f64,
        log_prob_gap: sums.log_prob_gap,
        ..Sampled::default()
    }
}
