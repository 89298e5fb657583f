//! Experts: the copies of rows that go to them, and their products, each over a run of the copies.
//!
//! The products of all experts are one list of tasks, so that small experts leave no thread idle. A B packed on the fly is
//! packed for as many experts at once as [`PANELS`] hold.

use std::ops::Range;

use koan_backend::{AlignedVec, ExpertRows, Store};

use crate::{
    kernels::product::Source,
    memory::Disjoint,
    ops::{
        operand::Operand,
        product::{
            OnTheFly, Packed, Product, Weights, multiply_all, multiply_by_weights, pack_all_on_the_fly,
        },
    },
    parallel::{Threads, task_rows},
    tables::Kernels,
};

/// Elements of the panels that are packed on the fly at once, unless one expert has more: 16 MB.
const PANELS: usize = 1 << 22;

/// What is held of the experts' matrices `[experts, out_features, in_features]`.
#[derive(Clone, Copy)]
pub(crate) enum Matrices<'a> {
    Values(&'a [f32]),
    Packed(&'a Packed),
}

/// What the products of experts compute with.
#[derive(Clone, Copy)]
pub(crate) struct Experts<'a> {
    pub(crate) w: Matrices<'a>,
    /// `[out_features, in_features]`
    pub(crate) shape: [usize; 2],
    pub(crate) copies: &'a ExpertRows,
}

impl<'a> Experts<'a> {
    /// The values of expert `e`'s matrix.
    fn values(self, values: &'a [f32], e: usize) -> Source<'a> {
        let [out, inp] = self.shape;
        Source::new(&values[e * out * inp..], out, inp)
    }
}

/// The experts that have copies.
pub(crate) fn busy(copies: &ExpertRows) -> Vec<usize> {
    (0..copies.experts()).filter(|&e| !copies.of(e).is_empty()).collect()
}

/// Some rows of `x`.
pub(crate) fn part(x: Source<'_>, rows: Range<usize>) -> Source<'_> {
    x.part(rows.start, rows.len(), 0, x.columns())
}

/// Runs `compute` for runs of `experts` whose `len`s come to what is packed at once, or for one of them.
fn in_runs(experts: &[usize], len: impl Fn(usize) -> usize, mut compute: impl FnMut(&[usize])) {
    let (mut start, mut sum) = (0, 0);
    for (i, &e) in experts.iter().enumerate() {
        if i > start && sum + len(e) > PANELS {
            compute(&experts[start..i]);
            (start, sum) = (i, 0);
        }
        sum += len(e);
    }
    if start < experts.len() {
        compute(&experts[start..]);
    }
}

/// `y = x Wᵀ`, or `y += x Wᵀ`.
pub(crate) fn forward(
    kernels: &Kernels,
    threads: &Threads,
    y: &mut [f32],
    x: Source<'_>,
    experts: Experts<'_>,
    store: Store,
    scratch: &mut AlignedVec<f32>,
) {
    let (Experts { w, shape: [out, inp], copies }, busy) = (experts, busy(experts.copies));
    let start = |e: usize| copies.of(e).start * out;
    match w {
        Matrices::Packed(w) => {
            let product =
                |&e| Product { a: part(x, copies.of(e)), b: w.panels_of(kernels, e), start: start(e) };
            let products: Vec<_> = busy.iter().map(product).collect();
            multiply_all(kernels, threads, y, &products, store);
        }
        Matrices::Values(w) => in_runs(
            &busy,
            |_| kernels.format.len(inp, out),
            |run| {
                let w: Vec<_> = run.iter().map(|&e| experts.values(w, e).transposed()).collect();
                let panels = pack_all_on_the_fly(kernels, threads, scratch, &w);
                let product = |(&e, b)| Product { a: part(x, copies.of(e)), b, start: start(e) };
                let products: Vec<_> = run.iter().zip(panels).map(product).collect();
                multiply_all(kernels, threads, y, &products, store);
            },
        ),
    }
}

/// `dx = dy W`, or `dx += dy W`.
pub(crate) fn backward_input(
    kernels: &Kernels,
    threads: &Threads,
    dx: &mut [f32],
    dy: Source<'_>,
    experts: Experts<'_>,
    store: Store,
    memory: OnTheFly<'_>,
) {
    let (Experts { w, shape: [out, inp], copies }, busy) = (experts, busy(experts.copies));
    let OnTheFly { panels, rows } = memory;
    match w {
        Matrices::Packed(w) => {
            for e in busy {
                let (w, memory) = (Weights::Packed(w.panels_of(kernels, e)), OnTheFly { panels, rows });
                let dx = &mut dx[copies.of(e).start * inp..];
                multiply_by_weights(kernels, threads, dx, part(dy, copies.of(e)), w, store, memory);
            }
        }
        Matrices::Values(w) => in_runs(
            &busy,
            |_| kernels.format.len(out, inp),
            |run| {
                let w: Vec<_> = run.iter().map(|&e| experts.values(w, e)).collect();
                let panels = pack_all_on_the_fly(kernels, threads, panels, &w);
                let product =
                    |(&e, b)| Product { a: part(dy, copies.of(e)), b, start: copies.of(e).start * inp };
                let products: Vec<_> = run.iter().zip(panels).map(product).collect();
                multiply_all(kernels, threads, dx, &products, store);
            },
        ),
    }
}

/// `dW += dyᵀ x`; `dw` is `[experts, out_features, in_features]`.
pub(crate) fn backward_weight(
    kernels: &Kernels,
    threads: &Threads,
    dw: &mut [f32],
    dy: Source<'_>,
    x: Source<'_>,
    copies: &ExpertRows,
    scratch: &mut AlignedVec<f32>,
) {
    let (out, inp) = (dy.columns(), x.columns());
    in_runs(
        &busy(copies),
        |e| kernels.format.len(copies.of(e).len(), inp),
        |run| {
            let x: Vec<_> = run.iter().map(|&e| part(x, copies.of(e))).collect();
            let panels = pack_all_on_the_fly(kernels, threads, scratch, &x);
            let product =
                |(&e, b)| Product { a: part(dy, copies.of(e)).transposed(), b, start: e * out * inp };
            let products: Vec<_> = run.iter().zip(panels).map(product).collect();
            multiply_all(kernels, threads, dw, &products, Store::Add);
        },
    );
}

/// `y[n, :] = Σ x[i, :]` over the copies of row `n`, or `+=`.
pub(crate) fn sum_copies(
    kernels: &Kernels,
    threads: &Threads,
    y: &mut [f32],
    x: &[f32],
    copies: &ExpertRows,
    features: usize,
    store: Store,
) {
    let (per_row, rows) = (copies.per_row(), task_rows(features * copies.per_row()));
    threads.chunks([(y, rows * features)], |task, [y]| {
        let places = copies.places()[task * rows * per_row..].chunks_exact(per_row);
        for (y, places) in y.chunks_exact_mut(features).zip(places) {
            if store == Store::Write {
                y.fill(0.0);
            }
            for &i in places {
                kernels.add(y, &x[i as usize * features..][..features]);
            }
        }
    });
}

/// Writes `y`, SwiGLU of copies times their `weights`.
pub(crate) fn weighted_swiglu(
    kernels: &Kernels,
    threads: &Threads,
    y: &mut Operand,
    gate: &[f32],
    up: &[f32],
    weights: &[f32],
    features: usize,
) {
    let rows = task_rows(features);
    y.produce(kernels, threads, gate.len(), rows * features, |task, y| {
        let part = task * rows * features..task * rows * features + y.len();
        kernels.weighted_swiglu_forward(y, &gate[part.clone()], &up[part], &weights[task * rows..], features);
    });
}

/// In place: `gate` and `up` become their gradients, `dy` becomes `y`. Writes `d_weights`.
pub(crate) fn weighted_swiglu_backward(
    kernels: &Kernels,
    threads: &Threads,
    d_weights: &mut [f32],
    operands: [&mut Operand; 3],
    weights: &[f32],
    features: usize,
) {
    let ([dy, gate, up], rows, n) = (operands, task_rows(features), weights.len() * features);
    let values = [&mut *dy, &mut *gate, &mut *up].map(|x| (&mut x.values_mut()[..n], rows * features));
    let d_weights = Disjoint::new(d_weights);
    threads.chunks(values, |task, [dy, gate, up]| {
        let part = task * rows..task * rows + dy.len() / features;
        // SAFETY: these copies are this task's alone.
        let d_weights = unsafe { d_weights.slice(part.clone()) };
        kernels.weighted_swiglu_backward(d_weights, dy, gate, up, &weights[part], features);
    });
    for operand in [dy, gate, up] {
        operand.round(kernels, threads, 0..n);
    }
}
