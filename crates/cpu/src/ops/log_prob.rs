//! The output head fused with log-softmax: log-probability and entropy of given tokens, their gradient, and
//! sampling.
//!
//! ```text
//! l = x Wᵀ / temperature            log_sum_exp = ln Σᵥ exp lᵥ
//! log_prob = l[target] − log_sum_exp     entropy = log_sum_exp − Σᵥ pᵥ lᵥ
//! ```
//!
//! The vocabulary is cut into chunks of [`CHUNK`] columns. A task computes the logits of [`TASK_ROWS`] rows
//! by one chunk in scratch, 128 KB, and leaves a [`Partial`] for each row, 16 bytes of the 2 KB that its
//! logits took. A row's partials are combined in the order of the chunks, in f64. Sampling chooses a chunk by
//! the partials and computes its logits once more, which a product does to the same bits; a draw that cuts
//! tokens off (top-k, top-p, min-p) sees all logits of its row instead. The backward goes
//! through the vocabulary in chunks of [`BACKWARD_CHUNK`].

use koan_backend::{AlignedVec, Draw, Store};

use super::product::{Block, Panels, View, multiply, multiply_on_the_fly, pack_on_the_fly};
use crate::{
    kernels::Kernels,
    parallel::{Disjoint, Threads, grown, with_scratch},
    simd::Simd,
};

/// Columns of a chunk of the vocabulary; whole panels of every instruction set.
const CHUNK: usize = 512;

/// Rows of a task.
const TASK_ROWS: usize = 64;

/// Columns of the vocabulary for which the backward holds the gradient of all rows' logits at once.
const BACKWARD_CHUNK: usize = 2 * CHUNK;

/// What one chunk's logits of a row come to.
#[derive(Clone, Copy)]
pub(crate) struct Partial {
    /// The greatest.
    max: f32,
    /// Σ exp(l − max)
    sum: f32,
    /// Σ exp(l − max) · (l − max)
    weighted: f32,
}

/// Multiplies `logits` by `inverse_temperature`, and sums them up.
#[inline(always)]
pub(crate) fn partial<S: Simd>(s: S, logits: &mut [f32], inverse_temperature: f32) -> Partial {
    const NOTHING: f32 = -1e30; // finite, so that exp(l − max) · (l − max) is 0
    let factor = s.splat(inverse_temperature);
    let mut max = s.splat(f32::NEG_INFINITY);
    for logits in logits.chunks_mut(S::LANES) {
        s.store(logits, s.mul(s.load(logits), factor));
        max = s.max(s.load_or(logits, NOTHING), max);
    }
    let max = s.greatest(max);
    let (shift, mut sum, mut weighted) = (s.splat(max), s.splat(0.0), s.splat(0.0));
    for logits in logits.chunks(S::LANES) {
        let l = s.sub(s.load_or(logits, NOTHING), shift);
        let e = s.exp(l);
        sum = s.add(sum, e);
        weighted = s.mul_add(e, l, weighted);
    }
    Partial { max, sum: s.sum(sum), weighted: s.sum(weighted) }
}

/// Turns `logits` into `−d · inverse_temperature · p`: their gradient, but for the target's.
#[inline(always)]
pub(crate) fn gradient<S: Simd>(
    s: S,
    logits: &mut [f32],
    inverse_temperature: f32,
    d: f32,
    log_sum_exp: f32,
) {
    let (factor, shift) = (s.splat(inverse_temperature), s.splat(log_sum_exp));
    let d = s.splat(-d * inverse_temperature);
    for logits in logits.chunks_mut(S::LANES) {
        let p = s.exp(s.sub(s.mul(s.load(logits), factor), shift));
        s.store(logits, s.mul(p, d));
    }
}

/// eˣ of every number.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: &mut [f32]) {
    for x in x.chunks_mut(S::LANES) {
        s.store(x, s.exp(s.load(x)));
    }
}

/// The partials of all rows, `[chunks, rows]`, each with the target's logit where the chunk holds it.
struct Partials<'a> {
    values: &'a [f32],
    rows: usize,
}

impl<'a> Partials<'a> {
    /// Numbers of a partial and a target's logit.
    const LEN: usize = 4;

    /// Computes those of `x` by the vocabulary `w`, logits being multiplied by their row's `inverse_temperature`. With no
    /// targets, the targets' logits are not written; with `keep` `[rows, vocabulary]`, all logits go there.
    fn compute(
        kernels: &Kernels,
        threads: &Threads,
        scratch: &'a mut AlignedVec<f32>,
        x: View<'_>,
        w: Panels<'_>,
        targets: Option<&[u32]>,
        inverse_temperature: impl Fn(usize) -> f32 + Sync,
        keep: Option<Disjoint<'_>>,
    ) -> Self {
        let (rows, row_blocks) = (x.rows(), x.rows().div_ceil(TASK_ROWS));
        let chunks = w.columns().div_ceil(CHUNK);
        let values = grown(scratch, chunks * rows * Self::LEN);
        let shared = Disjoint::new(values);
        threads.run(chunks * row_blocks, |task| {
            let (chunk, first) = (task / row_blocks, task % row_blocks * TASK_ROWS);
            let x = x.part(first, TASK_ROWS.min(rows - first), 0, w.k());
            let start = (chunk * rows + first) * Self::LEN;
            // SAFETY: the rows of this chunk are this task's alone.
            let values = unsafe { shared.slice(start..start + x.rows() * Self::LEN) };
            with_logits(kernels, x, chunk_of(w, chunk), |logits, columns| {
                let rows = logits.chunks_exact_mut(columns).zip(values.chunks_exact_mut(Self::LEN));
                for (i, (logits, values)) in rows.enumerate() {
                    let Partial { max, sum, weighted } =
                        kernels.log_prob_partial(logits, inverse_temperature(first + i));
                    if let Some(keep) = &keep {
                        let start = (first + i) * w.columns() + chunk * CHUNK;
                        // SAFETY: the row's logits of this chunk are this task's alone.
                        unsafe { keep.slice(start..start + columns) }.copy_from_slice(logits);
                    }
                    let target = targets.and_then(|t| (t[first + i] as usize).checked_sub(chunk * CHUNK));
                    let target = target.and_then(|target| logits.get(target)).copied();
                    values.copy_from_slice(&[max, sum, weighted, target.unwrap_or(f32::NAN)]);
                }
            });
        });
        Self { values, rows }
    }

    /// Those of a row, in the order of the chunks.
    fn of(&self, row: usize) -> impl Iterator<Item = Partial> {
        let values = self.values.chunks_exact(Self::LEN).skip(row).step_by(self.rows);
        values.map(|v| Partial { max: v[0], sum: v[1], weighted: v[2] })
    }

    /// The logit of a row's target.
    fn target(&self, row: usize, target: u32) -> f32 {
        self.values[(target as usize / CHUNK * self.rows + row) * Self::LEN + 3]
    }

    fn totals(&self, row: usize) -> Totals {
        let max = self.of(row).fold(f64::NEG_INFINITY, |max, p| max.max(f64::from(p.max)));
        let (mut sum, mut weighted) = (0.0, 0.0);
        for p in self.of(row) {
            let shift = f64::from(p.max) - max;
            sum += shift.exp() * f64::from(p.sum);
            weighted += shift.exp() * (f64::from(p.weighted) + shift * f64::from(p.sum));
        }
        Totals { max, sum, weighted }
    }
}

/// A row's sums over the vocabulary: `max`, Σ exp(l − max), Σ exp(l − max) · (l − max).
struct Totals {
    max: f64,
    sum: f64,
    weighted: f64,
}

impl Totals {
    fn log_sum_exp(&self) -> f64 {
        self.max + self.sum.ln()
    }

    fn entropy(&self) -> f64 {
        self.sum.ln() - self.weighted / self.sum
    }

    fn log_prob(&self, logit: f32) -> f32 {
        (f64::from(logit) - self.log_sum_exp()) as f32
    }
}

/// The panels of a chunk.
fn chunk_of(w: Panels<'_>, chunk: usize) -> Panels<'_> {
    w.part(chunk * CHUNK, CHUNK.min(w.columns() - chunk * CHUNK))
}

/// Lends the products of `x` with the columns of `w`, and the number of columns.
fn with_logits(kernels: &Kernels, x: View<'_>, w: Panels<'_>, f: impl FnOnce(&mut [f32], usize)) {
    let (rows, columns) = (x.rows(), w.columns());
    let len = rows * columns;
    with_scratch(len + (kernels.scratch_len)(rows, w.k()), |scratch| {
        let (logits, scratch) = scratch.split_at_mut(len);
        // SAFETY: the block is all of `logits`, which nothing else holds.
        let block = unsafe { Block::new(&Disjoint::new(logits), 0, columns, rows, columns) };
        kernels.multiply(block, x, w, Store::Write, scratch);
        f(logits, columns);
    });
}

/// Writes the log-probabilities of `targets`, the entropies, and the logarithms of the sums for [`backward`].
pub(crate) fn forward(
    kernels: &Kernels,
    threads: &Threads,
    [log_probs, entropy, log_sum_exp]: [&mut [f32]; 3],
    x: View<'_>,
    w: Panels<'_>,
    targets: &[u32],
    temperature: f32,
    scratch: &mut AlignedVec<f32>,
) {
    let inverse = |_| temperature.recip();
    let partials = Partials::compute(kernels, threads, scratch, x, w, Some(targets), inverse, None);
    let outputs = [(log_probs, TASK_ROWS), (entropy, TASK_ROWS), (log_sum_exp, TASK_ROWS)];
    threads.chunks(outputs, |task, [log_probs, entropy, log_sum_exp]| {
        for i in 0..log_probs.len() {
            let row = task * TASK_ROWS + i;
            let totals = partials.totals(row);
            log_probs[i] = totals.log_prob(partials.target(row, targets[row]));
            entropy[i] = totals.entropy() as f32;
            log_sum_exp[i] = totals.log_sum_exp() as f32;
        }
    });
}

/// The weights of the output head: as they are, and packed.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a> {
    pub(crate) w: View<'a>,
    pub(crate) packed: Panels<'a>,
}

/// Memory of the backward: the gradient of logits, `x` packed, and rows of `w` packed.
pub(crate) struct Scratch<'a> {
    pub(crate) logits: &'a mut AlignedVec<f32>,
    pub(crate) x: &'a mut AlignedVec<f32>,
    pub(crate) w: &'a mut AlignedVec<f32>,
}

/// What the backward reads of each row: the gradient of its log-probability, its target, and what the forward
/// saved.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) d_log_probs: &'a [f32],
    pub(crate) targets: &'a [u32],
    pub(crate) log_sum_exp: &'a [f32],
}

/// Writes `dx = dl W`, adds `dlᵀ x` to `dw`, with `dlᵥ = d_log_prob ([v = target] − pᵥ) / temperature`.
pub(crate) fn backward(
    kernels: &Kernels,
    threads: &Threads,
    dx: &mut [f32],
    dw: &mut [f32],
    rows: Rows<'_>,
    x: View<'_>,
    head: Head<'_>,
    temperature: f32,
    scratch: Scratch<'_>,
) {
    let (n, vocab, features) = (x.rows(), head.packed.columns(), head.packed.k());
    let packed_x = pack_on_the_fly(kernels, threads, scratch.x, x);
    let mut store = Store::Write;
    for first in (0..vocab).step_by(BACKWARD_CHUNK) {
        let width = BACKWARD_CHUNK.min(vocab - first);
        let dl = grown(scratch.logits, n * width);
        logit_gradients(kernels, threads, dl, rows, x, head.packed.part(first, width), first, temperature);
        let dl = View::new(dl, n, width);
        let dw = &mut dw[first * features..][..width * features];
        multiply(kernels, threads, dw, dl.transposed(), packed_x, Store::Add);
        let w = head.w.part(first, width, 0, features);
        multiply_on_the_fly(kernels, threads, dx, dl, w, store, scratch.w);
        store = Store::Add;
    }
}

/// Writes `dl` for the columns `w` of the vocabulary, of which `first` is the first.
fn logit_gradients(
    kernels: &Kernels,
    threads: &Threads,
    dl: &mut [f32],
    rows: Rows<'_>,
    x: View<'_>,
    w: Panels<'_>,
    first: usize,
    temperature: f32,
) {
    let (n, width, inverse_temperature) = (x.rows(), w.columns(), temperature.recip());
    let chunks = width.div_ceil(CHUNK);
    let dl = Disjoint::new(dl);
    threads.run(n.div_ceil(TASK_ROWS) * chunks, |task| {
        let (row, chunk) = (task / chunks * TASK_ROWS, task % chunks);
        let x = x.part(row, TASK_ROWS.min(n - row), 0, w.k());
        with_logits(kernels, x, chunk_of(w, chunk), |logits, columns| {
            for (i, logits) in logits.chunks_exact_mut(columns).enumerate() {
                let (row, column) = (row + i, first + chunk * CHUNK);
                let (d, target) = (rows.d_log_probs[row], rows.targets[row] as usize);
                kernels.log_prob_gradient(logits, inverse_temperature, d, rows.log_sum_exp[row]);
                if let Some(l) = target.checked_sub(column).and_then(|target| logits.get_mut(target)) {
                    *l += d * inverse_temperature;
                }
                let start = row * width + chunk * CHUNK;
                // SAFETY: the rows and columns of this task are its alone.
                unsafe { dl.slice(start..start + columns) }.copy_from_slice(logits);
            }
        });
    });
}

/// What [`sample`] writes: a row's token, its log-probability under the distribution it was drawn from, and under
/// the whole one.
pub(crate) struct Drawn<'a> {
    pub(crate) tokens: &'a mut [u32],
    pub(crate) log_probs: &'a mut [f32],
    pub(crate) full_log_probs: &'a mut [f32],
}

/// Memory of sampling: partials, and the logits of rows that truncate.
pub(crate) struct SampleScratch<'a> {
    pub(crate) partials: &'a mut AlignedVec<f32>,
    pub(crate) logits: &'a mut AlignedVec<f32>,
}

/// Draws a token a row. Logits of all the vocabulary are kept where rows truncate, of [`TASK_ROWS`] rows at a
/// time.
pub(crate) fn sample(
    kernels: &Kernels,
    threads: &Threads,
    drawn: Drawn<'_>,
    x: View<'_>,
    w: Panels<'_>,
    draws: &[Draw],
    scratch: SampleScratch<'_>,
) {
    let truncate = draws.iter().any(Draw::truncates);
    let block = if truncate { TASK_ROWS } else { x.rows().max(1) };
    let Drawn { tokens, log_probs, full_log_probs } = drawn;
    let (tokens, log_probs) = (Disjoint::new(tokens), Disjoint::new(log_probs));
    let full_log_probs = Disjoint::new(full_log_probs);
    for first in (0..x.rows()).step_by(block) {
        let x = x.part(first, block.min(x.rows() - first), 0, w.k());
        let draws = &draws[first..first + x.rows()];
        let inverse = |row: usize| draws[row].temperature_of_log_prob().recip();
        let kept = grown(scratch.logits, if truncate { x.rows() * w.columns() } else { 0 });
        let (keep, logits) = (truncate.then(|| Disjoint::new(kept)), w.columns());
        let partials = Partials::compute(kernels, threads, scratch.partials, x, w, None, inverse, keep);
        threads.run(x.rows(), |row| {
            let (totals, draw) = (partials.totals(row), &draws[row]);
            let (token, log_prob, full) = match &keep {
                Some(kept) if draw.truncates() => {
                    // SAFETY: every task has written its logits, and the row is this task's alone.
                    let logits = unsafe { kept.slice(row * logits..(row + 1) * logits) };
                    draw_kept(logits, &totals, draw)
                }
                _ => {
                    let x = x.part(row, 1, 0, w.k());
                    let (token, log_prob) = draw_any(kernels, x, w, partials.of(row), &totals, draw);
                    (token, log_prob, log_prob)
                }
            };
            let row = first + row;
            // SAFETY: the row is this task's alone.
            unsafe {
                tokens.slice(row..row + 1)[0] = token as u32;
                log_probs.slice(row..row + 1)[0] = log_prob;
                full_log_probs.slice(row..row + 1)[0] = full;
            }
        });
    }
}

/// Draws a row's token from the whole distribution: the token, and its log-probability.
fn draw_any(
    kernels: &Kernels,
    x: View<'_>,
    w: Panels<'_>,
    partials: impl Iterator<Item = Partial>,
    totals: &Totals,
    draw: &Draw,
) -> (usize, f32) {
    let greedy = draw.temperature == 0.0;
    let (chunk, rest) = if greedy {
        let mut partials = partials;
        (partials.position(|p| f64::from(p.max) == totals.max).unwrap_or(0), 0.0)
    } else {
        choose_chunk(partials, totals, draw.uniform)
    };
    let mut drawn = (0, f32::NAN);
    with_logits(kernels, x, chunk_of(w, chunk), |logits, _| {
        let inverse_temperature = draw.temperature_of_log_prob().recip();
        let max = kernels.log_prob_partial(logits, inverse_temperature).max;
        let i = if greedy {
            logits.iter().position(|&l| l == max).unwrap_or(0)
        } else {
            choose_token(kernels, logits, max, rest)
        };
        drawn = (chunk * CHUNK + i, totals.log_prob(logits[i]));
    });
    drawn
}

/// Draws a row's token from those of its logits that `draw` keeps: the token, its log-probability under what is
/// kept, and under all.
fn draw_kept(logits: &[f32], totals: &Totals, draw: &Draw) -> (usize, f32, f32) {
    let weight = |(_, l): &(usize, f32)| (f64::from(*l) - totals.max).exp();
    let mut kept = likeliest(logits, totals, draw);
    kept.truncate(draw.kept(kept.iter().map(weight), totals.sum));
    kept.sort_unstable_by_key(|(token, _)| *token);
    let sum: f64 = kept.iter().map(weight).sum();
    let (mut rest, mut last) = (draw.uniform * sum, None);
    for candidate in kept.iter().filter(|candidate| weight(candidate) > 0.0) {
        last = Some(*candidate);
        rest -= weight(candidate);
        if rest < 0.0 {
            break;
        }
    }
    let (token, logit) = last.unwrap_or((0, f32::NAN)); // no number among the logits
    (token, (f64::from(logit) - totals.max - sum.ln()) as f32, totals.log_prob(logit))
}

/// The likeliest tokens with their logits, by rank, and at least those that `draw` keeps.
fn likeliest(logits: &[f32], totals: &Totals, draw: &Draw) -> Vec<(usize, f32)> {
    const FIRST_DEPTH: f32 = 8.0; // of a sharp distribution, a few hundred tokens lie as near to the greatest
    let mut depth = FIRST_DEPTH;
    loop {
        let floor = totals.max as f32 - depth;
        let near = logits.iter().copied().enumerate().filter(|(_, l)| *l >= floor);
        let mut near: Vec<(usize, f32)> = near.collect();
        let enough = if draw.top_k > 0 {
            near.len() >= draw.top_k
        } else {
            let mass: f64 = near.iter().map(|(_, l)| (f64::from(*l) - totals.max).exp()).sum();
            mass >= f64::from(draw.top_p) * totals.sum || f64::from(-depth).exp() < f64::from(draw.min_p)
        };
        if enough || depth == f32::INFINITY {
            near.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            return near;
        }
        depth = if depth < 64.0 { 2.0 * depth } else { f32::INFINITY };
    }
}

/// The first chunk at whose end the cumulative distribution exceeds `uniform`, and by how much `uniform`
/// exceeds it at the chunk's beginning, in units of `exp(chunk's max)`.
fn choose_chunk(partials: impl Iterator<Item = Partial>, totals: &Totals, uniform: f64) -> (usize, f64) {
    let (mut rest, mut last) = (uniform * totals.sum, (0, f64::INFINITY));
    for (chunk, p) in partials.enumerate() {
        let scale = (f64::from(p.max) - totals.max).exp();
        let mass = scale * f64::from(p.sum);
        if mass > rest {
            return (chunk, rest / scale);
        }
        if mass > 0.0 {
            last = (chunk, f64::INFINITY); // roundoff may leave a rest: the last token with a chance takes it
        }
        rest -= mass;
    }
    last
}

/// The first token of a chunk at which Σ exp(l − max) exceeds `rest`, or the last one with a chance.
fn choose_token(kernels: &Kernels, logits: &[f32], max: f32, rest: f64) -> usize {
    let mut exps = [0.0; CHUNK];
    let exps = &mut exps[..logits.len()];
    for (e, l) in exps.iter_mut().zip(logits) {
        *e = l - max;
    }
    kernels.exp(exps);
    let (mut sum, mut last) = (0.0, 0);
    for (i, &e) in exps.iter().enumerate().filter(|(_, e)| **e > 0.0) {
        sum += f64::from(e);
        last = i;
        if sum > rest {
            break;
        }
    }
    last
}
