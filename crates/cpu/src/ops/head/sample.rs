//! Tokens drawn from the output head's distribution.

use koan_backend::{AlignedVec, Draw};

use super::partials::{CHUNK, Partials, TASK_ROWS, Totals, chunk_of, with_logits};
use crate::{
    kernels::{
        log_prob::Partial,
        product::{Panels, Source},
    },
    memory::{Disjoint, grown},
    parallel::Threads,
    tables::Kernels,
};

/// What [`sample`] writes: a row's token, its log-probability under the distribution it was drawn from, and under
/// the whole one.
pub(crate) struct Drawn<'a> {
    pub(crate) tokens: &'a mut [f32],
    pub(crate) log_probs: &'a mut [f32],
    pub(crate) full_log_probs: &'a mut [f32],
}

/// Memory of sampling: partials, and the logits of rows that truncate.
pub(crate) struct Scratch<'a> {
    pub(crate) partials: &'a mut AlignedVec<f32>,
    pub(crate) logits: &'a mut AlignedVec<f32>,
}

/// Draws a token per row. Logits of all the vocabulary are kept where rows truncate, of [`TASK_ROWS`] rows at a
/// time.
pub(crate) fn sample(
    kernels: &Kernels,
    threads: &Threads,
    drawn: Drawn<'_>,
    x: Source<'_>,
    w: Panels<'_>,
    draws: &[Draw],
    scratch: Scratch<'_>,
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
                tokens.slice(row..row + 1)[0] = token as f32; // exact: a vocabulary has at most 2²⁴ tokens
                log_probs.slice(row..row + 1)[0] = log_prob;
                full_log_probs.slice(row..row + 1)[0] = full;
            }
        });
    }
}

/// Draws a row's token from the whole distribution: the token, and its log-probability.
fn draw_any(
    kernels: &Kernels,
    x: Source<'_>,
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
    let (token, logit) = last.unwrap_or((0, f32::NAN)); // every logit is NaN
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
