//! Routing, cut into tasks: rows. Where their copies go is sorted on one thread: a few steps a copy.

use koan_backend::{ExpertRows, OutOfMemory, Routing, Sequence};

use crate::{
    memory::{Disjoint, with_scratch},
    ops::operand::Operand,
    parallel::{Threads, task_rows},
    tables::Kernels,
};

/// Added to the sum that weights are divided by.
const EPSILON: f32 = 1e-20;

/// Which experts each row of a pass chose, and by what weights.
#[derive(Debug)]
pub struct Routes {
    /// The experts of each row `[n, per_token]`, ascending.
    pub(crate) chosen: Vec<u32>,
    /// Their weights.
    weights: Vec<f32>,
    /// The weights in the order of copies.
    pub(crate) of_copies: Vec<f32>,
    pub(crate) copies: ExpertRows,
}

impl Routes {
    /// Memory for `rows` rows.
    pub(crate) fn new(rows: usize, of: Routing) -> Result<Self, OutOfMemory> {
        fn with_capacity<T>(len: usize) -> Result<Vec<T>, OutOfMemory> {
            let (mut empty, bytes) = (Vec::new(), len.saturating_mul(size_of::<T>()));
            empty.try_reserve_exact(len).map_err(|_| OutOfMemory::of_host(bytes))?;
            Ok(empty)
        }
        let copies = rows.saturating_mul(of.per_token);
        Ok(Self {
            chosen: with_capacity(copies)?,
            weights: with_capacity(copies)?,
            of_copies: with_capacity(copies)?,
            copies: ExpertRows::new(rows, of)?,
        })
    }

    /// Bytes that they take.
    pub(crate) fn bytes(rows: usize, of: Routing) -> usize {
        rows.saturating_mul(12 * of.per_token).saturating_add(ExpertRows::bytes(rows, of))
    }

    /// The experts of each row, and their weights.
    pub(crate) fn read(&self) -> (Vec<u32>, Vec<f64>) {
        (self.chosen.clone(), self.weights.iter().copied().map(f64::from).collect())
    }
}

impl Routes {
    /// Row `i` of `n` chooses expert `i mod experts`, with weight 1.
    pub(crate) fn in_turn(&mut self, n: usize) {
        let Self { chosen, weights, of_copies, copies } = self;
        copies.sort_in_turn(n);
        chosen.clear();
        chosen.extend((0..n).map(|i| (i % copies.experts()) as u32));
        for weights in [weights, of_copies] {
            weights.clear();
            weights.resize(n, 1.0);
        }
    }
}

/// What a chosen expert's score is divided by.
fn divisor(s: &[f32], chosen: &[u32], of: Routing) -> f32 {
    if of.normalized { chosen.iter().map(|&e| s[e as usize]).sum::<f32>() + EPSILON } else { 1.0 }
}

/// Turns the logits in `scores` into scores, and writes `routes`.
pub(crate) fn forward(
    kernels: &Kernels,
    threads: &Threads,
    routes: &mut Routes,
    scores: &mut [f32],
    bias: Option<&[f32]>,
    of: Routing,
) {
    let Routing { experts, per_token, .. } = of;
    let (n, rows) = (scores.len() / experts, task_rows(experts));
    let Routes { chosen, weights, of_copies, copies } = routes;
    chosen.resize(n * per_token, 0);
    weights.resize(n * per_token, 0.0);
    let (all_chosen, all_weights) = (Disjoint::new(chosen), Disjoint::new(weights));
    threads.chunks([(scores, rows * experts)], |task, [scores]| {
        kernels.scores(scores, experts, of.scoring);
        let part = task * rows * per_token..(task * rows + scores.len() / experts) * per_token;
        // SAFETY: these rows are this task's alone.
        let (chosen, weights) = unsafe { (all_chosen.slice(part.clone()), all_weights.slice(part)) };
        let outputs = chosen.chunks_exact_mut(per_token).zip(weights.chunks_exact_mut(per_token));
        with_scratch(experts, |sums| {
            for ((chosen, weights), s) in outputs.zip(scores.chunks_exact(experts)) {
                of.choose(chosen, sums, s, bias);
                let factor = of.scale / divisor(s, chosen, of);
                weights.iter_mut().zip(&*chosen).for_each(|(w, &e)| *w = factor * s[e as usize]);
            }
        });
    });
    copies.sort(chosen);
    of_copies.resize(n * per_token, 0.0);
    copies.places().iter().zip(&*weights).for_each(|(&i, &w)| of_copies[i as usize] = w);
}

/// What the gradient by the logits is computed of.
#[derive(Clone, Copy)]
pub(crate) struct Backward<'a> {
    pub(crate) routes: &'a Routes,
    pub(crate) of: Routing,
    /// `[n, experts]`
    pub(crate) scores: &'a [f32],
    /// In the order of copies.
    pub(crate) d_weights: &'a [f32],
    pub(crate) balance: f32,
    pub(crate) sequences: &'a [Sequence],
}

/// Writes the gradient by the logits `[n, experts]`.
pub(crate) fn backward(kernels: &Kernels, threads: &Threads, d_logits: &mut Operand, inputs: Backward<'_>) {
    let Backward { routes, of, scores, d_weights, balance, .. } = inputs;
    let Routing { experts, per_token, normalized, scale, scoring, .. } = of;
    let rows = task_rows(experts);
    let shares = Shares::new(&inputs);
    d_logits.produce(kernels, threads, scores.len(), rows * experts, |task, d| {
        for (i, d) in d.chunks_exact_mut(experts).enumerate() {
            let row = task * rows + i;
            let s = &scores[row * experts..][..experts];
            let part = row * per_token..(row + 1) * per_token;
            let (chosen, places) = (&routes.chosen[part.clone()], &routes.copies.places()[part]);
            let divisor = divisor(s, chosen, of);
            let of_chosen = || chosen.iter().zip(places).map(|(&e, &i)| (e as usize, d_weights[i as usize]));
            let mean =
                if normalized { of_chosen().map(|(e, dw)| dw * s[e]).sum::<f32>() / divisor } else { 0.0 };
            d.fill(0.0);
            of_chosen().for_each(|(e, dw)| d[e] = scale / divisor * (dw - mean));
            if let Some(f) = shares.of(row) {
                kernels.balance(d, s, f, balance);
            }
            kernels.through_scores(d, s, scoring);
        }
    });
}

/// `fᵢ = experts / (per_token · T) · |rows that chose i|` of each sequence of `T` rows, if there is a balance.
struct Shares {
    experts: usize,
    /// `[sequences, experts]`
    f: Vec<f32>,
    /// The sequence of each row; none is [`NONE`].
    sequence: Vec<u32>,
}

/// Of a row in no sequence.
const NONE: u32 = u32::MAX;

impl Shares {
    fn new(inputs: &Backward<'_>) -> Self {
        let Backward { routes, of: Routing { experts, per_token, .. }, scores, sequences, balance, .. } =
            *inputs;
        if balance == 0.0 {
            return Self { experts, f: Vec::new(), sequence: Vec::new() };
        }
        let mut f = vec![0.0; sequences.len() * experts];
        let mut sequence = vec![NONE; scores.len() / experts];
        for ((i, s), f) in (0..).zip(sequences).zip(f.chunks_exact_mut(experts)) {
            sequence[s.rows.clone()].fill(i);
            for &e in &routes.chosen[s.rows.start * per_token..s.rows.end * per_token] {
                f[e as usize] += 1.0;
            }
            let one = experts as f32 / (per_token * s.rows.len().max(1)) as f32;
            for f in f {
                *f *= one;
            }
        }
        Self { experts, f, sequence }
    }

    /// Of the sequence of a row.
    fn of(&self, row: usize) -> Option<&[f32]> {
        let sequence = *self.sequence.get(row).filter(|&&sequence| sequence != NONE)?;
        Some(&self.f[sequence as usize * self.experts..][..self.experts])
    }
}

/// Adds to `load` how many rows chose each expert.
pub(crate) fn count(load: &mut [f32], copies: &ExpertRows) {
    load.iter_mut().enumerate().for_each(|(e, load)| *load += copies.of(e).len() as f32);
}
