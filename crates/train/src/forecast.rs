//! How long work will take: what its passes will compute, by the formula of [`Flops`], over how fast this machine computes passes of
//! such a model.
//!
//! The speed is measured with random weights: a model of the same sizes, with fewer layers where it is large, samples for half a
//! second and learns for half a second. So norms, attention, samples and waiting for memory are in it; judging, loading and
//! writing are not.

use std::{sync::Arc, time::Instant};

use koan_backend::{Backend, MomentType, OutOfMemory, Scored};
use koan_generate::{Drafts, Generator, Limits, Request, Sampling};
use koan_model::{Config, Counter, Flops, Model, PassSize, Purpose, TensorInfo, Work};

use crate::{
    gradient::{Group, Loss, Models, PassError, Passes, Scores},
    speed,
};

/// Parameters of the model that is measured, at most, unless a single layer has more.
const MAX_PARAMETERS: usize = 200_000_000;
/// Each measurement ends after the first pass that ends later, seconds.
const ENOUGH_S: f64 = 0.5;
/// Tokens of the prompts and texts that are measured.
const PROMPT: usize = 32;
const TEXT: usize = 96;
/// Sequences that are sampled at once, at most.
const MAX_SEQUENCES: usize = 128;

/// How fast a machine computes passes of a model, operations per second.
#[derive(Clone, Copy, Debug)]
pub struct PassSpeed {
    /// While a token of each sequence is sampled.
    pub sample: f64,
    /// Of long passes forward.
    pub forward: f64,
    /// Of long passes forward and backward.
    pub learn: f64,
    /// Parameters per second of an update.
    pub update: f64,
}

/// What is to be computed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Operations of sampling tokens, one of each sequence after another.
    pub sample: f64,
    /// Of long passes forward: prompts, scores.
    pub forward: f64,
    /// Of long passes forward and backward.
    pub learn: f64,
    /// Parameters that are updated, once for each update.
    pub update: f64,
    /// Tokens that are sampled.
    pub tokens_drawn: f64,
    /// Tokens that are learned from.
    pub tokens_trained: f64,
}

impl Load {
    /// `prompts` prompts of `prompt` tokens, with `samples` completions of `new` tokens each.
    pub fn sampling(flops: &Flops, prompts: f64, prompt: f64, samples: f64, new: f64) -> Self {
        let tokens = prompts * samples * new;
        let of_prompts = PassSize { rows: prompts * prompt, head_rows: 0.0, pairs: prompts * pairs(prompt) };
        let of_tokens = PassSize { rows: tokens, head_rows: tokens, pairs: tokens * (prompt + new / 2.0) };
        Self {
            forward: flops.forward(of_prompts),
            sample: flops.forward(of_tokens),
            tokens_drawn: tokens,
            ..Self::default()
        }
    }

    /// A forward over `texts` texts of `context` tokens and `scored` more, which are scored.
    pub fn scoring(flops: &Flops, texts: f64, context: f64, scored: f64) -> Self {
        Self { forward: flops.forward(of_texts(texts, context, scored)), ..Self::default() }
    }

    /// A forward and a backward over such texts, of which the latter tokens are learned.
    pub fn learning(flops: &Flops, texts: f64, context: f64, learned: f64, recomputes: bool) -> Self {
        let pass = of_texts(texts, context, learned);
        let learn = flops.forward(pass) + flops.backward(pass, recomputes);
        Self { learn, tokens_trained: texts * learned, ..Self::default() }
    }

    /// `updates` updates of the parameters that `model` trains.
    pub fn updates(model: &Config, updates: f64) -> Self {
        Self { update: updates * model.trained_parameters() as f64, ..Self::default() }
    }

    /// This and `other`.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            sample: self.sample + other.sample,
            forward: self.forward + other.forward,
            learn: self.learn + other.learn,
            update: self.update + other.update,
            tokens_drawn: self.tokens_drawn + other.tokens_drawn,
            tokens_trained: self.tokens_trained + other.tokens_trained,
        }
    }

    /// So many times.
    #[must_use]
    pub fn times(self, n: f64) -> Self {
        Self {
            sample: n * self.sample,
            forward: n * self.forward,
            learn: n * self.learn,
            update: n * self.update,
            tokens_drawn: n * self.tokens_drawn,
            tokens_trained: n * self.tokens_trained,
        }
    }

    /// Floating-point operations.
    pub fn flops(&self) -> f64 {
        self.sample + self.forward + self.learn
    }

    /// Seconds at this speed.
    pub fn seconds(&self, speed: &PassSpeed) -> f64 {
        self.sample / speed.sample
            + self.forward / speed.forward
            + self.learn / speed.learn
            + self.update / speed.update
    }
}

/// Pairs of a token and one that it attends to, of a text of `n` tokens.
fn pairs(n: f64) -> f64 {
    n * (n + 1.0) / 2.0
}

fn of_texts(texts: f64, context: f64, scored: f64) -> PassSize {
    let n = context + scored;
    PassSize { rows: texts * n, head_rows: texts * scored, pairs: texts * pairs(n) }
}

impl PassSpeed {
    /// Measures passes of a model of the sizes `model`, with up to `sequences` sampled at once and passes of up to `rows` tokens.
    /// With `learns` false only forward passes are measured, and learning counts as they do.
    ///
    /// # Errors
    /// If the device refuses the memory.
    pub fn measure<B: Backend>(
        b: &B,
        model: &Config,
        sequences: usize,
        rows: usize,
        learns: bool,
        moments: MomentType,
    ) -> Result<Self, PassError> {
        let config = measured(model);
        let rows = rows.clamp(TEXT, b.pass_rows().max(1024));
        let mut seed = 0_u32;
        let mut random = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as f32 / 16_777_216.0 - 0.5
        };
        let values = |info: &TensorInfo| {
            let is_matrix = info.role.is_matrix();
            Ok::<_, OutOfMemory>(
                (0..info.len()).map(|_| if is_matrix { 0.07 * random() } else { 1.0 }).collect::<Vec<f32>>(),
            )
        };
        let mut model = Model::new(b, config.clone(), PROMPT + TEXT, values)?;
        let forward = forward(b, &model, rows)?;
        let learn = if learns { learn(b, &model, rows)? } else { forward };
        model.pack(b)?;
        let sample = sample(b, &model, sequences.clamp(1, MAX_SEQUENCES))?;
        Ok(Self { sample, forward, learn, update: speed::updates(b, moments)? })
    }
}

/// The sizes that are measured: those of `model`, with fewer layers if it is large.
fn measured(model: &Config) -> Config {
    let mut config = Config { adapter: None, head: koan_model::HeadKind::Language, ..model.clone() };
    let all = config.parameters();
    let one = Config { num_hidden_layers: 1, ..config.clone() }.parameters();
    let layer = (all - one) / (config.num_hidden_layers - 1).max(1);
    let room = MAX_PARAMETERS.saturating_sub(one) / layer.max(1);
    config.num_hidden_layers = config.num_hidden_layers.min(1 + room);
    config
}

/// Operations per second of `pass`, which is repeated; the first is not counted.
fn rate<B: Backend>(b: &B, mut pass: impl FnMut() -> Result<(), PassError>) -> Result<f64, PassError> {
    pass()?;
    speed::wait(b);
    let (start, before) = (Instant::now(), Counter::of_this_thread().work());
    loop {
        pass()?;
        speed::wait(b);
        let seconds = start.elapsed().as_secs_f64();
        if seconds > ENOUGH_S {
            let Work { flops, .. } = Counter::of_this_thread().work().since(before);
            return Ok(flops / seconds);
        }
    }
}

/// A loss whose derivative is the same for all tokens.
struct Any;

impl Loss for Any {
    fn derivative(&mut self, _: &[usize], scores: &Scores) -> Vec<f64> {
        vec![1e-6; scores.log_probs.len()]
    }

    fn take(&mut self) -> Vec<f64> {
        Vec::new()
    }

    fn add(&mut self, _: &[f64]) {}
}

/// Tokens of a text, of a vocabulary of `vocab`.
fn tokens(vocab: usize, n: usize) -> Vec<u32> {
    (0..n).map(|i| (i * 7919 % vocab) as u32).collect()
}

fn texts(ids: &[u32], rows: usize) -> Vec<Group<'_>> {
    let group = |i| Group {
        prompt: &ids[..1],
        scored: Scored::Completions,
        shard: 0,
        completions: vec![(i, &ids[1..])],
    };
    (0..(rows / ids.len()).max(1)).map(group).collect()
}

fn forward<B: Backend>(b: &B, model: &Model<B>, rows: usize) -> Result<f64, PassError> {
    let ids = tokens(model.config().vocab_size, TEXT);
    let mut passes = Passes::to_measure(b, model.config(), rows)?;
    let groups = texts(&ids, rows);
    rate(b, || passes.measure(b, Models { trained: model, reference: None }, &groups, &mut Any))
}

fn learn<B: Backend>(b: &B, model: &Model<B>, rows: usize) -> Result<f64, PassError> {
    let ids = tokens(model.config().vocab_size, TEXT);
    let mut passes = Passes::new(b, model.config(), rows, Purpose::Training, 1.0, false)?;
    let groups = texts(&ids, rows);
    rate(b, || passes.accumulate(b, Models { trained: model, reference: None }, &groups, &mut Any))
}

fn sample<B: Backend>(b: &B, model: &Model<B>, sequences: usize) -> Result<f64, PassError> {
    let limits = Limits { sequences, prompt_tokens: PROMPT, new_tokens: TEXT, drafts: Drafts::Off };
    let mut generator = Generator::new(b, model.config(), limits)?;
    let prompt: Arc<[u32]> = tokens(model.config().vocab_size, PROMPT).into();
    let sampling = Sampling { max_new_tokens: TEXT, ..Sampling::default() };
    let fill = |generator: &mut Generator<B>| {
        for sample in 0..sequences as u64 {
            let request = Request {
                prompt: prompt.clone(),
                sampling: sampling.clone(),
                problem: 0,
                sample,
                shows_logits: false,
            };
            generator.submit(request).expect("it was planned for");
        }
    };
    fill(&mut generator);
    // The prompt is computed before, and the first token of each.
    let start = Counter::of_this_thread().work();
    while Counter::of_this_thread().work().since(start).tokens_drawn < sequences as u64 {
        generator.step(b, model)?;
    }
    rate(b, || {
        if !generator.is_busy() {
            fill(&mut generator);
        }
        generator.step(b, model)?;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use koan_cpu::Cpu;
    use koan_model::testkit;

    use super::*;

    #[test]
    fn what_is_counted_before_is_what_passes_compute() {
        let cpu = Cpu::best(Some(1)).expect("a processor");
        let config = testkit::config(64, true);
        let model = testkit::model(&cpu, config.clone(), 1);
        let count = |work: &mut dyn FnMut()| {
            let before = Counter::of_this_thread().work();
            work();
            Counter::of_this_thread().work().since(before)
        };
        let ids = tokens(64, 5);
        let groups = [Group {
            prompt: &ids[..2],
            scored: Scored::Completions,
            shard: 0,
            completions: vec![(0, &ids[2..])],
        }];
        let mut passes = Passes::new(&cpu, &config, 8, Purpose::Training, 1.0, false).expect("memory");
        let done = count(&mut || {
            let models = Models { trained: &model, reference: None };
            passes.accumulate(&cpu, models, &groups, &mut Any).expect("memory");
        });
        // A completion's last token is predicted, never an input.
        let load = Load::learning(&Flops::of(&config), 1.0, 1.0, 3.0, false);
        assert_eq!((done.flops, done.tokens_trained as f64), (load.flops(), load.tokens_trained));
        assert_eq!(load.and(load).flops(), load.times(2.0).flops());
    }

    #[test]
    fn a_large_model_is_measured_with_fewer_layers() {
        let small = testkit::config(64, true);
        assert_eq!(measured(&small).num_hidden_layers, small.num_hidden_layers);
        let large = Config { num_hidden_layers: 80, hidden_size: 4096, intermediate_size: 16384, ..small };
        let measured = measured(&large);
        assert!((1..80).contains(&measured.num_hidden_layers), "{}", measured.num_hidden_layers);
    }

    #[test]
    fn a_tiny_model_is_measured() {
        let cpu = Cpu::best(Some(1)).expect("a processor");
        let config = testkit::config(64, true);
        let speed = PassSpeed::measure(&cpu, &config, 4, 64, true, MomentType::F32).expect("memory");
        let load = Load::sampling(&Flops::of(&config), 3.0, 10.0, 2.0, 5.0).and(Load::updates(&config, 2.0));
        assert_eq!(load.tokens_drawn, 30.0);
        let seconds = load.seconds(&speed);
        assert!(seconds > 0.0 && seconds < 60.0, "{seconds} {speed:?}");
    }
}
