//! `koan bench drafts`

use std::{path::PathBuf, time::Instant};

use anyhow::ensure;
use koan_backend::Backend;
use koan_data::DataFiles;
use koan_generate::{Counters, Drafts, Generator, Limits, Prompt, Sampling, Stream};
use koan_infer::{Codec, PromptStyle, Prompts, plan_generator};
use koan_model::checkpoint;
use serde_json::json;

use super::{median, random_prompts};
use crate::{
    device::{Device, Job, Running},
    drafts::DraftsArg,
    generate::check_completions,
    numbers::count,
};

/// Speed of generation with drafts by that without, in turns; and that both give the same bits
///
/// What drafts gain depends on the text, so give a trained model and prompts of its kind. Completions end where the model
/// ends them; the next begin as those before them end.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  koan bench drafts --model models/smollm2 --prompt 'Repeat this list, sorted: pear, apple, plum' --temperature 0
  koan bench drafts --model runs/v3-tiny/base/model --input runs/v3-tiny/world/held-out.jsonl --drafts multi-token
  koan bench drafts --model runs/first/model --sequences 64 --json")]
pub(crate) struct DraftsBench {
    /// The model, a Hugging Face directory
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// A prompt. Repeatable; default: 45 random tokens for each completion
    #[arg(long, value_name = "TEXT", conflicts_with = "input")]
    prompt: Vec<String>,
    /// Prompts: files, or patterns such as 'a*.jsonl', as `koan generate` reads them
    #[arg(long, value_name = "FILE", num_args = 1..)]
    input: Vec<PathBuf>,
    /// Completions of each prompt; default: one of each of a file, else as many as run at once
    #[arg(long, value_parser = count::<usize>)]
    n: Option<usize>,
    /// Completions at once
    #[arg(long, default_value_t = 1, value_parser = count::<usize>)]
    sequences: usize,
    /// A completion is cut at this many tokens
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
    /// The prompts that are given, or none.
    fn given(&self, codec: &Codec) -> anyhow::Result<Vec<Prompt>> {
        let prompts = if !self.input.is_empty() {
            Prompts::read(&DataFiles::from(self.input.clone()), None, codec)?
        } else if !self.prompt.is_empty() {
            Prompts::of_texts(self.prompt.iter().cloned(), "--prompt", None, codec)?
        } else {
            return Ok(Vec::new());
        };
        let samples = self.n.unwrap_or(if self.input.is_empty() { self.sequences } else { 1 });
        check_completions(prompts.len(), samples)?;
        let prompts = (0..).zip(prompts.ids());
        Ok(prompts.map(|(problem, ids)| Prompt { ids: ids.clone(), problem, samples }).collect())
    }

    /// The prompts of step `step`: those that are `given`, or random ones.
    fn prompts(&self, given: &[Prompt], vocab_size: usize, step: u64) -> Vec<Prompt> {
        if !given.is_empty() {
            return given.to_vec();
        }
        random_prompts(step, vocab_size, RANDOM_PROMPT, self.n.unwrap_or(self.sequences), 1)
    }
}

impl Job for DraftsBench {
    fn run<B: Backend>(self, b: &B, running: Running) -> anyhow::Result<()> {
        let codec = Codec::open(&self.model, PromptStyle::default())?;
        let given = self.given(&codec)?;
        let (sequences, new_tokens) = (self.sequences, self.new_tokens);
        let prompt_tokens = given.iter().map(|prompt| prompt.ids.len()).max().unwrap_or(RANDOM_PROMPT);
        let positions = prompt_tokens.saturating_add(new_tokens);
        let limits = |drafts| Limits { sequences, prompt_tokens, new_tokens, drafts };
        let source = self.drafts.drafts();
        plan_generator(b, &self.model, codec.config(), positions, limits(source), Some(usize::MAX))?;
        let model = checkpoint::load_to_draft(b, &self.model, positions)?;
        let (mut turns, mut counters) = (Vec::new(), Counters::default());
        for step in 1..=self.runs + 1 {
            let prompts = self.prompts(&given, codec.config().vocab_size, step);
            let sampling = Sampling {
                max_new_tokens: new_tokens,
                temperature: self.temperature,
                stop_ids: codec.stop_ids(),
                stream: Stream::Bench { step },
                ..Sampling::default()
            };
            let (mut sampled, mut seconds): ([Vec<_>; 2], _) = (Default::default(), [0.0; 2]);
            // What comes second finds the processor as the first left it: they change places.
            for i in if step % 2 == 1 { [0, 1] } else { [1, 0] } {
                let drafts = [Drafts::Off, source][i];
                let mut generator = Generator::new(b, model.config(), limits(drafts))?;
                let start = Instant::now();
                let counted = generator.run(b, &model, &prompts, &sampling, |finished| {
                    let request = finished.request;
                    sampled[i].push((request.problem, request.sample, finished.completion));
                })?;
                seconds[i] = start.elapsed().as_secs_f64();
                if i == 1 {
                    counters = counted;
                }
                sampled[i].sort_by_key(|(problem, sample, _)| (*problem, *sample));
            }
            let [off, with] = sampled;
            ensure!(off == with, "drafts have changed what is sampled");
            let turn = Turn { seconds, tokens: counters.tokens };
            if !self.json {
                let name = if step == 1 { "warm-up" } else { "turn" };
                let ([off_s, with_s], ratio) = (turn.seconds, turn.ratio());
                let drafts = crate::drafts::in_words(counters);
                say!(
                    "{name:8} off {off_s:8.3} s   with drafts {with_s:8.3} s   ratio {ratio:.2}   {} tokens{drafts}",
                    turn.tokens
                )?;
            }
            turns.push(turn);
        }
        let turns = &turns[1..];
        let of_turns = |f: &dyn Fn(&Turn) -> f64| median(turns.iter().map(f).collect());
        let (ratio, tokens_per_s) = (of_turns(&Turn::ratio), of_turns(&|t| t.tokens as f64 / t.seconds[1]));
        if self.json {
            let [off_s, with_s] = [0, 1].map(|i| of_turns(&|turn| turn.seconds[i]));
            let result = json!({
                "bench": "drafts", "device": running.device, "isa": running.isa, "threads": running.threads, "sequences": sequences,
                "prompt_tokens": prompt_tokens, "new_tokens": new_tokens, "temperature": self.temperature,
                "runs": self.runs, "off_s": off_s, "with_drafts_s": with_s, "ratio": ratio, "tokens_per_s": tokens_per_s,
                "draft_acceptance": counters.draft_acceptance(), "tokens_per_pass": counters.tokens_per_pass(),
            });
            return Ok(say!("{result}")?);
        }
        Ok(say!(
            "median   {ratio:.2} times the speed without drafts: {tokens_per_s:.1} tokens/s ({running}); the same bits"
        )?)
    }
}

/// The same completions without drafts and with them.
struct Turn {
    /// What each took.
    seconds: [f64; 2],
    /// Tokens sampled.
    tokens: usize,
}

impl Turn {
    /// The speed with drafts by that without.
    fn ratio(&self) -> f64 {
        self.seconds[0] / self.seconds[1]
    }
}
