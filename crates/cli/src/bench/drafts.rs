//! `koan bench drafts`

use std::{path::PathBuf, time::Instant};

use anyhow::ensure;
use koan_backend::Backend;
use koan_data::Message;
use koan_generate::{Completion, Counters, Drafts, Generator, Limits, Prompt, Sampling, Stream};
use koan_infer::{Codec, PromptStyle, plan_generator};
use koan_model::checkpoint;
use serde_json::{Map, json};

use super::{median, random_prompts};
use crate::{
    device::{Device, Job, Running},
    drafts::DraftsArg,
    numbers::count,
};

/// Speed of generation with drafts by that without, in turns; and that both give the same bits
///
/// What drafts gain depends on the text, so give a trained model and a prompt of its kind.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  koan bench drafts --model models/smollm2 --prompt 'Repeat this list, sorted: pear, apple, plum' --temperature 0
  koan bench drafts --model runs/first/model --sequences 64 --json")]
pub(crate) struct DraftsBench {
    /// The model, a Hugging Face directory
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// The prompt of all completions; default: 45 random tokens for each
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// Completions, all at once
    #[arg(long, default_value_t = 1, value_parser = count::<usize>)]
    sequences: usize,
    /// Tokens of each completion: none ends early
    #[arg(long, default_value_t = 256, value_parser = count::<usize>)]
    new_tokens: usize,
    /// Logits are divided by it; 0 takes the likeliest token
    #[arg(long, default_value_t = 1.0)]
    temperature: f32,
    #[command(flatten)]
    drafts: DraftsArg,
    /// Turns measured, after one that is not
    #[arg(long, default_value_t = 3, value_parser = count::<u64>)]
    runs: u64,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) device: Device,
}

/// Tokens of a prompt that is not given.
const RANDOM_PROMPT: usize = 45;

impl DraftsBench {
    /// The prompts of step `step`.
    fn prompts(&self, codec: &Codec, step: u64) -> anyhow::Result<Vec<Prompt>> {
        let Some(prompt) = &self.prompt else {
            let vocab_size = codec.config().vocab_size;
            return Ok(random_prompts(step, vocab_size, RANDOM_PROMPT, self.sequences, 1));
        };
        let ids = codec.encode(&[Message::user(prompt)], &Map::new())?;
        Ok(vec![Prompt { ids, problem: 0, samples: self.sequences }])
    }
}

impl Job for DraftsBench {
    fn run<B: Backend>(self, b: &B, running: Running) -> anyhow::Result<()> {
        let codec = Codec::open(&self.model, PromptStyle::default())?;
        let first = self.prompts(&codec, 1)?;
        let (sequences, new_tokens) = (self.sequences, self.new_tokens);
        let prompt_tokens = first.iter().map(|prompt| prompt.ids.len()).max().unwrap_or(1);
        let positions = prompt_tokens.saturating_add(new_tokens);
        let limits = |drafts| Limits { sequences, prompt_tokens, new_tokens, drafts };
        let source = self.drafts.drafts();
        plan_generator(b, &self.model, codec.config(), positions, limits(source), Some(usize::MAX))?;
        let model = checkpoint::load_to_draft(b, &self.model, positions)?;
        let (mut seconds, mut counters) = ([Vec::new(), Vec::new()], Counters::default());
        for step in 1..=self.runs + 1 {
            let prompts = self.prompts(&codec, step)?;
            let stream = Stream::Bench { step };
            let (max_new_tokens, temperature) = (new_tokens, self.temperature);
            let sampling = Sampling { max_new_tokens, temperature, stream, ..Sampling::default() };
            let mut sampled: [Vec<(u64, u64, Completion)>; 2] = Default::default();
            for (i, drafts) in [Drafts::Off, source].into_iter().enumerate() {
                let mut generator = Generator::new(b, model.config(), limits(drafts))?;
                let start = Instant::now();
                counters = generator.run(b, &model, &prompts, &sampling, |finished| {
                    let request = finished.request;
                    sampled[i].push((request.problem, request.sample, finished.completion));
                })?;
                seconds[i].push(start.elapsed().as_secs_f64());
                sampled[i].sort_by_key(|(problem, sample, _)| (*problem, *sample));
            }
            let [off, with] = &sampled;
            ensure!(off == with, "drafts have changed what is sampled");
            let [off_s, with_s] = [0, 1].map(|i| seconds[i][step as usize - 1]);
            if !self.json {
                let name = if step == 1 { "warm-up" } else { "turn" };
                let drafts = crate::drafts::in_words(counters);
                say!(
                    "{name:8} off {off_s:8.3} s   with drafts {with_s:8.3} s   ratio {:.2}{drafts}",
                    off_s / with_s
                )?;
            }
        }
        let [off_s, with_s] = seconds.map(|mut seconds| median(seconds.split_off(1)));
        let ratio = off_s / with_s;
        if self.json {
            let result = json!({
                "bench": "drafts", "isa": running.isa, "threads": running.threads, "sequences": sequences,
                "prompt_tokens": prompt_tokens, "new_tokens": new_tokens, "temperature": self.temperature,
                "runs": self.runs, "off_s": off_s, "with_drafts_s": with_s, "ratio": ratio,
                "draft_acceptance": counters.draft_acceptance(), "tokens_per_pass": counters.tokens_per_pass(),
            });
            return Ok(say!("{result}")?);
        }
        let tokens_per_s = (sequences * new_tokens) as f64 / with_s;
        Ok(say!(
            "median   {ratio:.2} times the speed without drafts: {tokens_per_s:.1} tokens/s ({running}); the same bits"
        )?)
    }
}
