//! Divergence of a student from a teacher, cut into tasks: rows.
//!
//! The whole vocabulary is a kernel's work. Of a teacher's likeliest tokens there are few: they are taken out of their row and
//! compared one by one in f64, and the row that is left is one class.

use std::{cmp::Reverse, collections::BinaryHeap};

use koan_backend::{Divergence, Share, Support};

use crate::{
    kernels::divergence::{NOTHING, Normalizer},
    ops::operand::Operand,
    parallel::{Threads, task_rows},
    tables::Kernels,
};

/// Writes the divergence of each row; the student's logits become the gradient of `weight` times it.
pub(crate) fn divergence(
    kernels: &Kernels,
    threads: &Threads,
    d: &mut [f32],
    student: &mut Operand,
    teacher: &mut [f32],
    of: Divergence,
    weight: f64,
    [own, other]: [usize; 2],
) {
    let (n, rows, vocab) = (d.len(), task_rows(own + other), own.min(other));
    let values = &mut student.values_mut()[..n * own];
    threads.chunks([(d, rows), (values, rows * own), (teacher, rows * other)], |_, [d, student, teacher]| {
        let pairs = student.chunks_exact_mut(own).zip(teacher.chunks_exact_mut(other));
        for (d, (student, teacher)) in d.iter_mut().zip(pairs) {
            let (student, unknown) = student.split_at_mut(vocab);
            unknown.fill(0.0);
            *d = row(kernels, student, &mut teacher[..vocab], of, weight / f64::from(of.temperature));
        }
    });
    student.round(kernels, threads, 0..n * own);
}

fn row(kernels: &Kernels, student: &mut [f32], teacher: &mut [f32], of: Divergence, weight: f64) -> f32 {
    let inverse = 1.0 / of.temperature;
    if of.support.tokens(student.len()) < student.len() {
        return likeliest(kernels, student, teacher, of, weight);
    }
    let normalizers = [&mut *student, &mut *teacher].map(|logits| kernels.normalizer(logits, inverse));
    kernels.divergence(student, teacher, of.form, normalizers, weight as f32)
}

/// The divergence by the teacher's likeliest tokens.
fn likeliest(
    kernels: &Kernels,
    student: &mut [f32],
    teacher: &mut [f32],
    of: Divergence,
    weight: f64,
) -> f32 {
    let Divergence { form, temperature, support } = of;
    let own = largest(teacher, support.tokens(teacher.len()));
    let take = |logits: &mut [f32]| -> (Vec<f64>, f64, f64) {
        let taken = own.iter().map(|&v| f64::from(std::mem::replace(&mut logits[v], NOTHING * temperature)));
        let taken: Vec<f64> = taken.map(|z| z / f64::from(temperature)).collect();
        let Normalizer { max, ln_sum } = kernels.normalizer(logits, 1.0 / temperature);
        let rest = f64::from(max) + f64::from(ln_sum);
        let largest = taken.iter().copied().fold(rest, f64::max);
        let sum = taken.iter().chain([&rest]).map(|l| (l - largest).exp()).sum::<f64>();
        (taken, rest, largest + sum.ln())
    };
    let ((z_p, rest_p, total_p), (z_q, rest_q, total_q)) = (take(teacher), take(student));
    let (mut total_p, mut ln_p_rest) = (total_p, rest_p - total_p);
    if matches!(support, Support::Renormalised(_)) {
        let largest = z_p.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        total_p = largest + z_p.iter().map(|z| (z - largest).exp()).sum::<f64>().ln();
        ln_p_rest = f64::NEG_INFINITY;
    }
    let shares: Vec<Share> =
        z_p.iter().zip(&z_q).map(|(p, q)| form.share(p - total_p, q - total_q)).collect();
    let of_rest = form.share(ln_p_rest, rest_q - total_q);
    let slopes = shares.iter().chain([&of_rest]).map(|share| share.slope).sum::<f64>();

    // Each token of the rest has its part of what the rest has as a class.
    let of_class = of_rest.slope - (rest_q - total_q).exp() * slopes;
    kernels.log_prob_gradient(student, 1.0, -(weight * of_class) as f32, rest_q as f32);
    for ((&v, share), z) in own.iter().zip(&shares).zip(&z_q) {
        student[v] = (weight * (share.slope - (z - total_q).exp() * slopes)) as f32;
    }
    (shares.iter().chain([&of_rest]).map(|share| share.value).sum::<f64>()) as f32
}

/// The places of the `k` largest of `logits`, of equal ones the first.
fn largest(logits: &[f32], k: usize) -> Vec<usize> {
    // As they order: of floats by bits that ascend with the values.
    let key = |z: f32| (z.to_bits() as i32) ^ (((z.to_bits() as i32) >> 31) as u32 >> 1) as i32;
    let mut kept = BinaryHeap::with_capacity(k + 1);
    for (v, &z) in logits.iter().enumerate() {
        let ranked = Reverse((key(z), Reverse(v)));
        if kept.len() < k {
            kept.push(ranked);
        } else if kept.peek().is_some_and(|least| ranked < *least) {
            kept.pop();
            kept.push(ranked);
        }
    }
    let mut places: Vec<usize> = kept.into_iter().map(|Reverse((_, Reverse(v)))| v).collect();
    places.sort_unstable();
    places
}
