//! The scheduler: which rows each pass holds.
//!
//! All tokens of a prompt but the last are computed once and their keys stored once (prefill). A sample starts by feeding
//! the prompt's last token; from then on each pass feeds the token that was drawn before. Prefill and decoding share
//! passes: a row's result does not depend on its neighbours, so how rows are scheduled changes no bit of what is drawn.

use std::collections::VecDeque;

use koan_backend::{Backend, Sequence};
use koan_model::{Activations, Batch, Config, Head, KvCache, Model, Purpose};

use crate::uniform;

/// Prompt rows that one pass may hold beside the rows of running sequences: enough to keep products busy.
const PREFILL_ROWS: usize = 256;

/// A prompt and how many completions are wanted of it.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// Its tokens; at least one.
    pub ids: Vec<u32>,
    /// The number that keys its random numbers: its place in the data set.
    pub problem: u64,
    /// Completions wanted.
    pub samples: usize,
}

/// How tokens are drawn.
#[derive(Clone, Debug)]
pub struct Sampling {
    /// Logits are divided by it; 0 takes the likeliest token.
    pub temperature: f32,
    /// A completion is cut at this many tokens.
    pub max_new_tokens: usize,
    /// Tokens that end a completion; the completion keeps the one it ended with.
    pub stop_ids: Vec<u32>,
    /// Keys the random numbers, with `step`.
    pub seed: u64,
    /// Keys the random numbers, with `seed`.
    pub step: u64,
}

/// Why a completion ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended it.
    Stop,
    /// It reached `max_new_tokens`.
    Length,
}

impl FinishReason {
    /// The name used in files: `stop` or `length`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// Tokens drawn for a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// The tokens, with the stop token if there was one.
    pub token_ids: Vec<u32>,
    /// Log-probability of each under the distribution it was drawn from.
    pub log_probs: Vec<f32>,
    /// Why it ended.
    pub finish_reason: FinishReason,
}

/// What a generator is planned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sequences that run at once.
    pub sequences: usize,
    /// Longest prompt, tokens.
    pub prompt_tokens: usize,
    /// Longest completion, tokens.
    pub new_tokens: usize,
}

impl Limits {
    /// A sample's own keys: its prompt's last token, and each token drawn but the last.
    fn slot_rows(&self) -> usize {
        self.new_tokens
    }

    fn pass_rows(&self) -> usize {
        self.sequences + PREFILL_ROWS
    }

    /// A prompt slot and a sample slot for each sequence.
    fn cache_rows(&self) -> usize {
        self.sequences * (self.slot_rows() + self.prompt_tokens)
    }

    /// Bytes of f32 that a generator with these limits holds.
    pub fn bytes(&self, config: &Config) -> usize {
        let activations = Purpose::Inference.numbers_per_row(config);
        let head = 2 * config.hidden_size + 3;
        4 * (self.pass_rows() * activations
            + self.sequences * head
            + self.cache_rows() * KvCache::<koan_backend::Reference>::numbers_per_row(config))
    }
}

/// Draws completions; its memory is planned once and reused.
pub struct Generator<B: Backend> {
    limits: Limits,
    activations: Activations<B>,
    head: Head<B>,
    cache: KvCache<B>,
}

/// A prompt whose keys lie in the cache, or are on their way there.
struct Resident {
    prompt: usize,
    /// First row of its slot.
    base: usize,
    /// Tokens whose keys are there.
    filled: usize,
    /// Samples still to be started.
    waiting: usize,
    /// Samples started and not finished.
    running: usize,
}

/// A completion being drawn.
struct Running {
    resident: usize,
    sample: usize,
    /// First row of its slot.
    base: usize,
    token_ids: Vec<u32>,
    log_probs: Vec<f32>,
}

impl<B: Backend> Generator<B> {
    /// Plans the memory for `limits`.
    pub fn new(b: &B, config: &Config, limits: Limits) -> Self {
        Self {
            limits,
            activations: Activations::new(b, config, limits.pass_rows(), Purpose::Inference),
            head: Head::new(b, config, limits.sequences),
            cache: KvCache::new(b, config, limits.cache_rows()),
        }
    }

    /// What it was planned for.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Draws every completion that `prompts` want, and hands each over as it finishes, with the numbers of its prompt and
    /// sample.
    ///
    /// # Panics
    /// If a prompt or `max_new_tokens` exceeds the limits, or a prompt is empty.
    pub fn run(
        &mut self,
        b: &B,
        model: &Model<B>,
        prompts: &[Prompt],
        sampling: &Sampling,
        mut finished: impl FnMut(usize, usize, Completion),
    ) {
        let limits = self.limits;
        assert!(sampling.max_new_tokens <= limits.new_tokens, "more new tokens than planned");
        assert!(
            prompts.iter().all(|p| (1..=limits.prompt_tokens).contains(&p.ids.len())),
            "a prompt's length"
        );
        if sampling.max_new_tokens == 0 {
            return;
        }
        let prompt_base = limits.sequences * limits.slot_rows();
        let mut sample_slots: Vec<usize> =
            (0..limits.sequences).rev().map(|i| i * limits.slot_rows()).collect();
        let mut prompt_slots: Vec<usize> =
            (0..limits.sequences).rev().map(|i| prompt_base + i * limits.prompt_tokens).collect();
        let mut queue: VecDeque<usize> = (0..prompts.len()).filter(|&p| prompts[p].samples > 0).collect();
        let mut residents: Vec<Option<Resident>> = (0..limits.sequences).map(|_| None).collect();
        let mut running: Vec<Running> = Vec::new();
        loop {
            admit(&mut queue, prompts, &mut residents, &mut running, &mut sample_slots, &mut prompt_slots);
            let mut batch = Batch::default();
            prefill(&mut batch, prompts, &mut residents);
            let (rows, uniforms): (Vec<u32>, Vec<f64>) = running
                .iter()
                .map(|r| {
                    let resident =
                        residents[r.resident].as_ref().expect("a running sample's prompt is resident");
                    let prompt = &prompts[resident.prompt];
                    let row = decode_row(&mut batch, r, resident, &prompt.ids);
                    let token = r.token_ids.len() as u64;
                    (row, uniform(sampling.seed, sampling.step, prompt.problem, r.sample as u64, token))
                })
                .unzip();
            if batch.is_empty() {
                return;
            }
            model.forward(b, &batch, &mut self.activations, Some(&mut self.cache));
            if rows.is_empty() {
                continue;
            }
            let (tokens, log_probs) =
                model.sample(b, &self.activations, &rows, &uniforms, sampling.temperature, &mut self.head);
            let drawn = tokens.into_iter().zip(log_probs);
            running = running
                .into_iter()
                .zip(drawn)
                .filter_map(|(mut r, (token, log_prob))| {
                    r.token_ids.push(token);
                    r.log_probs.push(log_prob);
                    let stop = sampling.stop_ids.contains(&token);
                    if !stop && r.token_ids.len() < sampling.max_new_tokens {
                        return Some(r);
                    }
                    sample_slots.push(r.base);
                    let slot = &mut residents[r.resident];
                    let resident = slot.as_mut().expect("a running sample's prompt is resident");
                    resident.running -= 1;
                    let prompt = resident.prompt;
                    if resident.running + resident.waiting == 0 {
                        prompt_slots.push(resident.base);
                        *slot = None;
                    }
                    let finish_reason = if stop { FinishReason::Stop } else { FinishReason::Length };
                    let Running { token_ids, log_probs, sample, .. } = r;
                    finished(prompt, sample, Completion { token_ids, log_probs, finish_reason });
                    None
                })
                .collect();
        }
    }
}

/// Gives free slots to waiting samples, prompts in their order; a sample starts once its prompt's keys are there.
fn admit(
    queue: &mut VecDeque<usize>,
    prompts: &[Prompt],
    residents: &mut [Option<Resident>],
    running: &mut Vec<Running>,
    sample_slots: &mut Vec<usize>,
    prompt_slots: &mut Vec<usize>,
) {
    let mut spoken_for: usize = residents.iter().flatten().map(|r| r.waiting).sum();
    while spoken_for < sample_slots.len()
        && let Some(free) = residents.iter().position(Option::is_none)
        && let Some(prompt) = queue.pop_front()
    {
        let base = prompt_slots.pop().expect("as many prompt slots as residents");
        let waiting = prompts[prompt].samples;
        residents[free] = Some(Resident { prompt, base, filled: 0, waiting, running: 0 });
        spoken_for += waiting;
    }
    for (i, resident) in residents.iter_mut().enumerate() {
        let Some(r) = resident else { continue };
        let prompt = &prompts[r.prompt];
        while r.waiting > 0
            && r.filled + 1 == prompt.ids.len()
            && let Some(base) = sample_slots.pop()
        {
            let sample = prompt.samples - r.waiting;
            r.waiting -= 1;
            r.running += 1;
            running.push(Running { resident: i, sample, base, token_ids: Vec::new(), log_probs: Vec::new() });
        }
    }
}

/// Adds rows of prompts whose keys are not in the cache yet, up to [`PREFILL_ROWS`].
fn prefill(batch: &mut Batch, prompts: &[Prompt], residents: &mut [Option<Resident>]) {
    for r in residents.iter_mut().flatten() {
        let shared = prompts[r.prompt].ids.len() - 1;
        let take = (shared - r.filled).min(PREFILL_ROWS - batch.len());
        if take == 0 {
            continue;
        }
        let (start, end) = (r.filled, r.filled + take);
        let row = batch.len();
        batch.ids.extend(&prompts[r.prompt].ids[start..end]);
        batch.positions.extend(start as u32..end as u32);
        batch.cache_rows.extend((r.base + start) as u32..(r.base + end) as u32);
        let keys = r.base..r.base + end;
        batch.sequences.push(Sequence { rows: row..row + take, prefix: 0..0, keys });
        r.filled = end;
    }
}

/// Adds the row of a running sample: its last token, or its prompt's last token if none was drawn yet.
fn decode_row(batch: &mut Batch, r: &Running, resident: &Resident, prompt: &[u32]) -> u32 {
    let (shared, drawn) = (prompt.len() - 1, r.token_ids.len());
    let row = batch.len();
    batch.ids.push(r.token_ids.last().copied().unwrap_or(prompt[shared]));
    batch.positions.push((shared + drawn) as u32);
    batch.cache_rows.push((r.base + drawn) as u32);
    batch.sequences.push(Sequence {
        rows: row..row + 1,
        prefix: resident.base..resident.base + shared,
        keys: r.base..r.base + drawn + 1,
    });
    row as u32
}
