//! The suite that holds a backend to the [`Reference`]: every operation, forward and backward.
//!
//! [`run`] checks
//! - each value against the reference's, within a bound derived from the sizes and the roundoff of that
//!   value's own sums (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1):
//!   `k · u · Σ |aᵢ bᵢ|`, not a magic 1e-3;
//! - that outputs are written in full and not beyond: activations are longer than needed, NaN follows what is
//!   read, and markers follow what is written;
//! - that a row's bits depend on that row alone: each batch is run again in pieces, in other orders, and row
//!   by row. For attention that is a row decoded against a cache, its keys elsewhere, against the same row of
//!   a packed forward;
//! - that sampling draws the right token and reports the bits of the forward's log-probability.
//!
//! [`same_bits`] runs the same cases on two backends, such as one with a thread and one with two. Sizes stand
//! at the edges of tiles, and are odd. [`Counting`] is a backend for the tests of those who use one: it counts what
//! crosses to the device, and how often it is waited for.

mod attention;
mod bias;
mod columns;
mod counting;
mod divergence;
mod experts;
mod heads;
mod linear;
mod log_prob;
mod mixture;
mod rms_norm;
mod rope;
mod rows;
mod swiglu;
mod values;
mod vectors;

pub use counting::{Counting, Counts};

use crate::{Backend, ProductPrecision, Reference};
use linear::Linear;
use std::cell::Cell;

/// Unit roundoff of f32: half the distance from 1 to the next number.
const ROUNDOFF: f64 = 1.0 / (1 << 24) as f64;
/// Roundings that an exponential, and what it takes to normalise it, may cost.
const EXP_ROUNDINGS: f64 = 16.0;
/// Below this, numbers may be flushed to zero on the way: exponentials underflow at 2⁻¹²⁶.
const FLUSHED: f64 = 1e-32;
/// Sizes around the edges of tiles and vectors, and odd ones.
const EDGES: [usize; 13] = [1, 2, 5, 6, 7, 15, 16, 17, 31, 33, 63, 65, 130];

/// In what a backend holds the operands of its products: of matrix products, and of scores and probabilities
/// in attention. They are accumulated in f32, and everything else is f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Operands are f32.
    F32,
    /// Operands are rounded to bf16.
    Bf16,
}

impl Precision {
    /// Relative error of an operand; `short` ones have no more significant bits than bf16 holds.
    fn operand(self, short: bool) -> f64 {
        match self {
            Self::Bf16 if !short => 1.0 / 256.0, // 8 significant bits, to nearest
            _ => 0.0,
        }
    }
}

/// Error of a sum of `k` products by the sum of their magnitudes, each operand having the relative error
/// `operand`.
fn sum_of_products(k: usize, operand: f64) -> f64 {
    1.01 * ((k + 2) as f64 * ROUNDOFF + 2.0 * operand + operand * operand)
}

/// What an operation left in one of its outputs.
struct Output {
    name: &'static str,
    /// Whether each row of the batch has a result of its own here, rather than all rows a sum.
    by_row: bool,
    /// Whether products read it: it is then rounded to their precision.
    rounded: bool,
    values: Vec<f32>,
}

/// An operation, forward and backward, with the inputs of one call.
trait Case: Sized {
    /// The operation and its sizes, for messages.
    fn name(&self) -> String;
    /// The outputs on backend `b`.
    fn run<B: Backend>(&self, b: &B) -> Vec<Output>;
    /// The error allowed each value of each output of [`run`](Self::run).
    fn allowed(&self, precision: Precision) -> Vec<Vec<f64>>;
    /// Rows in the batch.
    fn rows(&self) -> usize;
    /// The case with a batch of the given rows, in that order.
    fn select(&self, rows: &[usize]) -> Self;
}

/// What is required of every case.
trait Requirement {
    fn check(&self, case: impl Case);
}

/// A requirement of one case in `every`.
struct OneIn<R> {
    every: usize,
    seen: Cell<usize>,
    of: R,
}

impl<R> OneIn<R> {
    fn new(every: usize, of: R) -> Self {
        Self { every, seen: Cell::new(0), of }
    }
}

impl<R: Requirement> Requirement for OneIn<R> {
    fn check(&self, case: impl Case) {
        let number = self.seen.replace(self.seen.get() + 1);
        if number.is_multiple_of(self.every) {
            self.of.check(case);
        }
    }
}

/// The parts of the suite, by the names that [`run_some`] takes.
pub const OPERATIONS: [&str; 16] = [
    "vectors",
    "rows",
    "linear",
    "bias",
    "rms_norm",
    "rope",
    "heads",
    "columns",
    "swiglu",
    "attention",
    "log_prob",
    "sample",
    "divergence",
    "route",
    "experts",
    "weighted_swiglu",
];

fn every_case(operation: &str, requirement: &impl Requirement) {
    match operation {
        "vectors" => vectors::cases().for_each(|case| requirement.check(case)),
        "rows" => rows::cases().for_each(|case| requirement.check(case)),
        "linear" => linear::cases().for_each(|case| requirement.check(case)),
        "bias" => bias::cases().for_each(|case| requirement.check(case)),
        "rms_norm" => rms_norm::cases().for_each(|case| requirement.check(case)),
        "rope" => rope::cases().for_each(|case| requirement.check(case)),
        "heads" => heads::cases().for_each(|case| requirement.check(case)),
        "columns" => columns::cases().for_each(|case| requirement.check(case)),
        "swiglu" => swiglu::cases().for_each(|case| requirement.check(case)),
        "attention" => attention::cases().for_each(|case| requirement.check(case)),
        "log_prob" => log_prob::log_prob_cases().for_each(|case| requirement.check(case)),
        "sample" => log_prob::sample_cases().for_each(|case| requirement.check(case)),
        "divergence" => divergence::cases().for_each(|case| requirement.check(case)),
        "route" => experts::route_cases().for_each(|case| requirement.check(case)),
        "experts" => experts::experts_cases().for_each(|case| requirement.check(case)),
        "weighted_swiglu" => experts::swiglu_cases().for_each(|case| requirement.check(case)),
        _ => panic!("the suite has no {operation:?}; it has {OPERATIONS:?}"),
    }
}

/// Holds `backend`, whose products are of `precision`, to the reference and to the promises of [`Backend`].
///
/// # Panics
/// With the case, the element and the error allowed, where it fails.
pub fn run<B: Backend>(backend: &B, precision: Precision) {
    for operation in OPERATIONS {
        run_some(backend, precision, operation, 1);
    }
}

/// [`run`] of one of [`OPERATIONS`], and of one case in `every`.
///
/// # Panics
/// As [`run`] does.
pub fn run_some<B: Backend>(backend: &B, precision: Precision, operation: &str, every: usize) {
    every_case(operation, &OneIn::new(every, Specification { backend, precision }));
    match operation {
        "linear" => {
            let of_device = linear::cases().filter(|case| case.precision() == ProductPrecision::Device);
            of_device.step_by(every).for_each(|case| check_cut(backend, precision, &case));
        }
        "experts" => {
            experts::check_not_finite(backend);
            mixture::check(backend, every);
        }
        "route" => experts::check_in_turn(backend),
        _ => {}
    }
}

/// The rows of a weight's gradient are summed in their order, so that cutting them in two calls changes
/// nothing; but products of bf16 may be added in pairs of rows, of which a cut makes others.
fn check_cut<B: Backend>(backend: &B, precision: Precision, case: &Linear) {
    let rows: Vec<usize> = (0..case.rows()).collect();
    let (first, second) = rows.split_at(rows.len() / 2);
    let cut = Linear::backward_weight(&[case.chosen(first), case.chosen(second)], backend).values;
    let whole = Linear::backward_weight(std::slice::from_ref(case), backend).values;
    let (name, what) = (case.name(), "dw, its rows cut in two calls");
    match precision {
        Precision::F32 => assert_same_bits(&name, what, &cut, &whole),
        Precision::Bf16 => assert_close(&name, what, &cut, &whole, &case.allowed(precision)[2]),
    }
}

/// Requires the same bits of `a` and `b`, everywhere.
///
/// # Panics
/// With the case and the element, where they differ.
pub fn same_bits<A: Backend, B: Backend>(a: &A, b: &B) {
    for operation in OPERATIONS {
        same_bits_some(a, b, operation, 1);
    }
}

/// [`same_bits`] of one of [`OPERATIONS`], and of one case in `every`.
///
/// # Panics
/// As [`same_bits`] does.
pub fn same_bits_some<A: Backend, B: Backend>(a: &A, b: &B, operation: &str, every: usize) {
    every_case(operation, &OneIn::new(every, SameBits { a, b }));
}

struct SameBits<'a, A, B> {
    a: &'a A,
    b: &'a B,
}

impl<A: Backend, B: Backend> Requirement for SameBits<'_, A, B> {
    fn check(&self, case: impl Case) {
        for (a, b) in case.run(self.a).iter().zip(case.run(self.b)) {
            assert_same_bits(&case.name(), a.name, &a.values, &b.values);
        }
    }
}

struct Specification<'a, B> {
    backend: &'a B,
    precision: Precision,
}

impl<B: Backend> Requirement for Specification<'_, B> {
    fn check(&self, case: impl Case) {
        let name = case.name();
        let got = case.run(self.backend);
        for ((got, want), mut allowed) in
            got.iter().zip(case.run(&Reference)).zip(case.allowed(self.precision))
        {
            if got.rounded {
                let of_rounding = self.precision.operand(false);
                let rounded = allowed.iter_mut().zip(&want.values);
                rounded
                    .for_each(|(allowed, want)| *allowed += of_rounding * (f64::from(want.abs()) + *allowed));
            }
            assert_close(&name, got.name, &got.values, &want.values, &allowed);
        }
        for batch in batches(case.rows()) {
            let part = case.select(&batch).run(self.backend);
            for (whole, part) in got.iter().zip(part).filter(|(whole, _)| whole.by_row) {
                let want = values::pick(&whole.values, case.rows(), &batch);
                let what = format!("{}, rows {batch:?} of the batch on their own", whole.name);
                assert_same_bits(&name, &what, &part.values, &want);
            }
        }
    }
}

/// Other batches of the rows of a batch of `n`: backwards, every other, some repeated, none,
/// and a few alone.
fn batches(n: usize) -> Vec<Vec<usize>> {
    let every_other = (0..n).step_by(2).collect();
    let repeated = (0..35).map(|i| (i * i) % n.min(9)).collect();
    let alone = (0..n).step_by(n / 9 + 1).map(|row| vec![row]);
    [(0..n).rev().collect(), every_other, repeated, Vec::new()].into_iter().chain(alone).collect()
}

fn assert_close(case: &str, what: &str, got: &[f32], want: &[f32], allowed: &[f64]) {
    assert!(got.len() == want.len() && got.len() == allowed.len(), "{case}: {what}: length");
    for (i, ((&got, &want), &allowed)) in got.iter().zip(want).zip(allowed).enumerate() {
        let error = (f64::from(got) - f64::from(want)).abs();
        let allowed = allowed + ROUNDOFF * f64::from(want.abs()) + FLUSHED; // the reference is rounded too
        assert!(
            error <= allowed || got.to_bits() == want.to_bits(),
            "{case}: {what}[{i}] is {got:e}, want {want:e} (off {error:e}, allowed {allowed:e})"
        );
    }
}

fn assert_same_bits(case: &str, what: &str, got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len(), "{case}: {what}: length");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!(got.to_bits() == want.to_bits(), "{case}: {what}[{i}] is {got:e}, want the bits of {want:e}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_meets_its_own_specification() {
        run(&Reference, Precision::F32);
        same_bits(&Reference, &Reference);
    }
}
