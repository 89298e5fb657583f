//! Log-probabilities and entropies of given tokens, and their gradient.

use koan_backend::{AlignedVec, Store};

use super::partials::{CHUNK, Partials, TASK_ROWS, chunk_of, with_logits};
use crate::{
    kernels::product::{Panels, Source},
    memory::{Disjoint, grown},
    ops::product::{OnTheFly, Weights, multiply, multiply_by_weights, pack_on_the_fly},
    parallel::Threads,
    tables::Kernels,
};

/// Columns of the vocabulary for which the backward holds the gradient of all rows' logits at once.
const BACKWARD_CHUNK: usize = 2 * CHUNK;

/// Writes the log-probabilities of `targets`, the entropies, and the logarithms of the sums for [`backward`].
pub(crate) fn forward(
    kernels: &Kernels,
    threads: &Threads,
    [log_probs, entropy, log_sum_exp]: [&mut [f32]; 3],
    x: Source<'_>,
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

/// The weights of the output head: as the gradient of rows reads them, and packed.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a> {
    pub(crate) w: Weights<'a>,
    pub(crate) packed: Panels<'a>,
}

/// Memory of the backward: the gradient of logits, `x` packed, and rows of `w` as they lie and packed.
pub(crate) struct Scratch<'a> {
    pub(crate) logits: &'a mut AlignedVec<f32>,
    pub(crate) x: &'a mut AlignedVec<f32>,
    pub(crate) w: OnTheFly<'a>,
}

/// What the backward reads of each row: the gradient of its log-probability, its target, and what the forward
/// saved.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) d_log_probs: &'a [f32],
    pub(crate) targets: &'a [u32],
    pub(crate) log_sum_exp: &'a [f32],
}

/// Writes `dx = dl W`, adds `dlᵀ x` to `dw`, if it is asked for, with `dlᵥ = d_log_prob ([v = target] − pᵥ) / temperature`.
pub(crate) fn backward(
    kernels: &Kernels,
    threads: &Threads,
    dx: &mut [f32],
    mut dw: Option<&mut [f32]>,
    rows: Rows<'_>,
    x: Source<'_>,
    head: Head<'_>,
    temperature: f32,
    scratch: Scratch<'_>,
) {
    let (n, vocab, features) = (x.rows(), head.packed.columns(), head.packed.k());
    let Scratch { logits, x: of_x, w: OnTheFly { panels, rows: of_w } } = scratch;
    let packed_x = dw.is_some().then(|| pack_on_the_fly(kernels, threads, of_x, x));
    let mut store = Store::Write;
    for first in (0..vocab).step_by(BACKWARD_CHUNK) {
        let width = BACKWARD_CHUNK.min(vocab - first);
        let dl = grown(logits, n * width);
        logit_gradients(kernels, threads, dl, rows, x, head.packed.part(first, width), first, temperature);
        let dl = Source::new(dl, n, width);
        if let (Some(dw), Some(packed_x)) = (&mut dw, packed_x) {
            let dw = &mut dw[first * features..][..width * features];
            multiply(kernels, threads, dw, dl.transposed(), packed_x, Store::Add);
        }
        let (w, memory) = (head.w.part(first, width), OnTheFly { panels, rows: of_w });
        multiply_by_weights(kernels, threads, dx, dl, w, store, memory);
        store = Store::Add;
    }
}

/// Writes `dl` for the columns `w` of the vocabulary, of which `first` is the first.
fn logit_gradients(
    kernels: &Kernels,
    threads: &Threads,
    dl: &mut [f32],
    rows: Rows<'_>,
    x: Source<'_>,
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
