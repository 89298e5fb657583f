//! How long a step will take, before it is made.
//!
//! What a step computes is counted: its products (2 operations per row and weight) and attention (4 per query feature and key;
//! 10 in the backward), each completion as long as it may become. How fast this machine is, is measured: products of the
//! model's own shapes, for a second or two. What is counted divided by what was measured is the estimate. Norms, samples,
//! rewards and waiting are not counted; that few completions reach their longest is not either.

use std::time::Instant;

use koan_backend::{AdamWStep, Backend, Forms, Keep, Matrix, MomentType, OutOfMemory, Store};
use koan_model::{Config, Role, TensorInfo};

use super::RlConfig;

/// Elements of the matrices that are multiplied, at most: more than caches hold, as in a model.
const MAX_ELEMENTS: usize = 1 << 25;
/// Elements of one of them, at most: of a larger one a part is taken.
const MAX_MATRIX: usize = 1 << 22;
/// Rows that are multiplied, at most: beyond it the speed does not change.
const MAX_ROWS: usize = 512;
/// Each measurement ends after the first product that ends later, seconds.
const ENOUGH_S: f64 = 0.5;

/// How fast a machine does what a step is made of.
#[derive(Clone, Copy, Debug)]
pub struct Speed {
    /// Forward products with a row for each sequence that is sampled, operations per second.
    pub sample: f64,
    /// Forward products with many rows, operations per second.
    pub forward: f64,
    /// Products for the gradient of the input, operations per second.
    pub backward_input: f64,
    /// Products for the gradient of the weight, operations per second.
    pub backward_weight: f64,
    /// Parameters per second of an update: the norm, AdamW, packing.
    pub update: f64,
}

impl Speed {
    /// Measures products of `model`'s shapes: with `sequences` rows for sampling, and with `rows` for learning; and an update
    /// with `moments`.
    ///
    /// # Errors
    /// If the device refuses the memory.
    pub fn measure<B: Backend>(
        b: &B,
        model: &Config,
        sequences: usize,
        rows: usize,
        moments: MomentType,
    ) -> Result<Self, OutOfMemory> {
        let shapes = shapes(model);
        let values = |n: usize| (0..n).map(|i| (i * 31 % 61) as f32 / 61.0 - 0.5).collect::<Vec<_>>();
        let forms = Forms { values: true, packed: true };
        let weight = |&[out, inp]: &[usize; 2]| Matrix::new(b, &values(out * inp), [out, inp], forms);
        let mut weights = shapes.iter().map(weight).collect::<Result<Vec<_>, _>>()?;
        let widest = shapes.iter().flatten().copied().max().unwrap_or(1);
        let (sequences, rows) = (sequences.clamp(1, MAX_ROWS), rows.clamp(1, MAX_ROWS));
        let len = rows.max(sequences) * widest;
        let mut x = b.operand(len, Keep::Operand)?;
        b.write_operand(&mut x, &values(len).into_iter().map(f64::from).collect::<Vec<_>>());
        let mut y = b.zeros(len)?;
        let forward = |rows: usize, y: &mut B::Buf| {
            speed(rows, &shapes, |i, _| b.linear_forward(y, &x, &weights[i], rows, Store::Write))
        };
        let [sample, forward] = [sequences, rows].map(|rows| forward(rows, &mut y));
        let backward_input = speed(rows, &shapes, |i, _| {
            b.linear_backward_input(&mut y, &x, &weights[i], rows, Store::Write);
        });
        let backward_weight = speed(rows, &shapes, |i, shape| {
            b.linear_backward_weight(&mut weights[i].values, &x, &x, rows, shape);
        });
        drop(weights);
        Ok(Self { sample, forward, backward_input, backward_weight, update: updates(b, moments)? })
    }
}

/// The shapes of the model's matrices, a large one cut, as many as are measured.
fn shapes(model: &Config) -> Vec<[usize; 2]> {
    let (mut shapes, mut elements) = (Vec::new(), 0);
    for info in model.tensors().iter().rev().filter(|info| info.role.is_product()) {
        let [out, inp] = info.matrix();
        let out = out.min((MAX_MATRIX / inp).max(1));
        if elements + out * inp <= MAX_ELEMENTS || shapes.is_empty() {
            elements += out * inp;
            shapes.push([out, inp]);
        }
    }
    shapes
}

/// Operations per second of `product`, which multiplies `rows` rows by the matrix of a number and shape. The first one is
/// made once before, so that its memory is there.
fn speed(rows: usize, shapes: &[[usize; 2]], mut product: impl FnMut(usize, [usize; 2])) -> f64 {
    product(0, shapes[0]);
    let (start, mut operations) = (Instant::now(), 0.0);
    for (i, &shape) in shapes.iter().enumerate() {
        product(i, shape);
        operations += 2.0 * (rows * shape[0] * shape[1]) as f64;
        if start.elapsed().as_secs_f64() > ENOUGH_S {
            break;
        }
    }
    operations / start.elapsed().as_secs_f64()
}

/// Parameters per second of an update.
fn updates<B: Backend>(b: &B, moments: MomentType) -> Result<f64, OutOfMemory> {
    let side = 1 << (MAX_MATRIX.ilog2() / 2);
    let n = side * side;
    let (mut w, g) = (b.zeros(n)?, b.zeros(n)?);
    let (mut m, mut v) = (b.zero_moment(n, moments)?, b.zero_moment(n, moments)?);
    let mut packed = b.pack(&w, side, side)?;
    let step = AdamWStep {
        lr: 1e-6,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.0,
        grad_scale: 1.0,
        bias_correction1: 0.1,
        bias_correction2: 1e-3,
        rounding_key: 0,
    };
    let mut update = || {
        let start = Instant::now();
        b.sums_of_squares(&[&g]);
        b.adamw_step(&mut w, &mut m, &mut v, &g, step);
        b.repack(&mut packed, &w);
        n as f64 / start.elapsed().as_secs_f64()
    };
    update();
    Ok(update())
}

/// Seconds that a run is expected to take at most, rewards apart.
#[derive(Clone, Copy, Debug)]
pub struct Estimate {
    /// Of sampling the completions of a step, in one round; if `rollout.max_new_tokens` changes by step, with the largest.
    pub generate_s: f64,
    /// Of learning from them.
    pub train_s: f64,
    /// Of one held-out measurement.
    pub eval_s: f64,
    /// Of all steps and all held-out measurements.
    pub total_s: f64,
}

impl Estimate {
    /// Of `config` with a model of the sizes `model`, prompts of `prompt_tokens` on average, and `held_out` held-out
    /// problems.
    pub fn of(config: &RlConfig, model: &Config, speed: &Speed, prompt_tokens: f64, held_out: usize) -> Self {
        let limits = &config.rollout.max_new_tokens;
        let with = |tokens: usize| Self::with(config, model, speed, prompt_tokens, held_out, tokens as f64);
        let longest = with(limits.most());
        let less = |(steps, tokens): (u64, usize)| {
            let Self { generate_s, train_s, .. } = with(tokens);
            steps as f64 * (longest.generate_s + longest.train_s - generate_s - train_s)
        };
        let less: f64 = limits.phases(config.steps).map(less).sum();
        Self { total_s: longest.total_s - less, ..longest }
    }

    /// The same if completions of every step had up to `new` tokens.
    fn with(
        config: &RlConfig,
        model: &Config,
        speed: &Speed,
        prompt_tokens: f64,
        held_out: usize,
        new: f64,
    ) -> Self {
        let (rollout, algorithm) = (&config.rollout, &config.algorithm);
        let (problems, group) = (rollout.problems as f64, rollout.group_size as f64);
        let elements = |is_counted: fn(Role) -> bool| {
            model.tensors().iter().filter(|t| is_counted(t.role)).map(TensorInfo::len).sum::<usize>() as f64
        };
        let head = elements(Role::is_head);
        let layers = elements(Role::is_product) - head;
        let infos = model.tensors();
        let products = infos.iter().filter(|t| t.role.is_product());
        let trained = products.map(TensorInfo::trained_len).sum::<usize>() as f64;
        let trained_head = if model.adapter.is_none() { head } else { 0.0 };
        let features = (model.num_hidden_layers * model.num_attention_heads * model.head_dim) as f64;
        let attention = |keys: f64| 4.0 * keys * features;
        // A prompt is computed once for its group; a token of a completion sees half of the others on average.
        let keys = prompt_tokens + new / 2.0;
        let sampling = |problems: f64, group: f64| {
            let prompt = prompt_tokens * (2.0 * layers + attention(prompt_tokens / 2.0)) / speed.forward;
            let token = (2.0 * (layers + head) + attention(keys)) / speed.sample;
            problems * (prompt + group * new * token)
        };
        let (prompts, tokens) = (problems * prompt_tokens, problems * group * new);
        let rows = prompts + tokens;
        let forward = (rows * 2.0 * layers + tokens * (2.0 * head + attention(keys))) / speed.forward;
        let backward = (rows * 2.0 * layers + tokens * 2.0 * head) / speed.backward_input
            + (rows * 2.0 * (trained - trained_head) + tokens * 2.0 * trained_head) / speed.backward_weight
            + tokens * (2.0 * head + 2.5 * attention(keys)) / speed.forward;
        let again = if config.stage.optim.recompute { rows * 2.0 * layers / speed.forward } else { 0.0 };
        let reference = if config.loss().kl == 0.0 { 0.0 } else { forward };
        let update = model.trained_parameters() as f64 / speed.update * config.updates_per_step() as f64;
        let train_s = algorithm.epochs() as f64 * (forward + backward + again + reference) + update;
        let generate_s = sampling(problems, group);
        let (eval_s, evals) = config.eval.as_ref().map_or((0.0, 0), |eval| {
            let last = u64::from(!config.steps.is_multiple_of(eval.every));
            (sampling(held_out as f64, eval.samples as f64), 1 + config.steps / eval.every + last)
        });
        let total_s = config.steps as f64 * (generate_s + train_s) + evals as f64 * eval_s;
        Self { generate_s, train_s, eval_s, total_s }
    }
}
