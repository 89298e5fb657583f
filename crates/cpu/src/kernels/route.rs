//! The scores of experts, and their gradient. Bound by the exponential, some twenty instructions per vector.

use koan_backend::Scoring;

use super::log_prob::partial;
use crate::simd::Simd;

/// Turns the logits of rows of `experts` into their scores.
#[inline(always)]
pub(crate) fn scores<S: Simd>(s: S, logits: &mut [f32], experts: usize, scoring: Scoring) {
    match scoring {
        Scoring::Sigmoid => {
            for logits in logits.chunks_mut(S::LANES) {
                s.store(logits, s.sigmoid(s.load(logits)));
            }
        }
        Scoring::Softmax => {
            for row in logits.chunks_exact_mut(experts) {
                let part = partial(s, row, 1.0);
                let (max, inverse) = (s.splat(part.max), s.splat(part.sum.recip()));
                for logits in row.chunks_mut(S::LANES) {
                    s.store(logits, s.mul(s.exp(s.sub(s.load(logits), max)), inverse));
                }
            }
        }
    }
}

/// Adds the gradient of `balance · Σᵢ fᵢ sᵢ / Σⱼ sⱼ` by a row's scores.
#[inline(always)]
pub(crate) fn balance<S: Simd>(s: S, d: &mut [f32], scores: &[f32], f: &[f32], balance: f32) {
    let mut sum = s.splat(0.0);
    for scores in scores.chunks(S::LANES) {
        sum = s.add(sum, s.load(scores));
    }
    let sum = s.sum(sum);
    let (mean, factor) = (s.splat(s.dot(f, scores) / sum), s.splat(balance / sum));
    for (d, f) in d.chunks_mut(S::LANES).zip(f.chunks(S::LANES)) {
        s.store(d, s.mul_add(factor, s.sub(s.load(f), mean), s.load(d)));
    }
}

/// Turns the gradient by a row's scores into that by its logits.
#[inline(always)]
pub(crate) fn through_scores<S: Simd>(s: S, d: &mut [f32], scores: &[f32], scoring: Scoring) {
    let (one, mean) = match scoring {
        Scoring::Sigmoid => (s.splat(1.0), s.splat(0.0)),
        Scoring::Softmax => (s.splat(0.0), s.splat(s.dot(d, scores))),
    };
    for (d, scores) in d.chunks_mut(S::LANES).zip(scores.chunks(S::LANES)) {
        let (ds, p) = (s.load(d), s.load(scores));
        let slope = match scoring {
            Scoring::Sigmoid => s.mul(ds, s.sub(one, p)),
            Scoring::Softmax => s.sub(ds, mean),
        };
        s.store(d, s.mul(p, slope));
    }
}
