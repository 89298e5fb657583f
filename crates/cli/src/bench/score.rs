//! `koan bench score`

use std::{path::PathBuf, time::Instant};

use anyhow::ensure;
use koan_backend::Backend;
use koan_infer::{ScoredText, Scorer};
use serde::Serialize;
use serde_json::json;

use super::{median, peak_memory_bytes, random_tokens};
use crate::device::{Device, Job, Running};

/// Speed of a reward model: answers scored after their prompts
///
/// Random tokens. A model that predicts tokens gets a fresh head, which costs the same.
#[derive(clap::Args)]
#[command(after_help = "Example:
  koan bench score --model models/smollm2 --answers 256 --answer-tokens 128")]
pub(crate) struct ScoreBench {
    /// The model's directory
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    #[command(flatten)]
    shape: ScoreShape,
    /// Rounds measured, after one that is not
    #[arg(long, default_value_t = 3)]
    rounds: u64,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) device: Device,
}

/// What a round scores.
#[derive(Clone, Copy, Debug, Serialize, clap::Args)]
struct ScoreShape {
    /// Answers
    #[arg(long, default_value_t = 256)]
    answers: usize,
    /// Tokens of each answer
    #[arg(long, default_value_t = 128)]
    answer_tokens: usize,
    /// Tokens of each prompt
    #[arg(long, default_value_t = 16)]
    prompt_tokens: usize,
    /// Answers that share a prompt
    #[arg(long, default_value_t = 1)]
    group: usize,
}

impl Job for ScoreBench {
    fn run<B: Backend>(self, b: &B, running: Running) -> anyhow::Result<()> {
        let shape = self.shape;
        let ScoreShape { answers, answer_tokens, prompt_tokens, group } = shape;
        let sizes = [answers, answer_tokens, prompt_tokens, group, self.rounds as usize];
        ensure!(sizes.iter().all(|&n| n > 0), "sizes and --rounds must be at least 1");
        let scorer = Scorer::with_some_head(b, &self.model, prompt_tokens + answer_tokens)?;
        let vocab_size = scorer.config().vocab_size;
        if !self.json {
            let millions = scorer.config().parameters() as f64 / 1e6;
            say!("{running}; {millions:.1} million parameters; {shape:?}")?;
        }
        let mut seconds = Vec::new();
        for round in 0..=self.rounds {
            let tokens = |text: usize, n| random_tokens(round, vocab_size, text as u64, n);
            let text = |i: usize| ScoredText {
                prompt: tokens(answers + i / group, prompt_tokens),
                reply: tokens(i, answer_tokens),
            };
            let texts: Vec<ScoredText> = (0..answers).map(text).collect();
            let start = Instant::now();
            scorer.scores(&texts)?;
            let round_s = start.elapsed().as_secs_f64();
            if !self.json {
                say!("{:8} {round_s:8.3} s", if round == 0 { "warm-up" } else { "round" })?;
            }
            seconds.push(round_s);
        }
        let (round_s, peak) = (median(seconds.split_off(1)), peak_memory_bytes());
        let answers_per_s = answers as f64 / round_s;
        if self.json {
            let result = json!({
                "bench": "score", "device": running.device, "isa": running.isa, "threads": running.threads, "shape": shape, "rounds": self.rounds,
                "round_s": round_s, "answers_per_s": answers_per_s, "peak_memory_bytes": peak,
            });
            say!("{result}")?;
        } else {
            let peak = peak.map_or_else(String::new, |n| format!("   peak {:.2} GB", n as f64 / 1e9));
            say!("median   {round_s:8.3} s   {answers_per_s:.1} answers/s{peak}")?;
        }
        Ok(())
    }
}
