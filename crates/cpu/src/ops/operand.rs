//! Activations in the form that products read: f32 rows, or rows of bf16 where products are bf16.

use std::ops::Range;

use koan_backend::{AlignedVec, Keep, OutOfMemory, bf16};

use crate::{
    kernels::product::{Source, View},
    memory::{Disjoint, with_scratch},
    parallel::{TASK_LEN, Threads},
    tables::Kernels,
};

/// Activations that products read, row-major.
#[derive(Debug)]
pub struct Operand {
    /// All elements in f32; empty where products are bf16 and nothing else reads them.
    values: AlignedVec<f32>,
    /// The bits of all elements in bf16; empty where products are f32.
    rounded: AlignedVec<u16>,
}

impl Operand {
    /// `len` zeros.
    pub(crate) fn zeros(kernels: &Kernels, len: usize, keep: Keep) -> Result<Self, OutOfMemory> {
        let (values, rounded) = Self::forms(kernels, keep);
        Ok(Self {
            values: if values { AlignedVec::zeros(len)? } else { AlignedVec::empty() },
            rounded: if rounded { AlignedVec::zeros(len)? } else { AlignedVec::empty() },
        })
    }

    /// None yet: it [grows](Self::grow).
    pub(crate) fn empty() -> Self {
        Self { values: AlignedVec::empty(), rounded: AlignedVec::empty() }
    }

    /// Makes it as long as `len`, for products alone, if it is shorter. It holds anything.
    pub(crate) fn grow(&mut self, kernels: &Kernels, len: usize) {
        if self.len() < len {
            // Scratch is small beside what is planned for: without it no operation can go on.
            *self = Self::zeros(kernels, len, Keep::Operand)
                .unwrap_or_else(|refused| panic!("scratch: {refused}"));
        }
    }

    /// Bytes of memory that `len` elements take.
    pub(crate) fn bytes(kernels: &Kernels, len: usize, keep: Keep) -> usize {
        let (values, rounded) = Self::forms(kernels, keep);
        let values = if values { AlignedVec::<f32>::bytes_of(len) } else { 0 };
        values + if rounded { AlignedVec::<u16>::bytes_of(len) } else { 0 }
    }

    /// Whether it holds f32, and whether it holds bf16.
    fn forms(kernels: &Kernels, keep: Keep) -> (bool, bool) {
        (!kernels.rounds() || keep == Keep::Values, kernels.rounds())
    }

    fn len(&self) -> usize {
        self.values.len().max(self.rounded.len())
    }

    /// Whether its values are held.
    pub(crate) fn keeps_values(&self) -> bool {
        self.values.len() == self.len()
    }

    /// Its values, which it must keep.
    pub(crate) fn values(&self) -> &AlignedVec<f32> {
        assert!(self.keeps_values(), "an operand that does not keep its values");
        &self.values
    }

    /// Its values, which it must keep. [`round`](Self::round) follows.
    pub(crate) fn values_mut(&mut self) -> &mut AlignedVec<f32> {
        assert!(self.keeps_values(), "an operand that does not keep its values");
        &mut self.values
    }

    /// The matrix `[rows, columns]` at its beginning.
    #[track_caller]
    pub(crate) fn matrix(&self, rows: usize, columns: usize, name: &str) -> Source<'_> {
        let (len, needed) = (self.len(), rows * columns);
        assert!(len >= needed, "{name} holds {len} elements, the operation needs {needed}");
        if self.rounded.is_empty() {
            Source::F32(View::new(&self.values, rows, columns))
        } else {
            Source::Bf16(View::new(&self.rounded, rows, columns))
        }
    }

    /// Rounds the values in `range` for products.
    pub(crate) fn round(&mut self, kernels: &Kernels, threads: &Threads, range: Range<usize>) {
        assert!(range.end <= self.len(), "{} elements, {range:?} are to be rounded", self.len());
        if kernels.rounds() {
            let (start, values) = (range.start, &self.values[range.clone()]);
            let rounded = Disjoint::new(&mut self.rounded);
            threads.run(values.len().div_ceil(TASK_LEN), |task| {
                let part = task * TASK_LEN..values.len().min((task + 1) * TASK_LEN);
                // SAFETY: these elements are this task's alone.
                let rounded = unsafe { rounded.slice(start + part.start..start + part.end) };
                kernels.round(rounded, &values[part]);
            });
        }
    }

    /// Multiplies the first `n` values, which it must keep, and rounds them.
    pub(crate) fn scale(&mut self, kernels: &Kernels, threads: &Threads, factor: f32, n: usize) {
        Self::change(kernels, threads, [self], n, TASK_LEN, |_, [x]| kernels.scale(x, factor));
    }

    /// Changes the first `n` values of some, which they must keep, in chunks of `len`: `task(i, chunks)` does the `i`th, which are
    /// rounded while they lie in a cache.
    pub(crate) fn change<const N: usize>(
        kernels: &Kernels,
        threads: &Threads,
        operands: [&mut Self; N],
        n: usize,
        len: usize,
        task: impl Fn(usize, [&mut [f32]; N]) + Sync,
    ) {
        let operands = operands.map(|x| {
            assert!(
                x.keeps_values() && n <= x.len(),
                "{n} values are to be changed, {} are kept",
                x.values.len()
            );
            (Disjoint::new(&mut x.values[..n]), Disjoint::new(&mut x.rounded))
        });
        threads.run(n.div_ceil(len), |i| {
            let chunk = i * len..n.min((i + 1) * len);
            // SAFETY: chunk `i` belongs to task `i`, of which there is one, here and below.
            task(i, operands.each_ref().map(|(values, _)| unsafe { values.slice(chunk.clone()) }));
            if kernels.rounds() {
                for (values, rounded) in &operands {
                    // SAFETY: as above; what `task` was lent it has given back.
                    let (y, x) = unsafe { (rounded.slice(chunk.clone()), values.slice(chunk.clone())) };
                    kernels.round(y, x);
                }
            }
        });
    }

    /// Overwrites the first elements, and the values where they are kept.
    pub(crate) fn write(&mut self, kernels: &Kernels, threads: &Threads, values: &[f64]) {
        self.produce(kernels, threads, values.len(), TASK_LEN, |task, y| {
            y.iter_mut().zip(&values[task * TASK_LEN..]).for_each(|(y, &x)| *y = x as f32);
        });
    }

    /// The first `n` elements as products read them.
    pub(crate) fn read(&self, n: usize) -> Vec<f32> {
        if self.rounded.is_empty() {
            self.values[..n].to_vec()
        } else {
            self.rounded[..n].iter().map(|&x| bf16::to_f32(x)).collect()
        }
    }

    /// Writes the first `n` elements in chunks of `len`: `task(i, chunk)` computes the `i`th in f32.
    pub(crate) fn produce(
        &mut self,
        kernels: &Kernels,
        threads: &Threads,
        n: usize,
        len: usize,
        task: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        assert!(n <= self.len(), "an operand of {} elements, of which {n} are written", self.len());
        let kept = self.values.len().min(n);
        if !kernels.rounds() || kept > 0 {
            threads.chunks([(&mut self.values[..kept], len)], |i, [y]| task(i, y));
            self.round(kernels, threads, 0..n);
            return;
        }
        let rounded = Disjoint::new(&mut self.rounded[..n]);
        threads.run(n.div_ceil(len), |i| {
            // SAFETY: chunk `i` belongs to task `i`, of which there is one.
            let rounded = unsafe { rounded.slice(i * len..n.min((i + 1) * len)) };
            with_scratch(rounded.len(), |y| {
                task(i, y);
                kernels.round(rounded, y);
            });
        });
    }

    /// Writes some elements from f32 that `compute` writes: into the values where they are kept, else into `scratch`. Then
    /// rounds `ranges` of them, those that were written.
    pub(crate) fn compute(
        &mut self,
        kernels: &Kernels,
        threads: &Threads,
        n: usize,
        scratch: &mut [f32],
        ranges: impl Iterator<Item = Range<usize>>,
        compute: impl FnOnce(&mut [f32]),
    ) {
        assert!(n <= self.len(), "an operand of {} elements, of which {n} are written", self.len());
        if self.keeps_values() {
            compute(&mut self.values[..n]);
            ranges.for_each(|range| self.round(kernels, threads, range));
            return;
        }
        compute(scratch);
        let (rounded, scratch) = (Disjoint::new(&mut self.rounded), &*scratch);
        let ranges: Vec<_> = ranges.collect();
        threads.run(ranges.len(), |i| {
            // SAFETY: ranges of different rows do not overlap.
            kernels.round(unsafe { rounded.slice(ranges[i].clone()) }, &scratch[ranges[i].clone()]);
        });
    }

    /// `y[i, :] = x[rows[i], :]` of rows of `features` elements.
    pub(crate) fn gather(&mut self, threads: &Threads, x: &Self, rows: &[u32], features: usize) {
        let n = rows.len() * features;
        assert!(n <= self.len(), "an operand of {} elements, of which {n} are written", self.len());
        if self.rounded.is_empty() {
            super::embedding::gather(threads, &mut self.values[..n], &x.values, rows, features);
        } else {
            super::embedding::gather(threads, &mut self.rounded[..n], &x.rounded, rows, features);
        }
    }
}
