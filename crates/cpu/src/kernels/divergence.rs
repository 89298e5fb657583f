//! Divergence of a row of a student's distribution from a teacher's: its value, and its gradient by the student's logits. Bound
//! by exponentials and logarithms, some twenty instructions per vector each.

use koan_backend::DivergenceForm;

use super::log_prob::{Partial, partial};
use crate::simd::Simd;

/// Elements whose terms are added in f32; sums of such chunks are added in f64.
const CHUNK: usize = 4096;
/// A logit so small that its probability is 0, and yet finite: of what does not count.
pub(crate) const NOTHING: f32 = -1e30;

/// What normalises a row of logits: `l` has the log-probability `(l − max) − ln_sum`.
#[derive(Clone, Copy)]
pub(crate) struct Normalizer {
    /// The greatest logit.
    pub(crate) max: f32,
    /// ln Σ exp(l − max)
    pub(crate) ln_sum: f32,
}

/// Multiplies `logits` by `inverse_temperature`; what normalises them then.
#[inline(always)]
pub(crate) fn normalizer<S: Simd>(s: S, logits: &mut [f32], inverse_temperature: f32) -> Normalizer {
    let (mut max, mut sum) = (f32::NEG_INFINITY, 0.0);
    for logits in logits.chunks_mut(CHUNK) {
        let part: Partial = partial(s, logits, inverse_temperature);
        let larger = max.max(part.max);
        sum = sum * f64::from(max - larger).exp() + f64::from(part.sum) * f64::from(part.max - larger).exp();
        // A NaN among the logits shows in the sum.
        max = larger;
    }
    Normalizer { max, ln_sum: sum.ln() as f32 }
}

/// The divergence of a row, whose logits are multiplied by 1 / temperature already; the student's become the gradient of
/// `weight` times it, the teacher's are used up.
#[inline(always)]
pub(crate) fn row<S: Simd>(
    s: S,
    student: &mut [f32],
    teacher: &mut [f32],
    form: DivergenceForm,
    [of_student, of_teacher]: [Normalizer; 2],
    weight: f32,
) -> f32 {
    let (max_q, ln_sum_q) = (s.splat(of_student.max), s.splat(of_student.ln_sum));
    let (max_p, ln_sum_p) = (s.splat(of_teacher.max), s.splat(of_teacher.ln_sum));
    let (mut value, mut slopes, zero) = (0.0f64, 0.0f64, s.splat(0.0));
    let (b, c) = match form {
        DivergenceForm::JensenShannon { beta } => (s.splat(beta as f32), s.splat((1.0 - beta) as f32)),
        _ => (zero, zero),
    };
    for (student, teacher) in student.chunks_mut(CHUNK).zip(teacher.chunks_mut(CHUNK)) {
        let (mut values, mut of_q) = (zero, zero);
        for (student, teacher) in student.chunks_mut(S::LANES).zip(teacher.chunks_mut(S::LANES)) {
            let ln_q = s.sub(s.sub(s.load_or(student, NOTHING), max_q), ln_sum_q);
            let ln_p = s.sub(s.sub(s.load_or(teacher, NOTHING), max_p), ln_sum_p);
            let (q, ratio) = (s.exp(ln_q), s.sub(ln_p, ln_q));
            match form {
                DivergenceForm::Forward => {
                    let p = s.exp(ln_p);
                    values = s.mul_add(p, ratio, values);
                    s.store(student, s.sub(q, p));
                }
                DivergenceForm::Reverse => {
                    let slope = s.sub(zero, s.mul(q, ratio));
                    values = s.add(values, slope);
                    s.store(student, slope);
                    s.store(teacher, q);
                }
                DivergenceForm::JensenShannon { .. } => {
                    // ln m/q = ln(b p/q + c), with the larger of 1 and p/q taken out.
                    let larger = s.max(ratio, zero);
                    let (to_one, to_ratio) = (s.exp(s.sub(ratio, larger)), s.exp(s.sub(zero, larger)));
                    let ln_m = s.add(larger, s.ln(s.mul_add(b, to_one, s.mul(c, to_ratio))));
                    let slope = s.sub(zero, s.mul(s.mul(c, q), ln_m));
                    let of_p = s.mul(s.mul(b, s.exp(ln_p)), s.sub(ratio, ln_m));
                    values = s.add(values, s.add(of_p, slope));
                    of_q = s.add(of_q, slope);
                    s.store(student, slope);
                    s.store(teacher, q);
                }
            }
        }
        value += f64::from(s.sum(values));
        slopes += f64::from(s.sum(of_q));
    }
    let slopes = match form {
        DivergenceForm::Forward => 0.0, // the gradient has it
        DivergenceForm::Reverse => value,
        DivergenceForm::JensenShannon { .. } => slopes,
    };
    let (slopes, weight) = (s.splat(slopes as f32), s.splat(weight));
    for (student, teacher) in student.chunks_mut(S::LANES).zip(teacher.chunks(S::LANES)) {
        let slope = s.load(student);
        let gradient = match form {
            DivergenceForm::Forward => slope,
            _ => s.sub(slope, s.mul(s.load(teacher), slopes)),
        };
        s.store(student, s.mul(weight, gradient));
    }
    value as f32
}
