//! `koan generate`

use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use koan_backend::Backend;
use koan_eval::{PromptStyle, complete, read_prompts};
use koan_generate::{Generator, Limits, Sampling};
use koan_model::checkpoint;
use koan_text::Tokenizer;

use crate::{
    device::{Device, Job, Running},
    output::Output,
    progress::Progress,
};

/// Draw completions for a file of prompts, with token ids and log-probabilities
///
/// Reads JSON Lines with `prompt` (a question), `messages` (a conversation) or `prompt_ids` (tokens), and writes each line
/// again with `prompt_ids` and `completions`: [{`text`, `token_ids`, `logprobs`, `finish_reason`}].
#[derive(clap::Args)]
#[command(after_help = "Example:
  koan generate --model models/smollm2 --input questions.jsonl --out answers.jsonl --temperature 0")]
pub(crate) struct Generate {
    /// The model, a Hugging Face directory
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// The prompts, JSON Lines
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// Where completions go; default: standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Completions a prompt
    #[arg(long, default_value_t = 1)]
    n: usize,
    /// Logits are divided by it; 0 takes the likeliest token
    #[arg(long, default_value_t = 1.0)]
    temperature: f32,
    /// A completion is cut at this many tokens
    #[arg(long, default_value_t = 256)]
    max_new_tokens: usize,
    /// Keys the random numbers: same seed, same completions
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Feed prompts as they stand, without the chat template
    #[arg(long)]
    raw: bool,
    /// A system message before every prompt that has none
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Sequences drawn at once
    #[arg(long, default_value_t = 64, value_name = "N")]
    sequences: usize,
    #[command(flatten)]
    device: Device,
}

impl Generate {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        self.device.clone().run(self)
    }
}

impl Job for Generate {
    fn run<B: Backend>(self, b: &B, _: Running) -> anyhow::Result<()> {
        ensure!(self.n > 0, "--n must be at least 1");
        ensure!(self.sequences > 0, "--sequences must be at least 1");
        ensure!(self.max_new_tokens > 0, "--max-new-tokens must be at least 1");
        ensure!(self.temperature >= 0.0 && self.temperature.is_finite(), "--temperature must be 0 or more");
        let lines = read_prompts(&self.input)?;
        let text = lines.iter().any(|line| line.prompt_ids.is_none());
        let has_tokenizer = self.model.join("tokenizer.json").exists();
        let tokenizer = (text || has_tokenizer).then(|| Tokenizer::load(&self.model)).transpose()?;
        let style = PromptStyle { raw: self.raw, system: self.system.clone() };
        let ids = lines
            .iter()
            .map(|line| match (&line.prompt_ids, &tokenizer) {
                (Some(ids), _) => Ok(ids.clone()),
                (None, Some(tokenizer)) => {
                    let prompt = || line.prompt.iter().map(koan_data::Message::user).collect();
                    let messages = line.messages.clone().unwrap_or_else(prompt);
                    Ok(style.encode(tokenizer, &messages)?)
                }
                (None, None) => bail!("a prompt of text needs a tokenizer"),
            })
            .collect::<anyhow::Result<Vec<Vec<u32>>>>()?;
        let longest = ids.iter().map(Vec::len).max().unwrap_or(0);
        if let Some(i) = ids.iter().position(Vec::is_empty) {
            bail!("prompt {} of `{}` has no tokens", i + 1, self.input.display());
        }
        let model = checkpoint::load(b, &self.model, Some(longest + self.max_new_tokens))
            .context("cannot generate")?;
        let vocab = model.config().vocab_size;
        if let Some(id) = ids.iter().flatten().find(|&&id| id as usize >= vocab) {
            bail!("prompt token {id} is outside of the model's vocabulary of {vocab}");
        }
        let mut out = Output::open(self.out.as_deref())?;
        let sequences = self.sequences.min(lines.len() * self.n);
        let limits = Limits { sequences, prompt_tokens: longest, new_tokens: self.max_new_tokens };
        let mut generator = Generator::new(b, model.config(), limits);
        let eos = tokenizer.as_ref().and_then(Tokenizer::eos);
        let sampling = Sampling {
            temperature: self.temperature,
            max_new_tokens: self.max_new_tokens,
            stop_ids: model.config().eos_token_ids.iter().copied().chain(eos).collect(),
            seed: self.seed,
            step: 0,
        };
        let mut progress = Progress::new("prompts", lines.len());
        // Lines are written in the order of the input, as soon as those before them are there.
        let mut finished: Vec<Option<koan_eval::Completed>> = lines.iter().map(|_| None).collect();
        let (mut done, mut next, mut tokens, mut wrote) = (0, 0, 0, Ok(()));
        let start = std::time::Instant::now();
        complete(b, &model, &mut generator, tokenizer.as_ref(), lines, ids, self.n, &sampling, |i, line| {
            tokens += line.completions.iter().map(|c| c.token_ids.len()).sum::<usize>();
            finished[i] = Some(line);
            done += 1;
            progress.set(done, "");
            while let Some(line) = finished.get_mut(next).and_then(Option::take) {
                if wrote.is_ok() {
                    wrote = out.line(&line);
                }
                next += 1;
            }
        })?;
        wrote?;
        progress.finish();
        let seconds = start.elapsed().as_secs_f64();
        eprintln!("{done} prompts, {tokens} tokens, {seconds:.1} s, {:.0} tokens/s", tokens as f64 / seconds);
        out.finish()
    }
}
