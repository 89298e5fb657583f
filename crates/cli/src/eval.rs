//! `koan eval`

use std::path::{Path, PathBuf};

use anyhow::ensure;
use koan_backend::Backend;
use koan_data::read_problems;
use koan_eval::{PromptStyle, evaluate};
use koan_generate::{Generator, Limits, Sampling};
use koan_model::checkpoint;
use koan_reward::{BadReference, Context, RewardConfig, Rewards};
use koan_text::Tokenizer;
use serde_json::json;

use crate::{
    device::{Device, Job, Running},
    output::Output,
    progress::Progress,
};

/// Measure a model: accuracy with its confidence interval, tokens, seconds
#[derive(clap::Args)]
#[command(after_help = "Example:
  koan eval --model models/smollm2 --data held-out.jsonl --n 4")]
pub(crate) struct Eval {
    /// The model, a Hugging Face directory
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// The problems, JSON Lines with `prompt` or `messages`, and `answer`
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// The verifier of problems that name none; docs/guide/rewards.md lists them
    #[arg(long, default_value = "math", value_name = "NAME")]
    reward: String,
    /// An option of the verifier, e.g. `--set precision=6`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Completions a problem
    #[arg(long, default_value_t = 1)]
    n: usize,
    /// Logits are divided by it; 0 takes the likeliest token
    #[arg(long, default_value_t = 1.0)]
    temperature: f32,
    /// A completion is cut at this many tokens
    #[arg(long, default_value_t = 256)]
    max_new_tokens: usize,
    /// Keys the random numbers
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Feed prompts as they stand, without the chat template
    #[arg(long)]
    raw: bool,
    /// A system message before every problem that has none
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Sequences drawn at once
    #[arg(long, default_value_t = 64, value_name = "N")]
    sequences: usize,
    /// Where the report goes, one JSON object
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Where judged completions go, JSON Lines
    #[arg(long, value_name = "FILE")]
    completions: Option<PathBuf>,
    #[command(flatten)]
    device: Device,
}

impl Eval {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        self.device.clone().run(self)
    }
}

impl Job for Eval {
    fn run<B: Backend>(self, b: &B, running: Running) -> anyhow::Result<()> {
        ensure!(self.n > 0, "--n must be at least 1");
        ensure!(self.sequences > 0, "--sequences must be at least 1");
        ensure!(self.max_new_tokens > 0, "--max-new-tokens must be at least 1");
        ensure!(self.temperature >= 0.0 && self.temperature.is_finite(), "--temperature must be 0 or more");
        let context = Context { max_new_tokens: Some(self.max_new_tokens), ..Context::default() };
        let rewards = Rewards::build(&[RewardConfig::parse(&self.reward, &self.set)?], context)?;
        let (problems, bad) = rewards.sift(read_problems(&self.data)?)?;
        warn_of_bad_references(&self.data, &bad);
        let tokenizer = Tokenizer::load(&self.model)?;
        let style = PromptStyle { raw: self.raw, system: self.system.clone() };
        let mut longest = 1;
        for problem in &problems {
            longest = longest.max(style.encode(&tokenizer, &problem.messages())?.len());
        }
        let model = checkpoint::load_for_inference(b, &self.model, Some(longest + self.max_new_tokens))?;
        let mut completions = self.completions.as_deref().map(|path| Output::open(Some(path))).transpose()?;
        let limits = Limits {
            sequences: self.sequences.min(problems.len() * self.n),
            prompt_tokens: longest,
            new_tokens: self.max_new_tokens,
        };
        let mut generator = Generator::new(b, model.config(), limits);
        let sampling = Sampling {
            temperature: self.temperature,
            max_new_tokens: self.max_new_tokens,
            stop_ids: model.config().eos_token_ids.iter().copied().chain(tokenizer.eos()).collect(),
            seed: self.seed,
            ..Sampling::default()
        };
        let mut progress = Progress::new("completions", problems.len() * self.n);
        let mut wrote = Ok(());
        let report = evaluate(
            b,
            &model,
            &mut generator,
            &tokenizer,
            &style,
            &problems,
            self.n,
            &sampling,
            &rewards,
            |drawn| progress.set(drawn, ""),
            |judged| {
                let (problem, verdict) = (&problems[judged.problem], &judged.judgement.terms[0]);
                if let (Some(out), Ok(())) = (&mut completions, &wrote) {
                    wrote = out.line(&json!({
                        "id": problem.id, "sample": judged.sample, "prompt": problem.messages(), "answer": problem.answer,
                        "completion": judged.text, "outcome": verdict.outcome, "parsed": verdict.parsed,
                        "reason": verdict.reason, "completion_tokens": judged.completion.token_ids.len(),
                        "finish_reason": judged.completion.finish_reason.name(),
                    }));
                }
            },
        )?;
        wrote?;
        progress.finish();
        if let Some(out) = completions {
            out.finish()?;
        }
        let p = report.pass_at_1;
        println!(
            "accuracy {:.1}% (95% interval {:.1} to {:.1}) on {} problems, {} completions each",
            100.0 * p.accuracy,
            100.0 * p.low,
            100.0 * p.high,
            report.problems,
            report.samples
        );
        println!("{}", report.outcomes);
        println!(
            "{:.1} tokens a completion, {:.1}% cut at {}; {:.1} s, {:.0} tokens/s ({running})",
            report.completion_tokens,
            100.0 * report.truncated,
            self.max_new_tokens,
            report.seconds,
            report.tokens as f64 / report.seconds
        );
        if let Some(path) = &self.out {
            let mut out = Output::open(Some(path))?;
            out.line(&json!({
                "model": self.model, "data": self.data, "reward": self.reward, "temperature": self.temperature,
                "max_new_tokens": self.max_new_tokens, "bad_references": bad, "seed": self.seed, "device": running.to_string(), "report": report,
            }))?;
            out.finish()?;
        }
        Ok(())
    }
}

/// Says on standard error which problems of `data` were left out.
pub(crate) fn warn_of_bad_references(data: &Path, bad: &[BadReference]) {
    const SHOWN: usize = 5;
    if !bad.is_empty() {
        eprintln!("{}: {} problems are left out, their references are bad:", data.display(), bad.len());
    }
    for bad in bad.iter().take(SHOWN) {
        eprintln!("  {}: {}", bad.id, bad.reason);
    }
    if bad.len() > SHOWN {
        eprintln!("  …");
    }
}
