//! Log-probabilities of given tokens, and their backward.
//!
//! The vocabulary is cut into chunks of [`CHUNK`] tokens, of each of which a row keeps a partial. Logits are computed in slabs
//! of some rows and some chunks that stay in the second-level cache; how many changes no bit, since a partial is of its chunk
//! alone, and they are summed in the order of the chunks.

use koan_backend::{Matrix, Store};

use crate::{
    cuda::Cuda,
    device::Address,
    launch::params,
    layout::DeviceLayout,
    memory::{Bf16, Memory},
    ops::{
        operand::Operand,
        product::{self, Rounded},
    },
};

/// Tokens of a chunk, as in `vocabulary.h`.
pub(crate) const CHUNK: usize = 1024;

/// Bytes of a partial: three f32 in four.
const PARTIAL: usize = 4;

/// Logits of a slab: 32 MiB.
const SLAB: usize = 8 << 20;

/// Rows of a slab at most, if there are more.
const SLAB_ROWS: usize = 8192;

/// Columns of the vocabulary whose gradient of logits is held for all rows at once, in bf16: 16 KiB a row. A row's `dx` is
/// summed over them, so that they are the same for any number of rows.
const BACKWARD_COLUMNS: usize = 8192;

params! {
    struct OfChunks {
        partials: Address, of_targets: Address, logits: Address, targets: Address, draws: Address,
        rows: u32, width: u32, first: u32, chunks: u32, inverse_temperature: f32, unused: u32,
    }
}

params! {
    struct OfRows {
        log_probs: Address, entropy: Address, log_sum_exp: Address, partials: Address, of_targets: Address,
        rows: u32, chunks: u32,
    }
}

/// By what logits are divided.
#[derive(Clone, Copy)]
pub(crate) enum Temperature {
    /// By one number; these targets' logits are kept.
    One { temperature: f32, targets: Address },
    /// By that of each row's draw.
    OfDraws(Address),
}

/// Partials of rows, `[rows, chunks]`, and their targets' logits.
pub(crate) struct Partials {
    chunks: usize,
    values: Memory<f32>,
    of_targets: Memory<f32>,
}

impl Partials {
    pub(crate) fn new(cuda: &Cuda, rows: usize, vocab: usize) -> Self {
        let chunks = vocab.div_ceil(CHUNK);
        Self { chunks, values: cuda.scratch(rows * chunks * PARTIAL), of_targets: cuda.scratch(rows) }
    }

    /// Of chunks in a row.
    pub(crate) fn chunks(&self) -> usize {
        self.chunks
    }

    /// Where those of `row` begin.
    pub(crate) fn of(&self, row: usize) -> Address {
        self.values.at(row * self.chunks * PARTIAL)
    }

    /// Writes those of a slab of logits `[rows, width]` that begins at a row and at a token, the first of a chunk.
    pub(crate) fn fill(
        &self,
        cuda: &Cuda,
        logits: Address,
        [row, first]: [usize; 2],
        [rows, width]: [usize; 2],
        by: Temperature,
    ) {
        let (inverse_temperature, targets, draws) = match by {
            Temperature::One { temperature, targets } => (temperature.recip(), of_row(targets, row, 4), 0),
            Temperature::OfDraws(draws) => (1.0, 0, of_row(draws, row, 32)),
        };
        let params = OfChunks {
            partials: self.of(row),
            of_targets: self.of_targets.at(row),
            logits,
            targets,
            draws,
            rows: rows as u32,
            width: width as u32,
            first: first as u32,
            chunks: self.chunks as u32,
            inverse_temperature,
            unused: 0,
        };
        let blocks = width.div_ceil(CHUNK).div_ceil(4);
        cuda.launch("chunk_partials", [rows * blocks, 1, 1], 128, 0, params);
    }
}

/// Where the `bytes` of a row begin.
fn of_row(at: Address, row: usize, bytes: usize) -> Address {
    at + (row * bytes) as u64
}

/// Of rows `x` [n, features] in bf16 and a head `w` [vocab, features].
#[derive(Clone, Copy)]
pub(crate) struct Head {
    pub(crate) x: Address,
    pub(crate) w: Address,
    pub(crate) features: usize,
    pub(crate) vocab: usize,
}

impl Head {
    pub(crate) fn new(x: &Operand, w: &Rounded<'_>, [vocab, features]: [usize; 2], n: usize) -> Self {
        assert!(vocab <= 1 << 24, "a vocabulary of {vocab} tokens, more than 2²⁴");
        Self { x: x.rounded.first(n * features, "x"), w: w.first(vocab * features), features, vocab }
    }

    fn x_of(&self, row: usize) -> Address {
        of_row(self.x, row, 2 * self.features)
    }

    fn w_of(&self, token: usize) -> Address {
        of_row(self.w, token, 2 * self.features)
    }

    /// Writes the logits `[rows, width]` that begin at a row and a token.
    pub(crate) fn logits(
        &self,
        cuda: &Cuda,
        logits: Address,
        [row, token]: [usize; 2],
        [rows, width]: [usize; 2],
    ) {
        let sizes = [rows, width, self.features];
        product::forward(cuda, logits, self.x_of(row), self.w_of(token), sizes, Store::Write);
    }
}

/// Parts of `n`, each of `size` at most: where it begins, and its size.
pub(crate) fn parts(n: usize, size: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..n).step_by(size.max(1)).map(move |first| (first, size.min(n - first)))
}

/// Writes the log-probabilities of the layout's targets, the entropies, and the logarithms of the sums.
pub(crate) fn forward(
    cuda: &Cuda,
    [log_probs, entropy, log_sum_exp]: [&mut Memory<f32>; 3],
    x: &Operand,
    w: &Matrix<Cuda>,
    temperature: f32,
    layout: &DeviceLayout,
) {
    let n = layout.host.head_rows.len();
    let rounded = Rounded::of(cuda, w);
    let head = Head::new(x, &rounded, w.shape(), n);
    let outputs = [&*log_probs, entropy, log_sum_exp].map(|output| output.first(n, "an output"));
    if n == 0 {
        return;
    }
    let by = Temperature::One { temperature, targets: layout.targets() };
    let partials = Partials::new(cuda, n, head.vocab);
    let rows = n.min(SLAB_ROWS);
    let width = (SLAB / rows / CHUNK * CHUNK).clamp(CHUNK, head.vocab.next_multiple_of(CHUNK));
    let logits = cuda.scratch::<f32>(rows * width.min(head.vocab));
    for (row, rows) in parts(n, rows) {
        for (first, width) in parts(head.vocab, width) {
            head.logits(cuda, logits.at(0), [row, first], [rows, width]);
            partials.fill(cuda, logits.at(0), [row, first], [rows, width], by);
        }
    }
    let params = OfRows {
        log_probs: outputs[0],
        entropy: outputs[1],
        log_sum_exp: outputs[2],
        partials: partials.of(0),
        of_targets: partials.of_targets.at(0),
        rows: n as u32,
        chunks: partials.chunks() as u32,
    };
    cuda.launch("log_prob_rows", [n.div_ceil(4), 1, 1], 128, 0, params);
}

params! {
    struct LogitGradients {
        dl: Address, logits: Address, targets: Address, d_log_probs: Address, log_sum_exp: Address,
        rows: u32, width: u32, first: u32, inverse_temperature: f32,
    }
}

/// Writes `dx = dl W`, adds `dlᵀ x` to `dw`, if it is asked for, with `dlᵥ = d_log_prob ([v = target] − pᵥ) / temperature`. All
/// rows by some columns of the vocabulary, then the next: so each row of `dw` is read and written once.
pub(crate) fn backward(
    cuda: &Cuda,
    dx: &mut Memory<f32>,
    dw: Option<&mut Memory<f32>>,
    d_log_probs: &Memory<f32>,
    x: &Operand,
    w: &Matrix<Cuda>,
    log_sum_exp: &Memory<f32>,
    temperature: f32,
    layout: &DeviceLayout,
) {
    let n = layout.host.head_rows.len();
    let rounded = Rounded::of(cuda, w);
    let head = Head::new(x, &rounded, w.shape(), n);
    let Head { features, vocab, .. } = head;
    let dx = dx.first(n * features, "dx");
    let dw = dw.map(|dw| dw.first(vocab * features, "dw"));
    let (d_log_probs, log_sum_exp) =
        (d_log_probs.first(n, "d_log_probs"), log_sum_exp.first(n, "log_sum_exp"));
    if n == 0 {
        return;
    }
    let widest = BACKWARD_COLUMNS.min(vocab);
    let slab_rows = n.min(SLAB / BACKWARD_COLUMNS);
    let (logits, dl) = (cuda.scratch::<f32>(slab_rows * widest), cuda.scratch::<Bf16>(n * widest));
    for (first, width) in parts(vocab, BACKWARD_COLUMNS) {
        for (row, rows) in parts(n, slab_rows) {
            head.logits(cuda, logits.at(0), [row, first], [rows, width]);
            let params = LogitGradients {
                dl: dl.at(row * width),
                logits: logits.at(0),
                targets: of_row(layout.targets(), row, 4),
                d_log_probs: of_row(d_log_probs, row, 4),
                log_sum_exp: of_row(log_sum_exp, row, 4),
                rows: rows as u32,
                width: width as u32,
                first: first as u32,
                inverse_temperature: temperature.recip(),
            };
            cuda.launch("logit_gradients", [rows * width.div_ceil(2048), 1, 1], 256, 0, params);
        }
        let (dl, w, sizes) = (dl.at(0), head.w_of(first), [n, width, features]);
        let store = if first == 0 { Store::Write } else { Store::Add };
        product::backward_input(cuda, dx, dl, w, sizes, store);
        if let Some(dw) = dw {
            product::backward_weight(cuda, of_row(dw, first, 4 * features), dl, head.x, sizes);
        }
    }
}
