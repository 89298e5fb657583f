//! The logits of the vocabulary's chunks, and what is kept of them.

use koan_backend::{AlignedVec, Store};

use crate::{
    kernels::{
        log_prob::Partial,
        product::{Block, Panels, Source},
    },
    memory::{Disjoint, grown, with_scratch},
    parallel::Threads,
    tables::Kernels,
};

/// Columns of a chunk of the vocabulary; whole panels of every instruction set.
pub(super) const CHUNK: usize = 512;

/// Rows of a task.
pub(super) const TASK_ROWS: usize = 64;

/// The partials of all rows, `[chunks, rows]`, each with the target's logit where the chunk holds it.
pub(super) struct Partials<'a> {
    values: &'a [f32],
    rows: usize,
}

impl<'a> Partials<'a> {
    /// Elements of a partial and a target's logit.
    const LEN: usize = 4;

    /// Computes those of `x` by the vocabulary `w`, logits being multiplied by their row's `inverse_temperature`. With no
    /// targets, the targets' logits are not written; with `keep` `[rows, vocabulary]`, all logits go there.
    pub(super) fn compute(
        kernels: &Kernels,
        threads: &Threads,
        scratch: &'a mut AlignedVec<f32>,
        x: Source<'_>,
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
    pub(super) fn of(&self, row: usize) -> impl Iterator<Item = Partial> {
        let values = self.values.chunks_exact(Self::LEN).skip(row).step_by(self.rows);
        values.map(|v| Partial { max: v[0], sum: v[1], weighted: v[2] })
    }

    /// The logit of a row's target.
    pub(super) fn target(&self, row: usize, target: u32) -> f32 {
        self.values[(target as usize / CHUNK * self.rows + row) * Self::LEN + 3]
    }

    pub(super) fn totals(&self, row: usize) -> Totals {
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
pub(super) struct Totals {
    pub(super) max: f64,
    pub(super) sum: f64,
    weighted: f64,
}

impl Totals {
    pub(super) fn log_sum_exp(&self) -> f64 {
        self.max + self.sum.ln()
    }

    pub(super) fn entropy(&self) -> f64 {
        self.sum.ln() - self.weighted / self.sum
    }

    pub(super) fn log_prob(&self, logit: f32) -> f32 {
        (f64::from(logit) - self.log_sum_exp()) as f32
    }
}

/// The panels of a chunk.
pub(super) fn chunk_of(w: Panels<'_>, chunk: usize) -> Panels<'_> {
    w.part(chunk * CHUNK, CHUNK.min(w.columns() - chunk * CHUNK))
}

/// Lends the products of `x` with the columns of `w`, and the number of columns.
pub(super) fn with_logits(
    kernels: &Kernels,
    x: Source<'_>,
    w: Panels<'_>,
    f: impl FnOnce(&mut [f32], usize),
) {
    let (rows, columns) = (x.rows(), w.columns());
    let len = rows * columns;
    with_scratch(len + kernels.product_scratch(rows, w), |scratch| {
        let (logits, scratch) = scratch.split_at_mut(len);
        // SAFETY: the block is all of `logits`, which nothing else holds.
        let block = unsafe { Block::new(&Disjoint::new(logits), 0, columns, rows, columns) };
        kernels.product(block, x, w, Store::Write, scratch);
        f(logits, columns);
    });
}
